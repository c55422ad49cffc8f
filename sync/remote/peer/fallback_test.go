package peer

import (
	"net"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// by returns over what a device is connected, "" if it is not.
func by(n *Node, key Key) string {
	for _, m := range n.Sessions() {
		if m.Key == key {
			return m.By
		}
	}
	return ""
}

// Where UDP does not get through, TCP does; and when it gets through again, so does QUIC, and nothing is lost on the way.
func TestFallback_ToTCPAndBack(t *testing.T) {
	var r roll
	m := mem.New()
	put(t, m, "a", []byte("a"))
	far := newNode(t, &r, func(o *Options) { o.NoUDP, o.Bucket = true, m })
	addr := listen(t, far)
	near := newNode(t, &r, func(o *Options) { o.Again = 50 * time.Millisecond })
	b := near.Bucket(far.Key(), at(addr))
	if got := get(t, b, "a", 0, -1); string(got) != "a" || by(near, far.Key()) != "tcp" {
		t.Fatalf("got %q over %s, want over tcp", got, by(near, far.Key()))
	}
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Skip("the port is taken by another program: " + err.Error())
	}
	if err := far.listenQUIC(conn); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); by(near, far.Key()) != "quic"; time.Sleep(10 * time.Millisecond) {
		if got := get(t, b, "a", 0, -1); string(got) != "a" {
			t.Fatalf("got %q", got)
		}
		if time.Now().After(end) {
			t.Fatal("it stays with TCP")
		}
	}
	if got := get(t, b, "a", 0, -1); string(got) != "a" {
		t.Errorf("got %q over QUIC", got)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		near.mu.Lock()
		n := len(near.sessions[far.Key()])
		near.mu.Unlock()
		if n == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("there are %d sessions still", n)
		}
	}
}

// A session that ended is followed by another one.
func TestBucket_ComesBack(t *testing.T) {
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			var r roll
			m := mem.New()
			put(t, m, "a", []byte("a"))
			far := newNode(t, &r, func(o *Options) { change(o); o.Bucket = m })
			near := newNode(t, &r, change)
			b := near.Bucket(far.Key(), at(listen(t, far)))
			for range 3 {
				if got := get(t, b, "a", 0, -1); string(got) != "a" {
					t.Fatalf("got %q", got)
				}
				far.mu.Lock()
				all := far.sessions[near.Key()]
				far.mu.Unlock()
				for _, s := range all {
					s.close("a test")
				}
				for end := time.Now().Add(10 * time.Second); by(near, far.Key()) != ""; time.Sleep(5 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal("the end of a session is not seen")
					}
				}
			}
		})
	}
}

// News are told, each time, and one call for many of them is enough.
func TestNudge(t *testing.T) {
	var r roll
	heard := make(chan Key, 100)
	far := newNode(t, &r, func(o *Options) { o.Nudged = func(k Key) { heard <- k } })
	near := newNode(t, &r, nil)
	if err := near.Meet(t.Context(), far.Key(), listen(t, far)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		near.Nudge()
		select {
		case k := <-heard:
			if k != near.Key() {
				t.Fatal("another device is named")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nobody heard of the news")
		}
		for len(heard) > 0 {
			<-heard
		}
	}
}
