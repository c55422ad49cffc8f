package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// How a device is reached, from the worst to the best.
var ways = map[string]int{"relay": 1, "tcp": 2, "quic": 3, "given": 3}

// maxPacket is the size of the largest packet that is no QUIC and is looked at, in bytes.
const maxPacket = 1200

// Send sends a packet that is no QUIC from the very socket that QUIC is spoken on: the first two bits of p have to be 0. What comes back goes to Options.Packet.
func (n *Node) Send(ctx context.Context, p []byte, to netip.AddrPort) error {
	if n.o.NoUDP {
		return errors.ErrUnsupported
	}
	tr, err := n.transport(ctx)
	if err != nil {
		return err
	}
	_, err = tr.WriteTo(p, net.UDPAddrFromAddrPort(to))
	return err
}

// listenPackets hands packets that are no QUIC to Options.Packet. n.mu is held, and n is not closed.
func (n *Node) listenPackets(tr *quic.Transport) {
	if n.o.Packet == nil {
		return
	}
	n.wg.Go(func() {
		p := make([]byte, maxPacket)
		for {
			k, from, err := tr.ReadNonQUICPacket(n.life, p)
			if err != nil {
				return
			}
			if a, ok := from.(*net.UDPAddr); ok {
				at := a.AddrPort()
				n.o.Packet(p[:k], netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
			}
		}
	})
}

// Over makes a session with a device over a connection that others carry: a relay. Whoever carries it sees TLS. dialled says which of both sides this is: they have to
// differ. It takes the connection, also if it fails.
func (n *Node) Over(ctx context.Context, key Key, conn net.Conn, dialled bool) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	t := tls.Server(conn, n.config(ctx, &key, alpn))
	if dialled {
		t = tls.Client(conn, n.config(ctx, &key, alpn))
	}
	err := t.HandshakeContext(ctx)
	if err != nil {
		_ = conn.Close()
		return dialError(key, []error{err})
	}
	l, err := newTCPLink(t, dialled)
	if err != nil {
		_ = conn.Close()
		return err
	}
	s := n.begin(key, relayLink{l}, nil)
	if s == nil {
		return fmt.Errorf("too many sessions: %w", blob.ErrTemporary)
	}
	if dialled {
		if _, err = s.greet(ctx); err != nil {
			s.close("no greeting")
		}
	}
	return err
}

// relayLink is a link that others carry.
type relayLink struct{ link }

func (relayLink) kind() string { return "relay" }

// Better takes care that there is a session with a device that nobody carries: it dials addresses, unless there is one. What goes over a relay by then ends as soon as it has nothing to do.
func (n *Node) Better(ctx context.Context, key Key, addrs ...string) error {
	n.mu.Lock()
	s := n.best(key)
	d := n.dials[key]
	if d == nil {
		d = &dialing{busy: make(chan struct{}, 1)}
		n.dials[key] = d
	}
	closed := n.closed
	n.mu.Unlock()
	switch {
	case closed:
		return fmt.Errorf("peers: this device ends: %w", blob.ErrTemporary)
	case s != nil && s.l.kind() != "relay":
		if slices.Contains(addrs, s.l.remote().String()) {
			return nil
		}
		if s.probe(); s.life.Err() == nil { // it may have moved since
			return nil
		}
	}
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.busy }()
	d.quic = time.Now()
	s, err := n.reach(ctx, key, addrs, alpn)
	if err != nil {
		return err
	}
	n.outdo(s)
	return nil
}

// outdo ends the sessions with a device that are carried by others, once there is one that is not.
func (n *Node) outdo(s *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s == nil || n.closed || s.l.kind() == "relay" {
		return
	}
	for _, o := range n.sessions[s.key] {
		if o.l.kind() == "relay" {
			o.retire()
		}
	}
}
