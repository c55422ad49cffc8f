package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A proxy stands before a server: it counts what passes, and holds each byte back for half of the round trip, in each direction, while more may follow it.
type proxy struct {
	to    string // host and port of the server
	delay time.Duration
	ln    net.Listener

	// requests is how often a client has sent something, on one connection, after the server had answered, or as the first: the requests of HTTP/1.1, and where more
	// than one is under way at a time, how often somebody waited.
	requests atomic.Int64
	bytes    atomic.Int64 // of both directions, without the headers of TCP

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
	wg     sync.WaitGroup
}

// ahead is how many pieces of at most pieceSize bytes are on their way in one direction: as much as the line holds.
const (
	ahead     = 256
	pieceSize = 64 << 10
)

// newProxy listens on a free port of this machine, until close.
func newProxy(to string, roundTrip time.Duration) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it returns at once
	if err != nil {
		return nil, err
	}
	p := &proxy{to: to, delay: roundTrip / 2, ln: ln, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) port() int { return p.ln.Addr().(*net.TCPAddr).Port }

func (p *proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return // it was closed
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

// keep notes a connection, so that close ends it. It is false after close.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.conns[c] = struct{}{}
	}
	return !p.closed
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }() // both ends may be gone
	server, err := net.Dial("tcp", p.to)  //nolint:noctx // the server is on this machine
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }() // the same
	if !p.keep(client) || !p.keep(server) {
		return
	}
	var answered atomic.Bool
	answered.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		// The first bytes come after the round trip that a connection takes to be made.
		p.pass(server, client, 3*p.delay, func() {
			if answered.Swap(false) {
				p.requests.Add(1)
			}
		})
	})
	wg.Go(func() { p.pass(client, server, p.delay, func() { answered.Store(true) }) })
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// A piece is what was read at once, and when it is to arrive.
type piece struct {
	due  time.Time
	data []byte
}

// pass brings all that comes from one connection to the other, the first of it after the time first, and then the end.
func (p *proxy) pass(to, from net.Conn, first time.Duration, came func()) {
	line := make(chan piece, ahead)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(line)
		for late := first; ; late = p.delay {
			b := make([]byte, pieceSize)
			n, err := from.Read(b)
			if n > 0 {
				p.bytes.Add(int64(n))
				came()
				line <- piece{time.Now().Add(late), b[:n]}
			}
			if err != nil {
				return
			}
		}
	})
	var failed error
	for pc := range line {
		if failed != nil {
			continue // who reads is not kept waiting
		}
		if p.delay > 0 {
			time.Sleep(time.Until(pc.due))
		}
		if _, failed = to.Write(pc.data); failed != nil {
			_ = from.Close() // nobody is there any more
		}
	}
	if c, ok := to.(*net.TCPConn); ok {
		_ = c.CloseWrite() // it may be gone
	}
	wg.Wait()
}

// close ends all connections, and returns when nothing of the proxy runs any more.
func (p *proxy) close() error {
	err := p.ln.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
