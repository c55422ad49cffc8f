package chunkstore

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/gc"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// day is the time of the n-th cycle of a test.
func day(n int) gc.Options { return gc.Options{Now: time.Unix(1e9+int64(n)*86400, 0)} }

// sweepAll runs a cycle in which only the given chunks are reachable.
func sweepAll(t *testing.T, s *Store, o gc.Options, live ...chunk.Ref) gc.Report {
	t.Helper()
	m := map[chunk.Ref][]byte{}
	for _, ref := range live {
		m[ref] = nil
	}
	r, err := collect(t.Context(), s, m, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSweep_RemovesInTwoPhases(t *testing.T) {
	bucket := mem.New()
	s := openStore(t, bucket, newCrashKV())
	live, dead := put(t, s, text(1, 9000)), put(t, s, text(2, 9000))
	flush(t, s)

	r := sweepAll(t, s, day(0), live)
	if r.Condemned != 1 || r.Removed != 0 || r.LiveChunks != 1 || r.Waiting != 1 {
		t.Fatalf("first cycle: got %+v", r)
	}
	wantChunk(t, s, dead, text(2, 9000))
	r = sweepAll(t, s, gc.Options{Now: day(1).Now, Grace: gc.DefaultGrace}, live)
	if r.Removed != 0 || r.Waiting != 1 || r.Condemned != 0 {
		t.Fatalf("second cycle, within the grace time: got %+v", r)
	}
	r = sweepAll(t, s, gc.Options{Now: day(8).Now, Grace: gc.DefaultGrace}, live)
	if r.Removed != 1 || r.PacksRemoved != 1 || r.PacksWritten != 1 {
		t.Fatalf("third cycle, after the grace time: got %+v", r)
	}
	wantChunk(t, s, live, text(1, 9000))
	s.cache = newSegmentCache(0)
	if _, err := s.Get(t.Context(), nil, dead); !errors.Is(err, ErrMissing) {
		t.Fatalf("get of the removed chunk: got %v", err)
	}
	wantSound(t, s)
	t.Run("and when nothing is live nothing is left", func(t *testing.T) {
		sweepAll(t, s, day(9))
		sweepAll(t, s, day(10))
		if n := packNames(t, bucket); len(n) != 0 {
			t.Fatalf("got packs %v", n)
		}
	})
}

// What waits for its grace time to end stays condemned through the cycles between, whatever comes after it in the index.
func TestSweep_WhatWaitsStaysCondemned(t *testing.T) {
	s := openStore(t, mem.New(), newCrashKV())
	var live []chunk.Ref
	for i := range 20 {
		if ref := put(t, s, text(i, 100)); i%2 == 0 {
			live = append(live, ref)
		}
	}
	flush(t, s)
	for n := range 8 {
		r := sweepAll(t, s, gc.Options{Now: day(n).Now, Grace: gc.DefaultGrace}, live...)
		if n < 7 && (r.Waiting != 10 || r.Removed != 0) || n == 7 && r.Removed != 10 {
			t.Fatalf("day %d: got %+v", n, r)
		}
	}
}

// What was condemned while the clock was ten years ahead does not wait for ten years.
func TestSweep_AClockThatWasAheadDelaysNothing(t *testing.T) {
	s := openStore(t, mem.New(), newCrashKV())
	put(t, s, text(1, 100))
	flush(t, s)
	for i, n := range []int{4000, 1, 2, 5, 9} {
		r := sweepAll(t, s, gc.Options{Now: day(n).Now, Grace: gc.DefaultGrace})
		if want := int64(i / 4); r.Removed != want || r.Waiting != 1-want {
			t.Fatalf("day %d: got %+v, want %d removed", n, r, want)
		}
	}
}

func TestSweep_KeepsWhatIsMarkedAgain(t *testing.T) {
	s := openStore(t, mem.New(), newCrashKV())
	ref := put(t, s, text(1, 100))
	flush(t, s)
	sweepAll(t, s, day(0))
	if r := sweepAll(t, s, day(1), ref); r.Pardoned != 1 || r.Removed != 0 {
		t.Fatalf("got %+v, want it pardoned", r)
	}
	if r := sweepAll(t, s, day(2)); r.Condemned != 1 || r.Removed != 0 {
		t.Fatalf("got %+v, want the two phases to begin anew", r)
	}
}

// A pack with little dead in it is left alone: the bytes go when more of it is dead.
func TestSweep_LeavesPacksThatAreMostlyLive(t *testing.T) {
	rnd := testRand(t)
	s := openStore(t, mem.New(), newCrashKV())
	var refs []chunk.Ref
	for range 10 {
		refs = append(refs, put(t, s, randomBytes(rnd, 5000)))
	}
	flush(t, s)
	sweepAll(t, s, day(0), refs[1:]...)
	if r := sweepAll(t, s, day(1), refs[1:]...); r.Removed != 1 || r.PacksWritten != 0 || r.DeadBytesKept < 5000 {
		t.Fatalf("got %+v, want one chunk removed and its pack left", r)
	}
	if got := put(t, s, randomBytes(rnd, 5000)); got == refs[0] {
		t.Fatal("the test is broken: two random chunks are equal")
	}
	sweepAll(t, s, day(2), refs[5:]...)
	if r := sweepAll(t, s, day(3), refs[5:]...); r.PacksWritten != 1 {
		t.Fatalf("got %+v, want the pack written again", r)
	}
	wantSound(t, s)
}

func TestBeginGC_OneAtATime(t *testing.T) {
	s := openStore(t, mem.New(), newCrashKV())
	g, err := s.BeginGC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginGC(t.Context()); !errors.Is(err, ErrCollecting) {
		t.Fatalf("got %v, want ErrCollecting", err)
	}
	g.Abort()
	if _, err := g.Sweep(t.Context(), day(0)); err == nil {
		t.Fatal("sweep after abort: got no error")
	}
	g2, err := s.BeginGC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.Abort() // of an ended cycle does not end another
	if _, err := g2.Sweep(t.Context(), day(0)); err != nil {
		t.Fatal(err)
	}
}

// G14, one interleaving after the other. Each test puts the bytes of a chunk that is
// on its way out at one exact moment; they must be readable ever after.

func TestSweep_PutBeforeTheCyclePardons(t *testing.T) {
	for name, between := range map[string]func(*testing.T, *Store, *crashKV) *Store{
		"not flushed": func(_ *testing.T, s *Store, _ *crashKV) *Store { return s },
		"flushed":     func(t *testing.T, s *Store, _ *crashKV) *Store { flush(t, s); return s },
		"flushed, then a power cut": func(t *testing.T, s *Store, db *crashKV) *Store {
			flush(t, s)
			return openStore(t, s.bucket.(*mem.Bucket).Clone(), db.afterPowerCut())
		},
	} {
		t.Run(name, func(t *testing.T) {
			bucket, db := mem.New(), newCrashKV()
			s := openStore(t, bucket, db)
			ref := put(t, s, text(1, 100))
			flush(t, s)
			sweepAll(t, s, day(0)) // condemned
			if err := s.x.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			put(t, s, text(1, 100))
			s = between(t, s, db)
			if r := sweepAll(t, s, day(1)); r.Removed != 0 {
				t.Fatalf("got %+v, want nothing removed", r)
			}
			wantChunk(t, s, ref, text(1, 100))
		})
	}
}

func TestSweep_PutWhileTheCycleRunsKeeps(t *testing.T) {
	s := openStore(t, mem.New(), newCrashKV())
	ref := put(t, s, text(1, 100))
	flush(t, s)
	sweepAll(t, s, day(0))
	g, err := s.BeginGC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(t.Context(), ref.ID); err != nil {
		t.Fatal(err)
	}
	if r, err := g.Sweep(t.Context(), day(1)); err != nil || r.Removed != 0 || r.LiveChunks != 1 {
		t.Fatalf("got %+v, %v", r, err)
	}
	wantChunk(t, s, ref, text(1, 100))
}

func TestSweep_WhatWasNotDurableAtTheBeginIsLive(t *testing.T) {
	s := openStore(t, mem.New(), newCrashKV())
	put(t, s, text(1, 100))
	g, err := s.BeginGC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	if r, err := g.Sweep(t.Context(), day(0)); err != nil || r.Condemned != 0 || r.LiveChunks != 1 {
		t.Fatalf("got %+v, %v, want the chunk live", r, err)
	}
}

// atUpdate runs fn once, before the n-th change of the database from now on.
func atUpdate(db *crashKV, n int, fn func()) {
	db.hook = func(op string) error {
		if op == "update" {
			if n--; n == 0 {
				fn()
			}
		}
		return nil
	}
}

func TestSweep_PutWhileItIsCondemnedPardons(t *testing.T) {
	bucket, db := mem.New(), newCrashKV()
	s := openStore(t, bucket, db)
	ref := put(t, s, text(1, 100))
	flush(t, s)
	g, err := s.BeginGC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	atUpdate(db, 1, func() { ran = true; put(t, s, text(1, 100)) })
	if _, err := g.Sweep(t.Context(), day(0)); err != nil {
		t.Fatal(err)
	}
	if !ran {
		t.Fatal("the moment never came")
	}
	if c, err := s.x.IsCondemned(t.Context(), ref.ID); c || err != nil {
		t.Fatalf("got condemned %v, %v, though it was put in this cycle", c, err)
	}
	if r := sweepAll(t, s, day(1)); r.Removed != 0 {
		t.Fatalf("got %+v, want nothing removed", r)
	}
	wantChunk(t, s, ref, text(1, 100))
}

func TestSweep_PutWhileItIsRemovedStoresAnew(t *testing.T) {
	bucket, db := mem.New(), newCrashKV()
	s := openStore(t, bucket, db)
	ref := put(t, s, text(1, 100))
	flush(t, s)
	sweepAll(t, s, day(0))
	ran := false
	g, err := s.BeginGC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	atUpdate(db, 1, func() {
		ran = true
		if len(s.dying) != 1 {
			t.Error("not the moment that is meant")
		}
		if err := s.Keep(t.Context(), ref.ID); !errors.Is(err, ErrMissing) {
			t.Errorf("keep of a chunk whose removal has begun: got %v", err)
		}
		if got := put(t, s, text(1, 100)); got != ref {
			t.Errorf("got %v, want %v", got, ref)
		}
	})
	if r, err := g.Sweep(t.Context(), day(1)); err != nil || r.Removed != 1 {
		t.Fatalf("got %+v, %v, want the old copy removed", r, err)
	}
	if !ran {
		t.Fatal("the moment never came")
	}
	flush(t, s)
	wantChunk(t, s, ref, text(1, 100))
	s.cache = newSegmentCache(0)
	wantChunk(t, s, ref, text(1, 100))
	wantChunk(t, openStore(t, bucket.Clone(), newCrashKV()), ref, text(1, 100))
	wantSound(t, s)
	if r := sweepAll(t, s, day(2)); r.Removed != 0 || r.Condemned != 1 {
		t.Fatalf("got %+v, want the new copy only condemned", r)
	}
}

// The look-up of a Put finds the chunk, a whole Sweep removes it, and the Put goes on.
func TestSweep_RemovalWithinALookUpIsSeen(t *testing.T) {
	bucket, db := mem.New(), newCrashKV()
	s := openStore(t, bucket, db)
	other := put(t, s, text(2, 100))
	ref := put(t, s, text(1, 100))
	flush(t, s)
	sweepAll(t, s, day(0), other)
	var ran atomic.Bool
	db.onGet(func(key []byte) {
		if !bytes.Equal(key, append([]byte("xl"), ref.ID[:]...)) || ran.Swap(true) {
			return
		}
		if r := sweepAll(t, s, day(1), other); r.Removed != 1 {
			t.Errorf("got %+v, want it removed", r)
		}
	})
	if got := put(t, s, text(1, 100)); got != ref || !ran.Load() {
		t.Fatalf("got %v, want %v; ran: %v", got, ref, ran.Load())
	}
	db.onGet(nil)
	flush(t, s)
	s.cache = newSegmentCache(0)
	wantChunk(t, s, ref, text(1, 100))
	wantChunk(t, openStore(t, bucket.Clone(), newCrashKV()), ref, text(1, 100))
}

// A bucket may go on to list, and even to serve, a pack that was removed. It must not come
// back into the index: the next bytes like its would be taken for stored.
func TestStore_RemovedPacksDoNotComeBack(t *testing.T) {
	bucket := &hookBucket{Bucket: mem.New()}
	s := openStore(t, bucket, newCrashKV())
	ref := put(t, s, text(1, 100))
	flush(t, s)
	old := bucket.Clone()
	sweepAll(t, s, day(0))
	sweepAll(t, s, day(1))
	bucket.stale = old
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, text(1, 100))
	bucket.stale = nil
	flush(t, s)
	wantChunk(t, openStore(t, bucket.Clone(), newCrashKV()), ref, text(1, 100))
}

// Whoever reads while packs are merged finds the chunk in its new place, each time.
func TestStore_ReaderFollowsAChunkThatMoves(t *testing.T) {
	bucket := &hookBucket{Bucket: mem.New()}
	s := openStore(t, bucket, newCrashKV())
	s.cache = newSegmentCache(0)
	ref := put(t, s, text(1, 100))
	flush(t, s)
	for round := range 3 {
		moved, busy := 0, false
		bucket.get = func(blob.Name, int64, int64) {
			if moved == 3 || busy { // three times within one Get
				return
			}
			moved, busy = moved+1, true
			defer func() { busy = false }()
			if err := s.lockMaintenance(t.Context()); err != nil {
				t.Error(err)
				return
			}
			defer s.unlockMaintenance()
			if r, err := s.rewrite(t.Context(), s.x.Packs()); err != nil || len(r.removed) != 1 {
				t.Errorf("rewrite: got %v, %v", r.removed, err)
			}
		}
		if got, err := s.Get(t.Context(), nil, ref); err != nil || !bytes.Equal(got, text(1, 100)) || moved != 3 {
			t.Fatalf("round %d: got %v; moved: %v", round, err, moved)
		}
	}
}

// twoCopies makes a bucket with the same chunk in two packs, as two devices do that do
// not know of each other.
func twoCopies(t *testing.T) (*mem.Bucket, chunk.Ref, []byte) {
	bucket, plain := mem.New(), text(1, 2000)
	a, b := openStore(t, bucket, newCrashKV()), openStore(t, bucket, newCrashKV())
	ref := put(t, a, plain)
	if put(t, b, plain) != ref {
		t.Fatal("the same bytes have two Refs")
	}
	put(t, a, text(3, 2000)) // so that no pack is dead
	put(t, b, text(2, 2000))
	flush(t, a)
	flush(t, b)
	if n := len(packNames(t, bucket)); n != 2 {
		t.Fatalf("got %d packs, want 2", n)
	}
	return bucket, ref, plain
}

// X6: a chunk that is in two packs outlives each of them, whichever the index names, and
// however the index came to know of them.
func TestStore_SecondCopyServesWhenTheFirstIsGone(t *testing.T) {
	for i := range 2 {
		for name, index := range map[string]bool{"by directories": false, "by index blobs": true} {
			t.Run(name, func(t *testing.T) {
				bucket, ref, plain := twoCopies(t)
				victim := packNames(t, bucket)[i].Name
				db := newCrashKV()
				s := openStore(t, bucket, db)
				if index {
					for n := range learnFromIndex { // so that it is worth to read index blobs
						put(t, s, text(10+n, 100))
						flush(t, s)
					}
					if err := s.WriteIndex(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				s.cache = newSegmentCache(0)
				wantChunk(t, s, ref, plain)
				if err := bucket.Remove(t.Context(), victim); err != nil {
					t.Fatal(err)
				}
				if !index && i == 0 {
					// The loss is found by a read.
					wantChunk(t, s, ref, plain)
				}
				if err := s.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantChunk(t, s, ref, plain)
				fresh := openStore(t, bucket, newCrashKV())
				wantChunk(t, fresh, ref, plain)
				if err := fresh.Compact(t.Context()); err != nil {
					t.Fatal(err)
				}
				fresh.cache = newSegmentCache(0)
				wantChunk(t, fresh, ref, plain)
				wantChunk(t, openStore(t, bucket, db.afterPowerCut()), ref, plain)
			})
		}
	}
}

// A pack of this Store that a Refresh meets before it is in the index is left to the
// upload: else it could be known with nothing located in it, and be taken for dead.
func TestStore_RefreshLeavesOwnUploadsAlone(t *testing.T) {
	bucket, db := mem.New(), newCrashKV()
	s := openStore(t, bucket, db)
	put(t, s, text(1, 100))
	ran := false
	atUpdate(db, 1, func() { // the pack is in the bucket, the index is next
		ran = true
		present, err := s.listPacks(t.Context(), func(blob.Name) error { return nil })
		if err != nil || len(present) != 0 {
			t.Errorf("got %v, %v, want the pack left out", present, err)
		}
	})
	flush(t, s)
	if !ran || len(packNames(t, bucket)) != 1 || len(s.leaving) != 0 {
		t.Fatalf("ran: %v, leaving: %v", ran, s.leaving)
	}
}

func TestStore_SmallPacksAreMerged(t *testing.T) {
	rnd := testRand(t)
	bucket := mem.New()
	s := openStore(t, bucket, newCrashKV())
	live := map[chunk.Ref][]byte{}
	for range 120 {
		plain := randomBytes(rnd, 30_000)
		live[put(t, s, plain)] = plain
		flush(t, s)
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		infos := packNames(t, bucket)
		if len(infos) > 17 {
			t.Fatalf("%d small packs lie about", len(infos))
		}
		for _, info := range infos {
			if !pack.AllowedSize(info.Size) {
				t.Fatalf("pack of %d bytes", info.Size)
			}
		}
	}
	for ref, plain := range live {
		wantChunk(t, s, ref, plain)
	}
	wantSound(t, s)
}

// A second copy goes only if the first one is sound, and is what is read then.
func TestStore_SecondCopyReplacesADamagedOne(t *testing.T) {
	for _, readFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("read first %v", readFirst), func(t *testing.T) { secondCopyReplaces(t, readFirst) })
	}
}

func secondCopyReplaces(t *testing.T, readFirst bool) {
	bucket, ref, plain := twoCopies(t)
	s := openStore(t, bucket, newCrashKV())
	loc, ok, err := s.x.Lookup(t.Context(), ref.ID)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	name := blob.Name(loc.Pack.BlobName())
	file, err := blob.ReadAll(t.Context(), bucket, name, pack.Size)
	if err != nil {
		t.Fatal(err)
	}
	file[loc.Off+loc.Len/2] ^= 1
	if err := bucket.Put(t.Context(), name, bytes.NewReader(file), int64(len(file))); err != nil {
		t.Fatal(err)
	}
	if readFirst {
		wantChunk(t, s, ref, plain)
	}
	if err := s.lockMaintenance(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = s.rewrite(t.Context(), s.x.Packs())
	s.unlockMaintenance()
	if err != nil {
		t.Fatal(err)
	}
	wantChunk(t, s, ref, plain)
	left := packNames(t, bucket)
	if len(left) != 2 || left[0].Name != name && left[1].Name != name {
		t.Fatalf("got packs %v, want the new one and the damaged one, for who wants to look into it", left)
	}
}

// A condemnation does not outlive what it was about.
func TestSweep_ChunkThatVanishedAndWasPutAnewIsNotCondemned(t *testing.T) {
	bucket := mem.New()
	s := openStore(t, bucket, newCrashKV())
	ref := put(t, s, text(1, 100))
	flush(t, s)
	sweepAll(t, s, day(0))
	if err := bucket.Remove(t.Context(), packNames(t, bucket)[0].Name); err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := put(t, s, text(1, 100)); got != ref {
		t.Fatalf("got %v, want %v", got, ref)
	}
	flush(t, s)
	if r := sweepAll(t, s, day(1)); r.Removed != 0 {
		t.Fatalf("got %+v, want nothing removed", r)
	}
	wantChunk(t, s, ref, text(1, 100))
}

func TestSweep_NewChunksOfTheCycleAreLive(t *testing.T) {
	s := openStore(t, mem.New(), newCrashKV())
	g, err := s.BeginGC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, text(1, 100))
	flush(t, s)
	if r, err := g.Sweep(t.Context(), day(0)); err != nil || r.Condemned != 0 || r.LiveChunks != 1 {
		t.Fatalf("got %+v, %v, want the chunk live", r, err)
	}
}

// A commit may be slower than any number of garbage collections.
func TestHold_KeepsWhatIsPutUntilReleased(t *testing.T) {
	s := openStore(t, mem.New(), newCrashKV())
	before := put(t, s, text(9, 100))
	known := put(t, s, text(8, 100))
	flush(t, s)
	release := s.Hold()
	fresh := put(t, s, text(1, 100))
	put(t, s, text(8, 100))
	flush(t, s)
	for n := range 3 {
		sweepAll(t, s, day(n))
	}
	if r := sweepAll(t, s, day(3)); r.LiveChunks != 2 || r.Waiting != 0 {
		t.Fatalf("got %+v, want the two chunks live that were put", r)
	}
	s.cache = newSegmentCache(0)
	wantChunk(t, s, fresh, text(1, 100))
	wantChunk(t, s, known, text(8, 100))
	if ok, err := s.Has(t.Context(), before.ID); ok || err != nil {
		t.Fatalf("a chunk put before the Hold: got %v, %v, want it gone", ok, err)
	}
	release()
	release()
	if r := sweepAll(t, s, day(4)); r.Condemned != 2 {
		t.Fatalf("got %+v, want both condemned after the release", r)
	}
}
