package live

import (
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// The times of a thing.
const (
	atime = iota
	mtime
	ctime
	btime
	numTimes
)

// moments are the times of a thing, in half of the memory that as many time.Time take: a tree has them once for each
// file that the system knows.
type moments struct {
	sec  [numTimes]int64 // since 1970
	nsec [numTimes]int32
}

func allAt(t time.Time) moments {
	var m moments
	m.setAll(t, t, t, t)
	return m
}

func (m *moments) setAll(t ...time.Time) {
	for i, t := range t {
		m.set(i, t)
	}
}

func (m *moments) set(i int, t time.Time) {
	m.sec[i], m.nsec[i] = t.Unix(), int32(t.Nanosecond()) //nolint:gosec // it is less than 1e9
}

// at returns the time of that index: the zero time if that was set.
func (m *moments) at(i int) time.Time { return time.Unix(m.sec[i], int64(m.nsec[i])).UTC() }

func (n *node) target() string {
	if n.rare == nil {
		return ""
	}
	return n.rare.target
}

// xattrs returns the extended attributes of n, in the order of their names.
func (n *node) xattrs() []manifest.Xattr {
	if n.rare == nil {
		return nil
	}
	return n.rare.xattr
}

func (n *node) setXattrs(all []manifest.Xattr, now time.Time) {
	r := n.allRare()
	r.xattr = all
	n.setRare(r)
	n.attr.set(ctime, now)
	n.attr.changed = true
}

func (n *node) setPast(past []causal.Dot) {
	r := n.allRare()
	r.past = past
	n.setRare(r)
}

func (n *node) allRare() rare {
	if n.rare == nil {
		return rare{}
	}
	return *n.rare
}

func (n *node) setRare(r rare) {
	if len(r.past) == 0 && len(r.xattr) == 0 && r.target == "" {
		n.rare = nil
		return
	}
	kept := r // r itself would be on the heap each time, also where there is nothing to keep
	n.rare = &kept
}
