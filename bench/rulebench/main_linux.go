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
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// A config is what the flags say.
type config struct {
	measure.Flags
	programs map[string]string
	systems  []string       // that are measured; the first is ours
	rows     *regexp.Regexp // of "load, route"
}

func main() { measure.Main("rulebench", command) }

func command(ctx context.Context, args []string) error {
	c := config{programs: map[string]string{}}
	var systems, rows string
	err := c.Parse("rulebench", 3, args, func(f *flag.FlagSet) {
		f.StringVar(&systems, "systems", strings.Join(systemNames, ","), "which `systems` are measured")
		f.StringVar(&rows, "rows", "", "a `pattern` of what is measured, as \"small, local\" or \"big, SFTP\"")
	})
	if errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if c.rows, err = regexp.Compile(rows); err != nil {
		return fmt.Errorf("rows: %w", err)
	}
	if err := c.find(strings.Split(systems, ",")); err != nil {
		return err
	}
	return bench(ctx, c, os.Stdout, os.Stderr)
}

// find finds the programs, all of them: a table in which a rival is missing says nothing of the best.
func (c *config) find(wanted []string) (err error) {
	if c.programs["sheaf"], err = c.Program(); err != nil {
		return err
	}
	for _, name := range []string{"rclone", "unison", "ssh", "ssh-keygen", "sshd"} {
		p, err := exec.LookPath(name)
		if err != nil {
			p = filepath.Join("/usr/sbin", name) // where servers are
			if _, err := os.Stat(p); err != nil {
				return fmt.Errorf("%s is missing: run scripts/deps rulebench (apt-get install rclone unison openssh-server openssh-client)", name)
			}
		}
		c.programs[name] = p
	}
	for _, name := range wanted {
		if !slices.Contains(systemNames, name) {
			return fmt.Errorf("no system is called %q: they are %s", name, strings.Join(systemNames, ", "))
		}
	}
	for _, name := range systemNames {
		if slices.Contains(wanted, name) {
			c.systems = append(c.systems, name)
		}
	}
	return nil
}

// bench measures all rows and prints them. What it made is gone when it returns.
func bench(ctx context.Context, c config, out, progress io.Writer) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("sshd lets in who started it, and here that is root: run it as root")
	}
	work, err := os.MkdirTemp(c.Dir, "rulebench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	var used []*load
	for _, l := range loads(work, c.Scale) {
		if slices.ContainsFunc(routes, func(r route) bool { return c.rows.MatchString(l.name + ", " + r.name) }) {
			used = append(used, l)
		}
	}
	need := int64(512)
	for _, l := range used { // itself, and one copy at a time
		need += 2 * int64(l.files) * int64(l.max) >> 20
	}
	if err := measure.Room(c.Dir, need); err != nil {
		return err
	}
	m, err := measure.Describe(ctx, work, c.Rounds, c.Scale, [][]string{{c.programs["sheaf"], "version"}, {c.programs["rclone"], "version"}, {c.programs["unison"], "-version"}})
	if err != nil {
		return err
	}
	m.Print(progress)
	var data []string
	for _, l := range used {
		if err := l.make(); err != nil {
			return fmt.Errorf("make the data: %w", err)
		}
		data = append(data, fmt.Sprintf("%s: %d files of %d MiB", l.name, l.files, l.bytes>>20))
	}
	r := newRunner(c, used, progress)
	err = measure.Rounds(out, m, r.book, strings.Join(data, "; "), c.Out, func(i int) error { return r.round(ctx, filepath.Join(work, "round"), i) })
	return errors.Join(append(r.wrong, err)...)
}

// A runner measures, round by round.
type runner struct {
	config
	loads    []*load
	book     *measure.Book
	progress io.Writer
	wrong    []error // rows in which a program failed, or left other trees than there should be
}

func newRunner(c config, used []*load, progress io.Writer) *runner {
	var against []string
	if len(c.systems) > 1 {
		against = append(against, measure.Best)
	}
	for _, name := range systemNames[1:] {
		if slices.Contains(c.systems, name) {
			against = append(against, name)
		}
	}
	r := &runner{config: c, loads: used, progress: progress}
	var rows []measure.Row
	r.each(func(l *load, at route) {
		for _, st := range steps() {
			name := rowName(l, at, st)
			than := st.than
			if than == bisyncName && (&rclone{both: true}).lacks(at) != "" {
				than = rcloneName
			}
			goal := st.goal
			if !slices.Contains(c.systems, than) {
				goal, than = 0, ""
			}
			rows = append(rows,
				measure.Row{Name: name, Unit: measure.Seconds, Goal: goal, Than: than},
				measure.Row{Name: name + cpuRow, Unit: measure.Seconds},
				measure.Row{Name: name + peakRow, Unit: measure.MiB, Most: 100},
			)
			if at.kinds != [2]string{folder, folder} {
				rows = append(rows, measure.Row{Name: name + requestsRow, Unit: measure.Count}, measure.Row{Name: name + wireRow, Unit: measure.MiB, Most: wireOf(st, at)})
			}
		}
	})
	r.book = measure.NewBook(c.systems, against, rows)
	return r
}

// The rows that each step has besides its time.
const (
	cpuRow      = ", CPU"
	peakRow     = ", peak resident"
	requestsRow = ", requests"
	wireRow     = ", on the wire"
)

// wireOf is what may go over the wire. A place that cannot say who a file is knows of no renaming: its goal is none.
func wireOf(st step, at route) float64 {
	if at.kinds[0] != folder {
		return 0
	}
	return st.wire
}

func rowName(l *load, at route, st step) string { return l.name + ", " + at.name + ": " + st.name }

// each calls f with all that is to be measured.
func (r *runner) each(f func(l *load, at route)) {
	for _, l := range r.loads {
		for _, at := range routes {
			if r.rows.MatchString(l.name + ", " + at.name) {
				f(l, at)
			}
		}
	}
}

// round has each program do all steps on each route, in places of its own, one program after the other.
func (r *runner) round(ctx context.Context, base string, n int) error {
	var err error
	i := 0
	r.each(func(l *load, at route) {
		for _, name := range measure.Turned(r.systems, n+i) {
			if err != nil {
				return
			}
			err = r.all(ctx, base, name, l, at)
			err = errors.Join(err, os.RemoveAll(base), ctx.Err())
		}
		i++
	})
	return err
}

// all has one program do all steps. A step that fails ends them, and is told at the end: the others are worth something without it.
func (r *runner) all(ctx context.Context, base, name string, l *load, at route) (err error) {
	what := runs{programs: r.programs, home: filepath.Join(base, "home")}
	for i := range what.at {
		what.at[i] = &place{kind: at.kinds[i], dir: filepath.Join(base, sides[i])}
	}
	s := newSystem(name, what)
	if why := s.lacks(at); why != "" {
		for _, st := range steps() {
			r.skip(l, at, st, name, why)
		}
		return nil
	}
	defer func() { err = errors.Join(err, what.at[0].close(), what.at[1].close()) }()
	if err := os.MkdirAll(what.home, 0o700); err != nil {
		return err
	}
	for i, p := range what.at {
		if err := p.open(ctx, r.programs, filepath.Join(base, "server-"+sides[i]), at.delay); err != nil {
			return fmt.Errorf("%s: %s: %w", at.name, sides[i], err)
		}
	}
	if err := s.prepare(ctx); err != nil {
		return fmt.Errorf("%s: %s: %w", at.name, name, err)
	}
	failed := ""
	for i, st := range steps() {
		if failed != "" {
			r.skip(l, at, st, name, failed)
			continue
		}
		if err := st.do(l, what.at[0].dir); err != nil {
			return err
		}
		if err := r.step(ctx, s, what.at, name, l, at, st, i == 0); err != nil {
			if ctx.Err() != nil {
				return err
			}
			err = fmt.Errorf("%s: %s: %w", rowName(l, at, st), name, err)
			fmt.Fprintln(r.progress, "ERROR:", err)
			r.wrong, failed = append(r.wrong, err), err.Error()
			r.skip(l, at, st, name, failed)
		}
	}
	return nil
}

func (r *runner) skip(l *load, at route, st step, name, why string) {
	for _, more := range [...]string{"", cpuRow, peakRow, requestsRow, wireRow} {
		r.book.Skip(rowName(l, at, st)+more, name, why)
	}
}

// step measures one turn, and compares what it has left at the two places. Only what is right gets into the table.
func (r *runner) step(ctx context.Context, s system, places [2]*place, name string, l *load, at route, st step, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	unix.Sync() // so that nobody pays for another's writes
	before := [2]int64{}
	for _, p := range places {
		n, b := p.traffic()
		before[0], before[1] = before[0]-n, before[1]-b
	}
	took, err := s.turn(ctx, first)
	if err != nil {
		return err
	}
	for _, p := range places {
		n, b := p.traffic()
		before[0], before[1] = before[0]+n, before[1]+b
	}
	if err := alike(ctx, places[0].dir, places[1].dir); err != nil {
		return fmt.Errorf("the trees are not alike: %w", err)
	}
	row, wire := rowName(l, at, st), float64(before[1])/(1<<20)
	r.book.Add(row, name, took.Wall.Seconds())
	r.book.Add(row+cpuRow, name, took.CPU.Seconds())
	r.book.Add(row+peakRow, name, took.Peak)
	r.book.Add(row+requestsRow, name, float64(before[0]))
	r.book.Add(row+wireRow, name, wire)
	fmt.Fprintf(r.progress, "%-44s %-14s %8s s %8s s CPU %6s MiB resident %7d requests %8s MiB on the wire\n", row, name,
		measure.Short(took.Wall.Seconds()), measure.Short(took.CPU.Seconds()), measure.Short(took.Peak), before[0], measure.Short(wire))
	return nil
}
