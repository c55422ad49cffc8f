package live

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/cdc"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// minHole is the shortest run of zeros that was made as a hole that a file keeps as one. Shorter
// ones become zeros in a chunk: a hole ends a chunk.
const minHole = 32 << 10

// A sealer turns runs of bytes into chunks, several at a time, with bounded memory.
type sealer struct {
	store Store
	group *errgroup.Group
	ctx   context.Context
	slots chan struct{} // shared by sealers that share a bound; nil: none
	space []byte        // what is read ahead of the cuts, of one file at a time
}

// sealBufs are the copies that are being sealed.
var sealBufs = sync.Pool{New: func() any { return new([]byte) }}

// newSealer returns a sealer whose work ends with ctx. At most one chunk for each processor
// is sealed at a time.
func newSealer(ctx context.Context, store Store) *sealer {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(runtime.GOMAXPROCS(0), 2))
	return &sealer{store: store, group: g, ctx: ctx}
}

// put seals a copy of plain and stores the extent in *to before wait returns.
func (s *sealer) put(plain []byte, to *manifest.Extent) {
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			s.group.Go(s.ctx.Err) // so that wait tells
			return
		}
	}
	buf, _ := sealBufs.Get().(*[]byte)
	*buf = append((*buf)[:0], plain...)
	s.group.Go(func() error {
		defer sealBufs.Put(buf)
		if s.slots != nil {
			defer func() { <-s.slots }()
		}
		ref, err := s.store.Put(s.ctx, chunk.Data, *buf)
		*to = manifest.Extent{Ref: ref, Size: int64(len(*buf))}
		return err
	})
}

// room makes buf, which lies in s.space, longer by n bytes and returns these.
func (s *sealer) room(buf *[]byte, n int) []byte {
	b := *buf
	if cap(b)-len(b) < n {
		if need := len(b) + n; cap(s.space) < need {
			s.space = make([]byte, 0, max(2*need, 64<<10))
		}
		b = append(s.space[:0], b...)
	}
	*buf = b[:len(b)+n]
	return (*buf)[len(b):]
}

func (s *sealer) wait() error { return s.group.Wait() }

// frozenFile is the content of a file as it was when a commit began.
type frozenFile struct {
	n         *node
	base      chunk.Ref
	length    int64 // of base
	committed int64 // base counts up to here
	size      int64
	over      []piece
	edited    bool

	ref     chunk.Ref // results
	bytes   int64
	extents []*manifest.Extent
}

// recut lays out the new content of a file: chunks that are untouched stay, and around what
// was changed the bytes are cut anew, until a cut falls where an untouched chunk begins. The extents
// have their refs when s.wait has returned.
func (f *FS) recut(ctx context.Context, s *sealer, z *frozenFile) error {
	x, err := f.extentsOf(ctx, z.n, z.base, z.length)
	if err != nil {
		return err
	}
	cutter, err := cdc.New(f.o.Chunker)
	if err != nil {
		return fmt.Errorf("make chunker: %w", err)
	}
	c := &cutting{f: f, ctx: ctx, s: s, z: z, x: x, cutter: cutter, whole: int64(f.o.Chunker.Max), least: int64(f.o.Chunker.Min)}
	for c.at < z.size {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.keep() || c.hole() {
			continue
		}
		if err := c.cut(); err != nil {
			return err
		}
	}
	z.extents = c.out
	return nil
}

// cutting is a recut under way.
type cutting struct {
	f            *FS
	ctx          context.Context
	s            *sealer
	z            *frozenFile
	x            *extents
	cutter       *cdc.Chunker
	whole, least int64
	at           int64 // all before is laid out
	over         int   // the first piece that ends after at
	out          []*manifest.Extent
	buf          []byte // bytes from at on that were read ahead
}

func (c *cutting) emit(e manifest.Extent) {
	c.out = append(c.out, &e)
	c.at += e.Size
	c.skip()
}

func (c *cutting) skip() {
	for c.over < len(c.z.over) && c.z.over[c.over].end() <= c.at {
		c.over++
	}
}

// nextOver returns where the next changed byte at or after at is.
func (c *cutting) nextOver() int64 {
	if c.over < len(c.z.over) {
		return max(c.z.over[c.over].off, c.at)
	}
	return c.z.size
}

// keep takes over a chunk that begins here and is as it was, and reports whether it did.
func (c *cutting) keep() bool {
	if c.over < len(c.z.over) && c.z.over[c.over].off <= c.at {
		p := &c.z.over[c.over]
		if p.from != inChunk || p.off != c.at || p.skip != 0 || p.n != int64(p.ref.Size) {
			return false
		}
		if p.n < c.least && c.dataAt(p.end()) {
			return false
		}
		c.emit(manifest.Extent{Ref: *p.ref, Size: p.n})
		c.buf = c.buf[:0]
		return true
	}
	k := c.x.at(c.at)
	if c.at >= c.z.committed || k >= len(c.x.list) {
		return false
	}
	e := &c.x.list[k]
	end := e.Off + e.Size
	if e.Ref.IsZero() || e.Off != c.at || end > min(c.z.committed, c.nextOver()) {
		return false
	}
	if e.Size < c.least && c.dataAt(end) {
		return false // it was short because the file or the data ended here
	}
	c.emit(e.Extent)
	c.buf = c.buf[:0]
	return true
}

// dataAt reports whether there are bytes at off, and not a hole or the end.
func (c *cutting) dataAt(off int64) bool {
	if off >= c.z.size {
		return false
	}
	hole, end := runAt(c.x, c.z.over[c.over:], off, c.z.committed, c.z.size)
	return !hole || end-off < minHole && end < c.z.size
}

// holeAt returns how long the hole at off is, 0 for none.
func (c *cutting) holeAt(off int64) int64 {
	at := off
	for at < c.z.size {
		hole, end := runAt(c.x, c.z.over[c.over:], at, c.z.committed, c.z.size)
		if !hole {
			break
		}
		at = end
	}
	return at - off
}

// hole lays out a hole that begins here, and reports whether there is one long enough.
func (c *cutting) hole() bool {
	n := c.holeAt(c.at)
	if n == 0 || n < minHole && c.at+n < c.z.size {
		return false
	}
	c.emit(manifest.Extent{Size: n})
	c.buf = c.buf[:0]
	return true
}

// stop returns where the run of bytes from off on ends that may be cut together: at a long hole or the end.
func (c *cutting) stop(from, limit int64) int64 {
	at := from
	for at < limit {
		hole, end := runAt(c.x, c.z.over[c.over:], at, c.z.committed, c.z.size)
		if hole {
			if n := c.holeAt(at); n >= minHole || at+n >= c.z.size {
				return at
			}
		}
		at = end
	}
	return min(at, limit)
}

// cut cuts one chunk off the bytes here.
func (c *cutting) cut() error {
	end := c.stop(c.at, c.at+min(c.whole, c.z.size-c.at)) // at+whole may be beyond what an offset can be
	final := end-c.at < c.whole                           // the run ends before the longest chunk does
	if have := c.at + int64(len(c.buf)); have < end {
		more := c.s.room(&c.buf, int(end-have))
		if err := c.read(more, have); err != nil {
			return err
		}
	}
	n := c.cutter.Cut(c.buf[:end-c.at], final)
	if n <= 0 {
		n = int(end - c.at)
	}
	e := &manifest.Extent{Size: int64(n)}
	c.out = append(c.out, e)
	c.s.put(c.buf[:n], e)
	c.buf = c.buf[n:]
	c.at += int64(n)
	c.skip()
	return nil
}

// read fills p with the frozen bytes from off on.
func (c *cutting) read(p []byte, off int64) error {
	over := c.z.over[c.over:]
	at, end := off, off+int64(len(p))
	base := func(to int64) error {
		if to <= at {
			return nil
		}
		return c.f.readBase(c.ctx, c.z.n, c.z.base, c.z.length, c.z.committed, p[at-off:to-off], at)
	}
	for i := range over {
		if over[i].off >= end {
			break
		}
		if over[i].end() <= at {
			continue
		}
		q := over[i].clip(at, end)
		if err := base(q.off); err != nil {
			return err
		}
		dst := p[q.off-off:][:q.n]
		var err error
		switch q.from {
		case isHole:
			clear(dst)
		case inJournal:
			err = c.f.jr.ReadData(q.pos, dst, int(q.skip))
		case inChunk:
			err = c.f.readChunk(c.ctx, *q.ref, dst, q.skip)
		}
		if err != nil {
			return translate(err)
		}
		at = q.end()
	}
	return base(end)
}

// finish builds the file node of the extents that recut laid out, which have their refs now.
func (z *frozenFile) finish(ctx context.Context, sink manifest.Sink) error {
	z.bytes = 0
	for _, e := range z.extents {
		if !e.Ref.IsZero() {
			z.bytes += e.Size
		}
	}
	if z.size > 0 && len(z.extents) == 0 {
		return fmt.Errorf("lay out file: %w", vfs.ErrCorrupt)
	}
	ref, size, err := manifest.BuildFile(ctx, sink, func(yield func(manifest.Extent, error) bool) {
		for _, e := range z.extents {
			if !yield(*e, nil) {
				return
			}
		}
	})
	if err == nil && size != z.size {
		err = fmt.Errorf("laid out %d of %d bytes: %w", size, z.size, vfs.ErrCorrupt)
	}
	z.ref, z.extents = ref, nil
	return err
}
