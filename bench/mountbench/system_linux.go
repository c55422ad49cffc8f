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
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// The limits of a server's life.
const (
	startWait = time.Minute     // until it answers
	stopWait  = 5 * time.Minute // until it has put away what it holds
	idleWait  = 3 * time.Minute // until it does nothing in the background any more
	idleStep  = time.Second / 5 // between two looks at its processor time
	idleTicks = int64(1)        // of 10 ms, in one step
)

// A system is a file system under test: a folder, and the process that serves it.
type system struct {
	name string
	dir  string // where it is seen
	// serve is the command that serves dir in the foreground; nil if the kernel alone does.
	serve []string
	// away is the command that unmounts it; nil if SIGTERM does.
	away []string
	// rest is the command that waits until nothing is left to be stored; nil if there is none.
	rest []string
	env  []string

	cmd  *exec.Cmd
	log  *output       // what the server says
	done chan struct{} // closed when it has ended; then err is set
	err  error
	peak float64 // the most memory that it has had since it was made, in MiB
}

// newSystem makes the folders of a system below base, and a new file system in them.
func newSystem(ctx context.Context, name, base string, c config) (*system, error) {
	s := &system{name: name, dir: filepath.Join(base, "mnt")}
	lower := filepath.Join(base, "lower")
	for _, d := range []string{s.dir, lower} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	var make []string
	switch name {
	case juiceName:
		// As its own guide has it: a metadata engine in a file, chunks in a folder, encrypted by a key in a file. Its
		// cache, which it always needs, is on the same disk.
		key, meta := filepath.Join(base, "key.pem"), "sqlite3://"+filepath.Join(base, "meta.db")
		if _, err := measure.Output(ctx, base, nil, nil, "openssl", "genrsa", "-out", key, "-aes256", "-passout", "pass:bench", "2048"); err != nil {
			return nil, err
		}
		s.env = []string{"HOME=" + base, "JFS_RSA_PASSPHRASE=bench", "JFS_NO_UPDATE=1"}
		make = []string{c.juice, "format", "--quiet", "--storage", "file", "--bucket", lower + "/", "--encrypt-rsa-key", key, meta, "bench"}
		s.serve = []string{c.juice, "mount", "--no-usage-report", "--no-syslog", "--log", filepath.Join(base, "log"), "--cache-dir", filepath.Join(base, "cache"), meta, s.dir}
		s.away = []string{c.juice, "umount", s.dir}
	case sheafName:
		s.env = []string{"HOME=" + lower, "SHEAF_STORE=" + filepath.Join(lower, "packs")}
		home := []string{c.Sheaf, "--home", filepath.Join(lower, "home")}
		make = append(home[:3:3], "init", "--quiet", "--device-name", "bench")
		s.serve = append(home[:3:3], "mount", "--foreground", s.dir)
		s.rest = append(home[:3:3], "wait", "--quiet")
	case cryptName:
		pass := []string{"-q", "-extpass", "echo bench"}
		make = append([]string{c.crypt, "-init", "-scryptn", "10"}, append(pass, lower)...)
		s.serve = append([]string{c.crypt, "-fg"}, append(pass, lower, s.dir)...)
	case nullName:
		s.serve = []string{c.self, "-serve-null", s.dir}
	}
	if make != nil {
		if _, err := measure.Output(ctx, s.dir, s.env, nil, make...); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// start serves the folder, and returns when it answers. The server outlives ctx: stop ends it.
func (s *system) start(ctx context.Context) error {
	if s.serve == nil {
		return nil
	}
	s.log, s.done = &output{}, make(chan struct{})
	// Not of ctx: a server that is killed leaves its mount behind.
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), s.serve[0], s.serve[1:]...)
	s.cmd.Env = append(os.Environ(), s.env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	// A group of its own: an interruption at the terminal is for this process only.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	go func() { // ends with the server, for which stop waits
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	limit := time.After(startWait)
	for !measure.Mounted(s.dir) {
		select {
		case <-s.done:
			err := s.err
			s.cmd = nil
			return fmt.Errorf("start %s: it ended: %w: %s", s.name, err, s.log)
		case <-limit:
			return errors.Join(fmt.Errorf("start %s: it does not mount", s.name), s.stop())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.stop())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// An output is what a program has printed so far. It is safe for concurrent use.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// stop unmounts and waits for the end of the server, by force if it must. It takes no
// context: it is what is done after an interruption.
func (s *system) stop() error {
	if s.cmd == nil {
		return nil
	}
	s.resident()
	defer func() { s.cmd = nil }()
	// All three unmount on SIGTERM; a folder that a dying program still has open is
	// tried again.
	limit := time.After(stopWait)
	for tries := 0; ; tries++ {
		if s.away != nil {
			_ = exec.Command(s.away[0], s.away[1:]...).Run() //nolint:noctx // its end is waited for below
		} else if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", s.name, err)
		}
		select {
		case <-s.done:
			if measure.Mounted(s.dir) {
				return errors.Join(fmt.Errorf("stop %s: it left its mount: %w: %s", s.name, s.err, s.log), measure.Detach(s.dir))
			}
			var exit *exec.ExitError
			// gocryptfs and sheaf end with a code of their own when a signal ended them.
			if s.err != nil && !errors.As(s.err, &exit) {
				return fmt.Errorf("stop %s: %w", s.name, s.err)
			}
			return nil
		case <-limit:
			err := errors.Join(fmt.Errorf("stop %s: it does not end", s.name), measure.Detach(s.dir), s.cmd.Process.Kill())
			<-s.done
			return err
		case <-time.After(10 * time.Second):
		}
	}
}

// restart serves the folder by a new process, which has nothing in its memory yet.
func (s *system) restart(ctx context.Context) error {
	if err := s.stop(); err != nil {
		return err
	}
	return s.start(ctx)
}

// resident returns the memory that the server has now and the most that it had since the
// system was made, in MiB; ok is false if there is none.
func (s *system) resident() (now, peak float64, ok bool) {
	if s.cmd == nil {
		return 0, 0, false
	}
	b, err := os.ReadFile(s.proc("status"))
	if err != nil {
		return 0, 0, false
	}
	now = measure.KiB(measure.Field(string(b), "VmRSS"))
	s.peak = max(s.peak, measure.KiB(measure.Field(string(b), "VmHWM")))
	return now, s.peak, now > 0
}

// proc names a file of the server in /proc.
func (s *system) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), file)
}

// settle writes back all that the kernel holds, has the server store what it would store
// some seconds later, and waits until it has nothing to do any more, so that it does not
// disturb who comes next. It returns what that took, without the last look that finds it idle.
func (s *system) settle(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	f, err := os.Open(s.dir)
	if err != nil {
		return 0, err
	}
	err = unix.Syncfs(int(f.Fd()))
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("syncfs of %s: %w", s.name, err)
	}
	if s.rest != nil {
		if _, err := measure.Output(ctx, filepath.Dir(s.dir), s.env, nil, s.rest...); err != nil {
			return 0, err
		}
	}
	took := time.Since(begin)
	if s.cmd == nil {
		return took, nil
	}
	var last int64
	for first := true; time.Since(begin) < idleWait; first = false {
		b, err := os.ReadFile(s.proc("stat"))
		if err != nil {
			return 0, fmt.Errorf("%s ended: %w: %s", s.name, err, s.log)
		}
		now, err := measure.Ticks(string(b))
		if err != nil {
			return 0, err
		}
		if !first && now-last <= idleTicks {
			return took, nil
		}
		if last = now; !first {
			took = time.Since(begin)
		}
		if err := pause(ctx, idleStep); err != nil {
			return 0, err
		}
	}
	return took, nil
}

// pause waits, unless it is interrupted.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// timed runs a program in dir, throws away what it prints, and returns how long it took.
func timed(ctx context.Context, dir string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), quietGit...)
	var says bytes.Buffer
	cmd.Stderr = &says
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, says.Bytes())
	}
	return took, nil
}
