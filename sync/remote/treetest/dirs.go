package treetest

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

var moveTests = []test{
	{"a file that moves has a new name and its bytes", func(s *suite) {
		s.need(s.can.ServerMove, "moves")
		it := s.put("one", "hello")
		s.dir("d")
		now, err := s.Tree.Move(s.ctx, "one", "d/two", it.Version)
		s.ok(err)
		s.same("path", now.Path, "d/two")
		if s.can.IDs && now.ID != it.ID {
			s.Errorf("its ID was %q and is %q", it.ID, now.ID)
		}
		got, err := s.Tree.Stat(s.ctx, "d/two")
		s.ok(err)
		s.alike("Stat", got, now)
		if s.can.MTime > 0 && !got.MTime.Equal(it.MTime) {
			s.Errorf("got time %v, want %v", got.MTime, it.MTime)
		}
		s.gone("one")
		s.same("bytes", s.read("d/two"), "hello")
		s.want("d/", "d/two")
	}},
	{"a file that was changed is not moved", func(s *suite) {
		s.need(s.can.ServerMove, "moves")
		old := s.put("file", "one")
		s.replace("file", "two", old.Version)
		_, err := s.Tree.Move(s.ctx, "file", "to", old.Version)
		s.fails("move", err, remote.ErrChanged)
		_, err = s.Tree.Move(s.ctx, "file", "to", "")
		s.fails("move as a directory", err, remote.ErrChanged)
		s.same("bytes", s.read("file"), "two")
		s.want("file")
	}},
	{"nothing is moved onto what is there", func(s *suite) {
		s.need(s.can.ServerMove, "moves")
		it := s.put("file", "one")
		s.put("taken", "two")
		s.dir("d")
		s.put("d/in", "three")
		_, err := s.Tree.Move(s.ctx, "file", "taken", it.Version)
		s.fails("move onto a file", err, remote.ErrChanged)
		_, err = s.Tree.Move(s.ctx, "file", "d", it.Version)
		s.fails("move onto a directory", err, remote.ErrChanged)
		s.want("d/", "d/in", "file", "taken")
		s.same("bytes", s.read("file")+s.read("taken")+s.read("d/in"), "onetwothree")
	}},
	{"what is not there is not moved", func(s *suite) {
		s.need(s.can.ServerMove, "moves")
		_, err := s.Tree.Move(s.ctx, "no", "to", "v")
		s.fails("move", err, fs.ErrNotExist)
		s.want()
	}},
	{"nothing is moved into a directory that is not there", func(s *suite) {
		s.need(s.can.ServerMove && s.can.EmptyDirs, "moves, and empty directories")
		it := s.put("file", "x")
		_, err := s.Tree.Move(s.ctx, "file", "no/to", it.Version)
		s.fails("move", err, fs.ErrNotExist)
		s.want("file")
	}},
	{"a directory moves with all below it", func(s *suite) {
		s.need(s.can.DirMove, "moves of directories")
		s.dir("a/b/c")
		s.put("a/b/c/deep", "deep")
		s.put("a/top", "top")
		s.dir("z")
		before, err := s.Tree.Stat(s.ctx, "a")
		s.ok(err)
		now, err := s.Tree.Move(s.ctx, "a", "z/new", "")
		s.ok(err)
		s.same("path", now.Path, "z/new")
		if now.Kind != remote.Dir || now.ID != before.ID {
			s.Errorf("got %+v, want the directory that was %+v", now, before)
		}
		s.gone("a")
		s.gone("a/top")
		s.want("z/", "z/new/", "z/new/b/", "z/new/b/c/", "z/new/b/c/deep", "z/new/top")
		s.same("bytes", s.read("z/new/b/c/deep")+s.read("z/new/top"), "deeptop")
	}},
	{"a directory is not moved below itself, or onto anything", func(s *suite) {
		s.need(s.can.DirMove, "moves of directories")
		s.dir("a/b")
		s.put("a/b/f", "x")
		s.dir("other")
		s.put("other/g", "z")
		s.put("file", "y")
		_, err := s.Tree.Move(s.ctx, "a", "a/b/a", "")
		s.fails("move below itself", err, fs.ErrInvalid)
		_, err = s.Tree.Move(s.ctx, "a", "file", "")
		s.fails("move onto a file", err, remote.ErrChanged)
		_, err = s.Tree.Move(s.ctx, "a", "other", "")
		s.fails("move onto a directory", err, remote.ErrChanged)
		if s.can.EmptyDirs {
			s.dir("void")
			_, err = s.Tree.Move(s.ctx, "a", "void", "")
			s.fails("move onto an empty directory", err, remote.ErrChanged)
			s.want("a/", "a/b/", "a/b/f", "file", "other/", "other/g", "void/")
			return
		}
		s.want("a/", "a/b/", "a/b/f", "file", "other/", "other/g")
	}},
	{"the case of a name can be changed", func(s *suite) {
		s.need(s.can.ServerMove, "moves")
		it := s.put("name", "x")
		now, err := s.Tree.Move(s.ctx, "name", "NAME", it.Version)
		s.ok(err)
		s.same("path", now.Path, "NAME")
		s.want("NAME")
		s.same("bytes", s.read("NAME"), "x")
		if s.can.DirMove {
			s.dir("dir")
			s.put("dir/in", "y")
			_, err = s.Tree.Move(s.ctx, "dir", "Dir", "")
			s.ok(err)
			s.want("Dir/", "Dir/in", "NAME")
			s.same("bytes", s.read("Dir/in"), "y")
		}
	}},
	{"a copy has the bytes, and its own life", func(s *suite) {
		s.need(s.can.ServerCopy, "copies")
		c, ok := s.Tree.(remote.Copier)
		if !ok {
			s.Fatal("Can says ServerCopy, and it is no Copier")
		}
		it := s.put("file", "hello")
		s.dir("d")
		got, err := c.Copy(s.ctx, "file", "d/copy", it.Version)
		s.ok(err)
		if got.Path != "d/copy" || got.Size != 5 || s.can.IDs && got.ID == it.ID {
			s.Errorf("got %+v, want another file of 5 bytes", got)
		}
		stat, err := s.Tree.Stat(s.ctx, "d/copy")
		s.ok(err)
		s.alike("Stat", stat, got)
		s.replace("file", "other", it.Version)
		s.same("bytes", s.read("d/copy"), "hello")
		_, err = c.Copy(s.ctx, "file", "d/more", it.Version)
		s.fails("copy of another version", err, remote.ErrChanged)
		now, err := s.Tree.Stat(s.ctx, "file")
		s.ok(err)
		_, err = c.Copy(s.ctx, "file", "d/copy", now.Version)
		s.fails("copy onto a file", err, remote.ErrChanged)
		_, err = c.Copy(s.ctx, "no", "d/more", it.Version)
		s.fails("copy of nothing", err, fs.ErrNotExist)
		s.want("d/", "d/copy", "file")
		s.same("bytes", s.read("d/copy"), "hello")
	}},
}

var dirTests = []test{
	{"a directory that is made is there", func(s *suite) {
		it, err := s.Tree.Mkdir(s.ctx, "d", 0o755)
		s.ok(err)
		if it.Path != "d" || it.Kind != remote.Dir || it.Version != "" {
			s.Errorf("got %+v, want a directory without a version", it)
		}
		_, err = s.Tree.Mkdir(s.ctx, "d", 0o755)
		s.ok(err)
		if !s.can.EmptyDirs {
			s.want()
			return
		}
		s.want("d/")
		got, err := s.Tree.Stat(s.ctx, "d")
		s.ok(err)
		s.alike("Stat", got, it)
		if in := s.list("d"); len(in) != 0 {
			s.Errorf("got %v in it, want nothing", in)
		}
	}},
	{"a directory is made neither onto a file nor into nothing", func(s *suite) {
		s.put("file", "x")
		_, err := s.Tree.Mkdir(s.ctx, "file", 0o755)
		s.fails("mkdir onto a file", err, remote.ErrChanged)
		if s.can.EmptyDirs {
			_, err = s.Tree.Mkdir(s.ctx, "no/d", 0o755)
			s.fails("mkdir into nothing", err, fs.ErrNotExist)
			_, err = s.Tree.Mkdir(s.ctx, "file/d", 0o755)
			s.fails("mkdir into a file", err, fs.ErrNotExist, remote.ErrChanged)
		}
		s.want("file")
		s.same("bytes", s.read("file"), "x")
	}},
	{"a directory that holds something is not removed", func(s *suite) {
		s.dir("d/e")
		it := s.put("d/e/file", "x")
		s.fails("remove", s.Tree.Remove(s.ctx, "d", ""), remote.ErrChanged)
		s.fails("remove", s.Tree.Remove(s.ctx, "d/e", ""), remote.ErrChanged)
		s.fails("remove with a version", s.Tree.Remove(s.ctx, "d", it.Version), remote.ErrChanged)
		s.want("d/", "d/e/", "d/e/file")
	}},
	{"an empty directory is removed, or goes with the last file", func(s *suite) {
		s.dir("d/e")
		it := s.put("d/e/file", "x")
		s.ok(s.Tree.Remove(s.ctx, "d/e/file", it.Version))
		if !s.can.EmptyDirs {
			s.want()
			return
		}
		s.want("d/", "d/e/")
		s.ok(s.Tree.Remove(s.ctx, "d/e", ""))
		s.ok(s.Tree.Remove(s.ctx, "d", ""))
		s.want()
		s.fails("remove again", s.Tree.Remove(s.ctx, "d", ""), fs.ErrNotExist)
	}},
	{"a listing is of one directory, in the order of its names", func(s *suite) {
		names := []string{"B", "a", "a-b", "a.b", "a0", "b", "ä", "€"}
		if s.can.Fold {
			names = names[1:]
		}
		for _, d := range []string{"", "d/"} {
			if d != "" {
				s.dir("d")
			}
			for _, n := range names {
				s.put(d+n, "x")
			}
			s.dir(d + "a+sub")
			s.put(d+"a+sub/below", "y")
		}
		want := slices.Clone(names)
		want = append(want, "a+sub")
		slices.Sort(want)
		for i := range want {
			want[i] = "d/" + want[i]
		}
		s.same("list", paths(s.list("d")), want)
		if got := paths(s.list("")); !slices.IsSorted(got) || len(got) != len(want)+1 {
			s.Errorf("list of the root: got %q", got)
		}
		s.same("list below", paths(s.list("d/a+sub")), []string{"d/a+sub/below"})
	}},
	{"what is no directory cannot be listed", func(s *suite) {
		s.put("file", "x")
		_, err := items(s.Tree.List(s.ctx, "file"))
		s.fails("list of a file", err, fs.ErrNotExist)
		if s.can.EmptyDirs {
			_, err = items(s.Tree.List(s.ctx, "no"))
			s.fails("list of nothing", err, fs.ErrNotExist)
		}
	}},
	{"a huge directory is listed whole, and once", func(s *suite) {
		n := s.some(3000, 120)
		s.dir("d")
		var want []string
		for i := range n {
			path := fmt.Sprintf("d/file-%05d", i)
			s.put(path, "x")
			want = append(want, path)
		}
		got := s.list("d")
		s.same("list", paths(got), want)
		all, _ := s.all(s.Tree)
		s.same("changes", paths(all), append([]string{"d"}, want...))
	}},
	{"a deep path works", func(s *suite) {
		path := strings.Repeat("d/", s.some(30, 8))
		s.dir(strings.TrimSuffix(path, "/"))
		s.put(path+"file", "x")
		s.same("bytes", s.read(path+"file"), "x")
	}},
}

var linkTests = []test{
	{"a place without links says so", func(s *suite) {
		if s.can.Symlinks {
			s.Skip("it has links")
		}
		_, err := s.Tree.Put(s.ctx, remote.Item{Path: "l", Kind: remote.Symlink, Target: "t"}, nil, "")
		s.fails("put of a link", err, errors.ErrUnsupported)
		s.want()
	}},
	{"a link says what it was told", func(s *suite) {
		s.need(s.can.Symlinks, "links")
		for i, target := range []string{"file", "no such", "../up", "/etc/passwd", "a/b/../c", "ä\xff"} {
			path := fmt.Sprint("l", i)
			it, err := s.Tree.Put(s.ctx, remote.Item{Path: path, Kind: remote.Symlink, Target: target}, nil, "")
			s.ok(err)
			got, err := s.Tree.Stat(s.ctx, path)
			s.ok(err)
			s.alike("Stat", got, it)
			if got.Kind != remote.Symlink || got.Target != target || got.Version == "" {
				s.Errorf("got %+v, want a link to %q", got, target)
			}
		}
		it, err := s.Tree.Stat(s.ctx, "l0")
		s.ok(err)
		now, err := s.Tree.Put(s.ctx, remote.Item{Path: "l0", Kind: remote.Symlink, Target: "else"}, nil, it.Version)
		s.ok(err)
		s.same("target", now.Target, "else")
		_, err = s.Tree.Put(s.ctx, remote.Item{Path: "l0", Kind: remote.Symlink, Target: "third"}, nil, it.Version)
		s.fails("put on another version", err, remote.ErrChanged)
		now, err = s.Tree.Move(s.ctx, "l0", "moved", now.Version)
		s.ok(err)
		s.same("target", now.Target, "else")
		s.ok(s.Tree.Remove(s.ctx, "moved", now.Version))
		s.gone("moved")
	}},
	{"no method follows a link", func(s *suite) {
		s.need(s.can.Symlinks, "links")
		s.dir("d")
		in := s.put("d/in", "precious")
		l, err := s.Tree.Put(s.ctx, remote.Item{Path: "l", Kind: remote.Symlink, Target: "d"}, nil, "")
		s.ok(err)
		_, err = s.Tree.Put(s.ctx, remote.Item{Path: "lf", Kind: remote.Symlink, Target: "d/in"}, nil, "")
		s.ok(err)
		_, err = s.Tree.Stat(s.ctx, "l/in")
		s.fails("stat", err, fs.ErrNotExist)
		_, err = s.readAll(s.Tree, "l/in", 0, -1, "")
		s.fails("open", err, fs.ErrNotExist)
		_, err = s.readAll(s.Tree, "lf", 0, -1, "")
		s.fails("open of a link", err, fs.ErrInvalid)
		_, err = items(s.Tree.List(s.ctx, "l"))
		s.fails("list", err, fs.ErrNotExist)
		_, err = s.try(s.Tree, "l/new", "x", "")
		s.fails("put", err, fs.ErrNotExist, remote.ErrChanged)
		_, err = s.try(s.Tree, "l/in", "x", in.Version)
		s.fails("replace", err, fs.ErrNotExist, remote.ErrChanged)
		_, err = s.Tree.Mkdir(s.ctx, "l", 0o755)
		s.fails("mkdir onto it", err, remote.ErrChanged)
		if s.can.EmptyDirs {
			_, err = s.Tree.Mkdir(s.ctx, "l/sub", 0o755)
			s.fails("mkdir", err, fs.ErrNotExist, remote.ErrChanged)
		}
		s.fails("remove", s.Tree.Remove(s.ctx, "l/in", in.Version), fs.ErrNotExist, remote.ErrChanged)
		_, err = s.Tree.Move(s.ctx, "l/in", "out", in.Version)
		s.fails("move from it", err, fs.ErrNotExist, remote.ErrChanged)
		_, err = s.Tree.Move(s.ctx, "d/in", "l/out", in.Version)
		s.fails("move into it", err, fs.ErrNotExist, remote.ErrChanged)
		s.want("d/", "d/in", "l@", "lf@")
		// A file in the place of the link changes nothing of what the link said.
		_, err = s.try(s.Tree, "lf", "x", "")
		s.fails("put on a link as on nothing", err, remote.ErrChanged)
		s.ok(s.Tree.Remove(s.ctx, "l", l.Version))
		s.same("bytes", s.read("d/in"), "precious")
	}},
}
