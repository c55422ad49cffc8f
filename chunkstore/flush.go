package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// maxBuffers is how many packs are in memory at most: two that are open, and one
// on its way to the bucket or being written by Compact, which may have to wait for a Flush. A fourth made nothing faster.
const maxBuffers = 3

// An openPack is a pack that the index does not have yet: it is filled, or on its way
// to the bucket. Its fields are guarded by Store.mu, but for those of the
// upload, of which there is one at a time.
type openPack struct {
	buf    []byte
	own    bool // buf is not one of the Store's buffers
	w      *pack.Writer
	size   int64 // that it will have, once it leaves
	pins   int   // 1 until it is in the index, and 1 for each reader
	moving bool  // its chunks change their places: no new readers

	file   []byte // the upload's: the finished pack, once it is
	name   pack.Name
	stored bool // is in the bucket
}

func newOpenPack(buf []byte) *openPack {
	return &openPack{buf: buf, w: pack.NewWriter(buf), pins: 1}
}

// A spot is where in an open pack a chunk lies.
type spot struct {
	pack  *openPack
	entry pack.Entry
}

// An attempt is one try to get a pack into bucket and index.
type attempt struct {
	done chan struct{}
	err  error // once done is closed
}

// bufferLocked returns memory for a pack, or nil if there is no more.
func (s *Store) bufferLocked() []byte {
	if n := len(s.free); n > 0 {
		buf := s.free[n-1]
		s.free = s.free[:n-1]
		return buf
	}
	if s.buffers == maxBuffers {
		return nil
	}
	s.buffers++
	return lendMemory()
}

// unpinLocked gives up one hold on the pack's memory.
func (s *Store) unpinLocked(p *openPack) {
	p.pins--
	switch {
	case p.pins > 0 || p.own:
	case s.closed:
		returnMemory(p.buf)
	default:
		s.free = append(s.free, p.buf)
	}
	if p.pins == 0 || p.moving {
		s.broadcastLocked()
	}
}

func (s *Store) unpin(p *openPack) {
	s.mu.Lock()
	s.unpinLocked(p)
	s.mu.Unlock()
}

// uploadLocked starts to bring the pack into bucket and index.
func (s *Store) uploadLocked(p *openPack) {
	a := &attempt{done: make(chan struct{})}
	s.uploads[p] = a
	s.wg.Add(1)
	go s.upload(p, a)
}

// retryLocked starts all failed uploads again.
func (s *Store) retryLocked() {
	s.failure = nil
	for _, p := range s.failed {
		s.uploadLocked(p)
	}
	s.failed = nil
}

func (s *Store) upload(p *openPack, a *attempt) {
	defer s.wg.Done()
	err := s.store(s.life, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uploads, p)
	a.err = err
	if err != nil {
		s.failed = append(s.failed, p)
		s.failure = err
	} else {
		for _, e := range p.w.Entries() {
			delete(s.pending, e.ID)
			if s.pendingCID[e.CID] == e.ID {
				delete(s.pendingCID, e.CID)
			}
		}
		if len(s.pending) == 0 { // a map keeps the memory of all it ever had at once
			s.pending, s.pendingCID = map[chunk.ID]spot{}, map[seal.CID]chunk.ID{}
		}
		delete(s.leaving, p.name)
		s.dirty = true
		s.unpinLocked(p)
	}
	close(a.done)
	s.broadcastLocked()
}

// store finishes the pack, puts it into the bucket and then into the index. It may be
// called again after an error, and does then what is left.
func (s *Store) store(ctx context.Context, p *openPack) error {
	if p.file == nil {
		file, name, err := p.w.Finish(&s.newest().PackDir, p.size, &s.entropy)
		if err != nil {
			return err
		}
		p.file, p.name = file, name
		s.mu.Lock()
		s.leaving[name] = struct{}{}
		s.mu.Unlock()
	}
	if !p.stored {
		if err := s.putPack(ctx, p.name, p.file); err != nil {
			return err
		}
		p.stored = true
	}
	return spaceError(s.x.Add(ctx, p.name, int64(len(p.file)), p.w.Entries(), index.MarkOf(p.file)))
}

func (s *Store) putPack(ctx context.Context, name pack.Name, file []byte) error {
	return s.bucket.Put(ctx, blob.Name(name.BlobName()), bytes.NewReader(file), int64(len(file)))
}

// spaceError makes a full database known by ErrNoSpace.
func spaceError(err error) error {
	if errors.Is(err, kv.ErrNoSpace) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// A flushRun is one Flush, on behalf of all that asked for it before it began.
type flushRun struct {
	done chan struct{}
	err  error // once done is closed
}

// Flush returns when every chunk that was put before the call is durable in the
// bucket, and the index of it on this device. The packs that it
// writes have the sizes that pack.PlanFor plans for what was put since the Flush before. Flushes that are called at the same time share one. An
// upload that failed before is tried again; if Flush fails nothing is lost, and it can
// be called again. When ctx ends Flush returns, but the work goes on.
func (s *Store) Flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	r := s.nextFlush
	if r == nil {
		r = &flushRun{done: make(chan struct{})}
		s.nextFlush = r
	}
	if !s.flushing {
		s.flushing = true
		s.wg.Add(1)
		go s.flushAll()
	}
	s.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.err != nil {
		return fmt.Errorf("flush store: %w", r.err)
	}
	return nil
}

// flushAll runs flushes until nobody waits for one.
func (s *Store) flushAll() {
	defer s.wg.Done()
	for {
		s.mu.Lock()
		r := s.nextFlush
		s.nextFlush = nil
		if s.flushing = r != nil; !s.flushing {
			s.broadcastLocked() // Compact may wait for memory
		}
		s.mu.Unlock()
		if r == nil {
			return
		}
		r.err = s.flush(s.life)
		close(r.done)
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *Store) flush(ctx context.Context) error {
	if err := s.settle(); err != nil {
		return err
	}
	s.mu.Lock()
	s.retryLocked()
	attempts := make([]*attempt, 0, len(s.uploads))
	for _, a := range s.uploads {
		attempts = append(attempts, a)
	}
	s.mu.Unlock()

	var err error
	for _, a := range attempts {
		<-a.done // each ends at the latest with the life of the Store
		if a.err != nil {
			err = a.err
		}
	}
	if err != nil {
		s.mu.Lock()
		s.failure = nil // it is told now
		s.mu.Unlock()
		return err
	}
	if err := s.pardonRevived(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = false
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := s.x.Sync(ctx); err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
		return spaceError(err)
	}
	return nil
}

// settle ends what is being filled, and gives its packs to the uploads.
func (s *Store) settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fill
	s.fill = filling{}
	// Readers finish, and new ones wait until the chunks lie where they stay.
	for _, p := range f.open {
		if p == nil {
			continue
		}
		p.moving = true
		for p.pins > 1 {
			wait := s.changed
			s.mu.Unlock()
			<-wait
			s.mu.Lock()
		}
	}
	s.mu.Unlock()
	packs, err := f.settle()
	s.mu.Lock()
	for _, p := range packs {
		for _, e := range p.w.Entries() {
			s.pending[e.ID] = spot{pack: p, entry: e}
		}
		if err == nil {
			s.uploadLocked(p)
		} else if len(p.w.Entries()) > 0 {
			p.size = 0 // the next flush stores what there is
			s.failed = append(s.failed, p)
		}
	}
	for _, p := range f.open {
		if p == nil {
			continue
		}
		p.moving = false
		if len(p.w.Entries()) == 0 {
			s.unpinLocked(p)
		}
	}
	s.broadcastLocked()
	return err
}

// pardonRevived writes to the index that chunks which were put again are not condemned.
func (s *Store) pardonRevived(ctx context.Context) error {
	s.mu.Lock()
	ids := make([]chunk.ID, 0, len(s.revived))
	for id := range s.revived {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	if err := s.x.Pardon(ctx, ids); err != nil {
		return spaceError(err)
	}
	// Only now, so that a garbage collection that begins meanwhile still sees them.
	s.mu.Lock()
	for _, id := range ids {
		delete(s.revived, id)
	}
	s.dirty = true
	s.mu.Unlock()
	return nil
}
