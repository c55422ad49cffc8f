package vfstest

import (
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// stranger returns a tree that is none of those under test.
func stranger() vfs.FS { return memfs.New(memfs.Options{}) }
