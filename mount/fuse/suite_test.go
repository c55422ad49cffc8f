//go:build linux

package fuse

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/mount/mounttest"
	"github.com/sheaf-drive/sheaf/mount/mounttest/exerciser"
)

func TestSuite_WriteBack(t *testing.T) {
	dir, _ := startServer(t)
	mounttest.Run(t, dir)
}

func TestSuite_WriteThrough(t *testing.T) {
	dir, _ := startServer(t, envThrough+"=1")
	mounttest.Run(t, dir)
}

// M1, first form: one file under random operations, memory maps among them.
func TestSuite_ExercisedFile(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SHEAF_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		must(t, err)
	}
	ops := 3000
	if s := os.Getenv("SHEAF_OPS"); s != "" {
		var err error
		ops, err = strconv.Atoi(s)
		must(t, err)
	}
	for _, through := range []string{"", "1"} {
		dir, _ := startServer(t, envThrough+"="+through)
		t.Logf("SHEAF_SEED=%d", seed)
		must(t, exerciser.Run(t.Context(), exerciser.Config{Path: filepath.Join(dir, "f"), Ops: ops, Seed: seed}))
	}
}
