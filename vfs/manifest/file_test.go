package manifest

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

func someExtents(n uint64) []Extent {
	var xs []Extent
	for i := range n {
		if i%5 == 3 {
			xs = append(xs, Extent{Size: int64(1 + i*7)})
			continue
		}
		r := dataRef(i, uint32(1+i*13%5000))
		xs = append(xs, Extent{Ref: r, Size: int64(r.Size)})
	}
	return xs
}

// placed lays extents out as a reader is to see them: holes joined, the whole size.
func placed(xs []Extent) (list []PlacedExtent, size int64) {
	for _, x := range xs {
		if k := len(list); x.Ref.IsZero() && k > 0 && list[k-1].Ref.IsZero() {
			list[k-1].Size += x.Size
		} else {
			list = append(list, PlacedExtent{size, x})
		}
		size += x.Size
	}
	return list, size
}

func TestExtents_AreWhatWasBuilt(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 5))
	st := newMemStore()
	rounds := 65
	if testing.Short() {
		rounds = 45
	}
	for round := range rounds {
		var xs []Extent
		for i := range r.IntN([]int{3, 30, 3000, 60_000}[min(round/20, 3)]) {
			if r.IntN(4) == 0 {
				xs = append(xs, Extent{Size: 1 + r.Int64N(1<<20)})
			} else {
				ref := dataRef(uint64(i), 1+r.Uint32N(1<<20))
				xs = append(xs, Extent{Ref: ref, Size: int64(ref.Size)})
			}
		}
		want, size := placed(xs)
		ref, got, err := BuildFile(t.Context(), st, seqOf(xs))
		if err != nil || got != size {
			t.Fatalf("size %d %v, want %d", got, err, size)
		}
		if list := collect(t, Extents(t.Context(), st, ref, size, 0)); !slices.Equal(list, want) {
			t.Fatalf("%d extents, want %d, or they differ", len(list), len(want))
		}
		if size == 0 {
			continue
		}
		for range 20 {
			off := r.Int64N(size)
			i, ok := slices.BinarySearchFunc(want, off, func(p PlacedExtent, off int64) int { return int(p.Off - off) })
			if !ok {
				i--
			}
			for p, err := range Extents(t.Context(), st, ref, size, off) {
				if err != nil || p != want[i] {
					t.Fatalf("at %d: %v %v, want %v", off, p, err, want[i])
				}
				if i++; i%7 == 0 {
					break
				}
			}
		}
		if grown := collect(t, Extents(t.Context(), st, ref, size+10, size+5)); len(grown) != 1 || !grown[0].Ref.IsZero() || grown[0].Off+grown[0].Size != size+10 {
			t.Fatalf("beyond the end: %v", grown)
		}
	}
}

func TestBuildFile_OfOneChunkIsTheChunk(t *testing.T) {
	st := newMemStore()
	ref := dataRef(1, 500)
	for name, tc := range map[string]struct {
		xs   []Extent
		want chunk.Ref
		size int64
	}{
		"nothing":             {nil, chunk.Ref{}, 0},
		"hole":                {[]Extent{{Size: 5}, {Size: 6}}, chunk.Ref{}, 11},
		"one chunk":           {[]Extent{{ref, 500}}, ref, 500},
		"one chunk then hole": {[]Extent{{ref, 500}, {Size: 9}}, ref, 509},
	} {
		got, size, err := BuildFile(t.Context(), st, seqOf(tc.xs))
		if got != tc.want || size != tc.size || err != nil {
			t.Errorf("%s: %v %d %v, want %v %d", name, got, size, err, tc.want, tc.size)
		}
	}
	if st.puts != 0 {
		t.Errorf("%d nodes stored for files that need none", st.puts)
	}
	for _, x := range []Extent{{Size: 0}, {Size: -1}, {Ref: ref, Size: 499}, {Ref: chunk.Ref{ID: ref.ID, Size: 5, Kind: chunk.Dir}, Size: 5}} {
		if _, _, err := BuildFile(t.Context(), st, seqOf([]Extent{x})); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v: %v, want ErrMalformed", x, err)
		}
	}
}

func TestExtents_OfAFileLongerThanItsSizeAreAnError(t *testing.T) {
	st := newMemStore()
	ref, size, err := BuildFile(t.Context(), st, seqOf(someExtents(10)))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range Extents(t.Context(), st, ref, size-40, 0) {
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%v, want ErrMalformed", err)
		}
		break
	}
}

func someKepts(n int, step time.Duration) []Kept {
	var ks []Kept
	for i := range n {
		ks = append(ks, Kept{
			Dot: causal.Dot{Device: causal.Device(1 + i%3), Counter: uint64(i + 1)}, Time: time.Unix(1_700_000_000, 0).Add(time.Duration(i) * step).UTC(),
			Device: causal.Device(1 + i%2), Pinned: i%17 == 3, Root: chunk.Ref{ID: chunk.ID{byte(i), byte(i >> 8), 1}, Kind: chunk.Dir}, Files: uint64(i), Bytes: 9,
		})
		if i%10 == 0 {
			ks[i].Label = "by hand"
		}
	}
	return ks
}

func TestHistory_RoundTrips(t *testing.T) {
	st := newMemStore()
	for _, n := range []int{0, 1, 5, 3000} {
		want := someKepts(n, time.Minute)
		ref, err := BuildHistory(t.Context(), st, want)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, collect(t, Kepts(t.Context(), st, ref))); d != "" {
			t.Error(d)
		}
	}
	k := someKepts(2, time.Minute)
	if _, err := BuildHistory(t.Context(), st, []Kept{k[1], k[0]}); !errors.Is(err, ErrMalformed) {
		t.Errorf("out of order: %v", err)
	}
}

func TestRetain_IsIdempotentAndKeepsPinnedAndNewest(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 6))
	for range 500 {
		ks := someKepts(1+r.IntN(400), time.Duration(1+r.Int64N(int64(40*time.Hour))))
		now := ks[len(ks)-1].Time.Add(time.Duration(r.Int64N(int64(100*24*time.Hour))) - 24*time.Hour)
		rule := DefaultRule
		if r.IntN(2) == 0 {
			rule = Rule{All: time.Duration(r.Int64N(1e15)), Hourly: time.Duration(r.Int64N(1e15)), Daily: time.Duration(r.Int64N(1e16))}
		}
		keep := Retain(ks, now, rule)
		if !slices.IsSortedFunc(keep, CompareKept) || keep[len(keep)-1] != ks[len(ks)-1] {
			t.Fatal("not sorted, or the newest is gone")
		}
		if d := cmp.Diff(keep, Retain(keep, now, rule)); d != "" {
			t.Fatalf("second time: %s", d)
		}
		for _, k := range ks {
			if (k.Pinned || now.Sub(k.Time) < rule.All) && !slices.Contains(keep, k) {
				t.Fatalf("%v was dropped", k)
			}
		}
	}
}

func TestRetain_DefaultThinsOut(t *testing.T) {
	var ks []Kept
	now := time.Date(2026, 6, 15, 12, 30, 0, 0, time.UTC)
	for at := now.Add(-400 * 24 * time.Hour); at.Before(now); at = at.Add(10 * time.Minute) {
		ks = append(ks, Kept{Dot: causal.Dot{Device: 1, Counter: uint64(len(ks) + 1)}, Time: at})
	}
	keep := Retain(ks, now, DefaultRule)
	count := func(from, to time.Duration) (n int) {
		for _, k := range keep {
			if age := now.Sub(k.Time); age >= from && age < to {
				n++
			}
		}
		return n
	}
	const day = 24 * time.Hour
	for _, tc := range []struct {
		from, to  time.Duration
		low, high int
	}{{0, day, 143, 144}, {day, 7 * day, 144, 145}, {7 * day, 60 * day, 53, 54}, {60 * day, 400 * day, 11, 13}} {
		if n := count(tc.from, tc.to); n < tc.low || n > tc.high {
			t.Errorf("%d kept between %v and %v, want %d to %d", n, tc.from, tc.to, tc.low, tc.high)
		}
	}
	if Retain(nil, now, DefaultRule) != nil {
		t.Error("something of nothing")
	}
}
