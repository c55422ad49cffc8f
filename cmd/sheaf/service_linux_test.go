package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A7: a real systemd starts the drive, has it back with its mounts after a kill, and ends it.
func TestService_InARealSystemd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace needs root")
	}
	if !checkMountable() {
		testkit.Lacks(t, "nothing can be mounted here: run scripts/deps")
	}
	for _, name := range []string{"systemctl", "systemd-analyze", "unshare"} {
		if _, err := exec.LookPath(name); err != nil {
			testkit.Lacks(t, err)
		}
	}
	sheaf, err := exec.LookPath("sheaf") // that of this test
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "bash", filepath.Join("testdata", "service.sh"))
	cmd.Env = append(os.Environ(), "WORK="+work, "SHEAF="+sheaf)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(out), "\n== "); n < 6 {
		t.Errorf("%d of the things that should hold were said", n)
	}
}
