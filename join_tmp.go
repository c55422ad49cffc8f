package sheaf

import (
	"context"
	"errors"

	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

func join(context.Context, manifest.Store, manifest.Snapshot, manifest.Snapshot) (manifest.Snapshot, error) {
	return manifest.Snapshot{}, errors.ErrUnsupported
}
