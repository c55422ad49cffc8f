package localdir

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// awaits reads hints until one is of a path at or above which path lies, and is not "" unless path is.
func awaits(t *testing.T, hints <-chan string, path string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case h := <-hints:
			if h == path || h != "" && strings.HasPrefix(path, h+"/") {
				return
			}
		case <-late:
			t.Fatalf("no hint of %q", path)
		}
	}
}

func watch(ctx context.Context, seq iter.Seq2[string, error]) <-chan string {
	hints := make(chan string, 1000)
	go func() {
		for path, err := range seq {
			if err != nil {
				return
			}
			select {
			case hints <- path:
			case <-ctx.Done():
				return
			}
		}
	}()
	return hints
}

func TestTree_WatchTellsWhatChanges(t *testing.T) {
	dir := t.TempDir()
	ok(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	tree := openTree(t, dir, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hints := watch(ctx, tree.Watch(ctx))
	awaits(t, hints, "") // all is watched from here on
	write(t, filepath.Join(dir, "a", "b", "file"), "x")
	awaits(t, hints, "a/b/file")
	ok(t, os.MkdirAll(filepath.Join(dir, "new", "deep"), 0o755))
	awaits(t, hints, "new")
	// The new directories are watched soon, and what came before that is below one that was told.
	late := time.Now().Add(20 * time.Second)
	for i := 0; ; i++ {
		write(t, filepath.Join(dir, "new", "deep", fmt.Sprint("f", i)), "x")
		time.Sleep(10 * time.Millisecond)
		select {
		case h := <-hints:
			if strings.HasPrefix(h, "new/deep/") {
				ok(t, os.Remove(filepath.Join(dir, "a", "b", "file")))
				awaits(t, hints, "a/b/file")
				return
			}
		default:
		}
		if time.Now().After(late) {
			t.Fatal("what is in a new directory is not told")
		}
	}
}

// A directory that came while the system could not say more is watched all the same.
func TestTree_WatchGoesOnAfterTheSystemLostSome(t *testing.T) {
	p, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	ok(t, err)
	most, err := strconv.Atoi(strings.TrimSpace(string(p)))
	ok(t, err)
	if most > 1<<16 {
		t.Skipf("the system keeps %d events: too many to make here", most)
	}
	dir := t.TempDir()
	tree := openTree(t, dir, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hints := make(chan string)
	go func() {
		defer close(hints)
		for path, err := range tree.Watch(ctx) {
			if err != nil {
				return
			}
			select {
			case hints <- path:
			case <-ctx.Done():
			}
		}
	}()
	awaits(t, hints, "")         // from here on nobody reads what is told
	for i := range most + 1000 { // two in turn, for the same event is told once
		ok(t, os.Chmod(dir, 0o700+os.FileMode(i%2)))
		write(t, filepath.Join(dir, "file"), "x")
	}
	ok(t, os.Mkdir(filepath.Join(dir, "late"), 0o755))
	late := time.After(20 * time.Second)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for i := 0; ; {
		select {
		case h, ok := <-hints:
			if !ok {
				t.Fatal("the watch has ended")
			}
			if strings.HasPrefix(h, "late/") {
				return
			}
		case <-again.C:
			write(t, filepath.Join(dir, "late", fmt.Sprint("f", i)), "x")
			i++
		case <-late:
			t.Fatal("what is in a directory that came meanwhile is not told")
		}
	}
}

func TestTree_WatchEndsWithItsContext(t *testing.T) {
	before := testkit.Goroutines(t)
	tree := openTree(t, t.TempDir(), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range tree.Watch(ctx) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", last)
	}
	before.Check(t)
}

// P12: where the system watches no more folders, all is scanned from time to time.
func TestTree_WatchGoesOnWhereTheSystemWatchesNoMore(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 {
		ok(t, os.Mkdir(filepath.Join(dir, strconv.Itoa(i)), 0o755))
	}
	// In a user namespace of its own the limit is this test's alone.
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=watch:"+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSPC) {
		testkit.Lacks(t, fmt.Errorf("make a user namespace: %w", err))
	}
	if err != nil || strings.TrimSpace(string(out)) != "rescan rescan rescan" {
		t.Errorf("got %q, error %v", out, err)
	}
}

// watchFew watches a folder of many folders where few can be watched.
func watchFew(dir string) {
	fail := func(err error) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("10"), 0); err != nil {
		fail(err)
	}
	tree, err := OpenTree(dir, Options{Rescan: 20 * time.Millisecond})
	if err != nil {
		fail(err)
	}
	n := 0
	for path, err := range tree.Watch(context.Background()) {
		if err != nil {
			fail(err)
		}
		if path == "" {
			n++
			fmt.Print("rescan ")
		}
		if n == 3 {
			return
		}
	}
}
