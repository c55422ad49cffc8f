//go:build linux

package main

import (
	"errors"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// K5: a service that has no key of the drive copies it from one server to another (in full from S3, else by SFTP; to WebDAV). It is killed in the
// midst, and goes on where it was; a pack that is damaged at its source does not get through; and a second device opens the copy.
func TestServers_AServiceWithoutKeysCopiesAndGoesOn(t *testing.T) {
	places := map[string]func(testing.TB, ...remotetest.Setting) (*remotetest.Server, remotetest.Place){"sftp": remotetest.SFTP, "s3": remotetest.S3}
	for name, start := range places {
		t.Run(name, func(t *testing.T) {
			fromServer, from := start(t)
			toServer, direct := remotetest.WebDAV(t)
			proxy, to := remotetest.Front(t, toServer, direct)
			r := testkit.Rand(testkit.Seed(t))
			inName, inBody := testkit.NewCanary(r), testkit.NewCanary(r)
			size := 120_000_000
			if inFull() {
				size = 1_000_000_000
			}
			first := newMachine(t)
			words := begin(t, first, from)
			src := filepath.Join(filepath.Dir(first.home), "src")
			if err := errors.Join(os.Mkdir(src, 0o755), os.WriteFile(filepath.Join(src, inName.Text()), []byte(inBody.Text()), 0o644)); err != nil {
				t.Fatal(err)
			}
			writeRandom(t, filepath.Join(src, "big"), r.Int64(), int64(size), 0, 1)
			want := treeOf(t, src)
			first.sheaf(t, "cp", src+"/.", "sheaf:/")
			first.sheaf(t, "replica", "add", "place:"+from.Path)
			first.sheaf(t, "wait", "--copies", "2", "--timeout", "20m")
			all := packsBelow(t, driveDir(from))

			// The service knows the two places, and nothing of the drive.
			service := newMachine(t)
			tmp := filepath.Dir(service.home)
			service.sheaf(t, addArgs(t, tmp, "from", from)...)
			service.sheaf(t, addArgs(t, tmp, "to", to)...)
			args := []string{"replica", "copy", "from:" + from.Path, "to:" + to.Path}
			var puts atomic.Int64
			some := make(chan struct{}, 1)
			proxy.Before(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == "MOVE" && strings.Contains(r.Header.Get("Destination"), "/packs/") && puts.Add(1) == 2 {
					some <- struct{}{}
				}
				return false
			})
			cmd := exec.CommandContext(t.Context(), "sheaf", args...)
			cmd.Env = append(os.Environ(), "SHEAF_HOME="+service.home)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-some: // some packs are under way, or there
			case <-time.After(2 * time.Minute):
				t.Fatal("the copy puts no packs")
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("the copy ended before it was killed")
			}
			// What a kill left is no drive yet, or a whole one, and never a head without what it names.
			early := newMachine(t)
			early.sheaf(t, addArgs(t, filepath.Dir(early.home), "place", direct)...)
			if code, out, errs := early.run(t, "init", "--from", "place:"+direct.Path, "--recovery-file", words); code == 0 {
				if out := early.sheaf(t, "ls", "-R", "/"); strings.Contains(out, "big") {
					t.Errorf("after a kill a device sees files: %s", out)
				}
			} else if strings.Contains(out+errs, "panic") {
				t.Errorf("init from half a copy: %s%s", out, errs)
			}
			before := packsBelow(t, driveDir(direct))
			if len(before) == 0 || len(before) >= len(all) {
				t.Errorf("%d of %d packs were there when it was killed: that proves little", len(before), len(all))
			}

			// One pack is damaged where it comes from: the rest is brought, the damage named, and no head.
			var hurt string
			for name, n := range all {
				if _, there := before[name]; !there && n > 1<<20 {
					hurt = filepath.Join(driveDir(from), "packs", name)
				}
			}
			good, err := os.ReadFile(hurt)
			if err != nil {
				t.Fatal(err)
			}
			spoil(t, hurt, 0)
			var c remotetest.Traffic
			c.Watch(proxy)
			if code, out, errs := service.run(t, args...); code != 13 || !strings.Contains(out+errs, filepath.Base(hurt)[:16]) {
				t.Errorf("a damaged pack at the source: exit %d, want 13 and its name\n%s%s", code, out, errs)
			}
			if _, err := os.Stat(filepath.Join(driveDir(direct), "heads")); err == nil {
				if heads, _ := os.ReadDir(filepath.Join(driveDir(direct), "heads")); len(heads) > 0 {
					t.Errorf("there is a head, and a pack that it needs is not")
				}
			}
			if err := os.WriteFile(hurt, good, 0o600); err != nil {
				t.Fatal(err)
			}

			asked := c.Take()
			service.sheaf(t, args...)
			ending := c.Take()
			if len(ending) == 0 {
				t.Error("the run that ended it asked nothing")
			}
			again := 0
			for _, r := range append(asked, ending...) {
				for name, n := range before {
					if n == all[name] && strings.HasPrefix(r.What, "MOVE ") && strings.Contains(r.What, filepath.Base(name)) {
						again++
					}
				}
			}
			if again > 0 {
				t.Errorf("%d of the packs that were there when it was killed were sent again", again)
			}
			if out := service.sheaf(t, args...); !strings.Contains(out, "copied 0 packs and 0 other blobs") {
				t.Errorf("a copy of what is there says: %s", out)
			}
			if got := packsBelow(t, driveDir(direct)); !maps.Equal(all, got) {
				t.Errorf("the copy has %d packs, want %d", len(got), len(all))
			}
			for _, dir := range []string{"data/device", "store"} {
				if _, err := os.Stat(filepath.Join(service.home, dir)); err == nil {
					t.Errorf("the service has a drive: %s", dir)
				}
			}
			wantNoCanary(t, driveDir(direct), inName, inBody)
			wantNoCanary(t, service.home, inName, inBody)

			fromServer.Kill()
			other := newMachine(t)
			join(t, other, direct, words)
			back := filepath.Join(filepath.Dir(other.home), "back")
			other.sheaf(t, "cp", "sheaf:/.", back)
			if diff := cmp.Diff(want, treeOf(t, back)); diff != "" {
				t.Errorf("from the copy comes another tree (-want +got):\n%.2000s", diff)
			}
			other.sheaf(t, "replica", "verify", "place")
			t.Logf("%d packs with %d bytes; %d were there when it was killed; none of these was sent again", len(all), size, len(before))
		})
	}
}
