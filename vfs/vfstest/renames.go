package vfstest

import (
	"io/fs"

	"github.com/sheaf-drive/sheaf/vfs"
)

var renameTests = []test{
	{"a file moves with all it is", func(s *suite) {
		d := s.dir(s.root, "d")
		f := s.file(s.root, "f", []byte("data"))
		s.ok(f.SetXattr(s.ctx, "user.x", []byte("v"), vfs.XattrAny))
		h := s.open(f, vfs.OpenRead|vfs.OpenWrite)
		s.ok(s.root.Rename(s.ctx, "f", d, "g", vfs.RenameReplace))
		s.missing(s.root, "f")
		s.same("one node", s.lookup(d, "g") == vfs.Node(f), true)
		s.write(h, []byte("more"), 4)
		s.holds(h, f, []byte("datamore"))
		v, err := s.lookup(d, "g").Xattr(s.ctx, "user.x")
		s.ok(err)
		s.same("xattr", string(v), "v")
		s.same("nlink", s.attr(f).Nlink, uint32(1))
	}},
	{"a directory moves with all that is in it", func(s *suite) {
		a, b := s.dir(s.root, "a"), s.dir(s.root, "b")
		in := s.dir(a, "in")
		s.file(in, "f", []byte("data"))
		s.ok(s.root.Rename(s.ctx, "a", b, "a2", vfs.RenameReplace))
		s.missing(s.root, "a")
		n, err := vfs.Walk(s.ctx, s.fs, "b/a2/in/f")
		s.ok(err)
		s.holds(s.open(n.(vfs.File), vfs.OpenRead), n, []byte("data"))
		s.file(in, "g", nil) // through a node that was held all the time
		s.same("names", s.names(in, ""), []string{"f", "g"})
	}},
	{"a file replaces a file, which stays open", func(s *suite) {
		f, g := s.file(s.root, "f", []byte("new")), s.file(s.root, "g", []byte("old"))
		h := s.open(g, vfs.OpenRead)
		s.ok(s.root.Rename(s.ctx, "f", s.root, "g", vfs.RenameReplace))
		s.same("names", s.names(s.root, ""), []string{"g"})
		s.same("g is f", s.lookup(s.root, "g") == vfs.Node(f), true)
		s.same("nlink of the old", s.attr(g).Nlink, uint32(0))
		s.holds(h, g, []byte("old"))
	}},
	{"a replaced file keeps its other names", func(s *suite) {
		s.file(s.root, "f", []byte("new"))
		g := s.file(s.root, "g", []byte("old"))
		s.ok(s.root.Link(s.ctx, "h", g))
		s.ok(s.root.Rename(s.ctx, "f", s.root, "g", vfs.RenameReplace))
		s.same("nlink", s.attr(g).Nlink, uint32(1))
		s.same("h is the old g", s.lookup(s.root, "h") == vfs.Node(g), true)
	}},
	{"a directory replaces only an empty directory", func(s *suite) {
		s.dir(s.root, "d")
		empty, full := s.dir(s.root, "empty"), s.dir(s.root, "full")
		s.file(full, "x", nil)
		s.file(s.root, "f", nil)
		s.fails("onto a full one", s.root.Rename(s.ctx, "d", s.root, "full", vfs.RenameReplace), vfs.ErrNotEmpty)
		s.fails("onto a file", s.root.Rename(s.ctx, "d", s.root, "f", vfs.RenameReplace), vfs.ErrNotDir)
		s.same("names", s.names(s.root, ""), []string{"d", "empty", "f", "full"})
		s.ok(s.root.Rename(s.ctx, "d", s.root, "empty", vfs.RenameReplace))
		s.same("names", s.names(s.root, ""), []string{"empty", "f", "full"})
		_, err := empty.Make(s.ctx, "x", vfs.New{Kind: vfs.KindFile})
		s.fails("Make in the replaced directory", err, fs.ErrNotExist)
	}},
	{"a file replaces no directory", func(s *suite) {
		s.dir(s.root, "d")
		s.file(s.root, "f", nil)
		s.fails("Rename", s.root.Rename(s.ctx, "f", s.root, "d", vfs.RenameReplace), vfs.ErrIsDir)
		s.same("names", s.names(s.root, ""), []string{"d", "f"})
	}},
	{"a directory cannot move below itself", func(s *suite) {
		a := s.dir(s.root, "a")
		b := s.dir(a, "b")
		c := s.dir(b, "c")
		for _, flag := range []vfs.RenameFlag{vfs.RenameReplace, vfs.RenameNoReplace} {
			s.fails("into itself", s.root.Rename(s.ctx, "a", a, "x", flag), fs.ErrInvalid)
			s.fails("deep into itself", s.root.Rename(s.ctx, "a", c, "x", flag), fs.ErrInvalid)
		}
		s.fails("exchanged with what is below", s.root.Rename(s.ctx, "a", b, "c", vfs.RenameExchange), fs.ErrInvalid)
		s.fails("exchanged with what is above", b.Rename(s.ctx, "c", s.root, "a", vfs.RenameExchange), fs.ErrInvalid)
		s.fails("onto what is above", b.Rename(s.ctx, "c", s.root, "a", vfs.RenameReplace), vfs.ErrNotEmpty)
		_, err := vfs.Walk(s.ctx, s.fs, "a/b/c")
		s.ok(err)
		// What is below can move above, and then the other way round.
		s.ok(a.Rename(s.ctx, "b", s.root, "b", vfs.RenameReplace))
		s.ok(s.root.Rename(s.ctx, "a", b, "a", vfs.RenameReplace))
		_, err = vfs.Walk(s.ctx, s.fs, "b/a")
		s.ok(err)
	}},
	{"two names of one file are left as they are", func(s *suite) {
		f := s.file(s.root, "f", nil)
		s.ok(s.root.Link(s.ctx, "g", f))
		s.ok(s.root.Rename(s.ctx, "f", s.root, "g", vfs.RenameReplace))
		s.ok(s.root.Rename(s.ctx, "f", s.root, "g", vfs.RenameExchange))
		s.ok(s.root.Rename(s.ctx, "f", s.root, "f", vfs.RenameReplace))
		s.same("names", s.names(s.root, ""), []string{"f", "g"})
		s.same("nlink", s.attr(f).Nlink, uint32(2))
		d := s.dir(s.root, "d")
		s.file(d, "in", nil)
		s.ok(s.root.Rename(s.ctx, "d", s.root, "d", vfs.RenameReplace))
		s.same("in d", s.names(d, ""), []string{"in"})
	}},
	{"RenameNoReplace replaces nothing", func(s *suite) {
		f := s.file(s.root, "f", nil)
		s.ok(s.root.Link(s.ctx, "g", f))
		s.dir(s.root, "d")
		s.fails("onto itself", s.root.Rename(s.ctx, "f", s.root, "f", vfs.RenameNoReplace), fs.ErrExist)
		s.fails("onto another name", s.root.Rename(s.ctx, "f", s.root, "g", vfs.RenameNoReplace), fs.ErrExist)
		s.fails("onto a directory", s.root.Rename(s.ctx, "f", s.root, "d", vfs.RenameNoReplace), fs.ErrExist)
		s.ok(s.root.Rename(s.ctx, "f", s.root, "h", vfs.RenameNoReplace))
		s.same("names", s.names(s.root, ""), []string{"d", "g", "h"})
	}},
	{"RenameExchange changes places, whatever the kinds", func(s *suite) {
		d := s.dir(s.root, "d")
		in := s.file(d, "in", nil)
		f := s.file(s.root, "f", nil)
		e := s.dir(s.root, "e")
		s.fails("with nothing", s.root.Rename(s.ctx, "f", s.root, "x", vfs.RenameExchange), fs.ErrNotExist)
		s.ok(s.root.Rename(s.ctx, "f", s.root, "d", vfs.RenameExchange))
		s.same("f is the directory", s.lookup(s.root, "f") == vfs.Node(d), true)
		s.same("d is the file", s.lookup(s.root, "d") == vfs.Node(f), true)
		s.ok(d.Rename(s.ctx, "in", s.root, "e", vfs.RenameExchange))
		s.same("e is the file", s.lookup(s.root, "e") == vfs.Node(in), true)
		s.same("in is the directory", s.lookup(d, "in") == vfs.Node(e), true)
		s.same("nlink", s.attr(f).Nlink, uint32(1))
		s.fails("e knows its new parent", s.root.Rename(s.ctx, "f", e, "x", vfs.RenameReplace), fs.ErrInvalid)
	}},
	{"what is not there cannot be renamed", func(s *suite) {
		s.file(s.root, "f", nil)
		for flag := vfs.RenameReplace; flag <= vfs.RenameExchange; flag++ {
			s.fails("Rename", s.root.Rename(s.ctx, "x", s.root, "y", flag), fs.ErrNotExist)
		}
		s.fails("onto a file", s.root.Rename(s.ctx, "x", s.root, "f", vfs.RenameReplace), fs.ErrNotExist)
		s.fails("with an unknown flag", s.root.Rename(s.ctx, "f", s.root, "g", 77), fs.ErrInvalid)
		s.same("names", s.names(s.root, ""), []string{"f"})
	}},
	{"a node of another tree is refused", func(s *suite) {
		other := newSuite(s.T, stranger())
		g := other.file(other.root, "g", []byte("x"))
		s.file(s.root, "f", []byte("y"))
		s.fails("Link", s.root.Link(s.ctx, "g", g), vfs.ErrCrossTree)
		s.fails("Rename", s.root.Rename(s.ctx, "f", other.root, "f", vfs.RenameReplace), vfs.ErrCrossTree)
		s.same("names", s.names(s.root, ""), []string{"f"})
		s.same("names there", other.names(other.root, ""), []string{"g"})
	}},
}
