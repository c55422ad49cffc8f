//go:build !js

package sheaf

import (
	"context"
	"log/slog"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/pebblekv"
)

func openKV(ctx context.Context, dir string, key [32]byte, log *slog.Logger) (kv.DB, error) {
	db, err := pebblekv.Open(ctx, pebblekv.Options{Dir: dir, Key: key[:], Log: log})
	if err != nil {
		return nil, err // and no interface with a nil *DB in it
	}
	return db, nil
}
