//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// What the proofs of one drive in many places share. Each has a short form for CI, on servers that Debian has, and with SHEAF_LONG set the
// figures that are promised, on S3 as well: make proofs.

// inFull says that the promised figures are to be proven: gigabytes, and minutes.
func inFull() bool { return os.Getenv("SHEAF_LONG") != "" }

// begin makes a drive on a machine that knows the place as "place", and returns the file of its recovery words.
func begin(t *testing.T, m *machine, place remotetest.Place) (words string) {
	t.Helper()
	var made struct{ Recovery string }
	if err := json.Unmarshal([]byte(m.sheaf(t, "init", "--json")), &made); err != nil {
		t.Fatal(err)
	}
	words = filepath.Join(filepath.Dir(m.home), "words")
	if err := os.WriteFile(words, []byte(made.Recovery), 0o600); err != nil {
		t.Fatal(err)
	}
	m.sheaf(t, addArgs(t, filepath.Dir(m.home), "place", place)...)
	return words
}

// join opens the drive of a place on a machine that knew nothing.
func join(t *testing.T, m *machine, place remotetest.Place, words string) {
	t.Helper()
	m.sheaf(t, addArgs(t, filepath.Dir(m.home), "place", place)...)
	m.sheaf(t, "init", "--from", "place:"+place.Path, "--recovery-file", words)
}

// mount mounts the drive, beside the home, where it is taken away before the folder is.
func (m *machine) mount(t *testing.T) (dir string) {
	t.Helper()
	if !checkMountable() {
		testkit.Lacks(t, "nothing can be mounted here: run scripts/deps mount")
	}
	dir = filepath.Join(filepath.Dir(m.home), "mnt")
	m.sheaf(t, "mount", dir)
	return dir
}

// kill ends the daemon of a machine as a crash would, and takes what it had mounted away.
func (m *machine) kill(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.home, "data", "process.lock"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if err := json.Unmarshal(b, &pid); err != nil {
		t.Fatalf("the process that has the lock is %q: %v", b, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if st, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")); err == nil && strings.Contains(string(st), ") Z ") {
			break // it is dead, and nobody has asked for it
		}
		if time.Now().After(end) {
			t.Fatalf("process %d does not die", pid)
		}
	}
	dir := filepath.Join(filepath.Dir(m.home), "mnt")
	if _, err := os.Stat(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Fatalf("umount: %v: %s", err, out)
		}
	}
}

// standing is how a machine says that its drive stands.
type standing struct {
	State    string
	Pending  int64 `json:"pending_bytes"`
	Copies   int
	Jobs     int
	Replicas []struct {
		Name, Error string
		Known, Busy bool
		LagBlobs    int64 `json:"lag_blobs"`
		LagBytes    int64 `json:"lag_bytes"`
		Turn        int64
		TurnBytes   int64 `json:"turn_bytes"`
		TurnTotal   int64 `json:"turn_total"`
	}
}

func (m *machine) status(t *testing.T) (s standing) {
	t.Helper()
	text := m.sheaf(t, "status", "--json")
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return s
}

// atRest says that nothing is on its way any more.
func (s standing) atRest() bool {
	for _, r := range s.Replicas {
		if !r.Known || r.LagBlobs > 0 {
			return false
		}
	}
	return s.Pending == 0
}

// soon waits until something is so, and fails if it is not within that time.
func soon(t *testing.T, within time.Duration, what string, so func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !so() {
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(100 * time.Millisecond) // between two looks
	}
	return time.Since(began)
}

// writeRandom writes a file of n bytes that no compression makes shorter, and returns its piece of length bytes at off.
func writeRandom(t *testing.T, path string, seed, n, off, length int64) (piece []byte) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	r := testkit.RandomReader(seed, n)
	piece = make([]byte, length)
	_, err = io.CopyN(f, r, off)
	if err == nil {
		_, err = io.ReadFull(r, piece)
	}
	if err == nil {
		_, err = f.Write(piece)
	}
	if err == nil {
		_, err = io.Copy(f, r)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return piece
}

// packsBelow lists the files of packs in a folder that a server keeps, by their paths in it.
func packsBelow(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	root := filepath.Join(dir, "packs")
	err := filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		rel, _ := filepath.Rel(root, name)
		all[rel] = fi.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// driveDir is where a server of this machine keeps the drive.
func driveDir(p remotetest.Place) string {
	if filepath.IsAbs(p.Path) {
		return p.Path
	}
	return filepath.Join(p.Dir, p.Path)
}
