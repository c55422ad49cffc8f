package table_test

import (
	"maps"
	"runtime"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs/table"
)

func TestMap_IsAMap(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t))
	var m table.Map[int, int]
	want := map[int]int{}
	for _, size := range []int{10, 5000, 3, 20_000, 0, 100} { // it grows to that, or shrinks
		for len(want) != size {
			k := rng.IntN(30_000)
			if len(want) < size {
				m.Set(k, k*k)
				want[k] = k * k
			} else {
				m.Delete(k)
				delete(want, k)
			}
			if m.Len() != len(want) || m.Get(k) != want[k] {
				t.Fatalf("%d: got %d of %d, want %d of %d", k, m.Get(k), m.Len(), want[k], len(want))
			}
		}
		if got := maps.Collect(m.All()); !maps.Equal(got, want) {
			t.Fatalf("of %d, %d are the same", len(want), len(got))
		}
	}
}

func TestMap_GivesRoomBack(t *testing.T) {
	inUse := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var m table.Map[int, [4]int]
	before := inUse()
	for i := range 300_000 {
		m.Set(i, [4]int{i})
	}
	full := inUse() - before
	for i := range 299_900 {
		m.Delete(i)
	}
	if left := inUse() - before; full < 8<<20 || left > 1<<20 {
		t.Errorf("300,000 took %d bytes, and the 100 that are left take %d", full, left)
	}
	if m.Len() != 100 || m.Get(299_950) != [4]int{299_950} {
		t.Errorf("%d are left, one is %v", m.Len(), m.Get(299_950))
	}
	runtime.KeepAlive(&m)
}
