package chunkstore

import (
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// Of what was put much of is soon read without the directories of all packs; little is not covered at the price of much.
func TestCover_GoesByWhatItCosts(t *testing.T) {
	rnd := testRand(t)
	b, db := mem.New(), newCrashKV()
	s := openStore(t, b, db)
	all := map[chunk.Ref][]byte{}
	fill := func(chunks, size int) {
		for range chunks {
			plain := randomBytes(rnd, size)
			all[put(t, s, plain)] = plain
		}
		flush(t, s)
		if err := s.coverPacks(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		fill(1, 3000)
	}
	if c, err := s.x.Coverage(t.Context()); err != nil || c.Covered != 0 {
		t.Errorf("a few small packs are covered: %+v %v", c, err)
	}
	for range 2 {
		fill(150, 2<<20)
	}
	c, err := s.x.Coverage(t.Context())
	if err != nil || c.Own >= learnFromIndex || c.Covered < 8 {
		t.Errorf("%+v %v", c, err)
	}
	written := int64(0)
	for info, err := range b.List(t.Context(), "index/") {
		if err != nil {
			t.Fatal(err)
		}
		written += info.Size
	}
	if written == 0 || c.Blobs < written/2 || c.Blobs > 2*written {
		t.Errorf("index blobs have %d bytes, %d were expected", written, c.Blobs)
	}
	fresh := openLazy(t, b, newCrashKV())
	for ref, plain := range all {
		wantChunk(t, fresh, ref, plain)
	}
}
