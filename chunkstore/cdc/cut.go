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
	gear  fastcdc.FastCDC
	opts  chunkers.ChunkerOpts
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
		c.opts = chunkers.ChunkerOpts{
			MinSize: int(p.Min), NormalSize: int(p.Avg), MaxSize: int(p.Max), Key: p.Seed[:],
		}
		if err := c.gear.Setup(&c.opts); err != nil {
			return nil, fmt.Errorf("make chunker: %w: %w", ErrParams, err)
		}
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
		if at := c.gear.Algorithm(&c.opts, buf, n); at < n {
			return at
		}
	}
	if whole || final {
		return n
	}
	return 0
}
