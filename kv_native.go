//go:build !js

package sheaf

import (
	"context"
	"log/slog"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/badgerkv"
)

func openKV(ctx context.Context, dir string, key [32]byte, log *slog.Logger) (kv.DB, error) {
	db, err := badgerkv.Open(ctx, badgerkv.Options{Dir: dir, Key: key[:], Log: log})
	if err != nil {
		return nil, err // and no interface with a nil *DB in it
	}
	return db, nil
}
