package vfstest

import (
	"io/fs"

	"github.com/sheaf-drive/sheaf/vfs"
)

var copyTests = []test{
	{"a range is copied byte for byte, wherever it starts and ends", func(s *suite) {
		const size = 5<<20 + 777
		f, from := s.create(s.root, "from")
		src := noise(1, size)
		s.write(from, src, 0)
		for _, x := range []struct{ off, dstOff, n, dstSize int64 }{
			{0, 0, size, 0},                          // all of it
			{0, 0, size, size + 1000},                // over something longer
			{1, 0, 1000, 0},                          // a bit
			{4095, 1, 4098, 10_000},                  // across pages
			{1<<20 - 1, 3, 3 << 20, 2 << 20},         // parts of chunks at both ends
			{100_000, 100_000, 2_000_000, 50_000},    // beyond the end of the target
			{size - 10, 7, 1000, 100},                // only what is there
			{size, 0, 1000, 100},                     // nothing is there
			{vfs.MaxSize, 0, 1, 100},                 // nor there
			{0, 0, 0, 100},                           // nothing is wanted
			{2_000_000, 4<<20 - 1, 1 << 20, 6 << 20}, // into the middle
		} {
			g, to := s.create(s.root, "to")
			want := noise(2, int(x.dstSize))
			s.write(to, want, 0)
			n, err := from.CopyTo(s.ctx, x.off, to, x.dstOff, x.n)
			s.ok(err)
			wantN := min(x.n, max(size-x.off, 0))
			s.same("count", n, wantN)
			if wantN > 0 {
				if more := x.dstOff + wantN - x.dstSize; more > 0 {
					want = append(want, make([]byte, more)...)
				}
				copy(want[x.dstOff:], src[x.off:x.off+wantN])
			}
			s.holds(to, g, want)
			// The two share nothing that a write would show.
			if wantN > 0 {
				s.write(to, []byte{0}, x.dstOff)
				s.sameBytes("source", s.read(from, x.off, 1), src[x.off:x.off+1])
			}
			s.ok(to.Close(s.ctx))
			s.ok(s.root.Remove(s.ctx, "to", false))
			if s.Failed() {
				s.Fatalf("this was %+v", x)
			}
		}
		s.holds(from, f, src)
		s.ok(from.Close(s.ctx))
	}},
	{"a file can be copied within itself if the ranges do not overlap", func(s *suite) {
		f, h := s.create(s.root, "f")
		want := noise(1, 3<<20)
		s.write(h, want, 0)
		other := s.open(f, vfs.OpenRead|vfs.OpenWrite)
		for _, x := range [][3]int64{{0, 100, 101}, {100, 0, 101}, {5, 5, 1}, {0, 1 << 20, 2 << 20}, {3<<20 - 50, 3<<20 - 10, 1000}} {
			for _, to := range []vfs.Handle{h, other} {
				_, err := h.CopyTo(s.ctx, x[0], to, x[1], x[2])
				s.fails("overlapping", err, fs.ErrInvalid)
			}
		}
		s.holds(h, f, want)
		for _, x := range [][3]int64{
			{0, 100, 100}, {100, 0, 100}, {1, 1<<20 + 1, 1 << 20}, {0, 3 << 20, 1 << 20}, {1<<20 + 5, 4<<20 + 3, 3<<20 - 5},
		} {
			n, err := h.CopyTo(s.ctx, x[0], other, x[1], x[2])
			s.ok(err)
			s.same("count", n, x[2])
			if more := x[1] + x[2] - int64(len(want)); more > 0 {
				want = append(want, make([]byte, more)...)
			}
			copy(want[x[1]:], want[x[0]:x[0]+x[2]])
			s.holds(h, f, want)
		}
		// Only what is left of the source counts: 10 bytes, to just behind them.
		end := int64(len(want))
		n, err := h.CopyTo(s.ctx, end-10, h, end, 1<<20)
		s.ok(err)
		s.same("count", n, int64(10))
		s.holds(h, f, append(want, want[end-10:]...))
		s.ok(h.Close(s.ctx))
	}},
	{"a copied hole reads as zeros", func(s *suite) {
		_, from := s.create(s.root, "from")
		const hole = 32 << 20
		s.write(from, []byte("a"), 0)
		s.write(from, []byte("z"), hole)
		g, to := s.create(s.root, "to")
		s.write(to, noise(1, 1<<20), hole/2)
		n, err := from.CopyTo(s.ctx, 0, to, 0, hole+1)
		s.ok(err)
		s.same("count", n, int64(hole+1))
		want := make([]byte, hole+1)
		want[0], want[hole] = 'a', 'z'
		s.holds(to, g, want)
		s.ok(to.Close(s.ctx))
		s.ok(from.Close(s.ctx))
	}},
	{"what cannot be copied is refused", func(s *suite) {
		f, h := s.create(s.root, "f")
		s.write(h, []byte("data"), 0)
		for _, x := range [][3]int64{{-1, 0, 1}, {0, -1, 1}, {0, 0, -1}} {
			_, err := h.CopyTo(s.ctx, x[0], h, x[1], x[2])
			s.fails("a negative figure", err, fs.ErrInvalid)
		}
		_, err := h.CopyTo(s.ctx, 0, h, vfs.MaxSize-1, 4)
		s.fails("beyond the biggest size", err, vfs.ErrTooBig)
		other := newSuite(s.T, stranger())
		_, strange := other.create(other.root, "x")
		_, err = h.CopyTo(s.ctx, 0, strange, 0, 4)
		s.fails("to another tree", err, vfs.ErrCrossTree)
		s.holds(h, f, []byte("data"))
		s.ok(h.Close(s.ctx))
	}},
	{"what was removed can still be copied", func(s *suite) {
		f, from := s.create(s.root, "from")
		s.write(from, noise(1, 200_000), 0)
		g, to := s.create(s.root, "to")
		s.ok(s.root.Remove(s.ctx, "from", false))
		_, err := from.CopyTo(s.ctx, 0, to, 0, 200_000)
		s.ok(err)
		s.ok(from.Close(s.ctx))
		s.holds(to, g, noise(1, 200_000))
		s.same("nlink", s.attr(f).Nlink, uint32(0))
		s.ok(to.Close(s.ctx))
	}},
}
