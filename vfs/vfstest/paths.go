package vfstest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

var pathTests = []test{
	{"paths lead to nodes, and not through links", func(s *suite) {
		what := vfs.New{Mode: 0o750}
		d, err := vfs.MkdirAll(s.ctx, s.fs, "/a//b/./c/", what)
		s.ok(err)
		again, err := vfs.MkdirAll(s.ctx, s.fs, "a/b/c", what)
		s.ok(err)
		s.same("one node", again == d, true)
		s.ok(vfs.WriteFile(s.ctx, s.fs, "a/b/f", []byte("data"), what))
		_, err = s.root.Make(s.ctx, "l", vfs.New{Kind: vfs.KindLink, Target: "a"})
		s.ok(err)
		n, err := vfs.Walk(s.ctx, s.fs, "l")
		s.ok(err)
		_, isLink := n.(vfs.Link)
		s.same("the link itself", isLink, true)
		for path, want := range map[string]error{
			"a/../a": vfs.ErrName, "..": vfs.ErrName, "l/b": vfs.ErrNotDir, "a/b/f/x": vfs.ErrNotDir, "a/x/y": fs.ErrNotExist,
		} {
			_, err := vfs.Walk(s.ctx, s.fs, path)
			s.fails("Walk to "+path, err, want)
			_, _, err = vfs.WalkParent(s.ctx, s.fs, path+"/z")
			s.fails("WalkParent of "+path+"/z", err, want)
		}
		for _, path := range []string{"", "/", "./"} {
			n, err := vfs.Walk(s.ctx, s.fs, path)
			s.ok(err)
			s.same("root", n == vfs.Node(s.root), true)
			_, _, err = vfs.WalkParent(s.ctx, s.fs, path)
			s.fails("WalkParent of the root", err, fs.ErrInvalid)
			s.fails("RemoveAll of the root", vfs.RemoveAll(s.ctx, s.fs, path), fs.ErrInvalid)
		}
		_, err = vfs.MkdirAll(s.ctx, s.fs, "a/b/f/g", what)
		s.fails("MkdirAll through a file", err, vfs.ErrNotDir)
		_, err = vfs.WalkDir(s.ctx, s.fs, "a/b/f")
		s.fails("WalkDir to a file", err, vfs.ErrNotDir)
	}},
	{"files are read and written by path", func(s *suite) {
		want := noise(1, 700_000)
		s.ok(vfs.WriteFile(s.ctx, s.fs, "f", want, vfs.New{Mode: 0o600}))
		got, err := vfs.ReadFile(s.ctx, s.fs, "f", 700_000)
		s.ok(err)
		s.sameBytes("f", got, want)
		_, err = vfs.ReadFile(s.ctx, s.fs, "f", 699_999)
		s.fails("ReadFile of too much", err, vfs.ErrTooBig)
		f := s.lookup(s.root, "f")
		s.ok(vfs.WriteFile(s.ctx, s.fs, "f", []byte("short"), vfs.New{Mode: 0o777}))
		got, err = vfs.ReadFile(s.ctx, s.fs, "f", 5)
		s.ok(err)
		s.sameBytes("f", got, []byte("short"))
		s.same("one node", s.lookup(s.root, "f") == f, true)
		s.same("mode", s.attr(f).Mode, vfs.Mode(0o600))
		_, err = vfs.ReadFile(s.ctx, s.fs, "/", 5)
		s.fails("ReadFile of a directory", err, vfs.ErrIsDir)
	}},
	{"a tree is yielded from the top, in order, and removed whole", func(s *suite) {
		for _, path := range []string{"b/x/1", "b/x/2", "b/a", "a.b", "a"} {
			_, err := vfs.MkdirAll(s.ctx, s.fs, path, vfs.New{Mode: 0o700})
			s.ok(err)
		}
		s.ok(vfs.WriteFile(s.ctx, s.fs, "b/x/1/f", []byte("12345"), vfs.New{}))
		all := func() (paths []string) {
			for e, err := range vfs.Tree(s.ctx, s.root) {
				s.ok(err)
				paths = append(paths, e.Path)
				if e.Path == "b/x/1/f" && e.Attr.Size != 5 {
					s.Errorf("size of f: got %d", e.Attr.Size)
				}
			}
			return paths
		}
		s.same("tree", all(), []string{"a", "a.b", "b", "b/a", "b/x", "b/x/1", "b/x/1/f", "b/x/2"})
		s.ok(vfs.RemoveAll(s.ctx, s.fs, "b/x"))
		s.ok(vfs.RemoveAll(s.ctx, s.fs, "b/x"))
		s.ok(vfs.RemoveAll(s.ctx, s.fs, "a"))
		s.same("tree", all(), []string{"a.b", "b", "b/a"})
		for e, err := range vfs.Tree(s.ctx, s.root) {
			s.ok(err)
			s.same("first", e.Path, "a.b")
			break
		}
	}},
	{"Changes ends with its context", func(s *suite) {
		ctx, cancel := context.WithCancel(s.ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range s.fs.Changes(ctx) {
				continue
			}
		}()
		s.file(s.root, "f", []byte("x"))
		cancel()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			s.Error("Changes goes on though its context is done")
		}
	}},
}

// Plant fills fsys, which is empty, with the tree that RunReadOnly wants to find.
func Plant(ctx context.Context, fsys vfs.FS) error {
	root, err := fsys.Root(ctx)
	if err != nil {
		return err
	}
	_, errDir := vfs.MkdirAll(ctx, fsys, "dir/sub", vfs.New{Mode: 0o750})
	errFile := vfs.WriteFile(ctx, fsys, "file", planted(), vfs.New{Mode: 0o644})
	_, errLink := root.Make(ctx, "link", vfs.New{Kind: vfs.KindLink, Mode: 0o777, Target: "dir/sub"})
	_, errFIFO := root.Make(ctx, "fifo", vfs.New{Kind: vfs.KindFIFO, Mode: 0o600})
	if err := errors.Join(errDir, errFile, errLink, errFIFO); err != nil {
		return err
	}
	n, err := root.Lookup(ctx, "file")
	if err != nil {
		return err
	}
	return n.SetXattr(ctx, "user.x", []byte("value"), vfs.XattrAny)
}

// planted is what Plant writes into "file".
func planted() []byte { return bytes.Repeat(noise(1, 1<<20), 3) }
