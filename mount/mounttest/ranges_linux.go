package mounttest

import (
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

var rangeTests = []test{
	{"every mode of fallocate does what it says", func(s *suite) {
		if s.lacks(Allocate) {
			s.noAllocate()
			return
		}
		const size = 300_000
		for _, mode := range []uint32{
			0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
			unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
		} {
			for _, r := range [][2]int64{{0, size}, {1, 10}, {4096, 8192}, {5000, 200_000}, {250_000, 100_000}, {400_000, 5000}} {
				name := fmt.Sprintf("%d-%d-%d", mode, r[0], r[1])
				f := s.create(name)
				want := noise(1, size)
				s.writeAt(f, want, 0)
				if err := unix.Fallocate(int(f.Fd()), mode, r[0], r[1]); err != nil {
					s.Errorf("fallocate(%#x, %d, %d): %v", mode, r[0], r[1], err)
					continue
				}
				end := r[0] + r[1]
				if mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 {
					clear(want[min(r[0], size):min(end, size)])
				}
				if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
					want = append(want, make([]byte, max(end-size, 0))...)
				}
				s.reads(f, want)
				s.ok(f.Truncate(int64(len(want)) + 200_000))
				s.reads(f, append(want, make([]byte, 200_000)...))
				s.ok(f.Close())
				s.holds(name, append(want, make([]byte, 200_000)...))
			}
		}
	}},
	{"fallocate refuses what is no range", func(s *suite) {
		f := s.create("f")
		s.fails("no bytes", unix.Fallocate(int(f.Fd()), 0, 0, 0), unix.EINVAL)
		s.fails("before the start", unix.Fallocate(int(f.Fd()), 0, -1, 5), unix.EINVAL)
		r := s.open(s.path("f"), os.O_RDONLY)
		s.fails("open for reading", unix.Fallocate(int(r.Fd()), 0, 0, 5), unix.EBADF)
	}},
	{"a punched file takes less room", func(s *suite) {
		if s.lacks(Allocate) {
			s.Skip("nothing can be punched")
		}
		f := s.create("f")
		s.writeAt(f, noise(1, 8<<20), 0)
		s.ok(f.Sync())
		if full := s.stat("f").Blocks * 512; full < 8<<20 {
			s.Errorf("8 MiB take %d bytes", full)
		}
		s.ok(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 8<<20))
		s.ok(f.Sync())
		if left := s.stat("f").Blocks * 512; left > 1<<20 {
			s.Errorf("a hole of 8 MiB takes %d bytes", left)
		}
		same(s, "size", s.stat("f").Size, 8<<20)
	}},
	{"lseek finds data and holes", func(s *suite) {
		f := s.create("f")
		const data, second, size = 1 << 20, 40 << 20, 64 << 20
		s.writeAt(f, noise(1, data), 0)
		s.writeAt(f, noise(2, data), second)
		s.ok(f.Truncate(size))
		s.ok(f.Sync())
		if s.lacks(FindHoles) {
			for _, off := range []int64{0, 1000, 20 << 20, size - 1} {
				got, err := f.Seek(off, unix.SEEK_DATA)
				s.ok(err)
				same(s, "data", got, off)
				got, err = f.Seek(off, unix.SEEK_HOLE)
				s.ok(err)
				same(s, "hole", got, size)
			}
			_, err := unix.Seek(int(f.Fd()), size, unix.SEEK_DATA)
			s.fails("data at the end", err, unix.ENXIO)
			return
		}
		for _, x := range []struct {
			off      int64
			whence   int
			min, max int64
		}{
			{0, unix.SEEK_DATA, 0, 0},
			{1000, unix.SEEK_DATA, 1000, 1000},
			{20 << 20, unix.SEEK_DATA, 20 << 20, second},
			{second + 5, unix.SEEK_DATA, second + 5, second + 5},
			{0, unix.SEEK_HOLE, data, second - 1},
			{20 << 20, unix.SEEK_HOLE, 20 << 20, 20 << 20},
			{second, unix.SEEK_HOLE, second + data, size},
		} {
			got, err := f.Seek(x.off, x.whence)
			if err != nil || got < x.min || got > x.max {
				s.Errorf("lseek(%d, %d): got %d, %v, want %d to %d", x.off, x.whence, got, err, x.min, x.max)
			}
		}
		_, err := f.Seek(50<<20, unix.SEEK_DATA)
		s.fails("data where none follows", err, unix.ENXIO)
		for _, whence := range []int{unix.SEEK_DATA, unix.SEEK_HOLE} {
			for _, off := range []int64{size, -1, math.MinInt64} {
				_, err := unix.Seek(int(f.Fd()), off, whence)
				s.fails(fmt.Sprint("lseek from ", off), err, unix.ENXIO)
			}
		}
		s.ok(f.Truncate(data))
		got, err := f.Seek(0, unix.SEEK_HOLE)
		if got != data || err != nil {
			s.Errorf("the end as a hole: got %d, %v, want %d", got, err, data)
		}
	}},
	{"copy_file_range copies byte for byte", func(s *suite) {
		src := noise(1, 3<<20+5)
		s.write("from", src)
		from := s.open(s.path("from"), os.O_RDONLY)
		for _, x := range []struct{ off, dstOff, n int64 }{
			{0, 0, 3<<20 + 5}, {1, 3, 100_001}, {4096, 8192, 1 << 20}, {3 << 20, 0, 1000}, {5, 2<<20 + 1, 1 << 20}, {3<<20 + 5, 0, 10},
		} {
			s.ok(os.RemoveAll(s.path("to")))
			want := noise(2, 1<<20)
			s.write("to", want)
			to := s.open(s.path("to"), os.O_RDWR)
			left := max(min(x.n, int64(len(src))-x.off), 0)
			if left > 0 {
				want = append(want, make([]byte, max(x.dstOff+left-1<<20, 0))...)
				copy(want[x.dstOff:], src[x.off:x.off+left])
			}
			off, dstOff := x.off, x.dstOff
			for n := x.n; n > 0; {
				m, err := unix.CopyFileRange(int(from.Fd()), &off, int(to.Fd()), &dstOff, int(n), 0)
				s.ok(err)
				if m == 0 {
					break
				}
				n -= int64(m)
			}
			same(s, "copied", off-x.off, left)
			s.reads(to, want)
		}
	}},
	{"copy_file_range in one file needs two ranges", func(s *suite) {
		f := s.create("f")
		want := noise(1, 1<<20)
		s.writeAt(f, want, 0)
		off, dstOff := int64(0), int64(1000)
		_, err := unix.CopyFileRange(int(f.Fd()), &off, int(f.Fd()), &dstOff, 5000, 0)
		s.fails("overlapping", err, unix.EINVAL)
		for dstOff = 500_000; off < 200_000; {
			_, err := unix.CopyFileRange(int(f.Fd()), &off, int(f.Fd()), &dstOff, int(200_000-off), 0)
			s.ok(err)
		}
		copy(want[500_000:], want[:200_000])
		s.reads(f, want)
	}},
	{"a file that grows by copies and writes in turn is right", func(s *suite) {
		// The kernel may hold writes back that the copy has to see, and the other way round.
		f, g := s.create("f"), s.create("g")
		var want []byte
		for i := range 30 {
			p := noise(uint64(i), 7000)
			s.writeAt(f, p, int64(len(want)))
			want = append(want, p...)
			off, dstOff := int64(len(want)-7000), int64(len(want)-7000)
			n, err := unix.CopyFileRange(int(f.Fd()), &off, int(g.Fd()), &dstOff, 7000, 0)
			s.ok(err)
			same(s, "copied", n, 7000)
			s.writeAt(g, []byte("mark"), int64(len(want)-7000))
			copy(want[len(want)-7000:], "mark")
			s.writeAt(f, []byte("mark"), int64(len(want)-7000))
			s.reads(g, want)
		}
		s.reads(f, want)
	}},
	{"io.Copy between files, as programs copy", func(s *suite) {
		s.write("from", noise(1, 10<<20))
		to := s.create("to")
		n, err := io.Copy(to, s.open(s.path("from"), os.O_RDONLY)) // copy_file_range, or splice
		s.ok(err)
		same(s, "copied", n, 10<<20)
		s.holds("to", noise(1, 10<<20))
	}},
}
