//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sheaf-drive/sheaf/cmd/sheaf/home"
	"github.com/sheaf-drive/sheaf/sync/remote/signin/signintest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sheaf": sheafForScripts})
}

// The scripts of testdata are the command's contract with its users, to be read aloud.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			e.Vars = append(e.Vars, "SHEAF_HOME="+home, "TZ=UTC", "SHEAF_LAN=off")
			e.Values[providerKey] = new(*signintest.Provider)
			e.Defer(func() {
				stopDaemon(t, home, filepath.Join(e.WorkDir, "home2"))
				clearMounts(t, e.WorkDir)
			})
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "fuse":
				if !checkMountable() && os.Getenv("CI") != "" {
					return false, errors.New("nothing can be mounted here: run scripts/deps")
				}
				return checkMountable(), nil
			case "root":
				return os.Geteuid() == 0, nil
			case "long": // there is time
				return os.Getenv("SHEAF_LONG") != "", nil
			}
			return false, errors.New("unknown condition")
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "word": wordOf, "until": until, "killdaemon": killDaemon, "damage": damage,
			"adds": adds, "provider": startProvider(t), "revoke": revoke, "renewed": renewed, "visit": visit(t),
		},
	})
}

// stopDaemon ends what a failed script left running.
func stopDaemon(t *testing.T, homes ...string) {
	for _, home := range homes {
		cmd := exec.Command("sheaf", "stop", "--force")
		cmd.Env = append(os.Environ(), "SHEAF_HOME="+home)
		out, err := cmd.CombinedOutput()
		var e *exec.ExitError
		if err != nil && (!errors.As(err, &e) || e.ExitCode() != 14) {
			t.Errorf("stop the daemon of %s: %v: %s", home, err, out)
		}
	}
}

// clearMounts takes away what a failed script left mounted below dir.
func clearMounts(t *testing.T, dir string) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return // no such file on this system
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			t.Errorf("%s was left mounted", f[1])
			if out, err := exec.Command("umount", "-l", f[1]).CombinedOutput(); err != nil {
				t.Errorf("unmount %s: %v: %s", f[1], err, out)
			}
		}
	}
}

// exits: exits CODE COMMAND ARGS... runs a command, which must exit with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var e *exec.ExitError
	if errors.As(err, &e) {
		got = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	ts.Logf("[stdout]\n%s[stderr]\n%s", ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// wordOf: word VAR KEY sets VAR to the text, without blanks or quotes at its ends, that follows KEY in the
// first JSON object of the last output.
func wordOf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: word VAR KEY")
	}
	out := ts.ReadFile("stdout")
	_, rest, ok := strings.Cut(out, `"`+args[1]+`":"`)
	text, _, end := strings.Cut(rest, `"`)
	if !ok || !end {
		ts.Fatalf("no %q in %s", args[1], out)
	}
	ts.Setenv(args[0], text)
}

// until: until COMMAND ARGS... repeats a command until it succeeds, for at most a minute: the machine may be busy.
func until(ts *testscript.TestScript, neg bool, args []string) {
	end := time.Now().Add(time.Minute)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if (err == nil) != neg {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not in time: %v\n%s", err, ts.ReadFile("stderr"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// killDaemon: killdaemon kills the daemon of the home as a crash would, and returns when it is gone.
func killDaemon(ts *testscript.TestScript, _ bool, _ []string) {
	b, err := os.ReadFile(filepath.Join(ts.Getenv("SHEAF_HOME"), "data", "process.lock"))
	ts.Check(err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	h, err := home.Find(ts.Getenv("SHEAF_HOME"), func(string) string { return "" })
	ts.Check(err)
	lock, err := h.Lock(context.Background(), 10*time.Second)
	ts.Check(err)
	ts.Check(lock.Unlock())
}

// damage: damage FOLDER flips one bit in the midst of the biggest file below it.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	var big string
	var size int64
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() && info.Size() > size {
			big, size = path, info.Size()
		}
		return err
	}))
	b, err := os.ReadFile(big)
	ts.Check(err)
	b[4096] ^= 4
	ts.Check(os.Chmod(big, 0o600))
	ts.Check(os.WriteFile(big, b, 0o600))
}

// adds: adds BYTES FOLDER COMMAND ARGS... runs a command that puts something, but fewer bytes than that, into new files below the folder.
func adds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: adds BYTES FOLDER COMMAND ARGS...")
	}
	most, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	files := func() map[string]int64 {
		all := map[string]int64{}
		ts.Check(filepath.WalkDir(ts.MkAbs(args[1]), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				all[path] = info.Size()
			}
			return err
		}))
		return all
	}
	before := files()
	ts.Check(ts.Exec(args[2], args[3:]...))
	sum := int64(0)
	for path, size := range files() {
		if _, ok := before[path]; !ok {
			ts.Logf("new: %s, %d bytes", path, size)
			sum += size
		}
	}
	if sum == 0 || sum >= most {
		ts.Fatalf("it put %d bytes into new files, want some, but fewer than %d", sum, most)
	}
}

// checkMountable reports whether this user can mount here.
func checkMountable() bool {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = f.Close()
	_, err = exec.LookPath("fusermount3")
	return os.Geteuid() == 0 || err == nil
}
