package manifest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// putEntry adds e to the leaf of a directory.
func (c *cutter) putEntry(e *Entry) error {
	if err := check(e, nil); err != nil {
		return err
	}
	return c.leaf(appendEntry(nil, e), xxhash.Sum64String(e.Name), child{first: e.Name, count: 1, below: e.Flags()})
}

// BuildDir stores a directory of the given entries, which come in ascending order of
// their names, and returns its Ref, zero for no entries, and the Below that its own Entry
// is to have. Equal entries give equal Refs. It keeps nothing of the entries.
func BuildDir(ctx context.Context, sink Sink, entries iter.Seq2[Entry, error]) (chunk.Ref, Below, error) {
	c := newCutter(ctx, sink, chunk.Dir)
	last := ""
	for e, err := range entries {
		if err != nil {
			return chunk.Ref{}, 0, err
		}
		if e.Name <= last {
			return chunk.Ref{}, 0, fmt.Errorf("%w: names out of order", ErrMalformed)
		}
		last = e.Name
		if err := c.putEntry(&e); err != nil {
			return chunk.Ref{}, 0, err
		}
	}
	top, _, err := c.finish()
	return top.ref, top.below, err
}

// An Edit is one change of a directory: Entry, whose Name must be Name, takes the place of
// what has that name; nil removes it. Removing what is not there is no error.
type Edit struct {
	Name  string
	Entry *Entry
}

// EditDir applies edits, sorted by Name and each name once, to the directory old, and
// returns what BuildDir returns for the outcome. It reads and writes only the nodes that the
// edits touch, and those between an edit and the next boundary that stands.
func EditDir(ctx context.Context, st Store, old chunk.Ref, edits []Edit) (chunk.Ref, Below, error) {
	for i, e := range edits {
		if i > 0 && edits[i-1].Name >= e.Name || e.Entry != nil && e.Entry.Name != e.Name {
			return chunk.Ref{}, 0, fmt.Errorf("%w: edits out of order", ErrMalformed)
		}
	}
	ed := editor{src: st, c: newCutter(ctx, st, chunk.Dir)}
	if old.IsZero() {
		if err := ed.merge(nil, edits); err != nil {
			return chunk.Ref{}, 0, err
		}
	} else {
		n, err := readNode(ctx, st, chunk.Dir, old, 0, nil)
		if err != nil {
			return chunk.Ref{}, 0, err
		}
		if len(edits) == 0 {
			return old, n.sum.below, nil
		}
		if err := ed.open(n, edits); err != nil {
			return chunk.Ref{}, 0, err
		}
	}
	top, lvl, err := ed.c.finish()
	if err != nil {
		return chunk.Ref{}, 0, err
	}
	for lvl > 0 { // what became of a tall tree may be one child of one child
		n, err := readNode(ctx, st, chunk.Dir, top.ref, lvl+1, &top)
		if err != nil {
			return chunk.Ref{}, 0, err
		}
		if len(n.children) >= innerLess {
			break
		}
		top, lvl = n.children[0], lvl-1
	}
	return top.ref, top.below, nil
}

// An editor copies an old directory into a cutter, with edits, and passes on whole nodes
// unread wherever no edit falls into them and the boundaries agree.
type editor struct {
	src Source
	c   *cutter
}

// copy copies the node ch of level lvl. A node that is not the last of its level ended at a
// boundary, so it may follow any other boundary; and after the last one nothing comes.
func (d *editor) copy(ch *child, lvl int, edits []Edit) error {
	if len(edits) == 0 && d.c.clean(lvl) {
		return d.c.inner(lvl+1, *ch)
	}
	n, err := readNode(d.c.ctx, d.src, chunk.Dir, ch.ref, lvl+1, ch)
	if err != nil {
		return err
	}
	return d.open(n, edits)
}

func (d *editor) open(n *node, edits []Edit) error {
	if n.level == 0 {
		return d.merge(n, edits)
	}
	for i := range n.children {
		k := len(edits)
		if i+1 < len(n.children) {
			k = sort.Search(len(edits), func(j int) bool { return edits[j].Name >= n.children[i+1].first })
		}
		if err := d.copy(&n.children[i], n.level-1, edits[:k]); err != nil {
			return err
		}
		edits = edits[k:]
	}
	return nil
}

// merge copies the entries of a leaf, or of none.
func (d *editor) merge(n *node, edits []Edit) error {
	if n == nil {
		n = &node{}
	}
	i := 0
	for i < len(n.entries) || len(edits) > 0 {
		order := -1 // the old entry comes first
		switch {
		case i == len(n.entries):
			order = 1
		case len(edits) > 0:
			order = strings.Compare(n.entries[i].Name, edits[0].Name)
		}
		if order < 0 {
			e := &n.entries[i]
			if err := d.c.leaf(n.raw[i], xxhash.Sum64String(e.Name), child{first: e.Name, count: 1, below: e.Flags()}); err != nil {
				return err
			}
			i++
			continue
		}
		if order == 0 {
			i++
		}
		if e := edits[0].Entry; e != nil {
			if err := d.c.putEntry(e); err != nil {
				return err
			}
		}
		edits = edits[1:]
	}
	return nil
}

// Lookup returns the entry of that name, which owns its memory, and whether there is one.
// It reads one node of each level.
func Lookup(ctx context.Context, src Source, dir chunk.Ref, name string) (Entry, bool, error) {
	if dir.IsZero() {
		return Entry{}, false, nil
	}
	n, err := readNode(ctx, src, chunk.Dir, dir, 0, nil)
	for err == nil && n.level > 0 {
		i := sort.Search(len(n.children), func(i int) bool { return n.children[i].first > name }) - 1
		if i < 0 {
			return Entry{}, false, nil
		}
		c := &n.children[i]
		n, err = readNode(ctx, src, chunk.Dir, c.ref, n.level, c)
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("look up: %w", err)
	}
	i, ok := slices.BinarySearchFunc(n.entries, name, func(e Entry, name string) int { return strings.Compare(e.Name, name) })
	if !ok {
		return Entry{}, false, nil
	}
	return n.entries[i], true, nil
}

// listAhead is how many nodes List reads at once: to fetch them takes time, or else to decrypt and to parse them does.
const listAhead = 4

// List returns all entries of a directory, in the order of Entries, in a slice of its own. It calls src, which must be
// safe for that, from several goroutines, which have ended when it returns.
func List(ctx context.Context, src Source, dir chunk.Ref) ([]Entry, error) {
	if dir.IsZero() {
		return nil, nil
	}
	n, err := readNode(ctx, src, chunk.Dir, dir, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("list directory: %w", err)
	}
	if n.level == 0 {
		return n.entries, nil
	}
	const most = 1 << 20 // what an inner node says is not known to be true yet
	all := make([]Entry, 0, min(n.sum.count, most))
	var visit func(n *node) error
	visit = func(n *node) error {
		all = append(all, n.entries...)
		return n.each(ctx, src, visit)
	}
	if err := visit(n); err != nil {
		return nil, fmt.Errorf("list directory: %w", err)
	}
	return all, nil
}

// each calls visit with each child of an inner node of a directory, in order, while the next are read.
func (n *node) each(ctx context.Context, src Source, visit func(*node) error) error {
	if len(n.children) == 0 {
		return nil
	}
	type result struct {
		sub *node
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	var under [listAhead]chan result // nil: none is read
	defer func() {
		cancel()
		for _, done := range under {
			if done != nil {
				<-done
			}
		}
	}()
	read := func(i int) {
		slot := &under[i%listAhead]
		if *slot = nil; i >= len(n.children) {
			return
		}
		done := make(chan result, 1)
		*slot = done
		go func() {
			c := &n.children[i]
			sub, err := readNode(ctx, src, chunk.Dir, c.ref, n.level, c)
			done <- result{sub, err}
		}()
	}
	for i := range listAhead {
		read(i)
	}
	for i := range n.children {
		r := <-under[i%listAhead]
		read(i + listAhead)
		if r.err != nil {
			return r.err
		}
		if err := visit(r.sub); err != nil {
			return err
		}
	}
	return nil
}

// Entries yields the entries of a directory whose name is greater than after, in
// ascending order of their names. They own their memory. It ends at the first error.
func Entries(ctx context.Context, src Source, dir chunk.Ref, after string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if dir.IsZero() {
			return
		}
		var visit func(n *node) bool
		visit = func(n *node) bool {
			for i := range n.entries {
				if n.entries[i].Name > after && !yield(n.entries[i], nil) {
					return false
				}
			}
			for i := range n.children {
				if i+1 < len(n.children) && n.children[i+1].first <= after {
					continue
				}
				c := &n.children[i]
				sub, err := readNode(ctx, src, chunk.Dir, c.ref, n.level, c)
				if err != nil {
					yield(Entry{}, fmt.Errorf("list directory: %w", err))
					return false
				}
				if !visit(sub) {
					return false
				}
			}
			return true
		}
		n, err := readNode(ctx, src, chunk.Dir, dir, 0, nil)
		if err != nil {
			yield(Entry{}, fmt.Errorf("list directory: %w", err))
			return
		}
		visit(n)
	}
}

// Total reads the top node of a directory and returns how many entries it has itself, and
// the Below that its own Entry is to have.
func Total(ctx context.Context, src Source, dir chunk.Ref) (uint64, Below, error) {
	if dir.IsZero() {
		return 0, 0, nil
	}
	n, err := readNode(ctx, src, chunk.Dir, dir, 0, nil)
	if err != nil {
		return 0, 0, fmt.Errorf("read directory: %w", err)
	}
	return n.sum.count, n.sum.below, nil
}
