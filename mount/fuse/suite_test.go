//go:build linux

package fuse

import (
	"testing"

	"github.com/sheaf-drive/sheaf/mount/mounttest"
)

func TestSuite_WriteBack(t *testing.T) {
	dir, _ := startServer(t)
	mounttest.Run(t, dir)
}

func TestSuite_WriteThrough(t *testing.T) {
	dir, _ := startServer(t, envThrough+"=1")
	mounttest.Run(t, dir)
}
