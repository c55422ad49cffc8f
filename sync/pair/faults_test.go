package pair_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
)

// faulty is a place that does what bad places do, by chance or when it is told to.
type faulty struct {
	*memtree.Tree
	mu   sync.Mutex
	rng  *rand.Rand
	rate int // one call of that many goes wrong; 0: none

	// One each: the next call that it concerns does that.
	loseUpload, truncate, cutAfter, partial, unauthorized, emptyList, stale, resetRead, shortRead bool
	identity                                                                                      string
	old                                                                                           []remote.Change // the listing before the last
	last                                                                                          []remote.Change
	count                                                                                         map[string]int
	dead                                                                                          *bool // all calls fail: the process was killed
	calls                                                                                         *int
	killAt                                                                                        int
	opens                                                                                         int
}

var errReset = fmt.Errorf("connection reset: %w", blob.ErrTemporary)

// hit reports whether something goes wrong now.
func (f *faulty) hit(flag *bool, what string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if flag != nil && *flag {
		*flag = false
		f.note(what)
		return true
	}
	if f.rate > 0 && f.rng.IntN(f.rate) == 0 {
		f.note(what)
		return true
	}
	return false
}

func (f *faulty) note(what string) {
	if f.count != nil {
		f.count[what]++
	}
}

// alive counts calls, and is where a kill strikes: after the call that is the killAt-th nothing comes back any more.
func (f *faulty) alive() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead != nil && *f.dead {
		return errKilled
	}
	return nil
}

func (f *faulty) after() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		return nil
	}
	*f.calls++
	if f.killAt > 0 && *f.calls >= f.killAt {
		*f.dead = true
		return errKilled
	}
	return nil
}

var errKilled = errors.New("killed")

func (f *faulty) Identity(ctx context.Context) (string, error) {
	if f.identity != "" {
		return f.identity, nil
	}
	return f.Tree.Identity(ctx)
}

func (f *faulty) Changes(ctx context.Context, since remote.Cursor) (iter.Seq2[remote.Change, error], func() remote.Cursor) {
	if err := f.alive(); err != nil {
		return func(yield func(remote.Change, error) bool) { yield(remote.Change{}, err) }, func() remote.Cursor { return "" }
	}
	inner, next := f.Tree.Changes(ctx, since)
	var all []remote.Change
	for c, err := range inner {
		if err != nil {
			return func(yield func(remote.Change, error) bool) { yield(remote.Change{}, err) }, next
		}
		all = append(all, c)
	}
	cursor := next()
	f.mu.Lock()
	listed, old := all, f.old
	if since == "" {
		f.old, f.last = f.last, all
	}
	f.mu.Unlock()
	switch {
	case since == "" && f.hit(&f.emptyList, "empty listing"):
		listed = nil
	case since == "" && f.hit(&f.stale, "stale listing"):
		listed = old
	}
	var fail error
	if len(all) > 0 {
		switch {
		case f.hit(&f.partial, "lost page"):
			if since == "" { // a feed does not lie about what it leaves out: it fails
				listed = listed[:len(listed)/2]
			} else {
				listed, fail = listed[:len(listed)/2], errReset
			}
		case f.hit(&f.unauthorized, "401 in a listing"):
			listed, fail = listed[:len(listed)/2], blob.ErrUnauthorized
		case f.hit(nil, "a page twice"):
			listed = append(listed[:len(listed):len(listed)], listed...)
		}
	}
	ended := false
	return func(yield func(remote.Change, error) bool) {
			for _, c := range listed {
				if !yield(c, nil) {
					return
				}
			}
			if fail != nil {
				yield(remote.Change{}, fail)
				return
			}
			ended = true
		}, func() remote.Cursor {
			if !ended {
				return ""
			}
			return cursor
		}
}

func (f *faulty) Stat(ctx context.Context, path string) (remote.Item, error) {
	if err := f.alive(); err != nil {
		return remote.Item{}, err
	}
	if f.hit(nil, "5xx of a stat") {
		return remote.Item{}, errReset
	}
	return f.Tree.Stat(ctx, path)
}

type cutReader struct {
	io.ReadCloser
	left int
	err  error
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, c.err
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (f *faulty) Open(ctx context.Context, path string, off, n int64, known remote.Version) (io.ReadCloser, error) {
	if err := f.alive(); err != nil {
		return nil, err
	}
	if f.hit(nil, "5xx of an open") {
		return nil, errReset
	}
	f.mu.Lock()
	f.opens++
	f.mu.Unlock()
	r, err := f.Tree.Open(ctx, path, off, n, known)
	if err == nil && f.hit(&f.resetRead, "reset of a read") {
		r = &cutReader{r, 1, errReset}
	}
	if err == nil && f.hit(&f.shortRead, "short body with 200") {
		r = &cutReader{r, 1, io.EOF}
	}
	return r, err
}

func (f *faulty) Put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	if err := f.alive(); err != nil {
		return remote.Item{}, err
	}
	if it.Kind == remote.File && f.hit(&f.loseUpload, "upload acknowledged and lost") {
		b, err := io.ReadAll(r)
		if err != nil {
			return remote.Item{}, err
		}
		if _, err := f.Tree.Stat(ctx, it.Path); err == nil {
			return f.Tree.Put(ctx, it, bytes.NewReader(b), known) // only what is new gets lost
		}
		it.Version, it.Size = "lost", int64(len(b))
		return it, f.after()
	}
	if it.Kind == remote.File && f.hit(&f.truncate, "truncated upload") {
		b, err := io.ReadAll(r)
		if err != nil {
			return remote.Item{}, err
		}
		it.Size = int64(len(b) / 2)
		return f.Tree.Put(ctx, it, bytes.NewReader(b[:len(b)/2]), known)
	}
	done, err := f.Tree.Put(ctx, it, r, known)
	if err == nil && f.hit(&f.cutAfter, "answer lost") {
		return remote.Item{}, errReset
	}
	if kerr := f.after(); kerr != nil {
		return remote.Item{}, kerr
	}
	return done, err
}

func (f *faulty) Move(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	if err := f.alive(); err != nil {
		return remote.Item{}, err
	}
	if f.hit(nil, "5xx of a move") {
		return remote.Item{}, errReset
	}
	it, err := f.Tree.Move(ctx, from, to, known)
	if err == nil && f.hit(nil, "answer of a move lost") {
		return remote.Item{}, errReset
	}
	if kerr := f.after(); kerr != nil {
		return remote.Item{}, kerr
	}
	return it, err
}

func (f *faulty) Remove(ctx context.Context, path string, known remote.Version) error {
	if err := f.alive(); err != nil {
		return err
	}
	err := f.Tree.Remove(ctx, path, known)
	if kerr := f.after(); kerr != nil {
		return kerr
	}
	return err
}

func (f *faulty) Copy(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	if err := f.alive(); err != nil {
		return remote.Item{}, err
	}
	it, err := f.Tree.Copy(ctx, from, to, known)
	if kerr := f.after(); kerr != nil {
		return remote.Item{}, kerr
	}
	return it, err
}

// dyingKV is a database whose process is killed at the killAt-th write.
type dyingKV struct {
	*memkv.DB
	f *faulty
}

func (d *dyingKV) Update(ctx context.Context, fn func(kv.Tx) error) error {
	if err := d.f.alive(); err != nil {
		return err
	}
	if err := d.f.after(); err != nil { // before it is stored
		return err
	}
	return d.DB.Update(ctx, fn)
}
