package manifest

import (
	"context"
	"fmt"
	"iter"
	"math"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// Walk calls visit for every chunk that is reachable from root, root included: nodes of all
// kinds, chunks of data, and for a Snapshot also its history and the trees of that. A
// hidden record of an entry reaches its data like the entry. A Ref for which seen
// returns true is left out with all that is below it; seen is asked once for each mention
// of a Ref, so it is the caller's to answer true from the second time on. A nil seen
// never does. The order is not defined. Walks of one seen may run side by side if seen
// and visit are safe for that. The first error ends the walk.
func Walk(ctx context.Context, src Source, root chunk.Ref, seen func(chunk.Ref) bool, visit func(chunk.Ref) error) error {
	w := walker{seen: seen}
	w.push(root)
	for len(w.todo) > 0 {
		ref := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := visit(ref); err != nil {
			return err
		}
		if err := w.open(ctx, src, ref); err != nil {
			return fmt.Errorf("walk: %w", err)
		}
	}
	return nil
}

type walker struct {
	seen func(chunk.Ref) bool
	todo []chunk.Ref
}

func (w *walker) push(ref chunk.Ref) {
	if !ref.IsZero() && (w.seen == nil || !w.seen(ref)) {
		w.todo = append(w.todo, ref)
	}
}

// open pushes what the chunk names.
func (w *walker) open(ctx context.Context, src Source, ref chunk.Ref) error {
	switch ref.Kind {
	case chunk.Data:
		return nil
	case chunk.Snapshot:
		s, err := GetSnapshot(ctx, src, ref)
		if err != nil {
			return err
		}
		w.push(s.Root)
		w.push(s.History)
		return nil
	}
	plain, err := src.Get(ctx, make([]byte, 0, ref.Size), ref)
	if err != nil {
		return fmt.Errorf("get %s node: %w", ref.Kind, err)
	}
	// The node may be an inner one, so it is not asked what its parent said of it.
	n, err := parseNode(ref.Kind, plain)
	if err != nil {
		return fmt.Errorf("node %s: %w", ref, err)
	}
	for i := range n.children {
		w.push(n.children[i].ref)
	}
	for i := range n.entries {
		w.push(n.entries[i].Node)
		for j := range n.entries[i].Hidden {
			w.push(n.entries[i].Hidden[j].Node)
		}
	}
	for i := range n.extents {
		w.push(n.extents[i].Ref)
	}
	for i := range n.kepts {
		w.push(n.kepts[i].Root)
	}
	return nil
}

// First returns the chunks that are read before anything of a snapshot is shown: the nodes of its history and those of its root, the upper ones of
// each first. It goes down so many levels, reads none of the lowest of these, and returns at most so many chunks. With an error it returns what it found.
func First(ctx context.Context, src Source, s Snapshot, levels, most int) ([]chunk.Ref, error) {
	var first []chunk.Ref
	var err error
	for _, ref := range []chunk.Ref{s.History, s.Root} {
		if first, err = upper(ctx, src, first, ref, levels, most); err != nil {
			break
		}
	}
	return first[:min(len(first), most)], err
}

// upper appends the nodes of one directory or history, as First has them. It may append more than fit in most.
func upper(ctx context.Context, src Source, nodes []chunk.Ref, ref chunk.Ref, levels, most int) ([]chunk.Ref, error) {
	if ref.IsZero() {
		return nodes, nil
	}
	for level := []chunk.Ref{ref}; len(level) > 0; {
		nodes = append(nodes, level...)
		if levels--; levels == 0 || len(nodes) >= most {
			break
		}
		var below []chunk.Ref
		for _, ref := range level {
			n, err := readNode(ctx, src, ref.Kind, ref, 0, nil)
			if err != nil {
				return nodes, err
			}
			for _, c := range n.children {
				below = append(below, c.ref)
			}
		}
		level = below
	}
	return nodes, nil
}

// Linked returns the nodes of the directories that have to be read to find all files with several names, from the root of a snapshot on, the upper directories first, and
// at most so many. With an error it returns what it found.
func Linked(ctx context.Context, src Source, s Snapshot, most int) (nodes []chunk.Ref, err error) {
	if s.Below&BelowLink == 0 || s.Root.IsZero() {
		return nil, nil
	}
	for dirs := []chunk.Ref{s.Root}; len(dirs) > 0 && len(nodes) < most; dirs = dirs[1:] {
		if nodes, err = upper(ctx, src, nodes, dirs[0], math.MaxInt, most); err != nil {
			break
		}
		for e, err := range Entries(ctx, src, dirs[0], "") {
			if err != nil {
				return nodes[:min(len(nodes), most)], err
			}
			if e.Kind == vfs.KindDir && e.Below&BelowLink != 0 && !e.Node.IsZero() {
				dirs = append(dirs, e.Node)
			}
		}
	}
	return nodes[:min(len(nodes), most)], err
}

// A Placed is an Entry and its path from the root, elements separated by '/'.
type Placed struct {
	Path string
	Entry
}

// WalkTree yields every entry below the directory root in path order: a directory,
// then what is in it, then its next sibling. It ends at the first error.
func WalkTree(ctx context.Context, src Source, root chunk.Ref) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		walkTree(ctx, src, "", root, yield)
	}
}

func walkTree(ctx context.Context, src Source, prefix string, dir chunk.Ref, yield func(Placed, error) bool) bool {
	for e, err := range Entries(ctx, src, dir, "") {
		if err != nil {
			yield(Placed{}, err)
			return false
		}
		p := Placed{Path: prefix + e.Name, Entry: e}
		if !yield(p, nil) {
			return false
		}
		if e.Kind == vfs.KindDir && !walkTree(ctx, src, p.Path+"/", e.Node, yield) {
			return false
		}
	}
	return true
}
