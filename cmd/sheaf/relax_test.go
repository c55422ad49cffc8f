package main

import (
	"context"
	"testing"
	"time"
)

// Whoever has nothing to do gives back what he does not need, once after each time of work.
func TestRelax_OnceAfterEachTimeOfWork(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	trimmed := make(chan time.Duration, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		relax(ctx, 100*time.Millisecond, func(context.Context) { trimmed <- processorTime() })
	}()
	defer func() { cancel(); <-done }()
	for range 2 {
		begin := processorTime()
		for processorTime()-begin < 300*time.Millisecond {
		}
		worked := processorTime()
		select {
		case at := <-trimmed:
			if at < worked {
				t.Errorf("it gave memory back after %s of work, in the midst of it", at-begin)
			}
		case <-time.After(time.Minute):
			t.Fatal("it had nothing to do for a minute, and kept all")
		}
		select {
		case <-trimmed:
			t.Error("it did so again, with no work between")
		case <-time.After(time.Second):
		}
	}
}
