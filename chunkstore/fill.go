package chunkstore

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// A filling is how chunks get into packs so that a bucket learns one sum of all packs between two flushes, and
// nothing of the sizes of chunks or files (docs/adr/0006). It is used by one goroutine at a time.
//
//  1. Two packs are open, and each chunk goes into one by chance; into the other if it does not fit.
//  2. A pack is full when all full packs together hold what pack.PlanFor plans for them, not before, unless a
//     chunk fits neither. So their number follows from the sum of what was put, and little waits.
//  3. At the end what is in the two is dealt out again, to the sizes of the packs that the plan has left.
type filling struct {
	open [2]*openPack
	sum  int64 // what all chunks cost
	sent int64 // what those in full packs cost
	full int   // full packs
}

// place returns the slot for a sealed chunk of n bytes, of which the coin fell on slot. If a pack has to leave before, it
// returns that instead, which is then not open any more.
func (f *filling) place(slot, n int) (at int, leaves *openPack) {
	for i, p := range f.open {
		if p != nil && f.sent+p.w.Cost() >= int64(f.full+1)*pack.Fill {
			return i, f.leave(i)
		}
	}
	for _, i := range []int{slot, 1 - slot} {
		if p := f.open[i]; p == nil || p.w.Fits(n) {
			return i, nil
		}
	}
	if f.open[1-slot].w.Cost() > f.open[slot].w.Cost() {
		slot = 1 - slot
	}
	return slot, f.leave(slot)
}

// leave takes an open pack for full.
func (f *filling) leave(slot int) *openPack {
	p := f.open[slot]
	f.open[slot] = nil
	f.full++
	f.sent += p.w.Cost()
	p.size = pack.Size
	return p
}

// settle deals out what is in the open packs, which nobody may read meanwhile, and returns the packs to be written, with
// their sizes. Together with the full ones they are those of the least plan for the sum that the chunks can
// be dealt out to. It seldom moves more than a few. It may return one pack more than were open; that has memory of its own.
// A pack that was open and is not returned is empty now. After an error, which says that this program is wrong, all that hold
// something are returned.
func (f *filling) settle() ([]*openPack, error) {
	var packs []*openPack
	chunks := 0
	for _, p := range f.open {
		if p != nil {
			packs = append(packs, p)
			chunks += len(p.w.Entries())
		}
	}
	if len(packs) == 0 {
		return nil, nil
	}
	// The last one becomes the tail.
	slices.SortFunc(packs, func(a, b *openPack) int { return cmp.Compare(b.w.Cost(), a.w.Cost()) })
	for plan := pack.PlanFor(f.sum).AtLeast(f.full); ; plan = plan.Next() {
		n := plan.Full - f.full + 1
		if n > chunks || n > len(packs)+1 {
			// Only where single chunks are half as large as a pack. To take all packs for full is a plan, too.
			n, plan.Tail = len(packs), pack.Size
		}
		d, ok := deal(packs, n, plan.Room())
		if ok {
			return d.carryOut(packs, n, plan.Tail)
		}
	}
}

// A piece is a chunk of an open pack: the i-th of pack no.
type piece struct {
	no, i int
	cost  int64
}

// A dealing says which chunks are to lie in the tail.
type dealing map[piece]bool

// deal chooses chunks for the tail, which has that much room, so that the others fit into n-1 packs; false if it finds no way.
// With n 1 it says only whether all fit.
func deal(packs []*openPack, n int, room int64) (dealing, bool) {
	total := int64(0)
	for _, p := range packs {
		total += p.w.Cost()
	}
	if n == 1 {
		return nil, total <= room
	}
	all := pieces(packs)
	d := dealing{}
	if n > len(packs) { // one pack more, for one chunk
		for _, c := range slices.Backward(all) {
			if len(packs[c.no].w.Entries()) > 1 {
				d[c] = true
				return d, c.cost <= room
			}
		}
		return nil, false
	}
	// Two packs for two. The second leaves enough room in the first as it is; take from it what is too much for the tail.
	least, last, sum := total-pack.Capacity, len(packs)-1, int64(0)
	for _, c := range all {
		if c.no == last {
			d[c] = true
			sum += c.cost
		}
	}
	for _, c := range all {
		if sum > room && len(d) > 1 && d[c] && sum-c.cost >= least {
			delete(d, c)
			sum -= c.cost
		}
	}
	if sum <= room {
		return d, true
	}
	clear(d)
	sum = 0
	for _, c := range all {
		if sum+c.cost <= room {
			d[c] = true
			sum += c.cost
		}
	}
	return d, sum >= least && len(d) > 0 && len(d) < len(all)
}

// pieces returns all chunks of the packs, the largest first.
func pieces(packs []*openPack) []piece {
	var all []piece
	for no, p := range packs {
		for i, e := range p.w.Entries() {
			all = append(all, piece{no, i, pack.Cost(int(e.Len))})
		}
	}
	slices.SortFunc(all, func(a, b piece) int {
		return cmp.Or(cmp.Compare(b.cost, a.cost), cmp.Compare(a.no, b.no), cmp.Compare(a.i, b.i))
	})
	return all
}

// carryOut moves the chunks to where they are to lie.
func (d dealing) carryOut(packs []*openPack, n int, tail int64) ([]*openPack, error) {
	for _, p := range packs {
		p.size = pack.Size
	}
	of := func(no int) func(i int) bool {
		in := map[int]bool{}
		for c := range d {
			in[c.i] = in[c.i] || c.no == no
		}
		return func(i int) bool { return in[i] }
	}
	switch {
	case n > len(packs): // a pack more
		p := newOpenPack(make([]byte, tail))
		p.own, p.size = true, tail
		for no := range packs {
			if err := move(packs[no], p, of(no)); err != nil {
				return append(packs, p), err
			}
		}
		return append(packs, p), nil
	case n == 1 && len(packs) == 1:
		packs[0].size = tail
		return packs, nil
	case n == 1: // all into one
		packs[0].size = tail
		if err := move(packs[1], packs[0], func(int) bool { return true }); err != nil {
			return packs, err
		}
		return packs[:1], nil
	}
	// Two to two. What goes over from the first makes way first.
	packs[1].size = tail
	out, stay := of(0), of(1)
	aside := newOpenPack(make([]byte, d.cost(0)+pack.MinSize))
	aside.own = true
	err := move(packs[0], aside, out)
	if err == nil {
		err = move(packs[1], packs[0], func(i int) bool { return !stay(i) })
	}
	if err == nil {
		err = move(aside, packs[1], func(int) bool { return true })
	}
	if err != nil {
		return append(packs, aside), err
	}
	return packs, nil
}

// move moves chunks, given their numbers, to the end of another pack.
func move(from, to *openPack, which func(i int) bool) error {
	for i, e := range from.w.Entries() {
		if !which(i) {
			continue
		}
		if _, err := to.w.Add(e, from.w.View(e.Off, e.Len)); err != nil {
			return fmt.Errorf("deal out chunks: %w", err)
		}
	}
	from.w.Retain(func(i int) bool { return !which(i) })
	return nil
}

// cost returns what the chosen chunks of pack no cost.
func (d dealing) cost(no int) int64 {
	sum := int64(0)
	for c := range d {
		if c.no == no {
			sum += c.cost
		}
	}
	return sum
}
