package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// MaxAtHand is how many chunks are kept at hand at most.
const MaxAtHand = 256

// atHandPrefix begins the keys of the DB under which the sealed bytes of chunks are kept.
const atHandPrefix = "at-hand/"

func atHandKey(id chunk.ID) []byte { return append([]byte(atHandPrefix), id[:]...) }

// atHand has the chunks that are kept, and reads them from the DB.
type atHand struct {
	db  kv.DB
	ids map[chunk.ID]struct{} // guarded by Store.mu
}

func openAtHand(ctx context.Context, db kv.DB) (*atHand, error) {
	a := &atHand{db: db, ids: map[chunk.ID]struct{}{}}
	for p, err := range db.Scan(ctx, []byte(atHandPrefix), []byte("at-hand0")) {
		if err != nil {
			return nil, fmt.Errorf("look for what is kept at hand: %w", err)
		}
		if len(p.Key) == len(atHandPrefix)+len(chunk.ID{}) {
			a.ids[chunk.ID(p.Key[len(atHandPrefix):])] = struct{}{}
		}
	}
	return a, nil
}

// KeepAtHand keeps these chunks, at most MaxAtHand, in the database of this device, sealed as they lie, and no others any more: so they can be read while the Bucket has
// them at a place that cannot be reached, also after whatever cached them has dropped them. Those in packs of which near says true, which lie
// on this device anyhow, are left out, as are those of more than kv.MaxValue bytes.
// It is for the few chunks without which a drive does not open, and costs a read of each that is new. Calls come one at a time. After an error some of them are kept.
func (s *Store) KeepAtHand(ctx context.Context, near func(pack.Name) bool, ids ...chunk.ID) error {
	keep, fresh := map[chunk.ID][]byte{}, false
	for _, id := range ids[:min(len(ids), MaxAtHand)] {
		s.mu.Lock()
		_, have := s.hand.ids[id]
		s.mu.Unlock()
		if have {
			keep[id] = nil
			continue
		}
		err := s.with(ctx, id, func(src source) error {
			if src.view != nil || src.n > kv.MaxValue || near(src.pack) {
				return nil
			}
			sealed := make([]byte, src.n)
			if err := src.read(ctx, sealed, 0); err != nil {
				return err
			}
			keep[id], fresh = sealed, true
			return nil
		})
		if err != nil {
			return fmt.Errorf("keep chunk %s at hand: %w", id, err)
		}
	}
	var gone []chunk.ID
	s.mu.Lock()
	for id := range s.hand.ids {
		if _, stays := keep[id]; !stays {
			gone = append(gone, id)
		}
	}
	s.mu.Unlock()
	if !fresh && len(gone) == 0 {
		return nil
	}
	err := s.hand.db.Update(ctx, func(tx kv.Tx) error {
		for id, sealed := range keep {
			if sealed == nil {
				continue
			}
			if err := tx.Put(atHandKey(id), sealed); err != nil {
				return err
			}
		}
		for _, id := range gone {
			if err := tx.Delete(atHandKey(id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep chunks at hand: %w", spaceError(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hand.ids = make(map[chunk.ID]struct{}, len(keep))
	for id := range keep {
		s.hand.ids[id] = struct{}{}
	}
	return nil
}

// handy is with, for reading: a chunk that is kept at hand is read from there. If what is kept is not what it should be, the Bucket has the answer.
func (s *Store) handy(ctx context.Context, id chunk.ID, fn func(source) error) error {
	s.mu.Lock()
	_, kept := s.hand.ids[id]
	s.mu.Unlock()
	if !kept {
		return s.with(ctx, id, fn)
	}
	sealed, err := s.hand.db.Get(ctx, atHandKey(id))
	if err == nil {
		err = fn(source{id: id, n: int64(len(sealed)), view: sealed, s: s})
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("a chunk that was kept at hand is of no use", "chunk", id, "err", err)
	}
	return s.with(ctx, id, fn)
}
