package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

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
	if len(f.pending)+len(f.doubt)+len(l.again) == 0 {
		return nil, nil
	}
	now := time.Now()
	dirs := maps.Clone(f.doubt)
	for id, p := range f.pending {
		for _, n := range f.x.ids[id] {
			dirs[n.up] = true
		}
		if p.path != "" {
			dir, _ := split(p.path)
			n, _ := f.x.near(dir)
			dirs[n] = true
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
	clear(f.doubt)
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
	l.t.flush()
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
	n.listed = l.x.reads
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
	id, ok := l.key(it)
	if !ok {
		return fmt.Errorf("%q is not covered by the feed: %w", it.Path, remote.ErrCursor)
	}
	k, sum := n.below[path.Base(it.Path)], sumOf(it)
	if k != nil && (k.id != id || k.dir != (it.Kind == remote.Dir)) {
		l.x.cut(k, l.gone)
		k = nil
	}
	switch {
	case k == nil:
		k = l.x.add(n, it, id)
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
