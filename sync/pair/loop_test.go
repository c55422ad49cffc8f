package pair_test

import (
	"context"
	"errors"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
)

// watched is a place that tells when it changes.
type watched struct {
	*faulty
	hints chan string
}

func (w *watched) Can() remote.TreeCan {
	c := w.faulty.Can()
	c.Watch = true
	return c
}

func (w *watched) Watch(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case h := <-w.hints:
				if !yield(h, nil) {
					return
				}
			}
		}
	}
}

func TestLoop_TurnsComeByTheClockByHintsAndAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := faultyRig(t, memtree.Options{}, memtree.Options{})
		w := &watched{f[0], make(chan string)}
		r.at[0] = w
		r.o.Now = time.Now
		r.open()
		var mu sync.Mutex // a time that passes is no order for the race detector
		var turns []time.Duration
		var errs []error
		many := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(turns)
		}
		began := time.Now()
		l := r.p.Start(t.Context(), pair.LoopOptions{Every: time.Hour, Done: func(_ pair.Report, err error) {
			mu.Lock()
			defer mu.Unlock()
			turns, errs = append(turns, time.Since(began)), append(errs, err)
		}})
		synctest.Wait() // the first comes at once
		r.put(merge.Left, "a", "1")
		w.hints <- "a"
		w.hints <- "b"
		time.Sleep(10 * time.Second)
		synctest.Wait()
		r.want(merge.Right, "a=1")
		f[1].unauthorized = true
		r.tree[1].Forget()
		r.put(merge.Left, "b", "2")
		w.hints <- "b"
		time.Sleep(10 * time.Second)
		synctest.Wait()
		r.want(merge.Right, "a=1", "b=2")
		n := many()
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if got := many() - n; got != 1 {
			t.Errorf("got %d turns in an hour, want 1", got)
		}
		l.Close()
		failed := 0
		for _, err := range errs {
			if errors.Is(err, blob.ErrUnauthorized) {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("got %d turns that were not allowed, want 1: %v at %v", failed, errs, turns)
		}
	})
}
