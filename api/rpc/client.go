package rpc

import (
	"connectrpc.com/connect"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1/sheafv1connect"
)

// A Client speaks to the services. Its errors are read by FromWire.
type Client struct {
	Drives    sheafv1connect.DrivesClient
	Files     sheafv1connect.FilesClient
	Snapshots sheafv1connect.SnapshotsClient
	Mounts    sheafv1connect.MountsClient
	Store     sheafv1connect.StoreClient
	Keys      sheafv1connect.KeysClient
	Jobs      sheafv1connect.JobsClient
	Replicas  sheafv1connect.ReplicasClient
	Conflicts sheafv1connect.ConflictsClient
	Remotes   sheafv1connect.RemotesClient
	Devices   sheafv1connect.DevicesClient
	Custody   sheafv1connect.CustodyClient
}

// NewClient returns a client that reaches the handler at url by h.
func NewClient(h connect.HTTPClient, url string) *Client {
	return &Client{
		Drives: sheafv1connect.NewDrivesClient(h, url), Files: sheafv1connect.NewFilesClient(h, url),
		Snapshots: sheafv1connect.NewSnapshotsClient(h, url), Mounts: sheafv1connect.NewMountsClient(h, url),
		Store: sheafv1connect.NewStoreClient(h, url), Keys: sheafv1connect.NewKeysClient(h, url),
		Jobs: sheafv1connect.NewJobsClient(h, url), Replicas: sheafv1connect.NewReplicasClient(h, url),
		Conflicts: sheafv1connect.NewConflictsClient(h, url), Remotes: sheafv1connect.NewRemotesClient(h, url),
		Devices: sheafv1connect.NewDevicesClient(h, url), Custody: sheafv1connect.NewCustodyClient(h, url),
	}
}
