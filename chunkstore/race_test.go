package chunkstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/gc"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
)

// oracle knows which chunks must be readable.
type oracle struct {
	mu    sync.Mutex
	live  map[chunk.Ref]*held
	order []chunk.Ref // those in live, to draw from
	round uint64
}

type held struct {
	plain string
	round uint64 // of the commit: another one after a removal
	at    int    // in order
}

func (o *oracle) commit(m map[chunk.Ref]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.round++
	for ref, plain := range m {
		if _, ok := o.live[ref]; !ok {
			o.live[ref] = &held{plain: plain, round: o.round, at: len(o.order)}
			o.order = append(o.order, ref)
		}
	}
}

func (o *oracle) remove(ref chunk.Ref) {
	o.mu.Lock()
	defer o.mu.Unlock()
	h, ok := o.live[ref]
	if !ok {
		return
	}
	last := o.order[len(o.order)-1]
	o.order[h.at] = last
	o.live[last].at = h.at
	o.order = o.order[:len(o.order)-1]
	delete(o.live, ref)
}

func (o *oracle) draw(rnd *rand.Rand) (chunk.Ref, held, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) == 0 {
		return chunk.Ref{}, held{}, false
	}
	ref := o.order[rnd.IntN(len(o.order))]
	return ref, *o.live[ref], true
}

// still reports whether the chunk has been live since it was drawn.
func (o *oracle) still(ref chunk.Ref, h held) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, ok := o.live[ref]
	return ok && now.round == h.round
}

func (o *oracle) refs() []chunk.Ref {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]chunk.Ref(nil), o.order...)
}

// G14 in small: writers, readers, flushes, merging, refreshes and garbage collections
// without any grace at once. The writers keep to what package gc asks of them:
// what they put is reachable before the second cycle after that begins.
func TestStore_NoLiveChunkIsLostWhileAllIsInMotion(t *testing.T) {
	length := 3 * time.Second
	if v := os.Getenv("SHEAF_RACE_TIME"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		length = d
	}
	rnd := testRand(t)
	seed := rnd.Uint64()
	bucket, db := mem.New(), memkv.New()
	s, err := Open(t.Context(), Options{Bucket: bucket, KV: db, Keys: testKeys(), CacheBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	o := &oracle{live: map[chunk.Ref]*held{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var puts, reads, cycles, removed, pardoned, compacted atomic.Int64
	enough := func() bool { return removed.Load() > 0 && pardoned.Load() > 0 && cycles.Load() >= 5 }
	begun := time.Now()
	wg.Go(func() { // on a busy machine it takes longer until enough has happened
		for ctx.Err() == nil && time.Since(begun) < max(length, 2*time.Minute) && (time.Since(begun) < length || !enough()) {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	})
	var inWrite sync.RWMutex // held for reading from the first put to the commit
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf(format, args...)
		cancel()
	}
	run := func(n uint64, fn func(rnd *rand.Rand) error) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, n))
			for ctx.Err() == nil {
				if err := fn(rnd); err != nil && ctx.Err() == nil {
					fail("%v", err)
				}
			}
		})
	}
	// All calls get a context that goes on, so that no error is an excuse.
	all := t.Context()
	for n := range uint64(3) {
		run(n, func(rnd *rand.Rand) error { // writer
			if n == 0 {
				defer s.Hold()() // as long as it likes, over any number of cycles
			} else {
				inWrite.RLock()
				defer inWrite.RUnlock()
			}
			m := map[chunk.Ref]string{}
			for range 1 + rnd.IntN(6) {
				plain := text(rnd.IntN(300), 100+rnd.IntN(2)*700)
				ref, err := s.Put(all, chunk.Data, plain)
				if err != nil {
					return err
				}
				m[ref] = string(plain)
				puts.Add(1)
				if n == 0 {
					for c := cycles.Load(); cycles.Load() < c+2 && rnd.IntN(2) == 0 && ctx.Err() == nil; {
						time.Sleep(time.Millisecond) // so that some are as slow as two cycles
					}
				}
			}
			if rnd.IntN(3) == 0 {
				if err := s.Flush(all); err != nil {
					return err
				}
			}
			if rnd.IntN(8) > 0 { // else the write is given up
				o.commit(m)
			}
			return nil
		})
	}
	run(10, func(rnd *rand.Rand) error { // deletes as fast as the others write
		if len(o.refs()) > 250 || rnd.IntN(50) == 0 {
			if ref, _, ok := o.draw(rnd); ok {
				o.remove(ref)
			}
		}
		time.Sleep(20 * time.Microsecond)
		return nil
	})
	for n := range uint64(2) {
		run(20+n, func(rnd *rand.Rand) error { // reader
			ref, h, ok := o.draw(rnd)
			if !ok {
				return nil
			}
			got, err := s.Get(all, nil, ref)
			if (err != nil || string(got) != h.plain) && o.still(ref, h) {
				return errors.Join(errors.New("a live chunk is lost: "+ref.String()), err)
			}
			reads.Add(1)
			return nil
		})
	}
	run(30, func(*rand.Rand) error { return s.Refresh(all) })
	run(40, func(*rand.Rand) error { compacted.Add(1); return s.Compact(all) })
	run(60, func(rnd *rand.Rand) error { // keeps a chunk by its Ref alone, as a copy of a file does
		ref, h, ok := o.draw(rnd)
		if !ok {
			return nil
		}
		inWrite.RLock()
		defer inWrite.RUnlock()
		o.remove(ref)
		if s.Keep(all, ref.ID) == nil {
			o.commit(map[chunk.Ref]string{ref: h.plain})
		}
		return nil
	})
	now := time.Unix(1e9, 0)
	run(50, func(rnd *rand.Rand) error { // garbage collector
		// What was being written before the last cycle began is reachable after this.
		inWrite.Lock()
		inWrite.Unlock() //nolint:staticcheck // a barrier guards nothing
		g, err := s.BeginGC(all)
		if err != nil {
			return err
		}
		for _, ref := range o.refs() {
			g.Mark(ref.ID)
		}
		if rnd.IntN(10) == 0 {
			g.Abort()
			return nil
		}
		now = now.Add(time.Second)
		r, err := g.Sweep(all, gc.Options{Now: now})
		cycles.Add(1)
		removed.Add(r.Removed)
		pardoned.Add(r.Pardoned)
		return err
	})
	wg.Wait()
	t.Logf("%d puts, %d reads, %d cycles, %d chunks removed, %d pardoned, %d compactions",
		puts.Load(), reads.Load(), cycles.Load(), removed.Load(), pardoned.Load(), compacted.Load())
	if t.Failed() {
		return
	}
	if !enough() {
		t.Errorf("too little happened for the test to mean anything")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Store{
		"with its database": openStore(t, bucket, db), "without": openStore(t, bucket, newCrashKV()),
	} {
		for ref, h := range o.live {
			if got, err := s.Get(t.Context(), nil, ref); err != nil || string(got) != h.plain {
				t.Fatalf("reopened %s: chunk %v is lost: %v", name, ref, err)
			}
		}
		wantSound(t, s)
	}
}
