package provider

import (
	// Each of them registers itself with rclone.
	_ "github.com/rclone/rclone/backend/azureblob"
	_ "github.com/rclone/rclone/backend/b2"
	_ "github.com/rclone/rclone/backend/box"
	_ "github.com/rclone/rclone/backend/drive"
	_ "github.com/rclone/rclone/backend/dropbox"
	_ "github.com/rclone/rclone/backend/ftp"
	_ "github.com/rclone/rclone/backend/googlecloudstorage"
	_ "github.com/rclone/rclone/backend/hdfs"
	_ "github.com/rclone/rclone/backend/koofr"
	_ "github.com/rclone/rclone/backend/mega"
	_ "github.com/rclone/rclone/backend/onedrive"
	_ "github.com/rclone/rclone/backend/pcloud"
	_ "github.com/rclone/rclone/backend/protondrive"
	_ "github.com/rclone/rclone/backend/s3"
	_ "github.com/rclone/rclone/backend/sftp"
	_ "github.com/rclone/rclone/backend/swift"
	_ "github.com/rclone/rclone/backend/webdav"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A backend is one of rclone's, and what is known of it besides.
type backend struct {
	name, rclone, title string
	can                 remote.Capabilities
	oauth               *remote.OAuth
	defaults            map[string]string         // that go before rclone's
	replaces            func(*remote.Config) bool // see bucket; nil: no
	// holds says that what is open can be neither replaced nor removed, which has to be tried again then; and that a move replaces all else.
	holds bool
}

// objects are what places of objects can do: nothing is seen of an object before all of it is there.
func objects(rate remote.Rate, feed bool, hashes ...string) remote.Capabilities {
	return remote.Capabilities{Hashes: hashes, ChangeFeed: feed, AtomicPut: true, Move: true, Ranges: true, Rate: rate}
}

// containers are objects that lie in containers, as those of S3 do in buckets.
func containers(rate remote.Rate, feed bool, hashes ...string) remote.Capabilities {
	can := objects(rate, feed, hashes...)
	can.Containers = true
	return can
}

// files are what servers of files can do: a file grows as it comes in, and is moved when it is whole.
func files(rate remote.Rate, feed bool, hashes ...string) remote.Capabilities {
	return remote.Capabilities{Hashes: hashes, ChangeFeed: feed, Move: true, Ranges: true, Rate: rate}
}

const (
	googleAuth  = "https://accounts.google.com/o/oauth2/auth"
	googleToken = "https://oauth2.googleapis.com/token"
	// The codes for devices of Google cover files that an application has made itself, which is all that sheaf needs, but for
	// the scope of all files a browser is asked for.
)

// backends are all but those of other files behind build tags.
var backends = []backend{
	{name: "azureblob", rclone: "azureblob", title: "Microsoft Azure Blob Storage", can: containers(remote.Fast, false, "md5")},
	{name: "b2", rclone: "b2", title: "Backblaze B2", can: containers(remote.Fast, false, "sha1")},
	{
		name: "box", rclone: "box", title: "Box", can: objects(remote.Slow, true, "sha1"),
		oauth: &remote.OAuth{
			AuthURL: "https://app.box.com/api/oauth2/authorize", TokenURL: "https://app.box.com/api/oauth2/token",
			Instead: []string{"box_config_file", "config_credentials", "access_token"},
		},
	},
	{
		name: "drive", rclone: "drive", title: "Google Drive", can: objects(remote.Slow, true, "sha256", "sha1", "md5"),
		oauth: &remote.OAuth{
			AuthURL: googleAuth, TokenURL: googleToken, Scopes: []string{"https://www.googleapis.com/auth/drive"},
			Params:  map[string]string{"access_type": "offline", "prompt": "consent"},
			Instead: []string{"service_account_file", "service_account_credentials", "env_auth"},
		},
	},
	{
		name: "dropbox", rclone: "dropbox", title: "Dropbox", can: objects(remote.Slow, true, "dropbox"),
		oauth: &remote.OAuth{
			AuthURL: "https://www.dropbox.com/oauth2/authorize", TokenURL: "https://api.dropboxapi.com/oauth2/token",
			Scopes: []string{"files.metadata.write", "files.content.write", "files.content.read", "account_info.read"},
			Params: map[string]string{"token_access_type": "offline"},
		},
	},
	{name: "ftp", rclone: "ftp", title: "FTP, also over TLS", can: files(remote.Steady, false)},
	{
		name: "googlecloudstorage", rclone: "google cloud storage", title: "Google Cloud Storage", can: containers(remote.Fast, false, "md5"),
		oauth: &remote.OAuth{
			AuthURL: googleAuth, TokenURL: googleToken, Scopes: []string{"https://www.googleapis.com/auth/devstorage.read_write"},
			Params:  map[string]string{"access_type": "offline", "prompt": "consent"},
			Instead: []string{"service_account_file", "service_account_credentials", "access_token", "env_auth", "anonymous"},
		},
	},
	{name: "hdfs", rclone: "hdfs", title: "Hadoop file system", can: files(remote.Steady, false)},
	{name: "koofr", rclone: "koofr", title: "Koofr, Digi Storage and others of that make", can: objects(remote.Slow, false, "md5")},
	{name: "mega", rclone: "mega", title: "Mega", can: objects(remote.Slow, false)},
	{
		name: "onedrive", rclone: "onedrive", title: "Microsoft OneDrive", can: objects(remote.Slow, true, "quickxor"),
		oauth: &remote.OAuth{
			AuthURL:   "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
			TokenURL:  "https://login.microsoftonline.com/common/oauth2/v2.0/token",
			DeviceURL: "https://login.microsoftonline.com/common/oauth2/v2.0/devicecode",
			Scopes:    []string{"Files.Read", "Files.ReadWrite", "Files.Read.All", "Files.ReadWrite.All", "Sites.Read.All", "offline_access"},
		},
	},
	{
		name: "pcloud", rclone: "pcloud", title: "pCloud", can: files(remote.Slow, true, "sha256", "sha1"),
		oauth: &remote.OAuth{
			AuthURL: "https://my.pcloud.com/oauth2/authorize", TokenURL: "https://api.pcloud.com/oauth2_token", Instead: []string{"username"},
		},
	},
	{name: "protondrive", rclone: "protondrive", title: "Proton Drive", can: objects(remote.Slow, false, "sha1")},
	{name: "s3", rclone: "s3", title: "Amazon S3 and all that speak its language", can: containers(remote.Fast, false, "md5")},
	{name: "sftp", rclone: "sftp", title: "SSH (SFTP)", can: files(remote.Steady, false)},
	{name: "swift", rclone: "swift", title: "OpenStack Swift", can: containers(remote.Fast, false, "md5")},
	{
		name: "webdav", rclone: "webdav", title: "WebDAV: Nextcloud, ownCloud and others", can: files(remote.Steady, false),
		defaults: map[string]string{"pacer_min_sleep": "1ms"}, // how much is asked of a place is said above, by package limit
		// Apache, nginx, lighttpd and Nextcloud write to a file of their own and rename it, but remove what is in the way
		// of a MOVE. Servers made of Go's library, as rclone's is, write into the blob itself.
		replaces: func(c *remote.Config) bool { return c.Options["vendor"] != "rclone" },
	},
}
