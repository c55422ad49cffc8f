//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"
)

// SyncDir returns when the names in dir are durable. Some file systems, mostly of the network,
// cannot sync folders and say so: there it is done as well as it can be.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
