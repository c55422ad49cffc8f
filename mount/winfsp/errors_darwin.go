//go:build cgofuse && cgo

package winfsp

import "syscall"

// noXattr is what mount/errno calls a missing extended attribute.
const noXattr = syscall.ENOATTR
