//go:build linux || darwin

package fuse

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// A file is an open file of the kernel.
type file struct {
	h     vfs.Handle
	n     *inode
	write bool        // it may write
	wrote atomic.Bool // it did

	// Of a tree that never changes; its still guards them.
	users int  // requests that are under way
	left  bool // it is in the still no more
}

// openFlag returns how the tree is to open a file that a program opens with the
// flags of open(2). With the write-back cache, the kernel reads the pages that
// a program writes in part through whatever handle it has; and it appends by itself.
func (s *server) openFlag(flags uint32) vfs.OpenFlag {
	var f vfs.OpenFlag
	switch flags & syscall.O_ACCMODE {
	case syscall.O_WRONLY:
		f = vfs.OpenWrite
		if s.writeback {
			f |= vfs.OpenRead
		}
	case syscall.O_RDWR:
		f = vfs.OpenRead | vfs.OpenWrite
	default:
		f = vfs.OpenRead
	}
	if flags&syscall.O_TRUNC != 0 {
		f |= vfs.OpenTrunc
	}
	return f
}

// opened gives an open handle a number.
func (s *server) opened(out *gofuse.OpenOut, n *inode, h vfs.Handle, flag vfs.OpenFlag) {
	f := &file{h: h, n: n, write: flag&vfs.OpenWrite != 0}
	if f.write {
		n.writers.Add(1)
	}
	f.wrote.Store(flag&vfs.OpenTrunc != 0)
	out.Fh = s.files.put(f)
	// While the notice of a change behind the mount is on its way the file is read anew: a write into a page that the
	// kernel kept would bring the page's old bytes back, and who reads them would remove what was never seen.
	if u, ok := s.fsys.(vfs.Unhearing); !ok || !u.Unheard(n.node) {
		out.OpenFlags = gofuse.FOPEN_KEEP_CACHE
	}
}

// Create makes a file and opens it. A file that is there by now, behind the kernel's
// back, is opened instead, unless O_EXCL forbids it.
func (s *server) Create(cancel <-chan struct{}, in *gofuse.CreateIn, name string, out *gofuse.CreateOut) gofuse.Status {
	n, d, st := s.dir(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	ctx := opContext(cancel)
	what := vfs.New{Kind: vfs.KindFile, Mode: vfs.Mode(in.Mode) & vfs.ModeMask, UID: in.Uid, GID: in.Gid}
	heir, err := s.inherit(ctx, n, &what, in.Umask)
	if err != nil {
		return s.status("create", err)
	}
	flag := s.openFlag(in.Flags)
	node, h, err := d.Create(ctx, name, what, flag)
	switch {
	case err == nil:
		if err := heir.apply(context.Background(), node); err != nil {
			return s.status("create", errors.Join(err, h.Close(context.Background()), d.Remove(context.Background(), name, false)))
		}
	case isExist(err) && in.Flags&syscall.O_EXCL == 0:
		node, h, err = s.openThere(ctx, d, name, flag)
		if err != nil {
			return s.status("create", err)
		}
	default:
		return s.status("create", err)
	}
	a, err := node.Attr(context.Background())
	if err != nil {
		return s.status("create", errors.Join(err, h.Close(context.Background())))
	}
	made := s.entry(&out.EntryOut, node, &a, n, name)
	n.forget()
	s.opened(&out.OpenOut, made, h, flag)
	out.SetAttrTimeout(made.attrValidity())
	return gofuse.OK
}

// openThere opens the file of that name.
func (s *server) openThere(ctx context.Context, d vfs.Dir, name string, flag vfs.OpenFlag) (vfs.File, vfs.Handle, error) {
	node, err := d.Lookup(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	f, ok := node.(vfs.File)
	if !ok {
		return nil, nil, vfs.ErrIsDir
	}
	h, err := f.Open(ctx, flag)
	return f, h, err
}

// Open opens a file, but for a tree that never changes, which has no such request.
func (s *server) Open(cancel <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	if s.still != nil {
		return gofuse.ENOSYS
	}
	n, st := s.node(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	f, ok := n.node.(vfs.File)
	if !ok {
		return gofuse.EISDIR
	}
	ctx := opContext(cancel)
	flag := s.openFlag(in.Flags)
	if flag&vfs.OpenTrunc != 0 {
		if err := s.written(ctx, n, in.Mode&gofuse.OPEN_KILL_SUIDGID != 0); err != nil {
			return s.status("open", err)
		}
	}
	h, err := f.Open(ctx, flag)
	if err != nil {
		return s.status("open", err)
	}
	s.opened(out, n, h, flag)
	return gofuse.OK
}

// readData is what a READ returns: a part of the reply buffer. It goes back to the pool.
type readData struct{ b []byte }

var readDataPool = sync.Pool{New: func() any { return new(readData) }}

func (r *readData) Bytes([]byte) ([]byte, gofuse.Status) { return r.b, gofuse.OK }
func (r *readData) Size() int                            { return len(r.b) }

func (r *readData) Done() {
	r.b = nil
	readDataPool.Put(r)
}

// Read reads into the reply.
func (s *server) Read(cancel <-chan struct{}, in *gofuse.ReadIn, buf []byte) (gofuse.ReadResult, gofuse.Status) {
	f, st := s.use(opContext(cancel), in.Fh, in.NodeId)
	if st != gofuse.OK {
		return nil, st
	}
	defer s.done(f)
	k, err := f.h.ReadAt(opContext(cancel), buf, int64(in.Offset))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, s.status("read", err)
	}
	f.n.forget() // the kernel does not believe its time of access any more
	r := readDataPool.Get().(*readData)
	r.b = buf[:k]
	return r, gofuse.OK
}

// Writev writes from the request. What it wrote before an error counts.
func (s *server) Writev(cancel <-chan struct{}, in *gofuse.WriteIn, data [][]byte) (uint32, gofuse.Status) {
	f := s.files.get(in.Fh)
	if f == nil {
		return 0, gofuse.EBADF
	}
	ctx := opContext(cancel)
	if err := s.written(ctx, f.n, in.WriteFlags&gofuse.WRITE_KILL_SUIDGID != 0); err != nil {
		return 0, s.status("write", err)
	}
	f.wrote.Store(true)
	off := int64(in.Offset)
	for _, b := range data {
		k, err := f.h.WriteAt(ctx, b, off)
		off += int64(k)
		if err == nil {
			continue
		}
		if done := uint32(off - int64(in.Offset)); done > 0 {
			return done, gofuse.OK
		}
		return 0, s.status("write", err)
	}
	return uint32(off - int64(in.Offset)), gofuse.OK
}

// Flush is declined, once and for all: by then the kernel has written what it
// gathered and knows what failed, and there is nothing else to do at a close(2).
func (s *server) Flush(<-chan struct{}, *gofuse.FlushIn) gofuse.Status { return gofuse.ENOSYS }

// Release closes an open file, after its last close(2) and munmap(2).
func (s *server) Release(_ <-chan struct{}, in *gofuse.ReleaseIn) {
	if f := s.files.drop(in.Fh); f != nil {
		s.close(f)
	}
}

// close gives a file back. Nobody is there any more to be told an error.
func (s *server) close(f *file) {
	s.status("close", f.h.Close(context.Background()))
	if !f.write {
		return
	}
	f.n.forget()
	f.n.writers.Add(-1)
	if f.wrote.Load() && s.nodes.isStale(f.n) {
		// Whoever opened the file under its newer number has not seen these writes.
		s.dropLater(f.n.node)
	}
}

// Fsync returns when the file is durable on this machine.
func (s *server) Fsync(cancel <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	if s.still != nil {
		return gofuse.OK
	}
	f := s.files.get(in.Fh)
	if f == nil {
		return gofuse.EBADF
	}
	if err := f.h.Sync(opContext(cancel)); err != nil {
		return s.status("fsync", err)
	}
	if s.writeback && f.write {
		s.dropAttr(f.n) // the kernel does not count blocks; now that all are here it may ask
	}
	return gofuse.OK
}

// The flags of fallocate(2).
const (
	fallocKeepSize  = 0x01
	fallocPunchHole = 0x02
	fallocZeroRange = 0x10
)

// allocMode returns the AllocMode for the flags of fallocate(2).
func allocMode(flags uint32) (vfs.AllocMode, bool) {
	switch flags {
	case 0:
		return vfs.AllocReserve, true
	case fallocKeepSize:
		return vfs.AllocKeepSize, true
	case fallocPunchHole | fallocKeepSize:
		return vfs.AllocPunch, true
	case fallocZeroRange:
		return vfs.AllocZero, true
	case fallocZeroRange | fallocKeepSize:
		return vfs.AllocZeroKeep, true
	default:
		return 0, false
	}
}

// Fallocate reserves, zeroes or punches a range.
func (s *server) Fallocate(cancel <-chan struct{}, in *gofuse.FallocateIn) gofuse.Status {
	f := s.files.get(in.Fh)
	if f == nil {
		return gofuse.EBADF
	}
	mode, ok := allocMode(in.Mode)
	if !ok {
		return gofuse.Status(syscall.EOPNOTSUPP)
	}
	ctx := opContext(cancel)
	if err := s.writtenBy(ctx, f.n, in.Caller); err != nil {
		return s.status("fallocate", err)
	}
	f.wrote.Store(true)
	return s.status("fallocate", f.h.Allocate(ctx, mode, int64(in.Offset), int64(in.Length)))
}

// The whences of lseek(2) that reach a file system.
const (
	seekData = 3
	seekHole = 4
)

// Lseek finds data or a hole. The kernel does not write its gathered or mapped pages before it
// asks, so the tree would take them for a hole; they are called in first.
func (s *server) Lseek(cancel <-chan struct{}, in *gofuse.LseekIn, out *gofuse.LseekOut) gofuse.Status {
	f, st := s.use(opContext(cancel), in.Fh, in.NodeId)
	if st != gofuse.OK {
		return st
	}
	defer s.done(f)
	var whence vfs.Whence
	switch in.Whence {
	case seekData:
		whence = vfs.SeekData
	case seekHole:
		whence = vfs.SeekHole
	default:
		return gofuse.EINVAL
	}
	if int64(in.Offset) < 0 {
		return gofuse.Status(syscall.ENXIO) // as Linux answers it, where other calls would say EINVAL
	}
	if f.n.writers.Load() > 0 {
		// This thread waits in the kernel while others of this server take the
		// writes; none of them waits for an lseek.
		if st := s.kernel.InodeNotify(f.n.id, 0, 0); st != gofuse.OK && st != gofuse.ENOENT {
			return gofuse.EIO
		}
	}
	off, err := f.h.Seek(opContext(cancel), int64(in.Offset), whence)
	if err != nil {
		return s.status("lseek", err)
	}
	out.Offset = uint64(off)
	return gofuse.OK
}

// maxCopy bounds one copy, so that its length fits the reply and an interrupt is
// not kept waiting for long.
const maxCopy = 1 << 30

// CopyFileRange copies within the tree, sharing what is stored where it can.
func (s *server) CopyFileRange(cancel <-chan struct{}, in *gofuse.CopyFileRangeIn) (uint32, gofuse.Status) {
	src, dst := s.files.get(in.FhIn), s.files.get(in.FhOut)
	if src == nil || dst == nil {
		return 0, gofuse.EBADF
	}
	if in.Flags != 0 {
		return 0, gofuse.EINVAL
	}
	ctx := opContext(cancel)
	if err := s.writtenBy(ctx, dst.n, in.Caller); err != nil {
		return 0, s.status("copy_file_range", err)
	}
	dst.wrote.Store(true)
	k, err := src.h.CopyTo(ctx, int64(in.OffIn), dst.h, int64(in.OffOut), int64(min(in.Len, maxCopy)))
	if err != nil && k == 0 {
		return 0, s.status("copy_file_range", err)
	}
	return uint32(k), gofuse.OK
}
