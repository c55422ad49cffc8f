package live

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// extents is the list of the chunks of a file as it was committed. It never changes.
type extents struct {
	ref  chunk.Ref
	list []manifest.PlacedExtent
}

// at returns the index of the extent that holds off.
func (x *extents) at(off int64) int {
	return sort.Search(len(x.list), func(i int) bool { return x.list[i].Off+x.list[i].Size > off })
}

// extentsOf returns the extents of a file whose committed content is base, of the given length. No lock is held,
// or only FS.mu for reading.
func (f *FS) extentsOf(ctx context.Context, n *node, base chunk.Ref, length int64) (*extents, error) {
	if base.Kind == chunk.Data {
		x := &extents{ref: base, list: []manifest.PlacedExtent{{Extent: manifest.Extent{Ref: base, Size: int64(base.Size)}}}}
		if tail := length - int64(base.Size); tail > 0 {
			x.list = append(x.list, manifest.PlacedExtent{Off: int64(base.Size), Extent: manifest.Extent{Size: tail}})
		}
		return x, nil
	}
	if base.IsZero() {
		x := &extents{}
		if length > 0 {
			x.list = []manifest.PlacedExtent{{Extent: manifest.Extent{Size: length}}}
		}
		return x, nil
	}
	n.mu.RLock()
	x := n.file.extents
	n.mu.RUnlock()
	if x != nil && x.ref == base {
		return x, nil
	}
	x = &extents{ref: base}
	for e, err := range manifest.Extents(ctx, f.o.Store, base, length, 0) {
		if err != nil {
			return nil, fmt.Errorf("load file: %w", translate(err))
		}
		x.list = append(x.list, e)
	}
	n.mu.Lock()
	if n.file.base == base {
		n.file.extents = x
	}
	n.mu.Unlock()
	return x, nil
}

// readAt is vfs.Handle.ReadAt.
func (f *FS) readAt(ctx context.Context, n *node, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if len(p) == 0 {
		return 0, nil
	}
	n.mu.RLock()
	c := &n.file
	if off >= c.size {
		n.mu.RUnlock()
		return 0, io.EOF
	}
	var eof error
	if int64(len(p)) > c.size-off {
		p, eof = p[:c.size-off], io.EOF
	}
	var few [8]piece
	later, err := f.readOver(c, p, off, few[:0])
	base, length, committed := c.base, c.length(), c.committed()
	n.mu.RUnlock()
	if err != nil {
		return 0, err
	}
	// What is in chunks never changes: it is read without the lock.
	for _, q := range later {
		dst := p[q.off-off:][:q.n]
		if q.from == inChunk {
			err = f.readChunk(ctx, *q.ref, dst, q.skip)
		} else {
			err = f.readBase(ctx, n, base, length, committed, dst, q.off)
		}
		if err != nil {
			return 0, err
		}
	}
	return len(p), eof
}

// readOver fills p with what was changed, and appends what has to come from chunks to
// later: pieces in a chunk, and as holes the ranges of the committed content. n.mu is held.
func (f *FS) readOver(c *content, p []byte, off int64, later []piece) ([]piece, error) {
	at, end := off, off+int64(len(p))
	var err error
	c.over().each(off, end, func(q piece) bool {
		if q.off > at {
			later = append(later, piece{off: at, n: q.off - at, from: isHole})
		}
		at = q.end()
		switch q.from {
		case isHole:
			clear(p[q.off-off:][:q.n])
		case inJournal:
			err = f.jr.ReadData(q.pos, p[q.off-off:][:q.n], int(q.skip))
		case inChunk:
			later = append(later, q)
		}
		return err == nil
	})
	if err == nil && at < end {
		later = append(later, piece{off: at, n: end - at, from: isHole})
	}
	return later, translate(err)
}

func (f *FS) readChunk(ctx context.Context, ref chunk.Ref, dst []byte, skip int64) error {
	n, err := f.o.Store.ReadAt(ctx, ref, dst, skip)
	if n == len(dst) {
		return nil
	}
	if err == nil || err == io.EOF { //nolint:errorlint // ReadAt returns io.EOF itself
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read chunk %v: %w", ref, translate(err))
}

// readBase fills dst from the committed content from off on; behind committed are zeros.
func (f *FS) readBase(ctx context.Context, n *node, base chunk.Ref, length, committed int64, dst []byte, off int64) error {
	if k := committed - off; k < int64(len(dst)) {
		clear(dst[max(k, 0):])
		dst = dst[:max(k, 0)]
	}
	if len(dst) == 0 {
		return nil
	}
	if base.IsZero() {
		clear(dst)
		return nil
	}
	if base.Kind == chunk.Data && off+int64(len(dst)) <= int64(base.Size) {
		return f.readChunk(ctx, base, dst, off)
	}
	x, err := f.extentsOf(ctx, n, base, length)
	if err != nil {
		return err
	}
	for i := x.at(off); len(dst) > 0 && i < len(x.list); i++ {
		e := x.list[i]
		skip := off - e.Off
		part := dst[:min(int64(len(dst)), e.Size-skip)]
		if e.Ref.IsZero() {
			clear(part)
		} else if err := f.readChunk(ctx, e.Ref, part, skip); err != nil {
			return err
		}
		dst, off = dst[len(part):], off+int64(len(part))
	}
	clear(dst)
	return nil
}

// change1 runs fn with the locks that a change of n's bytes or attributes needs.
func (f *FS) change1(ctx context.Context, n *node, fn func() error) error {
	if err := f.usable(); err != nil {
		return err
	}
	if err := f.throttle(ctx); err != nil {
		return err
	}
	f.gate.RLock()
	defer f.gate.RUnlock()
	f.mu.RLock()
	defer f.mu.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.file.size
	err := fn()
	f.resized(n, before)
	return err
}

// resized counts the bytes of the tree after n had before. f.mu is held.
func (f *FS) resized(n *node, before int64) {
	if n.file.size != before && len(n.names) > 0 {
		f.bytes.Add(n.file.size - before)
	}
}

// about puts records about n into the journal, behind those that tell where it lies. f.mu and n.mu are held.
func (f *FS) about(n *node, recs []journal.Record, pos []journal.Pos) error {
	lead := 0
	var told []*node
	if len(n.names) > 0 {
		var bind []journal.Record
		if bind, told = f.bind(nil, n); len(bind) > 0 {
			lead = len(bind)
			recs = append(bind, recs...)
		}
	}
	var all []journal.Pos
	if pos != nil {
		all = make([]journal.Pos, len(recs))
	}
	lsn, err := f.log(recs, all)
	if err != nil {
		return err
	}
	if pos != nil {
		copy(pos, all[lead:])
	}
	f.setBound(told)
	touched(n, lsn)
	return nil
}

// say puts one record about n into the journal, if n has a name: what has none is gone after a
// crash. f.mu and n.mu are held.
func (f *FS) say(n *node, t journal.Type, c *change) error {
	if len(n.names) == 0 && n != f.root {
		return nil
	}
	c.id = n.id
	return f.about(n, []journal.Record{c.record(t)}, nil)
}

// writeAt is vfs.Handle.WriteAt.
func (f *FS) writeAt(ctx context.Context, n *node, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if int64(len(p)) > vfs.MaxSize-off {
		return 0, vfs.ErrTooBig
	}
	if len(p) == 0 {
		return 0, f.usable()
	}
	if err := f.usable(); err != nil {
		return 0, err
	}
	if err := f.throttle(ctx); err != nil {
		return 0, err
	}
	if err := f.admit(ctx, int64(len(p))); err != nil {
		return 0, err
	}
	w := &write{n: n, p: p, off: off}
	defer w.drop()
	// Encrypting is what a write costs most. It is done before the lock of the
	// file is taken, so that the writes of one file do it side by side.
	f.mu.RLock()
	orphan := len(n.names) == 0
	f.mu.RUnlock()
	if err := w.prepare(f, orphan); err != nil {
		return 0, err
	}
	if err := f.change1(ctx, n, func() error { return f.writeLocked(w) }); err != nil {
		return 0, err
	}
	if f.dirtyBytes.Load() > f.o.MaxStream {
		f.Nudge()
	}
	return len(p), nil
}

// A write is one call of writeAt.
type write struct {
	n    *node
	p    []byte
	off  int64
	time time.Time
	t    journal.Type // of the records
	recs []journal.Record
	made *journal.Prepared
}

// prepare makes the records of a write and encrypts them.
func (w *write) prepare(f *FS, orphan bool) error {
	w.drop()
	w.time, w.t = f.o.Now(), recWrite
	if orphan {
		w.t = recOrphan
	}
	w.recs = make([]journal.Record, 0, (len(w.p)+journal.MaxData-1)/journal.MaxData)
	for at := 0; at < len(w.p); at += journal.MaxData {
		part := w.p[at:min(at+journal.MaxData, len(w.p))]
		c := change{id: w.n.id, off: w.off + int64(at), time: w.time}
		w.recs = append(w.recs, journal.Record{Type: w.t, Meta: c.encode(w.t), Data: part})
	}
	var err error
	w.made, err = f.jr.Prepare(w.recs)
	return translate(err)
}

func (w *write) drop() {
	if w.made != nil {
		w.made.Drop()
		w.made = nil
	}
}

// writeLocked puts w into the journal and lays it over the file. f.mu and w.n.mu are held.
func (f *FS) writeLocked(w *write) error {
	n := w.n
	// What prepare took for granted may have changed while no lock was held.
	if orphan := len(n.names) == 0; orphan != (w.t == recOrphan) {
		if err := w.prepare(f, orphan); err != nil {
			return err
		}
	}
	pos := make([]journal.Pos, len(w.recs))
	if err := f.aboutPrepared(n, w, pos); err != nil {
		return err
	}
	at := w.off
	for _, q := range pos {
		n.applyWrite(q, at, w.time, f.gen.Load())
		at += int64(q.Len())
	}
	f.dirtyBytes.Add(int64(len(w.p)))
	f.mark(n)
	return nil
}

// aboutPrepared is about for the records of w.
func (f *FS) aboutPrepared(n *node, w *write, pos []journal.Pos) error {
	if len(n.names) > 0 && n.bound.Load() != f.gen.Load() {
		return f.about(n, w.recs, pos) // with those that tell where n lies
	}
	lsn, err := w.made.Append(pos)
	if err != nil {
		return translate(err)
	}
	f.logged()
	touched(n, lsn)
	return nil
}

// applyWrite lays a record of bytes over the file. now was noted before the lock was taken: if
// another change overtook this one, the times do not go back behind it.
func (n *node) applyWrite(pos journal.Pos, off int64, now time.Time, gen uint64) {
	if d := n.attr.at(ctime).Sub(now); d > 0 && d < time.Second {
		now = n.attr.at(ctime)
	}
	n.file.change().over.put(piece{off: off, n: int64(pos.Len()), gen: gen, from: inJournal, pos: pos})
	n.grow(off+int64(pos.Len()), now)
}

// grow notes a change of the bytes up to end, which may be past the size.
func (n *node) grow(end int64, now time.Time) {
	n.file.change()
	n.file.size = max(n.file.size, end)
	n.attr.set(mtime, now)
	n.attr.set(ctime, now)
	n.dirty = true
}

func (n *node) applySize(size int64, now time.Time) {
	c := &n.file
	l := c.change()
	if size < c.size {
		l.over.clear(size, noLimit-size)
		l.limit, l.low = min(l.limit, size), min(l.low, size)
	}
	c.size = size
	n.attr.set(mtime, now)
	n.attr.set(ctime, now)
	n.dirty = true
}

func (n *node) applyHole(off, length, size int64, now time.Time, gen uint64) {
	n.file.change().over.put(piece{off: off, n: length, gen: gen, from: isHole})
	n.file.size = max(n.file.size, size)
	n.grow(0, now)
}

// allocate is vfs.Handle.Allocate.
func (f *FS) allocate(ctx context.Context, n *node, mode vfs.AllocMode, off, length int64) error {
	if off < 0 || length <= 0 || mode > vfs.AllocZeroKeep {
		return fs.ErrInvalid
	}
	if length > vfs.MaxSize-off {
		return vfs.ErrTooBig
	}
	return f.change1(ctx, n, func() error {
		size := n.file.size
		if mode == vfs.AllocReserve || mode == vfs.AllocZero {
			size = max(size, off+length)
		}
		c := &change{off: off, size: size, time: f.o.Now()}
		if mode != vfs.AllocReserve && mode != vfs.AllocKeepSize {
			// Behind the size there is nothing to make a hole of.
			c.n = max(min(length, size-off), 0)
		}
		if c.n == 0 && size == n.file.size {
			return nil // room is not reserved: there is nothing to do
		}
		if err := f.say(n, recHole, c); err != nil {
			return err
		}
		n.applyHole(off, c.n, size, c.time, f.gen.Load())
		f.mark(n)
		return nil
	})
}

// seek is vfs.Handle.Seek.
func (f *FS) seek(ctx context.Context, n *node, off int64, whence vfs.Whence) (int64, error) {
	if off < 0 || whence > vfs.SeekHole {
		return 0, fs.ErrInvalid
	}
	var x *extents
	for x == nil {
		n.mu.RLock()
		base, length := n.file.base, n.file.length()
		n.mu.RUnlock()
		got, err := f.extentsOf(ctx, n, base, length)
		if err != nil {
			return 0, err
		}
		n.mu.RLock()
		if n.file.base == base && n.file.length() == length {
			x = got
			break // with the lock
		}
		n.mu.RUnlock()
	}
	size, committed, over := n.file.size, n.file.committed(), n.file.over().list()
	n.mu.RUnlock()
	if off >= size {
		return 0, vfs.ErrNoData
	}
	at := off
	for at < size {
		hole, end := runAt(x, over, at, committed, size)
		if hole == (whence == vfs.SeekHole) {
			return at, nil
		}
		at = end
	}
	if whence == vfs.SeekHole {
		return size, nil
	}
	return 0, vfs.ErrNoData
}

// runAt reports whether the byte at is in a hole, and where what it is in ends at the latest.
func runAt(x *extents, over []piece, at, committed, size int64) (hole bool, end int64) {
	end = size
	i := sort.Search(len(over), func(i int) bool { return over[i].end() > at })
	if i < len(over) {
		if over[i].off <= at {
			return over[i].from == isHole, min(over[i].end(), size)
		}
		end = min(end, over[i].off)
	}
	if at >= committed {
		return true, end
	}
	end = min(end, committed)
	k := x.at(at)
	if k == len(x.list) {
		return true, end
	}
	return x.list[k].Ref.IsZero(), min(end, x.list[k].Off+x.list[k].Size)
}
