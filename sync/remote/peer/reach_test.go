package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// carried returns both ends of a connection that somebody carries, who may change each byte.
func carried(t *testing.T, change func(p []byte)) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var ends, inner []net.Conn
	for range 2 {
		x, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		y, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ends, inner = append(ends, x), append(inner, y)
	}
	for i := range 2 {
		go func() {
			p := make([]byte, 4096)
			for {
				n, err := inner[i].Read(p)
				change(p[:n])
				if _, e := inner[1-i].Write(p[:n]); err != nil || e != nil {
					_, _ = inner[0].Close(), inner[1].Close()
					return
				}
			}
		}()
	}
	t.Cleanup(func() {
		for _, c := range append(ends, inner...) {
			_ = c.Close()
		}
	})
	return ends[0], ends[1]
}

// over2 makes a session of two devices over a connection.
func over2(t *testing.T, near, far *Node, a, b net.Conn) error {
	t.Helper()
	answered := make(chan error, 1)
	go func() { answered <- far.Over(t.Context(), near.Key(), b, false) }()
	err := near.Over(t.Context(), far.Key(), a, true)
	return errors.Join(err, <-answered)
}

// What goes by a relay is what goes any other way, and moves to a direct one as soon as there is one.
func TestOver_MovesToABetterWay(t *testing.T) {
	var r roll
	far := newNode(t, &r, func(o *Options) { o.Bucket = mem.New() })
	near := newNode(t, &r, nil)
	addr := listen(t, far)
	var seen atomic.Int64
	secret := bytes.Repeat([]byte("what nobody in between may read "), 1000)
	a, b := carried(t, func(p []byte) {
		seen.Add(int64(len(p)))
		if bytes.Contains(p, secret[:32]) {
			t.Error("who carries it reads it")
		}
	})
	if err := over2(t, near, far, a, b); err != nil {
		t.Fatal(err)
	}
	bucket := near.Bucket(far.Key(), at())
	put(t, bucket, "a/b", secret)
	if got := get(t, bucket, "a/b", 0, -1); !bytes.Equal(got, secret) {
		t.Errorf("got %d bytes", len(got))
	}
	if s := near.Sessions(); len(s) != 1 || s[0].By != "relay" || seen.Load() < int64(len(secret)) {
		t.Errorf("sessions %v, %d bytes carried", s, seen.Load())
	}
	if err := near.Better(t.Context(), far.Key(), addr); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		far.mu.Lock()
		n := len(far.sessions[near.Key()])
		far.mu.Unlock()
		if s := near.Sessions(); n == 1 && len(s) == 1 && s[0].By == "quic" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("sessions %v, %d at the other side", near.Sessions(), n)
		}
	}
	before := seen.Load()
	if got := get(t, bucket, "a/b", 0, -1); !bytes.Equal(got, secret) || seen.Load() != before {
		t.Errorf("got %d bytes, and %d were carried", len(got), seen.Load()-before)
	}
}

// A relay that changes a byte, anywhere: there is no session, or it ends; nothing wrong is read or kept.
func TestOver_ARelayThatChangesBytes(t *testing.T) {
	rnd := testkit.Rand(testkit.Seed(t))
	body := testkit.Random(rnd, 40_000)
	kept := 0
	for range 12 {
		var r roll
		shelf := mem.New()
		far := newNode(t, &r, func(o *Options) { o.Bucket = shelf })
		near := newNode(t, &r, nil)
		var left atomic.Int64
		left.Store(int64(rnd.IntN(30_000)))
		flip := byte(1 << rnd.IntN(8))
		a, b := carried(t, func(p []byte) {
			n := left.Add(-int64(len(p)))
			if i := n + int64(len(p)); n < 0 && i >= 0 && i < int64(len(p)) {
				p[i] ^= flip
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		go func() { _ = far.Over(ctx, near.Key(), b, false) }()
		if near.Over(ctx, far.Key(), a, true) == nil {
			_ = near.Bucket(far.Key(), at()).Put(ctx, "a/b", bytes.NewReader(body), int64(len(body)))
		}
		cancel()
		rc, err := shelf.Get(t.Context(), "a/b", 0, -1)
		if err != nil {
			continue
		}
		got, _ := io.ReadAll(rc)
		_ = rc.Close()
		if kept++; !bytes.Equal(got, body) {
			t.Fatalf("after a byte was changed %d bytes are kept that are not those", len(got))
		}
	}
	t.Logf("of 12, %d were kept, as they were", kept)
}

// Whoever is at the other end of a relay is found out.
func TestOver_AnotherDeviceThanWasMeant(t *testing.T) {
	var r roll
	far, near, meant := newNode(t, &r, nil), newNode(t, &r, nil), newNode(t, &r, nil)
	a, b := carried(t, func([]byte) {})
	go func() { _ = far.Over(t.Context(), near.Key(), b, false) }()
	if err := near.Over(t.Context(), meant.Key(), a, true); !errors.Is(err, ErrImpostor) {
		t.Errorf("got %v, want that of an impostor", err)
	}
}

// Packets that are no QUIC come from, and go to, the socket of QUIC.
func TestSend_IsFromTheSocketOfQUIC(t *testing.T) {
	var r roll
	got := make(chan netip.AddrPort, 10)
	a := newNode(t, &r, nil)
	b := newNode(t, &r, func(o *Options) {
		o.Packet = func(p []byte, from netip.AddrPort) {
			if string(p) == "\x00hello" {
				got <- from
			}
		}
	})
	from, to := listen(t, a), netip.MustParseAddrPort(listen(t, b))
	for end := time.After(10 * time.Second); ; {
		if err := a.Send(t.Context(), []byte("\x00hello"), to); err != nil {
			t.Fatal(err)
		}
		select {
		case at := <-got:
			if at.String() != from {
				t.Errorf("it comes from %v, want %v", at, from)
			}
			return
		case <-time.After(50 * time.Millisecond): // the first may come before anybody reads
		case <-end:
			t.Fatal("nothing comes")
		}
	}
}
