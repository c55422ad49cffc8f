package vfstest

import (
	"io/fs"
	"testing"

	"github.com/sheaf-drive/sheaf/vfs"
)

// RunReadOnly checks that what mk makes is a read-only vfs.FS. It must hold the tree that
// Plant writes and nothing else: mk plants it where writing is possible, and returns
// a read-only view of that.
func RunReadOnly(t *testing.T, mk func(t *testing.T) vfs.FS) {
	t.Helper()
	for _, x := range []test{
		{"what is there can be read", testReadOnlyReads},
		{"what would change the tree is ErrReadOnly", testReadOnlyChanges},
	} {
		t.Run(x.name, func(t *testing.T) { x.run(newSuite(t, mk(t))) })
	}
}

func testReadOnlyReads(s *suite) {
	s.same("names", s.names(s.root, ""), []string{"dir", "fifo", "file", "link"})
	s.same("names after", s.names(s.root, "fifo"), []string{"file", "link"})
	d := s.lookup(s.root, "dir").(vfs.Dir)
	s.same("names in dir", s.names(d, ""), []string{"sub"})
	s.same("mode", s.attr(d).Mode, vfs.Mode(0o750))
	f := s.lookup(s.root, "file").(vfs.File)
	s.same("one node", s.lookup(s.root, "file") == vfs.Node(f), true)
	want := planted()
	h := s.open(f, vfs.OpenRead)
	s.holds(h, f, want)
	s.sameBytes("the middle", s.read(h, 1_000_000, 100_000), want[1_000_000:1_100_000])
	off, err := h.Seek(s.ctx, 0, vfs.SeekData)
	s.ok(err)
	s.same("first data", off, int64(0))
	s.ok(h.Sync(s.ctx))
	target, err := s.lookup(s.root, "link").(vfs.Link).Target(s.ctx)
	s.ok(err)
	s.same("target", target, "dir/sub")
	v, err := f.Xattr(s.ctx, "user.x")
	s.ok(err)
	s.same("xattr", string(v), "value")
	names, err := f.ListXattr(s.ctx)
	s.ok(err)
	s.same("xattrs", names, []string{"user.x"})
	s.missing(s.root, "nothing")
	_, err = s.root.Lookup(s.ctx, "..")
	s.fails("Lookup", err, vfs.ErrName)
	_, err = s.fs.Usage(s.ctx)
	s.ok(err)
	s.ok(s.fs.Sync(s.ctx))
	s.ok(f.Sync(s.ctx))
	s.ok(h.Close(s.ctx))
	_, err = h.ReadAt(s.ctx, make([]byte, 1), 0)
	s.fails("ReadAt after Close", err, fs.ErrClosed)
}

func testReadOnlyChanges(s *suite) {
	ro := func(what string, err error) {
		s.Helper()
		s.fails(what, err, vfs.ErrReadOnly)
	}
	d := s.lookup(s.root, "dir").(vfs.Dir)
	f := s.lookup(s.root, "file").(vfs.File)
	before := s.attr(f)
	for kind := vfs.KindFile; kind <= vfs.KindBlock; kind++ {
		_, err := s.root.Make(s.ctx, "new", vfs.New{Kind: kind, Target: "t"})
		ro("Make", err)
	}
	_, _, err := s.root.Create(s.ctx, "new", vfs.New{Kind: vfs.KindFile}, vfs.OpenRead)
	ro("Create", err)
	ro("Link", s.root.Link(s.ctx, "new", f))
	ro("Remove", s.root.Remove(s.ctx, "file", false))
	ro("Remove", d.Remove(s.ctx, "sub", true))
	for flag := vfs.RenameReplace; flag <= vfs.RenameNoReplace; flag++ {
		ro("Rename", s.root.Rename(s.ctx, "file", d, "new", flag))
	}
	ro("Rename", s.root.Rename(s.ctx, "file", s.root, "fifo", vfs.RenameExchange))
	for _, flag := range []vfs.OpenFlag{
		vfs.OpenWrite, vfs.OpenRead | vfs.OpenWrite, vfs.OpenWrite | vfs.OpenTrunc, vfs.OpenRead | vfs.OpenTrunc,
	} {
		_, err := f.Open(s.ctx, flag)
		ro("Open", err)
	}
	for _, n := range []vfs.Node{s.root, d, f, s.lookup(s.root, "link"), s.lookup(s.root, "fifo")} {
		_, err := n.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetMode, Mode: 0o777})
		ro("SetAttr", err)
		ro("SetXattr", n.SetXattr(s.ctx, "user.y", nil, vfs.XattrAny))
	}
	_, err = f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetSize})
	ro("SetAttr", err)
	ro("RemoveXattr", f.RemoveXattr(s.ctx, "user.x"))
	h := s.open(f, vfs.OpenRead)
	_, err = h.WriteAt(s.ctx, []byte("x"), 0)
	s.fails("WriteAt", err, vfs.ErrReadOnly, fs.ErrPermission)
	s.fails("Truncate", h.Truncate(s.ctx, 0), vfs.ErrReadOnly, fs.ErrPermission)
	s.fails("Allocate", h.Allocate(s.ctx, vfs.AllocZero, 0, 1), vfs.ErrReadOnly, fs.ErrPermission)
	s.same("attributes", s.attr(f), before)
	testReadOnlyReads(s)
}
