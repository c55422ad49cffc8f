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
	"github.com/sheaf-drive/sheaf/vfs/live"
)

// Local is a place on this machine: one path and what is below. It is reached
// through an os.Root of the folder that holds it, so no link leads out of there. Names are
// taken as they are; one that the system refuses is an error of that item.
type Local struct {
	root  *os.Root
	base  string // the top's name in root
	full  string
	claim *Claims
	open  openDirs
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
func (l *Local) Close() error {
	l.open.close()
	return l.root.Close()
}

// at returns the name of p in root.
func (l *Local) at(p string) string { return filepath.Join(l.base, filepath.FromSlash(p)) }

// Stat implements Source.
func (l *Local) Stat(ctx context.Context, p string) (Item, error) {
	if err := ctx.Err(); err != nil {
		return Item{}, err
	}
	var it Item
	err := l.in(p, func(dir *os.Root, name string) (err error) {
		it, err = lstat(dir, name)
		return err
	})
	return it, err
}

// lstat returns what is under name in dir.
func lstat(dir *os.Root, name string) (Item, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return Item{}, err
	}
	return itemOfInfo(info, dir, name)
}

// itemOfInfo returns what info and, for a link, its target say.
func itemOfInfo(info fs.FileInfo, dir *os.Root, name string) (Item, error) {
	it := Item{Size: info.Size(), MTime: info.ModTime(), ATime: info.ModTime(), Nlink: 1, Mode: vfs.ModeOf(info.Mode())}
	switch t := info.Mode().Type(); {
	case t.IsRegular():
		it.Kind = vfs.KindFile
	case t.IsDir():
		it.Kind = vfs.KindDir
	case t&fs.ModeSymlink != 0:
		it.Kind = vfs.KindLink
		target, err := dir.Readlink(name)
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

// List implements Source. The order is that of the folder.
func (l *Local) List(ctx context.Context, p string) iter.Seq2[Child, error] {
	return func(yield func(Child, error) bool) {
		dir, done, err := l.dir(p)
		if err != nil {
			yield(Child{}, err)
			return
		}
		defer done()
		d, err := dir.Open(".")
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
				it, err := lstat(dir, name)
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
	var f *os.File
	err := l.in(p, func(dir *os.Root, name string) error {
		want, err := dir.Lstat(name)
		if err != nil {
			return err
		}
		if !want.Mode().IsRegular() {
			return fmt.Errorf("open %q: %w", p, fs.ErrInvalid)
		}
		if f, err = dir.OpenFile(name, os.O_RDONLY|openFlags, 0); err != nil {
			return err
		}
		got, err := f.Stat()
		if err == nil && !os.SameFile(want, got) {
			err = ErrChanged
		}
		if err != nil {
			_ = f.Close()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &localReader{f: f}, nil
}

// Xattrs implements Source.
func (l *Local) Xattrs(ctx context.Context, p string) ([]Xattr, error) {
	var x []Xattr
	err := l.in(p, func(dir *os.Root, name string) error {
		info, err := dir.Lstat(name)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() && !info.IsDir() {
			return nil // user attributes are of files and directories only
		}
		f, err := dir.OpenFile(name, os.O_RDONLY|openFlags, 0)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		x, err = readXattrs(f)
		return err
	})
	return x, err
}

// Make implements Target.
func (l *Local) Make(ctx context.Context, p string, it Item) error {
	if it.Kind == vfs.KindDir {
		return l.in(p, func(dir *os.Root, name string) error {
			err := dir.Mkdir(name, it.Mode.FileMode().Perm()|0o700)
			if errors.Is(err, fs.ErrExist) {
				if info, e := dir.Lstat(name); e == nil && info.IsDir() {
					return nil
				}
			}
			return err
		})
	}
	return l.replace(p, func(dir *os.Root, part string) error {
		if it.Kind == vfs.KindLink {
			return dir.Symlink(it.Target, part)
		}
		return makeNode(dir, part, it)
	})
}

// replace lets put make a node under a partial name and then gives it its own.
func (l *Local) replace(p string, put func(dir *os.Root, part string) error) error {
	release, err := l.claim.Take(filepath.Join(l.full, p))
	if err != nil {
		return err
	}
	defer release()
	return l.in(p, func(dir *os.Root, name string) error {
		part := partialName(name)
		if err := dir.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := put(dir, part); err != nil {
			return err
		}
		if err := dir.Rename(part, name); err != nil {
			return errors.Join(err, dir.Remove(part))
		}
		// Renaming one name of a file over another name of it does nothing, and leaves both.
		if err := dir.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// Link implements Target.
func (l *Local) Link(ctx context.Context, old, p string) error {
	return l.replace(p, func(dir *os.Root, part string) error {
		if path.Dir(old) == path.Dir(p) {
			return dir.Link(path.Base(old), part)
		}
		return l.root.Link(l.at(old), filepath.Join(filepath.Dir(l.at(p)), part))
	})
}

// Begin implements Target.
func (l *Local) Begin(ctx context.Context, p string, it Item) (_ Writer, err error) {
	release, err := l.claim.Take(filepath.Join(l.full, p))
	if err != nil {
		return nil, err
	}
	w := &localWriter{release: release, dir: l.root, name: l.base}
	if p != "" {
		dir, done, err := l.dir(path.Dir(p))
		if err != nil {
			release()
			return nil, err
		}
		w.dir, w.name, w.release = dir, path.Base(p), func() { done(); release() }
	}
	w.part = partialName(w.name)
	if err := w.begin(); err != nil {
		w.release()
		return nil, err
	}
	return w, nil
}

// begin opens what an earlier copy left, or makes the partial file.
func (w *localWriter) begin() error {
	if _, err := w.dir.Lstat(w.name); err == nil {
		w.replaces = true
	}
	f, err := w.dir.OpenFile(w.part, os.O_RDWR|os.O_CREATE|os.O_EXCL|openFlags, 0o600)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		w.f = f
		return err
	}
	// The partial name can be guessed, so what lies there is used only if it is a file of
	// this user with no other name.
	if info, err := w.dir.Lstat(w.part); err == nil && info.Mode().IsRegular() && ownAlone(info) {
		f, err := w.dir.OpenFile(w.part, os.O_RDWR|openFlags, 0)
		if err == nil {
			if got, e := f.Stat(); e == nil && os.SameFile(info, got) {
				w.f, w.size = f, got.Size()
				return nil
			}
			_ = f.Close()
		}
	}
	if err := w.dir.Remove(w.part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w.f, err = w.dir.OpenFile(w.part, os.O_RDWR|os.O_CREATE|os.O_EXCL|openFlags, 0o600)
	return err
}

// SetAttr implements Target.
func (l *Local) SetAttr(ctx context.Context, p string, it Item, x []Xattr) error {
	return l.in(p, func(dir *os.Root, name string) error {
		var f *os.File
		if it.Kind == vfs.KindFile || it.Kind == vfs.KindDir {
			var err error
			if f, err = dir.OpenFile(name, os.O_RDONLY|openFlags, 0); err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
		}
		return setAttrs(dir, name, f, it, x)
	})
}

// setAttrs sets the attributes of what is under name in dir, and open as f if it is a file or directory.
func setAttrs(dir *os.Root, name string, f *os.File, it Item, x []Xattr) error {
	mode := it.Mode
	switch {
	case !mayChown:
		mode &= 0o1777 // the file is this user's now: no foreign program may run as them
	case f != nil:
		if err := f.Chown(int(it.UID), int(it.GID)); err != nil {
			return err
		}
	default:
		if err := dir.Lchown(name, int(it.UID), int(it.GID)); err != nil {
			return err
		}
	}
	if f != nil {
		if err := writeXattrs(f, x); err != nil {
			return err
		}
	}
	switch {
	case f != nil:
		if err := f.Chmod(mode.FileMode()); err != nil {
			return err
		}
	case it.Kind != vfs.KindLink:
		if err := dir.Chmod(name, mode.FileMode()); err != nil {
			return err
		}
	}
	if f != nil {
		return dir.Chtimes(name, clampTime(it.ATime), clampTime(it.MTime))
	}
	return setTimes(dir, name, it)
}

// Rename implements Target, for files.
func (l *Local) Rename(ctx context.Context, p, name string) error {
	return l.in(p, func(dir *os.Root, old string) error {
		if err := dir.Link(old, name); err != nil {
			return err
		}
		return dir.Remove(old)
	})
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
	return itemOfInfo(info, nil, "")
}

func (r *localReader) Xattrs(ctx context.Context) ([]Xattr, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return readXattrs(r.f)
}

func (r *localReader) Close() error { return r.f.Close() }

// From where on a file is written through, and how far behind its pages are given up.
const (
	throughFrom = 16 << 20
	throughLag  = 64 << 20
)

// localWriter is a partial file of a Local.
type localWriter struct {
	dir      *os.Root
	name     string // in dir
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
	n, err := w.f.WriteAt(p, off)
	if off >= throughFrom {
		writeThrough(w.f, off, int64(n))
	}
	return n, err
}

func (w *localWriter) CopyFrom(context.Context, Reader, int64, int64) (int64, error) {
	return 0, errCannot
}

func (w *localWriter) Give(context.Context, *live.Load, live.Stored) error { return errCannot }

func (w *localWriter) Commit(ctx context.Context, it Item, x []Xattr) error {
	f := w.f
	w.f = nil
	defer w.release()
	err := f.Truncate(it.Size)
	if err == nil {
		err = setAttrs(w.dir, w.part, f, it, x)
	}
	if err == nil && w.replaces { // or a crash could leave neither the old bytes nor the new
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return w.dir.Rename(w.part, w.name)
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
