package live

import (
	"slices"
	"sort"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
)

// A piece is a run of a file that was changed since its content was last committed.
type piece struct {
	off, n int64
	gen    uint64 // the generation of the write: a commit takes those up to its own
	from   source
	skip   int64       // where in the source the piece begins
	pos    journal.Pos // of inJournal
	ref    *chunk.Ref  // of inChunk
}

type source uint8

const (
	isHole source = iota
	inJournal
	inChunk
)

func (p piece) end() int64 { return p.off + p.n }

// head and tail return the part before and from the offset at of the file.
func (p piece) head(at int64) piece { p.n = at - p.off; return p }

func (p piece) tail(at int64) piece {
	p.skip += at - p.off
	p.n -= at - p.off
	p.off = at
	return p
}

// clip returns the part of p within [off, end).
func (p piece) clip(off, end int64) piece {
	if p.off < off {
		p = p.tail(off)
	}
	if p.end() > end {
		p = p.head(end)
	}
	return p
}

// pieces is an ordered list of pieces that do not overlap. It is kept in blocks, so
// that a random write into a file with many pieces moves few of them.
type pieces struct {
	blocks [][]piece // none is empty
}

const blockMax = 128

// find returns the place of the first piece that ends after off.
func (s *pieces) find(off int64) (b, i int) {
	b = sort.Search(len(s.blocks), func(b int) bool {
		blk := s.blocks[b]
		return blk[len(blk)-1].end() > off
	})
	if b == len(s.blocks) {
		return b, 0
	}
	blk := s.blocks[b]
	return b, sort.Search(len(blk), func(i int) bool { return blk[i].end() > off })
}

// put lays p over what is there.
func (s *pieces) put(p piece) {
	if p.n <= 0 {
		return
	}
	s.clear(p.off, p.n)
	b, i := s.find(p.off)
	s.insert(b, i, p)
}

func (s *pieces) insert(b, i int, p piece) {
	if b == len(s.blocks) {
		if b == 0 {
			s.blocks = append(s.blocks, []piece{p})
			return
		}
		b--
		i = len(s.blocks[b])
	}
	s.blocks[b] = slices.Insert(s.blocks[b], i, p)
	if blk := s.blocks[b]; len(blk) > blockMax {
		half := len(blk) / 2
		if i == len(blk)-1 {
			half = len(blk) - 1 // writing goes upwards: leave full blocks behind
		}
		right := slices.Clone(blk[half:])
		s.blocks[b] = slices.Clip(blk[:half])
		s.blocks = slices.Insert(s.blocks, b+1, right)
	}
}

// clear takes away what is there of the n bytes from off.
func (s *pieces) clear(off, n int64) {
	end := off + n
	if end < off {
		end = 1<<63 - 1
	}
	b, i := s.find(off)
	for b < len(s.blocks) {
		blk := s.blocks[b]
		if i == len(blk) {
			b, i = b+1, 0
			continue
		}
		p := blk[i]
		if p.off >= end {
			return
		}
		if p.off < off {
			blk[i] = p.head(off)
			if p.end() > end {
				s.insert(b, i+1, p.tail(end))
				return
			}
			i++
			continue
		}
		if p.end() > end {
			blk[i] = p.tail(end)
			return
		}
		k := i + 1
		for k < len(blk) && blk[k].end() <= end {
			k++
		}
		blk = slices.Delete(blk, i, k)
		s.blocks[b] = blk
		if len(blk) == 0 {
			s.blocks = slices.Delete(s.blocks, b, b+1)
			i = 0
		}
	}
}

// each calls fn for every piece that touches [off, end), in order, clipped to it, until fn
// returns false.
func (s *pieces) each(off, end int64, fn func(piece) bool) {
	b, i := s.find(off)
	for ; b < len(s.blocks); b, i = b+1, 0 {
		for _, p := range s.blocks[b][i:] {
			if p.off >= end || !fn(p.clip(off, end)) {
				return
			}
		}
	}
}

func (s *pieces) empty() bool { return len(s.blocks) == 0 }

// list returns a copy of all pieces.
func (s *pieces) list() []piece {
	n := 0
	for _, b := range s.blocks {
		n += len(b)
	}
	all := make([]piece, 0, n)
	for _, b := range s.blocks {
		all = append(all, b...)
	}
	return all
}

// dropUpTo takes away the pieces of gen and before.
func (s *pieces) dropUpTo(gen uint64) {
	for b := range s.blocks {
		s.blocks[b] = slices.DeleteFunc(s.blocks[b], func(p piece) bool { return p.gen <= gen })
	}
	s.blocks = slices.DeleteFunc(s.blocks, func(b []piece) bool { return len(b) == 0 })
	if len(s.blocks) == 0 {
		s.blocks = nil
	}
}
