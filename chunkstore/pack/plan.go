package pack

import "math/bits"

// Fill is how many bytes a full pack is planned to hold, chunks and their entries in the directory: 1.6 % less
// than Size. The difference is what packing needs to get by, whatever the sizes of chunks are.
const Fill = Size - 512<<10

// frame is what a pack has besides chunks and their entries.
const frame = len(magic) + sealSize + footerSize

// Capacity is what the chunks in a pack of Size bytes may cost.
const Capacity = Size - int64(frame)

// Cost returns how many bytes of a pack a sealed chunk of n bytes takes, its entry in the directory included.
func Cost(n int) int64 { return int64(n) + entrySize }

// A Plan is what one flush leaves in a bucket: Full packs of Size bytes and one of Tail bytes, which may be Size, too.
// All plans there are stand in one row, each for somewhat more bytes than the one before. So whoever sees
// the packs of a flush learns its place in that row and nothing else.
type Plan struct {
	Full int
	Tail int64
}

// PlanFor returns the least plan for chunks that cost sum bytes together.
//
// As many full packs are planned as are needed to hold all but the rest, up to Fill, with Fill bytes each. What the tail needs
// for the rest is rounded up to a multiple of a grain: that of the PADMÉ sizes about the sum, which is 1.6 to 3.2 % of it,
// but at most Size. Without full packs the tail has a PADMÉ size and at least MinSize.
func PlanFor(sum int64) Plan {
	sum = max(sum, 1)
	p := Plan{Full: int((sum - 1) / Fill)}
	need := sum - int64(p.Full)*Fill + int64(frame)
	if p.Full == 0 {
		p.Tail = max(MinSize, padme(need))
		return p
	}
	g := min(grain(sum), Size)
	p.Tail = min((need+g-1)/g*g, Size)
	return p
}

// Room returns what the chunks of the tail may cost.
func (p Plan) Room() int64 { return p.Tail - int64(frame) }

// Next returns the plan that follows in the row.
func (p Plan) Next() Plan { return PlanFor(int64(p.Full)*Fill + min(p.Room(), Fill) + 1) }

// AtLeast returns the first plan from p on with as many full packs.
func (p Plan) AtLeast(full int) Plan {
	if p.Full >= full {
		return p
	}
	return PlanFor(int64(full)*Fill + 1)
}

// Bytes returns the length of all packs of the plan.
func (p Plan) Bytes() int64 { return int64(p.Full)*Size + p.Tail }

// grain returns the distance of the PADMÉ sizes about n, which must be at least 2.
func grain(n int64) int64 {
	e := bits.Len64(uint64(n)) - 1
	return 1 << (e - bits.Len64(uint64(e)))
}
