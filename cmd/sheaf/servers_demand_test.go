//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// M2: of a big file that is at a server only, a fresh device reads 1 MB near its end, and less than 12 MB leave the server for it. And ls -lR of a
// tree brings what the tree is made of, and no byte of a file. In full: 10 GB, read at 9 GB, and 100,000 files, on S3.
func TestServers_ContentComesOnDemand(t *testing.T) {
	const piece, most = 1_000_000, 12_000_000
	places := map[string]func(testing.TB, ...remotetest.Setting) (*remotetest.Server, remotetest.Place){"webdav": remotetest.WebDAV, "s3": remotetest.S3}
	for name, start := range places {
		t.Run(name, func(t *testing.T) {
			size, at, files := int64(100_000_000), int64(90_000_000), 1_000
			if inFull() && name == "s3" {
				size, at, files = 10_000_000_000, 9_000_000_000, 100_000
			}
			srv, direct := start(t)
			proxy, place := remotetest.Front(t, srv, direct)
			seed := testkit.Seed(t)
			began := time.Now()
			lap := func(what string) {
				t.Logf("%s after %v", what, time.Since(began).Round(10*time.Millisecond))
			}

			first := newMachine(t)
			words := begin(t, first, direct)
			src := filepath.Join(filepath.Dir(first.home), "src")
			data := int64(files) * 8192
			r := testkit.Rand(seed)
			for i := range files {
				dir := filepath.Join(src, "tree", fmt.Sprint(i/1000), fmt.Sprint(i/100%10))
				if i%100 == 0 {
					if err := os.MkdirAll(dir, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file number %d", i)), testkit.Random(r, 8192), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want := writeRandom(t, filepath.Join(src, "big"), seed, size, at, piece)
			lap("the source was written")
			first.sheaf(t, "cp", src+"/.", "sheaf:/")
			if err := os.RemoveAll(src); err != nil {
				t.Fatal(err)
			}
			lap("it was in the drive")
			first.sheaf(t, "replica", "add", "place:"+direct.Path)
			first.sheaf(t, "wait", "--copies", "2", "--timeout", "1h")
			lap("it was at the server")

			var c remotetest.Traffic
			c.Watch(proxy)
			second := newMachine(t)
			join(t, second, place, words)
			dir := second.mount(t)
			opened := c.Left()
			c.Take()
			f, err := os.Open(filepath.Join(dir, "big"))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, piece)
			_, err = f.ReadAt(got, at)
			_ = f.Close()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Error("other bytes were read than were written")
			}
			read := c.Left() - opened
			if read < piece || read >= most {
				t.Errorf("%d bytes left the server for %d of %d, want less than %d, and the bytes themselves; what was asked: %v", read, piece, size, most, c.Take())
			}
			t.Logf("a fresh device: %d bytes until the drive of %d bytes was mounted, %d to read %d at %d", opened, size+data, read, piece, at)

			c.Take()
			requests, before := c.Requests.Load(), c.Left()
			listed := time.Now()
			out, err := exec.CommandContext(t.Context(), "ls", "-lR", filepath.Join(dir, "tree")).Output()
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(out), "file number "); n != files {
				t.Errorf("ls -lR shows %d files, want %d", n, files)
			}
			took, came := time.Since(listed), c.Left()-before
			var w struct {
				Files, Bytes int64
				Stored       int64 `json:"stored_bytes"`
				Here         int64 `json:"here_bytes"`
			}
			if err := json.Unmarshal([]byte(second.sheaf(t, "status", "--json", "/tree")), &w); err != nil {
				t.Fatal(err)
			}
			if w.Files != int64(files) || w.Bytes != data || w.Stored < data {
				t.Errorf("the tree is said to have %d files of %d bytes, stored in %d; want %d of %d", w.Files, w.Bytes, w.Stored, files, data)
			}
			// What a node costs is some hundred bytes; pieces of packs that come are of a megabyte.
			if limit := int64(files)*256 + 4<<20; came > limit {
				t.Errorf("%d bytes left the server for ls -lR of %d files with %d, want at most %d; what was asked: %v", came, files, data, limit, c.Take())
			}
			t.Logf("ls -lR of %d files with %d bytes: %d bytes left the server in %d requests; %v", files, data, came, c.Requests.Load()-requests, took)
			// A file that is read is here then, or this would count nothing.
			one, err := os.Open(filepath.Join(dir, "tree", "0", "0", "file number 7"))
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, one); err != nil || n != 8192 {
				t.Errorf("read %d bytes: %v", n, err)
			}
			_ = one.Close()
			if err := json.Unmarshal([]byte(second.sheaf(t, "status", "--json", "/tree")), &w); err != nil || w.Here < 8192 {
				t.Errorf("%d bytes are here after a file of 8192 was read (%v)", w.Here, err)
			}
			second.sheaf(t, "umount", dir)
		})
	}
}
