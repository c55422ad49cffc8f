package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// maxOpen is 0, as Windows does not rename or remove a file that is open.
const maxOpen = 0

const openFlags = 0

// syncFolder does nothing: NTFS journals the entries of folders by itself, and gives no
// other way.
func syncFolder(*os.File) error { return nil }

func isNoSpace(err error) bool {
	const handleDiskFull, diskFull, quota = syscall.Errno(39), syscall.Errno(112), syscall.Errno(1295)
	return errors.Is(err, handleDiskFull) || errors.Is(err, diskFull) || errors.Is(err, quota)
}

func alive(fs.FileInfo) bool { return true }
