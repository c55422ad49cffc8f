package provider_test

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/cloudtest"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
	"github.com/sheaf-drive/sheaf/sync/remote/treetest"
)

// openOneDrive opens a folder of an emulated OneDrive with rclone's own backend, and closes it at the end of the test.
func openOneDrive(t testing.TB, d *cloudtest.OneDrive, path string, mk bool) remote.Tree {
	t.Helper()
	kind, err := provider.Kinds().Find("onedrive")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := kind.Tree(through(t.Context(), d.Front), remote.Config{
		Path: path, Make: mk, Options: map[string]string{"drive_id": d.Drive, "drive_type": d.Type},
		Secrets: remote.NewPassing(map[string]string{"token": `{"access_token":"` + cloudtest.OneDriveToken + `","token_type":"Bearer","expiry":"2099-01-01T00:00:00Z"}`}),
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

// TestEmulatedOneDrive_Suite holds rclone's backend for OneDrive to the contract of plain files. The OneDrive is emulated.
func TestEmulatedOneDrive_Suite(t *testing.T) {
	t.Parallel()
	for _, business := range []bool{false, true} {
		t.Run(map[bool]string{false: "of a person", true: "of a business"}[business], func(t *testing.T) {
			t.Parallel()
			d := cloudtest.NewOneDrive(t, business)
			var n atomic.Int64
			treetest.Run(t, func(t *testing.T) treetest.Place {
				path := fmt.Sprintf("places/st%d", n.Add(1))
				return treetest.Place{Tree: openOneDrive(t, d, path, true), Again: openOneDrive(t, d, path, false), Slow: testing.Short()}
			})
		})
	}
}
