//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package disk

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks f until it is closed, if nobody else has.
func tryLock(f *os.File) lockState {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return lockTaken
		case errors.Is(err, syscall.EWOULDBLOCK):
			return lockHeld
		case !errors.Is(err, syscall.EINTR):
			return lockUnknown
		}
	}
}
