package live

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

func (f *FS) newID() (id manifest.NodeID, err error) {
	for err == nil && (id == manifest.RootID || id == manifest.RecoveredID) {
		_, err = io.ReadFull(f.o.Entropy, id[:])
	}
	if err != nil {
		return id, fmt.Errorf("draw ID: %w", err)
	}
	return id, nil
}

// change writes a record about names into the journal. The nodes that it speaks of are bound first.
// f.mu is held for writing.
func (f *FS) change(t journal.Type, c *change, about ...*node) (journal.LSN, error) {
	var recs []journal.Record
	var told []*node
	for _, n := range about {
		var more []*node
		recs, more = f.bind(recs, n)
		told = append(told, more...)
	}
	lsn, err := f.log(append(recs, c.record(t)), nil)
	if err != nil {
		return 0, err
	}
	f.setBound(told)
	for _, n := range about {
		touched(n, lsn)
	}
	return lsn, nil
}

// create makes a node. With open not nil, it is opened so before anybody can remove it.
func (f *FS) create(ctx context.Context, d *node, as string, what vfs.New, open *vfs.OpenFlag) (*node, error) {
	if err := vfs.CheckName(as); err != nil {
		return nil, err
	}
	if err := vfs.CheckNew(what); err != nil {
		return nil, err
	}
	if err := f.usable(); err != nil {
		return nil, err
	}
	if err := f.throttle(ctx); err != nil {
		return nil, err
	}
	if err := f.admit(ctx, nameCost); err != nil {
		return nil, err
	}
	id, err := f.newID()
	if err != nil {
		return nil, err
	}
	if err := f.lock(ctx, d); err != nil {
		return nil, err
	}
	defer f.unlock()
	if d.dir.dead {
		return nil, missing("create", as)
	}
	if f.child(d, as) != nil {
		return nil, exists("create", as)
	}
	if d.attr.mode&0o2000 != 0 {
		what.GID = d.attr.gid
		if what.Kind == vfs.KindDir {
			what.Mode |= 0o2000
		}
	}
	if what.Kind != vfs.KindChar && what.Kind != vfs.KindBlock {
		what.Rdev = 0
	}
	c := &change{dir: d.id, name: as, id: id, made: what, time: f.o.Now()}
	lsn, err := f.change(recMake, c, d)
	if err != nil {
		return nil, err
	}
	n := f.applyMake(d, c)
	touched(n, lsn)
	n.bound.Store(f.gen.Load())
	if open != nil {
		n.opened(*open)
	}
	return n, nil
}

func (f *FS) applyMake(d *node, c *change) *node {
	n := newNode(c.id, c.made.Kind)
	n.rdev = c.made.Rdev
	n.attr = attributes{
		mode: c.made.Mode & vfs.ModeMask, uid: c.made.UID, gid: c.made.GID,
		moments: allAt(c.time),
	}
	if c.made.Kind == vfs.KindLink {
		n.rare = &rare{target: strings.Clone(c.made.Target)}
	}
	if n.kind == vfs.KindDir {
		n.dir.list = emptyListing
	}
	nm := &name{parent: d, bears: n, name: strings.Clone(c.name), id: c.id, moved: true}
	n.names = []*name{nm}
	f.adopt(n)
	d.set(nm.name, nm)
	f.namesChanged(d, c.time)
	f.mark(n)
	f.files.Add(1)
	return n
}

// namesChanged sets the times of a directory whose names changed. f.mu is held for writing.
func (f *FS) namesChanged(d *node, now time.Time) {
	d.attr.set(mtime, now)
	d.attr.set(ctime, now)
	f.mark(d)
}

func (f *FS) link(ctx context.Context, d *node, as string, n *node) error {
	if err := vfs.CheckName(as); err != nil {
		return err
	}
	if err := f.usable(); err != nil {
		return err
	}
	if n.kind == vfs.KindDir {
		return &fs.PathError{Op: "link", Path: as, Err: fs.ErrPermission}
	}
	entry, err := f.newID()
	if err != nil {
		return err
	}
	if err := f.lock(ctx, d); err != nil {
		return err
	}
	defer f.unlock()
	if d.dir.dead || len(n.names) == 0 {
		return missing("link", as)
	}
	if f.child(d, as) != nil {
		return exists("link", as)
	}
	c := &change{id: n.id, dir: d.id, name: as, entry: entry, time: f.o.Now()}
	if _, err := f.change(recLink, c, d, n); err != nil {
		return err
	}
	f.applyLink(d, n, c)
	return nil
}

func (f *FS) applyLink(d, n *node, c *change) {
	nm := &name{parent: d, bears: n, name: strings.Clone(c.name), id: c.entry, moved: true, linked: true}
	for _, other := range n.names {
		other.linked = true
	}
	n.names = append(n.names, nm)
	n.attr.set(ctime, c.time)
	f.linked[n.id] = n
	d.set(nm.name, nm)
	f.namesChanged(d, c.time)
	f.remark(n)
	f.files.Add(1)
}

// remark marks n also if it is marked already, for its names changed.
func (f *FS) remark(n *node) {
	n.marked.Store(0)
	f.mark(n)
}

func (f *FS) remove(ctx context.Context, d *node, as string, dir bool) error {
	if err := vfs.CheckName(as); err != nil {
		return err
	}
	if err := f.usable(); err != nil {
		return err
	}
	n, err := f.lockChild(ctx, d, as)
	if err != nil {
		return err
	}
	defer f.unlock()
	switch {
	case n == nil:
		return missing("remove", as)
	case !f.isExpected(ctx, d, as, n):
		return &fs.PathError{Op: "remove", Path: as, Err: vfs.ErrStale}
	case dir && n.kind != vfs.KindDir:
		return &fs.PathError{Op: "remove", Path: as, Err: vfs.ErrNotDir}
	case !dir && n.kind == vfs.KindDir:
		return &fs.PathError{Op: "remove", Path: as, Err: vfs.ErrIsDir}
	case dir && !n.empty():
		return &fs.PathError{Op: "remove", Path: as, Err: vfs.ErrNotEmpty}
	}
	c := &change{dir: d.id, name: as, time: f.o.Now()}
	lsn, err := f.change(recRemove, c, d)
	if err != nil {
		return err
	}
	touched(n, lsn)
	f.applyRemove(d, as, c.time)
	return nil
}

// isExpected reports whether nobody expects another node as that child of d.
func (f *FS) isExpected(ctx context.Context, d *node, as string, n *node) bool {
	for _, e := range vfs.ExpectedIn(ctx) {
		if e.Name != as {
			continue
		}
		if dir, ok := f.own(e.Dir); !ok || dir != d {
			continue
		}
		if want, ok := f.own(e.Node); !ok || want != n {
			return false
		}
	}
	return true
}

// lockChild takes f.gate and f.mu for writing with the listings of d and, if it is a directory, of
// the child under as loaded, and returns the child or nil.
func (f *FS) lockChild(ctx context.Context, d *node, as string) (*node, error) {
	var sub *node
	for {
		if err := f.lock(ctx, d, sub); err != nil {
			return nil, err
		}
		n := f.child(d, as)
		if n == nil || n.kind != vfs.KindDir || n.dir.list != nil {
			return n, nil
		}
		f.unlock()
		sub = n
	}
}

func (f *FS) applyRemove(d *node, as string, now time.Time) {
	n, nm := f.childName(d, as)
	d.set(as, nil)
	f.unname(n, nm, now)
	f.dirtyMu.Lock()
	f.markName(d, as, nil)
	f.dirtyMu.Unlock()
	f.namesChanged(d, now)
}

// unname takes one name from n. f.mu is held for writing.
func (f *FS) unname(n *node, nm *name, now time.Time) {
	n.names = slices.DeleteFunc(n.names, func(o *name) bool { return o == nm })
	n.attr.set(ctime, now)
	f.files.Add(-1)
	if len(n.names) > 0 {
		f.single(n)
		f.remark(n)
		return
	}
	if n.kind != vfs.KindDir {
		f.bytes.Add(-n.file.size)
	}
	f.gone(n)
}

// single lets go of a node that had several names and has one: what a listing says of it is enough to make it again. f.mu is held for writing.
func (f *FS) single(n *node) {
	if len(n.names) == 1 && f.linked[n.id] == n {
		delete(f.linked, n.id)
	}
}

// gone is for a node that has no name any more. f.mu is held for writing.
func (f *FS) gone(n *node) {
	// Its ID may come back, as that of another node: what one device removed and another one changed stays.
	f.tableMu.Lock()
	if f.table.Get(n.id).Value() == n {
		f.table.Delete(n.id)
	}
	f.tableMu.Unlock()
	if n.kind == vfs.KindDir {
		n.dir.dead = true
		return
	}
	if f.linked[n.id] == n {
		delete(f.linked, n.id)
	}
	if n.opens > 0 {
		f.orphans[n] = struct{}{}
	}
}

func (f *FS) rename(ctx context.Context, d *node, as string, d2 *node, as2 string, flag vfs.RenameFlag) error {
	if err := vfs.CheckName(as); err != nil {
		return err
	}
	if err := vfs.CheckName(as2); err != nil {
		return err
	}
	if err := f.usable(); err != nil {
		return err
	}
	if flag > vfs.RenameExchange {
		return &fs.PathError{Op: "rename", Path: as, Err: fs.ErrInvalid}
	}
	n, target, err := f.lockRename(ctx, d, as, d2, as2)
	if err != nil {
		return err
	}
	defer f.unlock()
	if err := checkRename(n, target, d2, as, as2, flag); err != nil {
		return err
	}
	if !f.isExpected(ctx, d, as, n) || flag == vfs.RenameExchange && !f.isExpected(ctx, d2, as2, target) {
		return &fs.PathError{Op: "rename", Path: as, Err: vfs.ErrStale}
	}
	if n == target {
		return nil
	}
	if flag == vfs.RenameExchange && target.kind == vfs.KindDir && within(d, target) {
		return &fs.PathError{Op: "rename", Path: as2, Err: fs.ErrInvalid}
	}
	c := &change{dir: d.id, name: as, dir2: d2.id, name2: as2, flag: uint64(flag), time: f.o.Now()}
	lsn, err := f.change(recRename, c, d, d2)
	if err != nil {
		return err
	}
	touched(n, lsn)
	f.applyRename(d, as, d2, as2, flag, c.time)
	return nil
}

// lockRename takes f.gate and f.mu for writing with all listings loaded that a rename looks at.
func (f *FS) lockRename(ctx context.Context, d *node, as string, d2 *node, as2 string) (n, target *node, err error) {
	var sub *node
	for {
		if err := f.lock(ctx, d, d2, sub); err != nil {
			return nil, nil, err
		}
		n = f.child(d, as)
		target = f.child(d2, as2)
		if target == nil || target.kind != vfs.KindDir || target.dir.list != nil {
			return n, target, nil
		}
		f.unlock()
		sub = target
	}
}

func checkRename(n, target, d2 *node, as, as2 string, flag vfs.RenameFlag) error {
	fail := func(as string, err error) error { return &fs.PathError{Op: "rename", Path: as, Err: err} }
	switch {
	case n == nil:
		return fail(as, fs.ErrNotExist)
	case n.id == manifest.RecoveredID || flag == vfs.RenameExchange && target != nil && target.id == manifest.RecoveredID:
		return fail(as, fs.ErrPermission)
	case d2.dir.dead:
		return fail(as2, fs.ErrNotExist)
	case n.kind == vfs.KindDir && within(d2, n):
		return fail(as2, fs.ErrInvalid)
	case flag == vfs.RenameExchange && target == nil:
		return fail(as2, fs.ErrNotExist)
	case flag == vfs.RenameNoReplace && target != nil:
		return fail(as2, fs.ErrExist)
	case flag != vfs.RenameReplace || target == nil || n == target:
		return nil
	case n.kind == vfs.KindDir && target.kind != vfs.KindDir:
		return fail(as2, vfs.ErrNotDir)
	case n.kind != vfs.KindDir && target.kind == vfs.KindDir:
		return fail(as2, vfs.ErrIsDir)
	case target.kind == vfs.KindDir && !target.empty():
		return fail(as2, vfs.ErrNotEmpty)
	}
	return nil
}

// within reports whether d is top or lies below it. f.mu is held.
func within(d, top *node) bool {
	for d != top {
		if len(d.names) == 0 {
			return false
		}
		d = d.names[0].parent
	}
	return true
}

func (f *FS) applyRename(d *node, as string, d2 *node, as2 string, flag vfs.RenameFlag, now time.Time) {
	n, nm := f.childName(d, as)
	if flag == vfs.RenameExchange {
		other, onm := f.childName(d2, as2)
		f.place(n, nm, d2, as2, now)
		f.place(other, onm, d, as, now)
	} else {
		if old, oldName := f.childName(d2, as2); old != nil {
			f.unname(old, oldName, now)
		}
		d.set(as, nil)
		f.dirtyMu.Lock()
		f.markName(d, as, nil)
		f.dirtyMu.Unlock()
		f.place(n, nm, d2, as2, now)
	}
	f.namesChanged(d, now)
	f.namesChanged(d2, now)
}

// place moves a name of n to as in d. f.mu is held for writing.
func (f *FS) place(n *node, nm *name, d *node, as string, now time.Time) {
	if n.kind == vfs.KindDir && nm.parent != d && !nm.moved {
		nm.from = nm.parent.id
	}
	if nm.conflict {
		// A value that a person gave a place is a file of its own from now on.
		nm.id, nm.apart = mixed(nm.id, n.edit, 0x3c), true
	}
	nm.stored, nm.conflict = nil, false
	nm.parent, nm.name, nm.moved = d, strings.Clone(as), true
	d.set(nm.name, nm)
	n.attr.set(ctime, now)
	f.dirtyMu.Lock()
	f.markName(d, as, nm)
	f.dirtyMu.Unlock()
	f.remark(n)
	if n.kind == vfs.KindDir {
		f.settle(d, now)
	}
}

// settle makes the shown place of the directories above d their own, where a cycle was cut: otherwise
// the next join might undo what was just moved below them.
func (f *FS) settle(d *node, now time.Time) {
	for ; d != f.root && len(d.names) > 0; d = d.names[0].parent {
		nm := d.names[0]
		if nm.stored != nil && nm.stored.Parent != nm.parent.id {
			f.place(d, nm, nm.parent, nm.name, now)
		}
	}
}
