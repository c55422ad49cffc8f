//go:build cgofuse && cgo

package winfsp

import "golang.org/x/sys/unix"

func unmountFlags(force bool) int {
	if force {
		return unix.MNT_FORCE
	}
	return 0
}
