package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/rpc"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/home"
)

// sessionURL is where a handler is, over a connection that leads to it anyway.
const sessionURL = "http://sheaf"

// A session is a way to the services: to the daemon, or to this process itself.
type session struct {
	*rpc.Client
	http   *http.Client // reaches the same services, at sessionURL
	daemon bool
	close  func(ctx context.Context) error
}

// Close ends the session. In process it commits and closes the drive.
func (s *session) Close(ctx context.Context) error { return s.close(ctx) }

// dial returns a session with the daemon, or nil if none listens.
func (a *app) dial(ctx context.Context) *session {
	c, err := a.home.Dial(ctx)
	if err != nil {
		return nil
	}
	_ = c.Close()
	t := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return a.home.Dial(ctx) },
		DisableCompression: true,
	}
	h := &http.Client{Transport: t}
	return &session{Client: rpc.NewClient(h, sessionURL), http: h, daemon: true, close: func(context.Context) error {
		t.CloseIdleConnections()
		return nil
	}}
}

// connect returns a session: with the daemon or, where none runs, in process under the lock.
func (a *app) connect(ctx context.Context) (*session, error) {
	for end := time.Now().Add(a.wait); ; {
		if s := a.dial(ctx); s != nil {
			return s, nil
		}
		// Whoever has the lock may be a daemon on its way up, so both are looked at.
		lock, err := a.lock(ctx, 0)
		if err == nil {
			return a.inProcess(lock), nil
		}
		if explain(err).Code != sheafv1.Code_CODE_LOCKED || time.Now().After(end) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// lock takes the lock of the Home. A process that has it and was killed, but cannot end, is helped on.
func (a *app) lock(ctx context.Context, wait time.Duration) (*home.Lock, error) {
	l, err := a.home.Lock(ctx, 0)
	if !errors.Is(err, home.ErrHeld) {
		return l, err
	}
	if pid := a.home.Holder(); pid != 0 && dying(pid) {
		dirs, err := a.home.Mounts()
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			if err := release(dir); err != nil {
				a.logger(a.err).Warn("a killed process cannot end, and its mount cannot be cut off", "process", pid, "dir", dir, "error", err)
			}
		}
		wait = max(wait, 5*time.Second)
	}
	return a.home.Lock(ctx, wait)
}

// inProcess serves this process itself, until the session is closed, and gives the lock back then.
func (a *app) inProcess(lock interface{ Unlock() error }) *session {
	log := a.logger(a.err)
	svc := service.New(a.options(false, log))
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := newServer(access.Local(doors(svc, log)), log)
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(l) })
	t := &http.Transport{DialContext: l.dial, DisableCompression: true}
	h := &http.Client{Transport: t}
	return &session{Client: rpc.NewClient(h, sessionURL), http: h, close: func(ctx context.Context) error {
		err := svc.Close(ctx)
		t.CloseIdleConnections()
		err = errors.Join(err, srv.Close())
		served.Wait()
		return errors.Join(err, lock.Unlock())
	}}
}

// newServer returns a server of a handler. A body has no time limit, for an upload or a listing may take long.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true) // for gRPC clients
	return &http.Server{
		Handler: h, Protocols: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError),
	}
}

// with runs f in a session in which the drive is open, and closes it.
func (a *app) with(ctx context.Context, f func(s *session) error) (err error) {
	return a.withSession(ctx, func(s *session) error {
		if err := a.unlock(ctx, s); err != nil {
			return err
		}
		return f(s)
	})
}

// withSession runs f in a session in which the drive may be closed.
func (a *app) withSession(ctx context.Context, f func(s *session) error) (err error) {
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	// What was done is committed also if f failed or was interrupted.
	defer func() {
		if e := s.Close(context.WithoutCancel(ctx)); err == nil {
			err = e
		}
	}()
	return f(s)
}

// unlock opens the drive: with the key on this device if there is one, else with the recovery words if
// SHEAF_RECOVERY_FILE names them, else with the passphrase from the environment or a terminal.
func (a *app) unlock(ctx context.Context, s *session) error {
	_, err := s.Drives.Unlock(ctx, &sheafv1.UnlockRequest{})
	if err == nil || explain(err).Code != sheafv1.Code_CODE_NEED_SECRET {
		return err
	}
	needed := err
	words, err := a.recoveryWords("")
	if err != nil {
		return err
	}
	if words != "" {
		_, err = s.Drives.Unlock(ctx, &sheafv1.UnlockRequest{Recovery: words})
		return err
	}
	p, err := a.passphraseFromEnv(ctx)
	if err != nil {
		return err
	}
	if p != nil {
		_, err = s.Drives.Unlock(ctx, &sheafv1.UnlockRequest{Passphrase: p})
		return err
	}
	for try := 0; ; try++ {
		p, err := a.ask(ctx, "passphrase", false)
		if errors.Is(err, errNoTerminal) {
			return needed
		}
		if err != nil {
			return err
		}
		_, err = s.Drives.Unlock(ctx, &sheafv1.UnlockRequest{Passphrase: p})
		if err == nil || explain(err).Code != sheafv1.Code_CODE_WRONG_SECRET || try == 2 {
			return err
		}
		_, _ = a.err.Write([]byte("that is not it; once more\n"))
	}
}

// pipeListener is a listener of this process for itself.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr returns an address that says nothing.
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "in process", Net: "pipe"} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
