package remotetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A Server is a program that runs until the test ends.
type Server struct {
	Addr string // host:port, the same for its whole life
	Dir  string // of what it keeps

	t    testing.TB
	args func(addr string) []string
	up   func(net.Conn) bool
	set  settings
	mu   sync.Mutex
	cmd  *exec.Cmd
	out  *tail
	gone chan struct{}
}

func need(t testing.TB, name string) string {
	t.Helper()
	return Built(t, name, "remotes")
}

// Built returns the path of a program, also of one that only root has in its PATH, or that scripts/deps builds when it is called with brings. The test
// fails if there is none.
func Built(t testing.TB, name, brings string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin", "/sbin", filepath.Join(cacheDir(), "bin")) {
		p := filepath.Join(dir, name)
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p
		}
	}
	t.Fatalf("this machine lacks %s: run scripts/deps %s", name, brings)
	return ""
}

// cacheDir is where scripts/deps puts programs that it builds.
func cacheDir() string {
	if d := os.Getenv("SHEAF_DEPS"); d != "" {
		return d
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "/nonexistent"
	}
	return filepath.Join(d, "sheaf-deps")
}

// startTime is how long a server may take to answer, on a machine that is busy.
const startTime = time.Minute

// A Setting changes how a server is started.
type Setting func(*settings)

type settings struct{ space int64 }

// Space gives the server a disk of its own of so many bytes.
func Space(bytes int64) Setting { return func(s *settings) { s.space = bytes } }

// What a server has to do before it is taken to be up. That it takes connections says little: one that has just begun may drop them.

func banner(c net.Conn) bool { // it speaks first
	_, err := io.ReadFull(c, make([]byte, 1))
	return err == nil
}

func web(c net.Conn) bool {
	_, err := io.WriteString(c, "OPTIONS / HTTP/1.0\r\n\r\n")
	return err == nil && banner(c)
}

func mute(net.Conn) bool { return true } // it answers to nothing that is as simple

// serve starts a server on a free port of this machine. args returns the command for an address. If the test fails, what the server said is told.
func serve(t testing.TB, dir string, up func(net.Conn) bool, set []Setting, args func(addr string) []string) *Server {
	t.Helper()
	s := &Server{t: t, Dir: dir, args: args, up: up}
	for _, f := range set {
		f(&s.set)
	}
	var err error
	for range 5 { // somebody else may take the port first
		s.Addr = testkit.FreeAddr(t)
		if err = s.start(); err == nil {
			t.Cleanup(func() {
				s.Kill()
				if t.Failed() {
					t.Logf("%s at %s said:\n%s", args(s.Addr)[0], s.Addr, s.out)
				}
			})
			return s
		}
	}
	t.Fatalf("start %s: %v\n%s", args(s.Addr)[0], err, s.out)
	return nil
}

// Start starts it again after Kill, at the same address.
func (s *Server) Start() {
	s.t.Helper()
	var err error
	for range 5 { // the port may not be free at once
		if err = s.start(); err == nil {
			return
		}
	}
	s.t.Fatalf("start %s again: %v\n%s", s.args(s.Addr)[0], err, s.out)
}

// Kill ends the server and all its children in the middle of what they do.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // it may have ended by itself
	<-s.gone
	s.cmd = nil
}

func (s *Server) start() error {
	args := s.args(s.Addr)
	if s.set.space > 0 {
		// The disk is seen by the server alone, and gone when it ends.
		var st syscall.Stat_t
		if err := syscall.Stat(s.Dir, &st); err != nil {
			return err
		}
		script := fmt.Sprintf(`mount -t tmpfs -o size=%d,mode=755,uid=%d,gid=%d none "$0" && exec "$@"`, s.set.space, st.Uid, st.Gid)
		flags := "-m"
		if os.Getuid() != 0 {
			flags = "-rm"
		}
		args = append([]string{"unshare", flags, "sh", "-c", script, s.Dir}, args...)
	}
	s.mu.Lock()
	// Not of the test's context, which ends before t.Cleanup does.
	s.cmd = exec.CommandContext(context.WithoutCancel(s.t.Context()), args[0], args[1:]...)
	s.out, s.gone = &tail{}, make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	s.cmd.Dir = "/"
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	s.cmd.WaitDelay = time.Second // children may hold the pipe
	cmd, gone := s.cmd, s.gone
	err := cmd.Start()
	if err != nil {
		s.cmd = nil
	} else {
		go func() {
			defer close(gone)
			_ = cmd.Wait() // it is killed
		}()
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	for end := time.Now().Add(startTime); ; {
		there := answers(s.t.Context(), s.Addr, s.up)
		select {
		case <-gone:
			s.mu.Lock()
			killed := s.cmd != cmd
			s.mu.Unlock()
			if killed {
				return nil // by Kill, before it was seen to be up: whoever did that starts it again
			}
			return errors.New("it ended at once")
		default:
		}
		if there {
			return nil
		}
		time.Sleep(20 * time.Millisecond) // only polls
		if time.Now().After(end) {
			s.Kill()
			return fmt.Errorf("nobody answers at %s", s.Addr)
		}
	}
}

func answers(ctx context.Context, addr string, up func(net.Conn) bool) bool {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // a connection has deadlines
	return up(c)
}

// tail keeps the end of what a program says.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() > 64<<10 {
		t.b.Reset()
	}
	return t.b.Write(p)
}

func (t *tail) String() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// write writes a file into a folder of the test.
func write(t testing.TB, path string, mode os.FileMode, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// mkdir makes a folder below that of the test.
func mkdir(t testing.TB, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unprivileged returns a user that a server may become if root runs the test, and gives it the folder. "" if the test is not run by root.
func unprivileged(t testing.TB, dirs ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		return ""
	}
	u, err := user.Lookup("www-data")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		// The folders above are root's, which the user has to pass.
		for up := filepath.Dir(dir); up != filepath.Dir(os.TempDir()) && up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
			if err := os.Chmod(up, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	return u.Username
}
