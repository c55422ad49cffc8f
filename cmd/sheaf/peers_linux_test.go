package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// O1, and peers over a link with delay and loss, without UDP, and cut off: see the script.
func TestPeers_InTwoNamespaces(t *testing.T) {
	onlyLong(t)
	inNamespaces(t, "peers_netns.sh")
}

// P4, by four machines: see the script.
func TestTrust_InFourNamespaces(t *testing.T) {
	onlyLong(t)
	inNamespaces(t, "trust_netns.sh")
}

// P2: who has a pack gives it on, and it leaves the device that wrote it once: see the script.
func TestPeers_ASwarmOfThree(t *testing.T) {
	mb := "100"
	if os.Getenv("SHEAF_LONG") != "" {
		mb = "600"
	} else if testing.Short() {
		t.Skip("it takes some seconds, on a machine with nothing else to do")
	}
	inNamespaces(t, "swarm_netns.sh", "MB="+mb)
}

// P7: what goes over the wire for a change, a move and a copy: see the script.
func TestPeers_SendWhatIsNew(t *testing.T) {
	mb := "64"
	if os.Getenv("SHEAF_LONG") != "" {
		mb = "2500"
	}
	inNamespaces(t, "delta_netns.sh", "MB="+mb)
}

// P3: on a LAN, and across routers, as the command does it: see the scripts.
func TestReach_InNamespaces(t *testing.T) {
	onlyLong(t)
	for name, x := range map[string]struct{ script, nat string }{
		"on a LAN":                        {"reach_netns.sh", ""},
		"behind routers that let through": {"reach_nat.sh", ""},
		"behind routers that do not":      {"reach_nat.sh", "fully-random"},
	} {
		t.Run(name, func(t *testing.T) { inNamespaces(t, x.script, "NAT="+x.nat) })
	}
}

func onlyLong(t *testing.T) {
	t.Helper()
	if os.Getenv("SHEAF_LONG") == "" {
		t.Skip("SHEAF_LONG is not set")
	}
}

// inNamespaces runs a script that makes namespaces, and says "well" at its end.
func inNamespaces(t *testing.T, script string, env ...string) {
	t.Helper()
	if os.Geteuid() != 0 || !checkMountable() {
		t.Skip("only root makes namespaces, and /dev/fuse is needed")
	}
	for name, pkg := range map[string]string{"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "sysctl": "procps"} {
		if _, err := exec.LookPath(name); err != nil {
			testkit.Lacks(t, name+" is missing: apt install "+pkg)
		}
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "bash", filepath.Join("testdata", script))
	cmd.Env = append(append(os.Environ(), "DIR="+dir, fmt.Sprintf("NAME=sheaf%d", os.Getpid())), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	t.Cleanup(func() { clearMounts(t, dir) })
	t.Logf("%s", out.Bytes())
	if err != nil || !bytes.Contains(out.Bytes(), []byte("well")) {
		t.Errorf("%s: %v", script, err)
	}
}
