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
	"regexp"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/bench/measure"
	"github.com/sheaf-drive/sheaf/bench/nullfs"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/mount/fuse"
)

// A config is what the flags say.
type config struct {
	measure.Flags
	self  string         // this program
	crypt string         // the program gocryptfs
	juice string         // the program juicefs; "" if there is none
	rows  *regexp.Regexp // which rows are measured; nil for all
}

func main() { measure.Main("mountbench", command) }

func command(ctx context.Context, args []string) error {
	var c config
	null := ""
	err := c.Parse("mountbench", 5, args, func(f *flag.FlagSet) {
		f.Func("rows", "measure only the rows whose names match this `pattern`", func(s string) (err error) {
			c.rows, err = regexp.Compile(s)
			return err
		})
		f.StringVar(&null, "serve-null", "", "serve the empty file system at a `folder`, and measure nothing")
	})
	if errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if null != "" {
		return serveNull(ctx, null)
	}
	if err := c.find(); err != nil {
		return err
	}
	return bench(ctx, c, os.Stdout, os.Stderr)
}

// nullServes is what the server of the empty file system prints once it answers.
const nullServes = "serving"

// serveNull mounts an empty file system until it is told to end.
func serveNull(ctx context.Context, dir string) error {
	m, err := fuse.Mount(ctx, nullfs.New(uint32(os.Getuid()), uint32(os.Getgid())), dir, mount.Options{Name: "nullfs"})
	if err != nil {
		return err
	}
	fmt.Println(nullServes, dir)
	<-ctx.Done()
	for {
		err := m.Unmount(context.WithoutCancel(ctx))
		if !errors.Is(err, mount.ErrBusy) {
			return err
		}
		time.Sleep(10 * time.Millisecond) // a program that dies has still to leave it
	}
}

// find finds the programs, or says how to get them.
func (c *config) find() error {
	var err error
	if c.self, err = os.Executable(); err != nil {
		return err
	}
	if c.Sheaf, err = c.Program(); err != nil {
		return err
	}
	for _, p := range []string{cryptName, "fio", "sqlite3", "git", "fusermount3"} {
		path, err := exec.LookPath(p)
		if err != nil {
			return fmt.Errorf("%s is not installed: run scripts/deps bench", p)
		}
		if p == cryptName {
			c.crypt = path
		}
	}
	c.juice, _ = exec.LookPath(juiceName)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("nothing can be mounted here: %w", err)
	}
	return nil
}

// bench measures all rows and prints them. What it made is gone when it returns.
func bench(ctx context.Context, c config, out, progress io.Writer) (err error) {
	work, err := os.MkdirTemp(c.Dir, "mountbench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeAll(work)) }()
	m, err := c.machine(ctx, work)
	if err != nil {
		return err
	}
	if err := measure.Room(work, int64(16*1024/c.Scale+512)); err != nil { // for all systems at once
		return err
	}
	m.Print(progress)
	l, err := newLoad(ctx, work, c.Scale)
	if err != nil {
		return err
	}
	all := c.chosen()
	b := newBook(systemNames(c.juice != ""), rowsOf(all))
	r := &runner{config: c, load: l, steps: all, book: b, progress: progress, cold: dropCaches() == nil}
	data := fmt.Sprintf("big file %d MiB, tree of %d files, %d random operations, %d transactions", len(l.data)/mib, l.files, l.ops, l.txs)
	return measure.Rounds(out, m, b, data, c.Out, func(i int) error { return r.round(ctx, filepath.Join(work, "round"), i) })
}

// chosen returns the steps of the rows that are asked for. Some build on each other: what is read was written before.
func (c config) chosen() []step {
	all := steps()
	if c.rows == nil {
		return all
	}
	return slices.DeleteFunc(all, func(s step) bool { return !c.rows.MatchString(s.Name) })
}

// A runner measures, round by round.
type runner struct {
	config
	load     *load
	steps    []step
	book     *measure.Book
	progress io.Writer
	cold     bool // whether caches can be dropped
}

// round makes all systems anew, does all steps on each in turn, and takes them away.
func (r *runner) round(ctx context.Context, base string, n int) (err error) {
	var systems []*system
	defer func() {
		for _, s := range systems {
			if e := s.stop(); e != nil {
				err = errors.Join(err, e)
			}
		}
		err = errors.Join(err, removeAll(base))
	}()
	for _, name := range r.book.Systems {
		s, err := newSystem(ctx, name, filepath.Join(base, name), r.config)
		if err != nil {
			return err
		}
		systems = append(systems, s)
		if err := s.start(ctx); err != nil {
			return err
		}
	}
	for i, st := range r.steps {
		for _, s := range measure.Turned(systems, n+i) {
			if err := r.step(ctx, st, s, n == 0); err != nil {
				return fmt.Errorf("%s: %s: %w", s.name, st.Name, err)
			}
		}
	}
	return nil
}

// step does one step on one system.
func (r *runner) step(ctx context.Context, st step, s *system, first bool) error {
	switch {
	case s.name == nullName && st.noNull != "":
		r.book.Skip(st.Name, s.name, st.noNull)
	case st.cold && !r.cold:
		r.book.Skip(st.Name, s.name, "only root can drop the kernel's caches")
	default:
		if err := r.measure(ctx, st, s, first); err != nil {
			return err
		}
	}
	if st.memory != "" {
		now, peak, ok := s.resident()
		if ok {
			a, b := memoryRows(st.memory)
			r.book.Add(a.Name, s.name, now)
			r.book.Add(b.Name, s.name, peak)
		}
	}
	return nil
}

func (r *runner) measure(ctx context.Context, st step, s *system, first bool) error {
	if st.cold && s.name != nullName { // which would forget its files
		if err := s.restart(ctx); err != nil {
			return err
		}
	}
	if st.cold {
		if err := dropCaches(); err != nil {
			return err
		}
	}
	if st.prepare != nil {
		if err := st.prepare(ctx, s, r.load); err != nil {
			return err
		}
	}
	figure, err := st.do(ctx, s, r.load)
	if err != nil {
		return err
	}
	r.book.Add(st.Name, s.name, figure)
	rest, err := s.settle(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.progress, "%-32s %-10s %8s %-3s  at rest after %s s\n", st.Name, s.name, measure.Short(figure), st.Unit, measure.Short(rest.Seconds()))
	if st.settled != "" {
		r.book.Add(st.settled, s.name, rest.Seconds())
	}
	if first && st.check != nil && s.name != nullName {
		return st.check(ctx, s, r.load)
	}
	return nil
}

// dropCaches empties the kernel's caches of files, names and attributes.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
}

// removeAll removes a folder, unless something is still mounted in it: that would empty
// the mount.
func removeAll(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*", "mnt"))
	if err != nil {
		return err
	}
	below, err := filepath.Glob(filepath.Join(dir, "round", "*", "mnt"))
	if err != nil {
		return err
	}
	for _, d := range append(left, below...) {
		if err := measure.Detach(d); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}
