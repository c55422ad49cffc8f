package cdc

import (
	"fmt"
	"math/bits"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"
	"github.com/restic/chunker"
)

// A Chunker finds the cuts of one Params. It is not safe for concurrent use, and
// takes some 10 KiB and microseconds to make.
type Chunker struct {
	p     Params
	rabin chunker.BaseChunker // as it stands at the beginning of a chunk
	work  chunker.BaseChunker
	gear  [256]uint64 // FastCDC's table
	// The fingerprint below which FastCDC cuts, before and after Avg.
	strict, loose uint64
}

// New returns a Chunker, or ErrParams.
func New(p Params) (*Chunker, error) {
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("make chunker: %w", err)
	}
	c := &Chunker{p: p}
	switch p.Algorithm {
	case Rabin:
		c.rabin = *chunker.NewBase(chunker.Pol(p.Poly), chunker.WithBaseBoundaries(uint(p.Min), uint(p.Max)),
			chunker.WithBaseAverageBits(bits.TrailingZeros32(p.Avg)))
	case FastCDC:
		var lib fastcdc.FastCDC
		opts := chunkers.ChunkerOpts{
			MinSize: int(p.Min), NormalSize: int(p.Avg), MaxSize: int(p.Max), Key: p.Seed[:],
		}
		if err := lib.Setup(&opts); err != nil {
			return nil, fmt.Errorf("make chunker: %w: %w", ErrParams, err)
		}
		c.gear = *lib.G
		c.gear[0] = 0
		b := bits.TrailingZeros32(p.Avg)
		c.strict, c.loose = 1<<(64-b-normalisation), 1<<(64-b+normalisation)
	}
	return c, nil
}

// Params returns what c was made of.
func (c *Chunker) Params() Params { return c.p }

// Cut returns the length of the first chunk of buf, at most Max. If final is false
// and more bytes might move the cut, it returns 0: call again with more, from the
// same beginning. Max bytes are always enough. If final is true, buf is all
// there is, and only an empty buf gives 0.
//
// A cut depends on nothing but the bytes since the last one: Cut keeps no state
// from call to call. A call scans anew from the beginning of buf, so give it Max
// bytes at once where they are to be had.
func (c *Chunker) Cut(buf []byte, final bool) int {
	whole := len(buf) >= int(c.p.Max)
	if whole {
		buf = buf[:c.p.Max]
	}
	n := len(buf)
	switch c.p.Algorithm {
	case Rabin:
		c.work = c.rabin
		if at := c.work.NextSplitPoint(buf); at >= 0 {
			return at
		}
	case FastCDC:
		if at := c.gearCut(buf); at > 0 {
			return at
		}
	}
	if whole || final {
		return n
	}
	return 0
}

// normalisation is how many bits more than log2(Avg) of the fingerprint must be
// zero for a cut before Avg, and how many less after it: level 2 of the paper.
const normalisation = 2

// gearCut finds the cut of FastCDC in buf, which is at most Max long, or returns 0.
// The algorithm is that of Xia et al., "FastCDC: a Fast and Efficient
// Content-Defined Chunking Approach for Data Deduplication", 2016, with the keyed
// table of go-cdc-chunkers, and with two choices of ours. The bits that must be
// zero are the highest, each of which has seen at least 40 bytes. And byte 0
// counts nothing, so that the fingerprint of 64 zero bytes is 0 and a run of zeros
// is a cut: such runs end files in archives, records in pages and blocks in images.
func (c *Chunker) gearCut(buf []byte) int {
	low, mid := min(int(c.p.Min), len(buf)), min(int(c.p.Avg), len(buf))
	fp := uint64(0)
	for i, b := range buf[low:mid] {
		if fp = fp<<1 + c.gear[b]; fp < c.strict {
			return low + i
		}
	}
	for i, b := range buf[mid:] {
		if fp = fp<<1 + c.gear[b]; fp < c.loose {
			return mid + i
		}
	}
	return 0
}
