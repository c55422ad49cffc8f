package measure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Output runs a program in dir and returns what it says.
func Output(ctx context.Context, dir string, env []string, in []byte, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if in != nil {
		cmd.Stdin = bytes.NewReader(in)
	}
	var says bytes.Buffer
	cmd.Stderr = &says
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, says.Bytes())
	}
	return out, nil
}

// A Took is what one run of a program took.
type Took struct {
	Wall, CPU time.Duration // CPU: of all its processors, for itself and in the kernel
	Peak      float64       // the most memory that it had at once, in MiB, up to some milliseconds before its end
}

// Run runs a program in dir, throws away what it prints, and returns what it took.
func Run(ctx context.Context, dir string, env []string, args ...string) (Took, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var says bytes.Buffer
	cmd.Stderr = &says
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// An interrupted program puts away what it has begun; it is killed if it does not.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	begin := time.Now()
	err := cmd.Start()
	var t Took
	if err == nil {
		peak := watchPeak(cmd.Process.Pid)
		err = cmd.Wait()
		t.Peak = peak()
	}
	t.Wall = time.Since(begin)
	if ctx.Err() != nil {
		return t, ctx.Err()
	}
	if err != nil {
		return t, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, says.Bytes())
	}
	t.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return t, nil
}

// watchPeak looks at the high-water mark of a program's memory every few milliseconds, and returns what ends that and says how high it was, in MiB.
// What wait4(2) tells of that is no less than what the measuring program had when it started the other one, with which it shares its memory until then.
func watchPeak(pid int) (peak func() float64) {
	done, most := make(chan struct{}), make(chan float64)
	go func() {
		var mib float64
		status := fmt.Sprintf("/proc/%d/status", pid)
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			if b, err := os.ReadFile(status); err == nil {
				mib = max(mib, KiB(Field(string(b), "VmHWM")))
			}
			select {
			case <-tick.C:
			case <-done:
				tick.Stop()
				most <- mib
				return
			}
		}
	}()
	return func() float64 {
		close(done)
		return <-most
	}
}

// Describe returns what the machine is, with the first line that each of the commands in versions says. work is
// on the disk that is measured.
func Describe(ctx context.Context, work string, rounds, scale int, versions [][]string) (Machine, error) {
	m := Machine{Kind: "machine", When: time.Now().UTC().Format(time.RFC3339), Cores: runtime.NumCPU(), Rounds: rounds, Scale: scale}
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			return "" // a figure that this system does not tell is left out
		}
		return strings.TrimSpace(string(b))
	}
	m.CPU = Field(read("/proc/cpuinfo"), "model name")
	m.MemoryMB = int64(KiB(Field(read("/proc/meminfo"), "MemTotal")))
	m.Kernel = "Linux " + read("/proc/sys/kernel/osrelease")
	if f := strings.Fields(read("/proc/loadavg")); len(f) > 0 {
		m.Load = f[0]
	}
	out, err := Output(ctx, work, nil, nil, "findmnt", "-n", "-o", "FSTYPE,OPTIONS", "-T", work)
	if err != nil {
		return m, err
	}
	m.Disk = strings.Join(strings.Fields(string(out)), " ")
	for _, args := range versions {
		out, err := Output(ctx, work, nil, nil, args...)
		if err != nil {
			return m, err
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		m.Versions = append(m.Versions, filepath.Base(args[0])+": "+line)
	}
	return m, nil
}

// Room returns an error if a folder's disk has no room for so many MiB.
func Room(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if have := int64(st.Bavail) * st.Bsize >> 20; have < need {
		return fmt.Errorf("%s has room for %d MiB, and %d are needed: name another folder with -dir", dir, have, need)
	}
	return nil
}

// Rounds does all rounds, prints where it ended if one fails (what was measured is printed all the same: a run takes long), then the machine, what the data was and the table, and writes the file of results, if one is named and no round failed.
func Rounds(out io.Writer, m Machine, b *Book, data, path string, round func(i int) error) error {
	var failed error
	for i := range m.Rounds {
		if failed = round(i); failed != nil {
			_, _ = fmt.Fprintf(out, "NOT COMPLETE: it ended in round %d\n", i+1)
			break
		}
	}
	m.Print(out)
	_, _ = fmt.Fprintf(out, "%s\n\n", data)
	if err := b.Table(out); err != nil {
		return errors.Join(failed, err)
	}
	if path == "" || failed != nil {
		return failed
	}
	return WriteJSON(path, m, b)
}

// WriteJSON writes the machine and all results to a file, one a line.
func WriteJSON(path string, m Machine, b *Book) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = json.NewEncoder(f).Encode(m)
	if err == nil {
		err = b.JSON(f)
	}
	return errors.Join(err, f.Close())
}
