package transfer

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	seekData = unix.SEEK_DATA
	seekHole = unix.SEEK_HOLE
	noXattr  = unix.ENODATA
)

func accessTime(s *syscall.Stat_t) time.Time { return time.Unix(s.Atim.Unix()) }

func changeTime(s *syscall.Stat_t) time.Time { return time.Unix(s.Ctim.Unix()) }

// linuxDev returns a device number in the 32 bits that vfs.Attr has it in.
func linuxDev(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | (major&0xfff)<<8 | (minor&^0xff)<<12
}

func mknodat(dir int, name string, mode, rdev uint32) error {
	major, minor := rdev>>8&0xfff, rdev&0xff|rdev>>12&0xfff00
	return unix.Mknodat(dir, name, mode, int(unix.Mkdev(major, minor)))
}
