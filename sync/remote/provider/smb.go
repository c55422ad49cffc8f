//go:build smb

package provider

import (
	"errors"

	"github.com/cloudsoda/go-smb2"
	// It needs a library under the LGPL, which is no part of a build without this tag.
	_ "github.com/rclone/rclone/backend/smb"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

func init() {
	can := files(remote.Steady, false)
	can.Containers = true // the shares
	backends = append(backends, backend{name: "smb", rclone: "smb", title: "SMB: Windows shares, Samba", can: can, holds: true})
	ntStatus = func(err error) uint32 {
		var r *smb2.ResponseError
		switch {
		case errors.As(err, &r):
			return r.Code
		case errors.Is(err, smb2.ErrRequestNotAccepted):
			return 0xc00000d0
		}
		return 0
	}
}
