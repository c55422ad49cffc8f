package treetest

import (
	"crypto/md5" //nolint:gosec // some places know no other
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

var fileTests = []test{
	{"an empty place is empty", func(s *suite) {
		s.want()
		if got := s.list(""); len(got) != 0 {
			s.Errorf("got %v, want nothing", got)
		}
	}},
	{"a file that is put is there", func(s *suite) {
		it := s.put("file", "hello")
		if it.Path != "file" || it.Kind != remote.File || it.Size != 5 || it.Version == "" {
			s.Errorf("got %+v, want a file of 5 bytes with a version", it)
		}
		got, err := s.Tree.Stat(s.ctx, "file")
		s.ok(err)
		s.alike("Stat", got, it)
		all, _ := s.all(s.Tree)
		if len(all) != 1 {
			s.Fatalf("Changes: got %v, want one thing", all)
		}
		s.alike("Changes", all[0], it)
		in := s.list("")
		if len(in) != 1 {
			s.Fatalf("List: got %v, want one thing", in)
		}
		s.alike("List", in[0], it)
		s.same("bytes", s.read("file"), "hello")
	}},
	{"an empty file is a file", func(s *suite) {
		it := s.put("empty", "")
		s.same("size", it.Size, int64(0))
		s.same("bytes", s.read("empty"), "")
		s.want("empty")
	}},
	{"what is there is not replaced by who does not know it", func(s *suite) {
		old := s.put("file", "one")
		_, err := s.try(s.Tree, "file", "two", "")
		s.fails("put on a file as if nothing were there", err, remote.ErrChanged)
		s.same("bytes", s.read("file"), "one")
		now := s.replace("file", "three", old.Version)
		if now.Version == old.Version {
			s.Error("the bytes changed and the version did not")
		}
		_, err = s.try(s.Tree, "file", "four", old.Version)
		s.fails("put on another version", err, remote.ErrChanged)
		s.same("bytes", s.read("file"), "three")
		_, err = s.try(s.Tree, "other", "five", old.Version)
		s.fails("put where the file is gone", err, remote.ErrChanged)
		s.gone("other")
		s.want("file")
	}},
	{"bytes of the same length and time are another version", func(s *suite) {
		// Times are set to the same moment: a version that rests on size and time alone would not change.
		old := s.put("file", "aaaa")
		now := s.replace("file", "bbbb", old.Version)
		if now.Version == old.Version {
			s.Error("the bytes changed and the version did not")
		}
		got, err := s.Tree.Stat(s.ctx, "file")
		s.ok(err)
		s.same("version", got.Version, now.Version)
	}},
	{"a version stays as long as nothing happens", func(s *suite) {
		it := s.put("file", "aaaa")
		for range 3 {
			got, err := s.Tree.Stat(s.ctx, "file")
			s.ok(err)
			s.same("version", got.Version, it.Version)
		}
		if s.Again != nil {
			got, err := s.Again.Stat(s.ctx, "file")
			s.ok(err)
			s.same("version by another Tree", got.Version, it.Version)
		}
	}},
	{"a file is not put where a directory is", func(s *suite) {
		s.dir("d")
		s.put("d/file", "x")
		_, err := s.try(s.Tree, "d", "y", "")
		s.fails("put on a directory", err, remote.ErrChanged, remote.ErrIllegal)
		s.want("d/", "d/file")
		s.same("bytes", s.read("d/file"), "x")
	}},
	{"nothing is put below a file", func(s *suite) {
		s.put("file", "x")
		_, err := s.try(s.Tree, "file/below", "y", "")
		s.fails("put below a file", err, remote.ErrChanged, remote.ErrIllegal, fs.ErrNotExist)
		s.want("file")
		s.same("bytes", s.read("file"), "x")
	}},
	{"a file whose directory is not there is refused, or brings it", func(s *suite) {
		_, err := s.try(s.Tree, "no/such/file", "y", "")
		if s.can.EmptyDirs {
			s.fails("put", err, fs.ErrNotExist)
			s.want()
			return
		}
		s.ok(err)
		s.want("no/", "no/such/", "no/such/file")
	}},
	{"another number of bytes than was said changes nothing", func(s *suite) {
		old := s.put("old", "old")
		for _, size := range []int64{0, 3, 5, 100} {
			_, err := s.Tree.Put(s.ctx, remote.Item{Path: "new", Size: size, MTime: t0}, strings.NewReader("four"), "")
			s.fails("put of another size", err, blob.ErrSize)
			_, err = s.Tree.Put(s.ctx, remote.Item{Path: "old", Size: size, MTime: t0}, strings.NewReader("four"), old.Version)
			s.fails("put of another size", err, blob.ErrSize)
		}
		s.want("old")
		s.same("bytes", s.read("old"), "old")
	}},
	{"the size need not be known", func(s *suite) {
		data := string(pattern(300_000))
		it, err := s.Tree.Put(s.ctx, remote.Item{Path: "file", Size: -1, MTime: t0}, struct{ io.Reader }{strings.NewReader(data)}, "")
		s.ok(err)
		s.same("size", it.Size, int64(len(data)))
		if s.read("file") != data {
			s.Error("other bytes came back")
		}
	}},
	{"a reader that fails changes nothing", func(s *suite) {
		broken := errors.New("the line broke")
		old := s.put("old", "old")
		body := func() io.Reader {
			return io.MultiReader(strings.NewReader("half"), &failing{broken})
		}
		for _, size := range []int64{8, -1} {
			_, err := s.Tree.Put(s.ctx, remote.Item{Path: "new", Size: size, MTime: t0}, body(), "")
			s.fails("put of a new file", err, broken)
			_, err = s.Tree.Put(s.ctx, remote.Item{Path: "old", Size: size, MTime: t0}, body(), old.Version)
			s.fails("put of an old file", err, broken)
		}
		s.want("old")
		s.same("bytes", s.read("old"), "old")
		got, err := s.Tree.Stat(s.ctx, "old")
		s.ok(err)
		s.same("version", got.Version, old.Version)
	}},
	{"times are as exact as the place says", func(s *suite) {
		s.need(s.can.MTime > 0, "times")
		for i, want := range []time.Time{
			t0, t0.Add(123456789), time.Date(1999, 12, 31, 23, 59, 59, 999999999, time.UTC), time.Date(2037, 1, 1, 0, 0, 1, 1, time.UTC),
			time.Date(2022, 10, 30, 2, 30, 0, 0, time.FixedZone("", 2*3600)),
		} {
			path := "file" + string(rune('a'+i))
			it, err := s.Tree.Put(s.ctx, remote.Item{Path: path, Size: 1, MTime: want}, strings.NewReader("x"), "")
			s.ok(err)
			got, err := s.Tree.Stat(s.ctx, path)
			s.ok(err)
			if d := got.MTime.Sub(want); d >= s.can.MTime || d <= -s.can.MTime {
				s.Errorf("time of %v: got %v, off by %v, want less than %v", want, got.MTime, d, s.can.MTime)
			}
			s.alike("Put and Stat", it, got)
		}
	}},
	{"modes are kept where the place says so", func(s *suite) {
		s.need(s.can.Modes, "modes")
		for _, mode := range []fs.FileMode{0o600, 0o644, 0o755, 0o444} {
			path := "file" + mode.String()
			it, err := s.Tree.Put(s.ctx, remote.Item{Path: path, Size: 1, MTime: t0, Mode: mode}, strings.NewReader("x"), "")
			s.ok(err)
			s.same("mode", it.Mode, mode)
		}
	}},
	{"hashes are those of the bytes", func(s *suite) {
		s.need(len(s.can.Hashes) > 0, "hashes")
		data := pattern(100_000)
		s.put("file", string(data))
		for _, it := range s.list("") {
			s.hashes(it, data)
		}
		it, err := s.Tree.Stat(s.ctx, "file")
		s.ok(err)
		s.hashes(it, data)
		it = s.replace("file", "else", it.Version)
		s.hashes(it, []byte("else"))
		it, err = s.Tree.Stat(s.ctx, "file")
		s.ok(err)
		s.hashes(it, []byte("else"))
	}},
	{"a file of many megabytes comes back", func(s *suite) {
		data := pattern(s.some(40<<20, 12<<20))
		s.put("big", string(data))
		if s.read("big") != string(data) {
			s.Error("other bytes came back")
		}
	}},
	{"a file that is removed is gone", func(s *suite) {
		it := s.put("file", "x")
		s.put("other", "y")
		s.ok(s.Tree.Remove(s.ctx, "file", it.Version))
		s.gone("file")
		s.want("other")
		s.fails("remove again", s.Tree.Remove(s.ctx, "file", it.Version), fs.ErrNotExist)
	}},
	{"a file that was changed is not removed", func(s *suite) {
		old := s.put("file", "one")
		s.replace("file", "two", old.Version)
		s.fails("remove", s.Tree.Remove(s.ctx, "file", old.Version), remote.ErrChanged)
		s.fails("remove as nothing", s.Tree.Remove(s.ctx, "file", ""), remote.ErrChanged)
		s.same("bytes", s.read("file"), "two")
	}},
	{"what another Tree did is seen", func(s *suite) {
		s.need(s.Again != nil, "a second Tree")
		old := s.put("file", "one")
		_, err := s.try(s.Again, "file", "the second", old.Version)
		s.ok(err)
		_, err = s.try(s.Tree, "file", "the first", old.Version)
		s.fails("put", err, remote.ErrChanged)
		s.fails("remove", s.Tree.Remove(s.ctx, "file", old.Version), remote.ErrChanged)
		_, err = s.Tree.Move(s.ctx, "file", "moved", old.Version)
		s.fails("move", err, remote.ErrChanged)
		_, err = s.readAll(s.Tree, "file", 0, -1, old.Version)
		s.fails("read", err, remote.ErrChanged)
		s.same("bytes", s.read("file"), "the second")
		s.want("file")
	}},
	{"touch changes attributes, and no bytes", func(s *suite) {
		s.need(s.can.Touch, "touch")
		t, ok := s.Tree.(remote.Toucher)
		if !ok {
			s.Fatal("Can says Touch, and it is no Toucher")
		}
		it := s.put("file", "x")
		if s.can.MTime > 0 {
			want := t0.Add(48 * time.Hour)
			now, err := t.Touch(s.ctx, remote.Item{Path: "file", MTime: want}, it.Version)
			s.ok(err)
			if !now.MTime.Equal(want) {
				s.Errorf("got time %v, want %v", now.MTime, want)
			}
			s.same("mode", now.Mode, it.Mode)
			got, err := s.Tree.Stat(s.ctx, "file")
			s.ok(err)
			s.alike("Stat", got, now)
			it = now
		}
		if s.can.Modes {
			now, err := t.Touch(s.ctx, remote.Item{Path: "file", Mode: 0o600}, it.Version)
			s.ok(err)
			s.same("mode", now.Mode, fs.FileMode(0o600))
			if !now.MTime.Equal(it.MTime) {
				s.Errorf("got time %v, want %v", now.MTime, it.MTime)
			}
			it = now
		}
		s.same("bytes", s.read("file"), "x")
		now := s.replace("file", "y", it.Version)
		_, err := t.Touch(s.ctx, remote.Item{Path: "file", MTime: t0}, it.Version)
		s.fails("touch of another version", err, remote.ErrChanged)
		_, err = t.Touch(s.ctx, remote.Item{Path: "other", MTime: t0}, now.Version)
		s.fails("touch of nothing", err, fs.ErrNotExist, remote.ErrChanged)
	}},
}

// failing is a reader that has only an error.
type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// hashes compares those hashes of an Item that are known here. None of those that it may have has to be there.
func (s *suite) hashes(it remote.Item, data []byte) {
	s.Helper()
	m, s1, s256 := md5.Sum(data), sha1.Sum(data), sha256.Sum256(data) //nolint:gosec // some places know no other
	want := map[string]string{"md5": hex.EncodeToString(m[:]), "sha1": hex.EncodeToString(s1[:]), "sha256": hex.EncodeToString(s256[:])}
	for name, sum := range it.Hashes {
		if w := want[name]; w != "" && sum != w {
			s.Errorf("%s of %q: got %s, want %s", name, it.Path, sum, w)
		}
	}
}
