package main

import (
	"context"
	"runtime/debug"
	"time"
)

// How a daemon tells that it has nothing to do: it took less than a fiftieth of a processor in each of restQuiet looks, one each restEvery.
const (
	restEvery = 10 * time.Second
	restQuiet = 3
)

// relax gives memory back to the system when there is nothing to do, once after each time that there was: what trim forgets, which is read again when
// it is asked for, and what the runtime keeps for later. It looks each time that every has passed, and returns when ctx is done.
func relax(ctx context.Context, every time.Duration, trim func(context.Context)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, quiet := processorTime(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := processorTime()
		if now-last > every/50 {
			quiet = 0
		} else if quiet++; quiet == restQuiet {
			trim(ctx)
			debug.FreeOSMemory()
			restProgram()
			now = processorTime() // that is no work
		}
		last = now
	}
}
