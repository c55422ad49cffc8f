package provider_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/pair/pairtest"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
)

// The scenarios of docs/SYNC-SCENARIOS.md between a folder of this machine and each kind of server.
func TestPair_ScenariosOnServers(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes minutes: make remotes runs it")
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, place := start(t)
			var n atomic.Int64
			pairtest.Run(t, func(t *testing.T) [2]remote.Tree {
				folder, err := localdir.OpenTree(t.TempDir(), localdir.Options{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = folder.Close() })
				p := place
				p.Path = fmt.Sprintf("%sp%d", place.Path, n.Add(1))
				return [2]remote.Tree{folder, openTree(t, p, true)}
			}, nil)
		})
	}
}
