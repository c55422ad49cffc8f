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
// it is asked for, and what the runtime keeps for later. It looks at each tick, one each restEvery, how much time of a processor was taken, which worked tells, and returns when
// ctx is done.
func relax(ctx context.Context, tick <-chan time.Time, worked func() time.Duration, trim func(context.Context)) {
	last, quiet := worked(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		now := worked()
		if now-last > restEvery/50 {
			quiet = 0
		} else if quiet++; quiet == restQuiet {
			trim(ctx)
			debug.FreeOSMemory()
			restProgram()
			now = worked() // that is no work
		}
		last = now
	}
}
