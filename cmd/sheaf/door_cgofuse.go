//go:build windows || (darwin && cgofuse && cgo)

package main

import (
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/mount/winfsp"
)

// systemDoor shows drives as letters and folders of Windows, or as folders of macOS where that was asked for.
var systemDoor mount.Door = winfsp.Door{}
