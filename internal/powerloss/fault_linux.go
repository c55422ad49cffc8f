package powerloss

import "syscall"

// call is a kind of call that a fault may refuse.
type call uint8

const (
	callCreate call = 1 << iota // a file, folder or symbolic link is made
	callName                    // link, rename, chmod
	callRemove
	callWrite // bytes and lengths
	callSync
)

// A Fault refuses calls. The zero Fault refuses none.
type Fault struct {
	Errno syscall.Errno
	// From is the number of the first call that is refused, of those that this Errno can
	// meet, counted from 0 when the Fault was set.
	From int
	// Times is how many calls are refused; 0: all until the Fault is taken away.
	Times int
	// Inodes limits a full disk to its inodes: only what makes a file fails.
	Inodes bool
}

// meets returns the calls that the error can come from.
func (f Fault) meets() call {
	switch f.Errno {
	case 0:
		// Nothing is refused; every call is counted.
		return callCreate | callName | callRemove | callWrite | callSync
	case syscall.ENOSPC, syscall.EDQUOT:
		if f.Inodes {
			return callCreate
		}
		// Links and renames may need a block for the folder; a late allocation fails in the sync.
		return callCreate | callName | callWrite | callSync
	}
	return callCreate | callName | callRemove | callWrite | callSync
}

// refuse counts the call and returns its error, or 0. s.mu is held.
func (s *state) refuse(c call) syscall.Errno {
	if s.meetsKill(); s.dead {
		return syscall.EIO // nobody is there any more to be told
	}
	if s.fault.meets()&c == 0 {
		return 0
	}
	n := s.calls
	s.calls++
	if s.fault.Errno == 0 || n < s.fault.From || s.fault.Times > 0 && n >= s.fault.From+s.fault.Times {
		return 0
	}
	if s.fault.Errno == syscall.EROFS && c == callSync {
		return 0 // what was written before stays, and there is nothing to write
	}
	s.hit++
	return s.fault.Errno
}
