package chunkstore

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

func benchStore(b *testing.B, cache int64) *Store {
	b.Helper()
	bucket, err := disk.Open(b.TempDir(), disk.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(b.Context(), Options{Bucket: bucket, KV: memkv.New(), Keys: testKeys(), Level: seal.Default, CacheBytes: cache})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = s.Close(context.Background())
		_ = bucket.Close()
	})
	return s
}

func benchPut(b *testing.B, plain []byte) {
	s := benchStore(b, 0)
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		binary.LittleEndian.PutUint64(plain, n) // new to the Store each time
		if _, err := s.Put(b.Context(), chunk.Data, plain); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkStore_PutRandom1M(b *testing.B) {
	benchPut(b, randomBytes(rand.New(rand.NewPCG(1, 1)), 1<<20))
}
func BenchmarkStore_PutText1M(b *testing.B) { benchPut(b, text(1, 1<<20)) }
func BenchmarkStore_PutRandom4K(b *testing.B) {
	benchPut(b, randomBytes(rand.New(rand.NewPCG(1, 1)), 4096))
}

func BenchmarkStore_PutKnown1M(b *testing.B) {
	s := benchStore(b, 0)
	plain := randomBytes(rand.New(rand.NewPCG(1, 1)), 1<<20)
	put(b, s, plain)
	flush(b, s)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		put(b, s, plain)
	}
}

// stored puts 64 random MiB and returns the Refs of the chunks.
func stored(b *testing.B, s *Store) []chunk.Ref {
	b.Helper()
	rnd := rand.New(rand.NewPCG(1, 1))
	var refs []chunk.Ref
	for range 64 {
		refs = append(refs, put(b, s, randomBytes(rnd, 1<<20)))
	}
	flush(b, s)
	return refs
}

func BenchmarkStore_Get1M(b *testing.B) {
	s := benchStore(b, -1)
	refs := stored(b, s)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	var dst []byte
	for i := 0; b.Loop(); i++ {
		var err error
		if dst, err = s.Get(b.Context(), dst[:0], refs[i%len(refs)]); err != nil {
			b.Fatal(err)
		}
	}
}

func benchReadAt(b *testing.B, cache int64, size int, off func(i int) int64) {
	s := benchStore(b, cache)
	refs := stored(b, s)
	p := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.ReadAt(b.Context(), refs[i%len(refs)], p, off(i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStore_ReadAt4KWarm(b *testing.B) {
	benchReadAt(b, 128<<20, 4096, func(i int) int64 { return int64(i*4096) % (1 << 20) })
}

func BenchmarkStore_ReadAt4KCold(b *testing.B) {
	benchReadAt(b, -1, 4096, func(i int) int64 { return int64(i*4096) % (1 << 20) })
}

func BenchmarkStore_ReadAt1MCold(b *testing.B) {
	benchReadAt(b, -1, 1<<20, func(int) int64 { return 0 })
}

// The hot paths allocate no more than this, so that a drive under load does not feed
// the collector of Go.
func TestStore_HotPathsAllocateLittle(t *testing.T) {
	rnd := testRand(t)
	s := openStore(t, mem.New(), memkv.New())
	plain := randomBytes(rnd, 1<<20)
	ref := put(t, s, plain)
	flush(t, s)
	p := make([]byte, 4096)
	dst := make([]byte, 0, 1<<20)
	for name, c := range map[string]struct {
		limit float64
		fn    func() error
	}{
		"warm read": {0, func() error { return second(s.ReadAt(t.Context(), ref, p, 5000)) }},
		"get":       {40, func() error { return second(s.Get(t.Context(), dst, ref)) }},
		"known put": {30, func() error { return second(s.Put(t.Context(), chunk.Data, plain)) }},
	} {
		if err := c.fn(); err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(50, func() {
			if err := c.fn(); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%s: %v allocations", name, n)
		if n > c.limit && !raceEnabled {
			t.Errorf("%s: got %v allocations, want at most %v", name, n, c.limit)
		}
	}
}
