package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/windows"

	"github.com/sheaf-drive/sheaf/vfs"
)

// background starts a process apart from the console.
func background() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}

// processorTime returns how much time of processors this process has taken.
func processorTime() time.Duration {
	var made, ended, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(windows.CurrentProcess(), &made, &ended, &kernel, &user); err != nil {
		return 0
	}
	ticks := func(f windows.Filetime) int64 { return int64(f.HighDateTime)<<32 | int64(f.LowDateTime) } // of 100 ns
	return time.Duration(100 * (ticks(kernel) + ticks(user)))
}

// usage tells the room of the file system that dir is on.
func usage(dir string) func(context.Context) (vfs.Usage, error) {
	return func(context.Context) (vfs.Usage, error) {
		p, err := windows.UTF16PtrFromString(dir)
		if err != nil {
			return vfs.Usage{}, err
		}
		var free, all uint64
		if err := windows.GetDiskFreeSpaceEx(p, &free, &all, nil); err != nil {
			return vfs.Usage{}, fmt.Errorf("room of %s: %w", dir, err)
		}
		return vfs.Usage{Bytes: all, BytesFree: free, Files: 1 << 32, FilesFree: 1 << 32}, nil
	}
}
