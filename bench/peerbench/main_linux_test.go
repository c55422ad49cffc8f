package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sheaf-drive/sheaf/bench/measure"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// The short form: two devices and rsync with a thousandth of the data, so that what measures is known to work. What it says of time means nothing.
func TestBench_MeasuresTwoDevicesAndARival(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute: go test ./bench/peerbench")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root makes network namespaces")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testkit.Lacks(t, err)
	}
	testkit.Program(t, "ip", "")
	testkit.Program(t, "rsync", "")
	testkit.Program(t, "sshd", "")
	bin := filepath.Join(t.TempDir(), "sheaf")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../../cmd/sheaf").CombinedOutput(); err != nil {
		t.Fatalf("build sheaf: %v\n%s", err, out)
	}
	c := config{programs: map[string]string{}, Flags: measure.Flags{Rounds: 1, Scale: 128, Dir: t.TempDir(), Sheaf: bin}, rows: everything}
	if err := c.find("", []string{sheafName, rsyncName}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	l, err := newLoad(c.Dir, c.Scale)
	if err != nil {
		t.Fatal(err)
	}
	all := steps(l)
	r := newRunner(c, l, all, &out)
	err = r.round(t.Context(), filepath.Join(c.Dir, "round"), all, 0) // it compares what came
	t.Logf("%s", out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range all {
		for _, name := range []string{sheafName, rsyncName} {
			if f := r.book.Figures(st.name, name); len(f) != 1 || f[0] <= 0 {
				t.Errorf("%s, %s: %v, want one time", st.name, name, f)
			}
		}
	}
	size := float64(l.bigSize) / (1 << 20)
	if f := r.book.Figures(all[0].name+onTheWire, rsyncName); len(f) != 1 || f[0] < size || f[0] > 1.2*size {
		t.Errorf("rsync sent %v MiB of a file of %v", f, size)
	}
	if f := r.book.Figures(all[0].name+onTheWire, sheafName); len(f) != 1 || f[0] < size {
		t.Errorf("sheaf sent %v MiB of a file of %v that cannot be compressed", f, size)
	}
}
