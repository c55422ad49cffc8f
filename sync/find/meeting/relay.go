package meeting

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// The bounds of a relay.
const (
	relayWait   = 20 * time.Second // for the other one
	relayQuiet  = 90 * time.Second // after which it ends: peers say something more often than that
	relayBuffer = 32 << 10         // bytes, for each direction
)

// A waiter is a connection that waits for the other one.
type waiter struct {
	met  chan net.Conn // gets the other one
	done chan struct{} // closed when the relay is over
}

// relay joins a connection with the one that says the same token.
func (h *Hub) relay(c net.Conn, t Token) {
	h.mu.Lock()
	other := h.waiting[t]
	if other != nil {
		delete(h.waiting, t)
		h.mu.Unlock()
		other.met <- c
		<-other.done
		return
	}
	if h.relays+len(h.waiting) >= h.o.Relays {
		h.mu.Unlock()
		return
	}
	w := &waiter{met: make(chan net.Conn, 1), done: make(chan struct{})}
	h.waiting[t] = w
	h.mu.Unlock()
	defer close(w.done)
	timer := time.NewTimer(relayWait)
	defer timer.Stop()
	var o net.Conn
	select {
	case o = <-w.met:
	case <-timer.C:
	case <-h.life.Done():
	}
	h.mu.Lock()
	if h.waiting[t] == w {
		delete(h.waiting, t)
	}
	if o == nil {
		select {
		case o = <-w.met: // it came at the last moment
		default:
		}
	}
	if o == nil {
		h.mu.Unlock()
		return
	}
	h.relays++
	h.mu.Unlock()
	h.carry(c, o)
	h.mu.Lock()
	h.relays--
	h.mu.Unlock()
}

// carry moves bytes to and fro until one side ends, or says nothing for long, or all that is allowed has gone through.
func (h *Hub) carry(a, b net.Conn) {
	var left atomic.Int64
	left.Store(h.o.RelayBytes)
	joined := appendFrame(nil, frameJoined)
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(relayQuiet))
		if _, err := c.Write(joined); err != nil {
			return
		}
	}
	done := make(chan struct{}, 2)
	one := func(to, from net.Conn) {
		h.pour(to, from, &left)
		_, _ = a.Close(), b.Close()
		done <- struct{}{}
	}
	h.all.Go(func() { one(a, b) })
	one(b, a)
	<-done
	<-done
}

func (h *Hub) pour(to, from net.Conn, left *atomic.Int64) {
	p := make([]byte, relayBuffer)
	var free time.Time // when the rate allows the next
	for {
		_ = from.SetReadDeadline(time.Now().Add(relayQuiet))
		n, err := from.Read(p)
		if n > 0 {
			if left.Add(-int64(n)) < 0 {
				return
			}
			now := time.Now()
			if free.Before(now.Add(-100 * time.Millisecond)) { // so much may come at once
				free = now.Add(-100 * time.Millisecond)
			}
			free = free.Add(time.Duration(float64(n) / float64(h.o.RelayRate) * float64(time.Second)))
			if d := free.Sub(now); d > 0 {
				t := time.NewTimer(d)
				select {
				case <-t.C:
				case <-h.life.Done():
					t.Stop()
					return
				}
			}
			_ = to.SetWriteDeadline(time.Now().Add(relayQuiet))
			if _, err := to.Write(p[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				h.log.Debug("a relay ends", "err", err)
			}
			return
		}
	}
}
