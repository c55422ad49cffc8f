package mounttest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// childEnv is set for a test binary that was started as a child.
const childEnv = "SHEAF_MOUNTTEST_CHILD"

// Child does the work of a child and exits, if this process was started as one by Run.
// TestMain calls it before anything else.
func Child() {
	job := os.Getenv(childEnv)
	if job == "" {
		return
	}
	args := strings.Split(job, "\n")
	if err := runChild(args[0], args[1:], bufio.NewReader(os.Stdin)); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runChild does one job. It answers in lines, and waits for lines.
func runChild(job string, args []string, in *bufio.Reader) error {
	wait := func() error { _, err := in.ReadString('\n'); return err }
	switch job {
	case "echo":
		fmt.Println(args[0])
		return nil
	case "umask": // mask, path
		mask, err := strconv.ParseInt(args[0], 8, 32)
		if err != nil {
			return err
		}
		unix.Umask(int(mask))
		if err := os.WriteFile(args[1], nil, 0o666); err != nil {
			return err
		}
		if err := os.Mkdir(args[1]+".d", 0o777); err != nil {
			return err
		}
		fmt.Println("done")
		return nil
	case "getcwd":
		for {
			// Not os.Getwd, which trusts the environment.
			dir, err := unix.Getwd()
			if err != nil {
				return err
			}
			fmt.Println(dir)
			if err := wait(); err != nil {
				return nil //nolint:nilerr // the parent is done
			}
		}
	case "flock", "fcntl": // path, and for fcntl start and length
		return childLocks(job, args, wait)
	case "append": // path, letter, count
		return childAppends(args)
	}
	return fmt.Errorf("job %q: %w", job, os.ErrInvalid)
}

// childLocks tries to lock at each line, says "locked" or "busy", and keeps what it has until
// the next line.
func childLocks(job string, args []string, wait func() error) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		switch err := tryLock(f, job, args[1:]); err {
		case nil:
			fmt.Println("locked")
		case unix.EAGAIN, unix.EACCES:
			fmt.Println("busy")
		default:
			return err
		}
		if err := wait(); err != nil {
			return nil
		}
	}
}

// tryLock takes a lock for writing without waiting: of the whole file (flock), or of a range
// (fcntl).
func tryLock(f *os.File, job string, args []string) error {
	if job == "flock" {
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	start, errStart := strconv.ParseInt(args[0], 10, 64)
	n, errLen := strconv.ParseInt(args[1], 10, 64)
	if errStart != nil || errLen != nil {
		return unix.EINVAL
	}
	return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: n})
}

func childAppends(args []string) error {
	f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	for range count {
		if _, err := f.Write([]byte(strings.Repeat(args[1], 99) + "\n")); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Println("done")
	return nil
}

// child is a running child.
type child struct {
	s     *suite
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	ended bool
}

// child starts a child for a job, in the folder under test. program is "" for this
// test binary, or a copy of it.
func (s *suite) child(program, job string, args ...string) *child {
	s.Helper()
	return s.childIn(s.dir, program, job, args...)
}

func (s *suite) childIn(dir, program, job string, args ...string) *child {
	s.Helper()
	if program == "" {
		program = "/proc/self/exe"
		if p, err := os.Executable(); err == nil {
			program = filepath.Clean(p)
		}
	}
	c := &child{s: s, cmd: exec.Command(program)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(append([]string{job}, args...), "\n"))
	c.cmd.Dir = dir
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	s.ok(err)
	out, err := c.cmd.StdoutPipe()
	s.ok(err)
	c.in, c.out = in, bufio.NewReader(out)
	s.ok(c.cmd.Start())
	s.Cleanup(func() {
		if !c.ended {
			c.kill()
		}
	})
	return c
}

// line returns the next line that the child says.
func (c *child) line() string {
	c.s.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.s.Fatalf("a child says nothing: %v; does TestMain call mounttest.Child?", err)
	}
	return strings.TrimSuffix(line, "\n")
}

// ask sends an empty line and returns the answer.
func (c *child) ask() string {
	c.s.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		c.s.Fatalf("talk to a child: %v", err)
	}
	return c.line()
}

// end lets the child end by itself.
func (c *child) end() {
	c.s.Helper()
	c.ended = true
	c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		c.s.Errorf("a child ended with: %v", err)
	}
}

// kill ends the child at once.
func (c *child) kill() {
	c.ended = true
	if err := c.cmd.Process.Kill(); err != nil {
		c.s.Logf("kill a child: %v", err)
	}
	c.in.Close()
	_ = c.cmd.Wait() // it was killed, and says so
}
