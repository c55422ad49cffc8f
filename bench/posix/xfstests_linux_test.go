package posix

import (
	"bufio"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mount(8) runs this program to mount something of the type fuse.sheaf. xfstests mounts and unmounts by it all
// the time; this test binary is put there as long as they run.
const (
	mountHelper = "mount.fuse.sheaf"
	helperPath  = "/sbin/" + mountHelper
	// homesEnv names the folder in which each device of xfstests has the home of its drive.
	homesEnv = "SHEAF_POSIX_HOMES"
)

// helpMount is what mount(8) runs: device, folder, options. It returns once the folder answers, and leaves a
// process that serves it.
func helpMount(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: " + mountHelper + " DEVICE FOLDER [-o OPTIONS]")
	}
	device, dir, options := args[0], args[1], ""
	for i, a := range args[:len(args)-1] {
		if a == "-o" {
			options = args[i+1]
		}
	}
	if has(options, "remount") {
		flags := uintptr(unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV)
		if has(options, "ro") {
			flags |= unix.MS_RDONLY
		}
		return unix.Mount("", dir, "", flags, "")
	}
	homes := os.Getenv(homesEnv)
	if homes == "" || filepath.Base(device) != device {
		return fmt.Errorf("device %q in %q: not one of a test", device, homes)
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	said, err := os.OpenFile(filepath.Join(homes, device+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer said.Close()
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), serveEnv+"="+strings.Join([]string{filepath.Join(homes, device), dir, device, options}, "\n"))
	cmd.Stderr = said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(pipe).ReadString('\n'); line != "mounted\n" {
		return fmt.Errorf("it says %q, %w", line, err)
	}
	return nil
}

// xfstests, the generic group, as far as it applies to FUSE. SHEAF_XFSTESTS_GROUP is another group than
// generic/quick, such as generic/auto, which takes hours. Needs root, and the users that scripts/deps posix makes.
func TestXfstests(t *testing.T) {
	suite := from(t, "XFSTESTS", "the folder of built xfstests", "check", "ltp/fsx", "src/aio-dio-regress")
	needFuse(t)
	group := cmp.Or(os.Getenv("SHEAF_XFSTESTS_GROUP"), "generic/quick")
	names := strings.Fields(os.Getenv("SHEAF_POSIX_ONLY")) // here a list, as generic/001
	if len(names) == 0 {
		left := exceptions(t, "xfstests-left-out.txt")
		names = slices.DeleteFunc(xfsGroup(t, suite, group), func(name string) bool { return left[name] != "" })
	}
	if err := os.Symlink(self(t), helperPath); err != nil {
		t.Fatalf("%v: another test run is under way, or one has died and left it", err)
	}
	x := &xfstests{suite: suite, base: reachable(t), limit: 20 * time.Minute}
	if s := os.Getenv("SHEAF_XFSTESTS_LIMIT"); s != "" {
		var err error
		if x.limit, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := os.Remove(helperPath); err != nil {
			t.Error(err)
		}
		for _, device := range xfsDevices {
			for unix.Unmount(filepath.Join(x.base, device), 0) == nil {
				t.Logf("%s was left mounted", device)
			}
			home := filepath.Join(x.base, "homes", device)
			verify(t, home)
			if b, err := os.ReadFile(home + ".log"); err == nil && strings.Contains(string(b), "panic") {
				t.Errorf("the process behind %s says:\n%s", device, b)
			}
		}
	})
	for _, sub := range []string{"sheaf-test", "sheaf-scratch", "homes/sheaf-test", "homes/sheaf-scratch", "results", "bin"} {
		if err := os.MkdirAll(filepath.Join(x.base, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeDF(x.base); err != nil {
		t.Fatal(err)
	}
	var all []result
	begun := time.Now()
	for piece := range slices.Chunk(names, 8) {
		all = append(all, x.run(t, piece)...)
	}
	t.Logf("xfstests: %d tests in %v", len(all), time.Since(begun).Round(time.Second))
	judge(t, "xfstests "+group, "xfstests.txt", all)
}

var xfsDevices = []string{"sheaf-test", "sheaf-scratch"}

// writeDF puts a df before the system's. xfstests knows each type of FUSE by its name only, and takes ours for a
// stranger's. And it asks for all that is mounted, to look for its own two: a mount of somebody else that does not
// answer would hang it.
func writeDF(base string) error {
	df := "#!/bin/bash\nset -o pipefail\nPATH=${PATH#*:}\ncase \"${!#}\" in -*) set -- \"$@\""
	for _, device := range xfsDevices {
		df += " " + filepath.Join(base, device)
	}
	df += " ;; esac\ndf \"$@\" | sed 's/ fuse\\.sheaf / fuse       /'\n"
	return os.WriteFile(filepath.Join(base, "bin", "df"), []byte(df), 0o755)
}

// A mount of somebody else that does not answer does not hang df. One whose process has stopped is such a mount.
func TestXfstests_OthersMountsAreNotAsked(t *testing.T) {
	needFuse(t)
	home, dir, base := t.TempDir(), filepath.Join(reachable(t), "mnt"), t.TempDir()
	for _, d := range []string{dir, filepath.Join(base, "bin"), filepath.Join(base, "sheaf-test"), filepath.Join(base, "sheaf-scratch")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeDF(base); err != nil {
		t.Fatal(err)
	}
	p := start(t, home, dir, "")
	defer p.stop(t)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, filepath.Join(base, "bin", "df"), "-T", "-P")
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(base, "bin")+":"+os.Getenv("PATH"))
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if c := p.cmd.Process.Signal(syscall.SIGCONT); c != nil {
		t.Fatal(c)
	}
	if err != nil || strings.Count(string(out), "\n") != 3 {
		t.Errorf("df: %v\n%s", err, out)
	}
}

// xfsGroup returns the names of the tests of a group, such as generic/quick.
func xfsGroup(t *testing.T, suite, group string) []string {
	t.Helper()
	dir, group, _ := strings.Cut(group, "/")
	b, err := os.ReadFile(filepath.Join(suite, "tests", dir, "group.list"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 0 && f[0] != "#" && slices.Contains(f[1:], group) {
			names = append(names, dir+"/"+f[0])
		}
	}
	return names
}

// xfstests runs check.
type xfstests struct {
	suite string
	base  string        // the mounts, the homes of the drives, what check says
	limit time.Duration // of one run of check
}

// run runs check on a few tests at a time. If it does not end within the limit, it is killed, and each of them is
// run by itself; so a test that hangs costs the limit twice, and the others nothing.
func (x *xfstests) run(t *testing.T, names []string) []result {
	t.Helper()
	all, err := x.check(t, names)
	if err == nil {
		return all
	}
	t.Logf("%s to %s: %v", names[0], names[len(names)-1], err)
	if len(names) == 1 {
		return []result{{names[0], failed, err.Error()}}
	}
	all = nil
	for _, name := range names {
		all = append(all, x.run(t, []string{name})...)
	}
	return all
}

// check runs check once. It returns an error if that did not come to its end by itself.
func (x *xfstests) check(t *testing.T, names []string) ([]result, error) {
	t.Helper()
	results := filepath.Join(x.base, "results")
	report := filepath.Join(results, "result.xml")
	if err := os.Remove(report); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	go func() {
		// In steps, so that time in which this process was stopped, as the tests were then, counts for nothing.
		step := min(x.limit, time.Second)
		tick := time.NewTicker(step)
		defer tick.Stop()
		for left := x.limit; left > 0; left -= step {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		stop(context.DeadlineExceeded)
	}()
	cmd := exec.CommandContext(ctx, "./check", append([]string{"-fuse", "-R", "xunit-quiet"}, names...)...)
	cmd.Dir = x.suite
	cmd.Env = append(os.Environ(), "FSTYP=fuse", "FUSE_SUBTYP=.sheaf", homesEnv+"="+filepath.Join(x.base, "homes"),
		"TEST_DEV=sheaf-test", "TEST_DIR="+filepath.Join(x.base, "sheaf-test"),
		"SCRATCH_DEV=sheaf-scratch", "SCRATCH_MNT="+filepath.Join(x.base, "sheaf-scratch"),
		"PATH="+filepath.Join(x.base, "bin")+":"+os.Getenv("PATH"),
		"RESULT_BASE="+results, "HOST_OPTIONS="+os.DevNull)
	log, err := os.Create(filepath.Join(x.base, "check.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		x.abort(t)
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	ended := cmd.Run() // not nil if any test failed: the report says which
	said, _ := os.ReadFile(log.Name())
	t.Logf("%v\n%s", ended, said)
	if ctx.Err() != nil || cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		x.abort(t) // what was mounted since
		return nil, fmt.Errorf("it did not come to its end (%v are allowed): %w", x.limit, cmp.Or(context.Cause(ctx), ended))
	}
	b, err := os.ReadFile(report)
	if err != nil {
		return nil, fmt.Errorf("%w; check says\n%s", err, said)
	}
	all, err := readReport(b)
	if err != nil {
		return nil, err
	}
	for i, r := range all {
		b, err := os.ReadFile(filepath.Join(results, r.name+".out.bad"))
		if r.verdict != failed || err != nil {
			continue
		}
		all[i].said += "\n" + string(b[:min(len(b), 2000)])
		if b, err := os.ReadFile(filepath.Join(results, r.name+".full")); err == nil {
			all[i].said += "\nfull:\n" + string(b[max(0, len(b)-2000):])
		}
		if want, err := os.ReadFile(filepath.Join(x.suite, "tests", r.name+".out")); err == nil && onlyLimits(string(b), string(want)) {
			all[i].verdict = inapplicable
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(r result) bool { return r.name == name }) {
			return nil, fmt.Errorf("check does not say what became of %s", name)
		}
	}
	return all, nil
}

// onlyLimits reports whether a test said what it is to say, but for limits that it could not take back: this root has
// no CAP_SYS_RESOURCE, as in many containers.
func onlyLimits(said, want string) bool {
	var rest strings.Builder
	for line := range strings.Lines(said) {
		if !strings.HasSuffix(line, "cannot modify limit: Operation not permitted\n") {
			rest.WriteString(line)
		}
	}
	return rest.Len() < len(said) && rest.String() == want
}

func TestOnlyLimits(t *testing.T) {
	const limit = "/x/tests/generic/394: line 16: ulimit: file size: cannot modify limit: Operation not permitted\n"
	for _, c := range []struct {
		said string
		want bool
	}{
		{"QA output\nlimit exceeded\n" + limit, true},
		{"QA output\nlimit exceeded\n", false},
		{"QA output\n" + limit, false},                            // something is not there
		{"QA output\nlimit exceeded\nI/O error\n" + limit, false}, // something else is
	} {
		if got := onlyLimits(c.said, "QA output\nlimit exceeded\n"); got != c.want {
			t.Errorf("%q: got %v, want %v", c.said, got, c.want)
		}
	}
}

// abort ends what waits for a mount of xfstests, and unmounts it. The kernel refuses everything that is asked of it
// from now on, and tells the process that serves it, which closes the drive.
func (x *xfstests) abort(t *testing.T) {
	t.Helper()
	for _, device := range xfsDevices {
		dir := filepath.Join(x.base, device)
		for unix.Unmount(dir, unix.MNT_FORCE) == nil || unix.Unmount(dir, unix.MNT_DETACH) == nil {
			t.Logf("%s is unmounted by force", device)
		}
	}
}

// readReport reads the report of check in the form of JUnit.
func readReport(b []byte) ([]result, error) {
	type said struct {
		Message string `xml:"message,attr"`
	}
	var report struct {
		Cases []struct {
			Name    string `xml:"name,attr"`
			Failure *said  `xml:"failure"`
			Skipped *said  `xml:"skipped"`
		} `xml:"testcase"`
	}
	if err := xml.Unmarshal(b, &report); err != nil {
		return nil, err
	}
	var all []result
	for _, c := range report.Cases {
		r := result{name: c.Name}
		switch {
		case c.Failure != nil:
			r.verdict, r.said = failed, c.Failure.Message
		case c.Skipped != nil:
			r.verdict, r.said = inapplicable, c.Skipped.Message
		}
		all = append(all, r)
	}
	return all, nil
}

func TestReadReport(t *testing.T) {
	all, err := readReport([]byte(`<?xml version="1.0"?><testsuite name="x" tests="3">
		<testcase classname="xfstests.global" name="generic/001" time="3"></testcase>
		<testcase classname="xfstests.global" name="generic/002" time="3"><skipped message="no &quot;reflink&quot;" /></testcase>
		<testcase classname="xfstests.global" name="generic/003" time="3"><failure message="- output mismatch" type="TestFail" /></testcase>
		</testsuite>`))
	if err != nil {
		t.Fatal(err)
	}
	want := []result{{"generic/001", passed, ""}, {"generic/002", inapplicable, `no "reflink"`}, {"generic/003", failed, "- output mismatch"}}
	if fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", all, want)
	}
}

// A test that does not end is a failure of its own, and the others are run all the same. check is a script of
// ours here, as it is about what becomes of a check that does not come to its end.
func TestXfstests_OneThatHangsDoesNotHangTheRun(t *testing.T) {
	check := `#!/bin/sh
shift 3
rm -f "$RESULT_BASE/cases"
for name; do
	case $name in
	x/dies) kill -9 $$ ;;
	x/hangs) sleep 1000 ;;
	esac
	echo "<testcase name=\"$name\"></testcase>" >>"$RESULT_BASE/cases"
done
(echo "<testsuite>"; cat "$RESULT_BASE/cases"; echo "</testsuite>") >"$RESULT_BASE/result.xml"
`
	x := &xfstests{suite: t.TempDir(), base: t.TempDir(), limit: 20 * time.Minute}
	if err := os.WriteFile(filepath.Join(x.suite, "check"), []byte(check), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(x.base, "results"), 0o755); err != nil {
		t.Fatal(err)
	}
	all := x.run(t, []string{"x/1", "x/dies", "x/2"})
	x.limit = time.Second
	all = append(all, x.run(t, []string{"x/hangs"})...)
	var got []string
	for _, r := range all {
		got = append(got, fmt.Sprint(r.name, r.verdict == failed))
	}
	if want := "[x/1false x/diestrue x/2false x/hangstrue]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
