package memfs

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/vfs"
)

// dir is a directory. fs.mu guards it.
type dir struct {
	inode
	parent   *dir // nil for the root, and once it was removed
	gone     bool // it was removed
	children []child
}

// child is one name of a directory. The children are sorted by name.
type child struct {
	name string
	node node
}

// find returns the place of name among the children, and whether it is there.
func (d *dir) find(name string) (int, bool) {
	return slices.BinarySearchFunc(d.children, name, func(c child, name string) int {
		return cmp.Compare(c.name, name)
	})
}

// get returns the child of that name or nil.
func (d *dir) get(name string) node {
	if i, ok := d.find(name); ok {
		return d.children[i].node
	}
	return nil
}

// put gives name to n, whoever had it before.
func (d *dir) put(name string, n node) {
	i, ok := d.find(name)
	if ok {
		d.children[i].node = n
	} else {
		d.children = slices.Insert(d.children, i, child{strings.Clone(name), n})
	}
	if sub, ok := n.(*dir); ok {
		sub.parent = d
	}
}

// drop takes name away from whoever has it.
func (d *dir) drop(name string) {
	if i, ok := d.find(name); ok {
		d.children = slices.Delete(d.children, i, i+1)
	}
}

// within reports whether d is top or lies below it.
func (d *dir) within(top *dir) bool {
	for ; d != nil; d = d.parent {
		if d == top {
			return true
		}
	}
	return false
}

// unname notes that n lost one name. It does not touch the directory.
func unname(n node) {
	b := n.base()
	b.attr.CTime = b.fs.now()
	if d, ok := n.(*dir); ok {
		d.gone, d.parent = true, nil
		b.fs.nodes--
		return
	}
	b.attr.Nlink--
	if b.attr.Nlink == 0 {
		b.fs.nodes--
	}
	if f, ok := n.(*file); ok {
		f.account()
	}
}

// Lookup returns the child of that name.
func (d *dir) Lookup(ctx context.Context, name string) (vfs.Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := vfs.CheckName(name); err != nil {
		return nil, err
	}
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	if n := d.get(name); n != nil {
		return n, nil
	}
	return nil, &fs.PathError{Op: "lookup", Path: name, Err: fs.ErrNotExist}
}

// List yields the children as they are when the first is asked for.
func (d *dir) List(ctx context.Context, after string) iter.Seq2[vfs.Entry, error] {
	return func(yield func(vfs.Entry, error) bool) {
		d.fs.mu.Lock()
		i, ok := d.find(after)
		if ok {
			i++
		}
		entries := make([]vfs.Entry, 0, len(d.children)-i)
		for _, c := range d.children[i:] {
			a := c.node.base().attr
			entries = append(entries, vfs.Entry{Name: c.name, Ino: a.Ino, Kind: a.Kind})
		}
		d.fs.mu.Unlock()
		for _, e := range entries {
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

// Create makes a file and opens it.
func (d *dir) Create(ctx context.Context, name string, what vfs.New, flag vfs.OpenFlag) (vfs.File, vfs.Handle, error) {
	if what.Kind != vfs.KindFile {
		return nil, nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrInvalid}
	}
	if err := d.fs.begin(ctx); err != nil {
		return nil, nil, err
	}
	defer d.fs.mu.Unlock()
	n, err := d.make(name, what)
	if err != nil {
		return nil, nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	f := n.(*file)
	return f, f.open(flag), nil
}

// Make makes a node of any kind.
func (d *dir) Make(ctx context.Context, name string, what vfs.New) (vfs.Node, error) {
	if err := d.fs.begin(ctx); err != nil {
		return nil, err
	}
	defer d.fs.mu.Unlock()
	n, err := d.make(name, what)
	if err != nil {
		return nil, &fs.PathError{Op: "make", Path: name, Err: err}
	}
	return n, nil
}

// make makes a node of any kind. The lock is held.
func (d *dir) make(name string, what vfs.New) (node, error) {
	if err := d.free(name); err != nil {
		return nil, err
	}
	if err := vfs.CheckNew(what); err != nil {
		return nil, err
	}
	if d.attr.Mode&0o2000 != 0 {
		what.GID = d.attr.GID
		if what.Kind == vfs.KindDir {
			what.Mode |= 0o2000
		}
	}
	var n node
	i := d.fs.newInode(what)
	switch what.Kind {
	case vfs.KindFile:
		f := &file{inode: i, pages: make(map[int64]*[pageSize]byte)}
		f.account()
		n = f
	case vfs.KindDir:
		n = &dir{inode: i}
	case vfs.KindLink:
		i.attr.Size = int64(len(what.Target))
		n = &link{inode: i, target: strings.Clone(what.Target)}
	default:
		n = &special{inode: i}
	}
	d.put(name, n)
	d.touch()
	return n, nil
}

// free returns nil if name can be given to something new.
func (d *dir) free(name string) error {
	if err := vfs.CheckName(name); err != nil {
		return err
	}
	if d.gone {
		return fs.ErrNotExist
	}
	if d.get(name) != nil {
		return fs.ErrExist
	}
	return nil
}

// Link gives n one more name.
func (d *dir) Link(ctx context.Context, name string, n vfs.Node) error {
	if err := d.fs.begin(ctx); err != nil {
		return err
	}
	defer d.fs.mu.Unlock()
	if err := d.link(name, n); err != nil {
		return &fs.PathError{Op: "link", Path: name, Err: err}
	}
	return nil
}

func (d *dir) link(name string, n vfs.Node) error {
	own, ok := n.(node)
	if !ok || own.base().fs != d.fs {
		return vfs.ErrCrossTree
	}
	if err := d.free(name); err != nil {
		return err
	}
	if _, ok := own.(*dir); ok {
		return fs.ErrPermission
	}
	b := own.base()
	switch b.attr.Nlink {
	case 0:
		return fs.ErrNotExist
	case 1<<32 - 1:
		return vfs.ErrTooMany
	}
	b.attr.Nlink++
	b.attr.CTime = d.fs.now()
	d.put(name, own)
	d.touch()
	return nil
}

// Remove removes the child.
func (d *dir) Remove(ctx context.Context, name string, isDir bool) error {
	if err := d.fs.begin(ctx); err != nil {
		return err
	}
	defer d.fs.mu.Unlock()
	if err := d.remove(name, isDir); err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

func (d *dir) remove(name string, isDir bool) error {
	if err := vfs.CheckName(name); err != nil {
		return err
	}
	n := d.get(name)
	if n == nil {
		return fs.ErrNotExist
	}
	sub, ok := n.(*dir)
	switch {
	case ok && !isDir:
		return vfs.ErrIsDir
	case !ok && isDir:
		return vfs.ErrNotDir
	case ok && len(sub.children) > 0:
		return vfs.ErrNotEmpty
	}
	d.drop(name)
	unname(n)
	d.touch()
	return nil
}

// Rename moves the child.
func (d *dir) Rename(ctx context.Context, name string, newDir vfs.Dir, newName string, flag vfs.RenameFlag) error {
	if err := d.fs.begin(ctx); err != nil {
		return err
	}
	defer d.fs.mu.Unlock()
	if err := d.rename(name, newDir, newName, flag); err != nil {
		return fmt.Errorf("rename %q to %q: %w", name, newName, err)
	}
	return nil
}

func (d *dir) rename(name string, newDir vfs.Dir, newName string, flag vfs.RenameFlag) error {
	to, ok := newDir.(*dir)
	if !ok || to.fs != d.fs {
		return vfs.ErrCrossTree
	}
	if err := vfs.CheckName(name); err != nil {
		return err
	}
	if err := vfs.CheckName(newName); err != nil {
		return err
	}
	src, dst := d.get(name), to.get(newName)
	if src == nil || to.gone {
		return fs.ErrNotExist
	}
	switch {
	case flag > vfs.RenameExchange:
		return fs.ErrInvalid
	case flag == vfs.RenameNoReplace && dst != nil:
		return fs.ErrExist
	case flag == vfs.RenameExchange && dst == nil:
		return fs.ErrNotExist
	case src == dst:
		return nil
	}
	srcDir, srcIsDir := src.(*dir)
	dstDir, dstIsDir := dst.(*dir)
	if srcIsDir && to.within(srcDir) {
		return fs.ErrInvalid
	}
	if flag == vfs.RenameExchange {
		if dstIsDir && d.within(dstDir) {
			return fs.ErrInvalid
		}
		d.put(name, dst)
		to.put(newName, src)
		dst.base().attr.CTime = d.fs.now()
		d.moved(src, to)
		return nil
	}
	switch {
	case dst == nil:
	case dstIsDir && !srcIsDir:
		return vfs.ErrIsDir
	case srcIsDir && !dstIsDir:
		return vfs.ErrNotDir
	case dstIsDir && len(dstDir.children) > 0:
		return vfs.ErrNotEmpty
	}
	d.drop(name)
	to.put(newName, src)
	if dst != nil {
		unname(dst)
	}
	d.moved(src, to)
	return nil
}

// moved sets the times of a rename from d to to.
func (d *dir) moved(src node, to *dir) {
	src.base().attr.CTime = d.fs.now()
	d.touch()
	to.touch()
}
