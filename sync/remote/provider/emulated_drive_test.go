package provider_test

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	rclone "github.com/rclone/rclone/fs"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/cloudtest"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
	"github.com/sheaf-drive/sheaf/sync/remote/treetest"
)

// through returns a context in which rclone reaches a provider only through an emulated one.
func through(ctx context.Context, f *cloudtest.Front) context.Context {
	ctx, ci := rclone.AddConfig(ctx)
	ci.HTTPProxy, ci.CaCert = f.Proxy, []string{f.CA}
	return ctx
}

// openDrive opens a folder of an emulated Google Drive with rclone's own backend, and closes it at the end of the test.
func openDrive(t testing.TB, d *cloudtest.Drive, path string, mk bool) remote.Tree {
	t.Helper()
	kind, err := provider.Kinds().Find("drive")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := kind.Tree(through(t.Context(), d.Front), remote.Config{
		Path: path, Make: mk, Options: map[string]string{"pacer_min_sleep": "1ms", "pacer_burst": "1000", "scope": "drive"},
		Secrets: remote.NewPassing(map[string]string{"token": `{"access_token":"` + cloudtest.DriveToken + `","token_type":"Bearer","expiry":"2099-01-01T00:00:00Z"}`}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.(io.Closer).Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

// TestEmulatedDrive_Suite holds rclone's backend for Google Drive, and the feed over it, to the contract of plain files. The Drive is emulated.
func TestEmulatedDrive_Suite(t *testing.T) {
	t.Parallel()
	d := cloudtest.NewDrive(t)
	var n atomic.Int64
	treetest.Run(t, func(t *testing.T) treetest.Place {
		path := fmt.Sprintf("places/st%d", n.Add(1))
		p := treetest.Place{Tree: openDrive(t, d, path, true), Again: openDrive(t, d, path, false), Slow: testing.Short()}
		if !p.Tree.Can().ChangeFeed {
			t.Fatal("there is no feed")
		}
		return p
	})
}
