package treefs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
	"github.com/sheaf-drive/sheaf/sync/remote/treefs"
	"github.com/sheaf-drive/sheaf/vfs"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sneak changes a place behind the door's back.
func sneak(t *testing.T, tree *memtree.Tree, path, data string) {
	t.Helper()
	ok(t, tree.SneakPut(remote.Item{Path: path, MTime: time.Unix(1e9, 0)}, []byte(data)))
}

func read(t *testing.T, tree remote.Tree, path string) string {
	t.Helper()
	r, err := tree.Open(t.Context(), path, 0, -1, "")
	if errors.Is(err, fs.ErrNotExist) {
		return "nothing"
	}
	ok(t, err)
	p, err := io.ReadAll(r)
	ok(t, errors.Join(err, r.Close()))
	return string(p)
}

// Somebody changes the file at the place while it is written here: both are there at the end.
func TestFS_AChangeAtThePlaceIsNotOverwritten(t *testing.T) {
	tree := memtree.New(memtree.Options{})
	sneak(t, tree, "dir/note.txt", "old")
	fsys := treefs.New(tree, treefs.Options{Spool: t.TempDir()})
	h, err := vfs.OpenPath(t.Context(), fsys, "dir/note.txt", vfs.OpenWrite|vfs.OpenRead)
	ok(t, err)
	_, err = h.WriteAt(t.Context(), []byte("here"), 0)
	ok(t, err)
	sneak(t, tree, "dir/note.txt", "there")
	ok(t, h.Close(t.Context()))
	if got := read(t, tree, "dir/note.txt"); got != "there" {
		t.Errorf("the file is %q, want what somebody wrote at the place", got)
	}
	if got := read(t, tree, "dir/note (conflict 1).txt"); got != "here" {
		t.Errorf("beside it is %q, want what was written here", got)
	}
}

// The same where another file is there by then, or none, and the door has seen it before what was written here is put.
func TestFS_AnotherFileAtThePlaceTakesNothingAway(t *testing.T) {
	for _, there := range []string{"there", "nothing"} {
		tree := memtree.New(memtree.Options{})
		sneak(t, tree, "dir/note.txt", "old")
		sneak(t, tree, "dir/other", "")
		fsys := treefs.New(tree, treefs.Options{Spool: t.TempDir(), Age: 1})
		h, err := vfs.OpenPath(t.Context(), fsys, "dir/note.txt", vfs.OpenWrite|vfs.OpenRead)
		ok(t, err)
		_, err = h.WriteAt(t.Context(), []byte("here"), 0)
		ok(t, err)
		ok(t, tree.SneakRemove("dir/note.txt"))
		if there != "nothing" {
			sneak(t, tree, "dir/note.txt", there)
		}
		d, err := vfs.WalkDir(t.Context(), fsys, "dir")
		ok(t, err)
		for _, err := range d.List(t.Context(), "") {
			ok(t, err)
		}
		n, err := d.Lookup(t.Context(), "note.txt")
		ok(t, err)
		a, err := n.Attr(t.Context())
		ok(t, err)
		if a.Size != 4 {
			t.Errorf("%s: the file is %d bytes long, want the 4 that were written", there, a.Size)
		}
		ok(t, h.Close(t.Context()))
		if got := read(t, tree, "dir/note.txt"); got != there {
			t.Errorf("the file is %q, want %s", got, there)
		}
		if got := read(t, tree, "dir/note (conflict 1).txt"); got != "here" {
			t.Errorf("%s: beside it is %q, want what was written here", there, got)
		}
	}
}

// A file that cannot be put stays, is tried again, and nothing of it is lost.
func TestFS_WhatCannotBePutIsKept(t *testing.T) {
	tree := &failing{Tree: memtree.New(memtree.Options{}), fail: true}
	fsys := treefs.New(tree, treefs.Options{Spool: t.TempDir()})
	root, err := fsys.Root(t.Context())
	ok(t, err)
	_, h, err := root.Create(t.Context(), "file", vfs.New{Kind: vfs.KindFile, Mode: 0o644}, vfs.OpenWrite)
	ok(t, err)
	_, err = h.WriteAt(t.Context(), []byte("precious"), 0)
	ok(t, err)
	if err := h.Close(t.Context()); !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("close: got error %v, want ErrTemporary", err)
	}
	if n := fsys.Pending(); n != 1 {
		t.Errorf("%d files wait, want one", n)
	}
	if p, err := vfs.ReadFile(t.Context(), fsys, "file", 100); err != nil || string(p) != "precious" {
		t.Errorf("meanwhile it reads as %q, error %v", p, err)
	}
	if err := fsys.Sync(t.Context()); !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("sync: got error %v, want ErrTemporary", err)
	}
	tree.fail = false
	ok(t, fsys.Sync(t.Context()))
	if got := read(t, tree, "file"); got != "precious" || fsys.Pending() != 0 {
		t.Errorf("got %q, and %d files wait", got, fsys.Pending())
	}
}

// failing is a Tree that takes nothing.
type failing struct {
	remote.Tree
	fail bool
	puts int
}

func (f *failing) Put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	f.puts++
	if f.fail {
		return remote.Item{}, fmt.Errorf("put: %w", blob.ErrTemporary)
	}
	return f.Tree.Put(ctx, it, r, known)
}

// As most programs save: a new file, and then its name over the old one. It is one upload, and there is no moment without the file.
func TestFS_ASaveByRenameIsOneStep(t *testing.T) {
	mem := memtree.New(memtree.Options{})
	tree := &failing{Tree: mem}
	sneak(t, mem, "doc", "old")
	fsys := treefs.New(tree, treefs.Options{Spool: t.TempDir()})
	root, err := fsys.Root(t.Context())
	ok(t, err)
	_, h, err := root.Create(t.Context(), "doc.tmp", vfs.New{Kind: vfs.KindFile, Mode: 0o644}, vfs.OpenWrite)
	ok(t, err)
	_, err = h.WriteAt(t.Context(), []byte("new"), 0)
	ok(t, err)
	seq, next := mem.Changes(t.Context(), "")
	for _, err := range seq {
		ok(t, err)
	}
	ok(t, root.Rename(t.Context(), "doc.tmp", root, "doc", vfs.RenameReplace))
	ok(t, h.Close(t.Context()))
	seq, _ = mem.Changes(t.Context(), next())
	for c, err := range seq {
		ok(t, err)
		if c.Path != "doc" || c.Gone {
			t.Errorf("the place saw %+v, want a new doc and nothing else", c)
		}
	}
	if got := read(t, tree, "doc"); got != "new" || tree.puts != 1 {
		t.Errorf("got %q after %d uploads, want it after one", got, tree.puts)
	}
}

// A listing is kept, and each file of it costs no call; a change at the place shows when it is old.
func TestFS_AListingIsKeptAndGrowsOld(t *testing.T) {
	mem := memtree.New(memtree.Options{})
	for i := range 100 {
		sneak(t, mem, fmt.Sprintf("d/%03d", i), "x")
	}
	tree := &counting{Tree: mem}
	fsys := treefs.New(tree, treefs.Options{Age: 200 * time.Millisecond, Spool: t.TempDir()})
	d, err := vfs.WalkDir(t.Context(), fsys, "d")
	ok(t, err)
	for e, err := range d.List(t.Context(), "") {
		ok(t, err)
		n, err := d.Lookup(t.Context(), e.Name)
		ok(t, err)
		_, err = n.Attr(t.Context())
		ok(t, err)
	}
	if _, err := d.Lookup(t.Context(), "no"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v, want fs.ErrNotExist", err)
	}
	if tree.lists > 1 || tree.stats > 1 {
		t.Errorf("a listing and 101 lookups took %d lists and %d stats", tree.lists, tree.stats)
	}
	sneak(t, mem, "d/new", "y")
	for late := time.Now().Add(20 * time.Second); ; {
		if _, err := d.Lookup(t.Context(), "new"); err == nil {
			break
		}
		if time.Now().After(late) {
			t.Fatal("a new file does not show")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

type counting struct {
	remote.Tree
	lists, stats int
}

func (c *counting) List(ctx context.Context, dir string) iter.Seq2[remote.Item, error] {
	c.lists++
	return c.Tree.List(ctx, dir)
}

func (c *counting) Stat(ctx context.Context, path string) (remote.Item, error) {
	c.stats++
	return c.Tree.Stat(ctx, path)
}

// Long files are read by blocks, whatever the order, and short reads do not cost a call each.
func TestFS_AFileIsReadByBlocks(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	mem := memtree.New(memtree.Options{})
	sneak(t, mem, "file", string(data))
	fsys := treefs.New(mem, treefs.Options{Spool: t.TempDir(), ReadOnly: true})
	h, err := vfs.OpenPath(t.Context(), fsys, "file", vfs.OpenRead)
	ok(t, err)
	for _, off := range []int64{0, 1<<20 - 5, 3 << 20, 100, 5<<20 - 3, 2<<20 + 7} {
		p := make([]byte, 200_000)
		n, err := h.ReadAt(t.Context(), p, off)
		want := data[off:min(off+200_000, int64(len(data)))]
		if err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(p[:n], want) {
			t.Errorf("from %d: got %d bytes, error %v, want %d", off, n, err, len(want))
		}
	}
	ok(t, h.Close(t.Context()))
	if _, err := vfs.OpenPath(t.Context(), fsys, "file", vfs.OpenWrite); !errors.Is(err, vfs.ErrReadOnly) {
		t.Errorf("open for writing: got error %v, want ErrReadOnly", err)
	}
}

// A place whose directories are there only with files in them shows one that was made as long as it is empty here.
func TestFS_OnAPlaceWithoutDirectories(t *testing.T) {
	tree := memtree.New(memtree.Options{NoEmptyDirs: true, NoIDs: true, NoFeed: true})
	fsys := treefs.New(tree, treefs.Options{Spool: t.TempDir()})
	_, err := vfs.MkdirAll(t.Context(), fsys, "a/b", vfs.New{Mode: 0o755})
	ok(t, err)
	ok(t, vfs.WriteFile(t.Context(), fsys, "a/b/file", []byte("x"), vfs.New{Mode: 0o644}))
	if got := read(t, tree, "a/b/file"); got != "x" {
		t.Errorf("got %q", got)
	}
	ok(t, vfs.RemoveAll(t.Context(), fsys, "a"))
	if got := read(t, tree, "a/b/file"); got != "nothing" {
		t.Errorf("after the removal: got %q", got)
	}
}

// Where names fold, a name in another case is found, and its case can be changed.
func TestFS_WhereNamesFold(t *testing.T) {
	tree := memtree.New(memtree.Options{Fold: true})
	sneak(t, tree, "Name", "x")
	fsys := treefs.New(tree, treefs.Options{Spool: t.TempDir()})
	if p, err := vfs.ReadFile(t.Context(), fsys, "nAME", 10); err != nil || string(p) != "x" {
		t.Errorf("got %q, error %v", p, err)
	}
	root, err := fsys.Root(t.Context())
	ok(t, err)
	ok(t, root.Rename(t.Context(), "Name", root, "NAME", vfs.RenameReplace))
	var names []string
	for e, err := range root.List(t.Context(), "") {
		ok(t, err)
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); got != "NAME" {
		t.Errorf("got %q, want NAME", got)
	}
}
