package chunkstore

import (
	"context"
	"fmt"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// A Place is where a sealed chunk lies.
type Place struct {
	Pack     pack.Name // zero if Open
	Off, Len int64     // in bytes, in the pack
	Open     bool      // in a pack that is not in the Bucket yet
}

// Packs returns the packs that the Store needs, in no order: those in which a chunk of its index lies, and that no device is about to
// remove. Packs that are not in the Bucket yet are not among them.
func (s *Store) Packs() []pack.Name {
	var names []pack.Name
	for _, p := range s.x.Packs() {
		if p.Live > 0 && !p.Doomed && !p.Ghost {
			names = append(names, p.Name)
		}
	}
	return names
}

// Where returns where a chunk lies, or an error that wraps ErrMissing. It reads no pack. A compaction may move the chunk
// at any time.
func (s *Store) Where(ctx context.Context, id chunk.ID) (Place, error) {
	s.mu.Lock()
	at, ok := s.pending[id]
	s.mu.Unlock()
	if ok {
		return Place{Len: int64(at.entry.Len), Open: true}, nil
	}
	loc, ok, err := s.lookup(ctx, id)
	if err != nil {
		return Place{}, err
	}
	if !ok {
		return Place{}, fmt.Errorf("find chunk %s: %w", id, ErrMissing)
	}
	return Place{Pack: loc.Pack, Off: int64(loc.Off), Len: int64(loc.Len)}, nil
}
