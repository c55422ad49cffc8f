package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData leaves out the inode's times, which nobody needs, but not its size.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// startWriting is a hint: what it says of errors, the sync that follows says too.
func startWriting(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
