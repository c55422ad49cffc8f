package localdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

const (
	modes      = true // the system keeps permission bits
	normalizes = false
)

// tick is the step of the clock by which the kernel stamps files.
var tick = func() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &ts); err != nil || ts.Nano() <= 0 {
		return 10 * time.Millisecond
	}
	return time.Duration(ts.Nano())
}()

// A folder is a directory that is open, and does what is done to names in it. No method follows a link, in none of the elements of a name. It is safe for concurrent use.
type folder struct {
	f    *os.File
	dev  uint64 // of the root
	mnt  uint64 // of the folder; 0: not known
	here uint64 // the device of the folder
}

// openRoot opens the folder at a path of this machine. Links on the way to it are followed: a person has written them.
func openRoot(dir string) (*folder, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	d := &folder{f: f}
	i, err := d.stat("", unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	d.dev, d.here, d.mnt = i.dev, i.dev, i.mnt
	return d, nil
}

func (d *folder) Close() error { return d.f.Close() }

func (d *folder) fd() int { return int(d.f.Fd()) }

// again opens the same folder once more.
func (d *folder) again() (*folder, error) { return d.open(".", true) }

// open opens a directory at or below the folder. A link, or a mount of something else unless cross is set, is no directory: fs.ErrNotExist.
func (d *folder) open(path string, cross bool) (*folder, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	how := unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	if !cross {
		how.Resolve |= unix.RESOLVE_NO_XDEV
	}
	fd, err := retried(func() (int, error) { return unix.Openat2(d.fd(), path, &how) })
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // before Linux 5.6, or not let through by a sandbox
		fd, err = d.steps(path, cross, flags)
	}
	if isNoDir(err) {
		return nil, fmt.Errorf("%s: no directory: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	sub := &folder{f: os.NewFile(uintptr(fd), path), dev: d.dev, mnt: d.mnt, here: d.here}
	if cross {
		i, err := sub.stat("", unix.AT_EMPTY_PATH)
		if err != nil {
			return nil, errors.Join(err, sub.Close())
		}
		sub.mnt, sub.here = i.mnt, i.dev
	}
	return sub, nil
}

// steps opens one directory after the other.
func (d *folder) steps(path string, cross bool, flags int) (int, error) {
	at := d.fd()
	for name := range strings.SplitSeq(path, "/") {
		fd, err := retried(func() (int, error) { return unix.Openat(at, name, flags, 0) })
		if at != d.fd() {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || !cross && st.Dev != d.here {
			_ = unix.Close(fd)
			return -1, unix.EXDEV
		}
		at = fd
	}
	return at, nil
}

// retried calls again what a signal has interrupted.
func retried(call func() (int, error)) (int, error) {
	for {
		fd, err := call()
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// isNoDir reports whether what was opened as a directory is something else, or another file system.
func isNoDir(err error) bool {
	return errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV)
}

// names returns the names in the folder, in any order.
func (d *folder) names() ([]string, error) {
	again, err := d.again() // so that it is read from its beginning
	if err != nil {
		return nil, err
	}
	defer func() { _ = again.Close() }()
	return again.f.Readdirnames(-1)
}

func (d *folder) stat(name string, flags int) (info, error) { return statx(d.fd(), d.dev, name, flags) }

// statx is statx(2), whose numbers do not depend on the processor.
func statx(fd int, root uint64, name string, flags int) (info, error) {
	var st unix.Statx_t
	const want = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID
	if _, err := retried(func() (int, error) {
		return 0, unix.Statx(fd, name, flags|unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, want, &st)
	}); err != nil {
		return info{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	at := func(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }
	i := info{
		mode: fs.FileMode(st.Mode).Perm(), size: int64(st.Size), mtime: at(st.Mtime), ctime: at(st.Ctime), ino: st.Ino,
		dev: unix.Mkdev(st.Dev_major, st.Dev_minor),
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		i.btime = at(st.Btime)
	}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		i.mnt = st.Mnt_id
	}
	if root != 0 && i.dev != root {
		i.far = i.dev
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		i.kind = remote.File
	case unix.S_IFDIR:
		i.kind = remote.Dir
	case unix.S_IFLNK:
		i.kind = remote.Symlink
	default:
		i.kind = remote.Other
	}
	return i, nil
}

// lstat stats a name in the folder.
func (d *folder) lstat(name string) (info, error) { return d.stat(name, 0) }

// self stats the folder.
func (d *folder) self() (info, error) { return d.stat("", unix.AT_EMPTY_PATH) }

// fstat stats an open file.
func (d *folder) fstat(f *os.File) (info, error) {
	return statx(int(f.Fd()), d.dev, "", unix.AT_EMPTY_PATH)
}

// other reports whether something in the folder is neither a file, a directory nor a link of this place.
func (d *folder) other(i *info, cross bool) bool {
	if i.kind == remote.Other || cross {
		return i.kind == remote.Other
	}
	if d.mnt != 0 && i.mnt != 0 {
		return d.mnt != i.mnt
	}
	return i.kind == remote.Dir && i.dev != d.here
}

// identity is which folder this is, on which file system.
func (d *folder) identity() (string, error) {
	i, err := d.self()
	if err != nil {
		return "", err
	}
	var sfs unix.Statfs_t
	if err := unix.Fstatfs(d.fd(), &sfs); err != nil {
		return "", err
	}
	return "folder " + strconv.FormatInt(sfs.Type, 16) + " " + fmt.Sprintf("%x %x", uint32(sfs.Fsid.Val[0]), uint32(sfs.Fsid.Val[1])) + " " + i.id(), nil
}

// The magic numbers of statfs(2) of file systems on which a rename can neither keep off what is there nor exchange, or whose
// server does so in two steps.
var inexact = map[int64]bool{
	unix.NFS_SUPER_MAGIC: true, unix.SMB_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true, unix.CIFS_SUPER_MAGIC: true, unix.FUSE_SUPER_MAGIC: true,
	unix.MSDOS_SUPER_MAGIC: true, unix.EXFAT_SUPER_MAGIC: true, unix.V9FS_MAGIC: true, unix.CODA_SUPER_MAGIC: true, unix.AFS_SUPER_MAGIC: true,
	unix.CEPH_SUPER_MAGIC: true,
}

// exact reports whether Put, Move and Remove hold to a version in one step.
func (d *folder) exact() bool {
	var sfs unix.Statfs_t
	return unix.Fstatfs(d.fd(), &sfs) == nil && !inexact[int64(sfs.Type)] //nolint:unconvert // it is 32 bits wide on some
}

// granularity is how exact times are that are set.
func (d *folder) granularity() time.Duration {
	var sfs unix.Statfs_t
	if unix.Fstatfs(d.fd(), &sfs) == nil {
		switch int64(sfs.Type) { //nolint:unconvert // it is 32 bits wide on some
		case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC:
			return 2 * time.Second
		case unix.EXT4_SUPER_MAGIC:
			if i, err := d.self(); err == nil && i.btime.IsZero() {
				return time.Second // its inodes are too small for more
			}
		case unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
			return 100 * time.Nanosecond
		}
	}
	return 1
}

func (d *folder) openFile(name string) (*os.File, error) {
	fd, err := retried(func() (int, error) {
		return unix.Openat(d.fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// create makes a new file, with the mode that the process gives new files.
func (d *folder) create(name string) (*os.File, error) {
	fd, err := retried(func() (int, error) {
		return unix.Openat(d.fd(), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o666)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (d *folder) readlink(name string) (string, error) {
	p := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(d.fd(), name, p)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(p[:n]), nil
}

func (d *folder) symlink(target, name string) error {
	return wrap("symlink", name, unix.Symlinkat(target, d.fd(), name))
}

// mkdir makes a directory; mode 0 is that which the process gives new ones.
func (d *folder) mkdir(name string, mode fs.FileMode) error {
	if mode == 0 {
		return wrap("mkdir", name, unix.Mkdirat(d.fd(), name, 0o777))
	}
	if err := unix.Mkdirat(d.fd(), name, uint32(mode.Perm())); err != nil {
		return wrap("mkdir", name, err)
	}
	return d.setMode(name, mode.Perm())
}

func (d *folder) unlink(name string) error {
	return wrap("remove", name, unix.Unlinkat(d.fd(), name, 0))
}

// rmdir removes an empty directory. One that is not empty is fs.ErrExist.
func (d *folder) rmdir(name string) error {
	return wrap("remove", name, unix.Unlinkat(d.fd(), name, unix.AT_REMOVEDIR))
}

// rename gives a name of this folder to another one, in the place of what is there.
func (d *folder) rename(name string, to *folder, newName string) error {
	return wrap("rename", name, unix.Renameat(d.fd(), name, to.fd(), newName))
}

// moveNew is rename to where nothing is: fs.ErrExist if something is.
func (d *folder) moveNew(name string, to *folder, newName string) error {
	err := unix.Renameat2(d.fd(), name, to.fd(), newName, unix.RENAME_NOREPLACE)
	if !isUnsupported(err) {
		return wrap("rename", name, err)
	}
	i, err := d.lstat(name)
	if err != nil {
		return err
	}
	if i.kind == remote.File {
		if err := unix.Linkat(d.fd(), name, to.fd(), newName, 0); err == nil {
			return d.unlink(name)
		} else if errors.Is(err, unix.EEXIST) {
			return wrap("rename", name, err)
		}
	}
	if _, err := to.lstat(newName); err == nil {
		return wrap("rename", name, unix.EEXIST)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.rename(name, to, newName)
}

// exchange lets two names of the folder change places; errors.ErrUnsupported if the file system cannot.
func (d *folder) exchange(a, b string) error {
	err := unix.Renameat2(d.fd(), a, d.fd(), b, unix.RENAME_EXCHANGE)
	if isUnsupported(err) {
		return errors.ErrUnsupported
	}
	return wrap("exchange", b, err)
}

func isUnsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP)
}

// written reports whether somebody has the file open for writing, as far as that can be known: a lease on it is refused then. It is
// given to the owner of a file, on file systems of this machine.
func (d *folder) written(name string) bool {
	f, err := d.openFile(name)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
}

// setMode changes the mode of anything but a link: ELOOP.
func (d *folder) setMode(name string, mode fs.FileMode) error {
	err := unix.Fchmodat(d.fd(), name, uint32(mode.Perm()), unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) { // before Linux 6.6, not let through by a sandbox, or a link
		err = d.chmod(name, uint32(mode.Perm()))
	}
	return wrap("chmod", name, err)
}

// chmod is fchmodat(2) that follows no link, by a descriptor that needs no right to read.
func (d *folder) chmod(name string, mode uint32) error {
	fd, err := retried(func() (int, error) { return unix.Openat(d.fd(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) })
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

func (d *folder) setTime(name string, mtime time.Time) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {}}
	var err error
	if ts[1], err = unix.TimeToTimespec(mtime); err == nil {
		err = unix.UtimesNanoAt(d.fd(), name, ts, unix.AT_SYMLINK_NOFOLLOW)
	}
	return wrap("set time", name, err)
}

// sync makes the names in the folder durable, as well as its file system can.
func (d *folder) sync() error {
	err := d.f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// legal reports whether the system may have the name; what one file system has besides, it says.
func legal(string) bool { return true }

func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// isIllegal reports whether a file system refuses a name.
func isIllegal(err error) bool {
	return errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.EILSEQ) || errors.Is(err, unix.EINVAL)
}

// folds reports whether names of the folder that differ in case are one: its own name is tried.
func folds(dir string) bool { return foldsBy(dir, filepath.Base(dir), false) }
