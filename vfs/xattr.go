package vfs

import (
	"context"
	"errors"
)

// CopyXattrs gives to the extended attributes of from, and leaves those that it has besides. What goes meanwhile is left out; a tree that keeps
// none has none to copy. It stops at the first error.
func CopyXattrs(ctx context.Context, from, to Node) error {
	names, err := from.ListXattr(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		v, err := from.Xattr(ctx, name)
		if errors.Is(err, ErrNoXattr) {
			continue
		}
		if err == nil {
			err = to.SetXattr(ctx, name, v, XattrAny)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
