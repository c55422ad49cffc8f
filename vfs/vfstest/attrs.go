package vfstest

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

var attrTests = []test{
	{"mode and owner are set as told, on every kind", func(s *suite) {
		for kind := vfs.KindFile; kind <= vfs.KindBlock; kind++ {
			n, err := s.root.Make(s.ctx, fmt.Sprint(kind), vfs.New{Kind: kind, Mode: 0o600, Target: "t"})
			s.ok(err)
			a, err := n.SetAttr(s.ctx, vfs.AttrChange{
				Set: vfs.SetMode | vfs.SetUID | vfs.SetGID, Mode: vfs.ModeMask, UID: 1<<32 - 1, GID: 77,
			})
			s.ok(err)
			s.same("what SetAttr returned", a, s.attr(n))
			s.same("mode", a.Mode, vfs.ModeMask)
			s.same("owner", []uint32{a.UID, a.GID}, []uint32{1<<32 - 1, 77})
			s.same("kind", a.Kind, kind)
		}
	}},
	{"only what is set changes", func(s *suite) {
		f := s.file(s.root, "f", []byte("data"))
		s.age(f)
		before := s.attr(f)
		all := vfs.AttrChange{Mode: 1, UID: 2, GID: 3, Size: 4, ATime: time.Unix(5, 0), MTime: time.Unix(6, 0), CTime: time.Unix(7, 0)}
		a, err := f.SetAttr(s.ctx, all) // nothing is set
		s.ok(err)
		s.same("nothing", a, before)
		all.Set = vfs.SetGID | vfs.SetCTime
		a, err = f.SetAttr(s.ctx, all)
		s.ok(err)
		before.GID, before.CTime = 3, a.CTime
		s.same("group", a, before)
		s.same("ctime", a.CTime.Equal(time.Unix(7, 0)), true)
	}},
	{"times are kept to the nanosecond, far back and ahead", func(s *suite) {
		f := s.file(s.root, "f", nil)
		for _, at := range []time.Time{
			time.Unix(0, 0), time.Unix(0, 1), time.Unix(1<<31, 999_999_999), time.Unix(-1, 5),
			time.Date(1901, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(2261, 1, 1, 0, 0, 0, 7, time.UTC),
		} {
			_, err := f.SetAttr(s.ctx, vfs.AttrChange{
				Set:   vfs.SetATime | vfs.SetMTime | vfs.SetCTime,
				ATime: at, MTime: at.Add(time.Nanosecond), CTime: at.Add(2),
			})
			s.ok(err)
			a := s.attr(s.lookup(s.root, "f"))
			if !a.ATime.Equal(at) || !a.MTime.Equal(at.Add(1)) || !a.CTime.Equal(at.Add(2)) {
				s.Errorf("got %v, %v, %v, want %v and 1 and 2 ns more", a.ATime, a.MTime, a.CTime, at)
			}
		}
	}},
	{"what is made has the times of that moment", func(s *suite) {
		s.age(s.root)
		start := time.Now().Add(-time.Minute)
		a := s.attr(s.dir(s.root, "d"))
		for i, at := range []time.Time{a.ATime, a.MTime, a.CTime} {
			if at.Before(start) || at.After(time.Now().Add(time.Minute)) {
				s.Errorf("time %d: got %v, want about now", i, at)
			}
		}
		s.same("times of the parent", s.times(s.root), "mc")
	}},
	{"changes of a file set its mtime and ctime", testFileTimes},
	{"changes of names set the times of directories and nodes", testNameTimes},
	{"the size is set like any attribute, but of files only", func(s *suite) {
		f := s.file(s.root, "f", []byte("0123456789"))
		s.age(f)
		a, err := f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetSize | vfs.SetMode, Size: 4, Mode: 0o600})
		s.ok(err)
		s.same("size", a.Size, int64(4))
		s.same("mode", a.Mode, vfs.Mode(0o600))
		s.same("times", s.times(f), "mc")
		h := s.open(f, vfs.OpenRead)
		s.holds(h, f, []byte("0123"))
		_, err = f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetSize, Size: 6})
		s.ok(err)
		s.holds(h, f, []byte("0123\x00\x00"))
		_, err = f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetSize | vfs.SetMTime, Size: 6, MTime: longAgo})
		s.ok(err)
		s.same("mtime is as told", s.attr(f).MTime.Equal(longAgo), true)
		for kind := vfs.KindDir; kind <= vfs.KindBlock; kind++ {
			n, err := s.root.Make(s.ctx, "n", vfs.New{Kind: kind, Mode: 0o600, Target: "t"})
			s.ok(err)
			_, err = n.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetSize | vfs.SetMode, Mode: 0o777})
			s.fails("SetSize", err, vfs.ErrIsDir, fs.ErrInvalid)
			s.same("mode is untouched", s.attr(n).Mode, vfs.Mode(0o600))
			s.ok(s.root.Remove(s.ctx, "n", kind == vfs.KindDir))
		}
		_, err = f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetSize | vfs.SetMode, Size: -1, Mode: 0o777})
		s.fails("SetSize -1", err, fs.ErrInvalid)
		s.same("mode is untouched", s.attr(f).Mode, vfs.Mode(0o600))
	}},
	{"setuid stays when a file is written or given away", func(s *suite) {
		f, h := s.create(s.root, "f")
		_, err := f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetMode, Mode: 0o6755})
		s.ok(err)
		s.write(h, []byte("x"), 0)
		s.ok(h.Truncate(s.ctx, 0))
		_, err = f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetUID, UID: 5})
		s.ok(err)
		s.same("mode", s.attr(f).Mode, vfs.Mode(0o6755))
		s.ok(h.Close(s.ctx))
	}},
	{"a setgid directory hands down its group", func(s *suite) {
		n, err := s.root.Make(s.ctx, "d", vfs.New{Kind: vfs.KindDir, Mode: 0o2755, GID: 50})
		s.ok(err)
		d := n.(vfs.Dir)
		for kind := vfs.KindFile; kind <= vfs.KindBlock; kind++ {
			n, err := d.Make(s.ctx, fmt.Sprint(kind), vfs.New{Kind: kind, Mode: 0o700, UID: 3, GID: 4, Target: "t"})
			s.ok(err)
			a := s.attr(n)
			s.same("group", []uint32{a.UID, a.GID}, []uint32{3, 50})
			s.same("bit", a.Mode&0o2000 != 0, kind == vfs.KindDir)
		}
		f, h, err := d.Create(s.ctx, "c", vfs.New{Kind: vfs.KindFile, GID: 4}, vfs.OpenWrite)
		s.ok(err)
		s.ok(h.Close(s.ctx))
		s.same("group of a created file", s.attr(f).GID, uint32(50))
	}},
	{"the use of the tree is told", func(s *suite) {
		s.file(s.root, "f", noise(1, 1<<20))
		u, err := s.fs.Usage(s.ctx)
		s.ok(err)
		if u.Bytes < 1<<20 || u.BytesFree > u.Bytes || u.FilesFree > u.Files || u.Files == 0 {
			s.Errorf("got %+v", u)
		}
	}},
	{"Sync of all works at any time", func(s *suite) {
		s.ok(s.fs.Sync(s.ctx))
		f, h := s.create(s.root, "f")
		s.write(h, []byte("data"), 0)
		s.ok(s.fs.Sync(s.ctx))
		s.ok(s.root.Remove(s.ctx, "f", false))
		s.ok(s.fs.Sync(s.ctx))
		s.ok(s.root.Sync(s.ctx))
		s.ok(f.Sync(s.ctx))
		s.ok(h.Close(s.ctx))
	}},
}

func testFileTimes(s *suite) {
	f, h := s.create(s.root, "f")
	s.write(h, noise(1, 10_000), 0)
	g, to := s.create(s.root, "g")
	step := func(what, want string, do func() error) {
		s.Helper()
		s.age(f, g, s.root)
		s.ok(do())
		if got := s.times(f); got != want {
			s.Errorf("%s: times that changed: got %q, want %q", what, got, want)
		}
		s.same("times of the directory", s.times(s.root), "")
	}
	step("a read", "", func() error { _, err := h.ReadAt(s.ctx, make([]byte, 10), 0); return err })
	step("a write", "mc", func() error { _, err := h.WriteAt(s.ctx, []byte("x"), 0); return err })
	step("a write of nothing", "", func() error { _, err := h.WriteAt(s.ctx, nil, 0); return err })
	step("a truncation", "mc", func() error { return h.Truncate(s.ctx, 9000) })
	step("a hole", "mc", func() error { return h.Allocate(s.ctx, vfs.AllocPunch, 0, 4096) })
	step("zeros", "mc", func() error { return h.Allocate(s.ctx, vfs.AllocZero, 8000, 4096) })
	step("growth", "mc", func() error { return h.Allocate(s.ctx, vfs.AllocReserve, 0, 20_000) })
	step("a copy from it", "", func() error { _, err := h.CopyTo(s.ctx, 0, to, 0, 10); return err })
	s.same("times of the copy's target", s.times(g), "mc")
	step("a copy to it", "mc", func() error { _, err := to.CopyTo(s.ctx, 0, h, 0, 10); return err })
	step("a sync", "", func() error { return h.Sync(s.ctx) })
	step("a new mode", "c", func() error {
		_, err := f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetMode, Mode: 0o600})
		return err
	})
	step("a new mtime", "mc", func() error {
		_, err := f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetMTime, MTime: time.Now()})
		return err
	})
	step("a new xattr", "c", func() error { return f.SetXattr(s.ctx, "user.x", nil, vfs.XattrAny) })
	step("an xattr less", "c", func() error { return f.RemoveXattr(s.ctx, "user.x") })
	step("opening to truncate", "mc", func() error {
		h, err := f.Open(s.ctx, vfs.OpenWrite|vfs.OpenTrunc)
		if err != nil {
			return err
		}
		return h.Close(s.ctx)
	})
	step("closing", "", func() error { return h.Close(s.ctx) })
	s.ok(to.Close(s.ctx))
}

func testNameTimes(s *suite) {
	d, e := s.dir(s.root, "d"), s.dir(s.root, "e")
	f := s.file(d, "f", nil)
	x := s.file(e, "x", nil)
	step := func(what, wantD, wantE, wantF string, do func() error) {
		s.Helper()
		s.age(d, e, f, x)
		s.ok(do())
		got := []string{s.times(d), s.times(e), s.times(f)}
		if want := []string{wantD, wantE, wantF}; !slices.Equal(got, want) {
			s.Errorf("%s: times that changed of d, e and f: got %q, want %q", what, got, want)
		}
	}
	step("a lookup", "", "", "", func() error { _, err := d.Lookup(s.ctx, "f"); return err })
	step("a list", "", "", "", func() error { s.names(d, ""); return nil })
	step("a link", "", "mc", "c", func() error { return e.Link(s.ctx, "l", f) })
	step("a removal", "", "mc", "c", func() error { return e.Remove(s.ctx, "l", false) })
	step("a rename in one directory", "mc", "", "c", func() error {
		return d.Rename(s.ctx, "f", d, "g", vfs.RenameReplace)
	})
	step("a rename to itself", "", "", "", func() error {
		return d.Rename(s.ctx, "g", d, "g", vfs.RenameReplace)
	})
	step("a rename to another directory", "mc", "mc", "c", func() error {
		return d.Rename(s.ctx, "g", e, "f", vfs.RenameReplace)
	})
	step("an exchange", "", "mc", "c", func() error { return e.Rename(s.ctx, "f", e, "x", vfs.RenameExchange) })
	s.same("the other side of it", s.times(x), "c")
	step("being replaced", "", "mc", "c", func() error { return e.Rename(s.ctx, "f", e, "x", vfs.RenameReplace) })
}

var xattrTests = []test{
	{"values are kept, on every kind of node", func(s *suite) {
		for kind := vfs.KindFile; kind <= vfs.KindBlock; kind++ {
			n, err := s.root.Make(s.ctx, fmt.Sprint(kind), vfs.New{Kind: kind, Target: "t"})
			s.ok(err)
			testXattr(s, n)
		}
		testXattr(s, s.root)
	}},
	{"flags tell making from replacing", func(s *suite) {
		f := s.file(s.root, "f", nil)
		s.fails("replace nothing", f.SetXattr(s.ctx, "user.a", []byte("1"), vfs.XattrReplace), vfs.ErrNoXattr)
		s.ok(f.SetXattr(s.ctx, "user.a", []byte("2"), vfs.XattrCreate))
		s.fails("create again", f.SetXattr(s.ctx, "user.a", []byte("3"), vfs.XattrCreate), fs.ErrExist)
		v, err := f.Xattr(s.ctx, "user.a")
		s.ok(err)
		s.same("value", string(v), "2")
		s.ok(f.SetXattr(s.ctx, "user.a", []byte("4"), vfs.XattrReplace))
		s.fails("unknown flag", f.SetXattr(s.ctx, "user.a", []byte("5"), 9), fs.ErrInvalid)
		v, err = f.Xattr(s.ctx, "user.a")
		s.ok(err)
		s.same("value", string(v), "4")
	}},
	{"limits hold, and what they refuse changes nothing", func(s *suite) {
		f := s.file(s.root, "f", nil)
		long := "user." + strings.Repeat("n", vfs.MaxXattrName-5)
		big := noise(1, vfs.MaxXattrValue)
		s.ok(f.SetXattr(s.ctx, long, big, vfs.XattrAny))
		got, err := f.Xattr(s.ctx, long)
		s.ok(err)
		s.sameBytes("the biggest value", got, big)
		s.fails("value too long", f.SetXattr(s.ctx, long, append(big, 1), vfs.XattrAny), vfs.ErrRange)
		for _, x := range []struct {
			name string
			want error
		}{{"", fs.ErrInvalid}, {"user.\x00", fs.ErrInvalid}, {long + "n", vfs.ErrRange}} {
			s.fails("SetXattr", f.SetXattr(s.ctx, x.name, nil, vfs.XattrAny), x.want)
			_, err := f.Xattr(s.ctx, x.name)
			s.fails("Xattr", err, x.want)
			s.fails("RemoveXattr", f.RemoveXattr(s.ctx, x.name), x.want)
		}
		room := vfs.MaxXattrTotal - len(long) - len(big) - len("b")
		s.fails("too much in all", f.SetXattr(s.ctx, "b", big[:min(room+1, len(big))], vfs.XattrAny), vfs.ErrNoSpace)
		s.ok(f.SetXattr(s.ctx, "b", big[:room], vfs.XattrAny))
		s.ok(f.SetXattr(s.ctx, "b", big[:room], vfs.XattrAny)) // in place of itself
		s.fails("one byte more", f.SetXattr(s.ctx, "c", nil, vfs.XattrAny), vfs.ErrNoSpace)
		names, err := f.ListXattr(s.ctx)
		s.ok(err)
		s.same("names", names, []string{"b", long})
	}},
}

func testXattr(s *suite, n vfs.Node) {
	s.Helper()
	names, err := n.ListXattr(s.ctx)
	s.ok(err)
	s.same("no names", len(names), 0)
	_, err = n.Xattr(s.ctx, "user.a")
	s.fails("Xattr of nothing", err, vfs.ErrNoXattr)
	s.fails("RemoveXattr of nothing", n.RemoveXattr(s.ctx, "user.a"), vfs.ErrNoXattr)
	want := map[string]string{"user.b": "v", "user.a": "", "security.x\xff": "\x00\xff", "z/../": "a"}
	for name, value := range want {
		buf := []byte(value)
		s.ok(n.SetXattr(s.ctx, name, buf, vfs.XattrAny))
		for i := range buf {
			buf[i] = 'X' // the slice is ours again
		}
	}
	names, err = n.ListXattr(s.ctx)
	s.ok(err)
	s.same("names", names, []string{"security.x\xff", "user.a", "user.b", "z/../"})
	names[0] = "mine"
	for range 2 {
		for name, value := range want {
			got, err := n.Xattr(s.ctx, name)
			s.ok(err)
			s.same("value of "+name, string(got), value)
			for i := range got {
				got[i] = 'Y'
			}
		}
	}
	s.ok(n.RemoveXattr(s.ctx, "user.b"))
	_, err = n.Xattr(s.ctx, "user.b")
	s.fails("Xattr of what was removed", err, vfs.ErrNoXattr)
	names, err = n.ListXattr(s.ctx)
	s.ok(err)
	s.same("names", names, []string{"security.x\xff", "user.a", "z/../"})
}
