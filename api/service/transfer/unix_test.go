//go:build linux || darwin

package transfer

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// special adds what only these systems have.
func special(t *testing.T, dir string) {
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o622))
	if err := unix.Setxattr(filepath.Join(dir, "a/none"), "user.color", []byte("blue"), 0); err != nil {
		t.Logf("no extended attributes here: %v", err)
	}
}

// blocks returns how much room a file takes.
func blocks(t *testing.T, name string) int64 {
	info, err := os.Stat(name)
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}
