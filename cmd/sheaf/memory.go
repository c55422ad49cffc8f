package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The heap is collected when it has grown by half of what is in use, which for a large one is much memory for nothing: most of what a drive allocates are
// buffers, which last long. So what is in use decides (collectAt); less than a quarter would take more time than the memory is worth.
const (
	collectMost  = 50
	collectLeast = 25
	collectRoom  = 32 << 20 // bytes that the heap may grow by, where that is a percentage between these
)

// startUp is after what time the pages of the program that were needed for its start only are given back. Most commands have ended by then.
const startUp = time.Second

// spareMemory keeps the memory of the process low. GOGC decides otherwise about its heap.
func spareMemory() {
	time.AfterFunc(startUp, restProgram)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectMost)
		followHeap(&collection{last: collectMost})
	}
}

// collectAt is by how many percent a heap with so many bytes in use may grow until it is collected.
func collectAt(live uint64) int {
	if live == 0 {
		return collectMost
	}
	return int(min(max(collectRoom*100/live, collectLeast), collectMost))
}

// A collection is garbage, so that it is told of the next collection of the heap.
type collection struct {
	last int   // percentage that is in force
	_    *byte // with a pointer in it, it lies in memory of its own
}

// followHeap has each collection of the heap decide about the next. Setting the percentage stops the program for a moment, so it is set when it differs by a tenth.
func followHeap(c *collection) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() == metrics.KindUint64 {
		if to := collectAt(live[0].Value.Uint64()); to*10 < c.last*9 || to*10 > c.last*11 {
			debug.SetGCPercent(to)
			c.last = to
		}
	}
	runtime.SetFinalizer(&collection{last: c.last}, followHeap)
}
