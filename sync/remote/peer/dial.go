package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// session returns a session with a device: one that there is, or a new one.
func (n *Node) session(ctx context.Context, key Key, addrs []string) (*session, error) {
	n.mu.Lock()
	s := n.best(key)
	d := n.dials[key]
	if d == nil {
		d = &dialing{busy: make(chan struct{}, 1)}
		n.dials[key] = d
	}
	closed := n.closed
	n.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("peers: this device ends: %w", blob.ErrTemporary)
	}
	if s != nil {
		n.upgrade(s, d, addrs)
		return s, nil
	}
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.life.Done():
		return nil, fmt.Errorf("peers: this device ends: %w", blob.ErrTemporary)
	}
	defer func() { <-d.busy }()
	n.mu.Lock()
	s = n.best(key)
	n.mu.Unlock()
	if s != nil {
		return s, nil
	}
	if time.Since(d.failed) < dialPause {
		return nil, d.err
	}
	d.quic = time.Now()
	s, err := n.reach(ctx, key, addrs, alpn)
	if errors.Is(err, blob.ErrUnauthorized) && n.o.Dial == nil { // it may not know of this device yet
		s, err = n.reach(ctx, key, addrs, guestALPN)
	}
	if err != nil && ctx.Err() == nil {
		d.failed, d.err = time.Now(), err
	}
	return s, err
}

// reach dials a device, and greets it: only an answer says that this device is admitted there, too.
func (n *Node) reach(ctx context.Context, key Key, addrs []string, proto string) (*session, error) {
	s, err := n.dial(ctx, key, addrs, proto)
	if err != nil {
		return nil, err
	}
	if _, err = s.greet(ctx); err != nil {
		s.close("no greeting")
		if l := (*lost)(nil); errors.As(err, &l) {
			err = dialError(key, []error{l.err, s.ended()})
		}
		return nil, err
	}
	return s, nil
}

// upgrade tries, now and then, to get from TCP back to QUIC. The session over TCP ends when it has nothing to do.
func (n *Node) upgrade(s *session, d *dialing, addrs []string) {
	if s.l.kind() == "quic" || n.o.Dial != nil || n.o.NoUDP || len(addrs) == 0 {
		return
	}
	select {
	case d.busy <- struct{}{}:
	default:
		return
	}
	if time.Since(d.quic) < n.o.Again {
		<-d.busy
		return
	}
	d.quic = time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		<-d.busy
		return
	}
	n.wg.Go(func() {
		defer func() { <-d.busy }()
		ctx, cancel := context.WithTimeout(n.life, handshakeWait)
		defer cancel()
		for _, addr := range addrs {
			l, err := n.dialQUIC(ctx, s.key, addr, alpn)
			if err != nil {
				continue
			}
			if n.begin(s.key, l, nil) != nil {
				s.retire()
			}
			return
		}
	})
}

// retire ends a session as soon as no call is made on it from here.
func (s *session) retire() {
	if s.retired.Swap(true) {
		return
	}
	s.n.wg.Go(func() {
		for range cap(s.calls) {
			select {
			case s.calls <- struct{}{}:
			case <-s.life.Done():
				return
			}
		}
		s.close("there is a better one")
	})
}

// dial tries all addresses at once, over QUIC first, and takes the first that answers as the device that is called.
func (n *Node) dial(ctx context.Context, key Key, addrs []string, proto string) (*session, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("peer %x: no address of it is known: %w", key[:4], blob.ErrTemporary)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	type result struct {
		l   link
		err error
	}
	results := make(chan result)
	tries := 0
	try := func(f func(ctx context.Context) (link, error)) {
		tries++
		n.wg.Go(func() {
			l, err := f(ctx)
			select {
			case results <- result{l, err}:
			case <-ctx.Done():
				if l != nil {
					l.close("another one was first")
				}
			}
		})
	}
	n.mu.Lock() // nothing is begun when it is closed
	if n.closed {
		n.mu.Unlock()
		return nil, fmt.Errorf("peers: this device ends: %w", blob.ErrTemporary)
	}
	for _, addr := range addrs {
		if n.o.Dial != nil {
			try(func(ctx context.Context) (link, error) { return n.dialGiven(ctx, key, addr) })
			continue
		}
		if !n.o.NoUDP {
			try(func(ctx context.Context) (link, error) { return n.dialQUIC(ctx, key, addr, proto) })
		}
		if !n.o.NoTCP {
			try(func(ctx context.Context) (link, error) { return n.dialTCP(ctx, key, addr, proto) })
		}
	}
	n.mu.Unlock()
	var errs []error
	for range tries {
		select {
		case r := <-results:
			if r.err != nil {
				errs = append(errs, r.err)
				continue
			}
			if s := n.begin(key, r.l, nil); s != nil {
				return s, nil
			}
			errs = append(errs, fmt.Errorf("too many sessions: %w", blob.ErrTemporary))
		case <-ctx.Done():
			errs = append(errs, ctx.Err())
			return nil, dialError(key, errs)
		}
	}
	return nil, dialError(key, errs)
}

// dialError says why a device was not reached.
func dialError(key Key, errs []error) error {
	err := errors.Join(errs...)
	var alert tls.AlertError
	var transport *quic.TransportError
	var remote *net.OpError // as crypto/tls tells an alert of the far side over TCP
	switch {
	case errors.Is(err, ErrImpostor):
		return fmt.Errorf("peer %x: %w: %w", key[:4], blob.ErrTemporary, ErrImpostor)
	case errors.As(err, &alert), errors.As(err, &transport) && transport.ErrorCode.IsCryptoError(), errors.As(err, &remote) && remote.Op == "remote error":
		return fmt.Errorf("peer %x: %w: it does not admit this device", key[:4], blob.ErrUnauthorized)
	}
	return fmt.Errorf("peer %x: %w: %v", key[:4], blob.ErrTemporary, err) //nolint:errorlint // what it wraps means something else here
}

func (n *Node) dialQUIC(ctx context.Context, key Key, addr, proto string) (link, error) {
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	tr, err := n.transport(ctx)
	if err != nil {
		return nil, err
	}
	c, err := tr.Dial(ctx, at, n.config(ctx, &key, proto), n.quicConfig())
	if err != nil {
		return nil, err
	}
	return n.quicLink(c), nil
}

// transport returns where QUIC is dialled from: the socket that it listens on, or one of any port.
func (n *Node) transport(ctx context.Context) (*quic.Transport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.udp != nil {
		return n.udp, nil
	}
	if n.closed {
		return nil, net.ErrClosed
	}
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return nil, err
	}
	n.udp, n.socket = &quic.Transport{Conn: n.paced(conn)}, conn
	n.listenPackets(n.udp)
	return n.udp, nil
}

func (n *Node) dialTCP(ctx context.Context, key Key, addr, proto string) (link, error) {
	if !n.o.NoUDP { // QUIC is given a start
		select {
		case <-time.After(tcpDelay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	t := tls.Client(conn, n.config(ctx, &key, proto))
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	l, err := newTCPLink(t, true)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return l, nil
}
