package live

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// A commit goes like this:
//
//  1. Freeze, under the lock: begin a new journal segment and note what is dirty, by value.
//     Whoever writes from now on belongs to the next commit.
//  2. Without the lock: cut and store the changed files, then the directories from the
//     deepest up, then the snapshot; flush; publish the head.
//  3. Thaw, under the lock: what was frozen is the committed state now; what was changed
//     meanwhile stays laid over it.
//  4. Trim the journal up to where it was cut.
//
// A crash before the head is published leaves the old state and the whole journal;
// one after it leaves the new state, whose Mark says what of the journal it has. If a
// step fails, the frozen is dirty again and nothing was promised.

// frozen is what a commit takes.
type frozen struct {
	gen      uint64
	cut      journal.LSN
	bytes    int64        // dirtyBytes then
	dirs     []*frozenDir // deepest first
	at       map[*node]*frozenDir
	files    map[*node]*frozenFile
	nodes    map[*node]bool // whether its attributes were changed
	top      manifest.Entry
	topAttrs bool        // of the root were changed
	roots    []chunk.Ref // all that it names already, for gc
}

type frozenDir struct {
	n     *node
	depth int
	old   chunk.Ref
	edits []frozenEdit // sorted by name
	ref   chunk.Ref    // results
	below manifest.Below
}

type frozenEdit struct {
	as    string
	nm    *name // nil: removed
	child *node
	entry manifest.Entry
	moved bool
	attrs bool // mode, owner or xattr changed, or it is new
}

// Commit puts all that was done before the call into chunks and publishes it.
func (f *FS) Commit(ctx context.Context) error {
	if err := f.usable(); err != nil {
		return err
	}
	return f.commit(ctx, nil)
}

// commit does one commit. keep, if not nil, changes the list of kept snapshots; then there is a commit
// even if the tree is as it was.
func (f *FS) commit(ctx context.Context, keep func(now time.Time, current manifest.Kept) error) error {
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	return f.commitLocked(ctx, keep)
}

// commitLocked is commit with f.commitMu held.
func (f *FS) commitLocked(ctx context.Context, keep func(now time.Time, current manifest.Kept) error) error {
	z, err := f.freeze(keep != nil)
	if err != nil {
		return err
	}
	if len(z.dirs) == 0 && keep == nil {
		return nil
	}
	// What is stored from here on is named by nothing until the head has moved.
	defer f.o.Store.Hold()()
	next, kept, err := f.store(ctx, z, keep)
	if err != nil {
		f.unfreeze(z)
		return fmt.Errorf("commit: %w", err)
	}
	ref, err := f.publish(ctx, next)
	if err != nil {
		// The head may be there in spite of the error. Its dots are never used again.
		f.base.Context, f.base.Lamport = next.Context, next.Lamport
		f.unfreeze(z)
		return fmt.Errorf("commit: %w", err)
	}
	f.thaw(z, ref)
	f.base, f.kept = next, kept
	f.keptNow.Store(&kept)
	if err := f.jr.Trim(z.cut); err != nil {
		// The records are in the snapshot: what is left over goes at the next Open.
		f.o.Log.Warn("journal was not trimmed", "err", err)
	}
	return nil
}

func (f *FS) publish(ctx context.Context, next manifest.Snapshot) (chunk.Ref, error) {
	ref, err := manifest.PutSnapshot(ctx, f.o.Store, next)
	if err != nil {
		return ref, translate(err)
	}
	if err := f.o.Store.Flush(ctx); err != nil {
		return ref, translate(err)
	}
	// From here on it is done or not; a caller that goes away must not leave it in between.
	return ref, translate(f.o.Publish(context.WithoutCancel(ctx), f.baseRef, ref, next))
}

// freeze is step 1.
func (f *FS) freeze(force bool) (*frozen, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	z := &frozen{at: map[*node]*frozenDir{}, files: map[*node]*frozenFile{}, nodes: map[*node]bool{}}
	if len(f.dirty) == 0 && !force {
		return z, nil
	}
	cut, err := f.jr.Rotate()
	if err != nil {
		return nil, translate(err)
	}
	z.gen, z.cut, z.bytes, z.top = f.gen.Load(), cut, f.dirtyBytes.Load(), f.root.entry(nil)
	f.gen.Add(1)
	for d, edits := range f.dirty {
		if d.dir.dead {
			continue
		}
		fd := &frozenDir{n: d, old: d.dir.ref, edits: make([]frozenEdit, 0, len(edits)), below: d.dir.below}
		for up := d; up != f.root; up = up.names[0].parent {
			fd.depth++
		}
		for as, nm := range edits {
			if now, ok := d.dir.over[as]; ok {
				nm = now
			}
			fd.edits = append(fd.edits, z.edit(as, nm))
		}
		slices.SortFunc(fd.edits, func(a, b frozenEdit) int { return strings.Compare(a.as, b.as) })
		z.dirs = append(z.dirs, fd)
		z.at[d] = fd
	}
	slices.SortFunc(z.dirs, func(a, b *frozenDir) int { return b.depth - a.depth })
	z.topAttrs, f.root.attr.changed = f.root.attr.changed, false
	for n := range z.nodes {
		n.attr.changed = false
	}
	f.dirty, f.dirtyNames = map[*node]map[string]*name{}, 0
	f.frozen = z
	return z, nil
}

func (z *frozen) edit(as string, nm *name) frozenEdit {
	if nm == nil {
		return frozenEdit{as: as}
	}
	n := nm.bears
	e := frozenEdit{as: as, nm: nm, child: n, entry: n.entry(nm), moved: nm.moved, attrs: n.attr.changed || n.attr.stamp == (causal.Stamp{})}
	nm.moved = false
	z.nodes[n] = n.attr.changed || z.nodes[n]
	if n.kind == vfs.KindFile && z.files[n] == nil && (n.dirty || !n.file.over().empty()) {
		c := &n.file
		z.files[n] = &frozenFile{
			n: n, base: c.base, length: c.length(), committed: c.committed(), size: c.size, over: c.over().list(), edited: true,
		}
		n.dirty = false
		if c.later != nil {
			c.later.low = noLimit
		}
		for _, p := range z.files[n].over {
			if p.from == inChunk {
				z.roots = append(z.roots, *p.ref)
			}
		}
	}
	return e
}

// unfreeze makes what was frozen dirty again.
func (f *FS) unfreeze(z *frozen) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = nil
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	for _, fd := range z.dirs {
		if fd.n.dir.dead {
			continue
		}
		edits := f.markDir(fd.n)
		for i := range fd.edits {
			e := &fd.edits[i]
			if e.nm != nil && e.moved {
				e.nm.moved = true
			}
			if _, ok := edits[e.as]; !ok {
				// If the name went elsewhere meanwhile, over knows, and freeze asks it.
				f.markName(fd.n, e.as, e.nm)
			}
		}
	}
	for n := range z.files {
		n.dirty = true
	}
	f.root.attr.changed = f.root.attr.changed || z.topAttrs
	for n, changed := range z.nodes {
		n.attr.changed = n.attr.changed || changed
	}
}

// store is the first part of step 2: it returns the next snapshot, with all below it stored.
func (f *FS) store(ctx context.Context, z *frozen, keep func(time.Time, manifest.Kept) error) (manifest.Snapshot, []manifest.Kept, error) {
	next := f.base
	if err := f.storeFiles(ctx, z); err != nil {
		return next, nil, fmt.Errorf("store files: %w", translate(err))
	}
	clock := &clock{device: f.o.Device, counter: next.Context.Counter(f.o.Device), lamport: next.Lamport}
	edits := map[*node]causal.Dot{} // one Edit for all names of a file
	for _, fd := range z.dirs {
		if err := f.storeDir(ctx, z, fd, clock, edits); err != nil {
			return next, nil, fmt.Errorf("store directory: %w", translate(err))
		}
	}
	if root := z.at[f.root]; root != nil {
		next.Root, next.Below = root.ref, root.below
		place, attr := next.Top.Place, next.Top.Attr
		next.Top = z.top
		next.Top.Place, next.Top.Attr = place, attr
		next.Top.Node, next.Top.Below = chunk.Ref{}, 0
		if next.Top.Place == (causal.Stamp{}) {
			next.Top.Place = clock.stamp()
			next.Top.Attr = next.Top.Place
		}
		if z.topAttrs {
			next.Top.Attr = clock.stamp()
		}
		next.Top.Dot = clock.dot()
	}
	now := f.o.Now()
	next.Device, next.Time, next.Mark = f.o.Device, now, z.cut
	next.Files, next.Bytes = uint64(max(f.files.Load(), 0)), uint64(max(f.bytes.Load(), 0))
	kept, err := f.keep(z, next, now, clock, keep)
	if err != nil {
		return next, nil, err
	}
	if next.History, err = manifest.BuildHistory(ctx, f.o.Store, kept); err != nil {
		return next, nil, fmt.Errorf("store history: %w", translate(err))
	}
	next.Context = next.Context.With(causal.Dot{Device: f.o.Device, Counter: clock.counter})
	next.Lamport = clock.lamport
	return next, kept, nil
}

// clock gives out dots and stamps.
type clock struct {
	device           causal.Device
	counter, lamport uint64
}

func (c *clock) dot() causal.Dot {
	c.counter++
	return causal.Dot{Device: c.device, Counter: c.counter}
}

func (c *clock) stamp() causal.Stamp {
	c.lamport++
	return causal.Stamp{Lamport: c.lamport, Device: c.device}
}

func (f *FS) storeFiles(ctx context.Context, z *frozen) error {
	s := newSealer(ctx, f.o.Store)
	done := map[*frozenFile]bool{}
	// In the order of the names of their directories: what lies together is stored together.
	for _, fd := range z.dirs {
		for i := range fd.edits {
			zf := z.files[fd.edits[i].child]
			if zf == nil || done[zf] {
				continue
			}
			done[zf] = true
			if err := f.recut(s.ctx, s, zf); err != nil {
				if werr := s.wait(); werr != nil {
					return werr // the first cause
				}
				return err
			}
		}
	}
	if err := s.wait(); err != nil {
		return err
	}
	for zf := range done {
		if err := zf.finish(ctx, f.o.Store); err != nil {
			return err
		}
	}
	return nil
}

func (f *FS) storeDir(ctx context.Context, z *frozen, fd *frozenDir, c *clock, edited map[*node]causal.Dot) error {
	edits := make([]manifest.Edit, 0, len(fd.edits))
	for i := range fd.edits {
		e := &fd.edits[i]
		if e.nm == nil {
			edits = append(edits, manifest.Edit{Name: e.as})
			continue
		}
		if sub := z.at[e.child]; sub != nil {
			e.entry.Node, e.entry.Below = sub.ref, sub.below
		}
		if e.child.id == manifest.RecoveredID {
			edits = append(edits, recoveredEdit(e))
			continue
		}
		if zf := z.files[e.child]; zf != nil {
			e.entry.Node, e.entry.Size, e.entry.Bytes = zf.ref, zf.size, zf.bytes
			e.entry.Edit, e.entry.Past = editOf(e.child, edited, c), pastOf(e.entry.Edit, e.entry.Past)
		} else if e.child.kind == vfs.KindFile && e.entry.Edit.IsZero() {
			e.entry.Edit = editOf(e.child, edited, c) // made, and still empty
		}
		if e.moved {
			e.entry.Place = c.stamp()
		}
		if e.attrs {
			e.entry.Attr = c.stamp()
		}
		e.entry.Dot = c.dot()
		edits = append(edits, manifest.Edit{Name: e.as, Entry: &e.entry})
	}
	ref, below, err := manifest.EditDir(ctx, f.o.Store, fd.old, edits)
	fd.ref, fd.below = ref, below
	return err
}

// recoveredEdit writes the directory of recovered entries, which nobody made: it has no
// causality, and is not there when it is empty.
func recoveredEdit(e *frozenEdit) manifest.Edit {
	if e.entry.Node.IsZero() {
		return manifest.Edit{Name: e.as}
	}
	e.entry.Dot, e.entry.Place, e.entry.Attr = causal.Dot{}, causal.Stamp{}, causal.Stamp{}
	e.entry.From, e.entry.Stored = manifest.NodeID{}, nil
	return manifest.Edit{Name: e.as, Entry: &e.entry}
}

// editOf returns the Edit of a file: one for all its names.
func editOf(n *node, edited map[*node]causal.Dot, c *clock) causal.Dot {
	dot, ok := edited[n]
	if !ok {
		dot = c.dot()
		edited[n] = dot
	}
	return dot
}

// pastOf returns what bytes replaced that replace those of edit.
func pastOf(edit causal.Dot, past []causal.Dot) []causal.Dot {
	if edit.IsZero() {
		return past
	}
	return append([]causal.Dot{edit}, past[:min(len(past), manifest.MaxPast-1)]...)
}

// keep returns the list of kept snapshots with the new state.
func (f *FS) keep(z *frozen, next manifest.Snapshot, now time.Time, c *clock, change func(time.Time, manifest.Kept) error) ([]manifest.Kept, error) {
	kept := slices.Clone(f.kept)
	current := manifest.Kept{
		Dot: c.dot(), Time: now, Device: f.o.Device, Root: next.Root, Files: next.Files, Bytes: next.Bytes,
	}
	if z.at[f.root] != nil || len(kept) == 0 {
		kept = append(kept, current)
	}
	if change != nil {
		saved := f.kept
		f.kept = kept
		err := change(now, current)
		kept, f.kept = f.kept, saved
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(kept, manifest.CompareKept)
	return manifest.Retain(kept, manifest.RetainTime(kept, now), f.o.Rule), nil
}

// thaw is step 3.
func (f *FS) thaw(z *frozen, ref chunk.Ref) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	f.frozen, f.baseRef = nil, ref
	f.dirtyBytes.Add(-z.bytes)
	for n, zf := range z.files {
		n.mu.Lock()
		c := &n.file
		c.base, c.bytes, c.extents = zf.ref, zf.bytes, nil
		l := c.change()
		l.length, l.limit = zf.size, l.low
		l.over.dropUpTo(z.gen)
		if l.length == c.size && l.limit == noLimit && l.over.empty() {
			c.later = nil
		}
		n.mu.Unlock()
	}
	for _, fd := range z.dirs {
		d := fd.n
		f.recent.drop(d)
		d.dir.ref, d.dir.below = fd.ref, fd.below
		again := f.dirty[d]
		for i := range fd.edits {
			e := &fd.edits[i]
			if e.nm != nil {
				f.thawName(e)
			}
			if _, ok := again[e.as]; ok {
				continue
			}
			if e.nm != nil && identity(&e.entry) != e.child.id {
				// The listing alone would make another node of it: the name stays.
				d.set(e.as, e.nm)
				continue
			}
			delete(d.dir.over, e.as)
		}
		d.dir.overSorted = nil
		if len(d.dir.over) == 0 {
			d.dir.over = nil
		}
	}
}

// thawName takes over what the commit gave to an entry.
func (f *FS) thawName(e *frozenEdit) {
	if e.moved && !e.nm.moved {
		e.nm.place = e.entry.Place
	}
	e.child.mu.Lock()
	defer e.child.mu.Unlock()
	e.child.edit, e.child.attr.stamp = e.entry.Edit, e.entry.Attr
	e.child.setPast(e.entry.Past)
}

// Roots returns what must not be collected though no head names it: what commits under way, files
// without a name and copies that are not committed refer to. It is for use right after a store's gc has
// begun; what is stored from then on is safe anyway.
func (f *FS) Roots() (base chunk.Ref, more []chunk.Ref) {
	f.copyMu.Lock()
	defer f.copyMu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	if f.frozen != nil {
		more = append(more, f.frozen.roots...)
	}
	take := func(n *node) {
		n.mu.RLock()
		defer n.mu.RUnlock()
		if n.kind != vfs.KindFile {
			return
		}
		more = append(more, n.file.base)
		n.file.over().each(0, noLimit, func(p piece) bool {
			if p.from == inChunk {
				more = append(more, *p.ref)
			}
			return true
		})
	}
	for n := range f.orphans {
		take(n)
	}
	for _, edits := range f.dirty {
		for nm := range maps.Values(edits) {
			if nm != nil {
				take(nm.bears)
			}
		}
	}
	return f.baseRef, more
}
