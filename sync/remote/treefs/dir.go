package treefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/vfs"
)

type (
	dirNode  struct{ *node }
	fileNode struct{ *node }
	linkNode struct{ *node }
	oddNode  struct{ *node }
)

var kinds = map[remote.ItemKind]vfs.Kind{remote.File: vfs.KindFile, remote.Dir: vfs.KindDir, remote.Symlink: vfs.KindLink, remote.Other: vfs.KindFIFO}

// Attr implements vfs.Node. It is what the place told last: who looks the name up again is told anew after Options.Age.
func (n *node) Attr(ctx context.Context) (vfs.Attr, error) {
	if err := ctx.Err(); err != nil {
		return vfs.Attr{}, err
	}
	return n.attr(), nil
}

func (n *node) attr() vfs.Attr {
	size, written := n.work.size()
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	it := n.item
	a := vfs.Attr{Ino: n.ino, Kind: kinds[it.Kind], Nlink: 1, UID: n.f.o.UID, GID: n.f.o.GID, Size: it.Size, MTime: it.MTime}
	if !written.IsZero() {
		a.Size, a.MTime = size, written
	}
	if n.gone && it.Kind != remote.Dir {
		a.Nlink = 0
	}
	switch it.Kind {
	case remote.Dir:
		a.Mode, a.Size = 0o755, 0
	case remote.Symlink:
		a.Mode, a.Size = 0o777, int64(len(it.Target))
	case remote.File, remote.Other:
		a.Mode = 0o644
	}
	if it.Mode != 0 && it.Kind != remote.Symlink {
		a.Mode = vfs.Mode(it.Mode.Perm())
	}
	if n.f.o.ReadOnly {
		a.Mode &^= 0o222
	}
	if a.MTime.IsZero() {
		a.MTime = n.seen
	}
	a.Bytes = a.Size
	a.ATime, a.CTime, a.BTime = a.MTime, a.MTime, a.MTime
	return a
}

// SetAttr implements vfs.Node. An owner cannot be changed, and a mode or a time only where the place keeps such.
func (n *node) SetAttr(ctx context.Context, c vfs.AttrChange) (vfs.Attr, error) {
	if err := n.may(ctx); err != nil {
		return vfs.Attr{}, err
	}
	if c.Set&vfs.SetUID != 0 && c.UID != n.f.o.UID || c.Set&vfs.SetGID != 0 && c.GID != n.f.o.GID {
		return vfs.Attr{}, fmt.Errorf("the place keeps no owners: %w", fs.ErrPermission)
	}
	if c.Set&vfs.SetSize != 0 {
		if n.kind == remote.Dir {
			return vfs.Attr{}, vfs.ErrIsDir
		}
		if n.kind != remote.File {
			return vfs.Attr{}, fs.ErrInvalid
		}
		if err := n.truncate(ctx, c.Size); err != nil {
			return vfs.Attr{}, err
		}
	}
	if c.Set&(vfs.SetMode|vfs.SetMTime) == 0 {
		return n.attr(), nil
	}
	it := remote.Item{}
	if c.Set&vfs.SetMode != 0 {
		it.Mode = fs.FileMode(c.Mode).Perm()
	}
	if c.Set&vfs.SetMTime != 0 {
		it.MTime = c.MTime
	}
	if n.work.setAttr(it) { // it goes with the bytes
		n.f.mu.Lock()
		if it.Mode != 0 && n.f.can.Modes {
			n.item.Mode = it.Mode
		}
		n.f.mu.Unlock()
		return n.attr(), nil
	}
	return n.touch(ctx, it)
}

func (n *node) touch(ctx context.Context, it remote.Item) (vfs.Attr, error) {
	t, ok := n.f.t.(remote.Toucher)
	if !n.f.can.Modes {
		it.Mode = 0 // as a mount of FAT does
	}
	if it.Mode == 0 && it.MTime.IsZero() || n == n.f.root {
		return n.attr(), nil
	}
	if !ok || !n.f.can.Touch {
		return vfs.Attr{}, fmt.Errorf("the place sets no times: %w", errors.ErrUnsupported)
	}
	path, err := n.where()
	if err != nil {
		return vfs.Attr{}, err
	}
	n.f.mu.Lock()
	known := n.item.Version
	n.f.mu.Unlock()
	it.Path = path
	now, err := t.Touch(ctx, it, known)
	if err != nil {
		n.f.mu.Lock()
		n.seen = time.Time{}
		n.f.mu.Unlock()
		return vfs.Attr{}, failed(err)
	}
	n.f.mu.Lock()
	n.item = now
	n.f.unlist(n.parent)
	n.f.mu.Unlock()
	return n.attr(), nil
}

// may returns an error if nothing can be changed.
func (n *node) may(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if n.f.o.ReadOnly {
		return vfs.ErrReadOnly
	}
	return nil
}

// Xattr implements vfs.Node: there are none.
func (n *node) Xattr(ctx context.Context, _ string) ([]byte, error) {
	return nil, errors.Join(ctx.Err(), vfs.ErrNoXattr)
}

// SetXattr implements vfs.Node.
func (n *node) SetXattr(ctx context.Context, _ string, _ []byte, _ vfs.XattrFlag) error {
	if err := n.may(ctx); err != nil {
		return err
	}
	return fmt.Errorf("the place keeps no extended attributes: %w", errors.ErrUnsupported)
}

// ListXattr implements vfs.Node.
func (n *node) ListXattr(ctx context.Context) ([]string, error) { return nil, ctx.Err() }

// RemoveXattr implements vfs.Node.
func (n *node) RemoveXattr(ctx context.Context, _ string) error {
	if err := n.may(ctx); err != nil {
		return err
	}
	return vfs.ErrNoXattr
}

// Sync implements vfs.Node.
func (n *node) Sync(ctx context.Context) error { return n.flush(ctx) }

// Target implements vfs.Link.
func (l *linkNode) Target(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	return l.item.Target, nil
}

// entries returns the listing of the directory, with what is not put yet.
func (d *dirNode) entries(ctx context.Context) ([]remote.Item, error) {
	f := d.f
	f.mu.Lock()
	if !d.listAt.IsZero() && time.Since(d.listAt) < f.o.Age {
		list := d.merged()
		f.mu.Unlock()
		return list, nil
	}
	gone, path, turn := d.gone, d.path(), d.turn
	f.mu.Unlock()
	if gone {
		return nil, nil
	}
	began := time.Now()
	var list []remote.Item
	for it, err := range f.t.List(ctx, path) {
		if errors.Is(err, fs.ErrNotExist) && !f.can.EmptyDirs {
			break
		}
		if err != nil {
			return nil, failed(err)
		}
		name := it.Path[strings.LastIndexByte(it.Path, '/')+1:]
		if vfs.CheckName(name) == nil {
			list = append(list, it)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.turn != turn { // something was changed meanwhile
		return d.mergedWith(list), nil
	}
	f.unlist(d.node)
	d.list, d.listAt = list, began
	f.kept += len(list)
	f.listed = append(f.listed, d.node)
	for f.kept > f.o.Most && len(f.listed) > 1 {
		f.unlist(f.listed[0])
	}
	return d.merged(), nil
}

// merged returns the listing with what is not put yet. FS.mu is held.
func (d *dirNode) merged() []remote.Item { return d.mergedWith(d.list) }

func (d *dirNode) mergedWith(list []remote.Item) []remote.Item {
	if len(d.held) == 0 {
		return list
	}
	list = slices.Clone(list)
	for name, n := range d.held {
		it := n.item
		it.Path = join(d.path(), name)
		if i, found := slices.BinarySearchFunc(list, it.Path, func(a remote.Item, p string) int { return strings.Compare(a.Path, p) }); !found {
			list = slices.Insert(list, i, it)
		}
	}
	return list
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// find returns the child of that name.
func (d *dirNode) find(ctx context.Context, name string) (*node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := vfs.CheckName(name); err != nil {
		return nil, err
	}
	f := d.f
	f.mu.Lock()
	if n := d.held[name]; n != nil {
		f.mu.Unlock()
		return n, nil
	}
	if n := d.kids[name].Value(); n != nil && !n.gone && (f.dirty[n] || time.Since(n.seen) < f.o.Age) {
		f.mu.Unlock()
		return n, nil
	}
	gone, path, known := d.gone, join(d.path(), name), !d.listAt.IsZero() && time.Since(d.listAt) < f.o.Age
	if known {
		i, found := slices.BinarySearchFunc(d.list, path, func(a remote.Item, p string) int { return strings.Compare(a.Path, p) })
		if found {
			n := d.child(name, d.list[i], d.listAt)
			f.mu.Unlock()
			return n, nil
		}
	}
	f.mu.Unlock()
	if gone {
		return nil, fs.ErrNotExist
	}
	if known && !f.can.Fold && !f.can.Normal {
		return nil, fs.ErrNotExist
	}
	at := time.Now()
	it, err := f.t.Stat(ctx, path)
	if errors.Is(err, remote.ErrIllegal) {
		return nil, fs.ErrNotExist // there is nothing of a name that cannot be
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			f.mu.Lock()
			if n := d.kids[name].Value(); n != nil && d.held[name] == nil && !f.dirty[n] {
				n.gone = true
				delete(d.kids, name)
			}
			f.mu.Unlock()
		}
		return nil, failed(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return d.child(it.Path[strings.LastIndexByte(it.Path, '/')+1:], it, at), nil
}

// Lookup implements vfs.Dir.
func (d *dirNode) Lookup(ctx context.Context, name string) (vfs.Node, error) {
	n, err := d.find(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("lookup %q: %w", name, err)
	}
	return n.as(), nil
}

// List implements vfs.Dir.
func (d *dirNode) List(ctx context.Context, after string) iter.Seq2[vfs.Entry, error] {
	return func(yield func(vfs.Entry, error) bool) {
		at := time.Now().Add(-d.f.o.Age)
		list, err := d.entries(ctx)
		if err != nil {
			yield(vfs.Entry{}, err)
			return
		}
		for _, it := range list {
			name := it.Path[strings.LastIndexByte(it.Path, '/')+1:]
			if name <= after {
				continue
			}
			d.f.mu.Lock()
			n := d.held[name]
			if n == nil {
				n = d.child(name, it, at)
			}
			e := vfs.Entry{Name: name, Ino: n.ino, Kind: kinds[n.kind]}
			d.f.mu.Unlock()
			if err := ctx.Err(); err != nil {
				yield(vfs.Entry{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// free returns nil if the directory can get a child of that name.
func (d *dirNode) free(ctx context.Context, name string) error {
	if err := d.may(ctx); err != nil {
		return err
	}
	if _, err := d.where(); err != nil {
		return err
	}
	_, err := d.find(ctx, name)
	switch {
	case err == nil:
		return fs.ErrExist
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// Create implements vfs.Dir. The file is put when its last writer closes it.
func (d *dirNode) Create(ctx context.Context, name string, what vfs.New, flag vfs.OpenFlag) (vfs.File, vfs.Handle, error) {
	if what.Kind != vfs.KindFile {
		return nil, nil, fmt.Errorf("create %q: %w", name, fs.ErrInvalid)
	}
	n, err := d.make(ctx, name, what)
	if err != nil {
		return nil, nil, fmt.Errorf("create %q: %w", name, err)
	}
	h, err := n.file.Open(ctx, flag&^vfs.OpenTrunc)
	if err != nil {
		return nil, nil, err
	}
	return &n.file, h, nil
}

// make makes a file that is not put yet.
func (d *dirNode) make(ctx context.Context, name string, what vfs.New) (*node, error) {
	d.making.Lock()
	defer d.making.Unlock()
	if err := d.free(ctx, name); err != nil {
		return nil, err
	}
	now := time.Now()
	it := remote.Item{Kind: remote.File, MTime: now}
	if d.f.can.Modes {
		it.Mode = fs.FileMode(what.Mode).Perm()
	}
	f := d.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.held[name] != nil {
		return nil, fs.ErrExist
	}
	it.Path = join(d.path(), name)
	delete(d.kids, name)
	n := d.child(name, it, now)
	n.fresh = true
	if err := n.work.begin(f.o.Spool, now); err != nil {
		delete(d.kids, name)
		return nil, err
	}
	if d.held == nil {
		d.held = map[string]*node{}
	}
	d.held[name] = n
	f.dirty[n] = true
	return n, nil
}

// Make implements vfs.Dir.
func (d *dirNode) Make(ctx context.Context, name string, what vfs.New) (vfs.Node, error) {
	n, err := d.makeAny(ctx, name, what)
	if err != nil {
		return nil, fmt.Errorf("make %q: %w", name, err)
	}
	return n.as(), nil
}

func (d *dirNode) makeAny(ctx context.Context, name string, what vfs.New) (*node, error) {
	if err := vfs.CheckNew(what); err != nil {
		return nil, err
	}
	if what.Kind == vfs.KindFile {
		n, err := d.make(ctx, name, what)
		if err != nil {
			return nil, err
		}
		return n, n.flush(ctx)
	}
	d.making.Lock()
	defer d.making.Unlock()
	if err := d.free(ctx, name); err != nil {
		return nil, err
	}
	dir, err := d.where()
	if err != nil {
		return nil, err
	}
	path := join(dir, name)
	var it remote.Item
	switch what.Kind {
	case vfs.KindDir:
		mode := fs.FileMode(0)
		if d.f.can.Modes {
			mode = fs.FileMode(what.Mode).Perm()
		}
		it, err = d.f.t.Mkdir(ctx, path, mode)
	case vfs.KindLink:
		it, err = d.f.t.Put(ctx, remote.Item{Path: path, Kind: remote.Symlink, Target: what.Target}, nil, "")
	default:
		return nil, fmt.Errorf("neither a file, a directory nor a link: %w", errors.ErrUnsupported)
	}
	if errors.Is(err, remote.ErrChanged) {
		return nil, fmt.Errorf("%w: %w", fs.ErrExist, err)
	}
	if err != nil {
		return nil, failed(err)
	}
	f := d.f
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unlist(d.node)
	n := d.child(name, it, time.Now())
	if what.Kind == vfs.KindDir && !f.can.EmptyDirs { // it is there as long as somebody has it
		n.fresh = true
		if d.held == nil {
			d.held = map[string]*node{}
		}
		d.held[name] = n
	}
	return n, nil
}

// Link implements vfs.Dir: a place has no hard links.
func (d *dirNode) Link(ctx context.Context, name string, _ vfs.Node) error {
	if err := d.may(ctx); err != nil {
		return err
	}
	if err := vfs.CheckName(name); err != nil {
		return err
	}
	return fmt.Errorf("link %q: the place has no hard links: %w", name, fs.ErrPermission)
}

// Remove implements vfs.Dir.
func (d *dirNode) Remove(ctx context.Context, name string, dir bool) error {
	if err := d.remove(ctx, name, dir); err != nil {
		return fmt.Errorf("remove %q: %w", name, err)
	}
	return nil
}

func (d *dirNode) remove(ctx context.Context, name string, dir bool) error {
	if err := d.may(ctx); err != nil {
		return err
	}
	n, err := d.find(ctx, name)
	if err != nil {
		return err
	}
	switch isDir := n.kind == remote.Dir; {
	case dir && !isDir:
		return vfs.ErrNotDir
	case !dir && isDir:
		return vfs.ErrIsDir
	}
	if dir {
		list, err := n.dir.entries(ctx)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			return vfs.ErrNotEmpty
		}
	}
	d.f.mu.Lock()
	path, known, fresh := n.path(), n.item.Version, n.fresh
	d.f.mu.Unlock()
	if !fresh {
		n.work.mu.Lock() // no upload meanwhile
		err := n.keep(ctx)
		if err == nil {
			err = d.f.t.Remove(ctx, path, known)
		}
		n.work.mu.Unlock()
		if errors.Is(err, remote.ErrChanged) && dir {
			return fmt.Errorf("%w: %w", vfs.ErrNotEmpty, err)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return d.again(n, err)
		}
	}
	n.drop()
	return nil
}

// keepMost is how long a file may be that is fetched before it is removed, for somebody has it open.
const keepMost = 64 << 20

// keep fetches a file that is about to go, if somebody has it open. work.mu is held.
func (n *node) keep(ctx context.Context) error {
	if n.kind != remote.File || n.work.opens == 0 || n.work.f != nil || n.attrSize() > keepMost {
		return nil
	}
	return n.fetch(ctx)
}

func (n *node) attrSize() int64 {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	return n.item.Size
}

// again forgets what is known of a node whose place says that it is another one, and returns what it said.
func (d *dirNode) again(n *node, err error) error {
	d.f.mu.Lock()
	defer d.f.mu.Unlock()
	n.seen = time.Time{}
	d.f.unlist(d.node)
	return failed(err)
}

// drop takes the name from a node.
func (n *node) drop() {
	f := n.f
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unlist(n.parent)
	delete(n.parent.kids, n.name)
	delete(n.parent.held, n.name)
	delete(f.dirty, n)
	n.gone = true
}

var (
	_ vfs.Dir  = (*dirNode)(nil)
	_ vfs.File = (*fileNode)(nil)
	_ vfs.Link = (*linkNode)(nil)
	_ vfs.Node = (*oddNode)(nil)
)
