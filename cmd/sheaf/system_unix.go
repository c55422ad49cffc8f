//go:build unix

package main

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/vfs"
)

// background starts a process in a session of its own, so that it outlives the terminal.
func background() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// processorTime returns how much time of processors this process has taken.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// usage tells the room of the file system that dir is on.
func usage(dir string) func(context.Context) (vfs.Usage, error) {
	return func(context.Context) (vfs.Usage, error) {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			return vfs.Usage{}, err
		}
		b := uint64(s.Bsize)
		//nolint:unconvert // some of them are signed on other systems
		return vfs.Usage{Bytes: uint64(s.Blocks) * b, BytesFree: uint64(s.Bavail) * b, Files: uint64(s.Files), FilesFree: uint64(s.Ffree)}, nil
	}
}
