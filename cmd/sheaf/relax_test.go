package main

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever has nothing to do gives back what he does not need, once after each time of work.
func TestRelax_OnceAfterEachTimeOfWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took atomic.Int64
		var trimmed atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		tick := make(chan time.Time)
		ended.Go(func() {
			relax(ctx, tick, func() time.Duration { return time.Duration(took.Load()) }, func(context.Context) {
				trimmed.Add(1)
				took.Add(int64(time.Minute)) // that is no work
			})
		})
		const little, much = restEvery / 100, restEvery / 10
		for round := range int32(3) {
			for i, work := range []time.Duration{much, little, much, little, little, little, little, little, little, little} {
				took.Add(int64(work))
				tick <- time.Time{}
				synctest.Wait()
				want := round
				if i >= 5 { // the third quiet look in a row
					want++
				}
				if got := trimmed.Load(); got != want {
					t.Errorf("round %d, look %d: it gave back %d times, wanted %d", round, i, got, want)
				}
			}
		}
		cancel()
		ended.Wait()
	})
}

// What the processes of tests take has to be seen.
func TestProcessorTime_GrowsWithWork(t *testing.T) {
	begin := processorTime()
	for end := time.Now().Add(time.Minute); processorTime()-begin < 50*time.Millisecond; {
		if time.Now().After(end) {
			t.Fatal("a minute of work is none")
		}
	}
}
