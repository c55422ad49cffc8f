package peer

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
	"golang.org/x/net/ipv4"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// drops counts the packets of a connection that the library drops because too many wait.
type drops struct{ atomic.Int64 }

func (d *drops) AddProducer() qlogwriter.Recorder { return d }
func (d *drops) SupportsSchemas(string) bool      { return true }
func (d *drops) Close() error                     { return nil }

func (d *drops) RecordEvent(e qlogwriter.Event) {
	if p, ok := e.(qlog.PacketDropped); ok && p.Trigger == qlog.PacketDropDOSPrevention {
		d.Add(1)
	}
}

// halting is a socket of a process that does not run for a while, now and then: all that comes meanwhile is read at once afterwards.
type halting struct {
	*pacedSocket
	n int
}

func (h *halting) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	if h.n++; h.n%256 == 0 {
		time.Sleep(20 * time.Millisecond)
	}
	return h.pacedSocket.ReadBatch(ms, flags)
}

// What comes while a device had no time is not lost: it stays in the kernel until it is looked at.
func TestSocket_LosesNothingAfterAHalt(t *testing.T) {
	var r roll
	var lost drops
	far, near := newNode(t, &r, nil), newNode(t, &r, nil)
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: &halting{pacedSocket: far.paced(conn).(*pacedSocket)}}
	o := far.quicConfig()
	o.Tracer = func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return &lost }
	l, err := tr.Listen(far.config(t.Context(), nil, alpn), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = l.Close(), tr.Close() })
	const size = 64 << 20
	got := make(chan int64, 1)
	go func() {
		defer close(got)
		c, err := l.Accept(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		far.quicLink(c)
		s, err := c.AcceptStream(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		n, err := io.Copy(io.Discard, s)
		if err != nil {
			t.Error(err)
		}
		got <- n
	}()
	key := far.Key()
	to, err := near.dialQUIC(t.Context(), key, conn.LocalAddr().String(), alpn)
	if err != nil {
		t.Fatal(err)
	}
	defer to.close("")
	s, err := to.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(s, bytes.NewReader(testkit.Random(rand.New(rand.NewPCG(1, 2)), size))); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != size {
		t.Errorf("%d bytes came, want %d", n, size)
	}
	// Without the wait there are more than 1,000. On a machine that gives the process no time for longer than the wait some are.
	if n := lost.Load(); n > 400 {
		t.Errorf("%d packets were dropped by who had read them", n)
	}
}

// A flood of packets that are of no connection does not hold up the socket.
func TestLines_AFloodIsPassedOver(t *testing.T) {
	p := pace{l: new(lines)}
	began := time.Now()
	for range 1_000_000 / 8 {
		p.wait()
		p.read += 8
	}
	if took := time.Since(began); took > 15*time.Second { // 8 minutes if each part of it is waited for
		t.Errorf("a million packets took %v", took)
	}
}

// Windows grow by so much in all, those of devices that are not proven not at all, and what has ended gives back what it had.
func TestLines_WindowsAreBounded(t *testing.T) {
	var l lines
	a, b, stranger := new(quic.Conn), new(quic.Conn), new(quic.Conn)
	l.add(a)
	l.add(b)
	if l.grow(stranger, 1) {
		t.Error("the window of a stranger grew")
	}
	if !l.grow(a, quicAllWindows-1) || !l.grow(b, 1) {
		t.Error("there was room, and they did not grow")
	}
	if l.grow(a, 1) {
		t.Error("it grew beyond what all may have")
	}
	var r roll
	m := mem.New()
	far := newNode(t, &r, func(o *Options) { o.NoTCP, o.Bucket = true, m })
	near := newNode(t, &r, func(o *Options) { o.NoTCP = true })
	put(t, near.Bucket(far.Key(), at(listen(t, far))), "small", []byte("x"))
	has := func() (conns int, grown uint64) {
		far.lines.mu.Lock()
		defer far.lines.mu.Unlock()
		return len(far.lines.all), far.lines.grown
	}
	far.lines.mu.Lock()
	for c := range far.lines.all {
		far.lines.all[c], far.lines.grown = 5, 5
	}
	far.lines.mu.Unlock()
	if conns, _ := has(); conns != 1 {
		t.Fatalf("%d connections, want 1", conns)
	}
	_ = near.Close()
	until := time.Now().Add(10 * time.Second)
	for conns, grown := has(); conns != 0 || grown != 0; conns, grown = has() {
		if time.Now().After(until) {
			t.Fatalf("after the end: %d connections, %d bytes", conns, grown)
		}
		time.Sleep(time.Millisecond)
	}
}
