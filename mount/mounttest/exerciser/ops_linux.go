package exerciser

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// modes are the flags of fallocate for each kind that uses it.
var modes = map[Kind]uint32{
	Reserve:  0,
	Keep:     unix.FALLOC_FL_KEEP_SIZE,
	Punch:    unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
	Zero:     unix.FALLOC_FL_ZERO_RANGE,
	ZeroKeep: unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
}

// do chooses the ranges of o, does it, and keeps r.want in step.
func (r *run) do(o *op) error {
	size := int64(len(r.want))
	switch o.kind {
	case Read, MapRead:
		o.off, o.n = r.rangeIn(size)
		if o.n == 0 {
			return nil
		}
		if o.kind == Read {
			return r.read(o)
		}
		return r.mapRead(o)
	case Write, MapWrite:
		o.off, o.n = r.rangeIn(r.MaxSize)
		p := r.bytes(o)
		if o.kind == Write {
			r.grow(o.off + o.n)
			copy(r.want[o.off:], p)
			return full(r.f.WriteAt(p, o.off))(len(p))
		}
		return r.mapWrite(o, p)
	case Append:
		o.off = size
		o.n = min(1+r.Int64N(r.MaxOp), r.MaxSize-size)
		p := r.bytes(o)
		r.want = append(r.want, p...)
		return full(r.app.Write(p))(len(p))
	case Truncate:
		o.off, _ = r.rangeIn(r.MaxSize)
		r.resize(o.off)
		return r.f.Truncate(o.off)
	case Reserve, Keep, Punch, Zero, ZeroKeep:
		return r.allocate(o)
	case Copy:
		return r.copy(o)
	case SeekHoles:
		return r.seekHoles()
	case Sync:
		if r.IntN(2) == 0 {
			o.comment = "fdatasync"
			return unix.Fdatasync(int(r.f.Fd()))
		}
		o.comment = "fsync"
		return r.f.Sync()
	case Drop:
		// The kernel drops only clean pages: half of the time all are made clean before.
		if r.IntN(2) == 0 {
			o.comment = "after fsync"
			if err := r.f.Sync(); err != nil {
				return err
			}
		}
		return unix.Fadvise(int(r.f.Fd()), 0, 0, unix.FADV_DONTNEED)
	default:
		if err := r.close(); err != nil {
			return err
		}
		return r.open(0)
	}
}

// full makes an error of a write that wrote less than it should.
func full(n int, err error) func(want int) error {
	return func(want int) error {
		if err == nil && n != want {
			err = fmt.Errorf("wrote %d of %d bytes: %w", n, want, io.ErrShortWrite)
		}
		return err
	}
}

// rangeIn chooses up to MaxOp bytes that lie below limit, often near the end of the
// file, a page, or the limit.
func (r *run) rangeIn(limit int64) (off, n int64) {
	if limit <= 0 {
		return 0, 0
	}
	switch r.IntN(6) {
	case 0:
		off = int64(len(r.want)) - r.Int64N(100)
	case 1:
		off = r.Int64N(limit) &^ (r.page - 1)
	case 2:
		off = (r.Int64N(limit) &^ (r.page - 1)) - 1
	default:
		off = r.Int64N(limit)
	}
	off = min(max(off, 0), limit-1)
	n = 1 + r.Int64N(r.MaxOp)
	switch r.IntN(6) {
	case 0:
		n = 1 + r.Int64N(min(r.MaxOp, 100))
	case 1:
		n = max(n&^(r.page-1), 1)
	case 2: // to the end of a page
		n = max((off+n)&^(r.page-1)-off, 1)
	}
	return off, min(n, limit-off)
}

// bytes makes what o writes. It tells the operation, so that a wrong byte shows where it is from.
func (r *run) bytes(o *op) []byte {
	p := make([]byte, o.n)
	mark := uint64(o.i+1) * 0x9e3779b97f4a7c15
	for i := range p {
		at := uint64(o.off) + uint64(i)
		p[i] = byte(mark>>(at%8*8)) ^ byte(at>>3) | 1
	}
	return p
}

// grow makes what should be there at least size bytes long.
func (r *run) grow(size int64) { r.resize(max(size, int64(len(r.want)))) }

// resize makes what should be there size bytes long.
func (r *run) resize(size int64) {
	if more := size - int64(len(r.want)); more > 0 {
		r.want = append(r.want, make([]byte, more)...)
	}
	r.want = r.want[:size]
}

func (r *run) read(o *op) error {
	f := r.f
	if r.IntN(3) == 0 {
		o.comment, f = "by the other file", r.other
	}
	got := make([]byte, o.n)
	n, err := f.ReadAt(got, o.off)
	if err != nil {
		return fmt.Errorf("read: got %d bytes: %w", n, err)
	}
	return r.same("read", got, o.off, o.n)
}

// mapped calls do with a shared map that holds o's range, which starts at skip.
func (r *run) mapped(o *op, prot int, do func(m []byte, skip int64) error) error {
	if r.IntN(2) == 0 {
		o.comment = "held map"
		start := o.off &^ (r.page - 1)
		end := min((o.off+o.n+r.page-1)&^(r.page-1), int64(len(r.held)))
		return do(r.held[start:end], o.off-start)
	}
	start := o.off &^ (r.page - 1)
	m, err := unix.Mmap(int(r.f.Fd()), start, int(o.off-start+o.n), prot, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	return errors.Join(do(m, o.off-start), unix.Munmap(m))
}

func (r *run) mapRead(o *op) error {
	return r.mapped(o, unix.PROT_READ, func(m []byte, skip int64) error {
		if err := r.same("map", m[skip:skip+o.n], o.off, o.n); err != nil {
			return err
		}
		// Behind the end the last page is zeros, as far as the map goes.
		end := int64(len(r.want))
		if behind := m[min(skip+end-o.off, int64(len(m))):]; o.off+o.n == end {
			behind = behind[:min(int64(len(behind)), -end&(r.page-1))]
			if len(bytes.TrimLeft(behind, "\x00")) > 0 {
				return &differs{fmt.Sprintf("map: behind the end at %#x are no zeros: %.32x", end, behind), end}
			}
		}
		return nil
	})
}

func (r *run) mapWrite(o *op, p []byte) error {
	if o.off+o.n > int64(len(r.want)) { // a map does not make a file longer
		r.grow(o.off + o.n)
		if err := r.f.Truncate(int64(len(r.want))); err != nil {
			return err
		}
	}
	copy(r.want[o.off:], p)
	return r.mapped(o, unix.PROT_READ|unix.PROT_WRITE, func(m []byte, skip int64) error {
		copy(m[skip:], p)
		if r.IntN(2) == 0 {
			o.comment += " with msync"
			return unix.Msync(m, unix.MS_SYNC)
		}
		return nil
	})
}

func (r *run) allocate(o *op) error {
	o.off, o.n = r.rangeIn(r.MaxSize)
	end, size := o.off+o.n, int64(len(r.want))
	switch o.kind {
	case Punch, Zero, ZeroKeep:
		clear(r.want[min(o.off, size):min(end, size)])
	}
	switch o.kind {
	case Reserve, Zero:
		r.grow(end)
	}
	return unix.Fallocate(int(r.f.Fd()), modes[o.kind], o.off, o.n)
}

func (r *run) copy(o *op) error {
	o.off, o.n = r.rangeIn(int64(len(r.want)))
	o.to, _ = r.rangeIn(r.MaxSize)
	o.n = min(o.n, r.MaxSize-o.to)
	if d := max(o.off-o.to, o.to-o.off); o.n > d {
		o.n = d // the two must not overlap
	}
	if o.n == 0 {
		return nil
	}
	src := bytes.Clone(r.want[o.off : o.off+o.n])
	r.grow(o.to + o.n)
	copy(r.want[o.to:], src)
	off, to, left := o.off, o.to, o.n
	for left > 0 {
		n, err := unix.CopyFileRange(int(r.f.Fd()), &off, int(r.f.Fd()), &to, int(left), 0)
		if err != nil {
			return fmt.Errorf("copy_file_range: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("copy_file_range: %d bytes are left: %w", left, io.ErrUnexpectedEOF)
		}
		left -= int64(n)
	}
	return nil
}

// seekHoles walks over the holes of the file. They may be taken for data, but data never
// for a hole.
func (r *run) seekHoles() error {
	size := int64(len(r.want))
	f, err := os.Open(r.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	for at := int64(0); at < size; {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data, err = size, nil
		}
		if err != nil {
			return fmt.Errorf("lseek for data: %w", err)
		}
		if data < at || data > size {
			return &differs{fmt.Sprintf("SEEK_DATA from %#x: got %#x, size is %#x", at, data, size), at}
		}
		if i := bytes.IndexFunc(r.want[at:data], func(c rune) bool { return c != 0 }); i >= 0 {
			return &differs{fmt.Sprintf("SEEK_DATA from %#x: got %#x, but there is data at %#x", at, data, at+int64(i)), at + int64(i)}
		}
		if data == size {
			return nil
		}
		hole, err := f.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("lseek for a hole: %w", err)
		}
		if hole <= data || hole > size {
			return &differs{fmt.Sprintf("SEEK_HOLE from %#x, which is data: got %#x, size is %#x", data, hole, size), data}
		}
		at = hole
	}
	return nil
}
