// Package vfstest holds what every vfs.FS has to pass: Run and RunReadOnly, which
// say the contract of package vfs as tests, and Model, which drives an FS by random
// operations next to vfs/memfs. It does not test doors; mount/mounttest does.
package vfstest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/vfs"
)

// A test is one rule of the contract.
type test struct {
	name string
	run  func(s *suite)
}

// Run checks that what mk makes is a writable vfs.FS. Each subtest gets one of its
// own, which must be empty and is given back by mk's own t.Cleanup.
func Run(t *testing.T, mk func(t *testing.T) vfs.FS) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"names", nameTests},
		{"lists", listTests},
		{"renames", renameTests},
		{"attributes", attrTests},
		{"extended attributes", xattrTests},
		{"files", fileTests},
		{"ranges", rangeTests},
		{"copies", copyTests},
		{"paths", pathTests},
		{"at the same time", parallelTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, x := range group.tests {
				t.Run(x.name, func(t *testing.T) {
					x.run(newSuite(t, mk(t)))
				})
			}
		})
	}
}

// suite is one FS under test.
type suite struct {
	*testing.T
	ctx  context.Context
	fs   vfs.FS
	root vfs.Dir
}

func newSuite(t *testing.T, fsys vfs.FS) *suite {
	t.Helper()
	s := &suite{T: t, ctx: t.Context(), fs: fsys}
	root, err := fsys.Root(s.ctx)
	if err != nil {
		t.Fatalf("Root: %v", err)
	}
	s.root = root
	return s
}

// ok stops the test on an error.
func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}

// fails wants an error that is one of want.
func (s *suite) fails(what string, err error, want ...error) {
	s.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	s.Errorf("%s: got error %v, want one that is %v", what, err, want)
}

// same wants got to be want.
func (s *suite) same(what string, got, want any) {
	s.Helper()
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// dir makes a directory.
func (s *suite) dir(in vfs.Dir, name string) vfs.Dir {
	s.Helper()
	n, err := in.Make(s.ctx, name, vfs.New{Kind: vfs.KindDir, Mode: 0o755})
	s.ok(err)
	d, ok := n.(vfs.Dir)
	if !ok {
		s.Fatalf("Make of a directory: got a %T", n)
	}
	return d
}

// file makes a file that holds data.
func (s *suite) file(in vfs.Dir, name string, data []byte) vfs.File {
	s.Helper()
	f, h := s.create(in, name)
	s.write(h, data, 0)
	s.ok(h.Close(s.ctx))
	return f
}

// create makes a file and opens it for reading and writing.
func (s *suite) create(in vfs.Dir, name string) (vfs.File, vfs.Handle) {
	s.Helper()
	f, h, err := in.Create(s.ctx, name, vfs.New{Kind: vfs.KindFile, Mode: 0o644}, vfs.OpenRead|vfs.OpenWrite)
	s.ok(err)
	return f, h
}

// open opens f and closes it at the end of the test, if the test did not.
func (s *suite) open(f vfs.File, flag vfs.OpenFlag) vfs.Handle {
	s.Helper()
	h, err := f.Open(s.ctx, flag)
	s.ok(err)
	s.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil && !errors.Is(err, fs.ErrClosed) {
			s.Errorf("Close: %v", err)
		}
	})
	return h
}

// lookup returns a child that must be there.
func (s *suite) lookup(in vfs.Dir, name string) vfs.Node {
	s.Helper()
	n, err := in.Lookup(s.ctx, name)
	s.ok(err)
	return n
}

// missing wants that in has no child of that name.
func (s *suite) missing(in vfs.Dir, name string) {
	s.Helper()
	_, err := in.Lookup(s.ctx, name)
	s.fails("Lookup of "+name, err, fs.ErrNotExist)
}

// attr returns the attributes of n.
func (s *suite) attr(n vfs.Node) vfs.Attr {
	s.Helper()
	a, err := n.Attr(s.ctx)
	s.ok(err)
	return a
}

// names lists a directory.
func (s *suite) names(d vfs.Dir, after string) []string {
	s.Helper()
	var names []string
	for e, err := range d.List(s.ctx, after) {
		s.ok(err)
		names = append(names, e.Name)
	}
	return names
}

// write writes all of p.
func (s *suite) write(h vfs.Handle, p []byte, off int64) {
	s.Helper()
	n, err := h.WriteAt(s.ctx, p, off)
	if n != len(p) || err != nil {
		s.Fatalf("WriteAt(%d bytes, %d): got %d, %v", len(p), off, n, err)
	}
}

// read reads n bytes that must be there.
func (s *suite) read(h vfs.Handle, off int64, n int) []byte {
	s.Helper()
	p := make([]byte, n)
	for i := range p {
		p[i] = 0xa5 // so that a byte that ReadAt did not fill is seen
	}
	m, err := h.ReadAt(s.ctx, p, off)
	if m != n || err != nil && !errors.Is(err, io.EOF) {
		s.Fatalf("ReadAt(%d bytes, %d): got %d, %v", n, off, m, err)
	}
	return p
}

// holds wants that the file is want and nothing else.
func (s *suite) holds(h vfs.Handle, f vfs.Node, want []byte) {
	s.Helper()
	if size := s.attr(f).Size; size != int64(len(want)) {
		s.Errorf("size: got %d, want %d", size, len(want))
	}
	p := make([]byte, len(want)+1)
	n, err := h.ReadAt(s.ctx, p, 0)
	if !errors.Is(err, io.EOF) {
		s.Errorf("ReadAt beyond the end: got error %v, want io.EOF", err)
	}
	s.sameBytes("content", p[:n], want)
}

// sameBytes says where two slices differ, not how they look.
func (s *suite) sameBytes(what string, got, want []byte) {
	s.Helper()
	if err := sameData(got, want); err != nil {
		s.Errorf("%s: %v", what, err)
	}
}

// noise returns n bytes, none of them zero, that follow from seed.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0x5ea1))
	p := make([]byte, n)
	for i := 0; i < n; i += 8 {
		v := r.Uint64()
		for j := i; j < min(i+8, n); j++ {
			p[j] = byte(v) | 1
			v >>= 8
		}
	}
	return p
}

// long ago is a time that no clock tells now.
var longAgo = time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)

// age sets the times of n to longAgo, so that a change of them is seen without waiting.
func (s *suite) age(nodes ...vfs.Node) {
	s.Helper()
	for _, n := range nodes {
		_, err := n.SetAttr(s.ctx, vfs.AttrChange{
			Set:   vfs.SetATime | vfs.SetMTime | vfs.SetCTime,
			ATime: longAgo, MTime: longAgo, CTime: longAgo,
		})
		s.ok(err)
	}
}

// times says which times of n are no longer longAgo: some of "a", "m" and "c".
func (s *suite) times(n vfs.Node) string {
	s.Helper()
	a, got := s.attr(n), ""
	for _, x := range []struct {
		name string
		at   time.Time
	}{{"a", a.ATime}, {"m", a.MTime}, {"c", a.CTime}} {
		if !x.at.Equal(longAgo) {
			got += x.name
			if d := time.Since(x.at); d < -time.Minute || d > time.Hour {
				s.Errorf("%stime: got %v, want about now", x.name, x.at)
			}
		}
	}
	return got
}
