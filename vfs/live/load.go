package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/cdc"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

const (
	// loadStep is after how many bytes of one file Store hands out what it has.
	loadStep = 256 << 20
	// wideFrom is from which size on a file waits for its turn: of larger ones no more are read at once than can be sealed, for each may
	// be read ahead by one and a half of the largest chunks.
	wideFrom = 1 << 20
)

// A Load brings the bytes of whole files into the tree without a way through the journal: they are cut
// and sealed once, as they come, and the journal gets the names of their chunks only. Little, though, goes
// by the journal, see small. It is for
// copies of what can be read again, since nothing that is stored is safe before the file has it:
//
//  1. Store turns bytes into chunks, of any number of files, side by side.
//  2. Flush makes these durable.
//  3. Give makes them the content of a file, like a write: the journal has it when Give returns, and the
//     file's Sync makes that durable.
//  4. Close, when all that is to be kept was given.
//
// A Give before its Flush would let a crash leave a file that names chunks which are nowhere, so it
// fails. Until Close, no garbage collection takes what was stored. A Load is safe for concurrent use.
type Load struct {
	f       *FS
	release func()
	slots   chan struct{} // one for each chunk that is being sealed, of all files
	wide    chan struct{} // one for each file that is read ahead by more than wideFrom

	mu      sync.Mutex
	stored  uint64 // counts what Store handed out
	flushed uint64 // all up to here is durable
	small   int64  // bytes of what is not in chunks
}

// A LoadSource is the file that Store reads.
type LoadSource interface {
	// ReadAt is as vfs.Handle has it.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// Data returns the first run of data that ends after off, or io.EOF if none follows. It
	// may take a hole for data.
	Data(ctx context.Context, off int64) (from, to int64, err error)
}

// Stored is a part of a file, in chunks.
type Stored struct {
	runs  []piece
	plain []run // what is not in chunks, but here; not in runs
	end   int64
	no    uint64 // 0: nothing of it is in chunks that Store made
}

// End returns where in the file the part ends.
func (s Stored) End() int64 { return s.end }

// Load begins one.
func (f *FS) Load() (*Load, error) {
	if err := f.usable(); err != nil {
		return nil, err
	}
	atOnce := max(runtime.GOMAXPROCS(0), 2)
	return &Load{f: f, release: f.o.Store.Hold(), slots: make(chan struct{}, atOnce), wide: make(chan struct{}, atOnce)}, nil
}

// Close ends the Load. What was stored and not given is garbage from now on.
func (l *Load) Close() { l.release() }

// loadBufs are what is read ahead of the cuts.
var loadBufs = sync.Pool{New: func() any { return new([]byte) }}

// Store puts the size bytes of src into chunks, and hands them to take, one part after the other, all of
// them together without gaps from 0 to size: one part for each 256 MiB, so that long files can be given
// and flushed as they come. It returns io.ErrUnexpectedEOF if src is shorter, and the error of take.
// Equal bytes give equal chunks, whether they come by Store or by writing, and where they lie: holes
// of 32 KiB and more stay holes.
func (l *Load) Store(ctx context.Context, src LoadSource, size int64, take func(Stored) error) error {
	if l.isSmall(size) {
		return l.keep(ctx, src, size, take)
	}
	if size > wideFrom {
		select {
		case l.wide <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-l.wide }()
	}
	cutter, err := cdc.New(l.f.o.Chunker)
	if err != nil {
		return fmt.Errorf("make chunker: %w", err)
	}
	buf, _ := loadBufs.Get().(*[]byte)
	defer loadBufs.Put(buf)
	w := &loading{l: l, src: src, size: size, cutter: cutter, most: int64(l.f.o.Chunker.Max), space: (*buf)[:0], take: take}
	defer func() { *buf = w.space }()
	for w.at < size {
		from, to, err := w.run(ctx)
		if err != nil {
			return err
		}
		w.hole(from)
		if err := w.data(ctx, to); err != nil {
			return err
		}
	}
	return w.hand(ctx)
}

// loading is one Store at work.
type loading struct {
	l      *Load
	src    LoadSource
	size   int64
	cutter *cdc.Chunker
	most   int64 // bytes in a chunk
	take   func(Stored) error

	at      int64 // all before is laid out
	s       *sealer
	extents []*manifest.Extent // since the last hand
	handed  int64              // where these begin
	space   []byte             // holds buf
	buf     []byte             // the bytes from at on that were read ahead
	next    [2]int64           // a run of data that was found already; next[1] is 0 for none
}

// run returns the next run of data at or after at, across holes that are too short to be kept. If
// there is none it is empty and at the end.
func (w *loading) run(ctx context.Context) (from, to int64, err error) {
	from, to = w.next[0], w.next[1]
	w.next = [2]int64{}
	if to == 0 {
		if from, to, err = w.look(ctx, w.at); err != nil {
			return 0, 0, err
		}
	}
	if from-w.at < minHole && from < w.size {
		from = w.at
	}
	for to < w.size {
		f, t, err := w.look(ctx, to)
		if err != nil {
			return 0, 0, err
		}
		if f-to >= minHole || f >= w.size {
			w.next = [2]int64{f, t}
			break
		}
		to = t
	}
	return from, to, nil
}

// look asks the source, and keeps within the size.
func (w *loading) look(ctx context.Context, off int64) (from, to int64, err error) {
	from, to, err = w.src.Data(ctx, off)
	if errors.Is(err, io.EOF) {
		return w.size, w.size, nil
	}
	if err == nil && to <= off {
		err = fmt.Errorf("look for data at %d: found it at %d to %d", off, from, to)
	}
	return min(max(from, off), w.size), min(to, w.size), err
}

// hole lays out a hole up to an offset.
func (w *loading) hole(to int64) {
	if to > w.at {
		w.extents = append(w.extents, &manifest.Extent{Size: to - w.at})
		w.at = to
	}
}

// data cuts the bytes up to an offset.
func (w *loading) data(ctx context.Context, to int64) error {
	w.buf = w.buf[:0]
	for w.at < to {
		if w.s == nil {
			w.s = newSealer(ctx, w.l.f.o.Store)
			w.s.slots = w.l.slots
		}
		end := w.at + min(w.most, to-w.at) // at+most may be beyond what an offset can be
		if have := w.at + int64(len(w.buf)); have < end {
			if err := w.fill(int(end-have), have); err != nil {
				return err
			}
		}
		n := w.cutter.Cut(w.buf[:end-w.at], end-w.at < w.most)
		if n <= 0 {
			n = int(end - w.at)
		}
		if err := w.l.f.admit(ctx, int64(n)); err != nil {
			return err
		}
		e := &manifest.Extent{Size: int64(n)}
		w.extents = append(w.extents, e)
		if to-w.at == int64(n) && w.at == w.handed {
			if err := w.only(ctx, e); err != nil {
				return err
			}
		} else {
			w.s.put(w.buf[:n], e)
		}
		w.buf = w.buf[n:]
		w.at += int64(n)
		if w.at-w.handed >= loadStep {
			if err := w.hand(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// only stores a chunk that is all there is, at the beginning of buf: there is nothing else to do for this
// file meanwhile.
func (w *loading) only(ctx context.Context, e *manifest.Extent) (err error) {
	select {
	case w.l.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-w.l.slots }()
	e.Ref, err = w.l.f.o.Store.Put(ctx, chunk.Data, w.buf[:e.Size])
	return translate(err)
}

// fill reads n bytes at off behind those in buf.
func (w *loading) fill(n int, off int64) error {
	b := w.buf
	if cap(b)-len(b) < n {
		if need := len(b) + n; cap(w.space) < need {
			w.space = make([]byte, 0, max(need, min(2*need, int(w.most+w.most/2))))
		}
		b = append(w.space[:0], b...)
	}
	w.buf = b[:len(b)+n]
	got, err := w.src.ReadAt(w.s.ctx, w.buf[len(b):], off)
	if got == n {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// hand waits until all is sealed and hands it out.
func (w *loading) hand(ctx context.Context) error {
	if w.s != nil {
		if err := w.s.wait(); err != nil {
			return translate(err)
		}
		w.s = nil
	}
	part := Stored{runs: make([]piece, 0, len(w.extents)), end: w.at}
	off := w.handed
	for _, e := range w.extents {
		p := piece{off: off, n: e.Size, from: isHole}
		if !e.Ref.IsZero() {
			p.from, p.ref = inChunk, &e.Ref
		}
		part.runs = append(part.runs, p)
		off = p.end()
	}
	if off != w.at {
		return fmt.Errorf("laid out %d of %d bytes: %w", off, w.at, vfs.ErrCorrupt)
	}
	w.extents, w.handed = nil, w.at
	if len(part.runs) == 0 {
		return nil
	}
	w.l.mu.Lock()
	w.l.stored++
	part.no = w.l.stored
	w.l.mu.Unlock()
	return w.take(part)
}

// Flush makes durable all that Store handed out before the call.
func (l *Load) Flush(ctx context.Context) error {
	l.mu.Lock()
	upto, flushed := l.stored, l.flushed
	l.mu.Unlock()
	if upto == flushed {
		return nil
	}
	if err := l.f.o.Store.Flush(ctx); err != nil {
		return translate(err)
	}
	l.mu.Lock()
	l.flushed = max(l.flushed, upto)
	l.mu.Unlock()
	return nil
}

// Give writes s to the file of h, which is open for writing and of this tree (else vfs.ErrCrossTree). The
// file grows to the end of s if it is shorter.
func (l *Load) Give(ctx context.Context, h vfs.Handle, s Stored) error {
	to, ok := h.(*handle)
	if !ok || to.v.f != l.f {
		return vfs.ErrCrossTree
	}
	l.mu.Lock()
	durable := s.no <= l.flushed
	l.mu.Unlock()
	if !durable {
		return errors.New("give what is stored: it is not flushed")
	}
	if err := to.begin(vfs.OpenWrite); err != nil {
		return err
	}
	defer to.end()
	f, n := l.f, to.n
	for _, r := range s.plain {
		if _, err := f.writeAt(ctx, n, r.p, r.off); err != nil {
			return err
		}
		to.v.tell(n, "")
	}
	for rest := s.runs; len(rest) > 0; {
		runs := rest[:min(len(rest), maxRuns)]
		rest = rest[len(runs):]
		err := f.change1(ctx, n, func() error {
			c := &change{size: max(n.file.size, runs[len(runs)-1].end()), time: f.o.Now(), runs: runs}
			if err := f.say(n, recChunks, c); err != nil {
				return err
			}
			n.applyRuns(c, f.gen.Load())
			f.mark(n)
			return nil
		})
		if err != nil {
			return err
		}
		to.v.tell(n, "")
	}
	return nil
}
