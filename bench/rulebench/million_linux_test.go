package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/bench/measure"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/pebblekv"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
)

// TestRule_AMillionFiles is for who wants to know what a rule over so many takes: SHEAF_RULE_FILES says how many there are, and is needed. Two folders of one disk; nothing but figures is
// told, for they are of the machine: the most that was resident, how long it took to list and plan, and to go on after a restart. The memory of the
// process is kept low as the program does it.
func TestRule_AMillionFiles(t *testing.T) {
	n := testkit.Environ(t, "SHEAF_RULE_FILES", 0)
	if n == 0 {
		t.Skip("only with SHEAF_RULE_FILES: it measures")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(30))
	dir := t.TempDir()
	left, right := filepath.Join(dir, "left"), filepath.Join(dir, "right")
	for i := range (n + 999) / 1000 {
		at := filepath.Join(left, fmt.Sprintf("folder %03d", i/100), fmt.Sprintf("folder %05d", i))
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range min(1000, n-1000*i) {
			if err := os.WriteFile(filepath.Join(at, fmt.Sprintf("file %07d.txt", 1000*i+j)), fmt.Append(nil, i, j), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.MkdirAll(right, 0o755); err != nil {
		t.Fatal(err)
	}
	turn := func(ctx context.Context, what string, stop func(cancel context.CancelFunc)) {
		t.Helper()
		runtime.GC()
		debug.FreeOSMemory()
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600); err != nil { // begins the peak anew
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		began := time.Now()
		db, err := pebblekv.Open(ctx, pebblekv.Options{Dir: filepath.Join(dir, "db"), Key: make([]byte, pebblekv.KeySize)})
		if err != nil {
			t.Fatal(err)
		}
		var trees [2]remote.Tree
		for i, at := range []string{left, right} {
			l, err := localdir.OpenTree(at, localdir.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }() // it was read, or synced
			trees[i] = l
		}
		var once sync.Once
		var planned time.Duration
		o := pair.Options{KV: db, Tree: trees, Planned: func(int, int64) {
			once.Do(func() {
				planned = time.Since(began)
				if stop != nil {
					stop(cancel)
				}
			})
		}}
		p, err := pair.Open(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Run(ctx, pair.RunOptions{})
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d files: listed and planned after %.1f s, all of it %.1f s, at most %.0f MiB resident", what, n, planned.Seconds(), took.Seconds(), measure.KiB(measure.Field(string(status), "VmHWM")))
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	turn(t.Context(), "a first turn that is stopped after two seconds", func(cancel context.CancelFunc) { time.AfterFunc(2*time.Second, cancel) })
	turn(t.Context(), "after a restart", nil)
	turn(t.Context(), "without a change", nil)
}
