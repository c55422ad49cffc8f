package provider_test

import "github.com/sheaf-drive/sheaf/sync/remote/remotetest"

func init() { servers["lighttpd"] = remotetest.Lighttpd }
