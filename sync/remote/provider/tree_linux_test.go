package provider_test

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
	"github.com/sheaf-drive/sheaf/sync/remote/treetest"
)

// openTree opens a place of plain files, and closes it at the end of the test.
func openTree(t *testing.T, p remotetest.Place, mk bool) remote.Tree {
	t.Helper()
	return openAs(t.Context(), t, p.Kind, remote.Config{Path: p.Path, Options: p.Options, Secrets: remote.NewPassing(p.Secrets), Make: mk})
}

// cannot says of which rules of the contract a kind of server keeps off, and why.
var cannot = map[string]map[string]string{"ftp": {
	"bytes of the same length and time are another version": ftpTimes, "a file that was changed is not removed": ftpTimes, "a file that was changed is not moved": ftpTimes,
	"what another Tree did is seen": ftpTimes, "a reader of a known version is told of another": ftpTimes,
}}

const ftpTimes = "a server of FTP tells no more than size and time of a file, and the time to the minute"

// TestTree_Suite holds the backends to the contract of plain files, on a server each.
func TestTree_Suite(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "webdav" {
				t.Skip("it takes minutes: make remotes runs it")
			}
			t.Parallel()
			_, place := start(t)
			var n atomic.Int64
			treetest.Run(t, func(t *testing.T) treetest.Place {
				p := place
				p.Path = fmt.Sprintf("%st%d", place.Path, n.Add(1))
				return treetest.Place{Tree: openTree(t, p, true), Again: openTree(t, p, false), Slow: os.Getenv("SHEAF_LONG") == "", Cannot: cannot[p.Kind]}
			})
		})
	}
}
