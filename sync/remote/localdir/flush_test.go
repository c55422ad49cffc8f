package localdir

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Who calls while a sync runs is served by one that begins later, and all who wait for that by the same one; each is told its error.
func TestFlushes_OneSyncServesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s flushes
		var n, done atomic.Int32
		broken := errors.New("broken")
		first, second := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		call := func(want error) {
			wg.Go(func() {
				err := s.do([2]uint64{1, 2}, func() error {
					switch n.Add(1) {
					case 1:
						<-first
						return nil
					case 2:
						<-second
						return broken
					}
					return nil
				})
				if !errors.Is(err, want) {
					t.Errorf("it says %v, want %v", err, want)
				}
				done.Add(1)
			})
			synctest.Wait()
		}
		call(nil)
		for range 9 {
			call(broken)
		}
		if err := s.do([2]uint64{1, 3}, func() error { return nil }); err != nil || n.Load() != 1 {
			t.Errorf("another folder waits: %v, %d", err, n.Load())
		}
		close(first)
		synctest.Wait()
		if n.Load() != 2 || done.Load() != 1 {
			t.Errorf("after the first: %d syncs, %d callers are done; want 2 and 1", n.Load(), done.Load())
		}
		call(nil) // the second has begun
		close(second)
		wg.Wait()
		if n.Load() != 3 || len(s.running)+len(s.waiting) != 0 {
			t.Errorf("%d syncs, want 3; %d are remembered", n.Load(), len(s.running)+len(s.waiting))
		}
	})
}
