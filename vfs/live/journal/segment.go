package journal

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// A segment file: a header of 64 bytes, then records.
//
//	0   8  "SHEAFJL1" or "SHEAFJL2": the suite
//	8   8  number of the segment
//	16  8  LSN of its first record
//	24  32 salt
//	56  8  first 8 bytes of the keyed hash of bytes 0..55
//
// A record:
//
//	0   4  length n of the sealed part
//	4   4  zero
//	8   8  LSN
//	16  8  the highest LSN known durable when it was written
//	24  24 nonce of the suite's length, then zeros
//	48  16 first 16 bytes of the keyed hash of number, bytes 0..47 and the sealed part's last 16
//	64  n  sealed: type (1), length of meta (4), meta, data
//
// All numbers are big endian.
const (
	headerSize = 64
	recordHead = 64
)

// create makes a segment, durably.
func create(o Options, number uint64, first LSN) (*segment, error) {
	s, err := createAs(o, number, first, "")
	if err != nil {
		return nil, err
	}
	// The header is durable before a record follows it. So a segment without a
	// whole header, if there is something behind it, was damaged and not torn.
	if err = s.f.Sync(); err == nil {
		err = o.Dir.Sync()
	}
	if err != nil {
		_ = s.f.Close()
		_ = o.Dir.Remove(s.name)
		return nil, err
	}
	s.syncedSize = headerSize
	return s, nil
}

// createAs makes a segment whose file's name ends in suffix as well. Nothing of it is durable.
func createAs(o Options, number uint64, first LSN, suffix string) (*segment, error) {
	s := &segment{name: fmt.Sprintf("%016x.wal", number), number: number, first: first, last: first - 1, size: headerSize}
	var h [headerSize]byte
	copy(h[:], o.Suite.magic())
	binary.BigEndian.PutUint64(h[8:], number)
	binary.BigEndian.PutUint64(h[16:], first)
	if _, err := io.ReadFull(o.Entropy, h[24:56]); err != nil {
		return nil, fmt.Errorf("draw salt: %w", err)
	}
	if err := s.setKeys(&o.Key, o.Suite, h[24:56]); err != nil {
		return nil, err
	}
	sum := kdf.Keyed(&s.macKey, h[:56])
	copy(h[56:], sum[:8])
	f, err := o.Dir.Create(s.name + suffix)
	if err != nil {
		return nil, err
	}
	s.f = f
	if _, err = f.WriteAt(h[:], 0); err != nil {
		_ = f.Close()
		_ = o.Dir.Remove(s.name + suffix)
		return nil, err
	}
	return s, nil
}

// A sealed holds records that are encrypted but have no LSN yet, and the buffer of a read.
type sealed struct {
	buf   []byte
	plain []byte
	parts []part
	mac   *kdf.Mac // under macKey; nil: none yet
	under [32]byte
}

type part struct{ off, size, skip, n int }

func (b *sealed) seal(s *segment, recs []Record, entropy io.Reader) error {
	b.buf, b.parts = b.buf[:0], b.parts[:0]
	for _, r := range recs {
		if len(r.Meta) > MaxMeta || len(r.Data) > MaxData {
			return fmt.Errorf("journal record of %d + %d bytes is too large", len(r.Meta), len(r.Data))
		}
		skip := 5 + len(r.Meta)
		p := part{off: len(b.buf), size: skip + len(r.Data) + overhead, skip: skip, n: len(r.Data)}
		b.buf = slices.Grow(b.buf, recordHead+p.size)
		b.buf = b.buf[:p.off+recordHead]
		h := b.buf[p.off:]
		clear(h[:recordHead])
		binary.BigEndian.PutUint32(h, uint32(p.size))
		nonce := h[24 : 24+s.aead.NonceSize()]
		if _, err := io.ReadFull(entropy, nonce); err != nil {
			return fmt.Errorf("draw nonce: %w", err)
		}
		b.buf = append(b.buf, byte(r.Type))
		b.buf = binary.BigEndian.AppendUint32(b.buf, uint32(len(r.Meta)))
		b.buf = append(b.buf, r.Meta...)
		b.buf = append(b.buf, r.Data...)
		text := b.buf[p.off+recordHead:]
		b.buf = s.aead.Seal(b.buf[:p.off+recordHead], nonce, text, nil)
		b.parts = append(b.parts, p)
	}
	return nil
}

// finishHeader fills in what is only known when the record gets its place. rec begins at the header.
func (b *sealed) finishHeader(s *segment, rec []byte, lsn, synced LSN) {
	binary.BigEndian.PutUint64(rec[8:], lsn)
	binary.BigEndian.PutUint64(rec[16:], synced)
	n := binary.BigEndian.Uint32(rec)
	mac := b.macOf(s, rec[:48], rec[recordHead+n-16:recordHead+n])
	copy(rec[48:64], mac[:])
}

// macOf binds a header to its segment and, by the tag, to its sealed part.
func (b *sealed) macOf(s *segment, head, tag []byte) [16]byte {
	if b.mac == nil || b.under != s.macKey {
		b.mac, b.under = kdf.NewMac(&s.macKey), s.macKey
	}
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], s.number)
	sum := b.mac.Sum(number[:], head, tag)
	return [16]byte(sum[:16])
}

// open returns the plain part of the record at off, in memory of b.
func (s *segment) open(b *sealed, off int64, size int) ([]byte, error) {
	b.buf = slices.Grow(b.buf[:0], recordHead+size)[:recordHead+size]
	if n, err := s.f.ReadAt(b.buf, off); n < len(b.buf) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read journal segment %s at %d: %w", s.name, off, err)
	}
	if int(binary.BigEndian.Uint32(b.buf)) != size || !b.whole(s, b.buf) {
		return nil, fmt.Errorf("%w: segment %s at %d", ErrDamaged, s.name, off)
	}
	return s.decrypt(b, b.buf)
}

func (b *sealed) whole(s *segment, rec []byte) bool {
	mac := b.macOf(s, rec[:48], rec[len(rec)-16:])
	return subtle.ConstantTimeCompare(mac[:], rec[48:64]) == 1
}

func (s *segment) decrypt(b *sealed, rec []byte) ([]byte, error) {
	plain, err := s.aead.Open(b.plain[:0], rec[24:24+s.aead.NonceSize()], rec[recordHead:], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: segment %s: record does not open", ErrDamaged, s.name)
	}
	b.plain = plain
	if len(plain) < 5 || int64(binary.BigEndian.Uint32(plain[1:])) > int64(len(plain)-5) {
		return nil, fmt.Errorf("%w: segment %s: malformed record", ErrDamaged, s.name)
	}
	return plain, nil
}

// load opens a segment that is there. It returns nil, nil if its header is torn.
func load(o Options, name string) (s *segment, err error) {
	f, err := o.Dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if s == nil {
			_ = f.Close()
		}
	}()
	var h [headerSize]byte
	if _, err := f.ReadAt(h[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read journal segment %s: %w", name, err)
	}
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size journal segment %s: %w", name, err)
	}
	s, err = parseHeader(o, name, h[:])
	if err != nil && size <= headerSize {
		return nil, nil // a crash came while the segment was made; nothing was in it
	}
	if err != nil {
		return nil, err
	}
	s.f = f
	return s, nil
}

func parseHeader(o Options, name string, h []byte) (*segment, error) {
	s := &segment{name: name, number: binary.BigEndian.Uint64(h[8:]), first: binary.BigEndian.Uint64(h[16:])}
	s.last = s.first - 1
	damaged := fmt.Errorf("%w: segment %s has no valid header", ErrDamaged, name)
	suite, ok := suiteOf(h)
	if !ok {
		return nil, damaged
	}
	if err := s.setKeys(&o.Key, suite, h[24:56]); err != nil {
		return nil, err
	}
	sum := kdf.Keyed(&s.macKey, h[:56])
	if subtle.ConstantTimeCompare(sum[:8], h[56:]) != 1 || name != fmt.Sprintf("%016x.wal", s.number) {
		return nil, damaged
	}
	return s, nil
}

// recover loads the segments and replays their records.
func (j *Journal) recover(ctx context.Context, from LSN, replay func(Replayed) error) error {
	names, err := j.o.Dir.List()
	if err != nil {
		return fmt.Errorf("list journal: %w", err)
	}
	slices.Sort(names)
	for _, n := range names {
		if strings.HasSuffix(n, ".wal"+newSuffix) {
			if err := j.o.Dir.Remove(n); err != nil {
				return fmt.Errorf("remove unfinished journal segment: %w", err)
			}
		}
		if number, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSuffix(n, newSuffix), ".wal"), 16, 64); err == nil {
			j.number = max(j.number, number)
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".wal") })
	all, err := j.loadAll(names)
	defer func() {
		for _, s := range all {
			if !s.retired && !slices.Contains(j.segs, s) {
				_ = s.f.Close()
			}
		}
	}()
	if err != nil {
		return err
	}
	all, err = j.dropOld(all, from)
	if err != nil {
		return err
	}
	for i, s := range all {
		// Where a later segment begins, it goes on: what this one has behind that was written again,
		// or should never have been.
		until := LSN(math.MaxUint64)
		for _, later := range all[i+1:] {
			until = min(until, later.first-1)
		}
		if until < s.first {
			if err := j.retire(s); err != nil {
				return err
			}
			continue
		}
		if s.first > j.next {
			return fmt.Errorf("%w: records %d to %d are missing", ErrDamaged, j.next, s.first-1)
		}
		bad, err := j.replaySegment(ctx, s, from, until, replay)
		if err != nil {
			return err
		}
		if s.last < from {
			// A power cut took the end of the journal after its records had gone
			// into packs. A commit ends its segment, so nothing newer was in it.
			if err := j.retire(s); err != nil {
				return err
			}
			continue
		}
		j.segs = append(j.segs, s)
		j.bytes.Add(s.size)
		j.next = max(j.next, s.last+1)
		if s.last == until {
			continue // a torn end, if there is one, was found and given up earlier
		}
		if bad || i+1 < len(all) {
			return j.giveUp(s, all[i+1:])
		}
	}
	return nil
}

// retire drops a segment of which nothing is needed.
func (j *Journal) retire(s *segment) error {
	s.retired = true
	_ = s.f.Close()
	if err := j.o.Dir.Remove(s.name); err != nil {
		return fmt.Errorf("drop old journal segment: %w", err)
	}
	return nil
}

// loadAll opens the segments. One is removed if a crash or a failure came while it was made: it has no header and
// nothing else. If records were in it, they are missed when those of the next segment do not follow.
func (j *Journal) loadAll(names []string) (all []*segment, err error) {
	for _, name := range names {
		s, err := load(j.o, name)
		if err != nil {
			return all, err
		}
		if s == nil {
			if err := j.o.Dir.Remove(name); err != nil {
				return all, fmt.Errorf("remove torn journal segment: %w", err)
			}
			continue
		}
		all = append(all, s)
	}
	return all, nil
}

// dropOld removes the segments that hold nothing after from.
func (j *Journal) dropOld(all []*segment, from LSN) ([]*segment, error) {
	for len(all) > 1 && all[1].first <= from+1 {
		s := all[0]
		all = all[1:]
		if err := j.retire(s); err != nil {
			return all, err
		}
	}
	return all, nil
}

// giveUp decides what a record that is not whole means: the end that a crash tore, whose
// rest is dropped, or damage.
func (j *Journal) giveUp(s *segment, later []*segment) error {
	lost := j.next
	for _, c := range append([]*segment{s}, later...) {
		from := int64(headerSize)
		if c == s {
			from = s.size
		}
		durable, err := c.findMark(from, lost)
		if err != nil {
			return err
		}
		if durable {
			return fmt.Errorf("%w: record %d was durable and does not read back (segment %s says so)", ErrDamaged, lost, c.name)
		}
	}
	for _, c := range later {
		if err := j.retire(c); err != nil {
			return err
		}
	}
	return nil
}

// replaySegment hands the records of s after from and up to until to replay. It sets s.size to the end of
// the last whole record and reports whether anything follows it.
func (j *Journal) replaySegment(ctx context.Context, s *segment, from, until LSN, replay func(Replayed) error) (bad bool, err error) {
	size, err := s.f.Size()
	if err != nil {
		return false, fmt.Errorf("size journal segment: %w", err)
	}
	var b sealed
	off := int64(headerSize)
	s.size, s.syncedSize = off, off
	for off < size && s.last < until {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		rec, ok, err := s.read(&b, off, size)
		if err != nil {
			return false, err
		}
		if !ok || binary.BigEndian.Uint64(rec[8:]) != s.last+1 {
			return true, nil
		}
		plain, err := s.decrypt(&b, rec)
		if err != nil {
			return true, nil //nolint:nilerr // a record that does not open is one that is not whole
		}
		s.last++
		j.proved = max(j.proved, binary.BigEndian.Uint64(rec[16:]))
		meta := int(binary.BigEndian.Uint32(plain[1:]))
		if t := Type(plain[0]); s.last > from && t != typeMark {
			r := Replayed{LSN: s.last, Record: Record{Type: t, Meta: plain[5 : 5+meta], Data: plain[5+meta:]}}
			r.Pos = Pos{seg: s, off: off, size: uint32(len(rec) - recordHead), skip: uint32(5 + meta), n: uint32(len(r.Data))}
			if err := replay(r); err != nil {
				return false, fmt.Errorf("replay journal record %d: %w", s.last, err)
			}
		}
		off += int64(len(rec))
		s.size, s.syncedSize = off, off
	}
	return false, nil
}

// read returns the record at off, if it is whole.
func (s *segment) read(b *sealed, off, size int64) (rec []byte, ok bool, err error) {
	if size-off < recordHead {
		return nil, false, nil
	}
	b.buf = slices.Grow(b.buf[:0], recordHead)[:recordHead]
	if _, err := s.f.ReadAt(b.buf, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, false, fmt.Errorf("read journal segment %s: %w", s.name, err)
	}
	n := int64(binary.BigEndian.Uint32(b.buf))
	if n < overhead+5 || n > maxSealed || off+recordHead+n > size {
		return nil, false, nil
	}
	b.buf = slices.Grow(b.buf, int(n))[:recordHead+n]
	if _, err := s.f.ReadAt(b.buf[recordHead:], off+recordHead); err != nil && !errors.Is(err, io.EOF) {
		return nil, false, fmt.Errorf("read journal segment %s: %w", s.name, err)
	}
	return b.buf, b.whole(s, b.buf), nil
}

// findMark searches the bytes of s from off on for a whole record that says that lost was
// durable. It looks at every offset, for the length of a damaged record cannot be believed.
func (s *segment) findMark(off int64, lost LSN) (bool, error) {
	size, err := s.f.Size()
	if err != nil {
		return false, fmt.Errorf("size journal segment: %w", err)
	}
	var b sealed
	const window = 1 << 20
	buf := make([]byte, window+recordHead)
	for at := off; at < size; at += window {
		n, err := s.f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("read journal segment %s: %w", s.name, err)
		}
		for i := 0; i < window && i+recordHead <= n; i++ {
			h := buf[i:]
			length := binary.BigEndian.Uint32(h)
			if length < overhead+5 || length > maxSealed || binary.BigEndian.Uint32(h[4:]) != 0 {
				continue
			}
			lsn, synced := binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint64(h[16:])
			if lsn <= lost || synced < lost || synced > lsn {
				continue
			}
			if _, ok, err := s.read(&b, at+int64(i), size); err != nil || ok {
				return ok, err
			}
		}
	}
	return false, nil
}
