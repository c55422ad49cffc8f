package index

import (
	"crypto/rand"
	"slices"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// K2: index blobs of the same packs have the same sizes, whether there are a few chunks in them or some hundred.
func TestBlobs_SizesDoNotTellTheNumberOfChunks(t *testing.T) {
	var want []int64
	for _, chunks := range []int{1, 30, 270, 1000} {
		bucket := mem.New()
		x := openIndex(t, memkv.New())
		fill(t, x, 4, chunks)
		must(t, x.WriteBlobs(t.Context(), bucket, &testKey, rand.Reader))
		var got []int64
		for info, err := range bucket.List(t.Context(), "") {
			must(t, err)
			got = append(got, info.Size)
		}
		slices.Sort(got)
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d chunks in each pack: blobs of %d bytes, want %d as for one", chunks, got, want)
		}
	}
}

// There are few grids for a store of one size, all are allowed, shards of random IDs fit in, and small ones cost little.
func TestGrid_IsCoarse(t *testing.T) {
	for _, packs := range []int{1, 3, 100, 1000, 100_000, 1_000_000} {
		total := int64(packs) * pack.Size
		grids := map[grid]bool{}
		for chunks := 1; int64(chunks) < total/1000 && chunks < 1<<27; chunks += 1 + chunks/50 {
			g := gridFor(packs, total, chunks)
			grids[g] = true
			if !BlobSize(g.shard) || !BlobSize(g.root) {
				t.Fatalf("%d packs with %d chunks: %+v", packs, chunks, g)
			}
			mean := int64(chunks)>>g.bits + 1
			if need := mean * entrySize; g.shard < need && g.shard < blobMax {
				t.Fatalf("%d chunks: %+v is too small", chunks, g)
			}
			all := g.root + g.shard<<g.bits
			if most := total/200 + 5*int64(chunks)*entrySize + 64<<10; all > most {
				t.Fatalf("%d packs with %d chunks: index blobs of %d bytes, want at most %d", packs, chunks, all, most)
			}
		}
		if len(grids) > 8 {
			t.Errorf("%d packs have %d grids", packs, len(grids))
		}
	}
}
