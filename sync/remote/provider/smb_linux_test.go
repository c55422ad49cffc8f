//go:build smb

package provider_test

import "github.com/sheaf-drive/sheaf/sync/remote/remotetest"

func init() { servers["smb"] = remotetest.SMB }
