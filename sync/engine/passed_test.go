package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// between returns a side with two replicas, of which the first can go wrong.
func between(t *testing.T) (s *side, near *evil.Store, inner, far *mem.Bucket) {
	t.Helper()
	inner, far = mem.New(), mem.New()
	s, near = newSide(t), evil.New(inner, 1)
	for _, p := range []Place{placeOf("near", near), placeOf("far", far)} {
		if err := s.e.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	putPack(t, inner, 2, 1, "of before")
	for range 2 {
		if err := s.e.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s, near, inner, far
}

func only(name blob.Name) func(blob.Name) bool {
	return func(n blob.Name) bool { return n == name }
}

// A pack that is passed over, for nothing is known to need it, is brought once it is to be had, though nothing is new then.
func TestSync_BringsLaterWhatIsPassedOver(t *testing.T) {
	s, near, inner, far := between(t)
	s.e.o.Lacking = func(context.Context, []blob.Name) error { return nil }
	pack, _ := putPack(t, inner, 2, 2, "of another device")
	near.Set(evil.Fail, only(pack))
	for seq := range 3 {
		ownPack, ownHead := putPack(t, s.own, 1, seq+1, fmt.Sprint("of this device ", seq))
		if err := s.e.Sync(t.Context()); err != nil {
			t.Errorf("with a pack that is not to be had: %v", err)
		}
		if !has(t, far, ownPack, ownHead) {
			t.Error("what this device has put has to wait for what another one has put")
		}
	}
	near.Heal()
	if err := s.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !has(t, far, pack) {
		t.Error("what was passed over is not there")
	}
}
