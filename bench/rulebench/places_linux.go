package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// The kinds of places.
const (
	folder = "folder"
	sftp   = "sftp"
	webdav = "webdav"
)

// A route is which two places are kept alike.
type route struct {
	name  string
	kinds [2]string
	delay time.Duration // the round trip to a server
}

var routes = []route{
	{"local", [2]string{folder, folder}, 0},
	{"SFTP", [2]string{folder, sftp}, 0},
	{"SFTP 40 ms", [2]string{folder, sftp}, 40 * time.Millisecond},
	{"WebDAV twice", [2]string{webdav, webdav}, 0},
	{"WebDAV twice 40 ms", [2]string{webdav, webdav}, 40 * time.Millisecond},
}

// A place is a folder, and the server before it, if it has one.
type place struct {
	kind  string
	dir   string // on this machine
	proxy *proxy // nil: a folder
	key   string // files of the keys of SSH
	known string

	server *exec.Cmd
}

// open makes a folder a place of a kind. What it needs besides goes to work, a folder of its own. The caller closes it, also after an error.
func (p *place) open(ctx context.Context, programs map[string]string, work string, delay time.Duration) error {
	if err := errors.Join(os.MkdirAll(p.dir, 0o755), os.MkdirAll(work, 0o700)); err != nil {
		return err
	}
	if p.kind == folder {
		return nil
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	if p.proxy, err = newProxy(addr, delay); err != nil {
		return err
	}
	args := []string{programs["rclone"], "serve", "webdav", "--config", "/dev/null", "--addr", addr, "--dir-cache-time", "0s", p.dir}
	if p.kind == sftp {
		if args, err = p.sshd(ctx, programs, work, port); err != nil {
			return err
		}
	}
	log, err := os.Create(filepath.Join(work, "log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()            // the program has its own
	p.server = exec.Command(args[0], args[1:]...) //nolint:noctx // it lives longer than a call
	p.server.Stdout, p.server.Stderr = log, log   // for people
	p.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.server.Start(); err != nil {
		p.server = nil
		return err
	}
	return listens(ctx, addr)
}

// sshd writes what OpenSSH needs, and returns how it is started.
func (p *place) sshd(ctx context.Context, programs map[string]string, work string, port int) ([]string, error) {
	host := filepath.Join(work, "host")
	p.key, p.known = filepath.Join(work, "user"), filepath.Join(work, "known")
	for _, key := range []string{host, p.key} {
		if _, err := measure.Output(ctx, work, nil, nil, programs["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", key); err != nil {
			return nil, err
		}
	}
	pub, err := os.ReadFile(host + ".pub")
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // OpenSSH wants it, empty
			return nil, err
		}
	}
	conf := fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %s
AuthorizedKeysFile %s.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
MaxSessions 100
SetEnv HOME=%s
Subsystem sftp internal-sftp
`, port, host, p.key, work) // a shell that programs start there reads nothing of whoever measures
	at := filepath.Join(work, "sshd_config")
	err = errors.Join(
		os.WriteFile(p.known, fmt.Appendf(nil, "[127.0.0.1]:%d %s", p.proxy.port(), pub), 0o600),
		os.WriteFile(at, []byte(conf), 0o600),
	)
	return []string{programs["sshd"], "-D", "-e", "-f", at}, err
}

// ssh are the arguments with which ssh reaches the place.
func (p *place) ssh() string {
	return strings.Join([]string{"-i", p.key, "-o", "UserKnownHostsFile=" + p.known, "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"}, " ")
}

func (p *place) url() string { return fmt.Sprintf("http://127.0.0.1:%d/", p.proxy.port()) }

// close ends the server. It takes no context: it tidies up, also after an interruption.
func (p *place) close() (err error) {
	if p.proxy != nil {
		err = p.proxy.close()
	}
	if p.server != nil {
		_ = p.server.Process.Signal(syscall.SIGTERM) // it may have ended
		timer := time.AfterFunc(10*time.Second, func() { _ = p.server.Process.Kill() })
		_ = p.server.Wait() // it was told to end
		timer.Stop()
	}
	return err
}

// traffic returns what has passed until now.
func (p *place) traffic() (requests, bytes int64) {
	if p.proxy == nil {
		return 0, 0
	}
	return p.proxy.requests.Load(), p.proxy.bytes.Load()
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it returns at once
	if err != nil {
		return 0, err
	}
	return ln.Addr().(*net.TCPAddr).Port, ln.Close()
}

// listens waits until somebody answers at an address.
func listens(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server does not listen: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
