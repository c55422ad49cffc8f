package posix

import (
	"bufio"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	if err := os.Symlink(self(t), helperPath); err != nil {
		t.Fatalf("%v: another test run is under way, or one has died and left it", err)
	}
	base := reachable(t)
	t.Cleanup(func() {
		if err := os.Remove(helperPath); err != nil {
			t.Error(err)
		}
		for _, device := range []string{"sheaf-test", "sheaf-scratch"} {
			dir := filepath.Join(base, device)
			for unix.Unmount(dir, 0) == nil {
				t.Logf("%s was left mounted", device)
			}
			home := filepath.Join(base, "homes", device)
			verify(t, home)
			if b, err := os.ReadFile(home + ".log"); err == nil && strings.Contains(string(b), "panic") {
				t.Errorf("the process behind %s says:\n%s", device, b)
			}
		}
	})
	for _, sub := range []string{"sheaf-test", "sheaf-scratch", "homes/sheaf-test", "homes/sheaf-scratch", "results", "bin"} {
		if err := os.MkdirAll(filepath.Join(base, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// xfstests knows each type of FUSE by its name only, and takes ours for a stranger's.
	df := "#!/bin/bash\nset -o pipefail\nPATH=${PATH#*:} df \"$@\" | sed 's/ fuse\\.sheaf / fuse       /'\n"
	if err := os.WriteFile(filepath.Join(base, "bin", "df"), []byte(df), 0o755); err != nil {
		t.Fatal(err)
	}
	results := filepath.Join(base, "results")
	args := []string{"-fuse", "-R", "xunit-quiet"}
	if re := os.Getenv("SHEAF_POSIX_ONLY"); re != "" {
		args = append(args, strings.Fields(re)...) // here a list, as generic/001
	} else {
		args = append(args, "-g", group, "-E", tooMuch(t))
	}
	cmd := exec.CommandContext(t.Context(), "./check", args...)
	cmd.Dir = suite
	cmd.Env = append(os.Environ(), "FSTYP=fuse", "FUSE_SUBTYP=.sheaf", homesEnv+"="+filepath.Join(base, "homes"),
		"TEST_DEV=sheaf-test", "TEST_DIR="+filepath.Join(base, "sheaf-test"),
		"SCRATCH_DEV=sheaf-scratch", "SCRATCH_MNT="+filepath.Join(base, "sheaf-scratch"),
		"PATH="+filepath.Join(base, "bin")+":"+os.Getenv("PATH"),
		"RESULT_BASE="+results, "HOST_OPTIONS="+os.DevNull)
	log, err := os.Create(filepath.Join(base, "check.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	begun := time.Now()
	ended := cmd.Run() // not nil if any test failed: the report says which
	said, _ := os.ReadFile(log.Name())
	t.Logf("%s in %v, %v:\n%s", group, time.Since(begun).Round(time.Second), ended, said)
	if cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		t.Errorf("check did not come to its end: %v", ended)
	}
	report, err := os.ReadFile(filepath.Join(results, "result.xml"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := readReport(report)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range all {
		if b, err := os.ReadFile(filepath.Join(results, r.name+".out.bad")); r.verdict == failed && err == nil {
			all[i].said += "\n" + string(b[:min(len(b), 2000)])
		}
	}
	judge(t, "xfstests "+group, "xfstests.txt", all)
}

// tooMuch returns a file for check -E: the tests that cannot be run, which testdata/xfstests-left-out.txt lists.
func tooMuch(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "left-out")
	var b strings.Builder
	for test := range exceptions(t, "xfstests-left-out.txt") {
		b.WriteString(test + "\n")
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
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
