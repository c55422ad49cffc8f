//go:build linux && smb

package main

import "github.com/sheaf-drive/sheaf/sync/remote/remotetest"

func init() { drivePlaces["smb"] = remotetest.SMB }
