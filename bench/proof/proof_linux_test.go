package proof

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/mount/fuse"
	"github.com/sheaf-drive/sheaf/mount/mounttest"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

// daemonEnv is set for a test binary that is to serve a drive: its home, and where to mount it.
const daemonEnv = "SHEAF_PROOF_DAEMON"

func TestMain(m *testing.M) {
	mounttest.Child()
	if job := os.Getenv(daemonEnv); job != "" {
		home, dir, _ := strings.Cut(job, "\n")
		if err := serve(home, dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// restless commits all the time, so that a death meets every step of it.
var restless = live.Options{Idle: 20 * time.Millisecond, MaxAge: 200 * time.Millisecond, MaxDirty: 1 << 20}

// open opens the drive in home, which it makes if it is not there.
func open(ctx context.Context, home string, tree live.Options) (*sheaf.Drive, error) {
	b, err := disk.Open(filepath.Join(home, "store"), disk.Options{})
	if err != nil {
		return nil, err
	}
	o := sheaf.Options{Dir: filepath.Join(home, "data"), Bucket: b, DeviceName: "proof", Tree: tree}
	d, err := sheaf.Open(ctx, o)
	if errors.Is(err, sheaf.ErrNoDrive) {
		d, _, err = sheaf.Create(ctx, o)
	}
	return d, err
}

// serve mounts the drive in home at dir until the process is told to stop.
func serve(home, dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	d, err := open(ctx, home, restless)
	if err != nil {
		return err
	}
	m, err := fuse.Mount(ctx, d.FS(), dir, mount.Options{})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	<-ctx.Done()
	return errors.Join(m.Unmount(context.Background()), d.Close(context.Background()))
}

// mounted mounts a new drive, served by a process of its own (a page fault of this one must
// not wait for itself), and returns the folder. At the end the drive is verified.
func mounted(t *testing.T) (dir string) {
	t.Helper()
	home, dir := t.TempDir(), t.TempDir()
	p := start(t, home, dir)
	t.Cleanup(func() {
		p.stop(t)
		ctx := context.Background()
		d, err := open(ctx, home, restless)
		if err != nil {
			t.Errorf("open again: %v", err)
			return
		}
		if r, err := d.Verify(ctx, nil); err != nil || len(r.Findings) > 0 {
			t.Errorf("verify: %v %v", r.Findings, err)
		}
		if err := d.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return dir
}

// daemon is a process that serves a drive.
type daemon struct {
	cmd *exec.Cmd
	dir string
	out *bufio.Reader
}

func start(t *testing.T, home, dir string) *daemon {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), daemonEnv+"="+home+"\n"+dir)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &daemon{cmd: cmd, dir: dir, out: bufio.NewReader(pipe)}
	line, err := p.out.ReadString('\n')
	if line != "mounted\n" {
		_ = cmd.Wait()
		t.Fatalf("daemon says %q, %v", line, err)
	}
	return p
}

// kill ends the daemon at once, and takes away what is left of its mount.
func (p *daemon) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = p.cmd.Wait()
	if err := unix.Unmount(p.dir, unix.MNT_DETACH); err != nil {
		t.Errorf("unmount after a kill: %v", err)
	}
}

// stop ends the daemon as it should end.
func (p *daemon) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	rest, _ := io.ReadAll(p.out)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("daemon: %v %s", err, rest)
		_ = unix.Unmount(p.dir, unix.MNT_DETACH)
	}
}

// run runs a program in dir and fails the test if it does.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed: run scripts/deps (%v)", name, err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
