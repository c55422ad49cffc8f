package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/bench/measure"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// serverEnv is set for a test binary that is to serve an empty file system there.
const serverEnv = "SHEAF_MOUNTBENCH_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverEnv); dir != "" {
		if err := command(context.Background(), []string{"-serve-null", dir}); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needMounts(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Getuid() != 0 {
		testkit.Lacks(t, "/dev/fuse and root")
	}
}

// served returns a system that is served by this test binary until it is killed: the
// server of a test does not take SIGTERM.
func served(t *testing.T) *system {
	t.Helper()
	s, err := newSystem(t.Context(), nullName, t.TempDir(), config{self: os.Args[0]})
	if err != nil {
		t.Fatal(err)
	}
	s.serve, s.env = s.serve[:1], []string{serverEnv + "=" + s.dir}
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// While it mounts, go-fuse has a file of the mount open in the server itself. If it is killed just then, the kernel
	// waits for ever for the dead to close that file.
	for end := time.Now().Add(startWait); !strings.Contains(s.log.String(), nullServes); {
		if time.Now().After(end) {
			t.Fatal("the server does not say that it serves")
		}
		time.Sleep(time.Millisecond)
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			_ = s.cmd.Process.Kill()
			<-s.done
		}
		if err := measure.Detach(s.dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRemoveAll_TakesTheMountOfADeadServerAway(t *testing.T) {
	needMounts(t)
	s := served(t)
	if !measure.Mounted(s.dir) {
		t.Fatal("it is not mounted")
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.done
	if !measure.Mounted(s.dir) {
		t.Fatal("the mount of a dead server is not seen")
	}
	base := filepath.Dir(filepath.Dir(s.dir))
	if err := removeAll(base); err != nil {
		t.Fatal(err)
	}
	if measure.Mounted(s.dir) {
		t.Error("it is still mounted")
	}
	if _, err := os.Stat(base); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestStart_SaysWhatAServerSaidThatEnds(t *testing.T) {
	s := &system{name: "broken", dir: t.TempDir(), serve: []string{"sh", "-c", "echo no such thing; exit 3"}}
	err := s.start(t.Context())
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("no such thing")) {
		t.Errorf("start: %v", err)
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop of what did not start: %v", err)
	}
}

func TestStep_AnInterruptionEndsTheProgramAndGivesNoFigure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st := step{Row: measure.Row{Name: "endless", Unit: measure.Seconds}, do: func(ctx context.Context, s *system, _ *load) (float64, error) {
		cancel()
		took, err := timed(ctx, s.dir, "sleep", "600")
		return took.Seconds(), err
	}}
	r := &runner{book: newBook(systemNames(false), []measure.Row{st.Row}), progress: io.Discard}
	if err := r.step(ctx, st, &system{name: plainName, dir: t.TempDir()}, true); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted step: %v", err)
	}
	if len(r.book.Figures("endless", plainName)) > 0 {
		t.Errorf("an interrupted step has figures: %v", r.book)
	}
}

func TestPack_TakesTheFirstFilesWithTheirDirectories(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	for _, name := range []string{"a/1", "a/b/2", "c/3", "d/4"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(dst, "tar")
	n, err := pack(src, to, 2)
	if err != nil || n != 2 {
		t.Fatalf("pack: %d files, %v", n, err)
	}
	out, err := exec.Command("tar", "-tf", to).Output()
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff("a/\na/1\na/b/\na/b/2\n", string(out)); d != "" {
		t.Error(d)
	}
}

func TestSteps_EveryRowHasItsOwnName(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rowsOf(steps()) {
		if seen[r.Name] {
			t.Errorf("two rows are called %q", r.Name)
		}
		seen[r.Name] = true
	}
	if len(seen) < 20 {
		t.Errorf("only %d rows", len(seen))
	}
}
