package treefs_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/remote"
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
