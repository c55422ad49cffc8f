//go:build !linux && !darwin

package transfer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sheaf-drive/sheaf/vfs"
)

const openFlags = 0

// mayChown is whether this process may give files away.
var mayChown = false

func sysItem(fs.FileInfo, *Item) {}

// ownAlone cannot tell here, so that every file is begun anew.
func ownAlone(fs.FileInfo) bool { return false }

// dataRun takes all for data.
func dataRun(f *os.File, off int64) (int64, int64, error) {
	info, err := f.Stat()
	if err == nil && off >= info.Size() {
		err = io.EOF
	}
	if err != nil {
		return 0, 0, err
	}
	return off, info.Size(), nil
}

func makeNode(*os.Root, string, Item) error {
	return fmt.Errorf("FIFOs, sockets and devices are not made here: %w", errors.ErrUnsupported)
}

func setTimes(root *os.Root, name string, it Item) error {
	if it.Kind == vfs.KindLink {
		return nil // a link has no times of its own here
	}
	return root.Chtimes(name, clampTime(it.ATime), clampTime(it.MTime))
}

func readXattrs(*os.File) ([]Xattr, error) { return nil, nil }

func writeXattrs(*os.File, []Xattr) error { return nil }
