package peer

import (
	"context"
	"sync"
	"time"
)

// A Rate limits the bytes that go out and come in, by the hour of the day. Its zero value limits nothing. It is safe for concurrent use.
type Rate struct {
	mu      sync.Mutex
	hours   [24]Limit
	out, in bucket
	now     func() time.Time
}

// A Limit is in bytes a second; 0: none.
type Limit struct{ Out, In int64 }

// Set says what holds in each hour of the day, by the clock of this machine.
func (r *Rate) Set(hours [24]Limit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hours = hours
}

// bucket has tokens for bytes; it may be in debt.
type bucket struct {
	have float64
	at   time.Time
}

// wait takes n bytes and returns how long to wait before they go.
func (b *bucket) wait(now time.Time, limit int64, n int) time.Duration {
	if limit <= 0 {
		b.at = time.Time{}
		return 0
	}
	if b.at.IsZero() {
		b.at, b.have = now, 0
	}
	b.have = min(b.have+now.Sub(b.at).Seconds()*float64(limit), float64(limit)/4) // a quarter of a second may come at once
	b.at = now
	if b.have -= float64(n); b.have >= 0 {
		return 0
	}
	return time.Duration(-b.have / float64(limit) * float64(time.Second))
}

func (r *Rate) send(ctx context.Context, n int) error    { return r.take(ctx, n, true) }
func (r *Rate) receive(ctx context.Context, n int) error { return r.take(ctx, n, false) }

func (r *Rate) take(ctx context.Context, n int, out bool) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	now := time.Now()
	if r.now != nil {
		now = r.now()
	}
	l := r.hours[now.Hour()]
	var d time.Duration
	if out {
		d = r.out.wait(now, l.Out, n)
	} else {
		d = r.in.wait(now, l.In, n)
	}
	r.mu.Unlock()
	if d == 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
