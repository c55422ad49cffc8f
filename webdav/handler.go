package webdav

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// View says what a Handler shows. The zero View is the whole tree, for reading and writing.
type View struct {
	// Root is the folder that is shown, absolute in the tree; "" is the whole tree.
	Root string
	// ReadOnly refuses all that would change the tree.
	ReadOnly bool
	// Pages offers GET and HEAD only, and a page for each folder.
	Pages bool
	// KeepLitter puts into the tree what Finder and Explorer leave everywhere ("._*", ".DS_Store", "desktop.ini" …). Else
	// it is kept in memory, 16 MiB at most, the oldest going first.
	KeepLitter bool
}

// Scope is who asks, and what he may see at most.
type Scope struct {
	User     string // owns his locks
	Root     string // absolute in the tree; "" is all that the View shows
	ReadOnly bool
}

type scopeKey struct{}

// WithScope returns a context for requests of somebody who may see no more than s says.
func WithScope(ctx context.Context, s Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// Handler returns a handler of a view of the tree. It is safe for concurrent use.
func (t *Tree) Handler(v View) http.Handler {
	if v.Root == "" {
		v.Root = "/"
	}
	v.Root = path.Clean("/" + v.Root)
	l := t.litter
	if v.KeepLitter {
		l = nil
	}
	return &handler{t, v, l}
}

type handler struct {
	t      *Tree
	v      View
	litter *litter // nil: it goes into the tree
}

// find looks where path leads: see Tree.look.
func (h *handler) find(ctx context.Context, path string) (spot, error) {
	return h.t.look(ctx, path, h.litter)
}

// A request is one request on its way.
type request struct {
	*handler
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context
	user   string
	root   string // what the client takes for "/", absolute in the tree
	path   string // absolute in the tree
	ifs    []ifList
	tokens map[string]bool // submitted
	clock  clock
}

// methods are those of a Handler: what each does, and whether it changes the tree.
var methods = map[string]struct {
	do      func(*request) error
	changes bool
}{
	http.MethodGet:     {(*request).get, false},
	http.MethodHead:    {(*request).get, false},
	http.MethodOptions: {(*request).options, false},
	"PROPFIND":         {(*request).propfind, false},
	"PROPPATCH":        {(*request).proppatch, true},
	"MKCOL":            {(*request).mkcol, true},
	http.MethodPut:     {(*request).put, true},
	http.MethodDelete:  {(*request).delete, true},
	"COPY":             {(*request).copy, true},
	"MOVE":             {(*request).move, true},
	"LOCK":             {(*request).lock, true},
	"UNLOCK":           {(*request).unlock, true},
}

// The values of the Allow header.
const (
	allowPages = "OPTIONS, GET, HEAD"
	allowRead  = "OPTIONS, GET, HEAD, PROPFIND"
	allowAll   = "OPTIONS, GET, HEAD, PROPFIND, PROPPATCH, MKCOL, PUT, DELETE, COPY, MOVE, LOCK, UNLOCK"
)

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, _ := r.Context().Value(scopeKey{}).(Scope)
	x := &request{handler: h, w: w, r: r, ctx: r.Context(), user: s.User}
	allow := allowAll
	switch {
	case h.v.Pages:
		allow = allowPages
	case h.v.ReadOnly || s.ReadOnly:
		allow = allowRead
	}
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		h.t.o.Log.Error("a request met a mistake of this program", "method", r.Method, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		panic(http.ErrAbortHandler)
	}()
	m, ok := methods[r.Method]
	if !ok || h.v.Pages && m.changes || h.v.Pages && r.Method == "PROPFIND" {
		w.Header().Set("Allow", allow)
		fail(w, r, refuse(http.StatusMethodNotAllowed, "this door does not do that"))
		return
	}
	if r.Method == http.MethodOptions {
		w.Header().Set("Allow", allow)
	}
	err := x.begin(s)
	if err == nil && m.changes && (h.v.ReadOnly || s.ReadOnly) {
		err = refuse(http.StatusForbidden, "this is for reading only")
	}
	if err == nil {
		err = m.do(x)
	}
	if err == nil {
		return
	}
	e := explain(err)
	switch {
	case x.ctx.Err() != nil: // he who asked is gone
	case e.code == http.StatusInternalServerError:
		h.t.o.Log.Error("a request failed", "method", r.Method, "error", err)
	default:
		h.t.o.Log.Debug("a request was refused", "method", r.Method, "status", e.code, "reason", e.Error())
	}
	if e.code == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
	}
	fail(w, r, err)
}

// begin finds out what is asked for, and by whom.
func (x *request) begin(s Scope) error {
	x.root = x.v.Root
	if s.Root != "" {
		var ok bool
		if x.root, ok = vfs.Inner(x.root, path.Clean("/"+s.Root)); !ok {
			return refuse(http.StatusForbidden, "this password is for a folder that is not served here")
		}
	}
	var err error
	if x.r.Method == http.MethodOptions && x.r.URL.Path == "*" {
		x.path = x.root
		return nil
	}
	if x.path, err = x.under(x.r.URL); err != nil {
		return err
	}
	if x.ifs, err = ifOf(x.r); err != nil {
		return err
	}
	x.tokens = tokensOf(x.ifs)
	return nil
}

// under returns the path in the tree of a URL of this door.
func (x *request) under(u *url.URL) (string, error) {
	if strings.Contains(strings.ToLower(u.EscapedPath()), "%2f") {
		return "", refuse(http.StatusBadRequest, "no name has a slash in it")
	}
	names, err := vfs.SplitPath(u.Path)
	if err != nil {
		return "", err
	}
	return path.Join(x.root, strings.Join(names, "/")), nil
}

// href returns how the client calls a path of the tree. A folder's ends with a slash.
func (x *request) href(p string, dir bool) string {
	if !vfs.Within(x.root, p) {
		p = x.root // the lock of a folder above what he sees
	}
	p = "/" + strings.TrimPrefix(strings.TrimPrefix(p, x.root), "/")
	if dir && p != "/" {
		p += "/"
	}
	return escapePath(p)
}

// escapePath writes a path as it stands in a URL.
func escapePath(p string) string {
	const plain = "/-_.~"
	clean := true
	for i := range len(p) {
		if c := p[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(plain, c) >= 0) {
			clean = false
			break
		}
	}
	if clean {
		return p
	}
	var b strings.Builder
	for i := range len(p) {
		c := p[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		const digits = "0123456789ABCDEF"
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// options says what this door can do.
func (x *request) options() error {
	h := x.w.Header()
	if !x.v.Pages {
		h.Set("Dav", "1, 2, 3")
		h.Set("Ms-Author-Via", "DAV") // without it Windows and Office open files for reading only
		h.Set("Accept-Ranges", "bytes")
	}
	h.Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusOK)
	return nil
}

// clock remembers when it was a moment ago, so that of many files that are older it is asked once.
type clock struct{ now time.Time }

// after reports whether it is later than t.
func (c *clock) after(t time.Time) bool {
	if !c.now.After(t) {
		c.now = vfs.Now()
	}
	return c.now.After(t)
}

// settled waits until the clock of the tree has gone on past the last change of n, so that the next change has another time, and returns
// what is known of n then. It is false if that takes too long, as with times that lie in the future.
func (x *request) settled(n vfs.Node, a vfs.Attr) (vfs.Attr, bool, error) {
	const step, most = 2 * time.Millisecond, 30
	for i := 0; !x.clock.after(a.CTime); i++ {
		if i == most || x.ctx.Err() != nil {
			return a, false, x.ctx.Err()
		}
		time.Sleep(step)
		var err error
		if a, err = n.Attr(x.ctx); err != nil {
			return a, false, err
		}
	}
	return a, true, nil
}

// etag returns the entity tag of what a says. Every change of the content changes the CTime, which nobody can set, and a replaced
// file is another node. If the clock has not gone on since, another change may bear the same time: then it is weak, and settled waits for that.
func etag(a vfs.Attr, strong bool) string {
	b := make([]byte, 0, 64)
	if !strong {
		b = append(b, "W/"...)
	}
	b = append(b, '"')
	b = strconv.AppendUint(b, a.Ino, 36)
	b = append(b, '-')
	b = strconv.AppendInt(b, a.CTime.UnixNano(), 36)
	b = append(b, '-')
	b = strconv.AppendInt(b, a.MTime.UnixNano(), 36)
	b = append(b, '-')
	b = strconv.AppendInt(b, a.Size, 36)
	return string(append(b, '"'))
}

// tag returns the entity tag of what is at s, as strong as can be.
func (x *request) tag(s spot) (string, error) {
	a, strong, err := x.settled(s.node, s.attr)
	if err != nil {
		return "", err
	}
	return etag(a, strong), nil
}

// allowed returns an error if the conditions of the request do not hold for what is at s now, or if a lock is in the way of a change there. It is
// asked once before the work, and once more in the step that ends it.
func (x *request) allowed(s spot, want ...touch) error {
	if err := x.conditions(s); err != nil {
		return err
	}
	if err := x.ifHolds(s); err != nil {
		return err
	}
	for _, t := range want {
		if err := x.unlocked(t); err != nil {
			return err
		}
	}
	return nil
}

// A touch is a place that a request changes.
type touch struct {
	path string
	tree bool // with all that lies below
}

// unlocked returns an error if a lock is in the way.
func (x *request) unlocked(t touch) error {
	paths := x.t.locks.missing(t.path, t.tree, x.user, x.tokens)
	if len(paths) == 0 {
		return nil
	}
	var hrefs []string
	for _, p := range paths {
		hrefs = append(hrefs, x.href(p, false))
	}
	return violated(http.StatusLocked, "lock-token-submitted", hrefs...)
}

// conditions checks If-Match, If-None-Match and If-Unmodified-Since of a request that changes something.
func (x *request) conditions(s spot) error {
	h := x.r.Header
	match, none, since := h.Get("If-Match"), h.Get("If-None-Match"), h.Get("If-Unmodified-Since")
	if match == "" && none == "" && since == "" {
		return nil
	}
	tag := ""
	if s.node != nil {
		var err error
		if tag, err = x.tag(s); err != nil {
			return err
		}
	}
	bad := match != "" && (s.node == nil || !listed(match, tag, false)) || none != "" && s.node != nil && listed(none, tag, true)
	if match == "" && since != "" && s.node != nil {
		if t, err := http.ParseTime(since); err == nil && s.attr.MTime.Truncate(time.Second).After(t) {
			bad = true
		}
	}
	if bad {
		return refuse(http.StatusPreconditionFailed, "it is not what you take it for")
	}
	return nil
}

// ifHolds evaluates the If header: one of its lists has to hold.
func (x *request) ifHolds(s spot) error {
	if x.ifs == nil {
		return nil
	}
	for _, l := range x.ifs {
		at := s
		if l.resource != "" {
			u, err := url.Parse(l.resource)
			if err != nil || u.Host != "" && u.Host != x.r.Host {
				continue
			}
			p, err := x.under(u)
			if err != nil {
				continue
			}
			if at, err = x.find(x.ctx, p); err != nil && !errors.Is(err, errNoParent) {
				return err
			}
			at.path = p
		}
		ok, err := x.listHolds(l, at)
		if ok || err != nil {
			return err
		}
	}
	return refuse(http.StatusPreconditionFailed, "the If header does not hold")
}

func (x *request) listHolds(l ifList, at spot) (bool, error) {
	for _, c := range l.conds {
		holds := false
		if c.token != "" {
			for _, o := range x.t.locks.on(at.path) {
				holds = holds || o.Token == c.token
			}
		} else if at.node != nil {
			tag, err := x.tag(at)
			if err != nil {
				return false, err
			}
			holds = tag == c.etag
		}
		if holds == c.not {
			return false, nil
		}
	}
	return true, nil
}
