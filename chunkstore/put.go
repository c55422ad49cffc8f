package chunkstore

import (
	"context"
	"fmt"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// worker is what one Put at a time needs.
type worker struct {
	sealer *seal.Sealer
	err    error
	buf    []byte
}

func newWorker(s seal.Secrets, suite seal.Suite, level seal.Level) *worker {
	sealer, err := seal.NewSealer(s, suite, level)
	return &worker{sealer: sealer, err: err}
}

// Put stores plain, which it does not keep, and returns the Ref to read it by. If
// the Store has these bytes already, as a chunk of that kind, nothing is written. The
// chunk can be read at once; it is durable after the next Flush.
//
// Put waits while too many full packs are on their way to the bucket. If one of
// them could not be stored, one Put returns the reason, without having stored
// plain; nothing that was put before is lost, and the pack is tried again.
func (s *Store) Put(ctx context.Context, kind chunk.Kind, plain []byte) (chunk.Ref, error) {
	ref, err := s.put(ctx, kind, plain)
	if err != nil {
		return chunk.Ref{}, fmt.Errorf("put %s chunk: %w", kind, err)
	}
	return ref, nil
}

func (s *Store) put(ctx context.Context, kind chunk.Kind, plain []byte) (chunk.Ref, error) {
	if !kind.Valid() || len(plain) > chunk.MaxSize {
		return chunk.Ref{}, fmt.Errorf("%w: %d bytes", seal.ErrArgument, len(plain))
	}
	keys := s.keys.Load()
	w := keys.workers.Get().(*worker)
	defer keys.workers.Put(w)
	if w.err != nil {
		return chunk.Ref{}, w.err
	}
	cid := w.sealer.CID(kind, plain)
	release, err := s.claim(ctx, cid)
	if err != nil {
		return chunk.Ref{}, err
	}
	defer release()
	ref, ok, err := s.known(ctx, &keys.all[0], cid, kind, len(plain))
	if ok || err != nil {
		return ref, err
	}
	sealed, ref, siv, err := w.sealer.Seal(w.buf[:0], kind, plain)
	w.buf = sealed
	if err != nil {
		return chunk.Ref{}, err
	}
	e := pack.Entry{ID: ref.ID, CID: cid, SIV: siv, Kind: kind, Plain: ref.Size}
	return ref, s.append(ctx, e, sealed)
}

// claim returns when no other Put stores the same bytes, and keeps others from it
// until release. So equal bytes are stored once, whoever puts them at the same time.
func (s *Store) claim(ctx context.Context, cid seal.CID) (release func(), err error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		other, busy := s.sealing[cid]
		if !busy {
			done := make(chan struct{})
			s.sealing[cid] = done
			s.filterLocked()
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.sealing, cid)
				s.mu.Unlock()
				close(done)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
		}
	}
}

// filterShare is what share of the chunks of a Store must be put before it reads all dedup IDs: to do that costs as much
// as the Store is large, and a small change is not to pay for it.
const filterShare = 64

// filterLocked counts a Put, and begins to fill the filter of known bytes when it is worth it.
func (s *Store) filterLocked() {
	if s.filling {
		return
	}
	if s.puts == 0 {
		s.fillAfter = s.x.Chunks() / filterShare
	}
	if s.puts++; s.puts > s.fillAfter {
		s.filling = true
		s.wg.Add(1)
		go s.fillFilter()
	}
}

// fillFilter reads the dedup IDs once, beside the Puts.
func (s *Store) fillFilter() {
	defer s.wg.Done()
	if err := s.x.FillFilter(s.life); err != nil && s.life.Err() == nil {
		s.log.Warn("the filter of known chunks is off, storing is slower", "err", err)
	}
}

// known returns the Ref of the bytes, whose dedup ID is by keys, if the Store has them, and counts them as put now. Hearsay is enough for that: the
// entry is from the sealed directory of a pack, or from an index blob, which whoever wrote them had. The bucket
// may have shown that pack under the name of another, so that they are not where the index has them; but they are
// in the bucket, for that pack is none that this device has removed: those are known by their names and marks.
func (s *Store) known(ctx context.Context, keys *Keys, cid seal.CID, kind chunk.Kind, size int) (chunk.Ref, bool, error) {
	for {
		s.mu.Lock()
		if id, ok := s.pendingCID[cid]; ok {
			e := s.pending[id].entry
			s.markLocked(id)
			s.mu.Unlock()
			return chunk.Ref{ID: id, Key: keys.Seal.KeyOf(e.SIV), Size: e.Plain, Kind: e.Kind}, true, nil
		}
		removals := s.removals
		s.mu.Unlock()

		id, loc, ok, err := s.x.ByCID(ctx, cid)
		if err != nil || !ok || loc.Kind != kind || int64(loc.Plain) != int64(size) {
			return chunk.Ref{}, false, err
		}
		if p, ok := s.x.Pack(loc.Pack); ok && (p.Ghost || p.Doomed || !p.Own && s.shy.Load()) {
			return chunk.Ref{}, false, nil // may vanish at any time
		}
		switch state, err := s.keep(ctx, id, removals); {
		case err != nil:
			return chunk.Ref{}, false, err
		case state == kept:
			return chunk.Ref{ID: id, Key: keys.Seal.KeyOf(loc.SIV), Size: loc.Plain, Kind: loc.Kind}, true, nil
		case state == goes:
			return chunk.Ref{}, false, nil
		}
	}
}

// What keep found.
type keeping int

const (
	kept  keeping = iota // the chunk counts as put now
	goes                 // its removal has begun; it must be stored anew
	again                // chunks were removed since the caller looked it up; look again
)

// keep makes a chunk that the index has count as put now. removals is s.removals from
// before the chunk was looked up.
//
// It works without a lock over the look-up: a removal first enters the chunk in
// s.dying, under s.mu and only if it is not marked, then deletes it from the
// index, then counts s.removals up as it leaves s.dying. So a chunk that was found,
// is not dying, and saw no removal end since, is there and now marked.
func (s *Store) keep(ctx context.Context, id chunk.ID, removals uint64) (keeping, error) {
	mark := func(revive bool) keeping {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.removals != removals {
			return again
		}
		if _, ok := s.dying[id]; ok {
			return goes
		}
		s.markLocked(id)
		if revive {
			s.revived[id] = struct{}{}
		}
		return kept
	}
	// Mark first, then look whether it is condemned: Sweep condemns first and then
	// looks whether it is marked, so that one of the two sees the other.
	if state := mark(false); state != kept {
		return state, nil
	}
	condemned, err := s.x.IsCondemned(ctx, id)
	if err != nil || !condemned {
		return kept, err
	}
	return mark(true), nil
}

// markLocked makes the chunk live in the garbage collection that is under way, and in
// all that begin before the holds of now are released.
func (s *Store) markLocked(id chunk.ID) {
	if s.cycle != nil {
		s.cycle.marks.Add(id)
	}
	for h := range s.holds {
		h.put.Add(id)
	}
}

// Keep says that what is going to be stored will refer to the chunk, as if its
// bytes were put again. It returns an error that wraps ErrMissing if the chunk is
// not there, or not any more, or only in a pack that was removed and is shown nevertheless. Whoever copies a Ref from where it may be the
// last one calls this before.
func (s *Store) Keep(ctx context.Context, id chunk.ID) error {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return ErrClosed
		}
		if _, ok := s.pending[id]; ok {
			s.markLocked(id)
			s.mu.Unlock()
			return nil
		}
		removals := s.removals
		s.mu.Unlock()
		loc, ok, err := s.lookup(ctx, id)
		if err != nil {
			return fmt.Errorf("keep chunk: %w", err)
		}
		if p, known := s.x.Pack(loc.Pack); !ok || known && p.Ghost {
			return fmt.Errorf("keep chunk %s: %w", id, ErrMissing)
		}
		switch state, err := s.keep(ctx, id, removals); {
		case err != nil:
			return fmt.Errorf("keep chunk: %w", err)
		case state == kept:
			return nil
		case state == goes:
			return fmt.Errorf("keep chunk %s: %w", id, ErrMissing)
		}
	}
}

// append adds a sealed chunk to an open pack.
func (s *Store) append(ctx context.Context, e pack.Entry, sealed []byte) error {
	slot, err := s.entropy.coin()
	if err != nil {
		return err
	}
	for {
		s.mu.Lock()
		wait, err := s.appendLocked(slot, e, sealed)
		s.mu.Unlock()
		if wait == nil || err != nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// appendLocked adds the chunk to the pack in slot, or the other, and sends full ones to the
// bucket before. If there is no memory for a new one it returns what to wait for.
func (s *Store) appendLocked(slot int, e pack.Entry, sealed []byte) (wait chan struct{}, err error) {
	if s.closed {
		return nil, ErrClosed
	}
	if err := s.failure; err != nil {
		s.retryLocked()
		return nil, fmt.Errorf("store pack: %w", err)
	}
	at, leaves := s.fill.place(slot, len(sealed))
	for leaves != nil {
		s.uploadLocked(leaves)
		at, leaves = s.fill.place(slot, len(sealed))
	}
	p := s.fill.open[at]
	if p == nil {
		buf := s.bufferLocked()
		if buf == nil {
			if len(s.failed) > 0 {
				s.retryLocked()
			}
			return s.changed, nil
		}
		p = newOpenPack(buf)
		s.fill.open[at] = p
	}
	off, err := p.w.Add(e, sealed)
	if err != nil {
		return nil, err
	}
	s.fill.sum += pack.Cost(len(sealed))
	e.Off, e.Len = off, uint32(len(sealed))
	s.pending[e.ID] = spot{pack: p, entry: e}
	s.pendingCID[e.CID] = e.ID
	s.markLocked(e.ID)
	return nil, nil
}
