package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A7: a daemon whose mount of 100,000 files was looked through takes less than 150 MiB and 1 % of a processor at rest. In short: 5,000.
func TestDaemon_AtRestTakesLittle(t *testing.T) {
	if !checkMountable() {
		testkit.Lacks(t, "nothing can be mounted here: run scripts/deps")
	}
	files, window := 5_000, 10*time.Second
	if os.Getenv("SHEAF_LONG") != "" {
		files, window = 100_000, time.Minute
	}
	src := filepath.Join(t.TempDir(), "tree")
	for i := range files {
		dir := filepath.Join(src, fmt.Sprintf("folder %d", i/1000))
		if i%1000 == 0 {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("a file with a name that says something %d.txt", i)), []byte(strconv.Itoa(i)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, _ := startAPI(t)
	d.sheaf("cp", "--recursive", src, "sheaf:/tree")
	d.sheaf("stop") // as a session ends and the next begins
	_ = d.cmd.Wait()
	d.start()
	mnt := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(mnt, 0o700); err != nil {
		t.Fatal(err)
	}
	d.sheaf("mount", mnt)
	t.Cleanup(func() {
		cmd := exec.Command("sheaf", "umount", mnt)
		cmd.Env = append(os.Environ(), "SHEAF_HOME="+d.home)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	n := 0
	err := filepath.WalkDir(filepath.Join(mnt, "tree"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			n++
			_, err = e.Info()
		}
		return err
	})
	if err != nil || n != files {
		t.Fatalf("%d of %d files were seen: %v", n, files, err)
	}

	const most = 150 << 20
	var memory int64
	var share float64
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); { // it is at rest when it is at rest
		before := processorTimeOf(t, d.pid)
		time.Sleep(window)
		share = float64(processorTimeOf(t, d.pid)-before) / float64(window)
		if memory = rss(t, d.pid, "VmRSS"); share < 0.01 && memory < most {
			t.Logf("%d files: %d MiB resident, %.2f %% of a processor", files, memory>>20, 100*share)
			return
		}
	}
	t.Errorf("%d files: %d MiB resident, want less than 150; %.2f %% of a processor, want less than 1", files, memory>>20, 100*share)
}

// processorTimeOf returns what a process has used, from /proc/PID/stat, where a tick is 10 ms.
func processorTimeOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ticks := 0
	for _, i := range []int{11, 12} { // in the program, and in the system for it
		n, err := strconv.Atoi(f[i])
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
