package limit_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/limit"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

func TestBucket_Suite(t *testing.T) {
	for name, o := range map[string]limit.Options{
		"without limits": {},
		"one at a time":  {AtOnce: 1},
		"high limits":    {Up: 1 << 40, Down: 1 << 40, Calls: 1e6, AtOnce: 3},
	} {
		t.Run(name, func(t *testing.T) {
			blobtest.Run(t, func(*testing.T) blob.Bucket { return limit.New(mem.New(), o) })
		})
	}
}

// took returns how long f takes, in the time of the bubble.
func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want*9/10 || got > want*11/10 {
		t.Errorf("%s took %v, want about %v", what, got, want)
	}
}

func TestBucket_KeepsToItsRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := limit.New(mem.New(), limit.Options{Up: 1 << 20, Down: 2 << 20, Calls: 10})
		body := strings.Repeat("x", 10<<20)
		near(t, "10 MiB up at 1 MiB/s", took(func() {
			if err := b.Put(t.Context(), "x", strings.NewReader(body), 10<<20); err != nil {
				t.Error(err)
			}
		}), 10*time.Second)
		near(t, "10 MiB down at 2 MiB/s", took(func() {
			if _, err := blob.ReadAll(t.Context(), b, "x", 10<<20); err != nil {
				t.Error(err)
			}
		}), 5*time.Second)
		near(t, "100 calls at 10/s, by 7 callers", took(func() {
			var wg sync.WaitGroup
			for w := range 7 {
				wg.Go(func() {
					for i := w; i < 100; i += 7 {
						if err := b.Remove(t.Context(), "y"); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		}), 10*time.Second)
		names := make([]blob.Name, 50)
		for i := range names {
			names[i] = "y"
		}
		near(t, "after a removal of 50 names, the next call", took(func() {
			_ = b.Remove(t.Context(), names...)
			_ = b.Remove(t.Context(), "y")
		}), 5*time.Second)
	})
}

func TestBucket_StopsWaitingWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := limit.New(mem.New(), limit.Options{Up: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		d := took(func() {
			if err := b.Put(ctx, "x", strings.NewReader(strings.Repeat("x", 1000)), 1000); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got error %v, want context.DeadlineExceeded", err)
			}
		})
		if d != 5*time.Second {
			t.Errorf("it waited %v, want 5 s", d)
		}
	})
}

// counting counts the calls and reads that are under way.
type counting struct {
	blob.Bucket
	now, most atomic.Int64
}

func (c *counting) during() {
	n := c.now.Add(1)
	for {
		most := c.most.Load()
		if n <= most || c.most.CompareAndSwap(most, n) {
			break
		}
	}
	time.Sleep(time.Millisecond)
	c.now.Add(-1)
}

func (c *counting) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	c.during()
	r, err := c.Bucket.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{readFunc(func(p []byte) (int, error) { c.during(); return r.Read(p) }), r}, nil
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestBucket_NoMoreAtATimeThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{Bucket: mem.New()}
		b := limit.New(c, limit.Options{AtOnce: 3})
		if err := b.Put(t.Context(), "x", strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 10 {
					if _, err := blob.ReadAll(t.Context(), b, "x", 1); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := c.most.Load(); got != 3 {
			t.Errorf("%d were under way at a time, want 3", got)
		}
	})
}
