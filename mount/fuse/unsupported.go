//go:build !linux && !darwin

package fuse

import (
	"context"
	"errors"
	"fmt"

	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

// Door is the mount.Door of FUSE, which this system does not have.
type Door struct{}

// Mount returns an error that wraps errors.ErrUnsupported and says what to use instead.
func (Door) Mount(context.Context, vfs.FS, string, mount.Options) (mount.Mounted, error) {
	return nil, fmt.Errorf("mount by FUSE: %w here; use the WebDAV server, or the commands ls, cat and cp", errors.ErrUnsupported)
}
