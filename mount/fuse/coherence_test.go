//go:build linux

package fuse

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

// held is a tree in which a write waits in the middle, while the test does something else.
type held struct {
	vfs.FS
	writing, goOn chan struct{}
}

func (f held) Root(ctx context.Context) (vfs.Dir, error) {
	d, err := f.FS.Root(ctx)
	return heldDir{d, f}, err
}

type heldDir struct {
	vfs.Dir
	f held
}

func (d heldDir) Lookup(ctx context.Context, name string) (vfs.Node, error) {
	n, err := d.Dir.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	return heldFile{n.(vfs.File), d.f}, nil
}

type heldFile struct {
	vfs.File
	f held
}

func (f heldFile) Open(ctx context.Context, flag vfs.OpenFlag) (vfs.Handle, error) {
	h, err := f.File.Open(ctx, flag)
	return heldHandle{h, f.f}, err
}

type heldHandle struct {
	vfs.Handle
	f held
}

func (h heldHandle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	h.f.writing <- struct{}{}
	<-h.f.goOn
	return h.Handle.WriteAt(ctx, p, off)
}

// iocb and ioEvent are those of linux/aio_abi.h on a little-endian machine.
type iocb struct {
	_      [16]byte // data, key, rwFlags
	opcode uint16
	_      int16
	fd     uint32
	buf    *byte
	n      uint64
	_      [24]byte // offset: 0; reserved, flags, resFD
}

type ioEvent struct {
	_   [16]byte // data, obj
	res int64
	_   int64 // res2
}

const iocbPwrite = 1

// aioWrite writes p at the start of a file with io_submit(2), and waits for it.
func aioWrite(fd int, p []byte) error {
	var ctx uintptr
	if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&ctx)), 0); e != 0 {
		return os.NewSyscallError("io_setup", e)
	}
	defer unix.Syscall(unix.SYS_IO_DESTROY, ctx, 0, 0)
	cb := &iocb{opcode: iocbPwrite, fd: uint32(fd), buf: &p[0], n: uint64(len(p))}
	list := []*iocb{cb}
	var event ioEvent
	var pin runtime.Pinner
	pin.Pin(cb)
	pin.Pin(&p[0])
	defer pin.Unpin()
	if _, _, e := unix.Syscall(unix.SYS_IO_SUBMIT, ctx, 1, uintptr(unsafe.Pointer(&list[0]))); e != 0 {
		return os.NewSyscallError("io_submit", e)
	}
	for {
		_, _, e := unix.Syscall6(unix.SYS_IO_GETEVENTS, ctx, 1, 1, uintptr(unsafe.Pointer(&event)), 0, 0)
		switch {
		case e == unix.EINTR:
			continue
		case e != 0:
			return os.NewSyscallError("io_getevents", e)
		case event.res < 0:
			return os.NewSyscallError("asynchronous write", unix.Errno(-event.res))
		}
		return nil
	}
}

// What is read while a direct write is under way may be old, but must not stay in the kernel's memory: once
// the write has ended, everybody reads what it wrote.
func TestDirectWrite_LeavesNothingOldInTheCache(t *testing.T) {
	const n = 64 << 10
	for _, through := range []bool{false, true} {
		for name, write := range map[string]func(fd int, p []byte) error{
			"pwrite": func(fd int, p []byte) error { _, err := unix.Pwrite(fd, p, 0); return err },
			"aio":    aioWrite,
		} {
			mem := newMem(t)
			f := held{mem, make(chan struct{}), make(chan struct{})}
			m := mountHere(t, f, mount.Options{WriteThrough: through})
			path := filepath.Join(m.Dir(), "f")
			root, err := mem.Root(t.Context())
			must(t, err)
			_, h, err := root.Create(t.Context(), "f", vfs.New{Kind: vfs.KindFile, Mode: 0o600}, vfs.OpenWrite)
			must(t, err)
			_, err = h.WriteAt(t.Context(), bytes.Repeat([]byte("a"), n), 0)
			must(t, err)
			must(t, h.Close(t.Context()))

			reader, err := os.Open(path)
			must(t, err)
			got := make([]byte, n)
			_, err = reader.ReadAt(got, 0)
			must(t, err)
			fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT, 0)
			must(t, err)
			page, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			must(t, err)
			copy(page, bytes.Repeat([]byte("b"), n))
			done := make(chan error)
			go func() { done <- write(fd, page) }()
			<-f.writing
			_, err = reader.ReadAt(got, 0) // meanwhile
			must(t, err)
			f.goOn <- struct{}{}
			must(t, <-done)
			_, err = reader.ReadAt(got, 0)
			must(t, err)
			if i := bytes.IndexByte(got, 'a'); i >= 0 {
				t.Errorf("%s, write-through %v: after the write, byte %d is still the old one", name, through, i)
			}
			must(t, unix.Munmap(page))
			must(t, unix.Close(fd))
			must(t, reader.Close())
			must(t, m.Unmount(t.Context()))
		}
	}
}
