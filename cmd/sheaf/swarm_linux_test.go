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

// P2: who has a pack gives it on, and it leaves the device that wrote it once: see the script.
func TestPeers_ASwarmOfThree(t *testing.T) {
	mb := "100"
	if os.Getenv("SHEAF_LONG") != "" {
		mb = "600"
	} else if testing.Short() {
		t.Skip("it takes some seconds, on a machine with nothing else to do")
	}
	if os.Geteuid() != 0 || !checkMountable() {
		t.Skip("only root makes namespaces, and /dev/fuse is needed")
	}
	for _, name := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(name); err != nil {
			testkit.Lacks(t, name+" is missing: apt install iproute2")
		}
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "bash", filepath.Join("testdata", "swarm_netns.sh"))
	cmd.Env = append(os.Environ(), "DIR="+dir, fmt.Sprintf("NAME=swarm%d", os.Getpid()), "MB="+mb)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	t.Cleanup(func() { clearMounts(t, dir) })
	t.Logf("%s", out.Bytes())
	if err != nil || !bytes.Contains(out.Bytes(), []byte("well")) {
		t.Errorf("a swarm of three: %v", err)
	}
}
