//go:build (windows && !cgo) || (cgofuse && cgo && (linux || darwin))

package winfsp

import (
	"context"
	"errors"
	"io"

	"github.com/winfsp/cgofuse/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// openFlag returns how the tree is to open a file. Whoever cannot read may well write a part of a page of it.
func openFlag(flags int) vfs.OpenFlag {
	var f vfs.OpenFlag
	switch flags & fuse.O_ACCMODE {
	case fuse.O_WRONLY:
		f = vfs.OpenWrite
	case fuse.O_RDWR:
		f = vfs.OpenRead | vfs.OpenWrite
	default:
		f = vfs.OpenRead
	}
	if flags&fuse.O_TRUNC != 0 {
		f |= vfs.OpenTrunc
	}
	return f
}

// opened gives an open handle a number.
func (a *adapter) opened(ctx context.Context, n vfs.Node, h vfs.Handle) (int, uint64) {
	fh, ok := a.opens.put(&open{node: n, h: h})
	if !ok {
		a.code("open", h.Close(ctx))
		return -fuse.EBUSY, none
	}
	return 0, fh
}

// Create makes a file and opens it. A file that is there by now is opened, unless O_EXCL forbids it.
func (a *adapter) Create(path string, flags int, mode uint32) (code int, fh uint64) {
	defer caught(a.log, &code)
	if a.readOnly {
		return -fuse.EROFS, none
	}
	a.hidden.begin("")
	ctx := background()
	p, err := a.place(ctx, path)
	if err != nil {
		return a.code("create", err), none
	}
	if p.node != nil {
		if flags&fuse.O_EXCL != 0 {
			return -fuse.EEXIST, none
		}
		return a.open(ctx, p.node, flags)
	}
	what, err := a.newNode(ctx, p, vfs.KindFile, mode)
	if err != nil {
		return a.code("create", err), none
	}
	n, h, err := p.d.Create(ctx, p.name, what, openFlag(flags))
	if err != nil {
		return a.code("create", err), none
	}
	a.changed(ctx, p, true)
	return a.opened(ctx, n, h)
}

// Open opens a file.
func (a *adapter) Open(path string, flags int) (code int, fh uint64) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	ctx := background()
	n, err := a.node(ctx, path)
	if err != nil {
		return a.code("open", err), none
	}
	return a.open(ctx, n, flags)
}

func (a *adapter) open(ctx context.Context, n vfs.Node, flags int) (int, uint64) {
	f, ok := n.(vfs.File)
	if !ok {
		return -fuse.EISDIR, none
	}
	flag := openFlag(flags)
	if a.readOnly && flag != vfs.OpenRead {
		return -fuse.EROFS, none
	}
	h, err := f.Open(ctx, flag)
	if err != nil {
		return a.code("open", err), none
	}
	return a.opened(ctx, n, h)
}

// handle returns an open file.
func (a *adapter) handle(fh uint64) (vfs.Handle, bool) {
	o := a.opens.get(fh)
	if o == nil || o.h == nil {
		return nil, false
	}
	return o.h, true
}

// Read reads from an open file.
func (a *adapter) Read(_ string, buf []byte, off int64, fh uint64) (n int) {
	defer caught(a.log, &n)
	a.hidden.begin("")
	h, ok := a.handle(fh)
	if !ok {
		return -fuse.EBADF
	}
	k, err := h.ReadAt(background(), buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return a.code("read", err)
	}
	return k
}

// Write writes to an open file. What it wrote before an error counts.
func (a *adapter) Write(_ string, buf []byte, off int64, fh uint64) (n int) {
	defer caught(a.log, &n)
	a.hidden.begin("")
	h, ok := a.handle(fh)
	if !ok {
		return -fuse.EBADF
	}
	k, err := h.WriteAt(background(), buf, off)
	if err != nil && k == 0 {
		return a.code("write", err)
	}
	return k
}

// Flush is called at each close of a program. What was written is in the tree by then.
func (a *adapter) Flush(string, uint64) int { return 0 }

// Release closes a file, after the last close of a program and the last use of a memory map. Nobody is there any more to be told an error.
func (a *adapter) Release(_ string, fh uint64) (code int) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	o := a.opens.drop(fh)
	if o == nil || o.h == nil {
		return -fuse.EBADF
	}
	return a.code("close", o.h.Close(background()))
}

// Fsync returns when a file is durable on this machine.
func (a *adapter) Fsync(_ string, _ bool, fh uint64) (code int) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	h, ok := a.handle(fh)
	if !ok {
		return -fuse.EBADF
	}
	return a.code("fsync", h.Sync(background()))
}
