package engine

import (
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// What was known when somebody asked for it is at each replica once each had a turn since then, also if it came by a look a moment ago, which
// no turn has counted as the work of others.
func TestSpread_BringsWhatIsKnownToAll(t *testing.T) {
	first, second := mem.New(), mem.New()
	s := newSide(t)
	for _, p := range []Place{placeOf("first", first), placeOf("second", second)} {
		if err := s.e.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	sync := func() {
		t.Helper()
		if err := s.e.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	putPack(t, second, 3, 1, "of before")
	sync()
	sync()
	pack, head := putPack(t, second, 2, 1, "of another device")
	if err := s.e.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !has(t, s.mirror, head) {
		t.Fatal("it is not known here: this shows nothing")
	}
	m := s.e.Spread()
	if s.e.Since(m) || len(s.e.Late(m)) != 2 {
		t.Errorf("before any turn: %v are late", s.e.Late(m))
	}
	sync() // the first has its turn before that of the second counts what came
	if !s.e.Since(m) {
		t.Errorf("after a turn of each: %v are late", s.e.Late(m))
	}
	if !has(t, first, pack, head) {
		t.Error("what was known is not at the replica that had its turn first")
	}
}
