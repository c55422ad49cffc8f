package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestCollectAt(t *testing.T) {
	for _, c := range []struct {
		mib  uint64
		want int
	}{{0, 50}, {4, 50}, {64, 50}, {80, 40}, {128, 25}, {4096, 25}} {
		if got := collectAt(c.mib << 20); got != c.want {
			t.Errorf("with %d MiB in use, it is collected after %d %%, want %d %%", c.mib, got, c.want)
		}
	}
}

// What is in use decides by how much the heap may grow, after each collection anew: from here on in this process, as in the command's.
func TestFollowHeap(t *testing.T) {
	debug.SetGCPercent(collectMost)
	followHeap(&collection{last: collectMost})
	held := make([]byte, 160<<20)
	wait := func(what string, ok func(percent int) bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; {
			runtime.GC()
			percent := debug.SetGCPercent(-1)
			debug.SetGCPercent(percent)
			if ok(percent) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %d %%", what, percent)
			}
		}
	}
	wait("with 160 MiB in use", func(percent int) bool { return percent == collectLeast })
	runtime.KeepAlive(held)
	wait("and with them gone", func(percent int) bool { return percent > collectLeast })
}
