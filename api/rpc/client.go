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
	Tokens    sheafv1connect.TokensClient
	Events    sheafv1connect.EventsClient
	Doors     sheafv1connect.DoorsClient
	Peers     sheafv1connect.PeersClient
	Places    sheafv1connect.PlacesClient
	Rules     sheafv1connect.RulesClient
	Folders   sheafv1connect.FoldersClient
	Settings  sheafv1connect.SettingsClient

	Identities sheafv1connect.IdentitiesClient
}

// NewClient returns a client that reaches the handler at url by h. Both are on one machine: nothing is compressed.
// With other options it speaks gRPC or gRPC-Web.
func NewClient(h connect.HTTPClient, url string, options ...connect.ClientOption) *Client {
	plain := connect.WithClientOptions(append(options, connect.WithAcceptCompression("gzip", nil, nil))...)
	return &Client{
		Drives: sheafv1connect.NewDrivesClient(h, url, plain), Files: sheafv1connect.NewFilesClient(h, url, plain),
		Snapshots: sheafv1connect.NewSnapshotsClient(h, url, plain), Mounts: sheafv1connect.NewMountsClient(h, url, plain),
		Store: sheafv1connect.NewStoreClient(h, url, plain), Keys: sheafv1connect.NewKeysClient(h, url, plain),
		Jobs: sheafv1connect.NewJobsClient(h, url, plain), Replicas: sheafv1connect.NewReplicasClient(h, url, plain),
		Conflicts: sheafv1connect.NewConflictsClient(h, url, plain), Remotes: sheafv1connect.NewRemotesClient(h, url, plain),
		Devices: sheafv1connect.NewDevicesClient(h, url, plain), Custody: sheafv1connect.NewCustodyClient(h, url, plain),
		Events: sheafv1connect.NewEventsClient(h, url, plain), Tokens: sheafv1connect.NewTokensClient(h, url, plain),
		Doors: sheafv1connect.NewDoorsClient(h, url, plain), Peers: sheafv1connect.NewPeersClient(h, url, plain),
		Places: sheafv1connect.NewPlacesClient(h, url, plain), Rules: sheafv1connect.NewRulesClient(h, url, plain),
		Folders:    sheafv1connect.NewFoldersClient(h, url, plain),
		Identities: sheafv1connect.NewIdentitiesClient(h, url, plain), Settings: sheafv1connect.NewSettingsClient(h, url, plain),
	}
}
