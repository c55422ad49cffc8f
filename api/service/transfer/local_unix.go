//go:build linux || darwin

package transfer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/vfs"
)

// openFlags keep an open from following a last link and from waiting for a FIFO.
const openFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK

// mayChown is whether this process may give files away.
var mayChown = os.Geteuid() == 0

// sysItem fills in what only the system's own answer has.
func sysItem(info fs.FileInfo, it *Item) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	it.UID, it.GID = s.Uid, s.Gid
	it.Nlink = uint32(s.Nlink)
	it.ATime, it.CTime = accessTime(s), changeTime(s)
	if it.Kind == vfs.KindChar || it.Kind == vfs.KindBlock {
		it.Rdev = linuxDev(uint64(s.Rdev)) //nolint:unconvert // 32 bits wide on macOS
	}
	if it.Kind != vfs.KindDir && it.Nlink > 1 {
		it.Same = Identity{Dev: uint64(s.Dev), Ino: s.Ino} //nolint:unconvert // 32 bits wide on macOS
	}
}

// ownAlone reports whether a file is this user's and has one name.
func ownAlone(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid() && s.Nlink == 1
}

// dataRun is Reader.Data of an open file.
func dataRun(f *os.File, off int64) (int64, int64, error) {
	from, err := unix.Seek(int(f.Fd()), off, seekData)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, 0, io.EOF
	case err != nil: // a file system that knows no holes
		info, err := f.Stat()
		if err == nil && off >= info.Size() {
			err = io.EOF
		}
		if err != nil {
			return 0, 0, err
		}
		return off, info.Size(), nil
	}
	to, err := unix.Seek(int(f.Fd()), from, seekHole)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	return from, to, err
}

// inParent calls do with the folder that holds name and name's last element.
func inParent(root *os.Root, name string, do func(dir int, base string) error) error {
	d, err := root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return do(int(d.Fd()), filepath.Base(name))
}

// makeNode makes a FIFO or a device.
func makeNode(root *os.Root, name string, it Item) error {
	var kind uint32
	switch it.Kind {
	case vfs.KindFIFO:
		kind = unix.S_IFIFO
	case vfs.KindChar:
		kind = unix.S_IFCHR
	case vfs.KindBlock:
		kind = unix.S_IFBLK
	default:
		return fmt.Errorf("a socket cannot be copied: %w", errors.ErrUnsupported)
	}
	return inParent(root, name, func(dir int, base string) error {
		return mknodat(dir, base, kind|uint32(it.Mode), it.Rdev)
	})
}

// setTimes sets the times of a node, of a link its own.
func setTimes(root *os.Root, name string, it Item) error {
	spec := func(t time.Time) unix.Timespec { return unix.NsecToTimespec(clampTime(t).UnixNano()) }
	return inParent(root, name, func(dir int, base string) error {
		return unix.UtimesNanoAt(dir, base, []unix.Timespec{spec(it.ATime), spec(it.MTime)}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// readXattrs returns the extended attributes that belong to the file.
func readXattrs(f *os.File) ([]Xattr, error) {
	names, err := xattrNames(f)
	if err != nil {
		return nil, err
	}
	var x []Xattr
	for _, name := range names {
		if hiddenXattr(name) {
			continue
		}
		v, err := grow(func(p []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), name, p) })
		switch {
		case errors.Is(err, noXattr), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
			continue
		case err != nil:
			return nil, fmt.Errorf("extended attribute %q: %w", name, err)
		}
		x = append(x, Xattr{name, v})
	}
	return x, nil
}

// xattrNames returns the sorted names; none where the file system has none.
func xattrNames(f *os.File) ([]string, error) {
	list, err := grow(func(p []byte) (int, error) { return unix.Flistxattr(int(f.Fd()), p) })
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	names := strings.FieldsFunc(string(list), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	return names, nil
}

// grow calls get with a bigger slice until the answer fits.
func grow(get func(p []byte) (int, error)) ([]byte, error) {
	p := make([]byte, 256)
	for {
		n, err := get(p)
		if err == nil {
			return p[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || len(p) >= vfs.MaxXattrTotal*2 {
			return nil, err
		}
		p = make([]byte, 4*len(p))
	}
}

// writeXattrs gives the file exactly the extended attributes x, as far as the file system and
// this user's rights go.
func writeXattrs(f *os.File, x []Xattr) error {
	have, err := xattrNames(f)
	if err != nil {
		return err
	}
	for _, name := range have {
		if hiddenXattr(name) || slices.ContainsFunc(x, func(x Xattr) bool { return x.Name == name }) {
			continue
		}
		if err := unix.Fremovexattr(int(f.Fd()), name); err != nil && strings.HasPrefix(name, "user.") && !errors.Is(err, noXattr) {
			return fmt.Errorf("remove extended attribute %q: %w", name, err)
		}
	}
	for _, x := range x {
		err := unix.Fsetxattr(int(f.Fd()), x.Name, x.Value, 0)
		switch {
		case err == nil, errors.Is(err, unix.ENOTSUP):
		case strings.HasPrefix(x.Name, "user."):
			return fmt.Errorf("set extended attribute %q: %w", x.Name, err)
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		default:
			return fmt.Errorf("set extended attribute %q: %w", x.Name, err)
		}
	}
	return nil
}
