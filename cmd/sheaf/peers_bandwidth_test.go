//go:build linux

package main

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// What devices in one network exchange is as fast as is set for them, whoever of them sets it, and a change holds at once, while they are connected.
func TestPeers_BandwidthIsHeldTo(t *testing.T) {
	first, _ := startAPI(t)
	second := newMachine(t)
	var invited struct{ Link string }
	if err := json.Unmarshal([]byte(first.sheaf("invite", "--no-wait", "--listen", "127.0.0.1:0", "--json")), &invited); err != nil {
		t.Fatal(err)
	}
	second.sheaf(t, "join", "--yes", "--device-name", "second", invited.Link)
	soon(t, time.Minute, "they are connected", func() bool {
		code, _, _ := (&machine{home: first.home}).run(t, "wait", "--copies", "2", "--timeout", "1s")
		return code == 0
	})
	const size = 512 << 10
	seed := testkit.Seed(t)
	n := int64(0)
	// took is how long it takes until a file that the first one has written is on both.
	took := func() time.Duration {
		t.Helper()
		n++
		name := filepath.Join(t.TempDir(), "file")
		writeRandom(t, name, seed+n, size, 0, 1)
		began := time.Now()
		first.sheaf("cp", name, "sheaf:/")
		first.sheaf("wait", "--copies", "2", "--timeout", "1m")
		return time.Since(began)
	}
	free := took()
	second.sheaf(t, "config", "set", "bandwidth", "32KiB") // which is for other networks
	far := took()
	second.sheaf(t, "config", "set", "bandwidth-lan", "off:256KiB")
	down := took()
	second.sheaf(t, "config", "unset", "bandwidth-lan")
	first.sheaf("config", "set", "bandwidth-lan", "256KiB:off")
	up := took()
	first.sheaf("config", "set", "bandwidth-lan", "off")
	again := took()
	t.Logf("half a MiB took %v; with 32 KiB a second for other networks %v; with 256 KiB taken %v, sent %v; then %v", free, far, down, up, again)
	const least = 1500 * time.Millisecond // half a MiB at 256 KiB a second, without what may come at once
	if down < least || up < least {
		t.Errorf("with a limit it took %v and %v", down, up)
	}
	if least := least + free; far > least || again > least {
		t.Errorf("without one it took %v and %v", far, again)
	}
}
