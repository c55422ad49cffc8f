package peer

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// A Link is a connection that others make: see Options.Dial. It is safe for concurrent use. The Node closes it.
type Link interface {
	// Open begins a stream, Accept waits for one that the far side has begun. The error is that of ctx, or says that the Link has ended.
	Open(ctx context.Context) (Stream, error)
	Accept(ctx context.Context) (Stream, error)
	// Done is closed when the Link has ended.
	Done() <-chan struct{}
	// Close ends it, with all its streams, at both sides, and waits for nobody. It may be called more than once.
	Close()
	RemoteAddr() net.Addr
}

// A Stream is one call, in both directions. One goroutine reads while another one writes; deadlines, CloseWrite and Drop may come from any.
type Stream interface {
	io.ReadWriter
	// SetReadDeadline and SetWriteDeadline are as those of net.Conn: also what waits by then ends.
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	// CloseWrite ends what is written: the far side reads io.EOF after it.
	CloseWrite() error
	// Drop ends the stream in both directions: the far side gets an error, or an early end.
	Drop()
}

// Serve begins a session with a device over a Link that was dialled by it, at the far side by Options.Dial. Whoever made the Link vouches for key; a device that
// is not admitted is cut off at once, or heard first: see Options.Introduced. Serve does not wait for the end of the session.
func (n *Node) Serve(key Key, l Link) { n.begin(key, givenLink{l}, func() {}) }

// dialGiven is a dial by Options.Dial.
func (n *Node) dialGiven(ctx context.Context, key Key, addr string) (link, error) {
	if _, err := n.admit(ctx, key); err != nil {
		return nil, fmt.Errorf("%w: %w", blob.ErrUnauthorized, err)
	}
	l, err := n.o.Dial(ctx, key, addr)
	if err != nil {
		return nil, err
	}
	return givenLink{l}, nil
}

// givenLink is a Link as sessions have it.
type givenLink struct{ l Link }

func (g givenLink) open(ctx context.Context) (Stream, error)   { return g.l.Open(ctx) }
func (g givenLink) accept(ctx context.Context) (Stream, error) { return g.l.Accept(ctx) }
func (g givenLink) done() <-chan struct{}                      { return g.l.Done() }
func (g givenLink) close(string)                               { g.l.Close() }
func (g givenLink) remote() net.Addr                           { return g.l.RemoteAddr() }
func (g givenLink) kind() string                               { return "given" }
