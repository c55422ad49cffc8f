package fuse

import (
	"errors"
	"fmt"
	"os"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

var errUnsupported = errors.ErrUnsupported

// keepsACL is false: the lists of macOS are not those of acl.go.
const keepsACL = false

const extraCapabilities = 0

// looksAgain says that the kernel looks a name up anew and tries again when the answer is ESTALE. It shows that to the program.
const looksAgain = false

// writebackCapability does not exist here.
const writebackCapability = 0

const setXattrKillSGID = 0

func setXattrFlags(*gofuse.SetXAttrIn) uint32 { return 0 }

// beingKilled says yes: there is no way to look. So every interrupt is passed on.
func beingKilled(uint32) bool { return true }

func directFlags(bool) uintptr { return 0 }

// A mountInfo is one line of the table of mounts.
type mountInfo struct {
	dir, kind, source string
	dev               string // not known here
}

// mountAt returns what is mounted at dir.
func mountAt(dir string) (mountInfo, bool, error) {
	n, err := unix.Getfsstat(nil, unix.MNT_NOWAIT)
	if err != nil {
		return mountInfo{}, false, fmt.Errorf("read table of mounts: %w", err)
	}
	all := make([]unix.Statfs_t, n+8)
	if n, err = unix.Getfsstat(all, unix.MNT_NOWAIT); err != nil {
		return mountInfo{}, false, fmt.Errorf("read table of mounts: %w", err)
	}
	for i := range all[:n] {
		m := &all[i]
		if unix.ByteSliceToString(m.Mntonname[:]) == dir {
			return mountInfo{
				dir:    dir,
				kind:   unix.ByteSliceToString(m.Fstypename[:]),
				source: unix.ByteSliceToString(m.Mntfromname[:]),
			}, true, nil
		}
	}
	return mountInfo{}, false, nil
}

func directUnmount(dir string, force bool) error {
	flags := 0
	if force {
		flags = unix.MNT_FORCE
	}
	return unix.Unmount(dir, flags)
}

func abortConnection(string) error { return fmt.Errorf("abort connection: %w", errors.ErrUnsupported) }

func tune(string) error { return nil }

func mayAllowOther() bool { return true }

// checkSystem reports what is missing for a mount.
func checkSystem(bool) error {
	if _, err := os.Stat("/Library/Filesystems/macfuse.fs"); err != nil {
		return errors.New("macFUSE is missing: install it from macfuse.io")
	}
	return nil
}
