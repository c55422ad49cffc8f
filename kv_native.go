//go:build !js

package sheaf

import (
	"log/slog"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/badgerkv"
)

func openKV(dir string, key [32]byte, log *slog.Logger) (kv.DB, error) {
	return badgerkv.Open(badgerkv.Options{Dir: dir, Key: key[:], Log: log})
}
