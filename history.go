package sheaf

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// A SnapshotID names a kept snapshot: "device@counter" of its Dot, as Dot.String has
// it. "latest" is the newest.
type SnapshotID string

// Snapshots returns the kept snapshots, newest first.
func (d *Drive) Snapshots(context.Context) ([]manifest.Kept, error) {
	all := slices.Clone(d.tree.Kept())
	slices.Reverse(all)
	return all, nil
}

// Resolve finds a kept snapshot by its ID, its label, or "latest".
func (d *Drive) Resolve(ctx context.Context, id SnapshotID) (manifest.Kept, error) {
	all, err := d.Snapshots(ctx)
	if err != nil {
		return manifest.Kept{}, err
	}
	for _, k := range all {
		if id == "latest" || k.Dot.String() == string(id) || k.Label != "" && k.Label == string(id) {
			return k, nil
		}
	}
	return manifest.Kept{}, fmt.Errorf("%w: %s", ErrNoSnapshot, id)
}

// ResolveTime finds the newest kept snapshot that is not younger than at.
func (d *Drive) ResolveTime(ctx context.Context, at time.Time) (manifest.Kept, error) {
	all, err := d.Snapshots(ctx)
	if err != nil {
		return manifest.Kept{}, err
	}
	for _, k := range all {
		if !k.Time.After(at) {
			return k, nil
		}
	}
	return manifest.Kept{}, fmt.Errorf("%w: none is as old as %s", ErrNoSnapshot, at.Format(time.RFC3339))
}

// Snapshot commits and keeps the state under a label until DropSnapshot.
func (d *Drive) Snapshot(ctx context.Context, label string) (manifest.Kept, error) {
	return d.tree.Keep(ctx, label)
}

// DropSnapshot forgets kept snapshots. What only they hold is freed by GC.
func (d *Drive) DropSnapshot(ctx context.Context, ids ...SnapshotID) error {
	dots := make([]causal.Dot, 0, len(ids))
	for _, id := range ids {
		k, err := d.Resolve(ctx, id)
		if err != nil {
			return err
		}
		dots = append(dots, k.Dot)
	}
	err := d.tree.Drop(ctx, dots...)
	if errors.Is(err, live.ErrNoSnapshot) {
		return fmt.Errorf("%w: %w", ErrNoSnapshot, err)
	}
	return err
}

// At returns the tree of a kept snapshot, read-only. GC leaves what it shows alone as long as somebody
// has the tree or a part of it, also if the snapshot is dropped.
func (d *Drive) At(ctx context.Context, k manifest.Kept) (vfs.FS, error) {
	base := manifest.Snapshot{Root: k.Root, Time: k.Time, Below: manifest.BelowLink, Files: k.Files}
	past, err := live.Open(ctx, live.Options{
		Store: d.store, Base: base, Owner: owner(), Entropy: rand.Reader, ReadOnly: true,
		Usage: d.o.Usage, State: d.stateOf, Log: d.o.Log, Now: func() time.Time { return k.Time },
	})
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.past == nil {
		d.past = map[chunk.Ref]int{}
	}
	d.past[k.Root]++
	// A tree has no Close. Whoever still uses it, by a node or a handle, has its FS.
	runtime.AddCleanup(past, d.leave, k.Root)
	return past.View(), nil
}

// leave is told that one tree of the past is in use no more.
func (d *Drive) leave(root chunk.Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.past[root]--; d.past[root] <= 0 {
		delete(d.past, root)
	}
}

// Difference is one path in which two snapshots differ.
type Difference struct {
	Path     string
	Old, New *manifest.Entry // nil: not there
}

// Diff yields how two snapshots differ, in the order of the paths.
func (d *Drive) Diff(ctx context.Context, from, to manifest.Kept) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		for diff, err := range manifest.Diff(ctx, d.store, from.Root, to.Root) {
			if !yield(Difference{Path: diff.Path, Old: diff.Old, New: diff.New}, err) || err != nil {
				return
			}
		}
	}
}

// A Version is one state of a path in the history.
type Version struct {
	Snapshot manifest.Kept   // the oldest kept snapshot with this state
	Entry    *manifest.Entry // nil: the path was not there
}

// History yields the versions of a path, newest first. A state in which the path is not
// there is a version too, but not the time before it was first there.
func (d *Drive) History(ctx context.Context, path string) iter.Seq2[Version, error] {
	return func(yield func(Version, error) bool) {
		names, err := vfs.SplitPath(path)
		if err != nil {
			yield(Version{}, err)
			return
		}
		all, err := d.Snapshots(ctx)
		if err != nil {
			yield(Version{}, err)
			return
		}
		var last *Version
		w := pathWalk{src: d.store, names: names, met: make([]lookedUp, len(names))}
		for _, k := range all {
			e, err := w.at(ctx, k.Root)
			if err != nil {
				yield(Version{}, err)
				return
			}
			if last != nil && !same(last.Entry, e) {
				if !yield(*last, nil) {
					return
				}
				last = nil
			}
			last = &Version{Snapshot: k, Entry: e}
		}
		if last != nil && last.Entry != nil {
			yield(*last, nil)
		}
	}
}

// same reports whether two states of a path are one version: bytes, kind and attributes.
func same(a, b *manifest.Entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ID == b.ID && a.Kind == b.Kind && a.Node == b.Node && a.Size == b.Size && a.Mode == b.Mode && a.UID == b.UID &&
		a.GID == b.GID && a.Target == b.Target && a.MTime.Equal(b.MTime)
}

// entryAt returns the entry of a path below the directory root, or nil.
func entryAt(ctx context.Context, src manifest.Source, root chunk.Ref, names []string) (*manifest.Entry, error) {
	w := pathWalk{src: src, names: names, met: make([]lookedUp, len(names))}
	return w.at(ctx, root)
}

// A pathWalk looks one path up in many trees. What it found in a directory it does not look for again as
// long as the next tree has the same directory there: of a thousand snapshots of a drive, the ones that
// changed nothing near the path cost one lookup in the root.
type pathWalk struct {
	src   manifest.Source
	names []string
	met   []lookedUp // for each name, the directory that it was looked up in last
}

type lookedUp struct {
	dir chunk.Ref
	e   *manifest.Entry // nil: not there
}

func (w *pathWalk) at(ctx context.Context, root chunk.Ref) (*manifest.Entry, error) {
	e := &manifest.Entry{Kind: vfs.KindDir, Node: root}
	for i, name := range w.names {
		if e == nil || e.Kind != vfs.KindDir || e.Node.IsZero() {
			return nil, nil
		}
		m := &w.met[i]
		if m.dir != e.Node {
			sub, ok, err := manifest.Lookup(ctx, w.src, e.Node, name)
			if err != nil {
				return nil, err
			}
			*m = lookedUp{dir: e.Node}
			if ok {
				m.e = &sub
			}
		}
		e = m.e
	}
	return e, nil
}
