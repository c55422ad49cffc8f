package pair_test

import (
	"testing"

	"github.com/sheaf-drive/sheaf/sync/pair/pairtest"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
	"github.com/sheaf-drive/sheaf/sync/remote/treefs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// The scenarios of docs/SYNC-SCENARIOS.md, on folders of this machine, on a tree as a drive is one, and on places in memory that can do more or less. Servers: package provider.
func TestPair_Scenarios(t *testing.T) {
	folder := func(t *testing.T) remote.Tree {
		tree, err := localdir.OpenTree(t.TempDir(), localdir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tree.Close() })
		return tree
	}
	t.Run("folders", func(t *testing.T) {
		pairtest.Run(t, func(t *testing.T) [2]remote.Tree { return [2]remote.Tree{folder(t), folder(t)} }, nil)
	})
	t.Run("a folder and a drive", func(t *testing.T) {
		pairtest.Run(t, func(t *testing.T) [2]remote.Tree {
			return [2]remote.Tree{folder(t), treefs.NewTree(memfs.New(memfs.Options{}), treefs.TreeOptions{Identity: "drive"})}
		}, nil)
	})
	for name, o := range shapes {
		t.Run(name, func(t *testing.T) {
			pairtest.Run(t, func(*testing.T) [2]remote.Tree {
				return [2]remote.Tree{memtree.New(memtree.Options{Name: "left"}), memtree.New(o)}
			}, nil)
		})
	}
}
