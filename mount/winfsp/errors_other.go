//go:build (windows && !cgo) || (cgofuse && cgo && linux)

package winfsp

import "syscall"

// noXattr is what mount/errno calls a missing extended attribute.
const noXattr = syscall.ENODATA
