package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/gc"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// keepGraves is how long it is remembered that a pack was removed. A bucket that goes on to show it for longer can make
// what is in it be taken for stored.
const keepGraves = 90 * 24 * time.Hour

// sweepStep is how many chunks are condemned, pardoned or removed in one step.
const sweepStep = 2048

// A GC is one cycle of garbage collection. The Store is in full use meanwhile.
// Its caller marks all that is reachable, then calls Sweep, or Abort, once.
type GC struct {
	s     *Store
	cycle uint64
	marks gc.Marks
	holds []*hold // those that were not released when the cycle began
}

// A hold keeps what is put while it lasts.
type hold struct {
	put      gc.Marks
	released chan struct{} // closed at the end
}

// Hold begins a span of writing whose chunks nothing refers to before its end, such as a
// commit: every chunk that is put or kept until release is live in every garbage
// collection that begins until then, however many there are and however short their
// grace time is. The caller calls release when what it stored is reachable, or given
// up; more than once does no harm. A Hold costs 16 to 32 bytes of memory for each chunk.
func (s *Store) Hold() (release func()) {
	h := &hold{released: make(chan struct{})}
	s.mu.Lock()
	s.holds[h] = struct{}{}
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, ok := s.holds[h]; ok {
			delete(s.holds, h)
			close(h.released)
		}
	}
}

// BeginGC begins a cycle: every chunk that is put from now on is live in it, be it
// new or there already. One cycle can be under way at a time: ErrCollecting.
//
// The caller must begin to look for what is reachable after BeginGC has
// returned: the heads, the kept snapshots, and all that is still needed though no
// head names it, such as the base of a tree that is being written.
func (s *Store) BeginGC(ctx context.Context) (*GC, error) {
	cycle, err := s.x.NextCycle(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin garbage collection: %w", err)
	}
	g := &GC{s: s, cycle: cycle}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.cycle != nil {
		return nil, ErrCollecting
	}
	s.cycle = g
	// What is not durable yet was put just now, and so was what waits for its pardon.
	for id := range s.pending {
		g.marks.Add(id)
	}
	for id := range s.revived {
		g.marks.Add(id)
	}
	for h := range s.holds {
		g.holds = append(g.holds, h)
	}
	return g, nil
}

// Mark says that the chunk is reachable. It is safe for concurrent use.
func (g *GC) Mark(id chunk.ID) { g.marks.Add(id) }

// live reports whether the chunk is marked or held.
func (g *GC) live(id chunk.ID) bool {
	if g.marks.Has(id) {
		return true
	}
	for _, h := range g.holds {
		if h.put.Has(id) {
			return true
		}
	}
	return false
}

// Marked returns how many chunks are marked, about.
func (g *GC) Marked() int { return g.marks.Len() }

// Abort ends the cycle without a sweep. After Sweep it does nothing.
func (g *GC) Abort() {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	if g.s.cycle == g {
		g.s.cycle = nil
	}
}

// Sweep condemns what is not live and removes what an earlier cycle condemned,
// as package gc tells. It ends the cycle, also if it fails; then what was done is done,
// and another cycle can be run.
func (g *GC) Sweep(ctx context.Context, o gc.Options) (gc.Report, error) {
	s := g.s
	defer g.Abort()
	r := gc.Report{Cycle: g.cycle}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if err := s.lockMaintenance(ctx); err != nil {
		return r, fmt.Errorf("sweep store: %w", err)
	}
	defer s.unlockMaintenance()
	s.mu.Lock()
	mine := s.cycle == g
	s.mu.Unlock()
	if !mine {
		return r, errors.New("sweep store: the cycle has ended already")
	}
	w := sweep{g: g, s: s, o: o, r: &r, ripe: map[pack.Name]int64{}}
	if s.mine != nil {
		ours, err := s.ours(ctx)
		if err != nil {
			return r, fmt.Errorf("sweep store: %w", err)
		}
		w.ours = make(map[pack.Name]struct{}, len(ours))
		for _, p := range ours {
			w.ours[p.Name] = struct{}{}
		}
	}
	if err := w.chunks(ctx); err != nil {
		return r, fmt.Errorf("sweep store: %w", err)
	}
	if err := w.prove(ctx); err != nil {
		return r, fmt.Errorf("sweep store: %w", err)
	}
	if err := w.packs(ctx); err != nil {
		return r, fmt.Errorf("sweep store: %w", err)
	}
	if s.x.FilterStale() {
		if err := s.x.FillFilter(ctx); err != nil {
			return r, fmt.Errorf("sweep store: %w", err)
		}
	}
	return r, nil
}

// sweep is one Sweep at work, with the batches that it gathers.
type sweep struct {
	g *GC
	s *Store
	o gc.Options
	r *gc.Report

	ours map[pack.Name]struct{} // nil: all are

	condemn, pardon, orphans []chunk.ID
	dead                     []index.Dead
	ripe                     map[pack.Name]int64 // bytes that may go, by packs that are not proven, or of which May says no
}

// chunks walks all chunks and all condemnations once, side by side, in the order of IDs.
func (w *sweep) chunks(ctx context.Context) error {
	condemned, stop := iter.Pull2(w.s.x.Condemned(ctx))
	defer stop()
	c, err, more := condemned()
	for it, ierr := range w.s.x.All(ctx) {
		if ierr != nil {
			return ierr
		}
		for more && err == nil && bytes.Compare(c.ID[:], it.ID[:]) < 0 {
			w.pardon = append(w.pardon, c.ID) // of a chunk that is not there any more
			c, err, more = condemned()
		}
		if more && err != nil {
			return err
		}
		is := more && c.ID == it.ID
		if err := w.chunk(it, is, c); err != nil {
			return err
		}
		if is {
			if c, err, more = condemned(); more && err != nil {
				return err
			}
		}
		if err := w.flush(ctx, sweepStep); err != nil {
			return err
		}
	}
	return w.flush(ctx, 1)
}

// chunk decides what becomes of one chunk.
func (w *sweep) chunk(it index.Item, condemned bool, c index.Condemned) error {
	switch {
	case it.Orphan:
		w.orphans = append(w.orphans, it.ID)
	case w.g.live(it.ID):
		w.r.LiveChunks++
		w.r.LiveBytes += int64(it.Len)
		if condemned {
			w.pardon = append(w.pardon, it.ID)
			w.r.Pardoned++
		}
	case !w.isOurs(it.Pack):
		// It is for the device that has put it, which knows whether others want it.
		if condemned {
			w.pardon = append(w.pardon, it.ID)
		}
	case condemned && c.At.After(w.o.Now):
		// The clock was ahead, perhaps by years. The next cycle condemns it again, by the right time.
		w.pardon = append(w.pardon, it.ID)
		w.r.Waiting++
		w.r.WaitingBytes += int64(it.Len)
	case !condemned:
		w.condemn = append(w.condemn, it.ID)
		w.r.Waiting++
		w.r.WaitingBytes += int64(it.Len)
	case w.o.Ripe(c, w.g.cycle) && w.proven(it.Pack) && w.may(it.Pack):
		w.dead = append(w.dead, index.Dead{ID: it.ID, Pack: it.Pack})
	default:
		if w.o.Ripe(c, w.g.cycle) {
			w.ripe[it.Pack] += int64(it.Len)
		}
		w.r.Waiting++
		w.r.WaitingBytes += int64(it.Len)
	}
	return nil
}

func (w *sweep) isOurs(name pack.Name) bool {
	_, ok := w.ours[name]
	return ok || w.ours == nil
}

func (w *sweep) may(name pack.Name) bool { return w.o.May == nil || w.o.May(name) }

func (w *sweep) proven(name pack.Name) bool {
	p, ok := w.s.x.Pack(name)
	return ok && p.Proven
}

// prove reads those packs that are not proven and would be removed or written again without what is ripe in them, and then
// removes that. Other chunks in packs that are not proven stay condemned.
func (w *sweep) prove(ctx context.Context) error {
	s, some := w.s, false
	var buf []byte
	for _, name := range slices.SortedFunc(maps.Keys(w.ripe), pack.Name.Compare) {
		ripe := w.ripe[name]
		p, ok := s.x.Pack(name)
		if !ok || p.Live == 0 {
			continue
		}
		p.LiveBytes -= ripe
		if p.DeadShare() <= gc.RepackShare {
			continue
		}
		if !w.may(name) {
			w.r.Worth = append(w.r.Worth, name)
			continue
		}
		var err error
		if buf, _, err = s.victim(ctx, p, buf); err != nil {
			return err
		}
		some = true
	}
	if !some {
		return nil
	}
	for c, err := range s.x.Condemned(ctx) {
		if err != nil {
			return err
		}
		if w.g.live(c.ID) || !w.o.Ripe(c, w.g.cycle) {
			continue
		}
		loc, ok, err := s.x.Lookup(ctx, c.ID)
		if err != nil {
			return err
		}
		if _, was := w.ripe[loc.Pack]; !ok || !was || !w.proven(loc.Pack) || !w.may(loc.Pack) {
			continue
		}
		w.r.Waiting--
		w.r.WaitingBytes -= int64(loc.Len)
		w.dead = append(w.dead, index.Dead{ID: c.ID, Pack: loc.Pack})
		if err := w.flush(ctx, sweepStep); err != nil {
			return err
		}
	}
	return w.flush(ctx, 1)
}

// flush carries out the batches that have at least n chunks.
func (w *sweep) flush(ctx context.Context, n int) error {
	x := w.s.x
	if len(w.condemn) >= n {
		if err := x.Condemn(ctx, w.g.cycle, w.o.Now, w.condemn); err != nil {
			return spaceError(err)
		}
		w.r.Condemned += int64(len(w.condemn))
		// Whoever put one of them meanwhile marked it first and then looked whether it
		// is condemned. If that was too early to see it, we see the mark.
		for _, id := range w.condemn {
			if w.g.live(id) {
				w.pardon = append(w.pardon, id)
				w.r.Condemned--
				w.r.Waiting--
			}
		}
		w.condemn = w.condemn[:0]
	}
	if len(w.pardon) >= n {
		if err := x.Pardon(ctx, w.pardon); err != nil {
			return spaceError(err)
		}
		w.pardon = w.pardon[:0]
	}
	if len(w.orphans) >= n {
		if err := x.RemoveOrphans(ctx, w.orphans); err != nil {
			return spaceError(err)
		}
		w.orphans = w.orphans[:0]
	}
	if len(w.dead) >= n {
		if err := w.remove(ctx); err != nil {
			return err
		}
		w.dead = w.dead[:0]
	}
	return nil
}

// remove forgets the chunks in w.dead that nobody has put since. From the moment that
// one is in s.dying nobody takes it for stored, so it stays dead.
func (w *sweep) remove(ctx context.Context) error {
	s := w.s
	s.mu.Lock()
	dead := w.dead[:0]
	for _, d := range w.dead {
		_, pending := s.pending[d.ID]
		_, revived := s.revived[d.ID]
		if !pending && !revived && !w.g.live(d.ID) {
			s.dying[d.ID] = struct{}{}
			dead = append(dead, d)
		}
	}
	s.mu.Unlock()
	err := s.x.Remove(ctx, dead)
	s.mu.Lock()
	for _, d := range dead {
		delete(s.dying, d.ID)
	}
	s.removals++
	s.mu.Unlock()
	if err != nil {
		return spaceError(err)
	}
	w.r.Removed += int64(len(dead))
	return nil
}

// packs removes the packs that are dead and writes those again that are mostly so.
func (w *sweep) packs(ctx context.Context) error {
	s := w.s
	packs, err := s.ours(ctx)
	if err != nil {
		return err
	}
	sizes := make(map[pack.Name]int64, len(packs))
	for _, p := range packs {
		sizes[p.Name] = p.Size
	}
	if err := s.x.Level(ctx, w.o.Now.Add(-keepGraves)); err != nil {
		return spaceError(err)
	}
	changed := false
	for _, victims := range [][]index.Pack{gc.Dead(packs), gc.Repack(packs)} {
		rw, err := s.rewrite(ctx, victims)
		w.r.PacksRemoved += int64(len(rw.removed))
		for _, n := range rw.removed {
			w.r.FreedBytes += sizes[n]
		}
		w.r.PacksWritten += int64(len(rw.written))
		for _, n := range rw.written {
			w.r.FreedBytes -= n
		}
		if err != nil {
			return err
		}
		changed = changed || len(rw.removed) > 0
	}
	for _, p := range s.x.Packs() {
		w.r.DeadBytesKept += p.Body - p.LiveBytes
	}
	if err := s.x.Sync(ctx); err != nil {
		return spaceError(err)
	}
	if !changed {
		return nil
	}
	return s.x.WriteBlobs(ctx, s.bucket, &s.newest().Index, &s.entropy)
}
