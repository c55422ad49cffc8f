package treefs_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/aside"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
	"github.com/sheaf-drive/sheaf/sync/remote/treefs"
	"github.com/sheaf-drive/sheaf/sync/remote/treetest"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// A tree as a place keeps the whole contract.
func TestTree_Suite(t *testing.T) {
	treetest.Run(t, func(*testing.T) treetest.Place {
		fsys := memfs.New(memfs.Options{})
		o := treefs.TreeOptions{Identity: "memory", Exact: true}
		return treetest.Place{Tree: treefs.NewTree(fsys, o), Again: treefs.NewTree(fsys, o)}
	})
}

// So does a place as a tree as a place.
func TestTree_OfAnFSOfATree(t *testing.T) {
	treetest.Run(t, func(t *testing.T) treetest.Place {
		fsys := treefs.New(memtree.New(memtree.Options{NoFeed: true}), treefs.Options{Spool: t.TempDir(), Age: 1})
		return treetest.Place{Tree: treefs.NewTree(fsys, treefs.TreeOptions{Identity: "both"})}
	})
}

// meddling is a tree in which others act right before an exchange.
type meddling struct {
	vfs.FS
	before []func() // the first exchange, the second, …
}

type meddlingDir struct {
	vfs.Dir
	m *meddling
}

func (m *meddling) Root(ctx context.Context) (vfs.Dir, error) {
	d, err := m.FS.Root(ctx)
	return &meddlingDir{d, m}, err
}

func (d *meddlingDir) Rename(ctx context.Context, name string, to vfs.Dir, newName string, flag vfs.RenameFlag) error {
	if flag == vfs.RenameExchange && len(d.m.before) > 0 {
		do := d.m.before[0]
		d.m.before = d.m.before[1:]
		do()
	}
	return d.Dir.Rename(ctx, name, to.(*meddlingDir).Dir, newName, flag)
}

// Somebody saves at the last moment, and once more while that comes back: both are there, and the newest has the name.
func TestTree_WhatComesWhileAnotherComesBackIsKept(t *testing.T) {
	mem := memfs.New(memfs.Options{})
	save := func(text string) func() {
		return func() {
			ok(t, vfs.WriteFile(t.Context(), mem, "new", []byte(text), vfs.New{Mode: 0o644}))
			root, err := mem.Root(t.Context())
			ok(t, err)
			ok(t, root.Rename(t.Context(), "new", root, "file", vfs.RenameReplace))
		}
	}
	save("first")()
	tree := treefs.NewTree(&meddling{mem, []func(){save("second, and longer"), save("third")}}, treefs.TreeOptions{Identity: "memory", Exact: true})
	it, err := tree.Stat(t.Context(), "file")
	ok(t, err)
	if _, err := tree.Put(t.Context(), remote.Item{Path: "file", Size: 4}, strings.NewReader("afar"), it.Version); !errors.Is(err, remote.ErrChanged) {
		t.Errorf("got error %v, want ErrChanged", err)
	}
	got := map[string]string{}
	for it, err := range tree.List(t.Context(), "") {
		ok(t, err)
		got[it.Path] = read(t, tree, it.Path)
	}
	saved := ""
	for p, text := range got {
		if strings.HasPrefix(p, "file (saved by sheaf ") {
			saved = text
		}
	}
	if got["file"] != "third" || saved != "second, and longer" || len(got) != 2 {
		t.Errorf("got %q, want the third as the file, and the second beside it", got)
	}
}

// What links say is the place's own: their targets are as long as a tree may have.
func TestTree_LongTargets(t *testing.T) {
	tree := treefs.NewTree(memfs.New(memfs.Options{}), treefs.TreeOptions{Identity: "memory", Exact: true})
	target := strings.Repeat("d/", 2000)
	it, err := tree.Put(t.Context(), remote.Item{Path: "l", Kind: remote.Symlink, Target: target}, nil, "")
	ok(t, err)
	if it.Target != target {
		t.Errorf("got a target of %d bytes, want %d", len(it.Target), len(target))
	}
}

// feeding is a tree whose feed tells what a test says. Its cursors are numbers.
type feeding struct {
	vfs.FS
	n      int
	tells  []string
	before func() // it tells anything
}

func (f *feeding) feed(_ context.Context, since remote.Cursor) (iter.Seq2[string, error], remote.Cursor, error) {
	f.n++
	tells := f.tells
	if since == "" {
		tells = nil
	}
	return func(yield func(string, error) bool) {
		if f.before != nil {
			f.before()
		}
		for _, p := range tells {
			if !yield(p, nil) {
				return
			}
		}
	}, remote.Cursor(strconv.Itoa(f.n)), nil
}

// told returns the paths that a place says changed, those that are gone with a minus.
func told(t *testing.T, at remote.Tree, since remote.Cursor) (paths []string, next remote.Cursor, err error) {
	t.Helper()
	changes, cursor := at.Changes(t.Context(), since)
	for c, err := range changes {
		if err != nil {
			return nil, cursor(), err
		}
		if c.Gone {
			c.Path = "-" + c.Path
		}
		paths = append(paths, c.Path)
	}
	return paths, cursor(), nil
}

func makeFile(t *testing.T, fsys vfs.FS, path string) {
	t.Helper()
	if err := vfs.WriteFile(t.Context(), fsys, path, []byte("x"), vfs.New{Kind: vfs.KindFile, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
}

func makeDir(t *testing.T, fsys vfs.FS, path string) {
	t.Helper()
	d, name, err := vfs.WalkParent(t.Context(), fsys, path)
	if err == nil {
		_, err = d.Make(t.Context(), name, vfs.New{Kind: vfs.KindDir, Mode: 0o700})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What a crash has hidden holds the cursor until it is old enough to be given a name; what is below a hidden name is not told, and is no error.
func TestTree_AFeedComesBackToWhatIsHidden(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	f := &feeding{FS: fsys}
	tree := treefs.NewTree(fsys, treefs.TreeOptions{Identity: "memory", Feed: f.feed})
	makeFile(t, fsys, "seen")
	_, cursor, err := told(t, tree, "")
	if err != nil || cursor != "1" {
		t.Fatalf("cursor %q and error %v", cursor, err)
	}
	hidden, folder := aside.Name(0), aside.Name(1)
	makeFile(t, fsys, hidden)
	makeDir(t, fsys, folder)
	makeFile(t, fsys, folder+"/within")
	f.tells = []string{hidden, folder, folder + "/within", "seen"}
	for range 2 {
		got, next, err := told(t, tree, cursor)
		if err != nil || next != cursor || !slices.Equal(got, []string{"seen"}) {
			t.Fatalf("told %q, cursor %q, error %v, want the cursor %q again", got, next, err, cursor)
		}
	}
	if got, next, err := told(t, tree, ""); err != nil || !slices.Equal(got, []string{"seen"}) {
		t.Fatalf("listed %q, error %v", got, err)
	} else if got, again, err := told(t, tree, next); err != nil || again != next || !slices.Equal(got, []string{"seen"}) {
		t.Fatalf("after a listing that met hidden files: told %q, cursor %q after %q, error %v, want all again", got, again, next, err)
	}

	for _, name := range []string{hidden, folder} {
		d, _, err := vfs.WalkParent(t.Context(), fsys, name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := d.Lookup(t.Context(), name)
		if err == nil {
			_, err = n.SetAttr(t.Context(), vfs.AttrChange{Set: vfs.SetCTime, CTime: time.Now().Add(-2 * aside.Age)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got, next, err := told(t, tree, cursor)
	if err != nil || next == cursor || !slices.Equal(got, []string{"seen"}) {
		t.Errorf("told %q, cursor %q, error %v, when they are old", got, next, err)
	}
	all, _, err := told(t, tree, "")
	if err != nil || len(all) != 4 {
		t.Errorf("listed %q, error %v, want both under names that are seen", all, err)
	}
}

// Where the root of the place goes away while changes are told, nothing in it was deleted.
func TestTree_AFeedOfARootThatGoesIsNoDelete(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	f := &feeding{FS: fsys, tells: []string{"place/file"}}
	makeDir(t, fsys, "place")
	makeFile(t, fsys, "place/file")
	tree := treefs.NewTree(fsys, treefs.TreeOptions{Identity: "memory", Below: "place", Feed: f.feed})
	_, cursor, err := told(t, tree, "")
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := vfs.WalkParent(t.Context(), fsys, "place")
	if err != nil {
		t.Fatal(err)
	}
	f.before = func() {
		f.before = nil
		if err := d.Rename(t.Context(), "place", d, "away", 0); err != nil {
			t.Error(err)
		}
	}
	if _, next, err := told(t, tree, cursor); err == nil || next != "" {
		t.Errorf("while it went away: cursor %q and error %v", next, err)
	}
	if _, next, err := told(t, tree, cursor); !errors.Is(err, fs.ErrNotExist) || next != "" {
		t.Errorf("when it was gone: cursor %q and error %v", next, err)
	}
	makeDir(t, fsys, "place")
	f.before = func() {
		f.before = nil
		if err := d.Rename(t.Context(), "place", d, "away", vfs.RenameExchange); err != nil {
			t.Error(err)
		}
	}
	if _, next, err := told(t, tree, cursor); !errors.Is(err, remote.ErrChanged) || next != "" {
		t.Errorf("while another took its place: cursor %q and error %v", next, err)
	}
}
