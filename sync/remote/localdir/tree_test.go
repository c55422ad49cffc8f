package localdir

import (
	"testing"

	"github.com/sheaf-drive/sheaf/sync/remote/treetest"
)

func openTree(t *testing.T, dir string, o Options) *Tree {
	t.Helper()
	tree, err := OpenTree(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

func TestTree_Suite(t *testing.T) {
	treetest.Run(t, func(t *testing.T) treetest.Place {
		dir := t.TempDir()
		return treetest.Place{Tree: openTree(t, dir, Options{Hashes: []string{"sha256", "md5", "sha1"}}), Again: openTree(t, dir, Options{})}
	})
}
