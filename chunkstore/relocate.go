package chunkstore

import (
	"context"
	"fmt"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// Relocate looks for the chunks of packs that are listed but cannot be read in other packs, and locates them there. It
// returns those that are nowhere else: these stay where they are. A pack that this Store has put, or read as a whole, is an error: that it
// is not to be had is a loss.
func (s *Store) Relocate(ctx context.Context, packs ...pack.Name) (stuck map[chunk.ID]struct{}, err error) {
	if err := s.checkOpen(); err != nil {
		return nil, err
	}
	if err := s.lockMaintenance(ctx); err != nil {
		return nil, fmt.Errorf("relocate chunks: %w", err)
	}
	defer s.unlockMaintenance()
	if stuck, err = s.relocate(ctx, packs...); err != nil {
		return nil, fmt.Errorf("relocate chunks: %w", err)
	}
	return stuck, nil
}

// relocate needs the maintenance lock. It reads the index as a whole, and the directories of all packs with second copies.
func (s *Store) relocate(ctx context.Context, packs ...pack.Name) (map[chunk.ID]struct{}, error) {
	held := map[pack.Name][]pack.Entry{}
	var gone []index.Pack
	for _, name := range packs {
		p, known := s.x.Pack(name)
		switch {
		case !known:
			continue // nothing is located in it
		case p.Sure():
			return nil, fmt.Errorf("%w: pack %s", ErrMissing, name)
		}
		held[name] = nil
		gone = append(gone, p)
	}
	if len(gone) == 0 {
		return nil, nil
	}
	for it, err := range s.x.All(ctx) {
		if err != nil {
			return nil, err
		}
		if _, ok := held[it.Pack]; ok && !it.Orphan {
			held[it.Pack] = append(held[it.Pack], it.Entry(it.ID))
		}
	}
	names := make([]pack.Name, len(gone))
	for i, p := range gone {
		names[i] = p.Name
	}
	if err := s.forget(ctx, names); err != nil {
		return nil, err
	}
	// What is nowhere else is still best looked for where it was: the place may give it another time.
	stuck := map[chunk.ID]struct{}{}
	for _, p := range gone {
		if err := s.x.Learn(ctx, p.Name, p.Size, held[p.Name], p.Mark); err != nil {
			return nil, spaceError(err)
		}
		for _, e := range held[p.Name] {
			loc, ok, err := s.x.Lookup(ctx, e.ID)
			if err != nil {
				return nil, err
			}
			if !ok || loc.Pack == p.Name {
				stuck[e.ID] = struct{}{}
			}
		}
	}
	return stuck, nil
}

// away is called by a read that could not reach the pack in which src says that the chunk is. Who has put the pack may have moved the chunk to another one, which is on
// this device, and removed the first: that is found out without asking anybody who is away. It reports whether the chunk is located elsewhere now. It does nothing
// while something else has the maintenance lock, which may take long, and for a while after it was of no use, as doubt; nor for a pack that this Store has put, or read as a whole.
func (s *Store) away(ctx context.Context, id chunk.ID, src source) (bool, error) {
	if s.renew == nil || !s.tryMaintenance() {
		return false, nil
	}
	defer s.unlockMaintenance()
	if ok, err := s.elsewhere(ctx, id, src); ok || err != nil { // another reader was here before
		return ok, err
	}
	if p, known := s.x.Pack(src.pack); !known || p.Sure() || time.Now().Before(s.trusting) {
		return false, nil
	}
	start := time.Now()
	if err := s.renew(ctx, true); err != nil {
		s.log.Warn("what others have put on this device could not be looked at", "err", err)
	}
	if err := s.refresh(ctx); err != nil {
		return false, err
	}
	if _, err := s.relocate(ctx, src.pack); err != nil {
		return false, err
	}
	ok, err := s.elsewhere(ctx, id, src)
	if !ok {
		s.trusting = time.Now().Add(max(s.pause, 16*time.Since(start)))
	}
	return ok, err
}
