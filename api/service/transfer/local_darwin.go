package transfer

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	seekHole = 3
	seekData = 4
	noXattr  = unix.ENOATTR
)

func accessTime(s *syscall.Stat_t) time.Time { return time.Unix(s.Atimespec.Unix()) }

func changeTime(s *syscall.Stat_t) time.Time { return time.Unix(s.Ctimespec.Unix()) }

// linuxDev returns a device number in the 32 bits that vfs.Attr has it in.
func linuxDev(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | (major&0xfff)<<8 | (minor&^0xff)<<12
}

// mknodat fails: this system has none that keeps to a folder.
func mknodat(int, string, uint32, uint32) error {
	return fmt.Errorf("FIFOs and devices are not made here: %w", errors.ErrUnsupported)
}
