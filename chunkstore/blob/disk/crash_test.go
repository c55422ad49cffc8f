//go:build linux

package disk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

const childEnv = "SHEAF_DISK_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		putForEver(dir)
		return
	}
	os.Exit(m.Run())
}

// version is the body of a blob in the crash test: its number, over and over.
func version(v uint64) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, v), 10_000)
}

// putForEver replaces and removes blobs until it is killed, and says on its output what has
// returned.
func putForEver(dir string) {
	b, err := Open(dir, Options{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for v := uint64(1); ; v++ {
		name := blob.Name(fmt.Sprintf("p%d/x", v%4))
		body := version(v)
		if err := b.Put(context.Background(), name, bytes.NewReader(body), int64(len(body))); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("put", name, v)
		if v%7 == 0 {
			fmt.Println("removing", name, v)
			if err := b.Remove(context.Background(), name); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
			fmt.Println("removed", name, v)
		}
	}
}

// After a kill at any moment, each blob is whole, none is older than what was acknowledged,
// and the next Open leaves no temporary file behind.
func TestBucket_SurvivesKill(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	r := testkit.Rand(testkit.Seed(t))
	dir := t.TempDir()
	acknowledged := 0
	for range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var kill *time.Timer            // from the first step on, so that each round shows something
		state := map[blob.Name]uint64{} // the version that was acknowledged last
		gone := map[blob.Name]bool{}    // it may have been removed
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var verb, name string
			var v uint64
			if n, _ := fmt.Sscan(lines.Text(), &verb, &name, &v); n != 3 {
				if strings.HasPrefix(lines.Text(), "error") {
					t.Fatalf("child: %s", lines.Text())
				}
				continue // a line that the kill cut off
			}
			acknowledged++
			if kill == nil {
				kill = time.AfterFunc(time.Duration(r.IntN(80))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			state[blob.Name(name)] = v
			gone[blob.Name(name)] = verb != "put"
		}
		_ = cmd.Wait() // it was killed
		if kill == nil {
			t.Fatal("the child did nothing")
		}
		kill.Stop()

		b, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range state {
			p, err := blob.ReadAll(t.Context(), b, name, 1<<20)
			if errors.Is(err, fs.ErrNotExist) && gone[name] {
				continue
			}
			if err != nil || len(p) != 80_000 {
				t.Fatalf("%s: got %d bytes and error %v, want version %d", name, len(p), err, v)
			}
			got := binary.BigEndian.Uint64(p)
			if got < v || !bytes.Equal(p, version(got)) {
				t.Fatalf("%s: got version %d or a mixture, want at least %d", name, got, v)
			}
		}
		left, err := os.ReadDir(filepath.Join(dir, tmpDir))
		if err != nil || len(left) > 0 {
			t.Fatalf("temporary files left after Open: %v, error %v", left, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acknowledged < rounds {
		t.Errorf("only %d steps were acknowledged in %d rounds: the test shows nothing", acknowledged, rounds)
	}
	t.Logf("%d rounds, %d acknowledged steps", rounds, acknowledged)
}

// A full disk is ErrNoSpace, leaves nothing behind, and what was there stays.
func TestPut_OnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		testkit.Lacks(t, fmt.Errorf("mount a small file system: %w", err))
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	b, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	put(t, b, "x", strings.Repeat("x", 500_000))
	for _, name := range []blob.Name{"y", "x", "new/folder/z"} {
		err := b.Put(t.Context(), name, bytes.NewReader(make([]byte, 900_000)), 900_000)
		if !errors.Is(err, blob.ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("put %s: got error %v, want ErrNoSpace and ENOSPC", name, err)
		}
	}
	if p, err := blob.ReadAll(t.Context(), b, "x", 1<<20); err != nil || len(p) != 500_000 {
		t.Errorf("x: got %d bytes and error %v", len(p), err)
	}
	left, err := os.ReadDir(filepath.Join(dir, tmpDir))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files left: %v, error %v", left, err)
	}
	put(t, b, "small", "there is room for this")
}

// A pipe that somebody put there is no blob, and nobody waits for its other end.
func TestGet_OfAPipeDoesNotWait(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "pipe", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v, want fs.ErrNotExist", err)
	}
	if got := names(t, b); len(got) > 0 {
		t.Errorf("list yields %v", got)
	}
}
