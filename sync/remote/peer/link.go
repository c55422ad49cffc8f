package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/yamux"
	"github.com/quic-go/quic-go"
)

// A link is a connection with streams. Either side opens them.
type link interface {
	open(ctx context.Context) (Stream, error)
	accept(ctx context.Context) (Stream, error)
	// done is closed when the link is.
	done() <-chan struct{}
	close(why string)
	remote() net.Addr
	// kind is "quic", "tcp", "relay" or "given".
	kind() string
}

// The limits of a link.
const (
	handshakeWait = 10 * time.Second
	idleWait      = 40 * time.Second // after which a link counts as dead
	keepAlive     = 12 * time.Second
	maxStreams    = 128 // that the far side may have open at a time

	// Bytes that may be under way. A line of 1 Gbit/s and 80 ms has 10 MiB on it, and a window is given anew when a quarter of it was read. One stream may have what there is
	// from the beginning: a blob is a stream of its own, and would be over before its window has grown. What is kept in memory, the window of the connection bounds.
	quicStreamWindow = 16 << 20
	quicFirstWindow  = 4 << 20 // of a connection that has to show first that it needs more
	quicWindow       = 32 << 20
	quicAllWindows   = 256 << 20 // by which those of all connections may have grown
	tcpStreamWindow  = 1 << 20
)

func (n *Node) quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout: handshakeWait, MaxIdleTimeout: idleWait, KeepAlivePeriod: keepAlive,
		InitialStreamReceiveWindow: quicStreamWindow, MaxStreamReceiveWindow: quicStreamWindow,
		InitialConnectionReceiveWindow: quicFirstWindow, MaxConnectionReceiveWindow: quicWindow, AllowConnectionWindowIncrease: n.lines.grow,
		MaxIncomingStreams: maxStreams, MaxIncomingUniStreams: -1, Allow0RTT: false, EnableDatagrams: false,
	}
}

// quicLink is a link over QUIC.
type quicLink struct{ c *quic.Conn }

// quicLink returns a link over a connection.
func (n *Node) quicLink(c *quic.Conn) link {
	n.lines.add(c)
	context.AfterFunc(c.Context(), func() { n.lines.remove(c) })
	return quicLink{c}
}

func (l quicLink) open(ctx context.Context) (Stream, error) {
	s, err := l.c.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{s}, nil
}

func (l quicLink) accept(ctx context.Context) (Stream, error) {
	s, err := l.c.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{s}, nil
}

func (l quicLink) done() <-chan struct{} { return l.c.Context().Done() }
func (l quicLink) close(why string)      { _ = l.c.CloseWithError(0, why) }
func (l quicLink) remote() net.Addr      { return l.c.RemoteAddr() }
func (l quicLink) kind() string          { return "quic" }

type quicStream struct{ *quic.Stream }

func (s quicStream) CloseWrite() error { return s.Close() }

func (s quicStream) Drop() {
	s.CancelRead(0)
	s.CancelWrite(0)
}

// yamuxConfig is the configuration of streams over TLS over TCP.
func yamuxConfig() *yamux.Config {
	return &yamux.Config{
		AcceptBacklog: maxStreams, EnableKeepAlive: true, KeepAliveInterval: keepAlive, ConnectionWriteTimeout: idleWait,
		MaxStreamWindowSize: tcpStreamWindow, StreamOpenTimeout: idleWait, StreamCloseTimeout: idleWait, LogOutput: io.Discard,
	}
}

// tcpLink is a link over TLS over TCP.
type tcpLink struct {
	s    *yamux.Session
	conn *tls.Conn
}

// newTCPLink makes a link of a connection whose handshake is done.
func newTCPLink(conn *tls.Conn, dialled bool) (link, error) {
	var s *yamux.Session
	var err error
	if dialled {
		s, err = yamux.Client(conn, yamuxConfig())
	} else {
		s, err = yamux.Server(conn, yamuxConfig())
	}
	if err != nil {
		return nil, fmt.Errorf("streams over TCP: %w", err)
	}
	return tcpLink{s, conn}, nil
}

func (l tcpLink) open(ctx context.Context) (Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := l.s.OpenStream() // it waits for nobody but a backlog that calls do not fill
	if err != nil {
		return nil, err
	}
	return tcpStream{s}, nil
}

func (l tcpLink) accept(ctx context.Context) (Stream, error) {
	s, err := l.s.AcceptStreamWithContext(ctx)
	if err != nil {
		return nil, err
	}
	return tcpStream{s}, nil
}

func (l tcpLink) done() <-chan struct{} { return l.s.CloseChan() }

func (l tcpLink) close(string) {
	_ = l.conn.NetConn().Close() // at once: closing TLS would wait for a far side that does not read
	_ = l.s.Close()
}
func (l tcpLink) remote() net.Addr { return l.conn.RemoteAddr() }
func (l tcpLink) kind() string     { return "tcp" }

type tcpStream struct{ *yamux.Stream }

func (s tcpStream) CloseWrite() error { return s.Close() }

func (s tcpStream) Drop() {
	past := time.Unix(1, 0)
	_ = s.SetReadDeadline(past)
	_ = s.SetWriteDeadline(past)
	_ = s.Close()
}
