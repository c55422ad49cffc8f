package peer

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// waiting is a Bucket that is asked, and does not answer before its context is done.
type waiting struct {
	blob.Bucket
	asked chan struct{}
}

func (w waiting) Get(ctx context.Context, _ blob.Name, _, _ int64) (io.ReadCloser, error) {
	close(w.asked)
	<-ctx.Done()
	return nil, ctx.Err()
}

// relay forwards datagrams between whoever sends to the address that it returns and to, until it is dead.
func relay(t *testing.T, to string, dead *atomic.Bool) string {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = front.Close(), back.Close() })
	var client atomic.Value
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := front.ReadFrom(buf)
			if err != nil {
				return
			}
			client.Store(from)
			if !dead.Load() {
				_, _ = back.Write(buf[:n])
			}
		}
	}()
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := back.Read(buf)
			if err != nil {
				return
			}
			if to, ok := client.Load().(net.Addr); ok && !dead.Load() {
				_, _ = front.WriteTo(buf[:n], to)
			}
		}
	}()
	return front.LocalAddr().String()
}

// A device is killed in the midst of a call, and comes again by itself. Whoever waits for its answer learns of it long before the link would count as dead.
func TestBucket_ADeviceThatComesAgainEndsWhatWaitsForItsPast(t *testing.T) {
	var r roll
	key := signer(t)
	quic := func(o *Options) { o.NoTCP = true }
	asked := make(chan struct{})
	killed := newNode(t, &r, func(o *Options) {
		quic(o)
		o.Signer, o.Bucket = key, waiting{mem.New(), asked}
	})
	near := newNode(t, &r, func(o *Options) { quic(o); o.Bucket = mem.New() })
	nearAt := listen(t, near)
	var dead atomic.Bool
	b := near.Bucket(killed.Key(), at(relay(t, listen(t, killed), &dead)))
	ended := make(chan error, 1)
	go func() {
		_, err := tryGet(t, b, "a", 0, -1)
		ended <- err
	}()
	<-asked
	dead.Store(true)

	again := newNode(t, &r, func(o *Options) { quic(o); o.Signer = key })
	if err := again.Meet(t.Context(), near.Key(), nearAt); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	select {
	case err := <-ended:
		t.Logf("after %v: %v", time.Since(begun).Round(10*time.Millisecond), err)
		if err == nil {
			t.Error("there was an answer")
		}
	case <-time.After(probeWait + 5*time.Second):
		t.Error("the call waits still")
	}
}
