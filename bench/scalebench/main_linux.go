package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// A config is what the flags say.
type config struct {
	sheaf, dir, out string
	scale           int
	snapshots       int
	fill            int // not 0: make so many files below dir, and nothing else
}

func main() { measure.Main("scalebench", command) }

func command(ctx context.Context, args []string) error {
	var c config
	f := flag.NewFlagSet("scalebench", flag.ContinueOnError)
	f.IntVar(&c.scale, "scale", 1, "divides the numbers of files")
	f.IntVar(&c.snapshots, "snapshots", 1000, "how many states each drive keeps")
	f.StringVar(&c.sheaf, "sheaf", "bin/sheaf", "the `program` sheaf")
	f.StringVar(&c.dir, "dir", os.TempDir(), "the `folder` on the disk that is measured on")
	f.StringVar(&c.out, "json", "", "a `file` for the results as lines of JSON")
	f.IntVar(&c.fill, "fill", 0, "only make so many files in the drive that is in dir: for scalebench itself")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if c.scale < 1 || c.scale > 1000 || c.snapshots < 2 || f.NArg() > 0 {
		return errors.New("scale is 1 to 1000, there are at least 2 snapshots, and there are no arguments")
	}
	if c.fill > 0 {
		return (&drive{config: c, n: c.fill, base: c.dir}).fill(ctx)
	}
	var err error
	if c.sheaf, err = filepath.Abs(c.sheaf); err != nil {
		return err
	}
	return bench(ctx, c, os.Stdout, os.Stderr)
}

// The rows. Those with a Goal are not to grow with the drive: the ratio is that of the largest to the
// smallest, which has a hundredth of its files.
const (
	openRow    = "open, list a folder"
	changeRow  = "add a file, commit"
	addedRow   = "… put into the store by that"
	lsRow      = "sheaf ls of n/10 entries"
	wideRow    = "ls of n/10 entries, mounted"
	historyRow = "history of a path"
	diffRow    = "snapshot diff"
	restoreRow = "restore a file --at"
	mountRow   = "mount until it answers"
	pastRow    = "mount --at until it answers"
	findRow    = "find of all"
	findMemory = "resident after find"
	gcRow      = "store gc"
	verifyRow  = "store verify"
	peak       = ", peak"
	cpu        = ", CPU"
)

func rows() []measure.Row {
	var all []measure.Row
	for _, name := range []string{openRow, changeRow, historyRow, diffRow, restoreRow} {
		all = append(all, measure.Row{Name: name, Unit: measure.Seconds, Most: 1}, measure.Row{Name: name + cpu, Unit: measure.Seconds, Goal: 3})
	}
	return append(
		all,
		measure.Row{Name: addedRow, Unit: measure.MiB, Goal: 3, Most: 0.0625},
		measure.Row{Name: lsRow, Unit: measure.Seconds, Most: 1},
		measure.Row{Name: wideRow, Unit: measure.Seconds, Most: 1},
		measure.Row{Name: mountRow, Unit: measure.Seconds, Goal: 3, Most: 1},
		measure.Row{Name: pastRow, Unit: measure.Seconds, Goal: 3, Most: 1},
		measure.Row{Name: findRow, Unit: measure.Seconds},
		measure.Row{Name: findMemory, Unit: measure.MiB, Most: 1024},
		measure.Row{Name: gcRow, Unit: measure.Seconds},
		measure.Row{Name: gcRow + peak, Unit: measure.MiB, Most: 512},
		measure.Row{Name: verifyRow, Unit: measure.Seconds},
		measure.Row{Name: verifyRow + peak, Unit: measure.MiB, Most: 512},
	)
}

// bench measures all sizes and prints them. What it made is gone when it returns.
func bench(ctx context.Context, c config, out, progress io.Writer) (err error) {
	work, err := os.MkdirTemp(c.dir, "scalebench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	m, err := measure.Describe(ctx, work, 1, c.scale, [][]string{{c.sheaf, "version"}})
	if err != nil {
		return err
	}
	m.Print(progress)
	sizes := []int{1_000_000 / c.scale, 100_000 / c.scale, 10_000 / c.scale}
	var names []string
	for _, n := range sizes {
		names = append(names, fmt.Sprintf("%d files", n))
	}
	book := measure.NewBook(names, []string{names[2]}, rows())
	for i := len(sizes) - 1; i >= 0; i-- {
		d := &drive{config: c, n: sizes[i], name: names[i], base: filepath.Join(work, "drive"), book: book, progress: progress}
		if err := errors.Join(d.measure(ctx), os.RemoveAll(d.base)); err != nil {
			fmt.Fprintf(out, "NOT COMPLETE: %s\n", names[i])
			return errors.Join(err, book.Table(out))
		}
	}
	m.Print(out)
	if err := book.Table(out); err != nil {
		return err
	}
	if c.out == "" {
		return nil
	}
	return measure.WriteJSON(c.out, m, book)
}

// A drive is one drive under measurement.
type drive struct {
	config
	n        int
	name     string
	base     string
	book     *measure.Book
	progress io.Writer
}

func (d *drive) env() []string {
	return []string{"HOME=" + d.base, "SHEAF_STORE=" + filepath.Join(d.base, "packs")}
}

func (d *drive) args(args ...string) []string {
	return append([]string{d.sheaf, "--home", filepath.Join(d.base, "home")}, args...)
}

func (d *drive) add(row string, figure float64) {
	d.book.Add(row, d.name, figure)
	fmt.Fprintf(d.progress, "%-14s %-28s %s\n", d.name, row, measure.Short(figure))
}

// run measures one command.
func (d *drive) run(ctx context.Context, row string, args ...string) (measure.Took, error) {
	took, err := measure.Run(ctx, d.base, d.env(), d.args(args...)...)
	if err != nil {
		return took, fmt.Errorf("%s: %w", row, err)
	}
	d.add(row, took.Wall.Seconds())
	return took, nil
}

func (d *drive) measure(ctx context.Context) error {
	if err := os.MkdirAll(d.base, 0o700); err != nil {
		return err
	}
	if _, err := measure.Output(ctx, d.base, d.env(), nil, d.args("init", "--quiet", "--device-name", "bench")...); err != nil {
		return err
	}
	// In a process of its own: the system counts what the one had in memory that began a program as a peak of that program.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := measure.Run(ctx, d.base, nil, self, "-fill", fmt.Sprint(d.n), "-snapshots", fmt.Sprint(d.snapshots), "-dir", d.base); err != nil {
		return fmt.Errorf("make the drive: %w", err)
	}
	for _, step := range []func(context.Context) error{d.change, d.look, d.mounts, d.care} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// changes is how many files are added, one after the other. After some of them the store merges small packs, which the
// median does not show.
const changes = 9

// change adds files, and reads them back.
func (d *drive) change(ctx context.Context) error {
	file := filepath.Join(d.base, "one")
	if err := os.WriteFile(file, []byte("one more file"), 0o644); err != nil {
		return err
	}
	for i := range changes {
		before, err := files(filepath.Join(d.base, "packs"))
		if err != nil {
			return err
		}
		to := fmt.Sprintf("sheaf:/many/000/one-more-%d", i)
		took, err := d.run(ctx, changeRow, "cp", "--quiet", file, to)
		if err != nil {
			return err
		}
		d.add(changeRow+cpu, took.CPU.Seconds())
		after, err := files(filepath.Join(d.base, "packs"))
		if err != nil {
			return err
		}
		added := int64(0)
		for name, size := range after {
			if _, ok := before[name]; !ok {
				added += size
			}
		}
		d.add(addedRow, float64(added)/(1<<20))
		out, err := measure.Output(ctx, d.base, d.env(), nil, d.args("cat", to)...)
		if err == nil && string(out) != "one more file" {
			err = fmt.Errorf("the file reads %q", out)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// look reads what is small in a drive that is not.
func (d *drive) look(ctx context.Context) error {
	for _, c := range []struct {
		row  string
		args []string
	}{
		{openRow, []string{"ls", "sheaf:/many/000"}},
		{historyRow, []string{"history", "/changing/file"}},
		{diffRow, []string{"snapshot", "diff", "state 0"}},
		{restoreRow, []string{"restore", "/changing/file", "--at", "state 1"}},
	} {
		took, err := d.run(ctx, c.row, c.args...)
		if err != nil {
			return err
		}
		d.add(c.row+cpu, took.CPU.Seconds())
	}
	out, err := measure.Output(ctx, d.base, d.env(), nil, d.args("cat", "sheaf:/changing/file")...)
	if err == nil && string(out) != "state 1" {
		err = fmt.Errorf("the restored file reads %q", out)
	}
	if err != nil {
		return err
	}
	_, err = d.run(ctx, lsRow, "ls", "sheaf:/wide")
	return err
}

// care goes through all of the drive.
func (d *drive) care(ctx context.Context) error {
	for _, c := range []struct{ row, verb string }{{gcRow, "gc"}, {verifyRow, "verify"}} {
		took, err := d.run(ctx, c.row, "store", c.verb)
		if err != nil {
			return err
		}
		d.add(c.row+peak, took.Peak)
	}
	return nil
}

// mounts mounts the drive, walks it, and mounts a past state.
func (d *drive) mounts(ctx context.Context) error {
	dir := filepath.Join(d.base, "mnt")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	err := d.mounted(ctx, mountRow, dir, nil, func(pid int) error {
		begin := time.Now()
		if _, err := measure.Output(ctx, d.base, nil, nil, "ls", filepath.Join(dir, "wide")); err != nil {
			return err
		}
		d.add(wideRow, time.Since(begin).Seconds())
		begin = time.Now()
		out, err := measure.Output(ctx, d.base, nil, nil, "sh", "-c", "find "+dir+" -type f | wc -l")
		if err != nil {
			return err
		}
		d.add(findRow, time.Since(begin).Seconds())
		if got := strings.TrimSpace(string(out)); got != fmt.Sprint(d.n+changes+2) { // with those that were added, the one that changes, and that before it was restored
			return fmt.Errorf("find saw %s files, not %d", got, d.n+changes+2)
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		d.add(findMemory, measure.KiB(measure.Field(string(b), "VmRSS")))
		return err
	})
	if err != nil {
		return err
	}
	return d.mounted(ctx, pastRow, dir, []string{"--at", "state 0"}, func(int) error {
		b, err := os.ReadFile(filepath.Join(dir, "changing", "file"))
		if err == nil && string(b) != "state 0" {
			err = fmt.Errorf("the file of the past reads %q", b)
		}
		return err
	})
}

// mounted calls do while the drive is mounted.
func (d *drive) mounted(ctx context.Context, row, dir string, more []string, do func(pid int) error) (err error) {
	args := d.args(append([]string{"mount", "--foreground", dir}, more...)...)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), args[0], args[1:]...) // a server that is killed leaves its mount behind
	cmd.Env = append(os.Environ(), d.env()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	var failed error // once ended is closed
	ended := make(chan struct{})
	go func() {
		failed = cmd.Wait()
		close(ended)
	}()
	defer func() {
		for {
			_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
			select {
			case <-ended:
				return
			case <-time.After(5 * time.Second):
			}
		}
	}()
	for {
		if _, err := os.Stat(filepath.Join(dir, "changing", "file")); err == nil {
			break
		}
		select {
		case <-ended:
			return fmt.Errorf("%s: it ended: %w", row, failed)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
	d.add(row, time.Since(begin).Seconds())
	return do(cmd.Process.Pid)
}
