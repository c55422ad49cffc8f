package vfstest

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sheaf-drive/sheaf/vfs"
)

var rangeTests = []test{
	{"every mode of Allocate does what it says, around every edge", func(s *suite) {
		for _, edge := range append([]int64{100}, edges...) {
			for mode := vfs.AllocReserve; mode <= vfs.AllocZeroKeep; mode++ {
				for i, r := range [][2]int64{ // offset and count
					{edge / 2, edge / 4},
					{edge - 1, 2},
					{0, edge},
					{edge, 5000},
					{edge / 2, edge * 2},
					{edge + 3000, 10_000},
				} {
					// Under the race detector, of what moves much, every edge and mode with two of the ranges.
					if underRace && edge > 1<<17 && (i+int(mode))%3 != 0 {
						continue
					}
					testAllocate(s, edge+1000, mode, r[0], r[1])
				}
			}
		}
	}},
	{"Allocate refuses what is no range", func(s *suite) {
		f, h := s.create(s.root, "f")
		s.write(h, []byte("data"), 0)
		for mode := vfs.AllocReserve; mode <= vfs.AllocZeroKeep; mode++ {
			s.fails("n = 0", h.Allocate(s.ctx, mode, 0, 0), fs.ErrInvalid)
			s.fails("n < 0", h.Allocate(s.ctx, mode, 0, -1), fs.ErrInvalid)
			s.fails("off < 0", h.Allocate(s.ctx, mode, -1, 5), fs.ErrInvalid)
			s.fails("over the end of the world", h.Allocate(s.ctx, mode, vfs.MaxSize, 1), vfs.ErrTooBig)
		}
		s.fails("no mode", h.Allocate(s.ctx, vfs.AllocZeroKeep+1, 0, 1), fs.ErrInvalid)
		s.holds(h, f, []byte("data"))
		s.ok(h.Close(s.ctx))
	}},
	{"what was punched is no longer counted", func(s *suite) {
		f, h := s.create(s.root, "f")
		const size = 16<<20 + 5
		s.write(h, noise(1, size), 0)
		s.ok(h.Sync(s.ctx))
		if b := s.attr(f).Bytes; b != size {
			s.Errorf("bytes of a file without holes: got %d, want %d", b, size)
		}
		s.ok(h.Allocate(s.ctx, vfs.AllocPunch, 0, size))
		s.ok(h.Sync(s.ctx))
		if b := s.attr(f).Bytes; b != 0 {
			s.Errorf("bytes of a file that is one hole: got %d, want 0", b)
		}
		s.same("size", s.attr(f).Size, int64(size))
		s.ok(h.Close(s.ctx))
	}},
	{"Seek finds data and holes", testSeek},
	{"the end of a file counts as a hole", func(s *suite) {
		_, h := s.create(s.root, "f")
		for _, size := range []int64{1, 4095, 4096, 4097, 1<<20 + 1} {
			s.write(h, noise(1, int(size)), 0)
			for _, off := range []int64{0, size - 1} {
				got, err := h.Seek(s.ctx, off, vfs.SeekHole)
				s.ok(err)
				s.same("hole", got, size)
			}
		}
		s.ok(h.Close(s.ctx))
	}},
	{"Seek refuses what is no offset", func(s *suite) {
		_, h := s.create(s.root, "f")
		for whence := vfs.SeekData; whence <= vfs.SeekHole; whence++ {
			_, err := h.Seek(s.ctx, 0, whence)
			s.fails("in an empty file", err, vfs.ErrNoData)
		}
		s.write(h, []byte("data"), 0)
		for whence := vfs.SeekData; whence <= vfs.SeekHole; whence++ {
			for _, off := range []int64{4, 5, 1 << 50, vfs.MaxSize} {
				_, err := h.Seek(s.ctx, off, whence)
				s.fails(fmt.Sprintf("from %d", off), err, vfs.ErrNoData)
			}
			_, err := h.Seek(s.ctx, -1, whence)
			s.fails("from before the start", err, fs.ErrInvalid)
		}
		_, err := h.Seek(s.ctx, 0, 9)
		s.fails("for nothing known", err, fs.ErrInvalid)
		s.ok(h.Close(s.ctx))
	}},
	{"a range of a huge hole is no work", func(s *suite) {
		f, h := s.create(s.root, "f")
		const tib = 1 << 40
		s.ok(h.Allocate(s.ctx, vfs.AllocZero, 0, tib))
		s.same("size", s.attr(f).Size, int64(tib))
		s.write(h, []byte("x"), tib/2)
		s.ok(h.Allocate(s.ctx, vfs.AllocPunch, 1, tib-1))
		s.ok(h.Allocate(s.ctx, vfs.AllocZeroKeep, 0, tib/2))
		_, err := h.Seek(s.ctx, 0, vfs.SeekData)
		if err != nil {
			s.fails("Seek", err, vfs.ErrNoData)
		}
		s.sameBytes("the punched byte", s.read(h, tib/2-1, 3), make([]byte, 3))
		s.ok(h.Close(s.ctx))
	}},
}

// testAllocate calls Allocate on a file of size bytes and looks at the result.
func testAllocate(s *suite, size int64, mode vfs.AllocMode, off, n int64) {
	s.Helper()
	f, h := s.create(s.root, "f")
	want := noise(uint64(size), int(size))
	s.write(h, want, 0)
	if err := h.Allocate(s.ctx, mode, off, n); err != nil {
		s.Fatalf("Allocate(%d, %d, %d) of %d bytes: %v", mode, off, n, size, err)
	}
	switch mode {
	case vfs.AllocPunch, vfs.AllocZero, vfs.AllocZeroKeep:
		clear(want[min(off, size):min(off+n, size)])
	}
	switch mode {
	case vfs.AllocReserve, vfs.AllocZero:
		want = append(want, make([]byte, max(off+n-size, 0))...)
	}
	s.holds(h, f, want)
	// What lies beyond the end must be zeros when the file grows.
	s.ok(h.Truncate(s.ctx, off+n+size))
	s.holds(h, f, append(want, make([]byte, off+n+size-int64(len(want)))...))
	s.ok(h.Close(s.ctx))
	s.ok(s.root.Remove(s.ctx, "f", false))
	if s.Failed() {
		s.Fatalf("this was Allocate(%d, %d, %d) of %d bytes", mode, off, n, size)
	}
}

func testSeek(s *suite) {
	f, h := s.create(s.root, "f")
	// Data, a big hole, data, a hole at the end.
	const data, size = 100_000, 64 << 20
	const second = 40 << 20
	s.write(h, noise(1, data), 0)
	s.write(h, noise(2, data), second)
	s.ok(h.Truncate(s.ctx, size))
	check := func() {
		s.Helper()
		inData := func(off int64) bool { return off < data || off >= second && off < second+data }
		for _, off := range []int64{
			0, 1, data - 1, data, data + 1, 20 << 20, second - 1, second, second + data - 1, second + data, size - 1,
		} {
			got, err := h.Seek(s.ctx, off, vfs.SeekData)
			next := off // the first byte that is data for sure
			for next < size && !inData(next) {
				if next < second {
					next = second
				} else {
					next = size
				}
			}
			switch {
			case err != nil && next < size:
				s.Errorf("SeekData from %d: got %v, want at most %d", off, err, next)
			case err != nil:
				s.fails("SeekData", err, vfs.ErrNoData)
			case got < off || got > next || got >= size:
				s.Errorf("SeekData from %d: got %d, want at least that and at most %d", off, got, next)
			}
			got, err = h.Seek(s.ctx, off, vfs.SeekHole)
			switch {
			case err != nil:
				s.Errorf("SeekHole from %d: %v", off, err)
			case got < off || got > size || got < size && inData(got):
				s.Errorf("SeekHole from %d: got %d, which is no hole after it", off, got)
			}
		}
	}
	check()
	s.ok(h.Sync(s.ctx))
	check()
	// A hole of this size must be found, however coarse the store is.
	got, err := h.Seek(s.ctx, 20<<20, vfs.SeekHole)
	if got != 20<<20 || err != nil {
		s.Errorf("SeekHole in the hole: got %d, %v", got, err)
	}
	if b := s.attr(f).Bytes; b < 2*data || b > size/2 {
		s.Errorf("bytes of data: got %d, want about %d", b, 2*data)
	}
	s.ok(h.Truncate(s.ctx, second))
	_, err = h.Seek(s.ctx, 20<<20, vfs.SeekData)
	if err == nil || !errors.Is(err, vfs.ErrNoData) {
		s.Errorf("SeekData in the last hole: got %v, want ErrNoData", err)
	}
	s.ok(h.Close(s.ctx))
}
