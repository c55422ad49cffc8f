//go:build unix

package sheaf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// lockDir makes dir if needed, and locks it against other processes until the lock is closed or
// this process ends.
func lockDir(dir string) (io.Closer, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make folder of the drive: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock drive: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", dir, ErrLocked)
	}
	return nil, fmt.Errorf("lock %s: %w", dir, err)
}

func owner() [2]uint32 { return [2]uint32{uint32(os.Getuid()), uint32(os.Getgid())} }
