package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/gc"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// collect runs one cycle in which live is reachable.
func collect(ctx context.Context, s *Store, live map[chunk.Ref][]byte, o gc.Options) (gc.Report, error) {
	g, err := s.BeginGC(ctx)
	if err != nil {
		return gc.Report{}, err
	}
	for ref := range live {
		g.Mark(ref.ID)
	}
	return g.Sweep(ctx, o)
}

// crashState is all that is left at one moment.
type crashState struct {
	op        string
	bucket    *mem.Bucket
	cut, kill *crashKV
	must      map[chunk.Ref][]byte // flushed, and reachable ever since
}

// recorder takes the state before every change of bucket and database.
type recorder struct {
	bucket *hookBucket
	db     *crashKV

	mu     sync.Mutex
	must   map[chunk.Ref][]byte
	states []crashState
	seen   int
	every  int // of the changes, one in so many is kept
}

func record(bucket *hookBucket, db *crashKV, every int) *recorder {
	r := &recorder{bucket: bucket, db: db, must: map[chunk.Ref][]byte{}, every: every}
	bucket.hook = func(op string, name blob.Name) error {
		r.take(op + " " + string(name))
		if pn, err := pack.ParseBlobName(string(name)); err == nil && op == "remove" && db.knowsDurably(pn) {
			return errors.New("pack is removed while the durable index names it")
		}
		return nil
	}
	db.hook = func(op string) error { r.take(op); return nil }
	return r
}

// knowsDurably reports whether the index still names the pack after a power cut.
func (d *crashKV) knowsDurably(name pack.Name) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, v := range d.durable {
		if strings.HasPrefix(k, "xp") && strings.HasPrefix(v, string(name[:])) {
			return true
		}
	}
	return false
}

func (r *recorder) take(op string) {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen++; r.seen%r.every != 0 {
		return
	}
	r.states = append(r.states, crashState{
		op: op, bucket: r.bucket.Clone(), must: maps.Clone(r.must),
		cut:  &crashKV{now: maps.Clone(r.db.durable), durable: maps.Clone(r.db.durable)},
		kill: &crashKV{now: maps.Clone(r.db.now), durable: maps.Clone(r.db.durable)},
	})
}

func (r *recorder) add(m map[chunk.Ref][]byte) {
	r.mu.Lock()
	maps.Copy(r.must, m)
	r.mu.Unlock()
}

func (r *recorder) drop(rnd *rand.Rand, share float64) {
	r.mu.Lock()
	for ref := range r.must {
		if rnd.Float64() < share {
			delete(r.must, ref)
		}
	}
	r.mu.Unlock()
}

// check opens what is left with each database that may be left, and wants all that
// must be there; then a garbage collection must run, and take none of it.
func (c *crashState) check(t *testing.T) {
	t.Helper()
	for name, db := range map[string]*crashKV{"after a power cut": c.cut, "after a kill": c.kill, "without the database": newCrashKV()} {
		s, err := Open(t.Context(), Options{Bucket: c.bucket.Clone(), KV: db, Keys: testKeys()})
		if err != nil {
			t.Fatalf("before %s, %s: open: %v", c.op, name, err)
		}
		for round := range 2 {
			for ref, plain := range c.must {
				got, err := s.Get(t.Context(), nil, ref)
				if err != nil || string(got) != string(plain) {
					t.Fatalf("before %s, %s, round %d: chunk %v is lost: %v", c.op, name, round, ref, err)
				}
			}
			for f, err := range s.Verify(t.Context(), nil) {
				t.Fatalf("before %s, %s, round %d: verify: %v, %v", c.op, name, round, f, err)
			}
			if name != "after a power cut" {
				break
			}
			for i := range 2 {
				if _, err := collect(t.Context(), s, c.must, gc.Options{Now: time.Unix(1e9+int64(i), 0)}); err != nil {
					t.Fatalf("before %s, %s: gc: %v", c.op, name, err)
				}
			}
			s.cache = newSegmentCache(0) // so that the next round reads the packs
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// G10, X7: whenever the process or the machine dies, all that was flushed is there. The work
// is puts and flushes, merging of small packs, garbage collections and index blobs.
func TestStore_CrashAtEveryChangeLosesNothingFlushed(t *testing.T) {
	rnd := testRand(t)
	bucket, db := &hookBucket{Bucket: mem.New()}, newCrashKV()
	rec := record(bucket, db, 1)
	s := openStore(t, bucket, db)
	for round := range 24 {
		fresh := map[chunk.Ref][]byte{}
		for i := range 5 {
			plain := randomBytes(rnd, rnd.IntN(3000))
			if i == 0 {
				plain = text(rnd.IntN(6), 2000) // met before, live or dead
			}
			fresh[put(t, s, plain)] = plain
		}
		flush(t, s)
		rec.add(fresh)
		cut := db.afterPowerCut()
		for ref := range fresh {
			if _, ok := cut.now["xl"+string(ref.ID[:])]; !ok {
				t.Fatalf("chunk %v is not in the durable index after a flush", ref)
			}
		}
		if round%6 == 5 {
			rec.drop(rnd, 0.5)
			rec.mu.Lock()
			live := maps.Clone(rec.must)
			rec.mu.Unlock()
			if _, err := collect(t.Context(), s, live, gc.Options{Now: time.Unix(1e9+int64(round), 0)}); err != nil {
				t.Fatal(err)
			}
		}
		if round == 20 {
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ops := map[string]int{}
	for i := range rec.states {
		op, _, _ := strings.Cut(rec.states[i].op, "/")
		ops[op]++
		rec.states[i].check(t)
	}
	t.Logf("%d crash points: %v", len(rec.states), ops)
	for _, op := range []string{"put packs", "remove packs", "put index", "remove index", "update", "sync"} {
		if ops[op] == 0 {
			t.Errorf("no crash point at %q", op)
		}
	}
}

// A failure at each single change is an error, not a loss: the same work goes on
// and ends well once the fault is over.
func TestStore_FaultAtEveryChangeLosesNothing(t *testing.T) {
	rnd := testRand(t)
	for n := 1; ; n++ {
		var mu sync.Mutex
		seen, hit := 0, false
		fault := func() error {
			mu.Lock()
			defer mu.Unlock()
			if seen++; seen == n {
				hit = true
				return errInjected
			}
			return nil
		}
		bucket, db := &hookBucket{Bucket: mem.New()}, newCrashKV()
		s := openStore(t, bucket, db)
		bucket.hook = func(string, blob.Name) error { return fault() }
		db.hook = func(string) error { return fault() }
		live := map[chunk.Ref][]byte{}
		try := func(what string, fn func() error) {
			t.Helper()
			for i := range 5 {
				err := fn()
				if err == nil {
					return
				}
				if !errors.Is(err, errInjected) {
					t.Fatalf("fault %d: %s: %v", n, what, err)
				}
				if i == 4 {
					t.Fatalf("fault %d: %s fails for ever: %v", n, what, err)
				}
			}
		}
		for round := range 18 {
			for range 2 {
				plain := randomBytes(rnd, 500)
				try("put", func() error {
					ref, err := s.Put(t.Context(), chunk.Data, plain)
					if err == nil {
						live[ref] = plain
					}
					return err
				})
			}
			try("flush", func() error { return s.Flush(t.Context()) })
			if round%8 == 7 {
				for ref := range live {
					if rnd.IntN(2) == 0 {
						delete(live, ref)
					}
				}
				for i := range 2 {
					try("gc", func() error {
						_, err := collect(t.Context(), s, live, gc.Options{Now: time.Unix(1e9+int64(i), 0)})
						return err
					})
				}
			}
		}
		try("compact", func() error { return s.Compact(t.Context()) })
		for ref, plain := range live {
			wantChunk(t, s, ref, plain)
		}
		try("close", func() error { return s.Close(t.Context()) })
		s = openStore(t, bucket.Clone(), db.afterPowerCut())
		for ref, plain := range live {
			wantChunk(t, s, ref, plain)
		}
		wantSound(t, s)
		if !hit {
			t.Logf("%d faults", n-1)
			if n < 50 {
				t.Errorf("only %d places for a fault: the test does too little", n-1)
			}
			return
		}
	}
}

// A bucket that is full, or away for long, holds the writers up with errors; what was
// put before stays readable and gets there when there is room.
func TestStore_FailedPacksAreKeptAndTriedAgain(t *testing.T) {
	rnd := testRand(t)
	bucket, db := &hookBucket{Bucket: mem.New()}, newCrashKV()
	s := openStore(t, bucket, db)
	full := true
	var mu sync.Mutex
	bucket.hook = func(op string, name blob.Name) error {
		mu.Lock()
		defer mu.Unlock()
		if full && op == "put" {
			return fmt.Errorf("put %s: %w", name, blob.ErrNoSpace)
		}
		return nil
	}
	live := map[chunk.Ref][]byte{}
	failures := 0
	for failures < 3 { // more than all packs that fit into memory
		plain := randomBytes(rnd, 4<<20)
		ref, err := s.Put(t.Context(), chunk.Data, plain)
		if err == nil {
			live[ref] = plain
			continue
		}
		if !errors.Is(err, ErrNoSpace) {
			t.Fatalf("put: got %v, want ErrNoSpace", err)
		}
		failures++
		if len(live) > maxBuffers*8+8 {
			t.Fatalf("%d chunks of 4 MiB are held in memory", len(live))
		}
	}
	if err := s.Flush(t.Context()); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("flush: got %v, want ErrNoSpace", err)
	}
	for ref, plain := range live {
		wantChunk(t, s, ref, plain)
	}
	mu.Lock()
	full = false
	mu.Unlock()
	flush(t, s)
	s2 := openStore(t, bucket.Clone(), db.afterPowerCut())
	for ref, plain := range live {
		wantChunk(t, s2, ref, plain)
	}
	wantSound(t, s2)
}

// Two Stores of one drive, one after the other, on a bucket of which the database
// knows an older state: it must neither miss chunks nor take lost bytes for stored.
func TestStore_OldDatabaseIsBroughtUpToDate(t *testing.T) {
	bucket, db := mem.New(), newCrashKV()
	s := openStore(t, bucket, db)
	old, fresh := text(1, 5000), text(2, 5000)
	oldRef := put(t, s, old)
	flush(t, s)
	before := db.afterPowerCut()
	freshRef := put(t, s, fresh)
	flush(t, s)
	for i := range 2 { // two cycles remove the pack with old
		if _, err := collect(t.Context(), s, map[chunk.Ref][]byte{freshRef: nil}, gc.Options{Now: time.Unix(1e9+int64(i), 0)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, bucket, before)
	wantChunk(t, s, freshRef, fresh)
	if _, err := s.Get(t.Context(), nil, oldRef); !errors.Is(err, ErrMissing) {
		t.Fatalf("get of a removed chunk: got %v, want ErrMissing", err)
	}
	if got := put(t, s, old); got != oldRef {
		t.Fatalf("got %v, want %v", got, oldRef)
	}
	flush(t, s)
	wantChunk(t, openStore(t, bucket, newCrashKV()), oldRef, old)
}

// Small packs whose flush failed stay readable, also when more is put.
func TestStore_FailedFlushKeepsSmallChunksReadable(t *testing.T) {
	rnd := testRand(t)
	bucket := &hookBucket{Bucket: mem.New(), hook: func(string, blob.Name) error { return errInjected }}
	s := openStore(t, bucket, newCrashKV())
	live := map[chunk.Ref][]byte{}
	for range 3 {
		for range 20 {
			plain := randomBytes(rnd, 2000)
			ref, err := s.Put(t.Context(), chunk.Data, plain)
			if err != nil && !errors.Is(err, errInjected) {
				t.Fatal(err)
			}
			if err == nil {
				live[ref] = plain
			}
		}
		if err := s.Flush(t.Context()); !errors.Is(err, errInjected) {
			t.Fatalf("flush: got %v, want the fault", err)
		}
		for ref, plain := range live {
			s.cache = newSegmentCache(0)
			wantChunk(t, s, ref, plain)
		}
	}
	bucket.hook = nil
	flush(t, s)
	wantSound(t, s)
}
