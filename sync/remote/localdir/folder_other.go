//go:build !linux

package localdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

const (
	modes      = runtime.GOOS != "windows"
	normalizes = runtime.GOOS == "darwin" || runtime.GOOS == "ios"
)

// tick is the step by which files are stamped, 100 ns of NTFS and 1 ns of APFS, by clocks that move in steps of up to 16 ms.
const tick = 16 * time.Millisecond

// A folder is a directory that is open, as an os.Root: nothing leads out of it. That an element is a link is looked at right before. It is
// safe for concurrent use.
type folder struct {
	root *os.Root
	path string // for other systems' calls by path; "" is that of the root
}

func openRoot(dir string) (*folder, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{root: r, path: dir}, nil
}

func (d *folder) Close() error { return d.root.Close() }

func (d *folder) again() (*folder, error) {
	r, err := d.root.OpenRoot(".")
	if err != nil {
		return nil, err
	}
	return &folder{root: r, path: d.path}, nil
}

// open opens a directory below the folder. A link is no directory: fs.ErrNotExist.
func (d *folder) open(path string, cross bool) (*folder, error) {
	at, err := d.again()
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(path, "/") {
		i, err := at.lstat(name)
		if err == nil && (i.kind != remote.Dir || at.other(&i, cross)) {
			err = fmt.Errorf("%s: no directory: %w", name, fs.ErrNotExist)
		}
		var next *os.Root
		if err == nil {
			next, err = at.root.OpenRoot(name)
		}
		_ = at.Close()
		if err != nil {
			return nil, err
		}
		at = &folder{root: next, path: filepath.Join(at.path, name)}
	}
	return at, nil
}

func (d *folder) names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.Readdirnames(-1)
}

func (d *folder) lstat(name string) (info, error) {
	fi, err := d.root.Lstat(name)
	if err != nil {
		return info{}, err
	}
	return infoOf(fi), nil
}

func (d *folder) self() (info, error) { return d.lstat(".") }

func (d *folder) fstat(f *os.File) (info, error) {
	fi, err := f.Stat()
	if err != nil {
		return info{}, err
	}
	return infoOf(fi), nil
}

func infoOf(fi fs.FileInfo) info {
	i := info{mode: fi.Mode().Perm(), size: fi.Size(), mtime: fi.ModTime(), ctime: fi.ModTime()}
	switch {
	case fi.Mode().IsRegular():
		i.kind = remote.File
	case fi.IsDir():
		i.kind, i.size = remote.Dir, 0
	case fi.Mode()&fs.ModeSymlink != 0:
		i.kind, i.size = remote.Symlink, 0
	default:
		i.kind = remote.Other
	}
	systemInfo(&i, fi)
	return i
}

func (d *folder) other(i *info, cross bool) bool {
	if i.kind == remote.Other || cross {
		return i.kind == remote.Other
	}
	self, err := d.self()
	return err == nil && i.dev != self.dev
}

func (d *folder) identity() (string, error) {
	i, err := d.self()
	if err != nil {
		return "", err
	}
	volume, err := volumeOf(d.path)
	if err != nil {
		return "", err
	}
	return "folder " + volume + " " + strconv.FormatUint(i.dev, 16) + " " + i.id(), nil
}

// exact is false: what is there is looked at right before it is replaced.
func (d *folder) exact() bool { return false }

func (d *folder) granularity() time.Duration {
	if runtime.GOOS == "windows" {
		return 100 * time.Nanosecond
	}
	return 1
}

func (d *folder) openFile(name string) (*os.File, error) {
	i, err := d.lstat(name)
	if err != nil {
		return nil, err
	}
	if i.kind != remote.File {
		return nil, fmt.Errorf("%s: it is no file: %w", name, fs.ErrInvalid)
	}
	return d.root.Open(name)
}

func (d *folder) create(name string) (*os.File, error) {
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
}

func (d *folder) readlink(name string) (string, error)        { return d.root.Readlink(name) }
func (d *folder) symlink(target, name string) error           { return d.root.Symlink(target, name) }
func (d *folder) unlink(name string) error                    { return d.root.Remove(name) }
func (d *folder) setMode(name string, mode fs.FileMode) error { return d.root.Chmod(name, mode.Perm()) }

func (d *folder) mkdir(name string, mode fs.FileMode) error {
	if mode == 0 {
		mode = 0o777
	}
	return d.root.Mkdir(name, mode.Perm())
}

func (d *folder) rmdir(name string) error {
	i, err := d.lstat(name)
	if err != nil {
		return err
	}
	if i.kind != remote.Dir {
		return fmt.Errorf("%s: no directory: %w", name, remote.ErrChanged)
	}
	if err := d.root.Remove(name); err == nil {
		return nil
	}
	sub, err := d.open(name, true)
	if err != nil {
		return err
	}
	names, err := sub.names()
	if err := errors.Join(err, sub.Close()); err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("%s: %w", name, fs.ErrExist)
	}
	return d.root.Remove(name)
}

// rename goes by path where the names are of two folders, for an os.Root knows only what is below it.
func (d *folder) rename(name string, to *folder, newName string) error {
	if d.path == to.path {
		return d.root.Rename(name, newName)
	}
	return os.Rename(filepath.Join(d.path, name), filepath.Join(to.path, newName))
}

func (d *folder) moveNew(name string, to *folder, newName string) error {
	if _, err := to.lstat(newName); err == nil {
		return fmt.Errorf("%s: %w", newName, fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.rename(name, to, newName)
}

func (d *folder) exchange(string, string) error { return errors.ErrUnsupported }

func (d *folder) written(string) bool { return false }

func (d *folder) setTime(name string, mtime time.Time) error {
	if i, err := d.lstat(name); err != nil || i.kind == remote.Symlink {
		return err // its own time cannot be set without that of what it leads to
	}
	return d.root.Chtimes(name, time.Time{}, mtime)
}

func (d *folder) sync() error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func folds(dir string) bool {
	return foldsBy(dir, filepath.Base(dir), runtime.GOOS == "windows" || runtime.GOOS == "darwin" || runtime.GOOS == "ios")
}
