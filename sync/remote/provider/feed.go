package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A told is what a feed says of one thing. What it does not say is where the thing was, nor whether that is in the tree.
type told struct {
	id string
	// parents are the directories that the thing is in now, none if it is gone or in the trash.
	parents []string
}

// A teller asks a place for what changed, by the IDs of things. Its calls are tried once.
type teller interface {
	// chain returns the IDs of the directories from the top of the place to the root of the tree. If there is no such path it is fs.ErrNotExist.
	chain(ctx context.Context) ([]string, error)
	// there returns nil if the directory with that ID is there, and fs.ErrNotExist if it is not, or in the trash.
	there(ctx context.Context, id string) error
	// now returns the token after which all changes from now on are told.
	now(ctx context.Context) (string, error)
	// page returns changes after a token, with one at least for each thing that has one, in any order; more says that there are others after next. A token that
	// the place knows no more is remote.ErrCursor.
	page(ctx context.Context, token string) (all []told, next string, more bool, err error)
	// plain reports whether what is told of an ID covers all that is seen of the thing.
	plain(id string) bool
}

const (
	// settles is how long what was told is looked at again in each call: the lists of a place may know later than its feed what has changed.
	settles = time.Minute
	// logMost is how many paths are remembered for who has not taken them over.
	logMost = 100_000
	// noFeed is the cursor after a listing of what a feed cannot follow.
	noFeed remote.Cursor = "no feed"
)

// A feed makes of IDs that have changed what changed in a tree. An ID leads to the directories that it was in, by the index, and is in now, as the place says. Those are
// listed, as they are when all is, and what differs from the index is told. So nothing has to be known of how a name of the place becomes one of the tree, of what is not
// shown, and of which of two things with one name is.
//
// The index lives as long as the process. A cursor of an earlier one holds if nothing at all has changed since.
type feed struct {
	t      *tree
	api    teller
	settle time.Duration
	// doubled counts directories that were seen to have the name of something else. Which of them is listed is up to the backend.
	doubled atomic.Int64

	turn chan struct{} // is held by who uses what is below, over calls to the place
	at   []string      // the chain
	x    *index        // nil: there is none
	run  string        // who the index is, in cursors
	// token is up to where the feed was read. What it told is in pending until it was looked at and is settled.
	token   string
	pending map[string]*pending
	// log has the paths that were told, by the number of the call: a reader that lost the answer, or a second one, is told them again.
	log    []logged
	seq    uint64
	oldest uint64 // cursors before that are not covered by the log
}

type pending struct {
	parents []string
	until   time.Time
}

type logged struct {
	seq  uint64
	path string
}

func newFeed(t *tree, api teller, chain []string) *feed {
	return &feed{t: t, api: api, settle: settles, at: chain, turn: make(chan struct{}, 1), pending: map[string]*pending{}}
}

// lock waits for the turn, or for ctx.
func (f *feed) lock(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *feed) unlock() { <-f.turn }

// forget drops all that is known. Every cursor ends with it.
func (f *feed) forget() {
	f.x, f.log, f.token = nil, nil, ""
	f.pending = map[string]*pending{}
}

// A position is what is in a cursor.
type position struct {
	run   string
	seq   uint64
	quiet bool // all that was told by then was looked at, and is settled
	chain string
	token string
}

func (p position) cursor() remote.Cursor {
	return remote.Cursor(strings.Join([]string{
		"feed1", p.run, strconv.FormatUint(p.seq, 10), strconv.FormatBool(p.quiet), url.QueryEscape(p.chain), url.QueryEscape(p.token),
	}, " "))
}

func parsePosition(c remote.Cursor) (p position, ok bool) {
	parts := strings.Split(string(c), " ")
	if len(parts) != 6 || parts[0] != "feed1" {
		return p, false
	}
	p.run = parts[1]
	var errs [4]error
	p.seq, errs[0] = strconv.ParseUint(parts[2], 10, 64)
	p.quiet, errs[1] = strconv.ParseBool(parts[3])
	p.chain, errs[2] = url.QueryUnescape(parts[4])
	p.token, errs[3] = url.QueryUnescape(parts[5])
	return p, errors.Join(errs[:]...) == nil && p.token != ""
}

func (f *feed) here() remote.Cursor {
	return position{run: f.run, seq: f.seq, quiet: len(f.pending) == 0, chain: strings.Join(f.at, "/"), token: f.token}.cursor()
}

// read returns all that changed after a token, or an error and nothing.
func (f *feed) read(ctx context.Context, token string) (all []told, next string, err error) {
	for more := true; more; {
		var some []told
		err := f.t.patiently(ctx, func() (err error) {
			some, next, more, err = f.api.page(ctx, token)
			return err
		})
		if err != nil {
			return nil, "", err
		}
		if next == "" || more && next == token {
			return nil, "", fmt.Errorf("%w: its feed does not say how it goes on", blob.ErrTemporary)
		}
		all = append(all, some...)
		token = next
	}
	return all, next, nil
}

// advance reads the feed to its end. If the root is not where it was it is ErrCursor.
func (f *feed) advance(ctx context.Context) error {
	all, next, err := f.read(ctx, f.token)
	if err != nil {
		return err
	}
	for _, c := range all {
		if slices.Contains(f.at, c.id) {
			return fmt.Errorf("a directory above all has changed: %w", remote.ErrCursor)
		}
		p := f.pending[c.id]
		if p == nil {
			p = &pending{}
			f.pending[c.id] = p
		}
		p.until = time.Now().Add(f.settle)
		for _, n := range f.nodes(c.id) {
			n.whole = false // when it was listed, another one may have had its path
		}
		for _, dir := range c.parents {
			if !slices.Contains(p.parents, dir) {
				p.parents = append(p.parents, dir)
			}
		}
	}
	f.token = next
	return nil
}

func (f *feed) nodes(id string) []*node {
	if f.x == nil {
		return nil
	}
	return f.x.ids[id]
}

// since returns what changed after a cursor, and the next one.
func (f *feed) since(ctx context.Context, c remote.Cursor) ([]remote.Change, remote.Cursor, error) {
	p, ok := parsePosition(c)
	if !ok {
		return nil, "", remote.ErrCursor
	}
	if err := f.lock(ctx); err != nil {
		return nil, "", err
	}
	defer f.unlock()
	if f.x == nil || p.run != f.run || p.seq < f.oldest || p.seq > f.seq {
		return f.stranger(ctx, p)
	}
	seen := f.doubled.Load()
	err := f.advance(ctx)
	var out []remote.Change
	if err == nil {
		out, err = f.look(ctx, p.seq)
	}
	if err == nil && f.doubled.Load() != seen {
		err = fmt.Errorf("two directories have one name: %w", remote.ErrCursor)
	}
	if err != nil {
		if errors.Is(err, remote.ErrCursor) {
			f.forget()
		}
		return nil, "", err
	}
	return out, f.here(), nil
}

// stranger answers to a cursor of another process, or of before the index was made anew. Without an index nobody knows what a change means, but that there is none is
// known.
func (f *feed) stranger(ctx context.Context, p position) ([]remote.Change, remote.Cursor, error) {
	if !p.quiet || p.chain != strings.Join(f.at, "/") {
		return nil, "", remote.ErrCursor
	}
	all, next, err := f.read(ctx, p.token)
	if err != nil {
		return nil, "", err
	}
	if len(all) > 0 {
		return nil, "", fmt.Errorf("it is not known where %d things were that have changed: %w", len(all), remote.ErrCursor)
	}
	p.token = next
	return nil, p.cursor(), nil
}

// full lists all, and makes the index anew from it. If the feed cannot follow what is there, the cursor says so; the listing is as good.
func (f *feed) full(ctx context.Context, give func(remote.Item) error) (remote.Cursor, error) {
	seen := f.doubled.Load()
	token, err := f.begin(ctx)
	if err != nil {
		return "", err
	}
	var x *index
	if token != "" {
		x = newIndex(f.root())
	}
	err = f.t.changes(ctx, func(it remote.Item) error {
		if x != nil && (it.ID == "" || !f.api.plain(it.ID) || !x.put(&it)) {
			x = nil
		}
		return give(it)
	})
	if err != nil {
		return "", err
	}
	if f.doubled.Load() != seen {
		x = nil
	}
	if err := f.lock(ctx); err != nil {
		return "", err
	}
	defer f.unlock()
	if x == nil || x.root.id != f.root() {
		f.forget()
		return noFeed, nil
	}
	f.seq++
	if f.x == nil {
		f.run, f.log, f.oldest = rand.Text(), nil, f.seq
	} else {
		differ(f.x.root, x.root, "", f.note)
	}
	// What was read after the token by others is read again: they looked at it for the index that was there.
	f.x, f.token = x, token
	return f.here(), nil
}

// begin returns the token from which changes are told that a listing which begins now may have missed, "" if the place does not give one.
func (f *feed) begin(ctx context.Context) (string, error) {
	if err := f.lock(ctx); err != nil {
		return "", err
	}
	defer f.unlock()
	if f.x != nil && f.advance(ctx) != nil {
		f.forget()
	}
	token := f.token
	if f.x == nil {
		err := f.t.patiently(ctx, func() (err error) {
			token, err = f.api.now(ctx)
			return err
		})
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err != nil {
			return "", nil // what is there can be listed all the same
		}
	}
	// After the token: what moves the root from now on is told.
	chain, err := f.chain(ctx)
	if err != nil {
		f.forget()
		return "", ctx.Err() // the listing says what is wrong
	}
	if !slices.Equal(chain, f.at) {
		f.forget()
		f.at = chain
	}
	return token, nil
}

func (f *feed) chain(ctx context.Context) (chain []string, err error) {
	err = f.t.patiently(ctx, func() (err error) {
		chain, err = f.api.chain(ctx)
		return err
	})
	return chain, err
}

func (f *feed) root() string { return f.at[len(f.at)-1] }

// present is what tree.here is, in one call whatever the root holds.
func (f *feed) present(ctx context.Context) error {
	if err := f.lock(ctx); err != nil {
		return err
	}
	root := f.root()
	f.unlock()
	err := f.api.there(ctx, root)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Another one may have its place.
	f.t.f.Features().DirCacheFlush()
	if err := f.t.here(ctx, 0); err != nil {
		return err
	}
	chain, err := f.api.chain(ctx)
	if err != nil {
		return err
	}
	if err := f.lock(ctx); err != nil {
		return err
	}
	defer f.unlock()
	if !slices.Equal(chain, f.at) {
		f.forget()
		f.at = chain
	}
	return nil
}

// note remembers that a path was told in this call.
func (f *feed) note(p string) {
	if len(f.log) >= logMost {
		f.oldest = f.seq
		f.log = slices.DeleteFunc(f.log, func(l logged) bool { return l.seq < f.seq })
		if len(f.log) >= logMost {
			f.oldest, f.log = f.seq+1, nil
		}
	}
	f.log = append(f.log, logged{f.seq, p})
}

// A looking is one call of look.
type looking struct {
	*feed
	ctx   context.Context // of the call that it belongs to
	again map[string]bool // the paths to tell in any case
	out   []remote.Change
}

// look lists the directories of what is pending, and returns what is not as the index has it, and what was told in the calls after seq. What fails half-way has changed
// the index already; the log has it, and the next call tells it.
func (f *feed) look(ctx context.Context, seq uint64) ([]remote.Change, error) {
	l := &looking{feed: f, ctx: ctx, again: map[string]bool{}}
	for _, e := range f.log {
		if e.seq > seq {
			l.again[e.path] = true
		}
	}
	if len(f.pending) == 0 && len(l.again) == 0 {
		return nil, nil
	}
	now := time.Now()
	dirs := map[*node]bool{}
	for id, p := range f.pending {
		for _, n := range f.x.ids[id] {
			dirs[n.up] = true
		}
		for _, dir := range p.parents {
			for _, n := range f.x.ids[dir] {
				dirs[n] = true
			}
		}
	}
	for p := range l.again {
		dir, name := split(p)
		up := f.x.find(dir)
		if up != nil && up.dir {
			dirs[up] = true
		}
		if up == nil || up.below[name] == nil {
			l.out = append(l.out, remote.Change{Item: remote.Item{Path: p}, Gone: true})
		}
	}
	if err := l.all(dirs); err != nil {
		return nil, err
	}
	for id, p := range f.pending {
		if !now.Before(p.until) {
			delete(f.pending, id)
		}
	}
	return l.out, nil
}

// all lists directories, those above before those below.
func (l *looking) all(dirs map[*node]bool) error {
	order := make([]*node, 0, len(dirs))
	for n := range dirs {
		if n != nil { // the root lies in none
			order = append(order, n)
		}
	}
	if len(order) == 0 {
		return nil
	}
	l.seq++
	l.t.f.Features().DirCacheFlush()
	slices.SortFunc(order, func(a, b *node) int { return remote.ComparePaths(a.path(), b.path()) })
	for _, n := range order {
		if !l.x.in(n) {
			continue // it went with one above it
		}
		if err := l.list(n, false); err != nil {
			return err
		}
	}
	return nil
}

// list compares what a directory holds with the index, and if deep what is below that, too.
func (l *looking) list(n *node, deep bool) error {
	items, err := l.t.entries(l.ctx, n.path())
	if errors.Is(err, fs.ErrNotExist) {
		if n.up == nil {
			return fmt.Errorf("%w: %q is not there any more", blob.ErrTemporary, l.t.f.Root())
		}
		if err := l.list(n.up, false); err != nil {
			return err
		}
		if l.x.in(n) {
			return fmt.Errorf("%w: it lists the folder %q and then does not find it", blob.ErrTemporary, n.path())
		}
		return nil
	}
	if err != nil {
		return err
	}
	have := make(map[string]bool, len(items))
	for i := range items {
		have[path.Base(items[i].Path)] = true
		if err := l.one(n, &items[i], deep); err != nil {
			return err
		}
	}
	for _, name := range sortedNames(n.below) {
		if !have[name] {
			l.x.cut(n.below[name], l.gone)
		}
	}
	return nil
}

// one compares one thing in a directory with the index.
func (l *looking) one(n *node, it *remote.Item, deep bool) error {
	if it.ID == "" || !l.api.plain(it.ID) {
		return fmt.Errorf("%q is not covered by the feed: %w", it.Path, remote.ErrCursor)
	}
	k, sum := n.below[path.Base(it.Path)], sumOf(it)
	if k != nil && (k.id != it.ID || k.dir != (it.Kind == remote.Dir)) {
		l.x.cut(k, l.gone)
		k = nil
	}
	switch {
	case k == nil:
		k = l.x.add(n, it)
		l.came(it)
	case k.sum != sum:
		k.sum = sum
		l.came(it)
	case l.again[it.Path]:
		l.out = append(l.out, remote.Change{Item: *it})
	}
	if !k.dir || k.whole && !deep {
		return nil
	}
	k.whole = false
	if err := l.list(k, true); err != nil {
		return err
	}
	k.whole = true
	return nil
}

func (l *looking) came(it *remote.Item) {
	l.note(it.Path)
	l.out = append(l.out, remote.Change{Item: *it})
}

func (l *looking) gone(p string) {
	l.note(p)
	l.out = append(l.out, remote.Change{Item: remote.Item{Path: p}, Gone: true})
}
