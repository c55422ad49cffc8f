package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A told is what a feed says of one thing. Most name it by its ID; then what it does not say is where the thing was, nor whether that is in the tree. Others tell of paths.
type told struct {
	id string // "" if the feed tells of paths, and nothing is at this one
	// path is where something has changed, come or gone, from the top of the place, as names of the tree in small letters; "" if the feed does not tell of paths. What else is here but
	// for id is not set then.
	path string
	// parents are the directories that the thing is in now, none if it is gone or in the trash.
	parents []string
	// name is what a directory is called in the tree; "" of anything else, and where the feed does not say it. By it is seen that a directory has not moved: some feeds tell of those
	// above what has changed, too.
	name string
}

// A link is a directory on the way to the root of a tree. name and path are as in told.
type link struct{ id, name, path string }

// errNotFollowed says that the feed of a place does not tell of what is at the root of the tree.
var errNotFollowed = errors.New("the feed does not tell of it")

// A teller asks a place for what changed, by the IDs of things. Its calls are tried once.
type teller interface {
	// chain returns the directories from the top of the place to the root of the tree. If there is no such path it is fs.ErrNotExist, and if it leads elsewhere errNotFollowed.
	chain(ctx context.Context) ([]link, error)
	// there returns nil if the directory with that ID is there, and fs.ErrNotExist if it is not, or in the trash.
	there(ctx context.Context, id string) error
	// now returns the token after which all changes from now on are told.
	now(ctx context.Context) (string, error)
	// page returns changes after a token, with one at least for each thing that has one, in any order; more says that there are others after next. A token that
	// the place knows no more is remote.ErrCursor.
	page(ctx context.Context, token string) (all []told, next string, more bool, err error)
	// key returns by which ID the feed tells of what has an ID in listings. ok is false if what it tells does not cover all that is seen of the thing.
	key(id string) (key string, ok bool)
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
	at   []link        // the chain
	x    *index        // nil: there is none
	run  string        // who the index is, in cursors
	// token is up to where the feed was read. What it told is in pending until it was looked at and is settled.
	token   string
	pending map[string]*pending
	// doubt has the directories to list again, since what is above them may have been elsewhere for a moment when they were listed by their path.
	doubt map[*node]bool
	// log has the paths that were told, by the number of the call: a reader that lost the answer, or a second one, is told them again.
	log    []logged
	seq    uint64
	oldest uint64 // cursors before that are not covered by the log
}

type pending struct {
	parents []string
	path    string // from the root of the tree, if the feed tells of paths
	until   time.Time
}

type logged struct {
	seq  uint64
	path string
}

// newFeed returns a feed of a tree; nil if none tells of its root.
func newFeed(ctx context.Context, t *tree, api teller) (*feed, error) {
	f := newFeedAt(t, api, nil)
	var err error
	f.at, err = f.chain(ctx)
	switch {
	case errors.Is(err, errNotFollowed):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return f, nil
}

func newFeedAt(t *tree, api teller, at []link) *feed {
	return &feed{t: t, api: api, settle: settles, at: at, turn: make(chan struct{}, 1), pending: map[string]*pending{}, doubt: map[*node]bool{}}
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
	f.pending, f.doubt = map[string]*pending{}, map[*node]bool{}
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
	return position{run: f.run, seq: f.seq, quiet: len(f.pending)+len(f.doubt) == 0, chain: f.way(), token: f.token}.cursor()
}

// way returns the chain as cursors have it.
func (f *feed) way() string {
	ids := make([]string, len(f.at))
	for i, l := range f.at {
		ids[i] = l.id
	}
	return strings.Join(ids, "/")
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
		if i := slices.IndexFunc(f.at, c.of); i >= 0 {
			if !f.stays(i, c) {
				return fmt.Errorf("a directory above all has changed: %w", remote.ErrCursor)
			}
			if i > 0 {
				f.suspect(f.x.root)
			}
			continue
		}
		if c.path != "" {
			if err := f.toldPath(c, all); err != nil {
				return err
			}
			continue
		}
		if n := f.stayed(c); n != nil {
			f.suspect(n)
			continue
		}
		p := f.pend(c.id)
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
	f.x.reads++
	return nil
}

// pend has what is told of be looked at, until it is settled.
func (f *feed) pend(key string) *pending {
	p := f.pending[key]
	if p == nil {
		p = &pending{}
		f.pending[key] = p
	}
	p.until = time.Now().Add(f.settle)
	return p
}

// stays reports whether a directory of the chain is where it was. The first one is found by its ID, wherever it is.
func (f *feed) stays(i int, c told) bool {
	if c.path != "" {
		return c.id == f.at[i].id
	}
	return c.name != "" && (i == 0 || c.name == f.at[i].name && slices.Equal(c.parents, []string{f.at[i-1].id}))
}

// stayed returns the node of a directory that is told of and is where the index has it, so that nothing is new but what is told besides; nil if it is not so.
func (f *feed) stayed(c told) *node {
	all := f.nodes(c.id)
	if c.name == "" || len(all) != 1 {
		return nil
	}
	n := all[0]
	if !n.dir || n.up == nil || n.name != c.name || !slices.Equal(c.parents, []string{n.up.id}) {
		return nil
	}
	return n
}

// suspect has what was listed below n since the feed was read be listed again: that n is where it was does not say that it was there all the time.
func (f *feed) suspect(n *node) {
	if n.dir && n.listed == f.x.reads {
		f.doubt[n] = true
	}
	for _, k := range n.below {
		f.suspect(k)
	}
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
	if !p.quiet || p.chain != f.way() {
		return nil, "", remote.ErrCursor
	}
	all, next, err := f.read(ctx, p.token)
	if err != nil {
		return nil, "", err
	}
	all = slices.DeleteFunc(all, f.elsewhere)
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
		if id, ok := f.key(&it); x != nil && (!ok || !x.put(&it, id)) {
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
	f.x, f.token, f.doubt = x, token, map[*node]bool{}
	// What was told while all was listed is told apart from what comes later. If it fails now, it is then told with that.
	if err := f.advance(ctx); errors.Is(err, remote.ErrCursor) {
		f.forget()
		return noFeed, nil
	}
	return f.here(), nil
}

// key returns who the feed calls what a listing has; false if it does not tell of it.
func (f *feed) key(it *remote.Item) (string, bool) {
	if it.ID == "" {
		return "", false
	}
	return f.api.key(it.ID)
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

func (f *feed) chain(ctx context.Context) (chain []link, err error) {
	err = f.t.patiently(ctx, func() (err error) {
		chain, err = f.api.chain(ctx)
		return err
	})
	return chain, err
}

func (f *feed) root() string { return f.at[len(f.at)-1].id }

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
	f.t.flush()
	if err := f.t.here(ctx, 0); err != nil {
		return err
	}
	chain, err := f.api.chain(ctx)
	if err != nil && !errors.Is(err, errNotFollowed) {
		return err
	}
	if lerr := f.lock(ctx); lerr != nil {
		return lerr
	}
	defer f.unlock()
	if err != nil {
		f.forget() // it is listed
		return nil
	}
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
