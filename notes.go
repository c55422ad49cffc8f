package sheaf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// notePrefix begins the keys of the database under which doors keep what is theirs.
const notePrefix = "note/"

// Note returns what SetNote was given for a name last; nil if nothing.
func (d *Drive) Note(ctx context.Context, name string) ([]byte, error) {
	b, err := d.db.Get(ctx, []byte(notePrefix+name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read note %s: %w", name, err)
	}
	return b, nil
}

// SetNote keeps up to 1 MiB for a door under a name, sealed, on this device only. It is durable when SetNote returns.
func (d *Drive) SetNote(ctx context.Context, name string, b []byte) error {
	err := d.db.Update(ctx, func(tx kv.Tx) error { return tx.Put([]byte(notePrefix+name), b) })
	if err == nil {
		err = d.db.Sync(ctx)
	}
	if err != nil {
		return fmt.Errorf("keep note %s: %w", name, err)
	}
	return nil
}
