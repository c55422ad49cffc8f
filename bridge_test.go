package sheaf

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A device brings from one place to another what a third one has put. What it cannot read just then it brings when the place is well again, though nothing is
// new there.
func TestBridge_BringsLaterWhatCouldNotBeRead(t *testing.T) {
	for name, ill := range map[string]evil.Lie{"not to be had": evil.Fail, "not listed": evil.Withhold, "damaged": evil.FlipBit, "of another size": evil.WrongSize} {
		t.Run(name, func(t *testing.T) {
			inner, far := mem.New(), mem.New()
			near := evil.New(inner, 1)
			da, words := newResident(t, place("near", near), place("far", far)).create()
			mustExchange(t, da)
			db := newResident(t, place("far", far)).join(words)
			dc := newResident(t, place("near", inner)).join(words)
			meet(t, da, db, dc)
			packs := packsAt(t, inner)
			body := testkit.Random(rand.New(rand.NewPCG(1, 2)), 100_000)
			write(t, dc.FS(), "file", body)
			mustExchange(t, dc)
			packs = without(packsAt(t, inner), packs)
			near.Set(ill, func(n blob.Name) bool { return slices.Contains(packs, n) })
			for range 2 {
				_ = exchange(t, da) // which says what is wrong
			}
			near.Heal()
			for range 3 {
				mustExchange(t, da)
			}
			mustExchange(t, db)
			wantFile(t, "file", body, da, db)
		})
	}
}

// A pack that a place lists and does not give, and that nothing needs, keeps no head from being brought on.
func TestBridge_WhatNothingNeedsKeepsNothingBack(t *testing.T) {
	inner, far := mem.New(), mem.New()
	near := evil.New(inner, 1)
	da, words := newResident(t, place("near", near), place("far", far)).create()
	mustExchange(t, da)
	db := newResident(t, place("far", far)).join(words)
	dc := newResident(t, place("near", inner)).join(words)
	meet(t, da, db, dc)
	stray := []byte("of nobody")
	name := catalog.PackName(blake3.Sum256(stray))
	if err := inner.Put(t.Context(), name, bytes.NewReader(stray), int64(len(stray))); err != nil {
		t.Fatal(err)
	}
	near.Set(evil.Fail, func(n blob.Name) bool { return n == name })
	write(t, dc.FS(), "file", []byte("bytes"))
	mustExchange(t, dc, da, da, db)
	wantFile(t, "file", []byte("bytes"), db)
}

// without returns those of all that are not among some.
func without(all, some []blob.Name) []blob.Name {
	return slices.DeleteFunc(slices.Clone(all), func(n blob.Name) bool { return slices.Contains(some, n) })
}
