//go:build linux || darwin

package fuse

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/mount/errno"
	"github.com/sheaf-drive/sheaf/vfs"
)

// fsType is the type of file system, after "fuse.".
const fsType = "sheaf"

// How long the kernel may keep what it was told.
const (
	// validity is for names and attributes. Changes are told at once; this bounds how
	// long a change stays unseen whose notice overtook an answer on its way.
	validity = 10 * time.Minute
	// growing is for the attributes of a file that is open for writing: how many blocks it
	// takes is known to the tree alone.
	growing = time.Second
	// rootAbsence is for names that are not there in the root directory: when
	// everything may have changed they cannot be listed, while those of any other
	// directory go away with it.
	rootAbsence = time.Second
)

// A server answers the kernel's requests from a tree. Its methods that return a
// Status are those of gofuse.RawFileSystem.
type server struct {
	gofuse.RawFileSystem // answers ENOSYS to what is not here

	fsys  vfs.FS
	log   *slog.Logger
	errs  errno.Translator
	nodes *inodes
	files handles[file]
	dirs  handles[openDir]
	still *still // in place of files, of a tree that never changes
	name  string // file system type, "sheaf"
	acl   bool   // access control lists are kept (Linux)
	born  time.Time
	// changed is when something last changed behind the mount, by clock.
	changed atomic.Int64

	// Set by Init, before the first request.
	kernel    *gofuse.Server
	writeback bool

	later struct { // nodes whose kernel cache is to be dropped, by notifier.run
		sync.Mutex
		nodes []vfs.Node
		wake  chan struct{} // of one place
	}
}

func newServer(ctx context.Context, fsys vfs.FS, log *slog.Logger) (*server, error) {
	root, err := fsys.Root(ctx)
	if err != nil {
		return nil, err
	}
	a, err := root.Attr(ctx)
	if err != nil {
		return nil, err
	}
	s := &server{
		RawFileSystem: gofuse.NewDefaultRawFileSystem(),
		fsys:          fsys,
		log:           log,
		errs:          errno.Translator{Log: log},
		nodes:         newInodes(root, a.Ino),
		name:          fsType,
		born:          time.Now(),
	}
	s.later.wake = make(chan struct{}, 1)
	return s, nil
}

// opContext is the context of one request: done when the kernel interrupts it. Being a
// channel, it becomes a context.Context without an allocation.
type opContext <-chan struct{}

func (c opContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c opContext) Done() <-chan struct{}       { return c }
func (c opContext) Value(any) any               { return nil }

func (c opContext) Err() error {
	select {
	case <-c:
		return context.Canceled
	default:
		return nil
	}
}

// String names the type of file system, after "fuse.".
func (s *server) String() string { return s.name }

// Init is called once, before the first request.
func (s *server) Init(k *gofuse.Server) {
	s.kernel = k
	s.writeback = s.writeback && k.KernelSettings().Flags64()&gofuse.CAP_WRITEBACK_CACHE != 0
}

// status translates err, which op met with.
func (s *server) status(op string, err error) gofuse.Status {
	if err == nil {
		return gofuse.OK
	}
	return gofuse.Status(s.errs.Of(op, err))
}

// onPanic answers a request whose handling panicked: the mount goes on.
func (s *server) onPanic(v any) gofuse.Status {
	s.log.Error("panic in a file operation", "panic", v, "stack", string(debug.Stack()))
	return gofuse.EIO
}

// dir returns the directory of that number.
func (s *server) dir(id uint64) (*inode, vfs.Dir, gofuse.Status) {
	n := s.nodes.get(id)
	if n == nil {
		return nil, nil, gofuse.Status(syscall.ESTALE)
	}
	d, ok := n.node.(vfs.Dir)
	if !ok {
		return nil, nil, gofuse.ENOTDIR
	}
	return n, d, gofuse.OK
}

// node returns the inode of that number.
func (s *server) node(id uint64) (*inode, gofuse.Status) {
	n := s.nodes.get(id)
	if n == nil {
		return nil, gofuse.Status(syscall.ESTALE)
	}
	return n, gofuse.OK
}

// entry tells the kernel of a node and counts that.
func (s *server) entry(out *gofuse.EntryOut, node vfs.Node, a *vfs.Attr, parent *inode, name string) *inode {
	n := s.nodes.tell(node, a, parent, name)
	out.NodeId = n.id
	out.Generation = 1
	out.SetEntryTimeout(validity)
	out.SetAttrTimeout(n.attrValidity())
	fillAttr(&out.Attr, a)
	return n
}

// Lookup finds a name. That it is not there is kept by the kernel too.
func (s *server) Lookup(cancel <-chan struct{}, in *gofuse.InHeader, name string, out *gofuse.EntryOut) gofuse.Status {
	n, d, st := s.dir(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	ctx := opContext(cancel)
	node, err := d.Lookup(ctx, name)
	if err != nil {
		if num, _ := errno.Of(err); num != syscall.ENOENT {
			return s.status("lookup", err)
		}
		out.SetEntryTimeout(s.absence(n))
		return gofuse.OK // with NodeId 0: not there
	}
	a, err := node.Attr(ctx)
	if err != nil {
		return s.status("lookup", err)
	}
	s.entry(out, node, &a, n, name)
	return gofuse.OK
}

// attrValidity is how long the kernel may keep the attributes of n.
func (n *inode) attrValidity() time.Duration {
	if n.writers.Load() > 0 {
		return growing
	}
	return validity
}

// absence is how long the kernel may keep that a name is not in n.
func (s *server) absence(n *inode) time.Duration {
	if n.id == rootID {
		return rootAbsence
	}
	return validity
}

// Forget takes back what the kernel was told of a node.
func (s *server) Forget(id, count uint64) { s.nodes.forget(id, count) }

// GetAttr returns the attributes of a node.
func (s *server) GetAttr(cancel <-chan struct{}, in *gofuse.GetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	n, st := s.node(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	a, err := n.node.Attr(opContext(cancel))
	if err != nil {
		return s.status("getattr", err)
	}
	out.SetTimeout(n.attrValidity())
	fillAttr(&out.Attr, &a)
	return gofuse.OK
}

// SetAttr changes the attributes of a node.
func (s *server) SetAttr(cancel <-chan struct{}, in *gofuse.SetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	n, st := s.node(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	ctx := opContext(cancel)
	c := change(in)
	if err := s.dropPrivileges(ctx, n, &c, in.Valid&gofuse.FATTR_KILL_SUIDGID != 0); err != nil {
		return s.status("setattr", err)
	}
	var a vfs.Attr
	var err error
	if c.Set == 0 {
		a, err = n.node.Attr(ctx)
	} else {
		a, err = n.node.SetAttr(ctx, c)
	}
	if err != nil {
		return s.status("setattr", err)
	}
	out.SetTimeout(n.attrValidity())
	fillAttr(&out.Attr, &a)
	return gofuse.OK
}

// Mkdir makes a directory.
func (s *server) Mkdir(cancel <-chan struct{}, in *gofuse.MkdirIn, name string, out *gofuse.EntryOut) gofuse.Status {
	return s.make(cancel, &in.InHeader, name, in.Umask, out, vfs.New{
		Kind: vfs.KindDir, Mode: vfs.Mode(in.Mode) & vfs.ModeMask,
	})
}

// Mknod makes a FIFO, a socket, a device node or an empty file.
func (s *server) Mknod(cancel <-chan struct{}, in *gofuse.MknodIn, name string, out *gofuse.EntryOut) gofuse.Status {
	kind, ok := kindOf(in.Mode)
	if !ok || kind == vfs.KindDir || kind == vfs.KindLink {
		return gofuse.EINVAL
	}
	return s.make(cancel, &in.InHeader, name, in.Umask, out, vfs.New{
		Kind: kind, Mode: vfs.Mode(in.Mode) & vfs.ModeMask, Rdev: in.Rdev,
	})
}

// Symlink makes a symbolic link.
func (s *server) Symlink(cancel <-chan struct{}, in *gofuse.InHeader, target, name string, out *gofuse.EntryOut) gofuse.Status {
	return s.make(cancel, in, name, 0, out, vfs.New{Kind: vfs.KindLink, Mode: 0o777, Target: target})
}

// make makes anything but an open file.
func (s *server) make(cancel <-chan struct{}, in *gofuse.InHeader, name string, umask uint32, out *gofuse.EntryOut, what vfs.New) gofuse.Status {
	n, d, st := s.dir(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	ctx := opContext(cancel)
	what.UID, what.GID = in.Uid, in.Gid
	heir, err := s.inherit(ctx, n, &what, umask)
	if err != nil {
		return s.status("make", err)
	}
	node, err := d.Make(ctx, name, what)
	if err != nil {
		return s.status("make", err)
	}
	// From here on the node is there, and no interrupt may hide it.
	bg := context.Background()
	if err := heir.apply(bg, node); err != nil {
		return s.status("make", errors.Join(err, d.Remove(bg, name, what.Kind == vfs.KindDir)))
	}
	a, err := node.Attr(bg)
	if err != nil {
		return s.status("make", err)
	}
	s.entry(out, node, &a, n, name)
	n.forget()
	return gofuse.OK
}

// Unlink removes a name of anything but a directory.
func (s *server) Unlink(cancel <-chan struct{}, in *gofuse.InHeader, name string) gofuse.Status {
	return s.remove(cancel, in, name, false)
}

// Rmdir removes an empty directory.
func (s *server) Rmdir(cancel <-chan struct{}, in *gofuse.InHeader, name string) gofuse.Status {
	return s.remove(cancel, in, name, true)
}

func (s *server) remove(cancel <-chan struct{}, in *gofuse.InHeader, name string, dir bool) gofuse.Status {
	n, d, st := s.dir(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	ctx := context.Context(opContext(cancel))
	child, _ := d.Lookup(ctx, name)
	if !s.tellsOf(child, n, name) {
		return gofuse.Status(syscall.ESTALE)
	}
	if child != nil {
		ctx = vfs.Expect(ctx, vfs.Expected{Dir: d, Name: name, Node: child})
	}
	if err := d.Remove(ctx, name, dir); err != nil {
		return s.status("remove", err)
	}
	n.forget()
	if child != nil {
		s.nodes.unname(child, n, name)
	}
	return gofuse.OK
}

// tellsOf reports whether the kernel knows child, if it is not nil, by that name. If not, another device's work, or another door's, has given the
// name to child, and the kernel takes it for what had it before. It looks again if the answer is ESTALE.
func (s *server) tellsOf(child vfs.Node, parent *inode, name string) bool {
	return child == nil || !looksAgain || s.nodes.knows(child, place{parent, name})
}

// The flags of renameat2(2).
const (
	renameNoReplace = 1
	renameExchange  = 2
)

// Rename moves a name.
func (s *server) Rename(cancel <-chan struct{}, in *gofuse.RenameIn, oldName, newName string) gofuse.Status {
	from, fd, st := s.dir(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	to, td, st := s.dir(in.Newdir)
	if st != gofuse.OK {
		return st
	}
	var flag vfs.RenameFlag
	switch in.Flags {
	case 0:
		flag = vfs.RenameReplace
	case renameNoReplace:
		flag = vfs.RenameNoReplace
	case renameExchange:
		flag = vfs.RenameExchange
	default:
		return gofuse.EINVAL
	}
	ctx := context.Context(opContext(cancel))
	moved, _ := fd.Lookup(ctx, oldName)
	there, _ := td.Lookup(ctx, newName)
	if !s.tellsOf(moved, from, oldName) || flag == vfs.RenameExchange && !s.tellsOf(there, to, newName) {
		return gofuse.Status(syscall.ESTALE)
	}
	if moved != nil {
		what := []vfs.Expected{{Dir: fd, Name: oldName, Node: moved}}
		if flag == vfs.RenameExchange && there != nil {
			what = append(what, vfs.Expected{Dir: td, Name: newName, Node: there})
		}
		ctx = vfs.Expect(ctx, what...)
	}
	if err := fd.Rename(ctx, oldName, td, newName, flag); err != nil {
		return s.status("rename", err)
	}
	from.forget()
	to.forget()
	if moved == nil || moved == there {
		return gofuse.OK
	}
	switch {
	case there == nil:
	case flag == vfs.RenameExchange:
		s.nodes.rename(there, to, newName, from, oldName)
	default:
		s.nodes.unname(there, to, newName)
	}
	s.nodes.rename(moved, from, oldName, to, newName)
	return gofuse.OK
}

// Link gives a node one more name.
func (s *server) Link(cancel <-chan struct{}, in *gofuse.LinkIn, name string, out *gofuse.EntryOut) gofuse.Status {
	n, d, st := s.dir(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	old, st := s.node(in.Oldnodeid)
	if st != gofuse.OK {
		return st
	}
	ctx := opContext(cancel)
	if err := d.Link(ctx, name, old.node); err != nil {
		return s.status("link", err)
	}
	a, err := old.node.Attr(context.Background())
	if err != nil {
		return s.status("link", err)
	}
	s.entry(out, old.node, &a, n, name)
	n.forget()
	old.forget()
	return gofuse.OK
}

// Readlink returns what a symbolic link says. The kernel keeps it.
func (s *server) Readlink(cancel <-chan struct{}, in *gofuse.InHeader) ([]byte, gofuse.Status) {
	n, st := s.node(in.NodeId)
	if st != gofuse.OK {
		return nil, st
	}
	l, ok := n.node.(vfs.Link)
	if !ok {
		return nil, gofuse.EINVAL
	}
	target, err := l.Target(opContext(cancel))
	if err != nil {
		return nil, s.status("readlink", err)
	}
	return []byte(target), gofuse.OK
}

// Access is the kernel's to answer (default_permissions).
func (s *server) Access(<-chan struct{}, *gofuse.AccessIn) gofuse.Status { return gofuse.ENOSYS }

// StatFs reports the room of the tree.
func (s *server) StatFs(cancel <-chan struct{}, _ *gofuse.InHeader, out *gofuse.StatfsOut) gofuse.Status {
	u, err := s.fsys.Usage(opContext(cancel))
	if err != nil {
		return s.status("statfs", err)
	}
	*out = gofuse.StatfsOut{
		Blocks: u.Bytes / blockSize, Bfree: u.BytesFree / blockSize, Bavail: u.BytesFree / blockSize,
		Files: u.Files, Ffree: u.FilesFree,
		Bsize: blockSize, Frsize: blockSize, NameLen: vfs.MaxName,
	}
	return gofuse.OK
}

func isNoXattr(err error) bool { return errors.Is(err, vfs.ErrNoXattr) }

func isExist(err error) bool { return errors.Is(err, fs.ErrExist) }

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
