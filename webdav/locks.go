package webdav

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// A LockStore keeps the locks of a Tree over a restart. Its calls do not overlap.
type LockStore interface {
	// Load returns what Save was given last; nil if it never was.
	Load(ctx context.Context) ([]byte, error)
	// Save replaces it, whole or not at all, and returns when it is durable.
	Save(ctx context.Context, locks []byte) error
}

// The bounds of locks.
const (
	maxLocks      = 1000
	maxOwner      = 1 << 10 // bytes of XML
	lockDefault   = 10 * time.Minute
	lockLongest   = time.Hour
	lockTokenHead = "opaquelocktoken:" // as Windows wants it
)

// A lock is one lock of the tree.
type lock struct {
	Token   string        `json:"token"`
	Path    string        `json:"path"` // absolute in the tree
	Deep    bool          `json:"deep"` // with all that lies below
	Shared  bool          `json:"shared"`
	Owner   string        `json:"owner,omitempty"` // what the client said of itself, as XML
	User    string        `json:"user,omitempty"`  // whose it is
	Span    time.Duration `json:"span"`            // from a refresh on
	Expires time.Time     `json:"expires"`
}

// covers reports whether the lock concerns path.
func (l *lock) covers(path string) bool { return l.Path == path || l.Deep && vfs.Within(l.Path, path) }

// A lockTable has the locks of a tree.
type lockTable struct {
	store  LockStore // nil: none
	saving sync.Mutex

	mu    sync.Mutex // guards the rest
	all   map[string]*lock
	paths map[string]map[string]*lock // by path, by token
	held  []*hold
	freed chan struct{} // closed, and made anew, when a hold ends
}

// A hold keeps new locks away from what is being removed.
type hold struct{ path string }

func openLocks(ctx context.Context, store LockStore) (*lockTable, error) {
	t := &lockTable{store: store, all: map[string]*lock{}, paths: map[string]map[string]*lock{}, freed: make(chan struct{})}
	if store == nil {
		return t, nil
	}
	b, err := store.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("load locks: %w", err)
	}
	if len(b) == 0 {
		return t, nil
	}
	var locks []*lock
	if err := json.Unmarshal(b, &locks); err != nil {
		return nil, fmt.Errorf("load locks: %w", err)
	}
	for _, l := range locks {
		t.put(l)
	}
	return t, nil
}

// put lists a lock. t.mu is held, or nobody else knows t yet.
func (t *lockTable) put(l *lock) {
	t.all[l.Token] = l
	m := t.paths[l.Path]
	if m == nil {
		m = map[string]*lock{}
		t.paths[l.Path] = m
	}
	m[l.Token] = l
}

// drop takes a lock out. t.mu is held.
func (t *lockTable) drop(l *lock) {
	delete(t.all, l.Token)
	m := t.paths[l.Path]
	delete(m, l.Token)
	if len(m) == 0 {
		delete(t.paths, l.Path)
	}
}

// save makes the locks of now durable.
func (t *lockTable) save(ctx context.Context) error {
	if t.store == nil {
		return nil
	}
	t.saving.Lock()
	defer t.saving.Unlock()
	t.mu.Lock()
	now := time.Now()
	locks := []*lock{}
	for _, token := range slices.Sorted(maps.Keys(t.all)) {
		if l := t.all[token]; l.Expires.After(now) {
			one := *l
			locks = append(locks, &one)
		} else {
			t.drop(l)
		}
	}
	t.mu.Unlock()
	b, err := json.Marshal(locks)
	if err == nil {
		err = t.store.Save(ctx, b)
	}
	if err != nil {
		return fmt.Errorf("save locks: %w", err)
	}
	return nil
}

// on returns copies of the locks that concern path, by their tokens.
func (t *lockTable) on(path string) []lock {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.onLocked(path)
}

func (t *lockTable) onLocked(path string) []lock {
	if len(t.all) == 0 {
		return nil
	}
	now := time.Now()
	var found []lock
	for p := path; ; p = parentOf(p) {
		for _, l := range t.paths[p] {
			if (l.Deep || p == path) && l.Expires.After(now) {
				found = append(found, *l)
			}
		}
		if p == "/" {
			break
		}
	}
	slices.SortFunc(found, func(a, b lock) int { return strings.Compare(a.Token, b.Token) })
	return found
}

// below returns copies of the locks of what lies below path.
func (t *lockTable) below(path string) []lock {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	var found []lock
	for _, l := range t.all {
		if l.Path != path && vfs.Within(path, l.Path) && l.Expires.After(now) {
			found = append(found, *l)
		}
	}
	slices.SortFunc(found, func(a, b lock) int { return strings.Compare(a.Path, b.Path) })
	return found
}

// errLocked is a conflict with the locks at paths.
type errLocked struct{ paths []string }

func (e *errLocked) Error() string { return "it is locked" }

var errTooManyLocks = errors.New("there are too many locks")

// add lists a new lock, and gives it its token. It waits while something at or around its path is being removed. It is not durable yet.
func (t *lockTable) add(ctx context.Context, l *lock) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var wait chan struct{}
		for _, h := range t.held {
			if vfs.Within(h.path, l.Path) || l.Deep && vfs.Within(l.Path, h.path) {
				wait = t.freed
			}
		}
		if wait == nil {
			break
		}
		t.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
		}
		t.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	now := time.Now()
	var in []string
	for _, o := range t.onLocked(l.Path) {
		if !o.Shared || !l.Shared {
			in = append(in, o.Path)
		}
	}
	for _, o := range t.all {
		if !o.Expires.After(now) {
			t.drop(o)
			continue
		}
		if l.Deep && o.Path != l.Path && vfs.Within(l.Path, o.Path) && (!o.Shared || !l.Shared) {
			in = append(in, o.Path)
		}
	}
	if len(in) > 0 {
		slices.Sort(in)
		return &errLocked{slices.Compact(in)}
	}
	if len(t.all) >= maxLocks {
		return errTooManyLocks
	}
	l.Token, l.Expires = newToken(), now.Add(l.Span)
	t.put(l)
	return nil
}

// newToken returns the token of a new lock, which nobody can guess.
func newToken() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%s%x-%x-%x-%x-%x", lockTokenHead, u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// refresh lets a lock of user that concerns path live for span from now on.
func (t *lockTable) refresh(token, path, user string, span time.Duration) (lock, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.all[token]
	if l == nil || l.User != user || !l.covers(path) || !l.Expires.After(time.Now()) {
		return lock{}, false
	}
	l.Span, l.Expires = span, time.Now().Add(span)
	return *l, true
}

// remove takes a lock out. It is false if there is none that concerns path.
func (t *lockTable) remove(token, path string) (lock, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.all[token]
	if l == nil || !l.covers(path) || !l.Expires.After(time.Now()) {
		return lock{}, false
	}
	t.drop(l)
	return *l, true
}

// gone takes out the locks of what was at path and below, and reports whether there were any.
func (t *lockTable) gone(path string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	any := false
	for _, l := range t.all {
		if vfs.Within(path, l.Path) {
			t.drop(l)
			any = true
		}
	}
	return any
}

// keepOff lets nobody lock anything at or below path until end is called.
func (t *lockTable) keepOff(path string) (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := &hold{path}
	t.held = append(t.held, h)
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.held = slices.DeleteFunc(t.held, func(o *hold) bool { return o == h })
		close(t.freed)
		t.freed = make(chan struct{})
	})
}

// missing returns the paths of locks for which a change at path lacks the token, none if it may be done. Of several shared locks one
// is enough. With tree, the locks of all that lies below count too.
func (t *lockTable) missing(path string, tree bool, user string, tokens map[string]bool) []string {
	var paths []string
	has := func(locks []lock) bool {
		for _, l := range locks {
			if tokens[l.Token] && l.User == user {
				return true
			}
		}
		return len(locks) == 0
	}
	if on := t.on(path); !has(on) {
		for _, l := range on {
			paths = append(paths, l.Path)
		}
	}
	if tree {
		by := map[string][]lock{}
		for _, l := range t.below(path) {
			by[l.Path] = append(by[l.Path], l)
		}
		for _, p := range slices.Sorted(maps.Keys(by)) {
			if !has(by[p]) {
				paths = append(paths, p)
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// parseTimeout reads a Timeout header (RFC 4918, section 10.7): the first value that is understood counts, within bounds.
func parseTimeout(s string) time.Duration {
	for v := range strings.SplitSeq(s, ",") {
		v = strings.TrimSpace(v)
		if strings.EqualFold(v, "Infinite") {
			return lockLongest
		}
		if len(v) < 8 || !strings.EqualFold(v[:7], "Second-") {
			continue
		}
		n := int64(0)
		ok := true
		for _, c := range v[7:] {
			if c < '0' || c > '9' {
				ok = false
				break
			}
			n = min(n*10+int64(c-'0'), int64(lockLongest/time.Second))
		}
		if ok && n > 0 {
			return time.Duration(n) * time.Second
		}
	}
	return lockDefault
}
