package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/sheaf-drive/sheaf/bench/measure"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// The short form: a rule and rclone sync with a hundredth of the files, so that what measures is known to work. What it says of time means nothing.
func TestBench_MeasuresARuleAndARival(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds sheaf with all its clouds: go test ./bench/rulebench")
	}
	if os.Geteuid() != 0 {
		t.Skip("sshd lets in who started it, and the benchmark says that this is root")
	}
	c := config{Flags: measure.Flags{Rounds: 1, Scale: 100, Dir: t.TempDir()}, programs: map[string]string{}, systems: []string{sheafName, rcloneName}, rows: regexp.MustCompile(`small, (local|SFTP|WebDAV twice)$`)}
	for _, name := range []string{"rclone", "ssh", "ssh-keygen", "sshd"} {
		c.programs[name] = testkit.Program(t, name, "rulebench")
	}
	c.programs["sheaf"] = filepath.Join(t.TempDir(), "sheaf")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags=pebblegozstd", "-o", c.programs["sheaf"], "../../cmd/sheaf") // a server needs its clouds
	build.Env = append(os.Environ(), "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build sheaf: %v\n%s", err, out)
	}
	l := loads(c.Dir, c.Scale)[0]
	if err := l.make(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r := newRunner(c, []*load{l}, &out)
	err := r.round(t.Context(), filepath.Join(c.Dir, "round"), 0) // it compares what came
	t.Logf("%s", out.Bytes())
	if err != nil || len(r.wrong) > 0 {
		t.Fatal(err, r.wrong)
	}
	size := float64(l.bytes) / (1 << 20)
	r.each(func(l *load, at route) {
		for i, st := range steps() {
			for _, name := range c.systems {
				row := rowName(l, at, st)
				if f := r.book.Figures(row, name); len(f) != 1 || f[0] <= 0 {
					t.Errorf("%s, %s: %v, want one time", row, name, f)
				}
				if f := r.book.Figures(row+wireRow, name); i == 0 && at.kinds[1] != folder && (len(f) != 1 || f[0] < size) {
					t.Errorf("%s, %s: %v MiB went to a server of files of %v", row, name, f, size)
				}
			}
		}
	})
}
