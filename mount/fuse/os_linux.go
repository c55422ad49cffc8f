package fuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

var errUnsupported = errors.ErrUnsupported

// keepsACL says that the lists of this system are those of acl.go.
const keepsACL = true

// extraCapabilities are asked of the kernel besides what the library asks for; an old
// kernel that lacks one works without it. Not CAP_ASYNC_DIO: with it the kernel leaves what was read during an
// asynchronous direct write in its memory, so that after the write the old bytes are read (xfstests generic/451).
// CAP_NO_EXPORT_SUPPORT: a file handle (open_by_handle_at(2), NFS servers) would be good only until the kernel forgets
// the node, and nothing finds a node by its number then; better none is given out.
const extraCapabilities = gofuse.CAP_ATOMIC_O_TRUNC | gofuse.CAP_HANDLE_KILLPRIV_V2 | gofuse.CAP_READDIRPLUS_AUTO |
	gofuse.CAP_SETXATTR_EXT | gofuse.CAP_DONT_MASK | gofuse.CAP_NO_EXPORT_SUPPORT

// looksAgain says that the kernel looks a name up anew and tries again when the answer is ESTALE.
const looksAgain = true

// writebackCapability lets the kernel gather writes.
const writebackCapability = gofuse.CAP_WRITEBACK_CACHE

const setXattrKillSGID = gofuse.SETXATTR_ACL_KILL_SGID

func setXattrFlags(in *gofuse.SetXAttrIn) uint32 { return in.SetXAttrFlags }

// Statx returns the attributes of a node with the time it was made.
func (s *server) Statx(cancel <-chan struct{}, in *gofuse.StatxIn, out *gofuse.StatxOut) gofuse.Status {
	n, st := s.node(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	a, err := n.node.Attr(opContext(cancel))
	if err != nil {
		return s.status("statx", err)
	}
	out.SetTimeout(n.attrValidity())
	x := &out.Statx
	x.Mask = unix.STATX_BASIC_STATS
	x.Blksize = blockSize
	x.Nlink = a.Nlink
	x.Uid, x.Gid = a.UID, a.GID
	x.Mode = uint16(typeBits(a.Kind) | uint32(a.Mode))
	x.Ino = a.Ino
	x.Size = uint64(a.Size)
	x.Blocks = blocks(a.Bytes)
	x.Atime.Sec, x.Atime.Nsec = stamp(a.ATime)
	x.Mtime.Sec, x.Mtime.Nsec = stamp(a.MTime)
	x.Ctime.Sec, x.Ctime.Nsec = stamp(a.CTime)
	if !a.BTime.IsZero() {
		x.Mask |= unix.STATX_BTIME
		x.Btime.Sec, x.Btime.Nsec = stamp(a.BTime)
	}
	x.RdevMajor, x.RdevMinor = unix.Major(uint64(a.Rdev)), unix.Minor(uint64(a.Rdev))
	return gofuse.OK
}

// Statx is as server's, for a caller that may be interrupted.
func (p patient) Statx(cancel <-chan struct{}, in *gofuse.StatxIn, out *gofuse.StatxOut) gofuse.Status {
	st := p.server.Statx(cancel, in, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Statx(c, in, out) })
}

// beingKilled reports whether the thread has a SIGKILL before it, as the kernel gives to every
// thread of a process that a signal is to end. Of a thread that cannot be looked at
// it says yes: it is gone, or nobody can tell.
func beingKilled(tid uint32) bool {
	if tid == 0 {
		return false // the kernel itself, or a process outside this container
	}
	b, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(tid), 10) + "/status")
	return err != nil || killPending(string(b))
}

// killPending reads a status file of proc(5).
func killPending(status string) bool {
	for line := range strings.Lines(status) {
		name, mask, _ := strings.Cut(line, ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		if set, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64); err == nil && set&(1<<(unix.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}

// directFlags are the flags of mount(2) where root mounts without a helper program.
func directFlags(readOnly bool) uintptr {
	f := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if readOnly {
		f |= unix.MS_RDONLY
	}
	return f
}

// A mountInfo is one line of /proc/self/mountinfo.
type mountInfo struct {
	dir, kind, source string
	dev               string // major:minor
}

// mountAt returns what is mounted at dir, the topmost if several are. dir is absolute,
// clean and without symbolic links.
func mountAt(dir string) (mountInfo, bool, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mountInfo{}, false, fmt.Errorf("read table of mounts: %w", err)
	}
	m, ok := findMount(string(b), dir)
	return m, ok, nil
}

// findMount looks dir up in the text of a mountinfo table, which proc(5) describes.
func findMount(table, dir string) (found mountInfo, ok bool) {
	for line := range strings.Lines(table) {
		head, tail, sep := strings.Cut(line, " - ")
		f, g := strings.Fields(head), strings.Fields(tail)
		if !sep || len(f) < 5 || len(g) < 2 || unescape(f[4]) != dir {
			continue
		}
		found, ok = mountInfo{dir: dir, dev: f[2], kind: g[0], source: unescape(g[1])}, true
	}
	return found, ok
}

// unescape undoes the octal escapes (\040 for a space) of the table of mounts.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// directUnmount is umount2(2). With force, what waits for the mount fails, and it is
// unmounted though it is in use.
func directUnmount(dir string, force bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if force {
		flags |= unix.MNT_DETACH | unix.MNT_FORCE
	}
	return unix.Unmount(dir, flags)
}

// abortConnection makes the kernel fail all that waits for the mount with that
// device number. The file is the mounting user's.
func abortConnection(dev string) error {
	_, minor, _ := strings.Cut(dev, ":")
	if minor == "" {
		return fmt.Errorf("abort connection: %w", errors.ErrUnsupported)
	}
	return os.WriteFile(filepath.Join("/sys/fs/fuse/connections", minor, "abort"), []byte("1"), 0)
}

// tune lets the kernel read ahead as far as one request goes. Only root may; without it
// long reads come in smaller pieces.
func tune(dev string) error {
	return os.WriteFile(filepath.Join("/sys/class/bdi", dev, "read_ahead_kb"), []byte(strconv.Itoa(maxRequest>>10)), 0)
}

// mayAllowOther reports whether a plain user may let others look into a mount.
func mayAllowOther() bool {
	b, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

// checkSystem reports what is missing for a mount.
func checkSystem(root bool) error {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return errors.New("/dev/fuse is missing: load the kernel's FUSE module (modprobe fuse), or give this container the device")
	}
	if root {
		return nil
	}
	if _, err := helper(); err != nil {
		return errors.New("fusermount3 is missing: install it (Debian and its kin: apt install fuse3)")
	}
	return mayOpen("/dev/fuse")
}

// mayOpen reports whether this user may open the device, as fusermount3 will: it does so with the
// rights of its caller.
func mayOpen(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("this user may not open %s (%w): root must let all users (chmod 666 %s), as most systems do", device, err, device)
	}
	return f.Close()
}
