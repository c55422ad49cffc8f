//go:build cgofuse && cgo

package winfsp

import (
	"testing"

	"github.com/sheaf-drive/sheaf/mount/mounttest"
)

// lacks are what FUSE 2, as cgofuse has it, has no words for, each with the reason.
var lacks = []mounttest.Lack{
	mounttest.Allocate,     // cgofuse has no fallocate; libfuse 2 would
	mounttest.FindHoles,    // libfuse 2 has no lseek: the kernel takes all for data
	mounttest.RenameFlags,  // libfuse 2 has no flags of a rename: the kernel refuses them
	mounttest.OneTime,      // libfuse 2 sets both times, unless it is told by a bit that cgofuse does not set
	mounttest.OpenReplaced, // libfuse 2 knows a file that it was asked for by its path only, which it has not any more when it is to open it
}

func TestSuite_InMemory(t *testing.T) {
	dir, _ := startServer(t)
	mounttest.Run(t, dir, lacks...)
}
