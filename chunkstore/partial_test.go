package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// indexed returns a bucket with a dozen packs which index blobs tell of, one which none does, and what is in them.
func indexed(t *testing.T) (b *mem.Bucket, covered, rest map[chunk.Ref][]byte) {
	t.Helper()
	rnd := testRand(t)
	b, covered, rest = mem.New(), map[chunk.Ref][]byte{}, map[chunk.Ref][]byte{}
	s := openStore(t, b, newCrashKV())
	fill := func(m map[chunk.Ref][]byte, packs int) {
		for range packs {
			for range 20 {
				plain := randomBytes(rnd, 3000)
				m[put(t, s, plain)] = plain
			}
			flush(t, s)
		}
	}
	fill(covered, 12)
	if err := s.WriteIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill(rest, 1)
	return b, covered, rest
}

// gets counts what is read of a bucket.
type gets struct {
	hookBucket
	index, packs atomic.Int64
}

func countGets(b *mem.Bucket) *gets {
	g := &gets{}
	g.Bucket = b
	g.get = func(name blob.Name, _, _ int64) {
		switch {
		case strings.HasPrefix(string(name), "index/"):
			g.index.Add(1)
		case strings.HasPrefix(string(name), pack.Prefix):
			g.packs.Add(1)
		}
	}
	return g
}

// What index blobs tell of is read without reading anything else but the root and one shard.
func TestLazy_ReadsNoMoreThanItNeeds(t *testing.T) {
	b, covered, _ := indexed(t)
	g := countGets(b)
	s := openLazy(t, g, newCrashKV())
	if n, m := g.index.Load(), g.packs.Load(); n != 1 || m != 0 {
		t.Errorf("to open, %d index blobs and %d packs were read", n, m)
	}
	for ref, plain := range covered {
		wantChunk(t, s, ref, plain)
		break
	}
	if n, m := g.index.Load(), g.packs.Load(); n != 2 || m > 3 {
		t.Errorf("to read a chunk, %d index blobs and %d times packs were read", n, m)
	}
	if s.partial.Load() == nil {
		t.Error("all packs are known already")
	}
}

// It stays partial when it has written itself and is opened again, until all was known once.
func TestLazy_UntilAllWasKnownOnce(t *testing.T) {
	b, covered, rest := indexed(t)
	maps.Copy(covered, rest)
	db, rnd := newCrashKV(), testRand(t)
	for range 3 {
		s := openLazy(t, b, db)
		if s.partial.Load() == nil {
			t.Fatal("all is known, it says")
		}
		plain := randomBytes(rnd, 3000)
		covered[put(t, s, plain)] = plain
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s := openLazy(t, b, db)
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := countGets(b)
	s = openLazy(t, g, db)
	if n := g.index.Load() + g.packs.Load(); s.partial.Load() != nil || n != 0 {
		t.Errorf("%d blobs are read to learn what was known", n)
	}
	for ref, plain := range covered {
		wantChunk(t, s, ref, plain)
	}
	wantSound(t, s)
}

// What a head said is near is read without the index; if that is not true, it is found nevertheless.
func TestLazy_FindsWhatIsNear(t *testing.T) {
	b, covered, rest := indexed(t)
	full := openStore(t, b.Clone(), newCrashKV())
	all := maps.Clone(rest)
	maps.Copy(all, covered)
	var ids []chunk.ID
	for ref := range all {
		ids = append(ids, ref.ID)
	}
	near, err := full.Nearby(t.Context(), ids...)
	if err != nil || len(near) != len(all) {
		t.Fatalf("%d places of %d: %v", len(near), len(all), err)
	}
	g := countGets(b)
	s := openLazy(t, g, newCrashKV())
	if none, err := s.Nearby(t.Context(), ids...); len(none) != 0 || err != nil {
		t.Errorf("%d places are known: %v", len(none), err)
	}
	s.Near(near)
	if again, err := s.Nearby(t.Context(), ids...); !maps.Equal(again, near) || err != nil {
		t.Errorf("%d places of %d are passed on: %v", len(again), len(near), err)
	}
	if n, m := g.index.Load(), g.packs.Load(); n != 1 || m != 0 {
		t.Errorf("for that %d index blobs and %d packs were read", n, m)
	}
	for ref, plain := range all {
		wantChunk(t, s, ref, plain)
	}
	if n := g.index.Load(); n != 1 || s.partial.Load() == nil {
		t.Errorf("%d index blobs were read", n)
	}
	for how, spoil := range map[string]func(Place) Place{
		"another offset": func(p Place) Place { p.Off ^= 1; return p },
		"beyond":         func(p Place) Place { p.Off += pack.Size / 2; return p },
		"no such pack":   func(p Place) Place { p.Pack[3] ^= 1; return p },
		"shorter":        func(p Place) Place { p.Len--; return p },
		"longer":         func(p Place) Place { p.Len++; return p },
		"below zero":     func(p Place) Place { p.Off = -1; return p },
		"none":           func(Place) Place { return Place{} },
	} {
		t.Run(how, func(t *testing.T) {
			wrong := map[chunk.ID]Place{}
			for id, p := range near {
				wrong[id] = spoil(p)
			}
			s := openLazy(t, b, newCrashKV())
			s.Near(wrong)
			for ref, plain := range covered {
				wantChunk(t, s, ref, plain)
			}
			if s.partial.Load() == nil {
				t.Error("one shard of the index would have been enough")
			}
			for ref, plain := range all {
				if ok, err := s.Has(t.Context(), ref.ID); !ok || err != nil {
					t.Fatalf("has: %v %v", ok, err)
				}
				wantChunk(t, s, ref, plain)
			}
		})
	}
}

// Whoever goes by what the index does not have waits until it has all: here those that write, remove, and look through all.
func TestLazy_MaintenanceMeetsTheWholeIndex(t *testing.T) {
	b, covered, rest := indexed(t)
	all := maps.Clone(covered)
	maps.Copy(all, rest)
	for what, do := range map[string]func(s *Store) error{
		"index":   func(s *Store) error { return s.WriteIndex(t.Context()) },
		"compact": func(s *Store) error { return s.Compact(t.Context()) },
		"refresh": func(s *Store) error { return s.Refresh(t.Context()) },
		"collect": func(s *Store) error {
			for i := range 2 {
				if _, err := collect(t.Context(), s, all, day(i)); err != nil {
					return err
				}
			}
			return nil
		},
		"verify": func(s *Store) error { wantSound(t, s); return nil },
		"missing": func(s *Store) error {
			if ok, err := s.Has(t.Context(), chunk.ID{1}); ok || err != nil {
				t.Errorf("has what is not there: %v %v", ok, err)
			}
			return nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := b.Clone()
			s := openLazy(t, b, newCrashKV())
			if err := do(s); err != nil {
				t.Fatal(err)
			}
			if s.partial.Load() != nil || s.x.Chunks() != int64(len(all)) {
				t.Fatalf("%d chunks of %d are known", s.x.Chunks(), len(all))
			}
			for when, s := range map[string]*Store{"this one": s, "another one": openLazy(t, b.Clone(), newCrashKV())} {
				for ref, plain := range all {
					if got, err := s.Get(t.Context(), nil, ref); err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("%s: %v", when, err)
					}
				}
			}
		})
	}
}

// What was written after the index blobs is read without all of these, if it is not too much; and what is in none of both is looked for in all.
func TestLazy_WhatIsNewerThanTheIndexIsReadFirst(t *testing.T) {
	b, covered, rest := indexed(t)
	g := countGets(b)
	s := openLazy(t, g, newCrashKV())
	for ref, plain := range rest {
		wantChunk(t, s, ref, plain)
		if n, err := s.SealedSize(t.Context(), ref.ID); n == 0 || err != nil {
			t.Errorf("size %d: %v", n, err)
		}
		if p, err := s.Where(t.Context(), ref.ID); p.Len == 0 || err != nil {
			t.Errorf("where %v: %v", p, err)
		}
	}
	if n := s.x.Chunks(); s.partial.Load() == nil || n != int64(len(rest)) {
		t.Errorf("%d chunks are known, want the %d of the newer packs", n, len(rest))
	}
	for ref, plain := range covered {
		wantChunk(t, s, ref, plain)
	}
	if ok, err := s.Has(t.Context(), chunk.ID{1}); ok || err != nil {
		t.Errorf("has what is not there: %v %v", ok, err)
	}
	if n := s.x.Chunks(); s.partial.Load() != nil || n != int64(len(rest)+len(covered)) {
		t.Errorf("%d chunks are known, want all", n)
	}
	wantSound(t, s)
}

// One of the newer packs that cannot be read at once keeps nobody from what is in it.
func TestLazy_ANewerPackThatIsAwayForAMoment(t *testing.T) {
	b, _, rest := indexed(t)
	place := evil.New(b, 1)
	s := openLazy(t, place, newCrashKV())
	place.Set(evil.Fail, func(name blob.Name) bool { return strings.HasPrefix(string(name), pack.Prefix) })
	for ref := range rest {
		if _, err := s.Get(t.Context(), nil, ref); err == nil {
			t.Error("it is read all the same")
		}
		break
	}
	place.Heal()
	for ref, plain := range rest {
		wantChunk(t, s, ref, plain)
	}
}

// While the index is partial, what is put is stored and found, and nothing of what is written then is lost at the end of it.
func TestLazy_WritesMeanwhile(t *testing.T) {
	b, covered, rest := indexed(t)
	db := newCrashKV()
	s := openLazy(t, b, db)
	rnd, mine := testRand(t), map[chunk.Ref][]byte{}
	for range 50 {
		plain := randomBytes(rnd, 3000)
		mine[put(t, s, plain)] = plain
	}
	for _, plain := range covered { // what is there is put again: it may be stored twice
		mine[put(t, s, plain)] = plain
	}
	flush(t, s)
	if s.partial.Load() == nil {
		t.Fatal("all packs are known already")
	}
	maps.Copy(mine, rest)
	for ref, plain := range mine {
		wantChunk(t, s, ref, plain)
	}
	wantSound(t, s)
	flush(t, s)
	again := openStore(t, b.Clone(), db.afterPowerCut())
	for ref, plain := range mine {
		wantChunk(t, again, ref, plain)
	}
	wantSound(t, again)
}

// A bucket that fails while all is learned: who waits is told, and the next attempt goes on.
func TestLazy_GoesOnAfterAFailure(t *testing.T) {
	b, covered, rest := indexed(t)
	var fails atomic.Bool
	s := openLazy(t, failing{b, &fails}, newCrashKV())
	fails.Store(true)
	for range 3 {
		if err := s.Refresh(t.Context()); !errors.Is(err, errInjected) {
			t.Fatalf("refresh: %v", err)
		}
	}
	if s.partial.Load() == nil {
		t.Fatal("all is known, it says")
	}
	fails.Store(false)
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	maps.Copy(rest, covered)
	for ref, plain := range rest {
		wantChunk(t, s, ref, plain)
	}
}

// A reader that gives up keeps nobody from the end, and Close waits for nothing.
func TestLazy_CloseAndCancel(t *testing.T) {
	b, _, _ := indexed(t)
	s := openLazy(t, b, newCrashKV())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Refresh(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("refresh: %v", err)
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	s = openLazy(t, b, newCrashKV())
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Refresh(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("refresh after close: %v", err)
	}
}

// Where nobody looks for anything, the rest is learned without being asked for.
func TestLazy_LearnsAllAtRest(t *testing.T) {
	b, covered, rest := indexed(t)
	s := openWith(t, Options{Bucket: b, KV: newCrashKV(), Lazy: true, rest: 10 * time.Millisecond})
	for end := time.Now().Add(time.Minute); s.partial.Load() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not all is known after a minute")
		}
	}
	if n := len(covered) + len(rest); s.x.Chunks() != int64(n) {
		t.Errorf("%d chunks of %d are known", s.x.Chunks(), n)
	}
}
