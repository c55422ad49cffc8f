package memtree

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Stat is as in remote.Tree.
func (t *Tree) Stat(ctx context.Context, path string) (remote.Item, error) {
	err := ctx.Err()
	var a at
	if err == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if a, _, err = t.find(path); err == nil && a.n == nil {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		return remote.Item{}, fmt.Errorf("stat %q: %w", path, err)
	}
	return t.shown(a), nil
}

// Open is as in remote.Tree. The reader has the bytes of the moment in which it was opened.
func (t *Tree) Open(ctx context.Context, path string, off, n int64, known remote.Version) (io.ReadCloser, error) {
	data, err := t.data(ctx, path, off, known)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	data = data[min(off, int64(len(data))):]
	if n >= 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return &reader{ctx: ctx, r: bytes.NewReader(data)}, nil
}

func (t *Tree) data(ctx context.Context, path string, off int64, known remote.Version) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a, _, err := t.find(path)
	switch {
	case err != nil:
		return nil, err
	case a.n == nil:
		return nil, fs.ErrNotExist
	case known != "" && a.n.item.Version != known:
		return nil, remote.ErrChanged
	case a.n.item.Kind != remote.File:
		return nil, fmt.Errorf("it is no file: %w", fs.ErrInvalid)
	case off < 0:
		return nil, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid)
	}
	return a.n.data, nil
}

// A reader ends with its context.
type reader struct {
	ctx  context.Context
	r    *bytes.Reader
	over bool
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.over {
		return 0, fs.ErrClosed
	}
	return r.r.Read(p)
}

func (r *reader) Close() error {
	r.over = true
	return nil
}

// List is as in remote.Tree.
func (t *Tree) List(ctx context.Context, dir string) iter.Seq2[remote.Item, error] {
	return func(yield func(remote.Item, error) bool) {
		items, err := t.list(ctx, dir)
		if err != nil {
			yield(remote.Item{}, fmt.Errorf("list %q: %w", dir, err))
			return
		}
		for _, it := range items {
			if err := ctx.Err(); err != nil {
				yield(remote.Item{}, fmt.Errorf("list %q: %w", dir, err))
				return
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

func (t *Tree) list(ctx context.Context, dir string) ([]remote.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n, path := t.root, ""
	if dir != "" {
		a, _, err := t.find(dir)
		switch {
		case err != nil:
			return nil, err
		case a.n == nil || a.n.item.Kind != remote.Dir:
			return nil, fmt.Errorf("no directory: %w", fs.ErrNotExist)
		}
		n, path = a.n, a.full(a.n.item.Path)
	}
	items := make([]remote.Item, 0, len(n.kids))
	for _, k := range sorted(n) {
		items = append(items, t.item(join(path, k.item.Path), k))
	}
	return items, nil
}

// Changes is as in remote.Tree. What it yields is the state of the moment in which it begins.
func (t *Tree) Changes(ctx context.Context, since remote.Cursor) (iter.Seq2[remote.Change, error], func() remote.Cursor) {
	return remote.Listing(func(give func(remote.Change) error) (remote.Cursor, error) {
		changes, next, err := t.changes(ctx, since)
		for _, c := range changes {
			if err = ctx.Err(); err == nil {
				err = give(c)
			}
			if err != nil {
				break
			}
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return "", fmt.Errorf("list what changed: %w", err)
		}
		return next, nil
	})
}

func (t *Tree) changes(ctx context.Context, since remote.Cursor) ([]remote.Change, remote.Cursor, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	cursor := remote.Cursor("c" + strconv.FormatUint(t.seq, 10))
	if since == "" || t.o.NoFeed {
		return t.all(nil, "", t.root), cursor, nil
	}
	from, err := strconv.ParseUint(strings.TrimPrefix(string(since), "c"), 10, 64)
	if err != nil || from < t.first || from > t.seq {
		return nil, "", remote.ErrCursor
	}
	paths := map[string]bool{}
	first, _ := slices.BinarySearchFunc(t.log, from+1, func(e event, seq uint64) int {
		switch {
		case e.seq < seq:
			return -1
		case e.seq > seq:
			return 1
		}
		return 0
	})
	for _, e := range t.log[first:] {
		paths[e.path] = true
	}
	changes := make([]remote.Change, 0, len(paths))
	for path := range paths {
		a, _, err := t.find(path)
		if err != nil {
			return nil, "", err
		}
		// Where names fold, the old name of a thing that has a new one finds it, and is gone all the same.
		if a.n == nil || a.full(a.n.item.Path) != path {
			changes = append(changes, remote.Change{Item: remote.Item{Path: path}, Gone: true})
			continue
		}
		changes = append(changes, remote.Change{Item: t.shown(a)})
	}
	slices.SortFunc(changes, func(a, b remote.Change) int { return remote.ComparePaths(a.Path, b.Path) })
	return changes, cursor, nil
}

// all appends what lies below n.
func (t *Tree) all(to []remote.Change, path string, n *node) []remote.Change {
	for _, k := range sorted(n) {
		p := join(path, k.item.Path)
		to = append(to, remote.Change{Item: t.item(p, k)})
		to = t.all(to, p, k)
	}
	return to
}
