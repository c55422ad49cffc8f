package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// load brings the listing of the directory n into memory. No lock is held.
func (f *FS) load(ctx context.Context, n *node) error {
	for {
		f.mu.RLock()
		ref, have := n.dir.ref, n.dir.list != nil
		f.mu.RUnlock()
		if have {
			return nil
		}
		l := emptyListing
		if !ref.IsZero() {
			entries, err := manifest.List(ctx, f.o.Store, ref)
			if err != nil {
				return fmt.Errorf("load directory: %w", translate(err))
			}
			l = &listing{ref: ref, entries: entries}
		}
		f.mu.Lock()
		if n.dir.ref == ref && n.dir.list == nil {
			n.dir.list = l
			f.recent.add(n)
		}
		f.mu.Unlock()
	}
}

// Trim gives back the memory of what can be read again: listings of directories. It changes nothing, and may be called at any time; who lists a directory next
// waits for it to be read.
func (f *FS) Trim() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recent.clear()
}

// rlock takes f.mu for reading, with the listing of n loaded.
func (f *FS) rlock(ctx context.Context, n *node) error {
	for {
		f.mu.RLock()
		if n.dir.list != nil {
			return nil
		}
		f.mu.RUnlock()
		if err := f.load(ctx, n); err != nil {
			return err
		}
	}
}

// lock takes f.gate and f.mu for writing, with the listings of all dirs loaded. A nil is passed over.
func (f *FS) lock(ctx context.Context, dirs ...*node) error {
	for {
		f.gate.RLock()
		f.mu.Lock()
		missing := (*node)(nil)
		for _, d := range dirs {
			if d != nil && d.dir.list == nil {
				missing = d
			}
		}
		if missing == nil {
			return nil
		}
		f.unlock()
		if err := f.load(ctx, missing); err != nil {
			return err
		}
	}
}

// unlock gives back what lock took.
func (f *FS) unlock() {
	f.mu.Unlock()
	f.gate.RUnlock()
}

// child returns the node under as, or nil. f.mu is held and d's listing loaded.
func (f *FS) child(d *node, as string) *node {
	if nm, ok := d.dir.over[as]; ok {
		if nm == nil {
			return nil
		}
		return nm.bears
	}
	if i, ok := d.dir.list.find(as); ok {
		return f.intern(d, &d.dir.list.entries[i])
	}
	return nil
}

// childName returns the child and its name as an object. f.mu is held and d's listing loaded.
func (f *FS) childName(d *node, as string) (*node, *name) {
	n := f.child(d, as)
	if n == nil {
		return nil, nil
	}
	for _, nm := range n.names {
		if nm.parent == d && nm.name == as {
			return n, nm
		}
	}
	panic("live: a child that does not know its name")
}

// empty reports whether n has no children. f.mu is held and n's listing loaded.
func (n *node) empty() bool {
	for _, nm := range n.dir.over {
		if nm != nil {
			return false
		}
	}
	for i := range n.dir.list.entries {
		if _, ok := n.dir.over[n.dir.list.entries[i].Name]; !ok {
			return false
		}
	}
	return true
}

// set gives the name as in n to nm; nil says that nobody has it. f.mu is held for writing.
func (n *node) set(as string, nm *name) {
	if n.dir.over == nil {
		n.dir.over = map[string]*name{}
	}
	if _, ok := n.dir.over[as]; !ok {
		n.dir.overSorted = nil
	}
	n.dir.over[as] = nm
}

func (f *FS) lookup(ctx context.Context, d *node, as string) (*node, error) {
	if err := vfs.CheckName(as); err != nil {
		return nil, err
	}
	if err := f.rlock(ctx, d); err != nil {
		return nil, err
	}
	defer f.mu.RUnlock()
	if n := f.child(d, as); n != nil {
		return n, nil
	}
	return nil, missing("lookup", as)
}

func missing(op, as string) error { return &fs.PathError{Op: op, Path: as, Err: fs.ErrNotExist} }
func exists(op, as string) error  { return &fs.PathError{Op: op, Path: as, Err: fs.ErrExist} }

// page is how many children one look under the lock takes.
const page = 256

func (f *FS) list(ctx context.Context, d *node, after string) iter.Seq2[vfs.Entry, error] {
	return paged(ctx, f, d, after, func(as string, n *node, e *manifest.Entry) vfs.Entry {
		if e != nil {
			return vfs.Entry{Name: as, Ino: inode(identity(e)), Kind: e.Kind}
		}
		return vfs.Entry{Name: as, Ino: inode(n.id), Kind: n.kind}
	})
}

// listAttr is list with attributes. It makes no node that nobody has asked for.
func (f *FS) listAttr(ctx context.Context, d *node, after string) iter.Seq2[vfs.EntryAttr, error] {
	return paged(ctx, f, d, after, func(as string, n *node, e *manifest.Entry) vfs.EntryAttr {
		if e != nil {
			var id manifest.NodeID
			f.tableMu.Lock()
			n, id = f.known(d, e)
			f.tableMu.Unlock()
			if n == nil { // one for this moment only
				n = newNode(id, e.Kind)
				n.fill(e)
				n.names = []*name{nil} // it has one, as it has no links
			}
		}
		n.mu.RLock()
		defer n.mu.RUnlock()
		return vfs.EntryAttr{Name: as, Attr: n.stat(), Target: n.target()}
	})
}

// paged yields what of makes of each child whose name is after another. Of gets the name and the node of the child or, where nobody has changed it since it was
// read, its entry. f.mu is held meanwhile, for reading.
func paged[T any](ctx context.Context, f *FS, d *node, after string, of func(as string, n *node, e *manifest.Entry) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		made, at := make([]T, 0, page), after // it may be run again
		for {
			err := ctx.Err()
			if err == nil {
				err = f.rlock(ctx, d)
			}
			if err != nil {
				yield(*new(T), err)
				return
			}
			made = made[:0]
			d.some(at, func(as string, n *node, e *manifest.Entry) {
				made, at = append(made, of(as, n, e)), as
			})
			f.mu.RUnlock()
			for _, m := range made {
				if !yield(m, nil) {
					return
				}
			}
			if len(made) < page {
				return
			}
		}
	}
}

// some hands on the next children after a name, up to a page of them. f.mu is held and the listing loaded.
func (n *node) some(after string, to func(as string, n *node, e *manifest.Entry)) {
	base := n.dir.list.entries
	i, ok := n.dir.list.find(after)
	if ok {
		i++
	}
	var over []string
	if len(n.dir.over) > 0 {
		over = n.dir.sortedOver()
		j, ok := slices.BinarySearch(over, after)
		if ok {
			j++
		}
		over = over[j:]
	}
	for left := page; left > 0 && (i < len(base) || len(over) > 0); {
		if len(over) > 0 && (i >= len(base) || over[0] <= base[i].Name) {
			if i < len(base) && base[i].Name == over[0] {
				i++
			}
			if nm := n.dir.over[over[0]]; nm != nil {
				to(nm.name, nm.bears, nil)
				left--
			}
			over = over[1:]
			continue
		}
		to(base[i].Name, nil, &base[i])
		i++
		left--
	}
}

// sortedOver returns the names in over, in order. It is kept until over changes its names.
func (s *dirState) sortedOver() []string {
	s.overMu.Lock()
	defer s.overMu.Unlock()
	if s.overSorted == nil {
		s.overSorted = slices.Sorted(maps.Keys(s.over))
	}
	return s.overSorted
}

// loadLinks finds all files with several names, so that each name knows of the others. It
// costs the number of directories that hold such names.
func (f *FS) loadLinks(ctx context.Context) error {
	groups := map[linkGroup]*node{}
	var down func(d *node) error
	down = func(d *node) error {
		if err := f.load(ctx, d); err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		l := d.dir.list
		if l == nil {
			return errors.New("listing left the memory while it was read")
		}
		for i := range l.entries {
			e := &l.entries[i]
			switch {
			case e.Kind == vfs.KindDir && e.Below&manifest.BelowLink != 0:
				sub := f.intern(d, e)
				f.mu.Unlock()
				err := down(sub)
				f.mu.Lock()
				if err != nil {
					return err
				}
			case e.Kind != vfs.KindDir && e.Link != (manifest.NodeID{}):
				f.loadLink(d, e, groups)
			}
		}
		return nil
	}
	if err := down(f.root); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range groups {
		f.single(n) // the others were removed
	}
	return nil
}

// linkGroup is what the names of one file have in common. Names with one Link and other Edits were
// written by two devices at the same time: they are files of their own now, and no bytes are lost.
type linkGroup struct {
	link manifest.NodeID
	edit causal.Dot
}

// loadLink takes in one name of a file with hard links. f.mu is held for writing.
func (f *FS) loadLink(d *node, e *manifest.Entry, groups map[linkGroup]*node) {
	g := linkGroup{identity(e), e.Edit}
	n := groups[g]
	switch {
	case n != nil:
		n.names = append(n.names, nameOf(d, n, e))
	case f.linked[g.link] == nil:
		n = f.intern(d, e)
	default:
		n = f.apart(g.link, e)
		n.names = []*name{nameOf(d, n, e)}
	}
	groups[g] = n
	f.linked[n.id] = n
	if n.id != g.link {
		d.set(e.Name, n.names[len(n.names)-1])
	}
}

// apart makes a node for the entry e of a file with hard links whose ID another one has: an ID follows from both, and
// from that the next, if a file that was made so once bears it.
func (f *FS) apart(id manifest.NodeID, e *manifest.Entry) *node {
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	for with := byte(0x5a); f.table.Get(id).Value() != nil || f.linked[id] != nil; with++ {
		id = mixed(id, e.Edit, with)
	}
	n := newNode(id, e.Kind)
	n.fill(e)
	f.enter(n)
	return n
}
