package treefs_test

import (
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
	"github.com/sheaf-drive/sheaf/sync/remote/treefs"
	"github.com/sheaf-drive/sheaf/sync/remote/treetest"
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

// So does a place as a tree as a place, but for what the door in between leaves out.
func TestTree_OfAnFSOfATree(t *testing.T) {
	const racy = "who is told of a change by a door that keeps listings is told late"
	cannot := map[string]string{"modes are kept where the place says so": "", "what another Tree did is seen": racy}
	treetest.Run(t, func(t *testing.T) treetest.Place {
		fsys := treefs.New(memtree.New(memtree.Options{NoFeed: true}), treefs.Options{Spool: t.TempDir(), Age: 1})
		return treetest.Place{Tree: treefs.NewTree(fsys, treefs.TreeOptions{Identity: "both"}), Cannot: cannot}
	})
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
