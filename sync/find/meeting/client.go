package meeting

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The errors of a Client.
var (
	ErrNobody  = errors.New("nobody is there whom the server knows by that name")
	ErrTooMuch = errors.New("the server takes no more for now")
	ErrAway    = errors.New("the server is not reached")
	errKey     = errors.New("the server's key is not the one in its address")
)

// ClientOptions say who a Client is. Server is needed.
type ClientOptions struct {
	Server Server
	// Claims returns what is held at the server; at most 8. nil: nothing.
	Claims func() []Claim
	// Said is called with what others tell, one at a time, and has to be quick. It does not keep text.
	Said func(slot Slot, text []byte)
	// Changed is called when the server was reached, and when it is no more.
	Changed func()
	Log     *slog.Logger
}

// The pauses of a Client.
const (
	leastPause = time.Second
	mostPause  = time.Minute
	saidRate   = 50 // of what others tell in a second; a server that passes on more is left
)

// A Client keeps a connection to a server, as far as it goes. It is safe for concurrent use.
type Client struct {
	o    ClientOptions
	life context.Context
	end  context.CancelFunc
	all  sync.WaitGroup
	hold chan struct{}

	mu     sync.Mutex
	conn   net.Conn // nil: away
	err    error    // why
	number uint32
	told   map[uint32]chan byte
	write  sync.Mutex
}

// NewClient returns a Client, which begins to dial. The caller closes it.
func NewClient(o ClientOptions) *Client {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, told: map[uint32]chan byte{}, hold: make(chan struct{}, 1), err: ErrAway}
	c.life, c.end = context.WithCancel(context.Background())
	c.all.Go(c.run)
	return c
}

// Close ends it.
func (c *Client) Close() error {
	c.end()
	c.all.Wait()
	return nil
}

// Server returns where the server is.
func (c *Client) Server() Server { return c.o.Server }

// Err returns nil while the server is reached, and otherwise why it is not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// UDP returns where the server answers Binding requests; the zero AddrPort if it is not reached.
func (c *Client) UDP() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return netip.AddrPort{}
	}
	if a, ok := c.conn.RemoteAddr().(*net.TCPAddr); ok {
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	return netip.AddrPort{}
}

// Renew holds what Claims says now.
func (c *Client) Renew() {
	select {
	case c.hold <- struct{}{}:
	default:
	}
}

func (c *Client) run() {
	pause := leastPause
	for c.life.Err() == nil {
		begun := time.Now()
		err := c.once()
		c.mu.Lock()
		c.conn, c.err = nil, fmt.Errorf("%w: %w", ErrAway, err)
		for n, t := range c.told {
			close(t)
			delete(c.told, n)
		}
		c.mu.Unlock()
		if c.life.Err() != nil {
			return
		}
		c.o.Log.Debug("a rendezvous is left", "server", c.o.Server.Addr, "err", err)
		c.changed()
		if time.Since(begun) > mostPause {
			pause = leastPause
		}
		t := time.NewTimer(pause + rand.N(pause/2))
		select {
		case <-t.C:
		case <-c.life.Done():
			t.Stop()
			return
		}
		pause = min(2*pause, mostPause)
	}
}

func (c *Client) changed() {
	if c.o.Changed != nil {
		c.o.Changed()
	}
}

// dial connects to the server.
func (c *Client) dial(ctx context.Context) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, shakeWait)
	defer cancel()
	host, _, err := net.SplitHostPort(c.o.Server.Addr)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, ServerName: host}
	if pin := c.o.Server.Pin; pin != nil {
		conf.InsecureSkipVerify = true //nolint:gosec // the key has to be the one in the address
		conf.VerifyConnection = func(cs tls.ConnectionState) error {
			if sum := sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo); !bytes.Equal(sum[:], pin[:]) {
				return errKey
			}
			return nil
		}
	}
	d := tls.Dialer{Config: conf}
	conn, err := d.DialContext(ctx, "tcp", c.o.Server.Addr)
	if err != nil {
		return nil, err
	}
	t := conn.(*tls.Conn) //nolint:forcetypeassert // its documentation says so
	if t.ConnectionState().NegotiatedProtocol != alpn {
		_ = t.Close()
		return nil, fmt.Errorf("%s is no rendezvous", c.o.Server.Addr)
	}
	return t, nil
}

// once holds one connection as long as it lasts.
func (c *Client) once() error {
	t, err := c.dial(c.life)
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	defer context.AfterFunc(c.life, func() { _ = t.NetConn().Close() })()
	if err := c.send(t, c.claims()); err != nil {
		return err
	}
	c.mu.Lock()
	c.conn = t
	c.mu.Unlock()
	done := make(chan struct{})
	defer close(done)
	c.all.Go(func() {
		tick := time.NewTicker(pingEvery)
		defer tick.Stop()
		for {
			f := appendFrame(nil, framePing)
			select {
			case <-done:
				return
			case <-tick.C:
			case <-c.hold:
				f = c.claims()
			}
			if c.send(t, f) != nil {
				_ = t.NetConn().Close()
				return
			}
		}
	})
	buf := make([]byte, maxFrame)
	said := rate.NewLimiter(saidRate, 2*saidRate)
	for {
		_ = t.SetReadDeadline(time.Now().Add(Quiet))
		kind, p, err := readFrame(t, buf)
		if err != nil {
			return err
		}
		switch {
		case kind == frameHeld:
			c.mu.Lock()
			first := c.err != nil
			c.err = nil
			c.mu.Unlock()
			if first {
				c.changed()
			}
		case kind == framePong:
		case kind == frameTold && len(p) == 5:
			c.mu.Lock()
			n := binary.BigEndian.Uint32(p)
			if w := c.told[n]; w != nil {
				w <- p[4]
				delete(c.told, n)
			}
			c.mu.Unlock()
		case kind == frameSaid && len(p) >= len(Slot{}):
			if !said.Allow() {
				return errors.New("the server says too much")
			}
			if c.o.Said != nil {
				c.o.Said(Slot(p), p[len(Slot{}):])
			}
		default:
			return errFrame
		}
	}
}

func (c *Client) claims() []byte {
	var all []byte
	if c.o.Claims != nil {
		for i, x := range c.o.Claims() {
			if i < maxClaims {
				all = append(all, x[:]...)
			}
		}
	}
	return appendFrame(nil, frameHold, all)
}

func (c *Client) send(conn net.Conn, f []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	_ = conn.SetWriteDeadline(time.Now().Add(shakeWait))
	_, err := conn.Write(f)
	return err
}

// Tell has the server pass something on to who holds a slot. The error wraps ErrNobody if nobody does, and ErrAway if the server is not reached.
func (c *Client) Tell(ctx context.Context, slot Slot, text []byte) error {
	if len(text) > MaxTell {
		return fmt.Errorf("tell: %d bytes are too much", len(text))
	}
	c.mu.Lock()
	conn, away := c.conn, c.err
	if conn == nil || away != nil {
		c.mu.Unlock()
		return fmt.Errorf("%w: %w", ErrAway, away)
	}
	c.number++
	n, w := c.number, make(chan byte, 1)
	c.told[n] = w
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.told, n)
		c.mu.Unlock()
	}()
	if err := c.send(conn, appendFrame(nil, frameTell, binary.BigEndian.AppendUint32(nil, n), slot[:], text)); err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case said, ok := <-w:
		switch {
		case !ok:
			return ErrAway
		case said == toldPassed:
			return nil
		case said == toldNobody:
			return ErrNobody
		}
		return ErrTooMuch
	}
}

// Relay returns a connection to who asks the server for one with the same token, as the server carries it: it sees all bytes. Either side has to be there within some 20 s.
func (c *Client) Relay(ctx context.Context, t Token) (net.Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAway, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() })
	_ = conn.SetDeadline(time.Now().Add(relayWait + shakeWait))
	_, err = conn.Write(appendFrame(nil, frameRelay, t[:]))
	var kind byte
	if err == nil {
		kind, _, err = readFrame(conn, make([]byte, maxFrame))
	}
	if err == nil && kind != frameJoined {
		err = errFrame
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.NetConn().Close()
		return nil, fmt.Errorf("relay: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}
