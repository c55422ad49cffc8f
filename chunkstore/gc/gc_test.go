package gc

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

func TestOptions_Ripe(t *testing.T) {
	at := time.Unix(1e9, 0)
	c := index.Condemned{Cycle: 5, At: at}
	for name, k := range map[string]struct {
		o     Options
		cycle uint64
		want  bool
	}{
		"not in the cycle that condemned it":      {Options{Now: at.Add(time.Hour)}, 5, false},
		"in the next one without a grace time":    {Options{Now: at}, 6, true},
		"not within the grace time":               {Options{Grace: time.Hour, Now: at.Add(time.Hour - 1)}, 6, false},
		"after the grace time":                    {Options{Grace: time.Hour, Now: at.Add(time.Hour)}, 6, true},
		"not if the clock was set back meanwhile": {Options{Now: at.Add(-time.Hour)}, 6, false},
	} {
		if got := k.o.Ripe(c, k.cycle); got != k.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestMarks_NeverTakeALiveChunkForDead(t *testing.T) {
	var m Marks
	rnd := rand.New(rand.NewPCG(1, 2))
	var ids []chunk.ID
	for range 10_000 {
		var id chunk.ID
		for i := range id {
			id[i] = byte(rnd.Uint32())
		}
		ids = append(ids, id)
		m.Add(id)
	}
	for _, id := range ids {
		if !m.Has(id) {
			t.Fatalf("%v is not marked", id)
		}
	}
	if m.Len() != len(ids) || m.Has(chunk.ID{1}) {
		t.Fatalf("got %d marks, want %d, and no others", m.Len(), len(ids))
	}
}

func TestDeadAndRepack(t *testing.T) {
	packs := []index.Pack{
		{Name: pack.Name{1}, Body: 100, Live: 1, LiveBytes: 75}, // just enough
		{Name: pack.Name{2}, Body: 100, Live: 1, LiveBytes: 74},
		{Name: pack.Name{3}, Body: 100},
		{Name: pack.Name{4}, Body: 100, Live: 1, LiveBytes: 1},
	}
	if d := Dead(packs); len(d) != 1 || d[0].Name != (pack.Name{3}) {
		t.Errorf("dead: got %v", d)
	}
	if r := Repack(packs); len(r) != 2 || r[0].Name != (pack.Name{4}) || r[1].Name != (pack.Name{2}) {
		t.Errorf("repack: got %v, want the most dead first", r)
	}
}

// Each flush makes one pack of 32 KiB. Merging must keep the number of small packs
// down, and copy each byte only some times.
func TestMerge_WorkStaysInProportion(t *testing.T) {
	const each = 32 << 10
	var packs []index.Pack
	written, copied, most := int64(0), int64(0), 0
	for i := range 20_000 {
		packs = append(packs, index.Pack{Name: pack.Name{byte(i), byte(i >> 8)}, Size: each, Live: 1, LiveBytes: each, Body: each})
		written += each
		merged := Merge(packs)
		small := 0
		for _, p := range packs {
			if p.Size < pack.Size {
				small++
			}
		}
		most = max(most, small)
		if merged == nil {
			continue
		}
		gone := map[pack.Name]bool{}
		var sum int64
		for _, p := range merged {
			gone[p.Name] = true
			sum += p.LiveBytes
		}
		copied += sum
		var left []index.Pack
		for _, p := range packs {
			if !gone[p.Name] {
				left = append(left, p)
			}
		}
		for n := byte(0); sum > 0; n++ {
			part := min(sum, pack.Size)
			left = append(left, index.Pack{Name: pack.Name{byte(i), byte(i >> 8), 1, n}, Size: part, Live: 1, LiveBytes: part, Body: part})
			sum -= part
		}
		packs = left
	}
	amp := float64(copied) / float64(written)
	t.Logf("each byte was copied %.1f times; at most %d small packs", amp, most)
	if amp > 8 || most > smallPacks+1 {
		t.Errorf("each byte was copied %.1f times, %d small packs lay about", amp, most)
	}
}
