package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// kept lists the packs that are on the device.
func (s *side) kept(t *testing.T) (all []blob.Info) {
	t.Helper()
	for info, err := range s.tier.Kept(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info)
	}
	return all
}

// evicting is a device with places that have had all that it has put.
func evicting(t *testing.T, places ...Place) (s *side, pack blob.Name) {
	t.Helper()
	s = newSide(t)
	for _, p := range places {
		if err := s.e.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	pack, _ = putPack(t, s.tier, 1, 1, "x")
	if err := s.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, pack
}

func (s *side) evict(t *testing.T, copies int) Eviction {
	t.Helper()
	ev, err := s.e.Evict(t.Context(), s.kept(t), 1<<40, copies, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// A liar lists all that it ever had, and gives something else.
type liar struct {
	blob.Bucket
	all   blob.Bucket // what it lists
	other bool        // it gives other bytes
}

func (l *liar) List(ctx context.Context, p blob.Name) iter.Seq2[blob.Info, error] {
	return l.all.List(ctx, p)
}

func (l *liar) Get(ctx context.Context, n blob.Name, off, size int64) (io.ReadCloser, error) {
	r, err := l.Bucket.Get(ctx, n, off, size)
	if err != nil || !l.other {
		return r, err
	}
	b, err := io.ReadAll(r)
	if err == nil && len(b) > 0 {
		b[len(b)/2] ^= 1
	}
	return io.NopCloser(bytes.NewReader(b)), errors.Join(err, r.Close())
}

// A pack goes only if enough places are seen to have it, each of them now.
func TestEvict_OnlyWhatIsSeenElsewhere(t *testing.T) {
	gone := func(t *testing.T, b blob.Bucket, pack blob.Name) {
		t.Helper()
		if err := b.Remove(t.Context(), pack); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		places func() []Place
		copies int
		before func(t *testing.T, s *side, pack blob.Name)
		goes   bool
	}{
		"one place":               {places: func() []Place { return []Place{placeOf("a", mem.New())} }, goes: true},
		"no place":                {places: func() []Place { return nil }},
		"two places":              {places: func() []Place { return []Place{placeOf("a", mem.New()), placeOf("b", mem.New())} }, goes: true},
		"more copies than places": {places: func() []Place { return []Place{placeOf("a", mem.New())} }, copies: 2},
		"a place that has lost it": {
			places: func() []Place { return []Place{placeOf("a", mem.New())} },
			before: func(t *testing.T, s *side, pack blob.Name) { gone(t, s.e.places[0].at, pack) },
		},
		"one of two has lost it": {
			places: func() []Place { return []Place{placeOf("a", mem.New()), placeOf("b", mem.New())} },
			before: func(t *testing.T, s *side, pack blob.Name) { gone(t, s.e.places[1].at, pack) },
		},
		"one of two has lost it, and one is enough": {
			places: func() []Place { return []Place{placeOf("a", mem.New()), placeOf("b", mem.New())} }, copies: 1,
			before: func(t *testing.T, s *side, pack blob.Name) { gone(t, s.e.places[1].at, pack) }, goes: true,
		},
		"one that lists what it does not have": {
			places: func() []Place { b := mem.New(); return []Place{placeOf("a", &liar{Bucket: b, all: b})} },
			before: func(t *testing.T, s *side, pack blob.Name) {
				p := s.e.places[0]
				l := p.at.b.(*liar)
				all := mem.New()
				put(t, all, pack, strings.Repeat("x", 1000))
				l.all = all
				gone(t, l.Bucket, pack)
			},
		},
		"one that gives other bytes": {
			places: func() []Place { b := mem.New(); return []Place{placeOf("a", &liar{Bucket: b, all: b})} },
			before: func(_ *testing.T, s *side, _ blob.Name) { s.e.places[0].at.b.(*liar).other = true },
		},
		"another device": {places: func() []Place {
			p := placeOf("laptop", mem.New())
			p.Direct, p.Passing = true, true
			return []Place{p}
		}},
		"one that takes nothing": {
			places: func() []Place { return []Place{placeOf("a", mem.New())} },
			before: func(_ *testing.T, s *side, _ blob.Name) { s.e.places[0].Gives = true },
		},
		"one that cannot be reached": {
			places: func() []Place { return []Place{placeOf("a", &flaky{Bucket: mem.New()})} },
			before: func(_ *testing.T, s *side, _ blob.Name) { s.e.places[0].at.b.(*flaky).down.Store(true) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, pack := evicting(t, c.places()...)
			if c.before != nil {
				c.before(t, s, pack)
			}
			ev := s.evict(t, c.copies)
			if went := len(s.kept(t)) == 0; went != c.goes || (ev.Packs == 1) != c.goes || (ev.Short == 1) == c.goes {
				t.Errorf("it went: %t, and it was to: %t; %+v", went, c.goes, ev)
			}
			if strings.Contains(name, "reached") && (len(ev.Away) != 1 || ev.Away[0] != "a") {
				t.Errorf("away are %v", ev.Away)
			}
		})
	}
}

func put(t *testing.T, b blob.Bucket, name blob.Name, body string) {
	t.Helper()
	if err := b.Put(t.Context(), name, strings.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
}

// What was evicted is brought to a place that comes later, from those that have it.
func TestEvict_ANewPlaceGetsItToo(t *testing.T) {
	s, pack := evicting(t, placeOf("a", mem.New()))
	if ev := s.evict(t, 0); ev.Packs != 1 {
		t.Fatalf("%+v", ev)
	}
	b := mem.New()
	if err := s.e.Add(placeOf("b", b)); err != nil {
		t.Fatal(err)
	}
	if err := s.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !has(t, b, pack, "heads/00000000000000000000000000000001/0000000000000001") {
		t.Error("the place that came later does not have it")
	}
	if err := s.e.Wait(t.Context(), 2); err != nil {
		t.Error(err)
	}
}

// The place that keeps what was evicted is not dropped as one that nothing depends on.
func TestDropSpare_NotThePlaceOfWhatWasEvicted(t *testing.T) {
	s, pack := evicting(t, placeOf("a", mem.New()), placeOf("b", mem.New()))
	if ev := s.evict(t, 1); ev.Packs != 1 {
		t.Fatalf("%+v", ev)
	}
	if only, err := s.e.DropSpare(t.Context(), "a"); only != 0 || err != nil {
		t.Fatalf("only at a are %d, %v", only, err)
	}
	if only, err := s.e.DropSpare(t.Context(), "b"); only != 1 || err != nil || len(s.e.List()) != 1 {
		t.Errorf("only at b are %d, %v, and there are %d places", only, err, len(s.e.List()))
	}
	if !has(t, s.tier, pack) {
		t.Error("it is gone")
	}
	if err := s.e.Drop("b"); err != nil {
		t.Error(err)
	}
}

// What was evicted, and is removed because nothing needs it, is removed at the places.
func TestEvict_WhatIsRemovedGoesEverywhere(t *testing.T) {
	a := mem.New()
	s, pack := evicting(t, placeOf("a", a))
	if ev := s.evict(t, 0); ev.Packs != 1 {
		t.Fatalf("%+v", ev)
	}
	if err := s.tier.Remove(t.Context(), pack); err != nil {
		t.Fatal(err)
	}
	if err := s.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if has(t, a, pack) || has(t, s.tier, pack) {
		t.Error("it is there still")
	}
}

// What a place has is known from before, also to an Engine in which it had no turn, and if it is not, the place is asked.
func TestOnlyAt_BeforeAnyTurn(t *testing.T) {
	for _, learned := range []bool{true, false} {
		a := &flaky{Bucket: mem.New()}
		s, _ := evicting(t, placeOf("a", a))
		if ev := s.evict(t, 0); ev.Packs != 1 {
			t.Fatalf("%+v", ev)
		}
		if err := s.e.Drop("a"); err != nil {
			t.Fatal(err)
		}
		if err := s.e.Add(placeOf("a", a)); err != nil {
			t.Fatal(err)
		}
		a.down.Store(true)
		if only, err := s.e.DropSpare(t.Context(), "a"); err == nil || only != 0 || len(s.e.List()) != 1 {
			t.Errorf("nothing is known, and it cannot be asked: only at a are %d, %v, there are %d places", only, err, len(s.e.List()))
		}
		a.down.Store(false)
		if learned {
			table, err := catalog.List(a.List(t.Context(), catalog.Packs))
			if err == nil {
				err = s.tier.Learn("a", table)
			}
			if err != nil {
				t.Fatal(err)
			}
			a.down.Store(true)
		}
		if only, err := s.e.DropSpare(t.Context(), "a"); err != nil || only != 1 || len(s.e.List()) != 1 {
			t.Errorf("learned %t: only at a are %d, %v, there are %d places", learned, only, err, len(s.e.List()))
		}
		a.down.Store(false)
	}
}

// What stays is made good by the next pack.
func TestEvict_GoesOnAfterOneThatStays(t *testing.T) {
	s, _ := evicting(t, placeOf("a", mem.New()))
	putPack(t, s.tier, 1, 2, "y")
	if err := s.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	packs := s.kept(t)
	if err := s.e.places[0].at.Remove(t.Context(), packs[0].Name); err != nil {
		t.Fatal(err)
	}
	ev, err := s.e.Evict(t.Context(), packs, packs[0].Size, 0, nil)
	if err != nil || ev.Packs != 1 || ev.Short != 1 || ev.Bytes != packs[1].Size {
		t.Errorf("%+v, %v", ev, err)
	}
	if left := s.kept(t); len(left) != 1 || left[0].Name != packs[0].Name {
		t.Errorf("left are %v", left)
	}
}
