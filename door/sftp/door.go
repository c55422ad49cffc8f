package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	xsftp "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/sheaf-drive/sheaf/vfs"
)

// The bounds of slow and of many clients.
const (
	maxConns  = 128
	helloWait = 20 * time.Second // until somebody has said who he is
	maxTries  = 3                // passwords in one connection
	maxChans  = 8                // sessions in one connection
	drainWait = 5 * time.Second
)

// A Guest is who was let in.
type Guest struct {
	// Folder is all that he may see, absolute in the tree; "" is everything.
	Folder   string
	ReadOnly bool
	// Valid is asked before each act whether he is let in still; nil: he always is.
	Valid func() bool
}

// Options are what a door needs. Addr, Key and LetIn are.
type Options struct {
	Addr string // an IP address and a port, 0 for any
	// Key is how clients know this device.
	Key ssh.Signer
	// LetIn says who a user with a password is, or returns an error that is told to the log and not to him. Calls overlap.
	LetIn func(ctx context.Context, from net.Addr, user, password string) (Guest, error)
	// Root is the folder that is shown, absolute in the tree; "" is everything.
	Root     string
	ReadOnly bool
	// UID and GID own what clients make.
	UID, GID uint32
	// Log takes who was refused; nil discards it. It gets no name of a file and no password.
	Log *slog.Logger
}

// A Door listens. Close ends it.
type Door struct {
	fsys   vfs.FS
	o      Options
	l      net.Listener
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed

	mu      sync.Mutex // guards the rest
	conns   map[net.Conn]struct{}
	closing bool
	wg      sync.WaitGroup
}

// Listen opens a door to a tree. It lives longer than ctx.
func Listen(ctx context.Context, fsys vfs.FS, o Options) (*Door, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	d := &Door{fsys: fsys, o: o, l: l, done: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	d.ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go d.accept()
	return d, nil
}

// Addr returns where it listens.
func (d *Door) Addr() net.Addr { return d.l.Addr() }

// Done is closed when the door has ended, whoever ended it.
func (d *Door) Done() <-chan struct{} { return d.done }

// Err returns why it ended, once Done is closed; nil if Close did it.
func (d *Door) Err() error { return d.err }

// Close ends all sessions, and returns when they are gone: what one is in the midst of is done whole or not at all.
func (d *Door) Close(ctx context.Context) error {
	d.mu.Lock()
	d.closing = true
	d.mu.Unlock()
	err := d.l.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	d.cancel() // an idle client would stay for ever
	d.mu.Lock()
	for c := range d.conns {
		_ = c.Close()
	}
	d.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		d.wg.Wait()
		close(gone)
	}()
	t := time.NewTimer(drainWait)
	defer t.Stop()
	select {
	case <-gone:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	case <-t.C:
		err = errors.Join(err, errors.New("a client of SFTP does not let go"))
	}
	<-d.done
	return err
}

func (d *Door) accept() {
	defer close(d.done)
	for {
		c, err := d.l.Accept()
		if err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			if !d.closing {
				d.err = fmt.Errorf("accept: %w", err)
			}
			return
		}
		if !d.take(c) {
			_ = c.Close()
			continue
		}
		go func() {
			defer d.leave(c)
			d.serve(c)
		}()
	}
}

// take counts a connection, and reports whether there is room for it.
func (d *Door) take(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing || len(d.conns) >= maxConns {
		return false
	}
	d.conns[c] = struct{}{}
	d.wg.Add(1)
	return true
}

func (d *Door) leave(c net.Conn) {
	_ = c.Close()
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
	d.wg.Done()
}

// serve serves one connection.
func (d *Door) serve(c net.Conn) {
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	var guest Guest
	conf := &ssh.ServerConfig{
		MaxAuthTries:  maxTries,
		ServerVersion: "SSH-2.0-sheaf",
		PasswordCallback: func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			g, err := d.o.LetIn(ctx, m.RemoteAddr(), m.User(), string(password))
			if err != nil {
				d.o.Log.Warn("refused at the SFTP door", "from", m.RemoteAddr().String(), "why", err)
				return nil, errors.New("refused")
			}
			guest = g
			return nil, nil
		},
	}
	conf.AddHostKey(d.o.Key)
	_ = c.SetDeadline(time.Now().Add(helloWait)) // without it, the client may only wait longer
	conn, chans, reqs, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	_ = c.SetDeadline(time.Time{})
	defer func() { _ = conn.Close() }()
	go ssh.DiscardRequests(reqs)
	root, ok := vfs.Inner(d.o.Root, guest.Folder)
	if !ok {
		d.o.Log.Warn("refused at the SFTP door", "from", c.RemoteAddr().String(), "why", "the folder of the password is not in what is shown")
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	n := 0
	for ch := range chans {
		if ch.ChannelType() != "session" {
			_ = ch.Reject(ssh.UnknownChannelType, "only files are served here")
			continue
		}
		if n++; n > maxChans {
			_ = ch.Reject(ssh.ResourceShortage, "too many sessions")
			continue
		}
		s := &session{ctx: ctx, fsys: d.fsys, root: root, guest: guest, o: &d.o, drop: func() { _ = c.Close() }}
		wg.Go(func() { s.serve(ch) })
	}
	cancel()
}

// serve serves one session of a connection, which asks for SFTP or gets nothing.
func (s *session) serve(nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer func() { _ = ch.Close() }()
	for r := range reqs {
		// A subsystem is named as a string: four bytes of its length, and itself.
		sftp := r.Type == "subsystem" && len(r.Payload) > 4 && string(r.Payload[4:]) == "sftp"
		if r.WantReply {
			_ = r.Reply(sftp, nil)
		}
		if !sftp {
			continue
		}
		go ssh.DiscardRequests(reqs)
		srv := xsftp.NewRequestServer(ch, s.handlers())
		err := srv.Serve()
		_ = srv.Close()
		code := byte(0)
		if err != nil && !errors.Is(err, io.EOF) {
			code = 1
		}
		_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, code})
		return
	}
}
