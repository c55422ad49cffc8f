package transfer

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeThrough has the system begin to write what was just written to f, and forget what was written well before: a large copy
// would else fill its memory with what nobody reads soon, and end with all of it still to be written. Both are hints.
func writeThrough(f *os.File, off, n int64) {
	c, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Control(func(fd uintptr) {
		_ = unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE)
		if off >= throughLag {
			_ = unix.Fadvise(int(fd), off-throughLag, n, unix.FADV_DONTNEED)
		}
	})
}
