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
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/bench/measure"
	"github.com/sheaf-drive/sheaf/internal/longline"
)

// A config is what the flags say.
type config struct {
	measure.Flags
	programs map[string]string
	systems  []string // that are measured; the first is ours
	rows     *regexp.Regexp
	line     longline.Options // the zero Options: both ends are on one loopback
}

func main() { measure.Main("peerbench", command) }

func command(ctx context.Context, args []string) error {
	c := config{programs: map[string]string{}}
	var croc, systems, rows string
	var trip time.Duration
	var rate int64
	var loss float64
	err := c.Parse("peerbench", 3, args, func(f *flag.FlagSet) {
		f.StringVar(&croc, "croc", os.Getenv("CROC"), "the `program` croc (environment: CROC); without it, the one in PATH")
		f.StringVar(&systems, "systems", strings.Join(systemNames, ","), "which `systems` are measured")
		f.StringVar(&rows, "rows", "", "a `pattern` of the rows that are measured; what they need goes before")
		f.DurationVar(&trip, "trip", 0, "puts the ends at a line, over which a round `trip` takes that long")
		f.Int64Var(&rate, "rate", 0, "how many `Mbit` go over the line in a second, each way; 0: as many as come")
		f.Float64Var(&loss, "loss", 0, "how many `percent` of the packets get lost on the line, each way")
	})
	if errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if trip < 0 || rate < 0 || loss < 0 || loss > 100 {
		return errors.New("trip and rate are not below 0, and loss is from 0 to 100")
	}
	c.line = longline.Options{Delay: trip / 2, Rate: rate * 1_000_000, Loss: loss / 100}
	if c.rows, err = regexp.Compile(rows); err != nil {
		return fmt.Errorf("rows: %w", err)
	}
	if err := c.find(croc, strings.Split(systems, ",")); err != nil {
		return err
	}
	return bench(ctx, c, os.Stdout, os.Stderr)
}

// find finds the programs. A rival that is not there is left out.
func (c *config) find(croc string, wanted []string) (err error) {
	if c.programs[sheafName], err = c.Program(); err != nil {
		return err
	}
	for _, name := range []string{"ip", "nsenter", "curl", "ssh", "ssh-keygen", "sshd", syncthingName, rsyncName, crocName} {
		at := name
		if name == crocName && croc != "" {
			at = croc
		}
		if p, err := exec.LookPath(at); err == nil {
			c.programs[name] = p
		} else if p := filepath.Join("/usr/sbin", name); isThere(p) {
			c.programs[name] = p
		}
	}
	for name, needs := range map[string][]string{
		syncthingName: {syncthingName, "curl"}, rsyncName: {rsyncName, "ssh", "sshd", "ssh-keygen"}, crocName: {crocName}, sheafName: {"ip", "nsenter"},
	} {
		for _, p := range needs {
			switch {
			case c.programs[p] != "":
			case name == sheafName:
				return fmt.Errorf("%s is missing: run scripts/deps", p)
			default:
				delete(c.programs, name)
			}
		}
	}
	for _, name := range systemNames {
		if c.programs[name] != "" && slices.Contains(wanted, name) {
			c.systems = append(c.systems, name)
		}
	}
	if !slices.Contains(c.systems, sheafName) && len(wanted) == len(systemNames) {
		return errors.New("sheaf is missing")
	}
	return nil
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// bench measures all rows and prints them. What it made is gone when it returns.
func bench(ctx context.Context, c config, out, progress io.Writer) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("only root makes network namespaces: run it as root")
	}
	if err := measure.Room(c.Dir, int64(24*1024/c.Scale+512)); err != nil {
		return err
	}
	work, err := os.MkdirTemp(c.Dir, "peerbench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	var versions [][]string
	for name, flag := range map[string]string{sheafName: "version", syncthingName: "--version", rsyncName: "--version", crocName: "--version"} {
		if slices.Contains(c.systems, name) {
			versions = append(versions, []string{c.programs[name], flag})
		}
	}
	slices.SortFunc(versions, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	m, err := measure.Describe(ctx, work, c.Rounds, c.Scale, versions)
	if err != nil {
		return err
	}
	m.Print(progress)
	l, err := newLoad(work, c.Scale)
	if err != nil {
		return fmt.Errorf("make the data: %w", err)
	}
	all := steps(l)
	r := newRunner(c, l, all, progress)
	data := fmt.Sprintf("big file %d MiB, %d small files of %d MiB", l.bigSize>>20, l.files, l.smallSize>>20)
	if c.line != (longline.Options{}) {
		data += fmt.Sprintf("; a line of %v there and back, %d Mbit/s, %g %% lost", 2*c.line.Delay, c.line.Rate/1_000_000, 100*c.line.Loss)
	}
	return measure.Rounds(out, m, r.book, data, c.Out, func(i int) error { return r.round(ctx, filepath.Join(work, "round"), all, i) })
}

// A runner measures, round by round.
type runner struct {
	config
	load     *load
	book     *measure.Book
	progress io.Writer
}

func newRunner(c config, l *load, all []step, progress io.Writer) *runner {
	var against []string
	for _, name := range []string{rsyncName, syncthingName} {
		if slices.Contains(c.systems, name) {
			against = append(against, name)
		}
	}
	return &runner{config: c, load: l, progress: progress, book: measure.NewBook(c.systems, against, rowsOf(all))}
}

// round makes all systems anew, does all steps on each in turn, and removes them.
func (r *runner) round(ctx context.Context, base string, all []step, n int) (err error) {
	var systems []system
	defer func() {
		for _, s := range systems {
			err = errors.Join(err, s.stop())
		}
		err = errors.Join(err, os.RemoveAll(base))
	}()
	peak := map[string]float64{}
	for _, name := range r.systems {
		s, err := newSystem(name, filepath.Join(base, name), r.config)
		if s != nil {
			systems = append(systems, s)
		}
		if err == nil {
			err = s.start(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for i, st := range all {
		if !r.rows.MatchString(st.name) && !st.needed {
			continue
		}
		for _, s := range measure.Turned(systems, n+i) {
			if s.does(st) == "" {
				most, err := r.step(ctx, st, s, n == 0)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", s.base().name, st.name, err)
				}
				peak[s.base().name] = max(peak[s.base().name], most)
			} else {
				r.book.Skip(st.name, s.base().name, s.does(st))
			}
		}
	}
	for name, mib := range peak {
		r.book.Add(peakRow, name, mib)
	}
	return nil
}

// step does one step on one system, and returns the most memory that its processes had together, in MiB.
func (r *runner) step(ctx context.Context, st step, s system, first bool) (peak float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	b := s.base()
	if err := st.put(b.source, r.load); err != nil {
		return 0, err
	}
	unix.Sync() // so that nobody pays for another's writes
	if err := b.rests(ctx); err != nil {
		return 0, err
	}
	before, err := b.used()
	if err != nil {
		return 0, err
	}
	watch := b.watch()
	begin := time.Now()
	written, cpu, err := s.bring(ctx, st, r.load)
	if err == nil {
		err = st.await(ctx, b.target, r.load)
	}
	wall := time.Since(begin)
	if err == nil {
		err = s.settle(ctx)
	}
	all := time.Since(begin)
	peak = watch()
	if err != nil {
		return peak, err
	}
	if err := b.rests(ctx); err != nil { // what is done late is paid for, too
		return peak, err
	}
	after, err := b.used()
	if err != nil {
		return peak, err
	}
	if first {
		if err := st.compare(ctx, b.target, r.load); err != nil {
			return peak, err
		}
	}
	cpu += after.cpu - before.cpu
	wire := float64(after.wire-before.wire) / (1 << 20)
	r.book.Add(st.name, b.name, wall.Seconds())
	r.book.Add(st.name+onTheWire, b.name, wire)
	r.book.Add(st.name+", CPU", b.name, cpu.Seconds())
	late := ""
	if b.name == sheafName && st.writes {
		r.book.Add(st.name+", since it was written", b.name, (wall - written).Seconds())
		r.book.Add(st.name+", all is there", b.name, all.Seconds())
		late = fmt.Sprintf(", %s s to write it, %s s until all is there", measure.Short(written.Seconds()), measure.Short(all.Seconds()))
	}
	fmt.Fprintf(r.progress, "%-24s %-10s %8s s %8s s CPU %8s MiB on the wire%s\n", st.name, b.name,
		measure.Short(wall.Seconds()), measure.Short(cpu.Seconds()), measure.Short(wire), late)
	return peak, nil
}
