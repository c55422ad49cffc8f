package door

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// The bounds of slow and of many clients.
const (
	headerWait = 10 * time.Second
	idleWait   = 2 * time.Minute
	stallWait  = time.Minute // without one byte, in the midst of a body
	maxHeader  = 32 << 10
	maxConns   = 512
	drainWait  = 5 * time.Second
)

// ErrPlain says that a door for other machines would show passwords and files to all who listen on the way.
var ErrPlain = errors.New("a door for other machines needs TLS")

// Options say where and how a door listens.
type Options struct {
	// Addr is an address and a port, "127.0.0.1:0" for any free one. A name is only "localhost", which is 127.0.0.1.
	Addr string
	// TLS is the certificate; nil: none, which only a loopback address may have (else ErrPlain).
	TLS *tls.Certificate
	// Handler makes what is served, when it is known where.
	Handler func(at netip.AddrPort) http.Handler
	// Log takes what there is to say; nil discards it.
	Log *slog.Logger
}

// A Door is a server that runs. It is safe for concurrent use.
type Door struct {
	at     netip.AddrPort
	tls    bool
	srv    *http.Server
	served chan struct{}
	err    error // once served is closed
}

// ParseAddr reads an address to listen at.
func ParseAddr(addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q is no IP address", host)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port %q is no number up to 65535", port)
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}

// Listen opens a door. ctx bounds the opening only; Close ends it.
func Listen(ctx context.Context, o Options) (*Door, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	at, err := ParseAddr(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if o.TLS == nil && !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("listen at %s: %w", at, ErrPlain)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	at = netip.AddrPortFrom(at.Addr(), uint16(l.Addr().(*net.TCPAddr).Port))
	d := &Door{at: at, tls: o.TLS != nil, served: make(chan struct{})}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	d.srv = &http.Server{
		Handler: patient(o.Handler(at)), Protocols: p, ReadHeaderTimeout: headerWait, IdleTimeout: idleWait, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), // what clients do wrong
	}
	l = &counted{Listener: l, room: make(chan struct{}, maxConns), done: make(chan struct{})}
	if o.TLS != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*o.TLS}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	}
	go func() {
		defer close(d.served)
		if err := d.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.err = err
		}
	}()
	return d, nil
}

// Addr returns where it listens.
func (d *Door) Addr() netip.AddrPort { return d.at }

// URL returns how it is called on this machine: by its address, or by the loopback one if it has any.
func (d *Door) URL() string {
	at := d.at
	if at.Addr().IsUnspecified() {
		a := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		at = netip.AddrPortFrom(a, at.Port())
	}
	if d.tls {
		return "https://" + at.String() + "/"
	}
	return "http://" + at.String() + "/"
}

// Done is closed when the door has ended, whoever ended it.
func (d *Door) Done() <-chan struct{} { return d.served }

// Err returns why it ended, once Done is closed; nil if Close did it.
func (d *Door) Err() error { return d.err }

// Close lets no new request in, gives those that are under way some seconds, and returns when all are gone. Further calls do nothing.
func (d *Door) Close(ctx context.Context) error {
	drain, cancel := context.WithTimeout(ctx, drainWait)
	defer cancel()
	err := d.srv.Shutdown(drain)
	if err != nil { // somebody is in the midst of something long
		err = d.srv.Close()
	}
	<-d.served
	return err
}

// counted is a listener with room for so many connections at a time. Others wait to be accepted.
type counted struct {
	net.Listener
	room chan struct{}
	once sync.Once
	done chan struct{}
}

// Accept implements net.Listener.
func (l *counted) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &conn{Conn: c, leave: sync.OnceFunc(func() { <-l.room })}, nil
}

// Close implements net.Listener.
func (l *counted) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type conn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// patient bounds how long a body may stand still, in either direction. A body that goes on may take for ever.
func patient(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.SetWriteDeadline(time.Time{}) // until something is to be written
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &slowBody{ReadCloser: r.Body, c: c}
		}
		next.ServeHTTP(&slowWriter{ResponseWriter: w, c: c}, r)
		// What is left of the body, and of the answer. The next request has limits of its own.
		_ = c.SetReadDeadline(time.Now().Add(stallWait))
		_ = c.SetWriteDeadline(time.Now().Add(stallWait))
	})
}

type slowBody struct {
	io.ReadCloser
	c    *http.ResponseController
	last time.Time
}

func (b *slowBody) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(b.last) > time.Second {
		b.last = now
		_ = b.c.SetReadDeadline(now.Add(stallWait)) // if it cannot be set, nothing is bounded
	}
	return b.ReadCloser.Read(p)
}

type slowWriter struct {
	http.ResponseWriter
	c    *http.ResponseController
	last time.Time
}

// Unwrap is for http.ResponseController.
func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements io.Writer.
func (w *slowWriter) Write(p []byte) (int, error) {
	if now := time.Now(); now.Sub(w.last) > time.Second {
		w.last = now
		_ = w.c.SetWriteDeadline(now.Add(stallWait)) // the same
	}
	return w.ResponseWriter.Write(p)
}
