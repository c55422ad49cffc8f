package live

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestPieces_AreLaidOverEachOtherLikeBytes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		const size = 4000
		model := make([]int64, size+1) // skip of the byte, 0 for none
		gens := make([]uint64, size+1)
		var s pieces
		for step := range 600 {
			off := rng.Int64N(size)
			n := min(1+rng.Int64N(1+rng.Int64N(200)), size-off)
			switch rng.IntN(10) {
			case 0:
				s.clear(off, n)
				for i := off; i < off+n; i++ {
					model[i], gens[i] = 0, 0
				}
			case 1:
				if step%50 == 0 {
					g := uint64(rng.IntN(step + 1))
					s.dropUpTo(g)
					for i := range model {
						if gens[i] <= g {
							model[i], gens[i] = 0, 0
						}
					}
				}
			default:
				skip := int64(1 + rng.IntN(1<<30))
				s.put(piece{off: off, n: n, from: inJournal, skip: skip, gen: uint64(step + 1)})
				for i := int64(0); i < n; i++ {
					model[off+i], gens[off+i] = skip+i, uint64(step+1)
				}
			}
			if step%20 != 0 {
				continue
			}
			from, to := rng.Int64N(size), int64(size)
			got := make([]int64, size+1)
			last := int64(-1)
			s.each(from, to, func(p piece) bool {
				if p.off < from || p.end() > to || p.n <= 0 || p.off < last {
					t.Fatalf("piece [%d,%d) in [%d,%d) after %d", p.off, p.end(), from, to, last)
				}
				last = p.end()
				for i := range p.n {
					got[p.off+i] = p.skip + i
				}
				return true
			})
			for i := from; i < to; i++ {
				if got[i] != model[i] {
					t.Fatalf("step %d: byte %d comes from %d, want %d", step, i, got[i], model[i])
				}
			}
		}
	}
}
