package posix

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/mount/mounttest"
	"github.com/sheaf-drive/sheaf/mount/mounttest/exerciser"
)

// nobody is the plain user whom root becomes.
const nobody = 65534

// A plain user mounts by fusermount3, and the folder is as good to him as root's is to root.
func TestPlainUser(t *testing.T) {
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		lacks(t, err.Error())
	} else if i, err := f.Stat(); err != nil || i.Mode().Perm() != 0o666 {
		_ = f.Close()
		lacks(t, "plain users may not open /dev/fuse: run scripts/deps")
	} else {
		_ = f.Close()
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		lacks(t, "fusermount3 is not installed: run scripts/deps")
	}
	top := reachable(t)
	var as who
	if os.Geteuid() == 0 {
		as = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	for _, sub := range []string{".", "home", "mnt", "tmp"} {
		dir := filepath.Join(top, sub)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if as != nil {
			if err := os.Chown(dir, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	program := filepath.Join(top, "posix.test")
	if err := copyFile(program, self(t)); err != nil {
		t.Fatal(err)
	}
	home, dir := filepath.Join(top, "home"), filepath.Join(top, "mnt")
	p := startAt(t, program, as, home, dir, "")
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			p.stop(t)
		}
	})
	var fs unix.Stat_t
	if err := unix.Stat(dir, &fs); as != nil && err == nil {
		t.Errorf("root may look into the mount of a plain user who let nobody in: %+v", fs)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run", "^TestPlainUser_Within$", "-test.v")
	cmd.Dir = top
	cmd.Env = append(os.Environ(), plainEnv+"="+dir, "TMPDIR="+filepath.Join(top, "tmp"), "HOME="+filepath.Join(top, "tmp"))
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("within: %v\n%s", err, failures(string(out)))
	}
	t.Logf("as a plain user: %d tests and subtests pass, %d are skipped",
		strings.Count(string(out), "--- PASS"), strings.Count(string(out), "--- SKIP"))
	p.stop(t)
	stopped = true
	verify(t, home)
}

// failures returns what go test said, without the tests that pass.
func failures(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		s := strings.TrimSpace(line)
		if !strings.HasPrefix(s, "--- PASS") && !strings.HasPrefix(s, "=== ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func copyFile(to, from string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return cmp.Or(err, w.Close())
}

// TestPlainUser_Within is what TestPlainUser runs as somebody else.
func TestPlainUser_Within(t *testing.T) {
	dir := os.Getenv(plainEnv)
	if dir == "" {
		t.Skip("TestPlainUser runs this")
	}
	if os.Geteuid() == 0 {
		t.Fatal("this is root")
	}
	t.Run("mounttest", func(t *testing.T) { mounttest.Run(t, dir) })
	t.Run("posixtest", func(t *testing.T) { posixtests(t, dir) })
	t.Run("exerciser", func(t *testing.T) {
		seed := uint64(number(t, "SHEAF_SEED", rand.IntN(1<<30)+1))
		t.Logf("SHEAF_SEED=%d", seed)
		ops := 2000
		if long() {
			ops = 100_000
		}
		err := exerciser.Run(t.Context(), exerciser.Config{Path: filepath.Join(dir, "exercised"), Ops: ops, Seed: seed})
		if err != nil {
			t.Fatal(fmt.Errorf("seed %d: %w", seed, err))
		}
	})
	t.Run("fsx", func(t *testing.T) {
		fsx := from(t, "FSX", "the program fsx of xfstests")
		n := strconv.Itoa(number(t, "SHEAF_FSX_OPS", 1_000_000) / 10)
		cmd := exec.CommandContext(t.Context(), fsx, "-q", "-N", n, "-S", "0", "-P", t.TempDir(), filepath.Join(dir, "fsx"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
