//go:build linux

package main

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// What goes to a remote and comes from it goes as fast as is set, no faster and little slower, each way by itself; and a change holds at once.
func TestServers_BandwidthIsHeldTo(t *testing.T) {
	_, place := remotetest.WebDAV(t)
	m := newMachine(t)
	begin(t, m, place)
	big := filepath.Join(filepath.Dir(m.home), "big")
	const size = 2 << 20
	writeRandom(t, big, testkit.Seed(t), size, 0, 1)
	at := "place:" + place.Path + "/big"
	took := func(args ...string) time.Duration {
		t.Helper()
		began := time.Now()
		m.sheaf(t, args...)
		return time.Since(began)
	}
	const slow, most = 2 * time.Second, 30 * time.Second // 2 MiB at a MiB a second
	free := took("cp", big, at)
	m.sheaf(t, "config", "set", "bandwidth", "1MiB:off")
	up := took("cp", big, at+" 1")
	down := took("cp", at+" 1", big+" 1")
	m.sheaf(t, "config", "set", "bandwidth", "off:1MiB")
	up2 := took("cp", big, at+" 2")
	down2 := took("cp", at+" 2", big+" 2")
	t.Logf("without a limit %v; up at a MiB a second %v, down then %v; down at that %v, up then %v", free, up, down, down2, up2)
	for what, d := range map[string]time.Duration{"up": up, "down": down2} {
		if d < slow || d > most {
			t.Errorf("2 MiB %s at a MiB a second took %v", what, d)
		}
	}
	if down > slow {
		t.Errorf("2 MiB down without a limit took %v", down)
	}
	if up2 > most { // this server gives no hash, so what is put is read back
		t.Errorf("2 MiB up and back at a MiB a second took %v", up2)
	}
	m.sheaf(t, "config", "set", "bandwidth", "64KiB")
	dir := m.mount(t)
	m.sheaf(t, "replica", "add", "place:"+parent(place)+"/drive")
	writeRandom(t, filepath.Join(dir, "big"), testkit.Seed(t)+1, size, 0, 1)
	queued := func() (n int64) {
		t.Helper()
		var s struct {
			Replicas []struct {
				LagBytes int64 `json:"lag_bytes"`
			}
		}
		if err := json.Unmarshal([]byte(m.sheaf(t, "status", "--json")), &s); err != nil {
			t.Fatal(err)
		}
		for _, r := range s.Replicas {
			n += r.LagBytes
		}
		return n
	}
	soon(t, 20*time.Second, "what was written is on its way", func() bool { return queued() > size/2 })
	began := time.Now()
	m.fails(t, 5, "wait", "--copies", "2", "--timeout", "3s")
	m.sheaf(t, "config", "set", "bandwidth", "off") // else it would take half a minute
	m.sheaf(t, "wait", "--copies", "2", "--timeout", "30s")
	t.Logf("at 64 KiB a second and then at once: %v", time.Since(began))
	if d := time.Since(began); d > 25*time.Second {
		t.Errorf("after the limit was taken away it took %v", d)
	}
}
