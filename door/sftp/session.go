package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync/atomic"
	"time"

	xsftp "github.com/pkg/sftp"

	"github.com/sheaf-drive/sheaf/vfs"
)

// maxHandles is how many files one client has open at once.
const maxHandles = 1024

// session is one client that was let in. It implements all handlers of xsftp.
type session struct {
	ctx   context.Context // ends with the connection
	fsys  vfs.FS
	root  string // what it sees, absolute in the tree
	guest Guest
	o     *Options
	drop  func() // ends the connection

	handles atomic.Int64
}

func (s *session) handlers() xsftp.Handlers {
	return xsftp.Handlers{FileGet: s, FilePut: s, FileCmd: s, FileList: s}
}

// may returns an error if the client is not let in any more, or is not to change anything.
func (s *session) may(change bool) error {
	if s.guest.Valid != nil && !s.guest.Valid() {
		s.drop()
		return xsftp.ErrSSHFxPermissionDenied
	}
	if change && (s.o.ReadOnly || s.guest.ReadOnly) {
		return xsftp.ErrSSHFxPermissionDenied
	}
	return nil
}

// top returns the folder that is shown as the root. It is looked for each time, for it may have gone.
func (s *session) top(change bool) (vfs.Dir, error) {
	if err := s.may(change); err != nil {
		return nil, err
	}
	return vfs.WalkDir(s.ctx, s.fsys, s.root)
}

// status returns an error as the protocol has it. The text of one that it has no number for is shown to the client.
func status(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return xsftp.ErrSSHFxNoSuchFile
	case errors.Is(err, fs.ErrPermission), errors.Is(err, vfs.ErrReadOnly):
		return xsftp.ErrSSHFxPermissionDenied
	case errors.Is(err, errors.ErrUnsupported):
		return xsftp.ErrSSHFxOpUnsupported
	}
	return err
}

// Fileread opens a file to read from.
func (s *session) Fileread(r *xsftp.Request) (io.ReaderAt, error) { return s.open(r) }

// Filewrite opens a file to write to.
func (s *session) Filewrite(r *xsftp.Request) (io.WriterAt, error) { return s.open(r) }

// OpenFile opens one for both.
func (s *session) OpenFile(r *xsftp.Request) (xsftp.WriterAtReaderAt, error) { return s.open(r) }

func (s *session) open(r *xsftp.Request) (_ *file, err error) {
	defer func() { err = status(err) }()
	f := r.Pflags()
	writes := f.Write || f.Append || f.Creat || f.Trunc
	root, err := s.top(writes)
	if err != nil {
		return nil, err
	}
	if s.handles.Add(1) > maxHandles {
		s.handles.Add(-1)
		return nil, fmt.Errorf("more than %d open files", maxHandles)
	}
	defer func() {
		if err != nil {
			s.handles.Add(-1)
		}
	}()
	at, err := walk(s.ctx, root, r.Filepath, !f.Excl)
	if err != nil {
		return nil, err
	}
	var flag vfs.OpenFlag
	if f.Read || !writes {
		flag |= vfs.OpenRead
	}
	if writes {
		flag |= vfs.OpenWrite
	}
	if at.node == nil && f.Creat {
		node, h, err := at.dir.Create(s.ctx, at.name, s.new(vfs.KindFile, createMode(r)), flag)
		switch {
		case err == nil:
			return &file{s: s, h: h, node: node, writes: writes, appends: f.Append}, nil
		case !errors.Is(err, fs.ErrExist) || f.Excl:
			return nil, err
		}
		// Somebody was faster.
		if at, err = walk(s.ctx, root, r.Filepath, true); err != nil {
			return nil, err
		}
	}
	switch {
	case at.node == nil:
		return nil, fs.ErrNotExist
	case f.Creat && f.Excl:
		return nil, fs.ErrExist
	}
	n, ok := at.node.(vfs.File)
	if !ok {
		if _, dir := at.node.(vfs.Dir); dir {
			return nil, vfs.ErrIsDir
		}
		return nil, fmt.Errorf("open %q: it is no file", r.Filepath)
	}
	if f.Trunc {
		flag |= vfs.OpenTrunc
	}
	h, err := n.Open(s.ctx, flag)
	if err != nil {
		return nil, err
	}
	return &file{s: s, h: h, node: n, writes: writes, appends: f.Append}, nil
}

// createMode returns the permissions that a new file is to have.
func createMode(r *xsftp.Request) vfs.Mode {
	if r.AttrFlags().Permissions {
		return vfs.Mode(r.Attributes().Mode) & 0o777
	}
	return 0o644
}

// new says what a new node is to be.
func (s *session) new(kind vfs.Kind, mode vfs.Mode) vfs.New {
	return vfs.New{Kind: kind, Mode: mode, UID: s.o.UID, GID: s.o.GID}
}

// Filelist lists a folder, or tells of one thing, following links.
func (s *session) Filelist(r *xsftp.Request) (xsftp.ListerAt, error) {
	if r.Method == "List" {
		root, err := s.top(false)
		if err != nil {
			return nil, status(err)
		}
		at, err := there(s.ctx, root, r.Filepath, true)
		if err != nil {
			return nil, status(err)
		}
		d, ok := at.node.(vfs.Dir)
		if !ok {
			return nil, fmt.Errorf("list %q: %w", r.Filepath, vfs.ErrNotDir)
		}
		return newListing(s.ctx, d), nil
	}
	return s.stat(r.Filepath, true)
}

// Lstat tells of one thing, a link as well.
func (s *session) Lstat(r *xsftp.Request) (xsftp.ListerAt, error) { return s.stat(r.Filepath, false) }

func (s *session) stat(path string, follow bool) (_ xsftp.ListerAt, err error) {
	defer func() { err = status(err) }()
	root, err := s.top(false)
	if err != nil {
		return nil, err
	}
	at, err := there(s.ctx, root, path, follow)
	if err != nil {
		return nil, err
	}
	a, err := at.node.Attr(s.ctx)
	if err != nil {
		return nil, err
	}
	name := at.name
	if name == "" {
		name = "/"
	}
	return one{info{name, a}}, nil
}

// Readlink returns what a link says.
func (s *session) Readlink(path string) (_ string, err error) {
	defer func() { err = status(err) }()
	root, err := s.top(false)
	if err != nil {
		return "", err
	}
	at, err := there(s.ctx, root, path, false)
	if err != nil {
		return "", err
	}
	l, ok := at.node.(vfs.Link)
	if !ok {
		return "", fmt.Errorf("%q is no symbolic link", path)
	}
	return l.Target(s.ctx)
}

// Filecmd does what changes names and attributes. What it has done is durable when it returns nil.
func (s *session) Filecmd(r *xsftp.Request) (err error) {
	defer func() { err = status(err) }()
	root, err := s.top(true)
	if err != nil {
		return err
	}
	switch r.Method {
	case "Setstat":
		return s.setstat(root, r)
	case "Rename":
		return s.rename(root, r, vfs.RenameNoReplace)
	case "Remove", "Rmdir":
		at, err := named(s.ctx, root, r.Filepath)
		if err != nil {
			return err
		}
		if err := at.dir.Remove(s.ctx, at.name, r.Method == "Rmdir"); err != nil {
			return err
		}
		return at.dir.Sync(s.ctx)
	case "Mkdir":
		return s.make(root, r.Filepath, s.new(vfs.KindDir, 0o755))
	case "Symlink":
		what := s.new(vfs.KindLink, 0o777)
		what.Target = r.Filepath // the protocol has them the other way round than OpenSSH, which the library follows
		return s.make(root, r.Target, what)
	case "Link":
		from, err := named(s.ctx, root, r.Filepath)
		if err != nil {
			return err
		}
		to, err := free(s.ctx, root, r.Target)
		if err != nil {
			return err
		}
		if err := to.dir.Link(s.ctx, to.name, from.node); err != nil {
			return err
		}
		return to.dir.Sync(s.ctx)
	}
	return errors.ErrUnsupported
}

// make makes what has no bytes.
func (s *session) make(root vfs.Dir, path string, what vfs.New) error {
	at, err := free(s.ctx, root, path)
	if err != nil {
		return err
	}
	if _, err := at.dir.Make(s.ctx, at.name, what); err != nil {
		return err
	}
	return at.dir.Sync(s.ctx)
}

// PosixRename renames and replaces what is there.
func (s *session) PosixRename(r *xsftp.Request) (err error) {
	defer func() { err = status(err) }()
	root, err := s.top(true)
	if err != nil {
		return err
	}
	return s.rename(root, r, vfs.RenameReplace)
}

func (s *session) rename(root vfs.Dir, r *xsftp.Request, flag vfs.RenameFlag) error {
	from, err := named(s.ctx, root, r.Filepath)
	if err != nil {
		return err
	}
	to, err := walk(s.ctx, root, r.Target, false)
	if err != nil {
		return err
	}
	if to.dir == nil {
		return fmt.Errorf("rename to the root: %w", fs.ErrPermission)
	}
	if err := from.dir.Rename(s.ctx, from.name, to.dir, to.name, flag); err != nil {
		return err
	}
	return errors.Join(to.dir.Sync(s.ctx), from.dir.Sync(s.ctx))
}

func (s *session) setstat(root vfs.Dir, r *xsftp.Request) error {
	at, err := there(s.ctx, root, r.Filepath, true)
	if err != nil {
		return err
	}
	f, a := r.AttrFlags(), r.Attributes()
	var c vfs.AttrChange
	if f.Size {
		if a.Size > math.MaxInt64 {
			return vfs.ErrTooBig
		}
		c.Set, c.Size = c.Set|vfs.SetSize, int64(a.Size)
	}
	if f.UidGid {
		c.Set, c.UID, c.GID = c.Set|vfs.SetUID|vfs.SetGID, a.UID, a.GID
	}
	if f.Permissions {
		c.Set, c.Mode = c.Set|vfs.SetMode, vfs.Mode(a.Mode)&vfs.ModeMask
	}
	if f.Acmodtime {
		c.Set |= vfs.SetATime | vfs.SetMTime
		c.ATime, c.MTime = time.Unix(int64(a.Atime), 0), time.Unix(int64(a.Mtime), 0)
	}
	if c.Set == 0 {
		return nil
	}
	if _, err := at.node.SetAttr(s.ctx, c); err != nil {
		return err
	}
	return at.node.Sync(s.ctx)
}

// blockSize is the unit of StatVFS.
const blockSize = 4096

// StatVFS tells of the room.
func (s *session) StatVFS(*xsftp.Request) (*xsftp.StatVFS, error) {
	if err := s.may(false); err != nil {
		return nil, err
	}
	u, err := s.fsys.Usage(s.ctx)
	if err != nil {
		return nil, status(err)
	}
	return &xsftp.StatVFS{
		Bsize: blockSize, Frsize: blockSize, Blocks: u.Bytes / blockSize, Bfree: u.BytesFree / blockSize, Bavail: u.BytesFree / blockSize,
		Files: u.Files, Ffree: u.FilesFree, Favail: u.FilesFree, Namemax: vfs.MaxName,
	}, nil
}

var (
	_ xsftp.OpenFileWriter       = (*session)(nil)
	_ xsftp.PosixRenameFileCmder = (*session)(nil)
	_ xsftp.StatVFSFileCmder     = (*session)(nil)
	_ xsftp.LstatFileLister      = (*session)(nil)
	_ xsftp.ReadlinkFileLister   = (*session)(nil)
	_ xsftp.FileInfoUidGid       = info{}
	_ os.FileInfo                = info{}
)
