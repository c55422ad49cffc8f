package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// Local is a place on this machine: one path and what is below. It is reached
// through an os.Root of the folder that holds it, so no link leads out of there. Names are
// taken as they are; one that the system refuses is an error of that item.
type Local struct {
	root  *os.Root
	base  string // the top's name in root
	full  string
	claim *Claims
}

// OpenLocal returns the place at an absolute path, which need not be there, while the
// folder that holds it must. Claims are shared by all who copy to this machine at
// the same time; a place that is only read needs none. The caller closes it.
func OpenLocal(full string, c *Claims) (*Local, error) {
	if !filepath.IsAbs(full) {
		return nil, fmt.Errorf("path %q is not absolute: %w", full, fs.ErrInvalid)
	}
	full = filepath.Clean(full)
	dir, base := filepath.Dir(full), filepath.Base(full)
	if dir == full { // the root of the file system
		base = "."
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Local{root: root, base: base, full: full, claim: c}, nil
}

// Close gives the place back.
func (l *Local) Close() error { return l.root.Close() }

// at returns the name of p in root.
func (l *Local) at(p string) string { return filepath.Join(l.base, filepath.FromSlash(p)) }

// Stat implements Source.
func (l *Local) Stat(ctx context.Context, p string) (Item, error) {
	if err := ctx.Err(); err != nil {
		return Item{}, err
	}
	info, err := l.root.Lstat(l.at(p))
	if err != nil {
		return Item{}, err
	}
	return l.item(info, l.at(p))
}

// item returns what info and, for a link, its target say.
func (l *Local) item(info fs.FileInfo, name string) (Item, error) {
	it := Item{Size: info.Size(), MTime: info.ModTime(), ATime: info.ModTime(), Nlink: 1, Mode: vfs.Mode(info.Mode().Perm())}
	for _, b := range modeBits {
		if info.Mode()&b.std != 0 {
			it.Mode |= b.own
		}
	}
	switch t := info.Mode().Type(); {
	case t.IsRegular():
		it.Kind = vfs.KindFile
	case t.IsDir():
		it.Kind = vfs.KindDir
	case t&fs.ModeSymlink != 0:
		it.Kind = vfs.KindLink
		target, err := l.root.Readlink(name)
		if err != nil {
			return Item{}, err
		}
		it.Target, it.Size = target, int64(len(target))
	case t&fs.ModeNamedPipe != 0:
		it.Kind = vfs.KindFIFO
	case t&fs.ModeSocket != 0:
		it.Kind = vfs.KindSocket
	case t&fs.ModeCharDevice != 0:
		it.Kind = vfs.KindChar
	case t&fs.ModeDevice != 0:
		it.Kind = vfs.KindBlock
	default:
		return Item{}, fmt.Errorf("%q is of no known kind: %w", name, errors.ErrUnsupported)
	}
	sysItem(info, &it)
	return it, nil
}

// modeBits pairs the bits above rwx of a vfs.Mode with those of package fs.
var modeBits = [...]struct {
	own vfs.Mode
	std fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}

// fileMode returns m as package os has it.
func fileMode(m vfs.Mode) fs.FileMode {
	f := fs.FileMode(m & 0o777)
	for _, b := range modeBits {
		if m&b.own != 0 {
			f |= b.std
		}
	}
	return f
}

// List implements Source. The order is that of the folder.
func (l *Local) List(ctx context.Context, p string) iter.Seq2[Child, error] {
	return func(yield func(Child, error) bool) {
		d, err := l.root.Open(l.at(p))
		if err != nil {
			yield(Child{}, err)
			return
		}
		defer func() { _ = d.Close() }()
		for {
			names, err := d.Readdirnames(512)
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Child{}, err)
				return
			}
			for _, name := range names {
				it, err := l.Stat(ctx, path.Join(p, name))
				if errors.Is(err, fs.ErrNotExist) {
					continue // gone meanwhile
				}
				if !yield(Child{name, it}, err) {
					return
				}
			}
		}
	}
}

// Open implements Source. It opens the file that Stat sees: no link is followed, and
// nothing is waited for.
func (l *Local) Open(ctx context.Context, p string) (Reader, error) {
	want, err := l.root.Lstat(l.at(p))
	if err != nil {
		return nil, err
	}
	if !want.Mode().IsRegular() {
		return nil, fmt.Errorf("open %q: %w", p, fs.ErrInvalid)
	}
	f, err := l.root.OpenFile(l.at(p), os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	got, err := f.Stat()
	if err == nil && !os.SameFile(want, got) {
		err = ErrChanged
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &localReader{l: l, f: f}, nil
}

// Xattrs implements Source.
func (l *Local) Xattrs(ctx context.Context, p string) ([]Xattr, error) {
	info, err := l.root.Lstat(l.at(p))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, nil // user attributes are of files and directories only
	}
	f, err := l.root.OpenFile(l.at(p), os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readXattrs(f)
}

// Make implements Target.
func (l *Local) Make(ctx context.Context, p string, it Item) error {
	name := l.at(p)
	if it.Kind == vfs.KindDir {
		err := l.root.Mkdir(name, fileMode(it.Mode).Perm()|0o700)
		if errors.Is(err, fs.ErrExist) {
			if info, e := l.root.Lstat(name); e == nil && info.IsDir() {
				return nil
			}
		}
		return err
	}
	return l.replace(p, func(part string) error {
		if it.Kind == vfs.KindLink {
			return l.root.Symlink(it.Target, part)
		}
		return makeNode(l.root, part, it)
	})
}

// replace lets put make a node under a partial name and then gives it its own.
func (l *Local) replace(p string, put func(part string) error) error {
	release, err := l.claim.Take(filepath.Join(l.full, p))
	if err != nil {
		return err
	}
	defer release()
	name := l.at(p)
	part := filepath.Join(filepath.Dir(name), partialName(filepath.Base(name)))
	if err := l.root.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := put(part); err != nil {
		return err
	}
	if err := l.root.Rename(part, name); err != nil {
		return errors.Join(err, l.root.Remove(part))
	}
	// Renaming one name of a file over another name of it does nothing, and leaves both.
	if err := l.root.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Link implements Target.
func (l *Local) Link(ctx context.Context, old, p string) error {
	return l.replace(p, func(part string) error { return l.root.Link(l.at(old), part) })
}

// Begin implements Target.
func (l *Local) Begin(ctx context.Context, p string, it Item) (_ Writer, err error) {
	release, err := l.claim.Take(filepath.Join(l.full, p))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	name := l.at(p)
	w := &localWriter{l: l, name: name, part: filepath.Join(filepath.Dir(name), partialName(filepath.Base(name))), release: release}
	if _, err := l.root.Lstat(name); err == nil {
		w.replaces = true
	}
	// The partial name can be guessed, so what lies there is used only if it is a file of
	// this user with no other name.
	if info, err := l.root.Lstat(w.part); err == nil && info.Mode().IsRegular() && ownAlone(info) {
		f, err := l.root.OpenFile(w.part, os.O_RDWR|openFlags, 0)
		if err == nil {
			if got, e := f.Stat(); e == nil && os.SameFile(info, got) {
				w.f, w.size = f, got.Size()
				return w, nil
			}
			_ = f.Close()
		}
	}
	if err := l.root.Remove(w.part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	w.f, err = l.root.OpenFile(w.part, os.O_RDWR|os.O_CREATE|os.O_EXCL|openFlags, 0o600)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// SetAttr implements Target.
func (l *Local) SetAttr(ctx context.Context, p string, it Item, x []Xattr) error {
	return l.setAttr(l.at(p), it, x)
}

func (l *Local) setAttr(name string, it Item, x []Xattr) error {
	mode := it.Mode
	if mayChown {
		if err := l.root.Lchown(name, int(it.UID), int(it.GID)); err != nil {
			return err
		}
	} else {
		mode &= 0o1777 // the file is this user's now: no foreign program may run as them
	}
	if it.Kind == vfs.KindFile || it.Kind == vfs.KindDir {
		f, err := l.root.OpenFile(name, os.O_RDONLY|openFlags, 0)
		if err != nil {
			return err
		}
		err = writeXattrs(f, x)
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	if it.Kind != vfs.KindLink {
		if err := l.root.Chmod(name, fileMode(mode)); err != nil {
			return err
		}
	}
	return setTimes(l.root, name, it)
}

// Rename implements Target, for files.
func (l *Local) Rename(ctx context.Context, p, name string) error {
	old := l.at(p)
	if err := l.root.Link(old, filepath.Join(filepath.Dir(old), name)); err != nil {
		return err
	}
	return l.root.Remove(old)
}

// Name implements Target.
func (l *Local) Name(p string) string {
	return filepath.Base(filepath.Join(l.full, filepath.FromSlash(p)))
}

// Sync implements Target. Files that replaced others are durable already; the rest the system
// writes when it does: the drive still has it.
func (l *Local) Sync(ctx context.Context) error { return ctx.Err() }

// localReader is an open file of a Local.
type localReader struct {
	l *Local
	f *os.File
}

func (r *localReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return r.f.ReadAt(p, off)
}

func (r *localReader) Data(ctx context.Context, off int64) (int64, int64, error) {
	return dataRun(r.f, off)
}

func (r *localReader) Stat(ctx context.Context) (Item, error) {
	info, err := r.f.Stat()
	if err != nil {
		return Item{}, err
	}
	return r.l.item(info, "")
}

func (r *localReader) Close() error { return r.f.Close() }

// localWriter is a partial file of a Local.
type localWriter struct {
	l        *Local
	name     string
	part     string
	f        *os.File // nil once closed
	size     int64
	replaces bool
	release  func()
}

func (w *localWriter) Size() int64 { return w.size }

func (w *localWriter) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return w.f.ReadAt(p, off)
}

func (w *localWriter) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return w.f.WriteAt(p, off)
}

func (w *localWriter) CopyFrom(context.Context, Reader, int64, int64) (int64, error) {
	return 0, errCannot
}

func (w *localWriter) Commit(ctx context.Context, it Item, x []Xattr) error {
	f := w.f
	w.f = nil
	defer w.release()
	err := f.Truncate(it.Size)
	if err == nil && w.replaces { // or a crash could leave neither the old bytes nor the new
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = w.l.setAttr(w.part, it, x)
	}
	if err != nil {
		return err
	}
	return w.l.root.Rename(w.part, w.name)
}

func (w *localWriter) Close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	defer w.release()
	return f.Close()
}

// clampTime keeps a time in what a 64-bit count of nanoseconds can say.
func clampTime(t time.Time) time.Time {
	lo, hi := time.Unix(0, -1<<63), time.Unix(0, 1<<63-1)
	switch {
	case t.Before(lo):
		return lo
	case t.After(hi):
		return hi
	}
	return t
}

// hiddenXattr reports whether an attribute belongs to the machine and not to the file.
func hiddenXattr(name string) bool {
	return strings.HasPrefix(name, "security.") && name != "security.capability" || strings.HasPrefix(name, "system.") && !strings.HasPrefix(name, "system.posix_acl_")
}
