//go:build !windows && !(darwin && cgofuse && cgo)

package main

import (
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/mount/fuse"
)

// systemDoor shows drives as folders.
var systemDoor mount.Door = fuse.Door{}
