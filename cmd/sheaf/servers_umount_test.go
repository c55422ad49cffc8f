//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// M5: a mount is taken away with 500 MB (in full) that are at no replica, for the server is down. It is said how much that is, whether in the
// journal or in packs; a stop and a kill lose nothing; umount --wait ends when the server has all, and not before.
func TestServers_UmountSaysWhatIsQueuedAndKeepsIt(t *testing.T) {
	size := int64(24_000_000)
	if inFull() {
		size = 500_000_000
	}
	srv, place := remotetest.WebDAV(t)
	seed := testkit.Seed(t)
	m := newMachine(t, "SHEAF_POLL=1s")
	words := begin(t, m, place)
	m.sheaf(t, "mkdir", "sheaf:/before")
	m.sheaf(t, "replica", "add", "place:"+place.Path)
	m.sheaf(t, "wait", "--copies", "2", "--timeout", "2m")
	dir := m.mount(t)
	srv.Kill()

	// What is queued is said while it is mounted, when it is not any more, and when the daemon ends; and it is never less than all of it.
	inDrive := func() map[string]string { return treeOf(t, dir) }
	for i := range 10 {
		writeRandom(t, filepath.Join(dir, fmt.Sprint("queued ", i)), seed+int64(i), size/10, 0, 1)
	}
	want := inDrive()
	if len(want) != 11 {
		t.Fatalf("%d nodes are in the mount", len(want))
	}
	const packed = 1.1 // sealed in packs, it is a little more
	says := func(when string, pending int64, replicas []struct {
		LagBytes int64 `json:"lag_bytes"`
	},
	) {
		t.Helper()
		if len(replicas) != 1 {
			t.Fatalf("%s: %d replicas", when, len(replicas))
		}
		left := pending + replicas[0].LagBytes
		if left < size || float64(left) > packed*float64(size)+float64(32<<20) {
			t.Errorf("%s: %d bytes are said to be queued, %d in the journal and %d not at the replica; want %d and little more", when, left, pending, replicas[0].LagBytes, size)
		}
		t.Logf("%s: %d bytes in the journal, %d in packs and not at the replica", when, pending, replicas[0].LagBytes)
	}
	var resp struct {
		Pending  int64 `json:"pending_bytes"`
		Replicas []struct {
			LagBytes int64 `json:"lag_bytes"`
		}
	}
	began := time.Now()
	if err := json.Unmarshal([]byte(m.sheaf(t, "umount", dir, "--json")), &resp); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("umount took %v with the server down", d)
	}
	says("umount", resp.Pending, resp.Replicas)
	m.mount(t)
	if out := m.sheaf(t, "umount", dir); !strings.Contains(out, "MiB are ") || !strings.Contains(out, "safe on this device") || !strings.Contains(out, "sheaf wait --copies 2") {
		t.Errorf("umount does not say for people what is queued: %s", out)
	}
	if out := m.sheaf(t, "stop"); !strings.Contains(out, "MiB are not at place yet") || !strings.Contains(out, "goes there when sheaf runs again") {
		t.Errorf("stop does not say for people what is queued: %s", out)
	}

	// Again mounted, with the server still down, and killed: all is there.
	m.mount(t)
	if diff := cmp.Diff(want, inDrive()); diff != "" {
		t.Errorf("after a stop the drive has something else (-want +got):\n%.2000s", diff)
	}
	writeRandom(t, filepath.Join(dir, "queued late"), seed+100, 1_000_000, 0, 1)
	if out, err := exec.CommandContext(t.Context(), "sync", filepath.Join(dir, "queued late")).CombinedOutput(); err != nil {
		t.Fatalf("sync: %v: %s", err, out)
	}
	want = inDrive()
	m.kill(t)
	m.mount(t)
	if diff := cmp.Diff(want, inDrive()); diff != "" {
		t.Errorf("after a kill the drive has something else (-want +got):\n%.2000s", diff)
	}

	// With --wait it ends when the server has all.
	told := filepath.Join(filepath.Dir(m.home), "told")
	out, err := os.Create(told)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	wait := exec.CommandContext(t.Context(), "sheaf", "umount", dir, "--wait")
	wait.Env = append(os.Environ(), "SHEAF_HOME="+m.home)
	wait.Stdout, wait.Stderr = out, out
	if err := wait.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- wait.Wait() }()
	text := func() string {
		b, err := os.ReadFile(told)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	soon(t, time.Minute, "umount --wait says what it waits for", func() bool { return strings.Contains(text(), "not at place yet") })
	select {
	case err := <-ended:
		t.Fatalf("umount --wait ended with the server down: %v\n%s", err, text())
	case <-time.After(3 * time.Second): // which is how long it is watched that it does not end
	}
	if _, err := os.Stat(filepath.Join(dir, "queued 0")); !os.IsNotExist(err) {
		t.Errorf("it is still mounted while umount waits for the server: %v", err)
	}
	have := packsBelow(t, driveDir(place))
	srv.Start()
	began = time.Now()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("umount --wait: %v\n%s", err, text())
		}
	case <-time.After(10 * time.Minute):
		t.Fatalf("umount --wait does not end\n%s", text())
	}
	brought := int64(0)
	for name, n := range packsBelow(t, driveDir(place)) {
		if _, ok := have[name]; !ok {
			brought += n
		}
	}
	if brought < size {
		t.Errorf("%d bytes came to the server until umount --wait ended, of %d", brought, size)
	}
	if st := m.status(t); !st.atRest() || st.Copies != 2 {
		t.Errorf("after umount --wait it stands as %+v", st)
	}
	if s := text(); !strings.Contains(s, "unmounted "+dir) || strings.Contains(s, "safe on this device") {
		t.Errorf("umount --wait says at its end: %s", s)
	}
	t.Logf("umount --wait: %d bytes of packs came to the server, %v after it was back", brought, time.Since(began).Round(100*time.Millisecond))

	// Nothing was done after it ended, and a second device has all from there.
	m.kill(t)
	second := newMachine(t)
	join(t, second, place, words)
	back := filepath.Join(filepath.Dir(second.home), "back")
	second.sheaf(t, "cp", "sheaf:/.", back)
	if got := treeOf(t, back); !maps.Equal(got, want) {
		t.Errorf("another device has another tree (-mounted +copied):\n%.2000s", cmp.Diff(want, got))
	}
}
