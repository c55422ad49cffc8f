package vfstest

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/vfs"
)

// oddNames are legal, however they look.
var oddNames = []string{
	"a", " ", ".a", "..a", "...", "a.", "A", "ä", "a\u0308", "\xff\xfe", "a\nb", `a\b`, "a:b", "*?", "~", "-rf",
	"CON", "\x01", strings.Repeat("n", vfs.MaxName), strings.Repeat("\xf0", vfs.MaxName),
}

// badNames are not, and which error they get.
var badNames = []struct {
	name string
	want error
}{
	{"", vfs.ErrName},
	{".", vfs.ErrName},
	{"..", vfs.ErrName},
	{"a/b", vfs.ErrName},
	{"/", vfs.ErrName},
	{"a\x00", vfs.ErrName},
	{strings.Repeat("n", vfs.MaxName+1), vfs.ErrNameLen},
}

var nameTests = []test{
	{"a new tree is empty and its root is a directory", func(s *suite) {
		a := s.attr(s.root)
		s.same("kind", a.Kind, vfs.KindDir)
		s.same("number is zero", a.Ino == 0, false)
		s.same("names", s.names(s.root, ""), []string(nil))
		again, err := s.fs.Root(s.ctx)
		s.ok(err)
		s.same("root is the same node", again == s.root, true)
	}},
	{"odd names are kept byte for byte", func(s *suite) {
		for _, name := range oddNames {
			s.file(s.root, name, []byte(name))
		}
		want := slices.Sorted(slices.Values(oddNames))
		s.same("names", s.names(s.root, ""), want)
		for _, name := range oddNames {
			h := s.open(s.lookup(s.root, name).(vfs.File), vfs.OpenRead)
			s.sameBytes(name, s.read(h, 0, len(name)), []byte(name))
			s.ok(s.root.Remove(s.ctx, name, false))
		}
		s.same("names after removal", s.names(s.root, ""), []string(nil))
	}},
	{"bad names are refused everywhere", testBadNames},
	{"every kind of node is made and found as what it is", testKinds},
	{"making what is there is ErrExist and changes nothing", func(s *suite) {
		f := s.file(s.root, "f", []byte("old"))
		for kind := vfs.KindFile; kind <= vfs.KindBlock; kind++ {
			_, err := s.root.Make(s.ctx, "f", vfs.New{Kind: kind, Target: "t"})
			s.fails("Make", err, fs.ErrExist)
		}
		_, _, err := s.root.Create(s.ctx, "f", vfs.New{Kind: vfs.KindFile}, vfs.OpenWrite|vfs.OpenTrunc)
		s.fails("Create", err, fs.ErrExist)
		s.fails("Link", s.root.Link(s.ctx, "f", f), fs.ErrExist)
		s.holds(s.open(f, vfs.OpenRead), f, []byte("old"))
	}},
	{"nodes of no kind, and links to nowhere, are refused", func(s *suite) {
		for _, x := range []struct {
			what vfs.New
			want error
		}{
			{vfs.New{}, fs.ErrInvalid},
			{vfs.New{Kind: vfs.KindBlock + 1}, fs.ErrInvalid},
			{vfs.New{Kind: vfs.KindLink}, fs.ErrInvalid},
			{vfs.New{Kind: vfs.KindLink, Target: "a\x00"}, fs.ErrInvalid},
			{vfs.New{Kind: vfs.KindLink, Target: strings.Repeat("t", vfs.MaxTarget+1)}, vfs.ErrNameLen},
		} {
			_, err := s.root.Make(s.ctx, "x", x.what)
			s.fails("Make", err, x.want)
		}
		_, _, err := s.root.Create(s.ctx, "x", vfs.New{Kind: vfs.KindDir}, vfs.OpenWrite)
		s.fails("Create of a directory", err, fs.ErrInvalid)
		s.missing(s.root, "x")
	}},
	{"the target of a link is kept byte for byte", func(s *suite) {
		for i, target := range []string{"t", "../..//x/.", "\xff", strings.Repeat("t", vfs.MaxTarget)} {
			name := string(rune('a' + i))
			_, err := s.root.Make(s.ctx, name, vfs.New{Kind: vfs.KindLink, Mode: 0o777, Target: target})
			s.ok(err)
			l := s.lookup(s.root, name).(vfs.Link)
			got, err := l.Target(s.ctx)
			s.ok(err)
			s.same("target", got, target)
			s.same("size", s.attr(l).Size, int64(len(target)))
		}
	}},
	{"a removed name is gone and its node is not", func(s *suite) {
		f := s.file(s.root, "f", []byte("data"))
		h := s.open(f, vfs.OpenRead|vfs.OpenWrite)
		s.ok(s.root.Remove(s.ctx, "f", false))
		s.missing(s.root, "f")
		s.same("nlink", s.attr(f).Nlink, uint32(0))
		s.write(h, []byte("more"), 4)
		s.holds(h, f, []byte("datamore"))
		again := s.open(f, vfs.OpenRead)
		s.holds(again, f, []byte("datamore"))
		_, err := f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetMode, Mode: 0o600})
		s.ok(err)
		s.ok(f.SetXattr(s.ctx, "user.x", []byte("v"), vfs.XattrAny))
		s.ok(f.Sync(s.ctx))
		s.ok(h.Truncate(s.ctx, 2))
		s.holds(again, f, []byte("da"))
		next := s.file(s.root, "f", []byte("new"))
		s.same("the new file is another node", next == f, false)
		s.holds(again, f, []byte("da"))
	}},
	{"Remove knows directories from the rest", func(s *suite) {
		d := s.dir(s.root, "d")
		s.file(s.root, "f", nil)
		s.file(d, "in", nil)
		s.fails("Remove of nothing", s.root.Remove(s.ctx, "x", false), fs.ErrNotExist)
		s.fails("Remove of no directory", s.root.Remove(s.ctx, "x", true), fs.ErrNotExist)
		s.fails("Remove of a directory as a file", s.root.Remove(s.ctx, "d", false), vfs.ErrIsDir)
		s.fails("Remove of a file as a directory", s.root.Remove(s.ctx, "f", true), vfs.ErrNotDir)
		s.fails("Remove of a full directory", s.root.Remove(s.ctx, "d", true), vfs.ErrNotEmpty)
		s.same("names", s.names(s.root, ""), []string{"d", "f"})
		s.ok(d.Remove(s.ctx, "in", false))
		s.ok(s.root.Remove(s.ctx, "d", true))
		s.missing(s.root, "d")
	}},
	{"nothing can be made in a removed directory", func(s *suite) {
		f := s.file(s.root, "f", nil)
		d := s.dir(s.root, "d")
		s.ok(s.root.Remove(s.ctx, "d", true))
		_, err := d.Make(s.ctx, "x", vfs.New{Kind: vfs.KindDir})
		s.fails("Make", err, fs.ErrNotExist)
		_, _, err = d.Create(s.ctx, "x", vfs.New{Kind: vfs.KindFile}, vfs.OpenWrite)
		s.fails("Create", err, fs.ErrNotExist)
		s.fails("Link", d.Link(s.ctx, "x", f), fs.ErrNotExist)
		s.fails("Rename into it", s.root.Rename(s.ctx, "f", d, "x", vfs.RenameReplace), fs.ErrNotExist)
		s.missing(d, "x")
		s.same("names", s.names(d, ""), []string(nil))
		s.attr(d)
		s.lookup(s.root, "f")
	}},
	{"the names of one file count, and go one by one", func(s *suite) {
		d := s.dir(s.root, "d")
		f := s.file(s.root, "a", []byte("1"))
		s.ok(s.root.Link(s.ctx, "b", f))
		s.ok(d.Link(s.ctx, "c", f))
		s.same("nlink", s.attr(f).Nlink, uint32(3))
		s.same("b is the same node", s.lookup(s.root, "b") == vfs.Node(f), true)
		s.same("c is the same node", s.lookup(d, "c") == vfs.Node(f), true)
		h := s.open(s.lookup(d, "c").(vfs.File), vfs.OpenWrite)
		s.write(h, []byte("22"), 0)
		s.ok(s.root.Remove(s.ctx, "a", false))
		s.same("nlink", s.attr(f).Nlink, uint32(2))
		s.ok(s.root.Remove(s.ctx, "b", false))
		b := s.open(s.lookup(d, "c").(vfs.File), vfs.OpenRead)
		s.holds(b, f, []byte("22"))
		s.ok(d.Remove(s.ctx, "c", false))
		s.same("nlink", s.attr(f).Nlink, uint32(0))
		s.fails("Link of a file without a name", s.root.Link(s.ctx, "a", f), fs.ErrNotExist)
	}},
	{"anything but a directory can have two names", func(s *suite) {
		for kind := vfs.KindFile; kind <= vfs.KindBlock; kind++ {
			n, err := s.root.Make(s.ctx, "n", vfs.New{Kind: kind, Target: "t"})
			s.ok(err)
			err = s.root.Link(s.ctx, "m", n)
			if kind == vfs.KindDir {
				s.fails("Link of a directory", err, fs.ErrPermission)
				s.ok(s.root.Remove(s.ctx, "n", true))
				continue
			}
			s.ok(err)
			s.same("one node", s.lookup(s.root, "m") == n, true)
			s.same("nlink", s.attr(n).Nlink, uint32(2))
			s.ok(s.root.Remove(s.ctx, "n", false))
			s.ok(s.root.Remove(s.ctx, "m", false))
		}
	}},
	{"equal nodes are one thing and one number", func(s *suite) {
		f, d := s.file(s.root, "f", nil), s.dir(s.root, "d")
		s.same("f is f", s.lookup(s.root, "f") == vfs.Node(f), true)
		s.same("d is d", s.lookup(s.root, "d") == vfs.Node(d), true)
		s.same("f is not d", vfs.Node(f) == vfs.Node(d), false)
		s.same("numbers differ", s.attr(f).Ino == s.attr(d).Ino, false)
		ino := s.attr(f).Ino
		s.ok(s.root.Rename(s.ctx, "f", d, "g", vfs.RenameReplace))
		s.same("f is g", s.lookup(d, "g") == vfs.Node(f), true)
		s.same("number", s.attr(f).Ino, ino)
		for e, err := range d.List(s.ctx, "") {
			s.ok(err)
			s.same("entry", e, vfs.Entry{Name: "g", Ino: ino, Kind: vfs.KindFile})
		}
	}},
}

func testBadNames(s *suite) {
	f := s.file(s.root, "f", nil)
	for _, x := range badNames {
		_, err := s.root.Lookup(s.ctx, x.name)
		s.fails("Lookup", err, x.want)
		_, err = s.root.Make(s.ctx, x.name, vfs.New{Kind: vfs.KindDir})
		s.fails("Make", err, x.want)
		_, _, err = s.root.Create(s.ctx, x.name, vfs.New{Kind: vfs.KindFile}, vfs.OpenWrite)
		s.fails("Create", err, x.want)
		s.fails("Link", s.root.Link(s.ctx, x.name, f), x.want)
		s.fails("Remove", s.root.Remove(s.ctx, x.name, false), x.want)
		s.fails("Rename from", s.root.Rename(s.ctx, x.name, s.root, "g", vfs.RenameReplace), x.want)
		s.fails("Rename to", s.root.Rename(s.ctx, "f", s.root, x.name, vfs.RenameReplace), x.want)
	}
	s.same("names", s.names(s.root, ""), []string{"f"})
}

func testKinds(s *suite) {
	for kind := vfs.KindFile; kind <= vfs.KindBlock; kind++ {
		what := vfs.New{Kind: kind, Mode: 0o640, UID: 1234, GID: 1<<32 - 2, Rdev: 0x801}
		if kind == vfs.KindLink {
			what.Target = "t"
		}
		made, err := s.root.Make(s.ctx, "n", what)
		s.ok(err)
		n := s.lookup(s.root, "n")
		s.same("one node", n == made, true)
		_, isDir := n.(vfs.Dir)
		_, isFile := n.(vfs.File)
		_, isLink := n.(vfs.Link)
		s.same("is a Dir", isDir, kind == vfs.KindDir)
		s.same("is a File", isFile, kind == vfs.KindFile)
		s.same("is a Link", isLink, kind == vfs.KindLink)
		a := s.attr(n)
		s.same("kind", a.Kind, kind)
		s.same("mode", a.Mode, vfs.Mode(0o640))
		s.same("nlink", a.Nlink, uint32(1))
		s.same("owner", []uint32{a.UID, a.GID}, []uint32{1234, 1<<32 - 2})
		if kind == vfs.KindChar || kind == vfs.KindBlock {
			s.same("rdev", a.Rdev, uint32(0x801))
		}
		if kind != vfs.KindDir && kind != vfs.KindLink {
			s.same("size", a.Size, int64(0))
		}
		for e, err := range s.root.List(s.ctx, "") {
			s.ok(err)
			s.same("entry", e, vfs.Entry{Name: "n", Ino: a.Ino, Kind: kind})
		}
		s.ok(n.Sync(s.ctx))
		s.ok(s.root.Remove(s.ctx, "n", kind == vfs.KindDir))
	}
}
