package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// After a sync that failed the system may have dropped the bytes and call their pages clean: no later sync of
// that file says anything of them. So all records that were not durable by then are written again,
// to a new segment, before anything else is done:
//
//  1. Make a segment under a name that no Open looks at. It begins with the first record that is not durable.
//  2. Write these records to it, from memory as far as they are there, else from the old segments. Each is checked.
//  3. Sync it, give it its name, and sync the folder.
//  4. From now on it takes the place of what the old segments have of these records.
//
// Until that has worked nothing is added and nothing acknowledged, and each Append, Rotate and Sync tries it
// again: when the disk is whole again, or has room again, all goes on by itself.
// A crash before 3 leaves the old segments, and in them what the system had not dropped; one after it leaves the new one.

const (
	holdSize  = 256 << 10 // bytes of one piece of held
	holdLimit = 16 << 20  // bytes of all of them
	newSuffix = ".new"    // of a segment that has not got its name yet
)

// held is a piece of what was written to a segment and may not be durable. There is
// room for the newest only: older records are read back from the file if need be.
type held struct {
	off int64
	b   []byte
}

// hold remembers bytes that were written to s. j.mu is held.
func (j *Journal) hold(s *segment, off int64, p []byte) {
	for len(p) > 0 {
		n := len(s.held)
		if n == 0 || s.held[n-1].off+int64(len(s.held[n-1].b)) != off || len(s.held[n-1].b) == cap(s.held[n-1].b) {
			b := j.holder()
			s.held = append(s.held, held{off: off, b: b})
			n = len(s.held)
		}
		h := &s.held[n-1]
		k := min(cap(h.b)-len(h.b), len(p))
		h.b = append(h.b, p[:k]...)
		p, off = p[k:], off+int64(k)
	}
}

// holder returns an empty buffer, if need be that of the oldest bytes. j.mu is held.
func (j *Journal) holder() []byte {
	if n := len(j.free); n > 0 {
		b := j.free[n-1]
		j.free = j.free[:n-1]
		return b
	}
	if j.holders < holdLimit/holdSize {
		j.holders++
		return make([]byte, 0, holdSize)
	}
	for _, s := range j.segs {
		if len(s.held) > 0 {
			b := s.held[0].b[:0]
			s.held = slices.Delete(s.held, 0, 1)
			return b
		}
	}
	return make([]byte, 0, holdSize)
}

// release forgets what s holds up to the offset end. j.mu is held.
func (j *Journal) release(s *segment, end int64) {
	n := 0
	for n < len(s.held) && s.held[n].off+int64(len(s.held[n].b)) <= end {
		if len(j.free) < 4 {
			j.free = append(j.free, s.held[n].b[:0])
		} else {
			j.holders--
		}
		n++
	}
	s.held = slices.Delete(s.held, 0, n)
}

// fetch fills p with the bytes of s at off, from memory or else from the file. j.mu is held.
func (s *segment) fetch(p []byte, off int64) error {
	at := 0
	for _, h := range s.held {
		if k := off + int64(at) - h.off; k >= 0 && k < int64(len(h.b)) {
			at += copy(p[at:], h.b[k:])
		}
	}
	if at == len(p) {
		return nil
	}
	if n, err := s.f.ReadAt(p, off); n < len(p) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read journal segment %s at %d: %w", s.name, off, err)
	}
	return nil
}

// openHeld is open for a record that may not be on the disk. j.mu is held.
func (s *segment) openHeld(b *sealed, off int64) (plain []byte, size int, err error) {
	b.buf = slices.Grow(b.buf[:0], recordHead)[:recordHead]
	if err := s.fetch(b.buf, off); err != nil {
		return nil, 0, err
	}
	n := binary.BigEndian.Uint32(b.buf)
	if n > maxSealed || off+recordHead+int64(n) > s.size {
		return nil, 0, fmt.Errorf("%w: segment %s at %d", ErrDamaged, s.name, off)
	}
	b.buf = slices.Grow(b.buf, int(n))[:recordHead+int(n)]
	if err := s.fetch(b.buf, off); err != nil {
		return nil, 0, err
	}
	if !b.whole(s, b.buf) {
		return nil, 0, fmt.Errorf("%w: segment %s at %d", ErrDamaged, s.name, off)
	}
	plain, err = s.decrypt(b, b.buf)
	return plain, len(b.buf), err
}

// rescue writes the records that are not durable again, durably. j.mu is held, and no sync is under way.
func (j *Journal) rescue() error {
	j.number++
	seg, err := createAs(j.o, j.number, j.synced+1, newSuffix)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	moved, err := j.copyUnsaved(seg)
	if err == nil {
		err = seg.f.Sync()
	}
	if err == nil {
		err = j.o.Dir.Rename(seg.name+newSuffix, seg.name)
	}
	if err == nil {
		err = j.o.Dir.Sync()
	}
	if err != nil {
		// If it has its name by now and keeps it, that harms nothing: the next one, which has all of this too, takes its place.
		_ = seg.f.Close()
		_, _ = j.o.Dir.Remove(seg.name+newSuffix), j.o.Dir.Remove(seg.name)
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	j.adopt(seg, moved)
	return nil
}

// copyUnsaved writes all records after j.synced to seg, and says where each has gone.
func (j *Journal) copyUnsaved(seg *segment) (map[*segment]map[int64]Pos, error) {
	moved := map[*segment]map[int64]Pos{}
	var from, to sealed
	for _, s := range j.segs {
		for off := s.syncedSize; off < s.size; {
			plain, size, err := s.openHeld(&from, off)
			if err != nil {
				return nil, err
			}
			lsn := binary.BigEndian.Uint64(from.buf[8:])
			if lsn < seg.first {
				off += int64(size) // durable elsewhere
				continue
			}
			if lsn != seg.last+1 {
				return nil, fmt.Errorf("%w: segment %s has record %d where %d was due", ErrDamaged, s.name, lsn, seg.last+1)
			}
			meta := int(binary.BigEndian.Uint32(plain[1:]))
			r := Record{Type: Type(plain[0]), Meta: plain[5 : 5+meta], Data: plain[5+meta:]}
			if err := to.seal(seg, []Record{r}, j.o.Entropy); err != nil {
				return nil, err
			}
			to.finishHeader(seg, to.buf, seg.last+1, j.synced)
			if _, err := seg.f.WriteAt(to.buf, seg.size); err != nil {
				return nil, fmt.Errorf("write journal: %w", err)
			}
			if moved[s] == nil {
				moved[s] = map[int64]Pos{}
			}
			moved[s][off] = Pos{seg: seg, off: seg.size}
			seg.size += int64(len(to.buf))
			seg.last++
			off += int64(size)
		}
	}
	if seg.last != j.next-1 {
		return nil, fmt.Errorf("%w: records %d to %d are nowhere", ErrDamaged, seg.last+1, j.next-1)
	}
	return moved, nil
}

// adopt makes seg, which has all records after j.synced and is durable, the last segment.
func (j *Journal) adopt(seg *segment, moved map[*segment]map[int64]Pos) {
	for s, m := range moved {
		s.moved.Store(&m)
	}
	var stay []*segment
	for _, s := range j.segs {
		j.release(s, math.MaxInt64)
		j.bytes.Add(s.syncedSize - s.size)
		s.size, s.last = s.syncedSize, min(s.last, j.synced)
		if s.size > headerSize && s.last >= s.first {
			stay = append(stay, s)
			continue
		}
		// What stays of it says nothing. Its file stays open for what points to it.
		j.bytes.Add(-s.size)
		j.unnamed.add(s)
		_ = j.o.Dir.Remove(s.name)
	}
	seg.syncedSize = seg.size
	j.segs = append(stay, seg)
	j.bytes.Add(seg.size)
	j.synced, j.failed = j.next-1, nil
}

// refresh writes the records that Open found, and of which none says that they are durable, again over
// themselves, so that the next sync means them. The Journal is not shared yet.
func (j *Journal) refresh() error {
	head := make([]byte, recordHead)
	for _, s := range j.segs {
		if s.last <= j.proved {
			continue
		}
		off := int64(headerSize)
		for s.first <= j.proved && off < s.size {
			if _, err := s.f.ReadAt(head, off); err != nil {
				return err
			}
			if binary.BigEndian.Uint64(head[8:]) > j.proved {
				break
			}
			off += recordHead + int64(binary.BigEndian.Uint32(head))
		}
		p := make([]byte, min(1<<20, s.size-off))
		for off < s.size {
			n := min(int64(len(p)), s.size-off)
			if _, err := s.f.ReadAt(p[:n], off); err != nil && (!errors.Is(err, io.EOF) || off+n > s.size) {
				return err
			}
			if _, err := s.f.WriteAt(p[:n], off); err != nil {
				return err
			}
			off += n
		}
	}
	return nil
}

// readHeld is ReadData for a record that the file does not have, as far as it is in memory.
func (j *Journal) readHeld(p Pos, b *sealed) ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if q, ok := p.now(); ok {
		p = q
	}
	plain, size, err := p.seg.openHeld(b, p.off)
	if err == nil && size != recordHead+int(p.size) {
		err = fmt.Errorf("%w: segment %s at %d", ErrDamaged, p.seg.name, p.off)
	}
	return plain, err
}

// now returns where the record of p is, if it was written again.
func (p Pos) now() (Pos, bool) {
	again := false
	for {
		m := p.seg.moved.Load()
		if m == nil {
			return p, again
		}
		to, ok := (*m)[p.off]
		if !ok {
			return p, again
		}
		p.seg, p.off, again = to.seg, to.off, true
	}
}
