//go:build linux

package fuse

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

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/mount/mounttest"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// The test program serves a mount in a process of its own if these are set: a test that
// maps a file into memory must not be the process that answers the page faults.
const (
	envServe   = "SHEAF_TEST_SERVE"   // the folder to mount at
	envThrough = "SHEAF_TEST_THROUGH" // not empty: without the write-back cache
)

func TestMain(m *testing.M) {
	mounttest.Child()
	if dir := os.Getenv(envServe); dir != "" {
		os.Exit(serve(dir))
	}
	os.Exit(m.Run())
}

// serve mounts an empty memfs until it is told to stop or is unmounted.
func serve(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	fsys := memfs.New(memfs.Options{})
	if err := own(ctx, fsys); err != nil {
		fmt.Println("error", err)
		return 1
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m, err := Mount(ctx, fsys, dir, mount.Options{WriteThrough: os.Getenv(envThrough) != "", Log: log})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("mounted")
	gone := make(chan error, 1)
	go func() { gone <- m.Wait() }()
	select {
	case <-gone:
		return 0
	case <-ctx.Done():
	}
	if err := m.Unmount(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if err := m.Abort(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
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

// startServer runs serve in a process of its own and returns the mounted folder.
func startServer(t *testing.T, env ...string) (dir string, cmd *exec.Cmd) {
	t.Helper()
	needFuse(t)
	dir = t.TempDir()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), envServe+"="+dir), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Errorf("server does not end")
			cmd.Process.Kill()
			<-done
		}
		clearMount(dir)
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "mounted" {
		t.Fatalf("server said %q, %v", line, err)
	}
	return dir, cmd
}

// clearMount takes away what a failed test left mounted.
func clearMount(dir string) {
	if _, ok, _ := mountAt(dir); ok {
		m := &Mounted{direct: os.Geteuid() == 0}
		m.unmount(dir, true)
	}
}

// needFuse skips a test where nothing can be mounted.
func needFuse(t testing.TB) {
	t.Helper()
	if err := checkSystem(os.Geteuid() == 0); err != nil {
		testkit.Lacks(t, err)
	}
}

// mountHere mounts fsys in this process, until the test ends.
func mountHere(t testing.TB, fsys vfs.FS, o mount.Options) *Mounted {
	t.Helper()
	needFuse(t)
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	m, err := Mount(t.Context(), fsys, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err := m.Unmount(ctx)
		if err != nil {
			t.Errorf("unmount at the end: %v", err)
			err = m.Abort(ctx)
		}
		if err != nil {
			t.Errorf("abort at the end: %v", err)
		}
	})
	return m
}

// newMem returns an empty memfs whose root is this process's.
func newMem(t testing.TB) *memfs.FS {
	t.Helper()
	fsys := memfs.New(memfs.Options{})
	if err := own(t.Context(), fsys); err != nil {
		t.Fatal(err)
	}
	return fsys
}

// must fails the test if there is an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantErr fails the test if err is not want.
func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}
