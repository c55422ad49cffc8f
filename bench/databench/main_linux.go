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

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// A config is what the flags say.
type config struct {
	measure.Flags
	programs map[string]string
}

func main() { measure.Main("databench", command) }

func command(ctx context.Context, args []string) error {
	c := config{programs: map[string]string{}}
	if err := c.Parse("databench", 5, args, nil); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if err := c.find(); err != nil {
		return err
	}
	return bench(ctx, c, os.Stdout, os.Stderr)
}

// find finds the programs. One that is not there is left out, but for ours and one to compare with.
func (c *config) find() (err error) {
	if c.programs[sheafName], err = c.Program(); err != nil {
		return err
	}
	for _, name := range systemNames[1:] {
		if p, err := exec.LookPath(name); err == nil {
			c.programs[name] = p
		}
	}
	if len(c.programs) < 2 {
		return errors.New("none of restic, kopia and borg is installed: run scripts/deps bench")
	}
	return nil
}

// names returns the systems that are there, in order.
func (c *config) names() []string {
	var names []string
	for _, name := range systemNames {
		if c.programs[name] != "" {
			names = append(names, name)
		}
	}
	return names
}

// bench measures all rows and prints them. What it made is gone when it returns.
func bench(ctx context.Context, c config, out, progress io.Writer) (err error) {
	if err := measure.Room(c.Dir, int64(30*1024/c.Scale+512)); err != nil {
		return err
	}
	work, err := os.MkdirTemp(c.Dir, "databench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	versions := [][]string{{c.programs[sheafName], "version"}}
	for name, flag := range map[string]string{resticName: "version", kopiaName: "--version", borgName: "--version"} {
		if p := c.programs[name]; p != "" {
			versions = append(versions, []string{p, flag})
		}
	}
	m, err := measure.Describe(ctx, work, c.Rounds, c.Scale, versions)
	if err != nil {
		return err
	}
	m.Print(progress)
	l, err := newLoad(ctx, work, c.Scale)
	if err != nil {
		return fmt.Errorf("make the data: %w", err)
	}
	all := steps(l)
	r := &runner{config: c, load: l, progress: progress, book: measure.NewBook(c.names(), []string{measure.Best}, rowsOf(all))}
	data := fmt.Sprintf("big file %d MiB, tree of %d files and %d MiB", l.bigSize>>20, l.files, l.treeSize>>20)
	return measure.Rounds(out, m, r.book, data, c.Out, func(i int) error { return r.round(ctx, filepath.Join(work, "round"), all, i) })
}

// A runner measures, round by round.
type runner struct {
	config
	load     *load
	book     *measure.Book
	progress io.Writer
}

// round makes all stores anew, does all steps on each in turn, and removes them.
func (r *runner) round(ctx context.Context, base string, all []step, n int) (err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	var systems []*system
	for _, name := range r.names() {
		s := newSystem(name, filepath.Join(base, name), r.config)
		if err := s.start(ctx); err != nil {
			return err
		}
		systems = append(systems, s)
	}
	peak := map[string]float64{}
	for i, st := range all {
		if st.prepare != nil {
			if err := st.prepare(r.load); err != nil {
				return err
			}
		}
		for _, s := range measure.Turned(systems, n+i) {
			unix.Sync() // so that nobody pays for another's writes
			if st.mount {
				if err := r.mounted(ctx, st, s); err != nil {
					return fmt.Errorf("%s: a mount: %w", s.name, err)
				}
				continue
			}
			took, err := r.step(ctx, st, s, n == 0)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", s.name, st.name, err)
			}
			peak[s.name] = max(peak[s.name], took.Peak)
		}
	}
	for name, mib := range peak {
		r.book.Add(peakRow, name, mib)
	}
	return nil
}

func (r *runner) step(ctx context.Context, st step, s *system, first bool) (measure.Took, error) {
	before, err := size(s.store)
	if err != nil {
		return measure.Took{}, err
	}
	var took measure.Took
	if st.back {
		took, err = r.back(ctx, st, s, first)
	} else {
		took, err = measure.Run(ctx, s.base, s.env, s.in(st.src, st.what)...)
	}
	if err != nil {
		return took, err
	}
	after, err := size(s.store)
	if err != nil {
		return took, err
	}
	r.book.Add(st.name, s.name, took.Wall.Seconds())
	r.book.Add(st.name+", CPU", s.name, took.CPU.Seconds())
	if st.added {
		r.book.Add(st.name+", added", s.name, float64(after-before)/(1<<20))
	}
	if st.stored {
		r.book.Add(storedRow, s.name, float64(after)/(1<<20))
	}
	fmt.Fprintf(r.progress, "%-28s %-7s %8s s %8s s CPU %6s MiB peak %8s MiB added\n", st.name, s.name,
		measure.Short(took.Wall.Seconds()), measure.Short(took.CPU.Seconds()), measure.Short(took.Peak), measure.Short(float64(after-before)/(1<<20)))
	return took, nil
}

// back brings what went in back, and in the first round compares it.
func (r *runner) back(ctx context.Context, st step, s *system, first bool) (took measure.Took, err error) {
	dir := filepath.Join(s.base, "back")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return took, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	args, at := s.out(st.src, st.what, dir)
	if took, err = measure.Run(ctx, dir, s.env, args...); err != nil || !first {
		return took, err
	}
	_, err = measure.Output(ctx, dir, nil, nil, "diff", "-r", "-q", "--no-dereference", st.src, filepath.Join(dir, at))
	return took, err
}
