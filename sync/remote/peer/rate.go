package peer

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote/timetable"
)

// A Rate limits the bytes that go out and come in, by the hour of the week. Its zero value limits nothing. It is safe for concurrent use.
type Rate struct {
	mu      sync.Mutex
	table   timetable.Table
	out, in bucket
	now     func() time.Time
}

// Set says what holds from now on, by the clock of this machine. Who waits already waits as long as it was to.
func (r *Rate) Set(table timetable.Table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.table = table
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

// part is how many bytes are to be sent at a time: what goes in a quarter of a second, so that many calls at a time all go on.
func (r *Rate) part(most int) int {
	if r == nil {
		return most
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.limit().Up; l > 0 {
		return int(min(int64(most), l/4))
	}
	return most
}

// limit is what holds now. r.mu is held.
func (r *Rate) limit() timetable.Limit { return r.table.At(r.clock()) }

func (r *Rate) clock() time.Time {
	if r.now != nil {
		return r.now()
	}
	return time.Now()
}

func (r *Rate) take(ctx context.Context, n int, out bool) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	l := r.limit()
	var d time.Duration
	if out {
		d = r.out.wait(r.clock(), l.Up, n)
	} else {
		d = r.in.wait(r.clock(), l.Down, n)
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

// rateOf returns the limit of what goes over a link: that of near devices, if it leads to an address of this machine's networks and not over a relay.
func (n *Node) rateOf(l link) *Rate {
	if l.kind() != "relay" && near(l.remote()) {
		return n.o.Near
	}
	return n.o.Rate
}

// near reports whether an address is one of private networks, or of this machine.
func near(a net.Addr) bool {
	if a == nil {
		return false
	}
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return false
	}
	ip := at.Addr().Unmap()
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()
}
