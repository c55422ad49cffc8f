package chunkstore

import (
	"context"
	"fmt"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// SealedSize returns how many bytes the sealed chunk takes in its pack, or an error that wraps
// ErrMissing.
func (s *Store) SealedSize(ctx context.Context, id chunk.ID) (int64, error) {
	s.mu.Lock()
	at, ok := s.pending[id]
	s.mu.Unlock()
	if ok {
		return int64(at.entry.Len), nil
	}
	loc, ok, err := s.lookup(ctx, id)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("measure chunk %s: %w", id, ErrMissing)
	}
	return int64(loc.Len), nil
}
