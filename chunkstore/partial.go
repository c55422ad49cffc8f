package chunkstore

import (
	"context"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// learnAfter is how long nothing must have been looked for in a partial index before the rest of it is learned: until then what the
// connection and the processor can do is for who waits for an answer.
const learnAfter = 5 * time.Second

// newerMost is how many packs that no index blob tells of are read before all the rest is, when a chunk is in no index blob: what was written
// last is in these, and they are few, or index blobs would have been written anew.
const newerMost = 64

// partial is the state of a Store that does not know all packs yet: see Options.Lazy. It ends when all was learned, and does not come
// back. Until then nobody has the maintenance lock.
type partial struct {
	loading *index.Loading // nil: there are no index blobs, or none that opens. Only the learner uses it
	now     chan struct{}  // has a token if somebody waits for the end
	turn    chan struct{}  // has a token unless somebody learns

	newer map[pack.Name]int64 // packs that no index blob tells of and nobody has read, if there are not too many. Whoever has the turn uses it

	near  map[chunk.ID]index.Location // these are guarded by Store.mu
	asked time.Time                   // when something was looked for
	tried chan struct{}               // closed when the next attempt to learn all has ended
	err   error                       // of the last attempt
}

// beginPartial reads the root of the index blobs, if there are any. Where all was known once, or the Bucket has no packs, nothing is partial.
func (s *Store) beginPartial(ctx context.Context) error {
	if whole, err := s.x.Whole(ctx); whole || err != nil {
		return err
	}
	present, err := s.listPacks(ctx, func(blob.Name) error { return nil })
	if err != nil || len(present) == 0 {
		return err
	}
	p := &partial{near: map[chunk.ID]index.Location{}, asked: time.Now(), now: make(chan struct{}, 1), turn: make(chan struct{}, 1), tried: make(chan struct{})}
	p.turn <- struct{}{}
	if p.loading, err = s.beginIndex(ctx, present); err != nil {
		if ctx.Err() != nil {
			return err
		}
		s.log.Warn("index blobs are of no use, packs are read instead", "err", err)
	}
	if p.loading != nil {
		if p.newer = p.loading.Rest(present); len(p.newer) > newerMost {
			p.newer = nil
		}
	}
	s.partial.Store(p)
	return nil
}

// whole returns when the index is not partial any more. An attempt to make it so that fails is the error.
func (s *Store) whole(ctx context.Context) error {
	p := s.partial.Load()
	if p == nil {
		return nil
	}
	s.mu.Lock()
	tried := p.tried
	s.mu.Unlock()
	select {
	case p.now <- struct{}{}:
	default:
	}
	select {
	case <-tried:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.life.Done():
		return ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.err
}

// learnLater ends the partial state once nothing was looked for in it for so long, or somebody waits for that end. What it
// learns is of use to all, so it goes on when they wait no more.
func (s *Store) learnLater(p *partial, rest time.Duration) {
	for pause := rest; ; {
		timer := time.NewTimer(pause)
		select {
		case <-s.life.Done():
			timer.Stop()
			return
		case <-p.now:
			timer.Stop()
		case <-timer.C:
			s.mu.Lock()
			early := rest - time.Since(p.asked)
			s.mu.Unlock()
			if early > 0 {
				pause = early
				continue
			}
		}
		select {
		case <-p.turn:
		case <-s.life.Done():
			return
		}
		err := s.learnAll(s.life, p.loading)
		p.loading = nil // the next attempt begins anew
		p.turn <- struct{}{}
		if err != nil && s.life.Err() == nil {
			s.log.Warn("not all packs are known yet", "err", err)
		}
		s.mu.Lock()
		if p.err = err; err == nil {
			s.partial.Store(nil)
		}
		close(p.tried)
		p.tried = make(chan struct{})
		s.mu.Unlock()
		if err == nil {
			return
		}
		pause = min(2*max(pause, rest), time.Minute)
	}
}

// learnAll learns all that there is to know of the Bucket. l, if it is not nil, has begun to read the index blobs.
func (s *Store) learnAll(ctx context.Context, l *index.Loading) error {
	if l != nil {
		if err := l.Finish(ctx); err != nil {
			s.log.Warn("index blobs are of no use, packs are read instead", "err", err)
		}
	}
	if err := s.refresh(ctx); err != nil {
		return err
	}
	if err := s.x.SetWhole(ctx); err != nil {
		s.log.Warn("all packs will be looked at once more", "err", err) // a full disk keeps nobody from reading
	}
	return nil
}

// Near tells where chunks were when a head was written. It is of use only while the Store does not know its Bucket: see Options.Lazy.
func (s *Store) Near(places map[chunk.ID]Place) {
	p := s.partial.Load()
	if p == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, at := range places {
		if !at.Open && at.Off >= 0 && at.Len > 0 && at.Off+at.Len <= pack.Size {
			p.near[id] = index.Location{Pack: at.Pack, Off: uint32(at.Off), Len: uint32(at.Len)}
		}
	}
}

// notNear forgets where a head had the chunk, and reports whether one had.
func (s *Store) notNear(id chunk.ID) bool {
	p := s.partial.Load()
	if p == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(p.near)
	delete(p.near, id)
	return len(p.near) < n
}

// learnNewer reads the directories of the packs that no index blob tells of, once. What cannot be read is left for the end of the partial state.
func (s *Store) learnNewer(ctx context.Context, p *partial) error {
	select {
	case <-p.turn:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.life.Done():
		return ErrClosed
	}
	defer func() { p.turn <- struct{}{} }()
	if len(p.newer) == 0 || s.partial.Load() == nil {
		return nil
	}
	if err := s.learnPacks(ctx, p.newer); err != nil {
		return err
	}
	p.newer = nil
	return nil
}

// lookup is index.Lookup, also while the index is partial: what is in no index blob is looked for in the packs that none tells of, and then in all.
func (s *Store) lookup(ctx context.Context, id chunk.ID) (index.Location, bool, error) {
	p := s.partial.Load()
	if p == nil {
		return s.x.Lookup(ctx, id)
	}
	s.mu.Lock()
	p.asked = time.Now()
	loc, ok := p.near[id]
	s.mu.Unlock()
	if ok {
		return loc, true, nil
	}
	loc, ok, err := s.x.Lookup(ctx, id)
	if ok || err != nil {
		return loc, ok, err
	}
	if err := s.learnNewer(ctx, p); err != nil {
		return loc, false, err
	}
	if loc, ok, err := s.x.Lookup(ctx, id); ok || err != nil {
		return loc, ok, err
	}
	if err := s.whole(ctx); err != nil {
		return loc, false, err
	}
	return s.x.Lookup(ctx, id)
}

// Nearby returns where those of the chunks lie of which that is known without reading anything of the Bucket: what Near is to be told by another
// Store. What this one was told itself it passes on.
func (s *Store) Nearby(ctx context.Context, ids ...chunk.ID) (map[chunk.ID]Place, error) {
	p := s.partial.Load()
	places := map[chunk.ID]Place{}
	for _, id := range ids {
		loc, ok, err := s.x.Known(ctx, id)
		if err != nil {
			return nil, err
		}
		if !ok && p != nil {
			s.mu.Lock()
			loc, ok = p.near[id]
			s.mu.Unlock()
		}
		if ok {
			places[id] = Place{Pack: loc.Pack, Off: int64(loc.Off), Len: int64(loc.Len)}
		}
	}
	return places, nil
}
