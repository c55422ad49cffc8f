package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// readAhead is how many segments ReadAt loads in one step at most: 1 MiB.
const readAhead = 8

// rereads is how often damaged bytes are asked for again where they may come from several places.
const rereads = 4

// again is given what came of fn, which reads of the pack, and calls it again for as long as that is damage, and other bytes may come
// from another place.
func (s *Store) again(ctx context.Context, name pack.Name, err error, fn func() error) error {
	for range rereads {
		if s.distrust == nil || !errors.Is(err, ErrCorrupt) {
			break
		}
		if derr := s.distrust(ctx, blob.Name(name.BlobName())); derr != nil {
			s.log.Warn("damaged bytes could not be dropped", "pack", name, "err", derr)
			break
		}
		err = fn()
	}
	return err
}

// moves is how often a reader follows a chunk from pack to pack before it gives up.
const moves = 64

// reader is what one read at a time needs.
type reader struct {
	opener *seal.Opener
	buf    []byte // sealed bytes
}

// room returns n bytes of r.buf, in which is what was there before. What has no room for them is left, and nothing of it copied.
func (r *reader) room(n int) []byte {
	if cap(r.buf) < n {
		size := n
		if n > seal.SegmentSize+seal.SegmentSize/8 { // whoever reads several segments soon reads as many as there can be
			size = max(n, readAhead*(seal.SegmentSize+64))
		}
		r.buf = make([]byte, size)
	}
	r.buf = r.buf[:n]
	return r.buf
}

// source is where the sealed bytes of one chunk lie at the moment.
type source struct {
	id   chunk.ID
	n    int64  // length of the sealed chunk
	view []byte // of an open pack; nil: in the bucket
	pack pack.Name
	off  int64 // in the pack
	s    *Store
}

// read fills p with the sealed bytes from off. Where the chunk is shorter, that is
// damage like any other: the places that are asked for follow from the Ref.
func (c *source) read(ctx context.Context, p []byte, off int64) error {
	if off+int64(len(p)) > c.n {
		return c.corrupt(seal.ErrTampered)
	}
	if c.view != nil {
		copy(p, c.view[off:])
		return nil
	}
	err := c.s.readBlob(ctx, blob.Name(c.pack.BlobName()), p, c.off+off)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return c.corrupt(fmt.Errorf("pack is too short: %w", seal.ErrTampered))
	}
	return err
}

// corrupt says where the damage lies.
func (c *source) corrupt(err error) error {
	if c.view != nil {
		return fmt.Errorf("%w: chunk %s in memory: %w", ErrCorrupt, c.id, err)
	}
	return fmt.Errorf("%w: chunk %s in pack %s: %w", ErrCorrupt, c.id, c.pack, err)
}

// readBlob fills p from off of the blob; io.ErrUnexpectedEOF says that it ends before.
func (s *Store) readBlob(ctx context.Context, name blob.Name, p []byte, off int64) error {
	r, err := s.bucket.Get(ctx, name, off, int64(len(p)))
	if err != nil {
		return err
	}
	_, err = io.ReadFull(r, p)
	if errors.Is(err, io.EOF) && len(p) > 0 {
		err = io.ErrUnexpectedEOF
	}
	if cerr := r.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("read blob %s: %w", name, err)
	}
	return nil
}

// locate finds the chunk in an open pack or in the index. done gives the open pack back.
func (s *Store) locate(ctx context.Context, id chunk.ID) (src source, done func(), ok bool, err error) {
	p, view, err := s.pin(ctx, id)
	if err != nil {
		return source{}, nil, false, err
	}
	if p != nil {
		return source{id: id, n: int64(len(view)), view: view, s: s}, func() { s.unpin(p) }, true, nil
	}
	loc, ok, err := s.lookup(ctx, id)
	return s.sourceOf(id, loc), func() {}, ok, err
}

// pin finds the chunk in an open pack and takes hold of that; nil if it is in none.
func (s *Store) pin(ctx context.Context, id chunk.ID) (p *openPack, view []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.closed {
			return nil, nil, ErrClosed
		}
		at, ok := s.pending[id]
		if !ok {
			return nil, nil, nil
		}
		if !at.pack.moving {
			at.pack.pins++
			return at.pack, at.pack.w.View(at.entry.Off, at.entry.Len), nil
		}
		wait := s.changed
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
	}
}

func (s *Store) sourceOf(id chunk.ID, loc index.Location) source {
	return source{id: id, n: int64(loc.Len), pack: loc.Pack, off: int64(loc.Off), s: s}
}

// with calls fn with the place of the chunk, and again with the new one if the pack is
// removed under it, or if the index was deceived about the place. An error of fn that wraps fs.ErrNotExist
// means that the pack is not there; ErrCorrupt, that other bytes are in this place.
func (s *Store) with(ctx context.Context, id chunk.ID, fn func(source) error) error {
	refreshed, doubted, looked := false, false, false
	var last pack.Name
	for range moves {
		src, done, ok, err := s.locate(ctx, id)
		if err != nil {
			return err
		}
		vanished := false
		if ok {
			err = fn(src)
			done()
			if src.view == nil {
				err = s.again(ctx, src.pack, err, func() error { return fn(src) })
			}
			if (errors.Is(err, ErrCorrupt) || errors.Is(err, fs.ErrNotExist)) && s.notNear(id) {
				continue // a head told where it was
			}
			if errors.Is(err, ErrCorrupt) && src.view == nil && !doubted {
				doubted = true
				if elsewhere, derr := s.doubt(ctx, id, src); derr == nil && elsewhere {
					continue
				}
			}
			if errors.Is(err, blob.ErrTemporary) && src.view == nil && !looked {
				looked = true
				if elsewhere, derr := s.away(ctx, id, src); derr == nil && elsewhere {
					continue
				}
			}
			if err == nil || !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			// Most likely the chunk was moved on: look again. Twice in the same
			// place means that the pack was taken from us.
			vanished = src.pack == last
			last = src.pack
			if !vanished {
				continue
			}
		}
		if refreshed {
			if !doubted {
				doubted = true
				switch elsewhere, err := s.doubt(ctx, id, src); {
				case err != nil:
					return err
				case elsewhere:
					continue
				}
			}
			return fmt.Errorf("%w: %s", ErrMissing, id)
		}
		refreshed = true
		if err := s.refreshAfterMiss(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %s", ErrMissing, id)
}

// refreshAfterMiss refreshes, unless a miss had that done just now.
func (s *Store) refreshAfterMiss(ctx context.Context) error {
	if err := s.lockMaintenance(ctx); err != nil {
		return err
	}
	defer s.unlockMaintenance()
	s.mu.Lock()
	early := s.pause - time.Since(s.missed)
	s.mu.Unlock()
	if early > 0 && s.renew == nil {
		return nil
	}
	if s.renew != nil {
		// The chunk may have been moved since the last look, so to wait for the next one is better than to give up.
		if err := sleep(ctx, early); err != nil {
			return err
		}
		if err := s.renew(ctx, false); err != nil {
			s.log.Warn("where other devices put their packs could not be looked at", "err", err)
		}
	}
	err := s.refresh(ctx)
	s.mu.Lock()
	s.missed = time.Now()
	s.mu.Unlock()
	return err
}

// sleep returns after d, or when ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Has reports whether the Store has the chunk. It does not read it.
func (s *Store) Has(ctx context.Context, id chunk.ID) (bool, error) {
	err := s.with(ctx, id, func(source) error { return nil })
	if errors.Is(err, ErrMissing) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for chunk: %w", err)
	}
	return true, nil
}

func checkRef(ref chunk.Ref) error {
	if !ref.Kind.Valid() || ref.Size > chunk.MaxSize {
		return fmt.Errorf("%w: kind %d, size %d", chunk.ErrRef, ref.Kind, ref.Size)
	}
	return nil
}

// Get appends the plain text of ref to dst and returns the longer slice. All of
// the chunk is checked against ref, its ID too: the error wraps ErrCorrupt if the
// stored bytes do not match, and ErrMissing if there are none.
func (s *Store) Get(ctx context.Context, dst []byte, ref chunk.Ref) ([]byte, error) {
	err := checkRef(ref)
	if err != nil {
		return dst, fmt.Errorf("get chunk: %w", err)
	}
	if ref.Size <= seal.SegmentSize {
		p, _, err := s.segment(ctx, ref, 0, 0)
		if err != nil {
			return dst, fmt.Errorf("get %s: %w", ref, err)
		}
		return append(dst, p...), nil
	}
	out := dst
	err = s.handy(ctx, ref.ID, func(src source) error {
		out, err = s.openChunk(ctx, dst, ref, src)
		return err
	})
	if err != nil {
		return dst, fmt.Errorf("get %s: %w", ref, err)
	}
	return out, nil
}

// openChunk reads the whole chunk and appends its plain bytes to dst.
func (s *Store) openChunk(ctx context.Context, dst []byte, ref chunk.Ref, src source) ([]byte, error) {
	r := s.readers.Get().(*reader)
	defer s.readers.Put(r)
	sealed := src.view
	if sealed == nil {
		if src.n > int64(seal.MaxSealed(ref.Size)) {
			return dst, src.corrupt(seal.ErrTampered)
		}
		sealed = r.room(int(src.n))
		if err := src.read(ctx, sealed, 0); err != nil {
			return dst, err
		}
	}
	out, err := r.opener.Open(dst, ref, sealed)
	if err != nil {
		return dst, src.corrupt(err)
	}
	return out, nil
}

// ReadAt reads len(p) plain bytes of ref from off into p, as io.ReaderAt does: it
// returns io.EOF with what there is if the chunk ends before. It reads only
// the segments that it needs, and keeps those in memory for a while of which p has room for a part only. Each is checked by
// itself; the ID of a chunk of several segments is not (see seal.Opener.Header).
func (s *Store) ReadAt(ctx context.Context, ref chunk.Ref, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read chunk at %d: %w", off, fs.ErrInvalid)
	}
	if err := checkRef(ref); err != nil {
		return 0, fmt.Errorf("read chunk: %w", err)
	}
	end := min(off+int64(len(p)), int64(ref.Size))
	last := int((end - 1) / seal.SegmentSize)
	n := 0
	var next [][]byte
	for off < end {
		no := int(off / seal.SegmentSize)
		var plain []byte
		if len(next) > 0 {
			plain, next = next[0], next[1:]
		} else {
			if k := whole(ref, off, end); k > 0 && !s.cache.has(ref, no) {
				c, err := s.direct(ctx, ref, no, k, p[n:n+int(end-off)])
				if err != nil {
					return n, fmt.Errorf("read %s: %w", ref, err)
				}
				n += c
				off += int64(c)
				continue
			}
			ahead := last - no
			if ahead > 1 {
				ahead = 0 // what follows is whole
			}
			var err error
			if plain, next, err = s.segment(ctx, ref, no, ahead); err != nil {
				return n, fmt.Errorf("read %s: %w", ref, err)
			}
		}
		c := copy(p[n:], plain[off-int64(no)*seal.SegmentSize:])
		n += c
		off += int64(c)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// whole returns how many segments of a chunk of several lie whole between off and end, from off on, and can be read in one step.
func whole(ref chunk.Ref, off, end int64) int {
	if ref.Size <= seal.SegmentSize || off%seal.SegmentSize != 0 {
		return 0
	}
	k := int((end - off) / seal.SegmentSize)
	if end == int64(ref.Size) && end%seal.SegmentSize != 0 {
		k++
	}
	return min(k, readAhead)
}

// direct reads k whole segments from no on into p, and returns how many bytes these are. They are not kept: whoever reads so much at
// once seldom wants it again, and memory that is used once is slow. If p wants a part of the segment after them, it is read in the same
// step, and kept, unless somebody has it or is about to.
func (s *Store) direct(ctx context.Context, ref chunk.Ref, no, k int, p []byte) (int, error) {
	if err := s.checkOpen(); err != nil {
		return 0, err
	}
	n := min(k*seal.SegmentSize, int(ref.Size)-no*seal.SegmentSize)
	plain := make([][]byte, k, readAhead+1)
	for i := range plain {
		from, to := i*seal.SegmentSize, min((i+1)*seal.SegmentSize, n)
		plain[i] = p[from:from:to]
	}
	var tail []*flight
	if len(p) > n && k < readAhead {
		if tail = s.cache.claim(ref, no+k); tail != nil {
			plain = append(plain, nil)
		}
	}
	load := func() error {
		return s.handy(ctx, ref.ID, func(src source) error { return s.load(ctx, ref, src, no, plain) })
	}
	if tail == nil {
		return n, load()
	}
	last, err := s.cache.fly(ref, no+k, tail, func(_ int, into [][]byte) error {
		err := load()
		into[0] = plain[k]
		return err
	})
	if err != nil {
		return 0, err
	}
	return n + copy(p[n:], last[0]), nil
}

// segment returns the plain bytes of segment no, from the cache if it can, and of
// those after it that were loaded with it, at most ahead. The chunk of 0 bytes has
// segment 0, too, which is empty.
func (s *Store) segment(ctx context.Context, ref chunk.Ref, no, ahead int) (plain []byte, next [][]byte, err error) {
	if err := s.checkOpen(); err != nil {
		return nil, nil, err
	}
	return s.cache.get(ctx, ref, no, ahead, func(no int, plain [][]byte) error {
		return s.handy(ctx, ref.ID, func(src source) error {
			if ref.Size <= seal.SegmentSize {
				p, err := s.openChunk(ctx, nil, ref, src)
				plain[0] = p
				return err
			}
			return s.load(ctx, ref, src, no, plain)
		})
	})
}

// load reads and opens consecutive segments, each to where plain has room for it, and to new memory where that is nil.
func (s *Store) load(ctx context.Context, ref chunk.Ref, src source, no int, plain [][]byte) error {
	r := s.readers.Get().(*reader)
	defer s.readers.Put(r)
	layout, ok := s.layouts.get(ref)
	if !ok {
		head := r.room(seal.HeaderSize(ref.Size))
		if err := src.read(ctx, head, 0); err != nil {
			return err
		}
		var err error
		if layout, err = r.opener.Header(ref, head); err != nil {
			return src.corrupt(err)
		}
		s.layouts.add(ref, layout)
	}
	from, _, _ := layout.Segment(no)
	off, n, _ := layout.Segment(no + len(plain) - 1)
	size := int(off + n - from)
	if err := src.read(ctx, r.room(size), from); err != nil {
		return err
	}
	for i := range plain {
		off, n, size := layout.Segment(no + i)
		dst := plain[i][:0]
		if dst == nil {
			dst = make([]byte, 0, size)
		}
		p, err := r.opener.OpenSegment(dst, layout, no+i, r.buf[off-from:off-from+n])
		if err != nil {
			return src.corrupt(err)
		}
		plain[i] = p
	}
	return nil
}
