//go:build !((windows && !cgo) || (cgofuse && cgo && (linux || darwin)))

package winfsp

import (
	"context"
	"errors"
	"fmt"

	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

// errNotBuilt says what to use instead.
var errNotBuilt = fmt.Errorf("mount by cgofuse: %w by this program, which was built without it (build tag cgofuse, and C); use mount/fuse", errors.ErrUnsupported)

// Installed returns an error that wraps errors.ErrUnsupported.
func Installed() error { return errNotBuilt }

// Door is the mount.Door of cgofuse, which this program was built without.
type Door struct{}

// Mount returns an error that wraps errors.ErrUnsupported and says what to use instead.
func (Door) Mount(context.Context, vfs.FS, string, mount.Options) (mount.Mounted, error) {
	return nil, errNotBuilt
}
