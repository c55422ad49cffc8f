package tier

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// The errors of Windows for a full disk, which the syscall package does not name.
const (
	handleDiskFull = syscall.Errno(39)
	diskFull       = syscall.Errno(112)
)

// noSpace adds blob.ErrNoSpace to the system's errors for a full disk or quota.
func noSpace(err error) error {
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	if runtime.GOOS == "windows" {
		full = full || errors.Is(err, diskFull) || errors.Is(err, handleDiskFull)
	}
	if full {
		return fmt.Errorf("%w: %w", blob.ErrNoSpace, err)
	}
	return err
}
