package powerloss

import (
	"context"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// view is a node as the kernel asks for it.
type view struct {
	fs.Inode
	s *state
	n *node
}

var _ interface {
	fs.NodeLookuper
	fs.NodeGetattrer
	fs.NodeSetattrer
	fs.NodeCreater
	fs.NodeMkdirer
	fs.NodeSymlinker
	fs.NodeReadlinker
	fs.NodeLinker
	fs.NodeUnlinker
	fs.NodeRmdirer
	fs.NodeRenamer
	fs.NodeReaddirer
	fs.NodeOpener
	fs.NodeReader
	fs.NodeWriter
	fs.NodeFsyncer
	fs.NodeAllocater
	fs.NodeStatfser
} = (*view)(nil)

// serve mounts the file system. Nobody but the kernel changes it, which may so remember all that it is told.
func serve(dir string, s *state) (*fuse.Server, error) {
	ever := time.Hour
	return fs.Mount(dir, &view{s: s, n: s.root}, &fs.Options{
		EntryTimeout: &ever, AttrTimeout: &ever,
		MountOptions: fuse.MountOptions{FsName: "powerloss", Name: "powerloss", MaxWrite: 1 << 20, DirectMount: true},
	})
}

func (v *view) fill(a *fuse.Attr) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	a.Ino, a.Mode, a.Nlink, a.Size = v.n.id, v.n.mode, v.n.names, uint64(len(v.n.data))
	a.Blocks, a.Blksize = (a.Size+511)/512, 4096
	a.SetTimes(&v.n.changed, &v.n.changed, &v.n.changed)
}

func (v *view) child(ctx context.Context, n *node, out *fuse.EntryOut) *fs.Inode {
	c := &view{s: v.s, n: n}
	c.fill(&out.Attr)
	return v.NewInode(ctx, c, fs.StableAttr{Mode: n.mode & syscall.S_IFMT, Ino: n.id})
}

func (v *view) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	v.s.mu.Lock()
	n := v.n.entries[name]
	v.s.mu.Unlock()
	if n == nil {
		return nil, syscall.ENOENT
	}
	return v.child(ctx, n, out), 0
}

func (v *view) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	v.fill(&out.Attr)
	return 0
}

func (v *view) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		if e := v.s.truncate(v.n, int64(size)); e != 0 {
			return e
		}
	}
	if mode, ok := in.GetMode(); ok {
		if e := v.s.chmod(v.n, mode); e != 0 {
			return e
		}
	}
	v.fill(&out.Attr)
	return 0
}

func (v *view) made(ctx context.Context, name string, mode uint32, target string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n, e := v.s.make(v.n, name, mode, target)
	if e != 0 {
		return nil, e
	}
	return v.child(ctx, n, out), 0
}

func (v *view) Create(ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n, e := v.made(ctx, name, syscall.S_IFREG|mode&0o7777, "", out)
	return n, nil, fuse.FOPEN_KEEP_CACHE, e
}

func (v *view) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return v.made(ctx, name, syscall.S_IFDIR|mode&0o7777, "", out)
}

func (v *view) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return v.made(ctx, name, syscall.S_IFLNK|0o777, target, out)
}

func (v *view) Readlink(context.Context) ([]byte, syscall.Errno) { return []byte(v.n.target), 0 }

func (v *view) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n := target.(*view).n
	if e := v.s.link(v.n, name, n); e != 0 {
		return nil, e
	}
	return v.child(ctx, n, out), 0
}

func (v *view) Unlink(_ context.Context, name string) syscall.Errno {
	return v.s.remove(v.n, name, false)
}

func (v *view) Rmdir(_ context.Context, name string) syscall.Errno {
	return v.s.remove(v.n, name, true)
}

func (v *view) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	return v.s.rename(v.n, name, to.(*view).n, newName, flags)
}

func (v *view) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	list := make([]fuse.DirEntry, 0, len(v.n.entries))
	for name, n := range v.n.entries {
		list = append(list, fuse.DirEntry{Name: name, Mode: n.mode & syscall.S_IFMT, Ino: n.id})
	}
	return fs.NewListDirStream(list), 0
}

func (v *view) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (v *view) Read(_ context.Context, _ fs.FileHandle, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	from := min(off, int64(len(v.n.data)))
	to := min(off+int64(len(p)), int64(len(v.n.data)))
	return fuse.ReadResultData(slices.Clone(v.n.data[from:to])), 0
}

func (v *view) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if len(data) == 0 {
		return 0, 0
	}
	if e := v.s.write(v.n, off, data); e != 0 {
		return 0, e
	}
	return uint32(len(data)), 0
}

func (v *view) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return v.s.sync(v.n) }

func (v *view) Allocate(_ context.Context, _ fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	const keepSize, punchHole, zeroRange = 1, 2, 16
	if mode&^(keepSize|punchHole|zeroRange) != 0 {
		return syscall.EOPNOTSUPP
	}
	return v.s.allocate(v.n, int64(off), int64(size), mode&keepSize != 0, mode&(punchHole|zeroRange) != 0)
}

func (v *view) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	*out = fuse.StatfsOut{Blocks: 1 << 28, Bfree: 1 << 27, Bavail: 1 << 27, Files: 1 << 20, Ffree: 1 << 19, Bsize: 4096, Frsize: 4096, NameLen: 255}
	return 0
}
