package powerloss

import (
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// childEnv is set for a test binary that is to serve a disk: the folder where it is mounted.
const childEnv = "SHEAF_POWERLOSS_CHILD"

// Child serves a disk and does not return, if this process was started for that. TestMain calls it first.
func Child() {
	dir := os.Getenv(childEnv)
	if dir == "" {
		return
	}
	// Who stops the test stops its whole group; what ends this process is the end of its input.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	c := &service{dir: dir, s: newState(emptyImage())}
	err := c.mount()
	if err == nil {
		s := rpc.NewServer()
		err = s.RegisterName("Disk", c)
		if err == nil {
			// Until the test closes its end, or dies.
			s.ServeConn(pipes{os.Stdin, os.Stdout})
		}
		err = errors.Join(err, c.unmount())
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "powerloss:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// pipes are the two ends of the child.
type pipes struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipes) Close() error { return errors.Join(p.ReadCloser.Close(), p.WriteCloser.Close()) }

// service is what the test asks its child.
type service struct {
	dir string
	s   *state
	fs  *fuse.Server
}

func (c *service) mount() (err error) {
	c.fs, err = serve(c.dir, c.s)
	return err
}

func (c *service) unmount() error {
	if err := c.fs.Unmount(); err != nil {
		return syscall.Unmount(c.dir, syscall.MNT_DETACH)
	}
	return nil
}

// Pos answers with the number of events.
func (c *service) Pos(_ int, n *int) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	*n = len(c.s.log)
	return nil
}

// Writes is a Cut and where it goes.
type Writes struct {
	Cut Cut
	Dir string
}

// Write puts a state into a folder.
func (c *service) Write(w Writes, _ *int) error {
	c.s.mu.Lock()
	im := c.s.cut(w.Cut)
	c.s.mu.Unlock()
	return im.write(w.Dir)
}

// Reset makes a state the disk, all of it durable, with an empty log. The file system must not be in use.
func (c *service) Reset(cut Cut, _ *int) error {
	if err := c.fs.Unmount(); err != nil {
		return err
	}
	c.s.mu.Lock()
	im := c.s.cut(cut)
	c.s.mu.Unlock()
	c.s = newState(im)
	return c.mount()
}

// SetFault sets a fault and counts from 0 again.
func (c *service) SetFault(f Fault, _ *int) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.fault, c.s.calls, c.s.hit = f, 0, 0
	return nil
}

// Calls are counts since the fault was set.
type Calls struct {
	Seen, Refused int
}

// Calls answers with how many calls the fault could have met, and how many it did.
func (c *service) Calls(_ int, n *Calls) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	*n = Calls{c.s.calls, c.s.hit}
	return nil
}

// Log answers with some events, for people.
func (c *service) Log(r [2]int, out *[]string) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	paths := map[uint64]string{rootID: ""}
	for i, e := range c.s.log {
		switch e.op {
		case opCreate, opLink:
			paths[e.node] = paths[e.dir] + "/" + e.name
		case opRename:
			paths[e.node] = paths[e.dir2] + "/" + e.name2
		}
		if i < r[0] || i >= r[1] {
			continue
		}
		line := fmt.Sprintf("%d %s %s", i, opNames[e.op], paths[e.node])
		switch e.op {
		case opRemove:
			line += fmt.Sprintf(" %s/%s", paths[e.dir], e.name)
		case opRename, opExchange:
			line += fmt.Sprintf(" from %s/%s", paths[e.dir], e.name)
		case opWrite:
			line += fmt.Sprintf(" %d bytes at %d", len(e.data), e.off)
		case opTruncate:
			line += fmt.Sprintf(" to %d", e.off)
		}
		*out = append(*out, line)
	}
	return nil
}

// A Disk is a mounted disk that remembers.
type Disk struct {
	Dir string // where it is mounted
	t   testing.TB
	rpc *rpc.Client
}

// New mounts an empty disk, which is gone when the test ends.
func New(t testing.TB) *Disk {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testkit.Lacks(t, err)
	}
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0]) //nolint:noctx // it ends when its input does, after all that uses it
	cmd.Env, cmd.Stderr = append(os.Environ(), childEnv+"="+dir), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &Disk{Dir: dir, t: t, rpc: rpc.NewClient(pipes{out, in})}
	t.Cleanup(func() {
		_ = d.rpc.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("disk: %v", err)
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	d.Pos() // it is mounted when it answers
	return d
}

func (d *Disk) ask(what string, arg, answer any) {
	d.t.Helper()
	if err := d.rpc.Call("Disk."+what, arg, answer); err != nil {
		d.t.Fatalf("ask disk: %v", err)
	}
}

// Pos returns the number of events so far, which is the moment now.
func (d *Disk) Pos() (n int) {
	d.t.Helper()
	d.ask("Pos", 0, &n)
	return n
}

// Write puts a state that the disk may be found in into dir, which must be an empty folder.
func (d *Disk) Write(c Cut, dir string) {
	d.t.Helper()
	d.ask("Write", Writes{c, dir}, nil)
}

// Reset makes such a state the disk; moments are counted from 0 again. No file may be open.
func (d *Disk) Reset(c Cut) {
	d.t.Helper()
	d.ask("Reset", c, nil)
}

// SetFault replaces the fault. The zero Fault heals the disk.
func (d *Disk) SetFault(f Fault) {
	d.t.Helper()
	d.ask("SetFault", f, nil)
}

// Calls returns how many calls the fault could have refused since it was set, and how many it did.
func (d *Disk) Calls() (c Calls) {
	d.t.Helper()
	d.ask("Calls", 0, &c)
	return c
}

// Log returns what happened from one moment to another, in words.
func (d *Disk) Log(from, to int) (lines []string) {
	d.t.Helper()
	d.ask("Log", [2]int{from, to}, &lines)
	return lines
}
