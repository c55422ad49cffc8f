package posix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// long reports whether the suites are to be run in full.
func long() bool { return os.Getenv("SHEAF_LONG") != "" || os.Getenv("SHEAF_POSIX") != "" }

// number returns a number from the environment.
func number(t *testing.T, name string, other int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return other
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// fsxWays are the ways in which fsx is run: its options, and its share of the operations. -c, which closes and opens
// the file, is not among them: it drops the caches of the whole machine each time.
var fsxWays = []struct {
	name  string
	share float64
	args  []string
}{
	{"mapped and buffered", 1, nil},
	{"asynchronous", 0.1, []string{"-A"}},
	{"direct", 0.1, []string{"-Z", "-R", "-W", "-r", "4096", "-w", "4096", "-t", "4096"}},
	{"flushed and dropped", 0.1, []string{"-f"}},
}

var fsxDisabled = regexp.MustCompile(`(?m)^main: filesystem does not support (.*), disabling!$`)

// fsx: random operations on one file, memory maps and holes among them, against a copy in memory. M1 wants a
// million without a difference: SHEAF_FSX_OPS is another number. What it finds not to be supported must be excepted.
func TestFsx(t *testing.T) {
	fsx := from(t, "FSX", "the program fsx of xfstests")
	ops := number(t, "SHEAF_FSX_OPS", 1_000_000)
	seed := number(t, "SHEAF_SEED", rand.IntN(1<<30)+1)
	t.Logf("SHEAF_SEED=%d", seed)
	dir := mounted(t, "")
	var all []result
	without := map[string]bool{}
	for i, way := range fsxWays {
		n := int(float64(ops) * way.share)
		args := append([]string{"-N", strconv.Itoa(n), "-S", strconv.Itoa(seed), "-P", t.TempDir()}, way.args...)
		begun := time.Now()
		out, err := exec.CommandContext(t.Context(), fsx, append(args, filepath.Join(dir, "fsx"+strconv.Itoa(i)))...).CombinedOutput()
		r := result{name: strings.ReplaceAll(way.name, " ", "-")}
		if err != nil || !strings.Contains(string(out), "All "+strconv.Itoa(n)+" operations completed") {
			r.verdict, r.said = failed, fmt.Sprintf("%v\n%s", err, out[max(0, len(out)-8000):])
		}
		all = append(all, r)
		for _, m := range fsxDisabled.FindAllStringSubmatch(string(out), -1) {
			without[strings.ReplaceAll(m[1], " ", "-")] = true
		}
		t.Logf("fsx %s: %d operations in %v", way.name, n, time.Since(begun).Round(time.Second))
	}
	for what := range without {
		all = append(all, result{what, failed, "fsx could not use it"})
	}
	judge(t, "fsx", "fsx.txt", all)
}

// go-fuse's own suite, as root and as a plain user, with the write-back cache and without.
func TestPosixtest(t *testing.T) {
	posixtests(t, mounted(t, ""))
	t.Run("write-through", func(t *testing.T) { posixtests(t, mounted(t, "write-through")) })
}

func posixtests(t *testing.T, dir string) {
	t.Helper()
	excepted := exceptions(t, "posixtest.txt")
	ran := 0
	for name, test := range posixtest.All {
		if excepted[name] != "" {
			continue // it ends the process, or never: it cannot be held against its exception
		}
		ran++
		t.Run(name, func(t *testing.T) {
			sub := filepath.Join(dir, "posixtest-"+name)
			if err := os.Mkdir(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			test(t, sub)
			if err := os.RemoveAll(sub); err != nil {
				t.Error(err)
			}
		})
	}
	t.Logf("posixtest: %d of %d run", ran, len(posixtest.All))
}

// The codes with which a test of LTP ends (its include/tst_res_flags.h): bits that add up.
const ltpDoesNotApply = 32

// LTP's group "fs". Needs root.
func TestLTP(t *testing.T) {
	suite := from(t, "LTP", "the folder of an installed LTP", "runtest/fs", "testcases/bin")
	list, err := os.ReadFile(filepath.Join(suite, "runtest", "fs"))
	if err != nil {
		t.Fatal(err)
	}
	dir := mounted(t, "")
	bin := filepath.Join(suite, "testcases", "bin")
	left := exceptions(t, "ltp-left-out.txt")
	var all []result
	for line := range strings.Lines(string(list)) {
		name, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		if i := strings.IndexByte(line, '\t'); i > 0 && i < len(name) {
			name, command = line[:i], strings.TrimSpace(line[i:])
		}
		if name == "" || name[0] == '#' || left[name] != "" {
			continue
		}
		if re := only(t); re != nil && !re.MatchString(name) {
			continue
		}
		work := filepath.Join(dir, name)
		if err := os.Mkdir(work, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(work, 0o777); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		r := runLTP(t.Context(), work, suite, bin, name, command)
		t.Logf("ltp %s: %v in %v", name, [...]string{"pass", "FAIL", "does not apply"}[r.verdict], time.Since(begun).Round(time.Second))
		all = append(all, r)
	}
	judge(t, "ltp fs", "ltp.txt", all)
}

func runLTP(ctx context.Context, work, suite, bin, name, command string) result {
	ctx, stop := context.WithTimeout(ctx, 30*time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "TMPDIR="+work, "TMP="+work, "LTPROOT="+suite, "TST_DISABLE_ERRLOG=1",
		"PATH="+bin+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	r := result{name: name}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.ExitCode() == ltpDoesNotApply:
		r.verdict, r.said = inapplicable, string(out[max(0, len(out)-400):])
	default:
		r.verdict, r.said = failed, fmt.Sprintf("%v\n%s", err, out[max(0, len(out)-4000):])
	}
	return r
}

// stressors are those of stress-ng that lean on a file system and check what they find.
var stressors = []string{
	"access", "chattr", "chdir", "chmod", "chown", "copy-file", "dentry", "dir", "dirdeep", "dirmany", "dup", "fallocate",
	"fcntl", "file-ioctl", "filename", "flock", "fpunch", "fstat", "getdent", "hdd", "io", "lease", "link", "locka", "lockf",
	"lockofd", "metamix", "mknod", "mmap", "open", "readahead", "rename", "revio", "seek", "symlink", "sync-file", "touch",
	"unlink", "utime", "verity", "xattr",
}

// stress-ng, each stressor with two workers. CI's short form takes those that the proof names, for a second each.
func TestStressNG(t *testing.T) {
	needFuse(t)
	if _, err := exec.LookPath("stress-ng"); err != nil {
		lacks(t, "stress-ng is not installed: run scripts/deps")
	}
	dir := mounted(t, "")
	names, each := []string{"dentry", "flock", "hdd", "rename"}, "1s"
	for name := range exceptions(t, "stress-ng.txt") {
		names = append(names, name) // an exception must be true in the short form, too
	}
	if long() {
		names, each = stressors, cmp.Or(os.Getenv("SHEAF_STRESS"), "20s")
	}
	help, err := exec.CommandContext(t.Context(), "stress-ng", "--stressors").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Fields(string(help))
	var all []result
	for _, name := range names {
		if re := only(t); re != nil && !re.MatchString(name) {
			continue
		}
		if !slices.Contains(known, name) {
			all = append(all, result{name, failed, "this stress-ng does not know it"})
			t.Logf("stress-ng %s: not known", name)
			continue
		}
		args := []string{"--" + name, "2", "-t", each, "--verify", "--temp-path", dir}
		if name == "hdd" {
			args = append(args, "--hdd-bytes", "64m")
		}
		var out []byte
		var err error
		for range 3 {
			out, err = exec.CommandContext(t.Context(), "stress-ng", args...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != stressUncounted {
				break
			}
		}
		r := readStress(name, string(out), err)
		t.Logf("stress-ng %s: %v", name, [...]string{"pass", "FAIL", "does not apply"}[r.verdict])
		all = append(all, r)
	}
	judge(t, "stress-ng", "stress-ng.txt", all)
}

// stressSkips is how stress-ng says that a stressor cannot be run here; newer ones count in the end, from 0 on.
var stressSkips = regexp.MustCompile(`skipping stress|will be skipped|skipped: [1-9]`)

// stressUncounted is how stress-ng ends, by its manual, when a worker was stopped in the midst of counting: it doubts its own figures then. Such a run is done again, and is no pass.
const stressUncounted = 7

// readStress reads what stress-ng said of a stressor and how it ended.
func readStress(name, out string, ended error) result {
	r := result{name: name}
	switch {
	case ended != nil:
		r.verdict, r.said = failed, fmt.Sprintf("%v\n%s", ended, out[max(0, len(out)-3000):])
	case stressSkips.MatchString(out):
		r.verdict, r.said = inapplicable, out
	}
	return r
}

func TestReadStress(t *testing.T) {
	for _, c := range []struct {
		out   string
		ended error
		want  verdict
	}{
		{"stress-ng: info:  [7] successful run completed in 1.01s\n", nil, passed},
		{"stress-ng: info:  [7] skipped: 0\nstress-ng: info:  [7] passed: 2: dir (2)\n", nil, passed},
		{"stress-ng: info:  [7] skipped: 2: verity (2)\nstress-ng: info:  [7] passed: 0\n", nil, inapplicable},
		{"stress-ng: info:  [8] verity: not supported by the kernel, skipping stress test\n", nil, inapplicable},
		{"stress-ng: fail:  [8] dir: not what was written\n", errors.New("exit status 2"), failed},
		{"stress-ng: info:  [7] successful run completed in 1.04s\n", errors.New("exit status 7"), failed},
	} {
		if r := readStress("x", c.out, c.ended); r.verdict != c.want {
			t.Errorf("%q: got %v, want %v", c.out, r.verdict, c.want)
		}
	}
}
