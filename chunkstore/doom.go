package chunkstore

import (
	"context"
	"fmt"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// Shy has the Store take nothing for stored because it is in packs that others have put, or end that.
func (s *Store) Shy(on bool) { s.shy.Store(on) }

// Doom says that another device is about to remove packs, which it has put. From now on no Put takes bytes for stored because they
// are in one of them. settled has a channel for each Hold of now, which is closed when that ends: once all are, what was put before is
// reachable or given up, and what is put then needs nothing of the packs that nothing reached before. It is durable when Doom returns.
func (s *Store) Doom(ctx context.Context, packs ...pack.Name) (settled []<-chan struct{}, err error) {
	if err := s.checkOpen(); err != nil {
		return nil, err
	}
	if err := s.x.Doom(ctx, time.Now(), packs...); err != nil {
		return nil, fmt.Errorf("doom packs: %w", spaceError(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.holds {
		settled = append(settled, h.released)
	}
	return settled, nil
}
