// Package errno is the one table between the errors of a tree (vfs, io/fs) and the
// error numbers of the system, for all mounts. It is not for errors of the
// mounting itself.
package errno

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// pair is one line of the table.
type pair struct {
	err error
	num syscall.Errno
}

// table is read from the top: the first line whose error is in the chain wins. ErrCorrupt
// stands first, so that damage which wraps a missing blob is never told as a missing
// file. Of lines with one number, From takes the first.
var table = []pair{
	{vfs.ErrCorrupt, syscall.EIO},
	{context.Canceled, syscall.EINTR},
	{context.DeadlineExceeded, syscall.ETIMEDOUT},
	{vfs.ErrReadOnly, syscall.EROFS},
	{vfs.ErrNotDir, syscall.ENOTDIR},
	{vfs.ErrIsDir, syscall.EISDIR},
	{vfs.ErrNotEmpty, syscall.ENOTEMPTY},
	{vfs.ErrStale, syscall.ESTALE},
	{vfs.ErrNameLen, syscall.ENAMETOOLONG},
	{vfs.ErrTooBig, syscall.EFBIG},
	{vfs.ErrTooMany, syscall.EMLINK},
	{vfs.ErrNoXattr, noXattr},
	{vfs.ErrRange, syscall.ERANGE},
	{vfs.ErrNoSpace, syscall.ENOSPC},
	{vfs.ErrQuota, syscall.EDQUOT},
	{vfs.ErrCrossTree, syscall.EXDEV},
	{vfs.ErrNoData, syscall.ENXIO},
	{fs.ErrInvalid, syscall.EINVAL},
	{vfs.ErrName, syscall.EINVAL},
	{fs.ErrClosed, syscall.EBADF},
	{fs.ErrExist, syscall.EEXIST},
	{fs.ErrNotExist, syscall.ENOENT},
	{fs.ErrPermission, syscall.EPERM},
	{errors.ErrUnsupported, syscall.EOPNOTSUPP},
}

// direct are the numbers that a layer below a tree may give and that mean
// the same to whoever called: the disk that holds the store is full, for one. Any other
// number (a store's file that is missing, say) speaks of things the caller
// does not know, and becomes EIO.
var direct = []syscall.Errno{
	syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.ENOMEM, syscall.EFBIG,
	syscall.EINTR, syscall.EOPNOTSUPP,
}

// Of returns the number for err, 0 for nil, and whether err is expected in
// daily life. What is not (damage, and errors that the table does not know) is EIO, and
// a person should hear of it.
func Of(err error) (num syscall.Errno, known bool) {
	if err == nil {
		return 0, true
	}
	for _, p := range table {
		if says(err, p.err) {
			return p.num, p.num != syscall.EIO
		}
	}
	var raw syscall.Errno
	if errors.As(err, &raw) && slices.Contains(direct, raw) {
		return raw, true
	}
	return syscall.EIO, false
}

// says is errors.Is, but it does not ask a syscall.Errno, which claims to be
// fs.ErrNotExist and its like: what a store's own files lack is not what the caller
// asked for.
func says(err, want error) bool {
	for err != nil {
		if err == want {
			return true
		}
		if _, raw := err.(syscall.Errno); raw {
			return false
		}
		if x, ok := err.(interface{ Is(error) bool }); ok && x.Is(want) {
			return true
		}
		switch x := err.(type) {
		case interface{ Unwrap() error }:
			err = x.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range x.Unwrap() {
				if says(e, want) {
					return true
				}
			}
			return false
		default:
			return false
		}
	}
	return false
}

// From returns the error of a tree for a number: nil for 0, and the number itself if the
// table does not have it.
func From(num syscall.Errno) error {
	if num == 0 {
		return nil
	}
	if num == syscall.EACCES {
		return fs.ErrPermission
	}
	for _, p := range table {
		if p.num == num {
			return p.err
		}
	}
	return num
}

// quiet is how long a Translator keeps silent after it has logged.
const quiet = 10 * time.Second

// A Translator turns errors into numbers and logs those that a person should
// hear of, at most one in ten seconds and then how many it left out. It is safe
// for concurrent use. Log must not be nil.
type Translator struct {
	Log *slog.Logger

	mu   sync.Mutex
	last time.Time
	left int
}

// Of returns the number for err, which op met with.
func (t *Translator) Of(op string, err error) syscall.Errno {
	if err == nil {
		return 0
	}
	num, known := Of(err)
	if !known {
		t.log(op, err)
	}
	return num
}

func (t *Translator) log(op string, err error) {
	now := time.Now()
	t.mu.Lock()
	if !t.last.IsZero() && now.Sub(t.last) < quiet {
		t.left++
		t.mu.Unlock()
		return
	}
	left := t.left
	t.last, t.left = now, 0
	t.mu.Unlock()
	t.Log.Error("operation failed", "op", op, "error", err, "unreported_before", left)
}
