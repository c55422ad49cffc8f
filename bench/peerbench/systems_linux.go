package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sheaf-drive/sheaf/bench/measure"
	"github.com/sheaf-drive/sheaf/internal/longline"
)

// The names of the systems. The first is the one that the others are compared with.
const (
	sheafName     = "sheaf"
	syncthingName = "syncthing"
	rsyncName     = "rsync"
	crocName      = "croc"
)

var systemNames = []string{sheafName, rsyncName, syncthingName, crocName}

// A system has two ends, in one network namespace, or over a line in one each.
type system interface {
	base() *ends
	start(ctx context.Context) error
	// does says why a step is none for this system; "": it does it.
	does(st step) string
	// bring has the source be what the step wants, and the second end told. It returns how long the source took to write, for a system that writes by itself, and
	// the processor time of programs that ended.
	bring(ctx context.Context, st step, l *load) (written, cpu time.Duration, err error)
	// settle returns when all is at the second end, as far as the system says.
	settle(ctx context.Context) error
	stop() error
}

// ends are what all systems have.
type ends struct {
	name           string
	dir            string         // all that it makes lies here
	source, target string         // the folders; source is "" for a system that writes by itself
	spaces         [2]string      // of the network, by end; the same twice if there is no line
	inodes         [2]string      // by which processes in them are known
	addr           [2]string      // at which each end is reached
	line           *longline.Line // nil: it is the loopback
	c              config
	procs          []*exec.Cmd // that run until stop
}

func newSystem(name, dir string, c config) (system, error) {
	b := &ends{name: name, dir: dir, source: filepath.Join(dir, "source"), target: filepath.Join(dir, "target"), c: c, addr: [2]string{"127.0.0.1", "127.0.0.1"}}
	for _, d := range []string{b.source, b.target} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	var s system
	switch name {
	case sheafName:
		s = &sheafPair{ends: b}
	case syncthingName:
		s = &syncthingPair{ends: b}
	case rsyncName:
		s = &rsyncPair{ends: b}
	case crocName:
		s = &crocPair{ends: b}
	default:
		return nil, fmt.Errorf("no system is called %s", name)
	}
	return s, b.network()
}

// network makes the namespaces, and the line.
func (b *ends) network() error {
	space := fmt.Sprintf("pb%d-%s", os.Getpid(), b.name)
	names := []string{space}
	if b.c.line != (longline.Options{}) {
		names = append(names, space+"-2")
		b.addr = [2]string{longline.Left, longline.Right}
	}
	for i, name := range names {
		ip := b.c.programs["ip"]
		for _, args := range [][]string{{ip, "netns", "add", name}, {ip, "-n", name, "link", "set", "lo", "up"}} {
			if _, err := measure.Output(context.Background(), b.dir, nil, nil, args...); err != nil {
				return err
			}
		}
		for end := i; end < 2; end++ {
			b.spaces[end] = name
			out, err := b.output(context.Background(), end, nil, "readlink", "/proc/self/ns/net")
			if err != nil {
				return err
			}
			b.inodes[end] = strings.TrimSpace(string(out))
		}
	}
	if len(names) == 1 {
		return nil
	}
	var err error
	b.line, err = longline.Open(context.Background(), b.spaces[0], b.spaces[1], b.c.line)
	return err
}

func (b *ends) base() *ends { return b }

// in returns a command as it is run in the namespace of an end.
func (b *ends) in(end int, args ...string) []string {
	return append([]string{b.c.programs["nsenter"], "--net=/run/netns/" + b.spaces[end]}, args...)
}

func (b *ends) output(ctx context.Context, end int, env []string, args ...string) ([]byte, error) {
	return measure.Output(ctx, b.dir, env, nil, b.in(end, args...)...)
}

// run runs a program to its end, and returns its processor time.
func (b *ends) run(ctx context.Context, end int, env []string, args ...string) (time.Duration, error) {
	t, err := measure.Run(ctx, b.dir, env, b.in(end, args...)...)
	return t.CPU, err
}

// keep runs a program until stop.
func (b *ends) keep(end int, env []string, args ...string) error {
	in := b.in(end, args...)
	cmd := exec.Command(in[0], in[1:]...) //nolint:noctx // it lives longer than a call
	cmd.Dir, cmd.Env = b.dir, append(os.Environ(), env...)
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the program has its own
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.procs = append(b.procs, cmd)
	return nil
}

// stop ends what keep began, and the network.
func (b *ends) stop() error {
	for _, p := range b.procs {
		_ = p.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(10*time.Second, func() { _ = p.Process.Kill() })
		_ = p.Wait() // it was told to end
		timer.Stop()
	}
	var errs []error
	if b.line != nil {
		errs = append(errs, b.line.Close())
	}
	for i, name := range b.spaces {
		if name != "" && (i == 0 || name != b.spaces[0]) {
			_, err := measure.Output(context.Background(), "/", nil, nil, b.c.programs["ip"], "netns", "del", name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// usage is what was used until a moment.
type usage struct {
	cpu  time.Duration // by all processes in the namespaces and those of theirs that ended
	wire int64         // bytes over the loopback, or over the line, with the headers of IP
}

func (b *ends) used() (u usage, err error) {
	if u.wire, err = b.wire(); err != nil {
		return u, err
	}
	var ticks int64
	for _, pid := range b.pids() {
		p, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			continue // it has just ended
		}
		rest := strings.Fields(string(p[bytes.LastIndexByte(p, ')')+1:]))
		for _, i := range []int{11, 12, 13, 14} { // utime, stime, and those of children that were waited for
			if i < len(rest) {
				n, err := strconv.ParseInt(rest[i], 10, 64)
				if err != nil {
					return u, err
				}
				ticks += n
			}
		}
	}
	u.cpu = time.Duration(ticks) * (time.Second / 100) // USER_HZ, which is 100 on Linux
	return u, nil
}

func (b *ends) wire() (int64, error) {
	if b.line != nil {
		there, back := b.line.Counts()
		return there.Bytes + back.Bytes, nil
	}
	out, err := b.output(context.Background(), 0, nil, "cat", "/proc/net/dev")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(measure.Field(string(out), "lo"))
	if len(f) < 9 {
		return 0, fmt.Errorf("no loopback in %q", out)
	}
	return strconv.ParseInt(f[8], 10, 64)
}

// pids are the processes in the namespaces.
func (b *ends) pids() (all []string) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, p := range procs {
		if name := p.Name(); name[0] >= '1' && name[0] <= '9' {
			if at, err := os.Readlink("/proc/" + name + "/ns/net"); err == nil && (at == b.inodes[0] || at == b.inodes[1]) {
				all = append(all, name)
			}
		}
	}
	return all
}

// rests returns when nothing has computed here for a while.
func (b *ends) rests(ctx context.Context) error {
	const still = 300 * time.Millisecond
	for quiet, last := 0, (usage{cpu: -1}); quiet < 2; {
		now, err := b.used()
		if err != nil {
			return err
		}
		if quiet++; now.cpu-last.cpu > 20*time.Millisecond || last.cpu < 0 || now.wire-last.wire > 4096 {
			quiet = 0
		}
		last = now
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not come to rest: %w", ctx.Err())
		case <-time.After(still):
		}
	}
	return nil
}

// watch looks how much memory the processes have, until what it returns is called: that is the most they had at one moment.
func (b *ends) watch() func() float64 {
	stop, most := make(chan struct{}), make(chan float64, 1)
	go func() {
		peak := 0.0
		for {
			sum := 0.0
			for _, pid := range b.pids() {
				if p, err := os.ReadFile("/proc/" + pid + "/status"); err == nil {
					sum += measure.KiB(measure.Field(string(p), "VmRSS"))
				}
			}
			peak = max(peak, sum)
			select {
			case <-stop:
				most <- peak
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() float64 { close(stop); return <-most }
}
