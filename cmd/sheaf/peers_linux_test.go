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
func TestPeers_InTwoNamespaces(t *testing.T) { inNamespaces(t, "peers_netns.sh") }

// P4, by four machines: see the script.
func TestTrust_InFourNamespaces(t *testing.T) { inNamespaces(t, "trust_netns.sh") }

// inNamespaces runs a script that makes namespaces, and says "well" at its end.
func inNamespaces(t *testing.T, script string) {
	t.Helper()
	if os.Getenv("SHEAF_LONG") == "" {
		t.Skip("SHEAF_LONG is not set")
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
	cmd := exec.CommandContext(t.Context(), "bash", filepath.Join("testdata", script))
	cmd.Env = append(os.Environ(), "DIR="+dir, fmt.Sprintf("NAME=sheaf%d", os.Getpid()))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	t.Cleanup(func() { clearMounts(t, dir) })
	t.Logf("%s", out.Bytes())
	if err != nil || !bytes.Contains(out.Bytes(), []byte("well")) {
		t.Errorf("%s: %v", script, err)
	}
}
