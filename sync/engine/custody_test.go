package engine

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// A replica that was dropped is no copy any more: what is at one other place then, and not here, is the last.
func TestDrop_LeavesNoCopyBehind(t *testing.T) {
	one, two := mem.New(), mem.New()
	s := newSide(t)
	pack, _ := putPack(t, one, 2, 1, "of another device")
	putPack(t, two, 2, 1, "of another device")
	for name, b := range map[string]*mem.Bucket{"one": one, "two": two} {
		if err := s.e.Add(placeOf(name, b)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := s.e.OnlyAt(t.Context(), "two"); n != 0 || err != nil {
		t.Fatalf("%d packs only at the second, %v; both have it", n, err)
	}
	if err := s.e.Drop("one"); err != nil {
		t.Fatal(err)
	}
	if n, err := s.e.OnlyAt(t.Context(), "two"); n != 1 || err != nil {
		t.Errorf("%d packs only at the second, %v; the first is none any more", n, err)
	}
	h, err := s.tier.Holding(t.Context(), pack)
	if err != nil || len(h.Remotes) != 1 || h.Remotes[0] != "two" {
		t.Errorf("the pack is at %v, %v, want only at the second", h.Remotes, err)
	}
}

// Of each replica it is known what the state was that is there as a whole, also after the process ended; a push that fails changes nothing.
func TestHeld_IsTheStateOfTheLastGoodPush(t *testing.T) {
	s := newSide(t)
	var top []byte
	s.e.o.Top = func(context.Context) ([]byte, error) { return top, nil }
	nas := &flaky{Bucket: mem.New()}
	if err := s.e.Add(placeOf("nas", nas)); err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		held, _ := s.e.Held()
		if len(held) != 1 || held[0].Name != "nas" || !bytes.Equal(held[0].Top, []byte(want)) {
			t.Errorf("got %q, want nas with %q", held, want)
		}
	}
	check("")
	top = []byte("first")
	putPack(t, s.tier, 1, 1, "first")
	if err := s.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("first")
	_, changed := s.e.Held()
	nas.down.Store(true)
	top = []byte("second")
	putPack(t, s.tier, 1, 2, "second")
	if err := s.e.Sync(t.Context()); !errors.Is(err, errDown) {
		t.Fatalf("got error %v, want that it is down", err)
	}
	check("first")
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the end of a turn")
	}
	// Another Engine with the same memory.
	e := New(s.e.o)
	if err := e.Add(placeOf("nas", nas)); err != nil {
		t.Fatal(err)
	}
	held, _ := e.Held()
	if string(held[0].Top) != "first" {
		t.Errorf("after a restart it is %q, want what it was", held[0].Top)
	}
	if err := s.e.Drop("nas"); err != nil {
		t.Fatal(err)
	}
	again := New(s.e.o)
	if err := again.Add(placeOf("nas", nas)); err != nil {
		t.Fatal(err)
	}
	if held, _ := again.Held(); held[0].Top != nil {
		t.Errorf("of a replica that was dropped and added again %q is known, want nothing", held[0].Top)
	}
	if err := errors.Join(e.Close(), again.Close()); err != nil {
		t.Error(err)
	}
}
