package treetest

import (
	"io"
	"io/fs"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

var readTests = []test{
	{"what is not there cannot be read", func(s *suite) {
		_, err := s.Tree.Stat(s.ctx, "no")
		s.fails("stat", err, fs.ErrNotExist)
		_, err = s.Tree.Stat(s.ctx, "no/such")
		s.fails("stat below", err, fs.ErrNotExist)
		_, err = s.readAll(s.Tree, "no", 0, -1, "")
		s.fails("open", err, fs.ErrNotExist)
		_, err = s.readAll(s.Tree, "no", 0, -1, "v")
		s.fails("open with a version", err, fs.ErrNotExist, remote.ErrChanged)
		s.put("file", "x")
		_, err = s.Tree.Stat(s.ctx, "file/below")
		s.fails("stat below a file", err, fs.ErrNotExist)
		_, err = s.readAll(s.Tree, "file/below", 0, -1, "")
		s.fails("open below a file", err, fs.ErrNotExist)
	}},
	{"a directory cannot be read", func(s *suite) {
		s.dir("d")
		s.put("d/f", "x")
		_, err := s.readAll(s.Tree, "d", 0, -1, "")
		s.fails("open", err, fs.ErrInvalid)
		_, err = s.readAll(s.Tree, "d", 0, -1, "v")
		s.fails("open with a version", err, fs.ErrInvalid, remote.ErrChanged)
	}},
	{"a range is what was asked for", func(s *suite) {
		data := string(pattern(70_000))
		it := s.put("file", data)
		size := int64(len(data))
		for _, c := range []struct{ off, n int64 }{
			{0, -1},
			{0, 0},
			{0, 1},
			{0, size},
			{0, size + 1},
			{1, -1},
			{1, 10},
			{size - 1, 1},
			{size - 1, 5},
			{size - 1, -1},
			{32768, 32768},
			{size, -1},
			{size, 1},
			{size + 5, -1},
			{size + 5, 7},
			{12345, 0},
		} {
			from := min(c.off, size)
			to := size
			if c.n >= 0 {
				to = min(from+c.n, size)
			}
			got, err := s.readAll(s.Tree, "file", c.off, c.n, it.Version)
			if err != nil {
				s.Errorf("%d bytes from %d: unexpected error: %v", c.n, c.off, err)
			} else if got != data[from:to] {
				s.Errorf("%d bytes from %d: got %d bytes, want %d, or other ones", c.n, c.off, len(got), to-from)
			}
		}
		_, err := s.readAll(s.Tree, "file", -1, 1, "")
		s.fails("a negative offset", err, fs.ErrInvalid)
	}},
	{"a reader of a known version is told of another", func(s *suite) {
		old := s.put("file", "one")
		got, err := s.readAll(s.Tree, "file", 0, -1, old.Version)
		s.ok(err)
		s.same("bytes", got, "one")
		now := s.replace("file", "two, and longer", old.Version)
		_, err = s.readAll(s.Tree, "file", 0, -1, old.Version)
		s.fails("read", err, remote.ErrChanged)
		_, err = s.readAll(s.Tree, "file", 1, 1, old.Version)
		s.fails("read from the middle", err, remote.ErrChanged)
		got, err = s.readAll(s.Tree, "file", 0, -1, now.Version)
		s.ok(err)
		s.same("bytes", got, "two, and longer")
	}},
	{"a reader never gets bytes of two versions", func(s *suite) {
		n := s.some(4<<20, 1<<20)
		one, two := make([]byte, n), make([]byte, n)
		for i := range n {
			one[i], two[i] = '1', '2'
		}
		old := s.put("file", string(one))
		r, err := s.Tree.Open(s.ctx, "file", 0, -1, old.Version)
		s.ok(err)
		defer func() { _ = r.Close() }()
		first := make([]byte, 1000)
		_, err = io.ReadFull(r, first)
		s.ok(err)
		_, err = s.try(s.Tree, "file", string(two), old.Version)
		if err != nil {
			s.Skipf("the place cannot replace what somebody reads: %v", err)
		}
		rest, err := io.ReadAll(r)
		if err != nil {
			return // it was told
		}
		if got := string(first) + string(rest); got != string(one) {
			s.Error("got other bytes than those of the version that was opened, and no error")
		}
	}},
	{"a reader may be closed before its end", func(s *suite) {
		s.put("file", string(pattern(3<<20)))
		for range 3 {
			r, err := s.Tree.Open(s.ctx, "file", 0, -1, "")
			s.ok(err)
			_, err = io.ReadFull(r, make([]byte, 10))
			s.ok(err)
			s.ok(r.Close())
		}
		s.same("bytes", s.read("file")[:10], string(pattern(10)))
	}},
}
