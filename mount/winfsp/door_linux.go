//go:build cgofuse && cgo

package winfsp

import "golang.org/x/sys/unix"

func unmountFlags(force bool) int {
	if force {
		return unix.UMOUNT_NOFOLLOW | unix.MNT_DETACH | unix.MNT_FORCE
	}
	return unix.UMOUNT_NOFOLLOW
}
