// Package treetest holds what every remote.Tree has to pass: Run says the contract of the joint as tests. It has no Tree of its own; package
// memtree has one, and package remotetest starts servers to run this on.
package treetest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A Place is one empty place under test.
type Place struct {
	Tree remote.Tree
	// Again is a second Tree of the same place, that shares nothing with the first; nil: there is none.
	Again remote.Tree
	// Slow says that each call costs milliseconds: the tests are as many, but smaller.
	Slow bool
	// Cannot has, by the names of tests, why this kind of place cannot pass them. A limitation is published, never hidden.
	Cannot map[string]string
}

// A test is one rule of the contract.
type test struct {
	name string
	run  func(s *suite)
}

// Run checks that what mk makes is a writable remote.Tree. Each subtest gets a place of its own, which mk's own t.Cleanup gives back.
func Run(t *testing.T, mk func(t *testing.T) Place) {
	t.Helper()
	groups := []struct {
		name  string
		tests []test
	}{
		{"files", fileTests},
		{"reads", readTests},
		{"moves", moveTests},
		{"directories", dirTests},
		{"links", linkTests},
		{"changes", changeTests},
		{"names", nameTests},
		{"at the same time", parallelTests},
		{"when it is over", cancelTests},
	}
	known := map[string]bool{}
	for _, group := range groups {
		for _, x := range group.tests {
			known[x.name] = true
		}
	}
	for _, group := range groups {
		t.Run(group.name, func(t *testing.T) {
			for _, x := range group.tests {
				t.Run(x.name, func(t *testing.T) {
					p := mk(t)
					for name := range p.Cannot {
						if !known[name] {
							t.Errorf("there is no test %q that the place cannot pass", name)
						}
					}
					if why := p.Cannot[x.name]; why != "" {
						t.Skip(why)
					}
					x.run(&suite{T: t, ctx: t.Context(), Place: p, can: p.Tree.Can()})
				})
			}
		})
	}
}

// suite is one place under test.
type suite struct {
	*testing.T
	Place
	ctx context.Context
	can remote.TreeCan
}

// need skips a test of what a place says that it cannot do.
func (s *suite) need(can bool, what string) {
	s.Helper()
	if !can {
		s.Skip("the place says that it cannot: " + what)
	}
}

// some returns n, or less where calls are slow.
func (s *suite) some(n, slow int) int {
	if s.Slow || testing.Short() {
		return slow
	}
	return n
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

// t0 is a time with no fraction, in the past, and even: every place can keep it.
var t0 = time.Date(2021, 3, 4, 5, 6, 8, 0, time.UTC)

// put puts a file where none is.
func (s *suite) put(path, data string) remote.Item {
	s.Helper()
	return s.replace(path, data, "")
}

// replace puts a file in the place of what has the version known.
func (s *suite) replace(path, data string, known remote.Version) remote.Item {
	s.Helper()
	it, err := s.try(s.Tree, path, data, known)
	if err != nil {
		s.Fatalf("put %q: unexpected error: %v", path, err)
	}
	return it
}

// try puts a file.
func (s *suite) try(t remote.Tree, path, data string, known remote.Version) (remote.Item, error) {
	return t.Put(s.ctx, remote.Item{Path: path, Size: int64(len(data)), MTime: t0, Mode: 0o644}, strings.NewReader(data), known)
}

// dir makes a directory, and what lies above it.
func (s *suite) dir(path string) {
	s.Helper()
	for i := range len(path) + 1 {
		if i == len(path) || path[i] == '/' {
			if _, err := s.Tree.Mkdir(s.ctx, path[:i], 0o755); err != nil {
				s.Fatalf("make directory %q: unexpected error: %v", path[:i], err)
			}
		}
	}
}

// read returns the bytes of a file.
func (s *suite) read(path string) string {
	s.Helper()
	data, err := s.readAll(s.Tree, path, 0, -1, "")
	if err != nil {
		s.Fatalf("read %q: unexpected error: %v", path, err)
	}
	return data
}

func (s *suite) readAll(t remote.Tree, path string, off, n int64, known remote.Version) (string, error) {
	r, err := t.Open(s.ctx, path, off, n, known)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return string(data), err
}

// list returns what a directory holds.
func (s *suite) list(dir string) []remote.Item {
	s.Helper()
	items, err := items(s.Tree.List(s.ctx, dir))
	if err != nil {
		s.Fatalf("list %q: unexpected error: %v", dir, err)
	}
	return items
}

// items collects a listing.
func items(seq iter.Seq2[remote.Item, error]) ([]remote.Item, error) {
	var all []remote.Item
	for it, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, it)
	}
	return all, nil
}

// paths returns the paths of items.
func paths(all []remote.Item) []string {
	var p []string
	for _, it := range all {
		p = append(p, it.Path)
	}
	return p
}

// all returns everything that the place has, and the cursor.
func (s *suite) all(t remote.Tree) ([]remote.Item, remote.Cursor) {
	s.Helper()
	var all []remote.Item
	seq, next := t.Changes(s.ctx, "")
	for c, err := range seq {
		s.ok(err)
		if c.Gone {
			s.Errorf("a listing of everything says that %q is gone", c.Path)
		}
		all = append(all, c.Item)
	}
	return all, next()
}

// want compares what the place has with paths. A directory ends with a slash, and a link with an @.
func (s *suite) want(want ...string) {
	s.Helper()
	all, _ := s.all(s.Tree)
	var got []string
	for _, it := range all {
		p := it.Path
		switch it.Kind {
		case remote.Dir:
			p += "/"
		case remote.Symlink:
			p += "@"
		}
		got = append(got, p)
	}
	s.same("what is there", got, want)
}

// alike compares what two calls say of one thing. Times may be told in any zone.
func (s *suite) alike(what string, got, want remote.Item) {
	s.Helper()
	if s.can.MTime > 0 && !got.MTime.Equal(want.MTime) {
		s.Errorf("%s: got time %v, want %v", what, got.MTime, want.MTime)
	}
	got.MTime, want.MTime = time.Time{}, time.Time{}
	// A place may know the hash of what it has just been given, and have to compute it later.
	for _, it := range []*remote.Item{&got, &want} {
		if len(it.Hashes) == 0 {
			it.Hashes = nil
		}
	}
	if got.Hashes == nil || want.Hashes == nil {
		got.Hashes, want.Hashes = nil, nil
	}
	s.same(what, got, want)
}

// gone wants nothing to be at path.
func (s *suite) gone(path string) {
	s.Helper()
	if _, err := s.Tree.Stat(s.ctx, path); !errors.Is(err, fs.ErrNotExist) {
		s.Errorf("stat %q: got error %v, want fs.ErrNotExist", path, err)
	}
}

// pattern returns n bytes of which no two runs at different places are alike.
func pattern(n int) []byte {
	b := make([]byte, 0, n+24)
	for i := int64(0); len(b) < n; i++ {
		b = append(strconv.AppendInt(b, i, 10), ',')
	}
	return b[:n]
}

// ordered reports whether paths are in the order of Changes.
func ordered(p []string) bool {
	return slices.IsSortedFunc(p, remote.ComparePaths)
}
