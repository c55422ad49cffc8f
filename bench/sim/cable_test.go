package sim

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

// errCable is what a cable says that has broken.
var errCable = fmt.Errorf("the cable is broken: %w", blob.ErrTemporary)

// A cable connects two devices that are up. What goes over it are the frames of package peer: only TLS, QUIC and TCP are left out.
type cable struct {
	pair *pair
	ends [2]*cableEnd // who dialled first
	done chan struct{}
	once sync.Once
}

// cableEnd is a cable as one of the two has it.
type cableEnd struct {
	*cable
	me, far *device
	coming  chan *cableStream
}

var _ peer.Link = (*cableEnd)(nil)

func newCable(p *pair, from, to *device) *cable {
	c := &cable{pair: p, done: make(chan struct{})}
	c.ends[0] = &cableEnd{c, from, to, make(chan *cableStream, 256)}
	c.ends[1] = &cableEnd{c, to, from, make(chan *cableStream, 256)}
	return c
}

// cut ends it.
func (c *cable) cut() { c.once.Do(func() { close(c.done) }) }

func (c *cable) broken() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// live returns why nothing goes over the cable, if so: also a device that has lost its power meanwhile says nothing more.
func (e *cableEnd) live() error {
	if e.me.power.read() != nil || e.far.power.read() != nil {
		e.cut()
	}
	if e.broken() {
		return errCable
	}
	// From now on the far side may know of what lies here, and this one of what lies there.
	e.me.seen, e.far.seen = e.me.put, e.far.put
	return nil
}

func (e *cableEnd) Open(context.Context) (peer.Stream, error) {
	if err := e.live(); err != nil {
		return nil, err
	}
	there, back := newPipe(e.cable), newPipe(e.cable)
	other := e.ends[0]
	if other == e {
		other = e.ends[1]
	}
	select {
	case other.coming <- &cableStream{other, there, back}:
		return &cableStream{e, back, there}, nil
	default:
		return nil, errCable
	}
}

func (e *cableEnd) Accept(ctx context.Context) (peer.Stream, error) {
	select {
	case s := <-e.coming:
		return s, nil
	case <-e.done:
		return nil, errCable
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *cableEnd) Done() <-chan struct{} { return e.done }
func (e *cableEnd) Close()                { e.cut() }
func (e *cableEnd) RemoteAddr() net.Addr  { return address(e.far.name) }

// address is the address of a device.
type address string

func (address) Network() string  { return "cable" }
func (p address) String() string { return string(p) + ":1" }

// A cableStream is one call.
type cableStream struct {
	end     *cableEnd
	in, out *pipe
}

func (s *cableStream) Read(p []byte) (int, error) { return s.in.read(p) }

func (s *cableStream) Write(p []byte) (int, error) {
	if err := s.end.live(); err != nil {
		return 0, err
	}
	return s.out.write(p)
}

func (s *cableStream) SetReadDeadline(t time.Time) error {
	s.in.change(func() { s.in.until = t })
	return nil
}

// SetWriteDeadline counts only if it is over: nothing that is written waits.
func (s *cableStream) SetWriteDeadline(t time.Time) error {
	s.out.change(func() { s.out.closing = t })
	return nil
}

func (s *cableStream) CloseWrite() error {
	s.out.change(func() { s.out.ended = true })
	return nil
}

func (s *cableStream) Drop() {
	for _, p := range []*pipe{s.in, s.out} {
		p.change(func() { p.dropped = true })
	}
}

// A part is bytes on their way.
type part struct {
	b   []byte
	due time.Time
}

// A pipe is one direction of a stream.
type pipe struct {
	c *cable

	mu             sync.Mutex
	moved          chan struct{} // closed, and made anew, when anything changes
	parts          []part
	until, closing time.Time // for who reads, and who writes; zero: for ever
	ended, dropped bool
}

func newPipe(c *cable) *pipe { return &pipe{c: c, moved: make(chan struct{})} }

func (p *pipe) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.moved)
	p.moved = make(chan struct{})
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.change(func() {
		switch {
		case p.dropped || p.ended:
			err = io.ErrClosedPipe
			return
		case !p.closing.IsZero() && !time.Now().Before(p.closing):
			err = os.ErrDeadlineExceeded
			return
		}
		var some []byte
		var delay time.Duration
		some, delay, err = p.c.pair.carry(b)
		n = len(some)
		p.parts = append(p.parts, part{some, time.Now().Add(delay)})
	})
	if err != nil {
		p.c.cut()
	}
	return n, err
}

func (p *pipe) read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		now, moved, wait := time.Now(), p.moved, p.until
		switch {
		case p.dropped:
			p.mu.Unlock()
			return 0, io.ErrClosedPipe
		case len(p.parts) > 0 && !p.parts[0].due.After(now):
			n := copy(b, p.parts[0].b)
			if p.parts[0].b = p.parts[0].b[n:]; len(p.parts[0].b) == 0 {
				p.parts = p.parts[1:]
			}
			p.mu.Unlock()
			return n, nil
		case p.c.broken():
			p.mu.Unlock()
			return 0, errCable
		case len(p.parts) == 0 && p.ended:
			p.mu.Unlock()
			return 0, io.EOF
		case !p.until.IsZero() && !now.Before(p.until):
			p.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(p.parts) > 0 && (wait.IsZero() || p.parts[0].due.Before(wait)):
			wait = p.parts[0].due
		}
		p.mu.Unlock()
		var timer <-chan time.Time
		var t *time.Timer
		if !wait.IsZero() {
			t = time.NewTimer(wait.Sub(now))
			timer = t.C
		}
		select {
		case <-moved:
		case <-timer:
		case <-p.c.done:
		}
		if t != nil {
			t.Stop()
		}
	}
}

// A pair is two devices that can reach each other when all is well, and what is wrong between them.
type pair struct {
	a, b *device

	mu    sync.Mutex
	apart bool          // neither reaches the other
	left  int           // bytes until their cable breaks; negative: it holds
	rot   int           // bytes until one of a body is another one; negative: none is
	delay time.Duration // of what goes over it
	cable *cable        // the newest
}

func newPair(a, b *device) *pair { return &pair{a: a, b: b, left: -1, rot: -1} }

func (p *pair) other(d *device) *device {
	if p.a == d {
		return p.b
	}
	return p.a
}

// body is how long what is written has to be at least to be the body of a blob, for bytes that rot: heads and calls are shorter mostly.
const body = 1500

// carry returns what arrives of some bytes, and after what time. The error says that the cable has broken by it.
func (p *pair) carry(b []byte) (some []byte, delay time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	some, delay = append([]byte(nil), b...), p.delay
	if p.rot >= 0 && len(b) > body {
		if p.rot < len(b)-body {
			some[body+p.rot] ^= 1 << (p.rot % 8) // whoever sends has bad memory: TLS would not let it happen on the way
			p.rot = -1
		} else {
			p.rot -= len(b) - body
		}
	}
	if p.left < 0 {
		return some, delay, nil
	}
	if p.left >= len(some) {
		p.left -= len(some)
		return some, delay, nil
	}
	some = some[:p.left]
	p.left = -1
	return some, delay, errCable
}

// heal ends what is wrong.
func (p *pair) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.apart, p.left, p.rot, p.delay = false, -1, -1, 0
}

// dial is the Options.Dial of a device.
func (d *device) dial(_ context.Context, key peer.Key, addr string) (peer.Link, error) {
	for _, p := range d.pairs {
		o := p.other(d)
		if address(o.name).String() != addr {
			continue
		}
		p.mu.Lock()
		apart := p.apart
		p.mu.Unlock()
		switch {
		case apart, d.ghost && !known && !o.knowsRevoked(d), o.peers == nil, d.power.read() != nil, o.power.read() != nil, o.ghost:
			return nil, fmt.Errorf("%s does not answer: %w", o.name, blob.ErrTemporary)
		case o.key != key:
			return nil, fmt.Errorf("%s is another device by now: %w", o.name, peer.ErrImpostor)
		}
		c := newCable(p, d, o)
		p.mu.Lock()
		before := p.cable
		p.cable = c
		p.mu.Unlock()
		if before != nil {
			before.cut()
		}
		o.peers.Serve(d.key, c.ends[1])
		return c.ends[0], nil
	}
	return nil, fmt.Errorf("%s is nowhere: %w", addr, blob.ErrTemporary)
}
