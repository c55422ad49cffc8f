//go:build !unix && !windows

package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

const (
	maxOpen   = 0
	openFlags = 0
)

func syncFolder(d *os.File) error {
	_ = d.Sync() // where folders cannot be synced, there is no other way
	return nil
}

func isNoSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) }

func alive(fs.FileInfo) bool { return true }
