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

// P3: on a LAN, and across routers, as the command does it: see the scripts.
func TestReach_InNamespaces(t *testing.T) {
	if os.Getenv("SHEAF_LONG") == "" {
		t.Skip("SHEAF_LONG is not set")
	}
	if os.Geteuid() != 0 || !checkMountable() {
		t.Skip("only root makes namespaces, and /dev/fuse is needed")
	}
	for name, pkg := range map[string]string{"ip": "iproute2", "nft": "nftables", "sysctl": "procps"} {
		if _, err := exec.LookPath(name); err != nil {
			testkit.Lacks(t, name+" is missing: apt install "+pkg)
		}
	}
	for name, x := range map[string]struct{ script, nat string }{
		"on a LAN":                        {"reach_netns.sh", ""},
		"behind routers that let through": {"reach_nat.sh", ""},
		"behind routers that do not":      {"reach_nat.sh", "fully-random"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "bash", filepath.Join("testdata", x.script))
			cmd.Env = append(os.Environ(), "DIR="+dir, fmt.Sprintf("NAME=reach%d%d", os.Getpid(), len(name)), "NAT="+x.nat)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			t.Cleanup(func() { clearMounts(t, dir) })
			t.Logf("%s", out.Bytes())
			if err != nil || !bytes.Contains(out.Bytes(), []byte("well")) {
				t.Errorf("%s: %v", x.script, err)
			}
		})
	}
}
