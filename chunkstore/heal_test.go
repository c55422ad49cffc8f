package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/gc"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// Whatever a bucket shows for a while, and however a Store comes to believe it: once it is honest, all is there.
func TestStore_WhatABucketOnceShowedLosesNothing(t *testing.T) {
	rnd := testRand(t)
	type run struct {
		lie, learning, act string
		honest             bool // before the act
	}
	var all []run
	for _, lie := range liesOfPacks {
		for _, learning := range learnings {
			for _, act := range firstActs {
				all = append(all, run{lie, learning, act, true}, run{lie, learning, act, false})
			}
		}
	}
	rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if os.Getenv("SHEAF_LONG") == "" {
		all = all[:40]
	}
	told := 0
	for _, r := range all {
		name := fmt.Sprintf("%s/%s/%s/honest %v", r.lie, r.learning, r.act, r.honest)
		ok := t.Run(name, func(t *testing.T) {
			w := newTown(t, rnd)
			s, db := w.learn(r.learning, r.lie)
			if strings.HasPrefix(r.lie, "removed") && db != w.half && db != w.db {
				// A Store without its database cannot know that these were removed. Where it proves them, and finds second copies in
				// them, to take them away again is to take away what it had.
				w.dead = nil
				r.honest = true
			}
			if r.honest {
				w.liar.honest()
			}
			s = w.act(r.act, s, db)
			for range rnd.IntN(3) { // and more
				s = w.act(firstActs[rnd.IntN(len(firstActs))], s, db)
			}
			w.liar.honest()
			told += w.liar.told
			w.whole(s, db)
			w.close(s)
		})
		if !ok {
			break
		}
	}
	if told < len(all) {
		t.Errorf("only %d lies were told: this shows nothing", told)
	}
}

// The bug that was: a pack that was learned with the directory of another is not removed for it.
func TestStore_PackLearnedAsAnotherIsNotRemoved(t *testing.T) {
	rnd := testRand(t)
	for _, act := range []string{"compact", "gc"} {
		t.Run(act, func(t *testing.T) {
			w := &town{t: t, rnd: rnd, mem: mem.New(), must: map[chunk.Ref][]byte{}}
			w.liar = newLiar(w.mem)
			a := openStore(t, w.mem, newCrashKV())
			for range 2 {
				plain := randomBytes(rnd, 3000)
				w.must[put(t, a, plain)] = plain
				flush(t, a)
			}
			w.close(a)
			w.lieTo("one for another")
			db := newCrashKV()
			s := w.open(db)
			w.liar.honest()
			// Nothing seems to be in the pack that was shown as the other.
			if packs := s.x.Packs(); len(packs) != 2 || packs[0].Live+packs[1].Live != 1 {
				t.Fatalf("got %+v: this shows nothing", packs)
			}
			w.act(act, s, db)
			w.whole(s, db)
		})
	}
}

// A pack that the bucket says is gone, and that is back later, lives on, and so does what was put meanwhile.
func TestStore_PackThatWasSaidToBeGoneIsBackWithAllItHad(t *testing.T) {
	bucket := newLiar(mem.New())
	s := openStore(t, bucket, newCrashKV())
	s.pause = 0
	refs := []chunk.Ref{put(t, s, text(1, 3000)), put(t, s, text(2, 3000))}
	flush(t, s)
	name := packNames(t, bucket)[0].Name
	bucket.gone[name], bucket.short[name] = true, true
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), nil, refs[0]); !errors.Is(err, ErrMissing) {
		t.Fatalf("got %v, want ErrMissing", err)
	}
	// Garbage collections that do not reach it, for it seems not to be there, and one that does.
	sweepAll(t, s, day(0))
	sweepAll(t, s, day(1))
	put(t, s, text(1, 3000))
	flush(t, s)
	bucket.honest()
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	sweepAll(t, s, day(2), refs...)
	for i, ref := range refs {
		wantChunk(t, s, ref, text(1+i, 3000))
		if c, err := s.x.IsCondemned(t.Context(), ref.ID); c || err != nil {
			t.Errorf("chunk %d is condemned: %v, %v", i, c, err)
		}
	}
	wantSound(t, s)
}

// The last copy of a chunk stays when the pack that the index has it in is gone, and the pack with the copy cannot be
// read just then.
func TestStore_SecondCopyOutlivesBadMoments(t *testing.T) {
	bucket, ref, plain := twoCopies(t)
	l := newLiar(bucket)
	s := openStore(t, l, newCrashKV())
	s.pause = 0
	findings(t, s) // all is proven
	loc, _, err := s.x.Lookup(t.Context(), ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	first := blob.Name(loc.Pack.BlobName())
	var second blob.Name
	for _, info := range packNames(t, bucket) {
		if info.Name != first {
			second = info.Name
		}
	}
	if err := bucket.Remove(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	l.shown[second] = []byte("nothing")
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.honest()
	for i := range 4 {
		sweepAll(t, s, day(i), ref)
	}
	s.cache = newSegmentCache(0)
	wantChunk(t, s, ref, plain)
	wantChunk(t, openStore(t, bucket, newCrashKV()), ref, plain)
}

// What a bucket has not as it was written takes nothing's place.
func TestCompact_NewPackIsReadBack(t *testing.T) {
	for name, harm := range map[string]func(l *liar, n blob.Name, body []byte){
		"a bit":   func(l *liar, n blob.Name, body []byte) { body[len(body)/2] ^= 1; l.shown[n] = body },
		"cut":     func(l *liar, n blob.Name, body []byte) { l.shown[n] = body[:len(body)-1] },
		"longer":  func(l *liar, n blob.Name, body []byte) { l.shown[n] = append(body, 0) },
		"nothing": func(l *liar, n blob.Name, _ []byte) { l.gone[n] = true },
	} {
		t.Run(name, func(t *testing.T) {
			hooked := &hookBucket{Bucket: mem.New()}
			l := newLiar(hooked)
			s := openStore(t, l, newCrashKV())
			live := map[chunk.Ref][]byte{}
			for i := range 20 {
				live[put(t, s, text(i, 3000))] = text(i, 3000)
			}
			flush(t, s)
			before := packNames(t, hooked)
			dead := put(t, s, text(100, 300_000))
			flush(t, s)
			put(t, s, text(101, 3000))
			flush(t, s)
			spoiled := &spoiler{Bucket: l, harm: func(n blob.Name, body []byte) { harm(l, n, body) }}
			s.bucket = spoiled
			_ = dead
			if err := s.lockMaintenance(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := s.rewrite(t.Context(), s.x.Packs())
			s.unlockMaintenance()
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v, want %v", err, ErrCorrupt)
			}
			if spoiled.n == 0 {
				t.Fatal("no pack was written")
			}
			l.honest()
			for _, info := range before {
				if _, err := blob.ReadAll(t.Context(), hooked, info.Name, pack.Size); err != nil {
					t.Errorf("a pack is gone: %v", err)
				}
			}
			for ref, plain := range live {
				wantChunk(t, s, ref, plain)
			}
		})
	}
}

// spoiler lets harm be done to each pack that is put.
type spoiler struct {
	blob.Bucket
	harm func(blob.Name, []byte)
	n    int
}

func (b *spoiler) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := b.Bucket.Put(ctx, name, bytes.NewReader(body), size); err != nil {
		return err
	}
	b.n++
	b.harm(name, body)
	return nil
}

// A removed pack that is shown after a restart can be read, and nobody takes what is in it for stored.
func TestStore_GhostsAreNotBelieved(t *testing.T) {
	bucket := newLiar(mem.New())
	db := newCrashKV()
	s := openStore(t, bucket, db)
	ref := put(t, s, text(1, 3000))
	flush(t, s)
	old := blobsOf(t, bucket)
	sweepAll(t, s, day(0))
	sweepAll(t, s, day(1))
	if n := packNames(t, bucket); len(n) != 0 {
		t.Fatalf("got packs %v, want none", n)
	}
	maps.Copy(bucket.shown, old)
	s = openStore(t, bucket, db.afterPowerCut())
	wantChunk(t, s, ref, text(1, 3000))
	if err := s.Keep(t.Context(), ref.ID); !errors.Is(err, ErrMissing) {
		t.Errorf("keep: got %v, want ErrMissing", err)
	}
	put(t, s, text(1, 3000))
	flush(t, s)
	if n := packNames(t, bucket.Bucket); len(n) != 1 {
		t.Fatalf("got packs %v, want a new one", n)
	}
	bucket.honest()
	wantChunk(t, openStore(t, bucket, newCrashKV()), ref, text(1, 3000))
	if err := s.Close(t.Context()); err != nil { // else it may remove the ghost once more, by itself
		t.Fatal(err)
	}
	t.Run("but one that is there for good is a pack like any other in time", func(t *testing.T) {
		for name, body := range old {
			putBlob(t, bucket, name, body)
		}
		s := openStore(t, bucket, db.afterPowerCut())
		sweepAll(t, s, gc.Options{Now: time.Now()}, ref)
		sweepAll(t, s, gc.Options{Now: time.Now().Add(2 * keepGraves)}, ref)
		if p := s.x.Packs(); len(p) != 1 {
			t.Errorf("got %+v, want the ghost gone", p)
		}
		for name := range old {
			n, err := pack.ParseBlobName(string(name))
			if err != nil {
				continue
			}
			if buried, err := s.x.Buried(t.Context(), n); buried || err != nil {
				// It was removed again just now, by the clock of the machine.
				if err := s.x.Level(t.Context(), time.Now().Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			if buried, err := s.x.Buried(t.Context(), n); buried || err != nil {
				t.Errorf("still remembered: %v, %v", buried, err)
			}
		}
		wantChunk(t, s, ref, text(1, 3000))
	})
}

// A Store that was deceived, and then is killed at any point of what it does next, has lost nothing either.
func TestStore_CrashOfADeceivedStoreLosesNothing(t *testing.T) {
	rnd := testRand(t)
	lies := []string{"two change places", "all for others", "removed ones for others", "removed ones are there", "gone"}
	runs := lies[rnd.IntN(len(lies)):][:1]
	if os.Getenv("SHEAF_LONG") != "" {
		runs = lies
	}
	for _, lie := range runs {
		t.Run(lie, func(t *testing.T) {
			w := newTown(t, rnd)
			bucket := &hookBucket{Bucket: w.mem}
			w.liar = newLiar(bucket)
			w.lieTo(lie)
			db := w.half
			s := w.open(db)
			rec := record(bucket, db, 1)
			rec.add(w.must)
			w.act("get", s, db)
			w.act("put", s, db)
			rec.add(w.must)
			w.liar.honest()
			for _, act := range []string{"compact", "gc", "compact", "gc", "verify"} {
				s = w.act(act, s, db)
			}
			w.close(s)
			bucket.hook, db.hook = nil, nil
			t.Logf("%d crash points", len(rec.states))
			if len(rec.states) < 10 {
				t.Error("too few: this shows nothing")
			}
			for i := range rec.states {
				rec.states[i].check(t)
			}
		})
	}
}

// Reading a pack whole is for victims: a Store that reads, puts and flushes does not, nor does one that learns.
func TestStore_PacksAreReadWholeOnlyAsVictims(t *testing.T) {
	rnd := testRand(t)
	whole := 0
	bucket := &hookBucket{Bucket: mem.New(), get: func(n blob.Name, off, size int64) {
		if strings.HasPrefix(string(n), pack.Prefix) && off == 0 && (size < 0 || size > pack.MinSize) {
			whole++
		}
	}}
	db := newCrashKV()
	s := openStore(t, bucket, db)
	live := map[chunk.Ref][]byte{}
	for range 10 {
		plain := randomBytes(rnd, 3*seal.SegmentSize)
		live[put(t, s, plain)] = plain
		flush(t, s)
	}
	for _, s := range []*Store{s, openStore(t, bucket, newCrashKV())} {
		s.cache = newSegmentCache(0)
		for ref, plain := range live {
			wantChunk(t, s, ref, plain)
		}
		for _, plain := range live {
			put(t, s, plain)
		}
		flush(t, s)
	}
	if whole > 0 {
		t.Errorf("%d packs were read whole", whole)
	}
	t.Run("and dead ones of its own not at all", func(t *testing.T) {
		sweepAll(t, s, day(0))
		if r := sweepAll(t, s, day(1)); r.PacksRemoved == 0 || whole > 0 {
			t.Errorf("got %+v, and %d packs read whole", r, whole)
		}
	})
}

// What a device has learned from others is freed in two cycles, as its own is: packs are proven when there is something to free.
func TestSweep_FreesWhatWasHearsay(t *testing.T) {
	bucket := mem.New()
	a := openStore(t, bucket, newCrashKV())
	live := put(t, a, text(1, 3000))
	put(t, a, text(2, 3000))
	flush(t, a)
	put(t, a, text(3, 3000))
	flush(t, a)
	s := openStore(t, bucket, newCrashKV())
	if r := sweepAll(t, s, day(0), live); r.Condemned != 2 || r.Removed != 0 {
		t.Fatalf("first cycle: got %+v", r)
	}
	if r := sweepAll(t, s, day(1), live); r.Removed != 2 || r.PacksRemoved != 2 || r.PacksWritten != 1 || r.Waiting != 0 || r.WaitingBytes != 0 {
		t.Fatalf("second cycle: got %+v", r)
	}
	wantChunk(t, s, live, text(1, 3000))
	wantSound(t, s)
}

// Compact needs memory for two packs. Where the packs that are being filled have it, and nobody writes any more, it does
// not wait for ever.
func TestCompact_GetsMemoryWhereNobodyWrites(t *testing.T) {
	rnd := testRand(t)
	s := openStore(t, mem.New(), newCrashKV())
	must := map[chunk.Ref][]byte{}
	keep := func() {
		plain := randomBytes(rnd, 3000)
		must[put(t, s, plain)] = plain
	}
	for range 12 {
		for range 8 {
			keep()
		}
		flush(t, s)
	}
	if err := s.lockMaintenance(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.unlockMaintenance()
	for open := 0; open < 2; { // both are open
		keep()
		s.mu.Lock()
		open = 0
		for _, p := range s.fill.open {
			if p != nil {
				open++
			}
		}
		s.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := s.rewrite(ctx, s.x.Packs())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.removed) != 12 {
		t.Errorf("%d packs were written anew, want 12", len(r.removed))
	}
	for ref, plain := range must {
		wantChunk(t, s, ref, plain)
	}
}
