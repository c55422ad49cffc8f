package churn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/mount/fuse"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

// For a test binary that is to serve a drive: its home and where to mount it; and whether it is to leak.
const (
	daemonEnv = "SHEAF_CHURN_DAEMON"
	leakEnv   = "SHEAF_CHURN_LEAK"
)

func TestMain(m *testing.M) {
	if job := os.Getenv(daemonEnv); job != "" {
		// Who stops the test stops its whole group; what ends this process is the end of its input.
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
		home, dir, _ := strings.Cut(job, "\n")
		if err := serve(home, dir); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "churn daemon:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// often commits so often that an hour has some hundred commits.
var often = live.Options{Idle: 300 * time.Millisecond, MaxAge: 4 * time.Second, MaxDirty: 32 << 20}

// open opens the drive in home, which it makes if it is not there.
func open(ctx context.Context, home string) (*sheaf.Drive, error) {
	b, err := disk.Open(filepath.Join(home, "store"), disk.Options{})
	if err != nil {
		return nil, err
	}
	o := sheaf.Options{Dir: filepath.Join(home, "data"), Bucket: b, DeviceName: "churn", Tree: often}
	d, err := sheaf.Open(ctx, o)
	if errors.Is(err, sheaf.ErrNoDrive) {
		d, _, err = sheaf.Create(ctx, o)
	}
	return d, err
}

// serve mounts the drive in home at dir until the input ends.
func serve(home, dir string) (err error) {
	ctx := context.Background()
	d, err := open(ctx, home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close(ctx)) }()
	m, err := fuse.Mount(ctx, d.FS(), dir, mount.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Unmount(ctx)) }()
	s := rpc.NewServer()
	if err := s.RegisterName("Drive", &service{d, os.Getenv(leakEnv) != ""}); err != nil {
		return err
	}
	s.ServeConn(pipes{os.Stdin, os.Stdout})
	return nil
}

var leaked [][]byte

// leak is what a bad drive does: at each look some handles, goroutines and memory are forgotten. Besides, it forgets no snapshot.
func leak() error {
	leaked = append(leaked, bytes.Repeat([]byte{1}, 40<<20))
	for range 8 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		go func() {
			time.Sleep(time.Hour)
			_ = f.Close()
		}()
	}
	return nil
}

// pipes are the two ends of a process.
type pipes struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipes) Close() error { return errors.Join(p.ReadCloser.Close(), p.WriteCloser.Close()) }

// service is what the test asks of the process that serves the drive.
type service struct {
	d     *sheaf.Drive
	leaks bool
}

// Inside is what only the process itself knows.
type Inside struct {
	Heap       float64 // MiB that are in use
	Goroutines int
	Kept       int // snapshots
}

// Look collects garbage and gives back to the system what is not needed, so that what is in use, and what is resident, is what is
// needed, and answers with that.
func (s *service) Look(_ int, in *Inside) error {
	if s.leaks {
		if err := leak(); err != nil {
			return err
		}
	}
	if !s.leaks {
		s.d.Trim() // what was read last and can be read again is no growth; that it has a limit is for other tests
	}
	runtime.GC() // what a sync.Pool holds outlives one collection
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	all, err := s.d.Snapshots(context.Background())
	*in = Inside{Heap: float64(m.HeapAlloc) / (1 << 20), Goroutines: runtime.NumGoroutine(), Kept: len(all)}
	return err
}

// Profile writes into a folder what is in use, and who made it.
func (s *service) Profile(dir string, _ *int) error {
	f, err := os.CreateTemp(dir, time.Now().Format("heap-150405-"))
	if err != nil {
		return err
	}
	runtime.GC()
	return errors.Join(pprof.WriteHeapProfile(f), f.Close())
}

// Commit commits.
func (s *service) Commit(_ int, _ *int) error { return s.d.Commit(context.Background()) }

// Keep makes a snapshot.
func (s *service) Keep(label string, _ *int) error {
	_, err := s.d.Snapshot(context.Background(), label)
	return err
}

// Thin drops all snapshots but the newest n, for otherwise all that were made within a day stay.
func (s *service) Thin(n int, _ *int) error {
	ctx := context.Background()
	all, err := s.d.Snapshots(ctx)
	if err != nil || len(all) <= n || s.leaks {
		return err
	}
	var ids []sheaf.SnapshotID
	for _, k := range all[n:] { // the newest come first
		ids = append(ids, sheaf.SnapshotID(k.Dot.String()))
	}
	return s.d.DropSnapshot(ctx, ids...)
}

// GC collects garbage in the store.
func (s *service) GC(_ int, r *sheaf.GCReport) (err error) {
	*r, err = s.d.GC(context.Background(), sheaf.GCOptions{}, nil)
	return err
}

// History answers with how many versions a path has.
func (s *service) History(path string, n *int) error {
	for _, err := range s.d.History(context.Background(), path) {
		if err != nil {
			return err
		}
		*n++
	}
	return nil
}

// An Old is a file in a kept snapshot.
type Old struct{ Label, Path string }

// Past answers with the hash of an old file, whose folder it lists besides.
func (s *service) Past(o Old, sum *[32]byte) error {
	ctx := context.Background()
	k, err := s.d.Resolve(ctx, sheaf.SnapshotID(o.Label))
	if err != nil {
		return err
	}
	past, err := s.d.At(ctx, k)
	if err != nil {
		return err
	}
	dir, name, err := vfs.WalkParent(ctx, past, o.Path)
	if err != nil {
		return err
	}
	found := false
	for e, err := range dir.List(ctx, "") {
		if err != nil {
			return err
		}
		found = found || e.Name == name
	}
	if !found {
		return fmt.Errorf("%s is not listed in %s", o.Path, o.Label)
	}
	data, err := vfs.ReadFile(ctx, past, o.Path, 1<<30)
	*sum = sha256.Sum256(data)
	return err
}

// daemon is the process that serves the drive.
type daemon struct {
	t   *testing.T
	cmd *exec.Cmd
	dir string
	rpc *rpc.Client
}

func start(t *testing.T, home, dir string, env ...string) *daemon {
	t.Helper()
	cmd := exec.Command(os.Args[0]) // it ends when its input does
	cmd.Env, cmd.Stderr = append(append(os.Environ(), daemonEnv+"="+home+"\n"+dir), env...), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &daemon{t: t, cmd: cmd, dir: dir, rpc: rpc.NewClient(pipes{out, in})}
	t.Cleanup(p.stop)
	if err := p.ask("Look", 0, &Inside{}); err != nil { // it is mounted when it answers
		t.Fatal(err)
	}
	return p
}

func (p *daemon) ask(what string, arg, answer any) error {
	if err := p.rpc.Call("Drive."+what, arg, answer); err != nil {
		return fmt.Errorf("ask for %s: %w", what, err)
	}
	return nil
}

// stop ends the process as it should end.
func (p *daemon) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.rpc.Close()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("daemon: %v", err)
		_ = unix.Unmount(p.dir, unix.MNT_DETACH)
	}
	p.cmd = nil
}
