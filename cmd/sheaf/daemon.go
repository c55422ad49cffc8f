package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/gate"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/home"
)

// The limits of a daemon's end and of its log.
const (
	drainWait = 10 * time.Second // for calls that are under way when it stops
	maxLog    = 8 << 20          // bytes of the log at which a new one is begun
)

// A daemon serves a Home until it is stopped.
type daemon struct {
	svc     *service.Service
	stopped chan struct{} // closed when Stop was called
	lock    *home.Lock
	srvs    []*http.Server // of the socket and, if it is on, of the network door
	serving sync.WaitGroup
	tired   context.CancelFunc // ends its rests
	api     string             // the URL of the network door; "" if it is off
	path    string
}

// serve takes the lock, clears away what a killed daemon left, and begins to serve.
func (a *app) serve(ctx context.Context) (*daemon, error) {
	lock, err := a.lock(ctx, a.wait)
	if err != nil {
		return nil, err
	}
	log := a.logger(a.err)
	left, err := a.home.Mounts()
	if err == nil {
		for _, dir := range left {
			if cleared, err := clearDead(ctx, dir); err != nil {
				log.Warn("a dead mount stays", "dir", dir, "error", err)
			} else if cleared {
				log.Info("cleared a dead mount away", "dir", dir)
			}
		}
	}
	l, err := a.home.Listen(ctx, log)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	tcp, err := listenAPI(ctx, a.apiAddr())
	if err != nil {
		return nil, errors.Join(err, l.Close(), lock.Unlock())
	}
	d := &daemon{stopped: make(chan struct{}), lock: lock, path: a.home.Socket()}
	o := a.options(true, log)
	o.Stopped = sync.OnceFunc(func() { close(d.stopped) })
	d.svc = service.New(o)
	resting, tired := context.WithCancel(context.WithoutCancel(ctx))
	d.tired = tired
	d.serving.Go(func() {
		tick := time.NewTicker(restEvery)
		defer tick.Stop()
		relax(resting, tick.C, processorTime, d.svc.Trim)
	})
	h := doors(d.svc, log)
	d.serve(l, newServer(access.Local(h), log), log)
	if tcp != nil {
		d.api = "http://" + tcp.Addr().String()
		g, err := gate.New(gate.Options{Addr: tcp.Addr().String(), Tokens: o.Tokens, Log: log, Next: h})
		if err != nil {
			return nil, errors.Join(err, tcp.Close(), d.end())
		}
		d.serve(tcp, newServer(g, log), log)
	}
	return d, nil
}

// serve serves a listener until end.
func (d *daemon) serve(l net.Listener, srv *http.Server, log *slog.Logger) {
	d.srvs = append(d.srvs, srv)
	d.serving.Go(func() {
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			log.Error("listener", "error", err)
		}
	})
}

// end unmounts, commits and closes all.
func (d *daemon) end() error {
	ctx := context.Background()
	d.tired()
	err := d.svc.Close(ctx)
	drain, cancel := context.WithTimeout(ctx, drainWait)
	defer cancel()
	for _, srv := range d.srvs {
		if e := srv.Shutdown(drain); e != nil { // a watcher that does not go
			err = errors.Join(err, srv.Close())
		}
	}
	d.serving.Wait()
	// The socket is gone with its listener; only then may another have the lock.
	return errors.Join(err, d.lock.Unlock())
}

// endOf ends a daemon of this process. A signal is how it is asked to end, and no interruption.
func (a *app) endOf(d *daemon) error {
	a.served = true
	return d.end()
}

// asDaemon makes this process the daemon, as long as f runs, which is given a session with it.
func (a *app) asDaemon(ctx context.Context, f func(d *daemon, s *session) error) (err error) {
	d, err := a.serve(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if e := a.endOf(d); err == nil {
			err = e
		}
	}()
	s := a.dial(ctx)
	if s == nil {
		return coded(sheafv1.Code_CODE_NO_DAEMON, "sheaf doctor", "the socket %s does not answer", a.home.Socket())
	}
	defer func() { _ = s.Close(ctx) }()
	return f(d, s)
}

// ready is what a daemon tells the process that started it, as one line.
type ready struct {
	PID   int    `json:"pid"`
	API   string `json:"api,omitempty"` // the URL of the network door
	Error string `json:"error,omitempty"`
	Code  int32  `json:"code,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// daemonCmd is what `mount` starts in the background. It is no verb for people.
func (a *app) daemonCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "daemon", Short: "Serve the drive in the foreground, mounting nothing", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.serve(cmd.Context())
			r := ready{PID: os.Getpid()}
			if d != nil {
				r.API = d.api
			}
			if err != nil {
				e := explain(err)
				r.Error, r.Code, r.Hint = e.Error(), int32(e.Code), e.Hint
			}
			_ = json.NewEncoder(a.out).Encode(r) // whoever started it may be gone
			if c, ok := a.out.(io.Closer); ok {
				_ = c.Close() // tells that no more comes
			}
			if err != nil {
				return err
			}
			select {
			case <-cmd.Context().Done():
			case <-d.stopped:
			}
			return a.endOf(d)
		},
	}
	c.Flags().StringVar(&a.api, "api", "", "as of sheaf up")
	return c
}

// startDaemon starts a daemon in the background and returns a session with it. started is false if
// there was one.
func (a *app) startDaemon(ctx context.Context) (s *session, started bool, err error) {
	if s := a.dial(ctx); s != nil {
		return s, false, nil
	}
	if err := a.home.Make(); err != nil {
		return nil, false, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, false, fmt.Errorf("start daemon: %w", err)
	}
	log, err := openLog(a.home.Log())
	if err != nil {
		return nil, false, fmt.Errorf("start daemon: %w", err)
	}
	defer func() { _ = log.Close() }()
	args := []string{"daemon", "--lock-wait", a.wait.String()}
	if a.home.Dir != "" {
		args = append(args, "--home", a.home.Dir)
	}
	if a.cache != "" {
		args = append(args, "--cache-size", a.cache)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self, args...) // it outlives this command
	cmd.Env = cleanEnv(os.Environ())
	if a.getenv("SHEAF_CONFIG") != "" {
		cmd.Env = append(cmd.Env, "SHEAF_CONFIG="+a.home.Config) // absolute
	}
	cmd.Dir = filepath.Dir(a.home.Log()) // or the folder that it was started in could not be unmounted
	cmd.Stderr = log
	cmd.SysProcAttr = background()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, false, fmt.Errorf("start daemon: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, false, fmt.Errorf("start daemon: %w", err)
	}
	var r ready
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	_ = out.Close()
	if err != nil {
		_ = cmd.Wait()
		return nil, false, coded(sheafv1.Code_CODE_NO_DAEMON, "see "+a.home.Log(), "the daemon ended before it was ready")
	}
	if r.Error != "" {
		_ = cmd.Wait()
		return nil, false, &service.Error{Code: sheafv1.Code(r.Code), Hint: r.Hint, Err: errors.New(r.Error)}
	}
	if err := cmd.Process.Release(); err != nil {
		return nil, false, fmt.Errorf("start daemon: %w", err)
	}
	if s = a.dial(ctx); s == nil {
		return nil, false, coded(sheafv1.Code_CODE_NO_DAEMON, "see "+a.home.Log(), "the daemon does not answer")
	}
	return s, true, nil
}

// openLog opens the log to be written on, beginning a new one if it became long.
func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}
