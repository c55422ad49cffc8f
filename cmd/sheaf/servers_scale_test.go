//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// manyFiles is how many files the drives of TestServers_ADriveOfManyFiles have: SHEAF_REMOTE_FILES, or some hundred.
func manyFiles(t *testing.T) int {
	t.Helper()
	s := os.Getenv("SHEAF_REMOTE_FILES")
	if s == "" {
		return 300
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("SHEAF_REMOTE_FILES is %q: it is to be a number of files", s)
	}
	return n
}

// smallFiles writes n files of at most 4 KiB, fifty to a folder, into folders of some depth. It returns how many bytes they have.
func smallFiles(t *testing.T, r *rand.Rand, root string, n int) (total int64) {
	t.Helper()
	names := []string{"note", "Photo 2026", "ünïcode", "日本", "-dash", "quo'te\"", "trailing "}
	modes := []os.FileMode{0o600, 0o644, 0o755, 0o400}
	dirs := []string{root}
	dir := root
	for i := range n {
		if i%50 == 0 {
			dir = filepath.Join(dirs[r.IntN(len(dirs))], fmt.Sprintf("%s %d", names[r.IntN(len(names))], i))
			if err := os.MkdirAll(dir, 0o750); err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, dir)
		}
		body := testkit.Random(r, r.IntN(4<<10))
		if i%40 == 0 {
			body = nil
		}
		total += int64(len(body))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d", names[r.IntN(len(names))], i)), body, modes[r.IntN(len(modes))]); err != nil {
			t.Fatal(err)
		}
	}
	return total
}

// treeOf returns what is in a tree: by path, the mode, and of a file the hash of its bytes.
func treeOf(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil || rel == "." { // the root of a copy is no part of it
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		all[rel] = fi.Mode().String()
		if fi.Mode().IsRegular() {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			all[rel] += fmt.Sprintf(" %d %x", len(b), sha256.Sum256(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// localPlace is a folder of this machine as a remote.
func localPlace(t testing.TB, _ ...remotetest.Setting) (*remotetest.Server, remotetest.Place) {
	t.Helper()
	dir := t.TempDir()
	return nil, remotetest.Place{Kind: remote.Local, Options: map[string]string{"root": dir}, Path: "drive", Dir: dir}
}

// A drive of many small files is pushed to each server, and another machine has all of it from there, with the words alone. It says how long
// that took. SHEAF_REMOTE_FILES says how many files.
func TestServers_ADriveOfManyFiles(t *testing.T) {
	n := manyFiles(t)
	places := maps.Clone(drivePlaces)
	places[remote.Local] = localPlace
	for name, start := range places {
		t.Run(name, func(t *testing.T) {
			_, place := start(t)
			tmp := t.TempDir()
			src := filepath.Join(tmp, "src")
			size := smallFiles(t, testkit.Rand(testkit.Seed(t)), src, n)
			want := treeOf(t, src)
			began, last := time.Now(), time.Now()
			lap := func() time.Duration {
				d := time.Since(last)
				last = time.Now()
				return d.Round(10 * time.Millisecond)
			}
			at := "place:" + place.Path

			first := newMachine(t)
			var made struct{ Recovery string }
			if err := json.Unmarshal([]byte(first.sheaf(t, "init", "--json")), &made); err != nil {
				t.Fatal(err)
			}
			words := filepath.Join(tmp, "words")
			if err := os.WriteFile(words, []byte(made.Recovery), 0o600); err != nil {
				t.Fatal(err)
			}
			first.sheaf(t, "cp", src+"/.", "sheaf:/tree")
			in := lap()
			first.sheaf(t, addArgs(t, tmp, "place", place)...)
			first.sheaf(t, "replica", "add", at)
			first.sheaf(t, "wait", "--copies", "2", "--timeout", "30m")
			pushed := lap()

			second := newMachine(t, envOf("place", place)...)
			args := []string{"remote", "add", "place", place.Kind, "--path", parent(place)}
			for k, v := range place.Options {
				args = append(args, k+"="+v)
			}
			second.sheaf(t, args...)
			second.sheaf(t, "init", "--from", at, "--recovery-file", words)
			opened := lap()
			back := filepath.Join(tmp, "back")
			second.sheaf(t, "cp", "sheaf:/tree/.", back)
			out := lap()
			took := time.Since(began).Round(10 * time.Millisecond)
			if got := treeOf(t, back); !maps.Equal(got, want) {
				t.Errorf("the trees differ (-want +got):\n%.2000s", cmp.Diff(want, got))
			}
			t.Logf("%s: %d files of %d bytes in all: into the drive %v, pushed %v, opened elsewhere %v, copied out %v, together %v",
				name, n, size, in, pushed, opened, out, took)
		})
	}
}
