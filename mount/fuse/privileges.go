//go:build linux || darwin

package fuse

import (
	"context"
	"sync/atomic"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// The mode bits that lend rights.
const (
	setUID   vfs.Mode = 0o4000
	setGID   vfs.Mode = 0o2000
	groupRun vfs.Mode = 0o010
)

// capsXattr holds a file's capabilities.
const capsXattr = "security.capability"

// An absence remembers that a node has no extended attribute of some name, so that
// not every write has to ask. The zero absence knows nothing. It is safe for
// concurrent use: what was learnt before the attribute was set is not believed after.
type absence struct{ v atomic.Uint64 } // odd: absent

// seen returns whether the attribute is known to be absent, and a mark for learn.
func (a *absence) seen() (mark uint64, absent bool) {
	v := a.v.Load()
	return v, v%2 == 1
}

// learn notes that it is absent, if nobody called unknown since mark.
func (a *absence) learn(mark uint64) { a.v.CompareAndSwap(mark, mark|1) }

// unknown forgets what was learnt.
func (a *absence) unknown() {
	for {
		v := a.v.Load()
		if a.v.CompareAndSwap(v, (v|1)+1) {
			return
		}
	}
}

// lowered returns the mode that a file has once it was written or given away by somebody
// who may not keep its rights: without setuid, and without setgid if the group may
// run it (else that bit asks for mandatory locks).
func lowered(a *vfs.Attr) vfs.Mode {
	m := a.Mode &^ setUID
	if m&groupRun != 0 {
		m &^= setGID
	}
	return m
}

// dropPrivileges makes c, a change of n, take the rights away that the change ends: a new
// owner ends all, a new length ends the capabilities, and the setuid and setgid
// bits too if kill is set. The capabilities are taken at once, the bits with c.
func (s *server) dropPrivileges(ctx context.Context, n *inode, c *vfs.AttrChange, kill bool) error {
	given := c.Set&(vfs.SetUID|vfs.SetGID) != 0 && n.kind != vfs.KindDir
	sized := c.Set&vfs.SetSize != 0
	if !given && !sized {
		return nil
	}
	if given || kill {
		mode := c.Mode
		if c.Set&vfs.SetMode == 0 {
			a, err := n.node.Attr(ctx)
			if err != nil {
				return err
			}
			mode = a.Mode
		}
		if low := lowered(&vfs.Attr{Mode: mode}); low != mode {
			c.Set |= vfs.SetMode
			c.Mode = low
		}
	}
	return s.dropCaps(ctx, n)
}

// written takes the rights away that a write to n ends: the capabilities, and the
// setuid and setgid bits too if kill is set.
func (s *server) written(ctx context.Context, n *inode, kill bool) error {
	if kill {
		if err := s.lower(ctx, n, lowered); err != nil {
			return err
		}
	}
	return s.dropCaps(ctx, n)
}

// writtenBy is written for a request that does not say whether its caller may keep the bits: root may, and who is
// not of the file's group may keep none.
func (s *server) writtenBy(ctx context.Context, n *inode, by gofuse.Caller) error {
	if by.Uid != 0 {
		err := s.lower(ctx, n, func(a *vfs.Attr) vfs.Mode {
			if by.Gid != a.GID {
				return a.Mode &^ (setUID | setGID)
			}
			return lowered(a)
		})
		if err != nil {
			return err
		}
	}
	return s.dropCaps(ctx, n)
}

// lower gives n the mode that to returns.
func (s *server) lower(ctx context.Context, n *inode, to func(*vfs.Attr) vfs.Mode) error {
	a, err := n.node.Attr(ctx)
	if err != nil {
		return err
	}
	if low := to(&a); low != a.Mode {
		if _, err := n.node.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetMode, Mode: low}); err != nil {
			return err
		}
		s.dropAttr(n) // the kernel would go on believing in the old mode
	}
	return nil
}

func (s *server) dropCaps(ctx context.Context, n *inode) error {
	mark, absent := n.noCaps.seen()
	if absent {
		return nil
	}
	if err := n.node.RemoveXattr(ctx, capsXattr); err != nil && !isNoXattr(err) {
		return err
	}
	n.noCaps.learn(mark)
	return nil
}
