package posix

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

// A test binary with one of these set is something else: the process that serves a drive, or a
// test that is run by a plain user.
const (
	serveEnv = "SHEAF_POSIX_SERVE" // home, folder, name, options, one a line
	plainEnv = "SHEAF_POSIX_PLAIN" // the folder to work in
)

func TestMain(m *testing.M) {
	mounttest.Child()
	if strings.HasPrefix(filepath.Base(os.Args[0]), mountHelper) {
		exit(helpMount(os.Args[1:]))
	}
	if job := os.Getenv(serveEnv); job != "" {
		f := strings.Split(job, "\n")
		exit(serve(f[0], f[1], f[2], f[3]))
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// restless commits all the time, so that a suite meets every step of it.
var restless = live.Options{Idle: 20 * time.Millisecond, MaxAge: 200 * time.Millisecond, MaxDirty: 8 << 20}

// open opens the drive in home, which it makes if it is not there. If another process has it, it waits:
// umount(8) returns before the process that served the mount has closed the drive.
func open(ctx context.Context, home string) (*sheaf.Drive, error) {
	b, err := disk.Open(filepath.Join(home, "store"), disk.Options{})
	if err != nil {
		return nil, err
	}
	o := sheaf.Options{Dir: filepath.Join(home, "data"), Bucket: b, DeviceName: "posix", Tree: restless}
	for end := time.Now().Add(2 * time.Minute); ; {
		d, err := sheaf.Open(ctx, o)
		if errors.Is(err, sheaf.ErrNoDrive) {
			d, _, err = sheaf.Create(ctx, o)
		}
		if !errors.Is(err, sheaf.ErrLocked) || time.Now().After(end) {
			return d, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// serve mounts the drive in home at dir until the process is told to stop or the folder is
// unmounted.
func serve(home, dir, name, options string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	d, err := open(ctx, home)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m, err := fuse.Mount(ctx, d.FS(), dir, mount.Options{
		Name: name, Log: log, NonEmpty: true,
		ReadOnly:     has(options, "ro"),
		WriteThrough: has(options, "write-through"),
	})
	if err != nil {
		return errors.Join(err, d.Close(context.Background()))
	}
	fmt.Println("mounted")
	gone := make(chan error, 1)
	go func() { gone <- m.Wait() }()
	select {
	case err = <-gone:
	case <-ctx.Done():
		err = m.Unmount(context.Background())
	}
	return errors.Join(err, d.Close(context.Background()))
}

func has(options, name string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o == name {
			return true
		}
	}
	return false
}

// A daemon is a process that serves a drive.
type daemon struct {
	cmd *exec.Cmd
	dir string
	out *bufio.Reader
}

// who says which user a process is to be; nil: this one.
type who = *syscall.Credential

// start serves the drive in home at dir, and returns once the folder answers.
func start(t *testing.T, home, dir, options string) *daemon {
	t.Helper()
	return startAt(t, self(t), nil, home, dir, options)
}

// startAt is start with a copy of the test binary, as another user.
func startAt(t *testing.T, program string, as who, home, dir, options string) *daemon {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), serveEnv+"="+home+"\n"+dir+"\n\n"+options)
	cmd.Stderr = os.Stderr
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &daemon{cmd: cmd, dir: dir, out: bufio.NewReader(pipe)}
	if line, err := p.out.ReadString('\n'); line != "mounted\n" {
		_ = cmd.Wait()
		t.Fatalf("daemon says %q, %v", line, err)
	}
	return p
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

// self returns the path of this test binary.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// mounted mounts a new drive, served by a process of its own (a page fault of this one must
// not wait for itself), and returns the folder. At the end the drive is verified.
func mounted(t *testing.T, options string) (dir string) {
	t.Helper()
	needFuse(t)
	home, dir := t.TempDir(), filepath.Join(reachable(t), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := start(t, home, dir, options)
	t.Cleanup(func() {
		p.stop(t)
		verify(t, home)
	})
	return dir
}

// verify opens the drive in home and reads every stored byte of it.
func verify(t *testing.T, home string) {
	t.Helper()
	ctx := context.Background()
	d, err := open(ctx, home)
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
}

// needFuse ends a test where root cannot mount.
func needFuse(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		lacks(t, "root is needed")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		lacks(t, err.Error())
	}
}

// reachable is t.TempDir for a folder that every user can reach.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sheaf-posix") //nolint:usetesting // that folder only its owner can reach
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
