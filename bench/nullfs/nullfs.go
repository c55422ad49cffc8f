// Package nullfs is a vfs.FS that keeps names and lengths and throws all content
// away: what is mounted with it shows the cost of the kernel and the door alone. It is no
// tree to store anything in.
package nullfs

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// An FS is a tree without content. Extended attributes, links and renames are not
// supported; a second owner or mode is not kept.
type FS struct {
	mu   sync.RWMutex // guards all directories
	root *dir
	last atomic.Uint64
	uid  uint32
	gid  uint32
}

// New returns an empty FS whose files belong to that user and group.
func New(uid, gid uint32) *FS {
	f := &FS{uid: uid, gid: gid}
	f.root = &dir{node: f.node(vfs.KindDir, 0o755), children: map[string]vfs.Node{}}
	return f
}

func (f *FS) node(k vfs.Kind, m vfs.Mode) node {
	return node{fs: f, ino: f.last.Add(1), kind: k, mode: m, made: time.Now()}
}

// Root returns the root directory.
func (f *FS) Root(context.Context) (vfs.Dir, error) { return f.root, nil }

// Usage reports a terabyte that never fills.
func (f *FS) Usage(context.Context) (vfs.Usage, error) {
	return vfs.Usage{Bytes: 1 << 40, BytesFree: 1 << 40, Files: 1 << 32, FilesFree: 1 << 32}, nil
}

// Sync does nothing.
func (f *FS) Sync(context.Context) error { return nil }

// Changes yields nothing.
func (f *FS) Changes(ctx context.Context) iter.Seq[vfs.Change] {
	return func(func(vfs.Change) bool) { <-ctx.Done() }
}

// node is what files and directories have in common. Of its attributes only the
// length of a file is kept.
type node struct {
	fs   *FS
	ino  uint64
	kind vfs.Kind
	mode vfs.Mode
	made time.Time
	size atomic.Int64
}

func (n *node) Attr(context.Context) (vfs.Attr, error) {
	size := n.size.Load()
	return vfs.Attr{
		Ino: n.ino, Kind: n.kind, Mode: n.mode, Nlink: 1, UID: n.fs.uid, GID: n.fs.gid, Size: size, Bytes: size,
		ATime: n.made, MTime: n.made, CTime: n.made, BTime: n.made,
	}, nil
}

func (n *node) SetAttr(ctx context.Context, c vfs.AttrChange) (vfs.Attr, error) {
	if c.Set&vfs.SetSize != 0 {
		n.size.Store(c.Size)
	}
	return n.Attr(ctx)
}

func (n *node) Xattr(context.Context, string) ([]byte, error) { return nil, vfs.ErrNoXattr }

func (n *node) SetXattr(context.Context, string, []byte, vfs.XattrFlag) error {
	return vfs.ErrNoSpace
}
func (n *node) ListXattr(context.Context) ([]string, error) { return nil, nil }
func (n *node) RemoveXattr(context.Context, string) error   { return vfs.ErrNoXattr }
func (n *node) Sync(context.Context) error                  { return nil }

// dir is a directory. fs.mu guards children.
type dir struct {
	node
	children map[string]vfs.Node
}

// file is a file.
type file struct{ node }

func (f *file) Open(_ context.Context, flag vfs.OpenFlag) (vfs.Handle, error) {
	if flag&vfs.OpenTrunc != 0 {
		f.size.Store(0)
	}
	return (*handle)(&f.node), nil
}

func (d *dir) Lookup(_ context.Context, name string) (vfs.Node, error) {
	d.fs.mu.RLock()
	defer d.fs.mu.RUnlock()
	if n, ok := d.children[name]; ok {
		return n, nil
	}
	return nil, fs.ErrNotExist
}

func (d *dir) List(_ context.Context, after string) iter.Seq2[vfs.Entry, error] {
	return func(yield func(vfs.Entry, error) bool) {
		d.fs.mu.RLock()
		var all []vfs.Entry
		for name, n := range d.children {
			if name > after {
				a, _ := n.Attr(context.Background())
				all = append(all, vfs.Entry{Name: name, Ino: a.Ino, Kind: a.Kind})
			}
		}
		d.fs.mu.RUnlock()
		slices.SortFunc(all, func(a, b vfs.Entry) int {
			if a.Name < b.Name {
				return -1
			}
			return 1
		})
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (d *dir) Create(ctx context.Context, name string, what vfs.New, _ vfs.OpenFlag) (vfs.File, vfs.Handle, error) {
	n, err := d.Make(ctx, name, what)
	if err != nil {
		return nil, nil, err
	}
	f := n.(*file)
	return f, (*handle)(&f.node), nil
}

func (d *dir) Make(_ context.Context, name string, what vfs.New) (vfs.Node, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	if _, ok := d.children[name]; ok {
		return nil, fs.ErrExist
	}
	var n vfs.Node
	switch what.Kind {
	case vfs.KindDir:
		n = &dir{node: d.fs.node(what.Kind, what.Mode), children: map[string]vfs.Node{}}
	case vfs.KindFile:
		n = &file{node: d.fs.node(what.Kind, what.Mode)}
	default:
		return nil, fs.ErrInvalid
	}
	d.children[name] = n
	return n, nil
}

func (d *dir) Link(context.Context, string, vfs.Node) error { return fs.ErrPermission }

func (d *dir) Remove(_ context.Context, name string, isDir bool) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n, ok := d.children[name]
	if !ok {
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
	delete(d.children, name)
	return nil
}

func (d *dir) Rename(context.Context, string, vfs.Dir, string, vfs.RenameFlag) error {
	return fs.ErrPermission
}

// handle is an open file: writes only move the end, reads give zeros.
type handle node

func (h *handle) grow(end int64) {
	for {
		size := h.size.Load()
		if end <= size || h.size.CompareAndSwap(size, end) {
			return
		}
	}
}

func (h *handle) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(h.size.Load()-off, 0)))
	clear(p[:n])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	h.grow(off + int64(len(p)))
	return len(p), nil
}

func (h *handle) Truncate(_ context.Context, size int64) error {
	h.size.Store(size)
	return nil
}

func (h *handle) Allocate(_ context.Context, mode vfs.AllocMode, off, n int64) error {
	if mode == vfs.AllocReserve || mode == vfs.AllocZero {
		h.grow(off + n)
	}
	return nil
}

func (h *handle) Seek(_ context.Context, off int64, whence vfs.Whence) (int64, error) {
	size := h.size.Load()
	switch {
	case off >= size:
		return 0, vfs.ErrNoData
	case whence == vfs.SeekHole:
		return size, nil
	default:
		return off, nil
	}
}

func (h *handle) CopyTo(ctx context.Context, off int64, dst vfs.Handle, dstOff, n int64) (int64, error) {
	n = min(n, max(h.size.Load()-off, 0))
	to, ok := dst.(*handle)
	if !ok || to.fs != h.fs {
		return 0, vfs.ErrCrossTree
	}
	to.grow(dstOff + n)
	return n, nil
}

func (h *handle) Sync(context.Context) error  { return nil }
func (h *handle) Close(context.Context) error { return nil }
