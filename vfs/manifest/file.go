package manifest

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

func (e *Extent) hash() uint64 {
	if e.Ref.IsZero() {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(e.Size))
		return xxhash.Sum64(b[:])
	}
	return binary.BigEndian.Uint64(e.Ref.ID[:])
}

func (n *node) extent(r *entryReader) {
	var e Extent
	if r.peek()>>5 == 2 {
		e.Ref = readRef(r.Reader)
		e.Size = int64(e.Ref.Size)
		if r.Err() == nil && (e.Ref.Kind != chunk.Data || e.Size == 0) {
			r.Fail("extent of an empty chunk or one of the wrong kind")
		}
	} else {
		e.Size = int64(r.UintMax(math.MaxInt64))
		if k := len(n.extents); e.Size == 0 || k > 0 && n.extents[k-1].Ref.IsZero() {
			r.Fail("empty hole, or hole after hole")
		}
	}
	n.grow(r, child{count: uint64(e.Size)})
	n.extents = append(n.extents, e)
}

// BuildFile stores the list of extents of a file and returns the Node and the Size of its
// Entry. The Node is zero if there is no data, and the chunk itself if the data is one
// chunk at the beginning. A hole at the end is in the size only. Sizes of extents must be
// positive, and their Refs of chunks of data.
func BuildFile(ctx context.Context, sink Sink, extents iter.Seq2[Extent, error]) (chunk.Ref, int64, error) {
	var (
		c     = newCutter(ctx, sink, chunk.File)
		size  int64
		hole  int64     // not yet added, for more may come, or nothing
		first chunk.Ref // the first chunk, not yet added, for it may be all
		n     int       // extents so far that are not a hole at the end
	)
	add := func(e Extent) error {
		b := cbor.AppendUint(nil, uint64(e.Size))
		if !e.Ref.IsZero() {
			b = appendRef(nil, e.Ref)
		}
		n++
		return c.leaf(b, e.hash(), child{count: uint64(e.Size)})
	}
	for e, err := range extents {
		if err != nil {
			return chunk.Ref{}, 0, err
		}
		data := !e.Ref.IsZero()
		if e.Size <= 0 || e.Size > math.MaxInt64-size || data && (e.Ref.Kind != chunk.Data || e.Size != int64(e.Ref.Size)) {
			return chunk.Ref{}, 0, fmt.Errorf("%w: extent of %d bytes of %s", ErrMalformed, e.Size, e.Ref)
		}
		size += e.Size
		if !data {
			hole += e.Size
			continue
		}
		if n == 0 && hole == 0 && first.IsZero() {
			first = e.Ref
			continue
		}
		if !first.IsZero() && n == 0 {
			if err := add(Extent{Ref: first, Size: int64(first.Size)}); err != nil {
				return chunk.Ref{}, 0, err
			}
		}
		if hole > 0 {
			if err := add(Extent{Size: hole}); err != nil {
				return chunk.Ref{}, 0, err
			}
			hole = 0
		}
		if err := add(e); err != nil {
			return chunk.Ref{}, 0, err
		}
	}
	if n == 0 {
		return first, size, nil
	}
	top, _, err := c.finish()
	return top.ref, size, err
}

// A PlacedExtent is an Extent and where in the file it begins.
type PlacedExtent struct {
	Off int64
	Extent
}

// Extents yields the extents of the file node of an entry of that size, from the one that
// holds the byte at off on, in order and without gaps up to size. It reads one node of each
// level before the first. It ends at the first error.
func Extents(ctx context.Context, src Source, ref chunk.Ref, size, off int64) iter.Seq2[PlacedExtent, error] {
	return func(yield func(PlacedExtent, error) bool) {
		at := int64(0)
		if off < 0 || off >= size {
			return
		}
		switch ref.Kind {
		case 0: // all hole
		case chunk.Data:
			at = int64(ref.Size)
			if at > size || at == 0 {
				yield(PlacedExtent{}, fmt.Errorf("%w: file is shorter than its data", ErrMalformed))
				return
			}
			if off < at && !yield(PlacedExtent{0, Extent{ref, at}}, nil) {
				return
			}
		default:
			n, err := readNode(ctx, src, chunk.File, ref, 0, nil)
			if err == nil && n.sum.count > uint64(size) {
				err = fmt.Errorf("%w: file is shorter than its data", ErrMalformed)
			}
			if err == nil {
				w := extentWalk{ctx: ctx, src: src, off: off, yield: yield}
				err = w.visit(n, 0)
				if w.stopped {
					return
				}
				at = w.at
			}
			if err != nil {
				yield(PlacedExtent{}, fmt.Errorf("list extents: %w", err))
				return
			}
		}
		if at < size {
			yield(PlacedExtent{at, Extent{Size: size - at}}, nil)
		}
	}
}

type extentWalk struct {
	ctx     context.Context //nolint:containedctx // lives for one call
	src     Source
	off     int64
	at      int64 // where the extent before ended
	yield   func(PlacedExtent, error) bool
	stopped bool
}

func (w *extentWalk) visit(n *node, at int64) error {
	w.at = at
	for _, e := range n.extents {
		if w.at+e.Size > w.off && !w.yield(PlacedExtent{w.at, e}, nil) {
			w.stopped = true
			return nil
		}
		w.at += e.Size
	}
	for i := range n.children {
		c := &n.children[i]
		if w.at+int64(c.count) <= w.off {
			w.at += int64(c.count)
			continue
		}
		sub, err := readNode(w.ctx, w.src, chunk.File, c.ref, n.level, c)
		if err != nil {
			return err
		}
		if err := w.visit(sub, w.at); err != nil || w.stopped {
			return err
		}
	}
	return nil
}
