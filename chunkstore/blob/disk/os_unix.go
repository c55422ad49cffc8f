//go:build unix

package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// maxOpen is how many files are kept open.
const maxOpen = 64

// openFlags keep an open from waiting for the other end of a pipe.
const openFlags = syscall.O_NONBLOCK

// syncFolder makes the entries of a folder durable. Some file systems, mostly of
// the network, cannot do that and say so: there it is done as well as it can be.
func syncFolder(d *os.File) error {
	err := d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// alive reports whether a file that is open still has a name.
func alive(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return !ok || st.Nlink > 0
}
