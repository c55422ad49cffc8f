package vfstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/sheaf-drive/sheaf/vfs"
)

// edges are sizes around which stores cut files.
var edges = []int64{4 << 10, 64 << 10, 128 << 10, 1 << 20, 4 << 20}

var fileTests = []test{
	{"bytes are read as they were written, around every edge", func(s *suite) {
		for _, edge := range edges {
			for _, off := range []int64{edge - 1, edge, edge + 1} {
				f, h := s.create(s.root, "f")
				want := make([]byte, off, off+5000)
				p := noise(uint64(off), 5000)
				s.write(h, p, off)
				want = append(want, p...)
				s.holds(h, f, want)
				q := noise(uint64(off)+1, 300)
				s.write(h, q, off-150)
				copy(want[off-150:], q)
				s.holds(h, f, want)
				s.sameBytes("across the edge", s.read(h, edge-200, 400), want[edge-200:edge+200])
				s.ok(h.Close(s.ctx))
				s.holds(s.open(f, vfs.OpenRead), f, want)
				s.ok(s.root.Remove(s.ctx, "f", false))
			}
		}
	}},
	{"a big write is whole", func(s *suite) {
		f, h := s.create(s.root, "f")
		want := noise(7, 9<<20+123)
		s.write(h, want, 0)
		s.holds(h, f, want)
		s.ok(h.Sync(s.ctx))
		s.holds(h, f, want)
		s.ok(h.Close(s.ctx))
		s.holds(s.open(f, vfs.OpenRead), f, want)
	}},
	{"the buffer of a write belongs to the caller again", func(s *suite) {
		f, h := s.create(s.root, "f")
		for _, n := range []int{10, 5000, 3 << 20} {
			want := noise(uint64(n), n)
			buf := bytes.Clone(want)
			s.write(h, buf, 0)
			clear(buf)
			s.holds(h, f, want)
		}
		s.ok(h.Close(s.ctx))
	}},
	{"a write is seen at once through every other handle", func(s *suite) {
		f, h := s.create(s.root, "f")
		r := s.open(f, vfs.OpenRead)
		w := s.open(f, vfs.OpenWrite)
		s.write(h, []byte("hello"), 0)
		s.holds(r, f, []byte("hello"))
		s.write(w, []byte("J"), 0)
		s.holds(h, f, []byte("Jello"))
		s.ok(w.Truncate(s.ctx, 2))
		s.holds(r, f, []byte("Je"))
		s.ok(h.Close(s.ctx))
	}},
	{"a read ends at the end of the file", testReadEnd},
	{"what lies between the end and a write is zeros", func(s *suite) {
		f, h := s.create(s.root, "f")
		s.write(h, []byte("abc"), 0)
		s.write(h, []byte("xyz"), 10_000)
		want := append(append([]byte("abc"), make([]byte, 9997)...), "xyz"...)
		s.holds(h, f, want)
		s.ok(h.Close(s.ctx))
	}},
	{"what a truncation cut off does not come back", func(s *suite) {
		for _, edge := range append([]int64{10}, edges...) {
			f, h := s.create(s.root, "f")
			want := noise(1, int(edge)+1000)
			s.write(h, want, 0)
			for _, size := range []int64{edge + 1, edge, edge - 1, 1, 0} {
				s.ok(h.Truncate(s.ctx, size))
				s.holds(h, f, want[:size])
				s.ok(h.Truncate(s.ctx, size+777))
				s.holds(h, f, append(want[:size:size], make([]byte, 777)...))
				s.ok(h.Truncate(s.ctx, size))
			}
			s.ok(h.Close(s.ctx))
			s.ok(s.root.Remove(s.ctx, "f", false))
		}
	}},
	{"a file can be huge where it is a hole", func(s *suite) {
		f, h := s.create(s.root, "f")
		const tib = 1 << 40
		s.write(h, []byte("start"), 0)
		s.write(h, []byte("end"), tib)
		s.sameBytes("start", s.read(h, 0, 5), []byte("start"))
		s.sameBytes("end", s.read(h, tib-2, 5), []byte("\x00\x00end"))
		s.sameBytes("middle", s.read(h, tib/2, 5000), make([]byte, 5000))
		a := s.attr(f)
		s.same("size", a.Size, int64(tib+3))
		if a.Bytes < 8 || a.Bytes > 64<<20 {
			s.Errorf("bytes of data: got %d, want few", a.Bytes)
		}
		s.ok(h.Truncate(s.ctx, vfs.MaxSize))
		s.same("size", s.attr(f).Size, int64(vfs.MaxSize))
		s.sameBytes("the last bytes", s.read(h, vfs.MaxSize-100, 100), make([]byte, 100))
		s.ok(h.Truncate(s.ctx, 5))
		s.holds(h, f, []byte("start"))
		s.ok(h.Close(s.ctx))
	}},
	{"nothing is written beyond the biggest size, or before the start", func(s *suite) {
		f, h := s.create(s.root, "f")
		_, err := h.WriteAt(s.ctx, []byte("ab"), vfs.MaxSize-1)
		s.fails("WriteAt over the end", err, vfs.ErrTooBig)
		_, err = h.WriteAt(s.ctx, []byte("ab"), vfs.MaxSize)
		s.fails("WriteAt at the end", err, vfs.ErrTooBig)
		_, err = h.WriteAt(s.ctx, []byte("a"), -1)
		s.fails("WriteAt before the start", err, fs.ErrInvalid)
		_, err = h.ReadAt(s.ctx, make([]byte, 1), -1)
		s.fails("ReadAt before the start", err, fs.ErrInvalid)
		s.fails("Truncate to less than nothing", h.Truncate(s.ctx, -1), fs.ErrInvalid)
		s.same("size", s.attr(f).Size, int64(0))
		s.ok(h.Close(s.ctx))
	}},
	{"a handle does what it was opened for", testRights},
	{"opening with OpenTrunc empties the file for all", func(s *suite) {
		f, h := s.create(s.root, "f")
		s.write(h, noise(1, 100_000), 0)
		w := s.open(f, vfs.OpenWrite|vfs.OpenTrunc)
		s.holds(h, f, nil)
		s.write(w, []byte("x"), 3)
		s.holds(h, f, []byte("\x00\x00\x00x"))
		s.ok(h.Close(s.ctx))
	}},
	{"Create opens what it made", func(s *suite) {
		f, h := s.create(s.root, "f")
		s.write(h, []byte("x"), 0)
		s.same("one node", s.lookup(s.root, "f") == vfs.Node(f), true)
		s.holds(h, f, []byte("x"))
		s.ok(h.Close(s.ctx))
		_, w, err := s.root.Create(s.ctx, "w", vfs.New{Kind: vfs.KindFile}, vfs.OpenWrite)
		s.ok(err)
		_, err = w.ReadAt(s.ctx, make([]byte, 1), 0)
		s.fails("ReadAt", err, fs.ErrPermission)
		s.ok(w.Close(s.ctx))
	}},
	{"a closed handle does nothing more", testClosed},
	{"a synced write is there however the file is reached", func(s *suite) {
		f, h := s.create(s.root, "f")
		want := noise(3, 300_000)
		s.write(h, want, 0)
		s.ok(h.Sync(s.ctx))
		s.ok(f.Sync(s.ctx))
		s.write(h, []byte("later"), 1000)
		copy(want[1000:], "later")
		s.ok(h.Close(s.ctx))
		n := s.lookup(s.root, "f")
		s.holds(s.open(n.(vfs.File), vfs.OpenRead), n, want)
	}},
	{"with a context that is done a change is made whole or not at all", testDone},
}

func testReadEnd(s *suite) {
	_, h := s.create(s.root, "f")
	read := func(n int, off int64) (int, error) { return h.ReadAt(s.ctx, make([]byte, n), off) }
	n, err := read(5, 0)
	if n != 0 || !errors.Is(err, io.EOF) {
		s.Errorf("of an empty file: got %d, %v, want 0, io.EOF", n, err)
	}
	s.write(h, []byte("0123456789"), 0)
	for _, x := range []struct {
		n    int
		off  int64
		want int
		eof  bool
	}{
		{5, 0, 5, false},
		{11, 0, 10, true},
		{5, 8, 2, true},
		{1, 10, 0, true},
		{1, 11, 0, true},
		{100, 1 << 50, 0, true},
		{1, vfs.MaxSize, 0, true},
	} {
		n, err := read(x.n, x.off)
		if n != x.want || errors.Is(err, io.EOF) != x.eof || !x.eof && err != nil {
			s.Errorf("ReadAt(%d bytes, %d): got %d, %v, want %d, io.EOF: %t", x.n, x.off, n, err, x.want, x.eof)
		}
	}
	if n, err := read(10, 0); n != 10 || err != nil && !errors.Is(err, io.EOF) {
		s.Errorf("exactly to the end: got %d, %v", n, err)
	}
	if n, err := read(0, 3); n != 0 || err != nil {
		s.Errorf("of nothing: got %d, %v", n, err)
	}
	s.ok(h.Close(s.ctx))
}

func testRights(s *suite) {
	f := s.file(s.root, "f", []byte("data"))
	g := s.file(s.root, "g", []byte("goal"))
	r, w := s.open(f, vfs.OpenRead), s.open(f, vfs.OpenWrite)
	gr, gw := s.open(g, vfs.OpenRead), s.open(g, vfs.OpenWrite)
	_, err := r.WriteAt(s.ctx, []byte("x"), 0)
	s.fails("WriteAt", err, fs.ErrPermission)
	s.fails("Truncate", r.Truncate(s.ctx, 0), fs.ErrPermission)
	for mode := vfs.AllocReserve; mode <= vfs.AllocZeroKeep; mode++ {
		s.fails("Allocate", r.Allocate(s.ctx, mode, 0, 100), fs.ErrPermission)
	}
	_, err = w.ReadAt(s.ctx, make([]byte, 1), 0)
	s.fails("ReadAt", err, fs.ErrPermission)
	_, err = w.CopyTo(s.ctx, 0, gw, 0, 4)
	s.fails("CopyTo from what is not open for reading", err, fs.ErrPermission)
	_, err = r.CopyTo(s.ctx, 0, gr, 0, 4)
	s.fails("CopyTo what is not open for writing", err, fs.ErrPermission)
	for _, h := range []vfs.Handle{r, w} {
		s.ok(h.Sync(s.ctx))
		_, err := h.Seek(s.ctx, 0, vfs.SeekHole)
		s.ok(err)
	}
	s.holds(r, f, []byte("data"))
	s.holds(gr, g, []byte("goal"))
}

func testClosed(s *suite) {
	f, h := s.create(s.root, "f")
	s.write(h, []byte("data"), 0)
	other := s.open(f, vfs.OpenRead|vfs.OpenWrite)
	s.ok(h.Close(s.ctx))
	_, err := h.ReadAt(s.ctx, make([]byte, 1), 0)
	s.fails("ReadAt", err, fs.ErrClosed)
	_, err = h.WriteAt(s.ctx, []byte("x"), 0)
	s.fails("WriteAt", err, fs.ErrClosed)
	s.fails("Truncate", h.Truncate(s.ctx, 0), fs.ErrClosed)
	s.fails("Allocate", h.Allocate(s.ctx, vfs.AllocPunch, 0, 1), fs.ErrClosed)
	_, err = h.Seek(s.ctx, 0, vfs.SeekData)
	s.fails("Seek", err, fs.ErrClosed)
	_, err = h.CopyTo(s.ctx, 0, other, 100, 1)
	s.fails("CopyTo from it", err, fs.ErrClosed)
	_, err = other.CopyTo(s.ctx, 0, h, 100, 1)
	s.fails("CopyTo it", err, fs.ErrClosed)
	s.fails("Sync", h.Sync(s.ctx), fs.ErrClosed)
	s.fails("Close", h.Close(s.ctx), fs.ErrClosed)
	s.holds(other, f, []byte("data"))
}

func testDone(s *suite) {
	f, h := s.create(s.root, "f")
	s.write(h, []byte("old"), 0)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := h.WriteAt(ctx, []byte("new"), 0)
	switch {
	case err == nil:
		s.holds(h, f, []byte("new"))
	case errors.Is(err, context.Canceled):
		s.holds(h, f, []byte("old"))
	default:
		s.Errorf("WriteAt: got %v", err)
	}
	made := func(what, name string, err error) {
		s.Helper()
		_, errThere := s.root.Lookup(s.ctx, name)
		switch {
		case err != nil && !errors.Is(err, context.Canceled):
			s.Errorf("%s: got %v", what, err)
		case (err == nil) != (errThere == nil):
			s.Errorf("%s: got %v, but Lookup says %v", what, err, errThere)
		}
	}
	_, err = s.root.Make(ctx, "made", vfs.New{Kind: vfs.KindDir})
	made("Make", "made", err)
	made("Link", "link", s.root.Link(ctx, "link", f))
	made("Rename", "moved", s.root.Rename(ctx, "f", s.root, "moved", vfs.RenameReplace))
	_, c, err := s.root.Create(ctx, "created", vfs.New{Kind: vfs.KindFile}, vfs.OpenWrite)
	made("Create", "created", err)
	if err == nil {
		s.ok(c.Close(s.ctx))
	}
	s.ok(h.Close(s.ctx))
}
