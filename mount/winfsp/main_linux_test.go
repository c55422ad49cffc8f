//go:build cgofuse && cgo

package winfsp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/mount/mounttest"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// The test program serves a mount in a process of its own if these are set: a test that maps a file into memory must not be
// the process that answers the page faults.
const (
	envServe = "SHEAF_TEST_SERVE" // the folder to mount at
	envDrive = "SHEAF_TEST_DRIVE" // the folder that a drive is kept in; "": a tree in memory
)

func TestMain(m *testing.M) {
	mounttest.Child()
	if dir := os.Getenv(envServe); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve mounts an empty tree until the mount ends. Signals are for whoever started it to send: cgofuse unmounts when it gets one.
func serve(dir string) (err error) {
	ctx := context.Background()
	signal.Ignore(syscall.SIGHUP)
	fsys, closeTree, err := tree(ctx, os.Getenv(envDrive))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeTree()) }()
	if err := own(ctx, fsys); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m, err := Mount(ctx, fsys, dir, mount.Options{Log: log})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	return m.Wait()
}

// own gives the root of fsys to this process.
func own(ctx context.Context, fsys vfs.FS) error {
	root, err := fsys.Root(ctx)
	if err != nil {
		return err
	}
	_, err = root.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetUID | vfs.SetGID, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
	return err
}

// A server is a process that serves a mount.
type server struct {
	*exec.Cmd
	ended chan struct{}
	err   error // once it has ended
}

// startServer runs serve in a process of its own and returns the mounted folder.
func startServer(t *testing.T, env ...string) (dir string, s *server) {
	t.Helper()
	needFuse(t)
	dir = t.TempDir()
	cmd := exec.Command(os.Args[0])
	s = &server{Cmd: cmd, ended: make(chan struct{})}
	cmd.Env = append(append(os.Environ(), envServe+"="+dir), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		if err := unmountFolder(dir); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Errorf("unmount: %v", err)
			unix.Unmount(dir, unix.MNT_DETACH|unix.MNT_FORCE)
		}
		select {
		case <-s.ended:
			if s.err != nil && cmd.ProcessState.ExitCode() >= 0 { // it was not killed
				t.Errorf("server ended with %v", s.err)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("server does not end")
			cmd.Process.Kill()
			<-s.ended
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "mounted" {
		t.Errorf("server said %q, %v", line, err)
	}
	go func() { // now that all that it says was read
		s.err = cmd.Wait()
		close(s.ended)
	}()
	if t.Failed() {
		t.FailNow()
	}
	return dir, s
}

func unmountFolder(dir string) error { return (&Mounted{dir: dir, point: dir}).unmount(false) }

// needFuse says what a test lacks where nothing can be mounted.
func needFuse(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testkit.Lacks(t, "/dev/fuse")
	}
	if err := loaded(); err != nil {
		testkit.Lacks(t, err)
	}
}

// mountHere mounts fsys in this process, until the test ends; with the names of Windows, if it is told.
func mountHere(t testing.TB, fsys vfs.FS, o mount.Options, windows bool) *Mounted {
	t.Helper()
	needFuse(t)
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	m, err := mountAs(t.Context(), fsys, t.TempDir(), o, windows)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := m.Unmount(ctx); err != nil {
			t.Errorf("unmount at the end: %v", err)
			if err := m.Abort(ctx); err != nil {
				t.Errorf("abort at the end: %v", err)
			}
		}
	})
	return m
}

// newMem returns an empty memfs whose root is this process's.
func newMem(t testing.TB) *memfs.FS {
	t.Helper()
	fsys := memfs.New(memfs.Options{})
	must(t, own(t.Context(), fsys))
	return fsys
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }
