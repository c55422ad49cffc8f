//go:build (windows && !cgo) || (cgofuse && cgo && (linux || darwin))

package winfsp

import (
	"log/slog"
	"runtime/debug"
	"syscall"

	"github.com/winfsp/cgofuse/fuse"
)

// codes are the numbers that cgofuse has for those of mount/errno. On Windows the two differ. What has none is EIO.
var codes = map[syscall.Errno]int{
	syscall.EIO: fuse.EIO, syscall.EINTR: fuse.EINTR, syscall.ETIMEDOUT: fuse.ETIMEDOUT, syscall.EROFS: fuse.EROFS,
	syscall.ENOTDIR: fuse.ENOTDIR, syscall.EISDIR: fuse.EISDIR, syscall.ENOTEMPTY: fuse.ENOTEMPTY, syscall.ENAMETOOLONG: fuse.ENAMETOOLONG,
	syscall.EFBIG: fuse.EFBIG, syscall.EMLINK: fuse.EMLINK, syscall.ERANGE: fuse.ERANGE, syscall.ENOSPC: fuse.ENOSPC,
	syscall.EXDEV: fuse.EXDEV, syscall.ENXIO: fuse.ENXIO, syscall.EINVAL: fuse.EINVAL, syscall.EBADF: fuse.EBADF,
	syscall.EEXIST: fuse.EEXIST, syscall.ENOENT: fuse.ENOENT, syscall.EPERM: fuse.EPERM, syscall.EACCES: fuse.EACCES,
	syscall.EOPNOTSUPP: fuse.EOPNOTSUPP, syscall.ENOMEM: fuse.ENOMEM,
	syscall.EDQUOT: fuse.ENOSPC, // FUSE of Windows has no word for a quota
	syscall.ESTALE: fuse.ENOENT, // nor for what is not what it was; it is looked up anew
	noXattr:        fuse.ENOATTR,
}

// code returns what cgofuse is to be told of err, which op met with: 0, or less.
func (a *adapter) code(op string, err error) int {
	if err == nil {
		return 0
	}
	if c, ok := codes[a.errs.Of(op, err)]; ok {
		return -c
	}
	return -fuse.EIO
}

// caught answers a request whose handling panicked: the mount goes on.
func caught(log *slog.Logger, code *int) {
	if v := recover(); v != nil {
		log.Error("panic in a file operation", "panic", v, "stack", string(debug.Stack()))
		*code = -fuse.EIO
	}
}
