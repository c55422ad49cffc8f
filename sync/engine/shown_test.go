package engine

import (
	"fmt"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
)

// A pack that a listing lacked when its head was brought to another replica is brought there once it is listed, though nothing else is new.
func TestSync_BringsLaterWhatWasNotListed(t *testing.T) {
	s, near, inner, far := between(t)
	pack, head := putPack(t, inner, 2, 2, "of another device")
	near.Set(evil.Withhold, only(pack))
	for range 2 {
		if err := s.e.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if has(t, far, pack) || !has(t, far, head) {
		t.Fatal("the pack was found, or the head was not: this shows nothing")
	}
	near.Heal()
	if err := s.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !has(t, far, pack) {
		t.Error("the pack is not there")
	}
	s.e.mu.Lock()
	was := s.e.foreign
	s.e.mu.Unlock()
	for seq := range 2 {
		putPack(t, s.own, 1, seq+1, fmt.Sprint("of this device ", seq))
		if err := s.e.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.e.foreign != was {
		t.Errorf("what this device has put counts as the work of others, %d times", s.e.foreign-was)
	}
}
