package powerloss

import (
	"fmt"
	"os"
	"syscall"
)

// A Kill ends the process that uses the disk by SIGKILL, at one call that changes the disk: a file, folder or link is made, a name
// changes or goes, bytes, a length or permissions change, or something is synced. The process never gets the answer to
// that call, and of its other calls that are under way nothing is done any more. The zero Kill ends nothing and counts on.
type Kill struct {
	Pid int // 0: none
	// At is the number of the call, counted from 0 when the Kill was set.
	At int
	// Before: the call is not carried out; otherwise it is.
	Before bool
}

// meetsKill counts a call, and kills if it is the one to be met before it is carried out. s.mu is held.
func (s *state) meetsKill() {
	if s.dead {
		return
	}
	if s.kill.Pid != 0 && s.kill.Before && s.changes == s.kill.At {
		s.end()
	}
	s.changes++
}

// done unlocks s.mu after a call that may have changed the disk. If it is one after which a process is to be killed, that is done
// first: the answer goes out later, to a process that runs no more.
func (s *state) done() {
	if s.kill.Pid != 0 && !s.dead && !s.kill.Before && s.changes > s.kill.At {
		s.end()
	}
	s.mu.Unlock()
}

func (s *state) end() {
	s.dead = true
	if err := syscall.Kill(s.kill.Pid, syscall.SIGKILL); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "powerloss: kill:", err)
	}
}

// SetKill sets a Kill and counts from 0 again.
func (c *service) SetKill(k Kill, _ *int) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.kill, c.s.changes, c.s.dead = k, 0, false
	return nil
}

// Changes are counts since the Kill was set.
type Changes struct {
	Calls  int  // that changed the disk, or were to
	Killed bool // somebody was
}

// Changes answers with them.
func (c *service) Changes(_ int, n *Changes) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	*n = Changes{c.s.changes, c.s.dead}
	return nil
}

// Again makes the disk what it was at the last Reset, or at first.
func (c *service) Again(_ int, _ *int) error {
	if err := c.fs.Unmount(); err != nil {
		return err
	}
	c.s = newState(c.s.start)
	return c.mount()
}

// SetKill replaces the Kill.
func (d *Disk) SetKill(k Kill) {
	d.t.Helper()
	d.ask("SetKill", k, nil)
}

// Changes returns how many calls changed the disk since the Kill was set, and whether it has killed.
func (d *Disk) Changes() (c Changes) {
	d.t.Helper()
	d.ask("Changes", 0, &c)
	return c
}

// Again makes the disk what it was at the last Reset, or empty, as it was at first. No file may be open.
func (d *Disk) Again() {
	d.t.Helper()
	d.ask("Again", 0, nil)
}
