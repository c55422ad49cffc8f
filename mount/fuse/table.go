//go:build linux || darwin

package fuse

import (
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/table"
)

// rootID is the node number that the protocol gives the root.
const rootID = 1

// An inode is a node that the kernel knows, under one node number. A node that
// changed behind the mount may have an old one besides, which lives as long as the
// kernel holds it.
type inode struct {
	id   uint64 // the number that the kernel knows it by; never used twice
	node vfs.Node
	ino  uint64
	kind vfs.Kind

	writers atomic.Int32 // open handles that may write: while there are any, the kernel may hold unwritten pages (gathered writes, or maps)
	noCaps  absence      // of file capabilities
	noACL   absence      // of the default ACL of a directory
	listed  listed       // when the kernel was told all of it by a listing

	// The table's lock guards what follows.
	lookups uint64 // how often the kernel was told of it
	at      place  // one name that the kernel may know it by
	more    []place
	stale   bool // the node has a newer number
}

// A place is a name in a directory.
type place struct {
	parent *inode
	name   string
}

// inodes are those that the kernel knows. They are safe for concurrent use.
type inodes struct {
	mu     sync.RWMutex
	byID   table.Map[uint64, *inode]
	byNode table.Map[vfs.Node, *inode]
	old    map[vfs.Node][]*inode // those of a node that have a newer number
	lastID uint64
}

func newInodes(root vfs.Node, ino uint64) *inodes {
	n := &inode{id: rootID, node: root, ino: ino, kind: vfs.KindDir, lookups: 1}
	t := &inodes{old: map[vfs.Node][]*inode{}, lastID: rootID}
	t.byID.Set(rootID, n)
	t.byNode.Set(root, n)
	return t
}

// get returns the inode of that number, or nil.
func (t *inodes) get(id uint64) *inode {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID.Get(id)
}

// known returns the inode of the node, or nil if the kernel does not know it.
func (t *inodes) known(node vfs.Node) *inode {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byNode.Get(node)
}

// at returns the inode of the node if the kernel may know it by that name, or nil.
func (t *inodes) at(node vfs.Node, p place) *inode {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := t.byNode.Get(node)
	if n == nil || !n.has(p) {
		return nil
	}
	return n
}

// knows reports whether the kernel may know the node by that name, under whichever number.
func (t *inodes) knows(node vfs.Node, p place) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for n := range t.all(node) {
		if n.has(p) {
			return true
		}
	}
	return false
}

// all yields the inodes of the node, of all its numbers. t.mu is held.
func (t *inodes) all(node vfs.Node) iter.Seq[*inode] {
	return func(yield func(*inode) bool) {
		if n := t.byNode.Get(node); n != nil && !yield(n) {
			return
		}
		for _, n := range t.old[node] {
			if !yield(n) {
				return
			}
		}
	}
}

// tell returns the inode of node, which the kernel is about to be told of as name in
// parent, and counts that.
func (t *inodes) tell(node vfs.Node, a *vfs.Attr, parent *inode, name string) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byNode.Get(node)
	if n == nil {
		t.lastID++
		n = &inode{id: t.lastID, node: node, ino: a.Ino, kind: a.Kind}
		t.byID.Set(n.id, n)
		t.byNode.Set(node, n)
	}
	n.lookups++
	n.addPlace(place{parent, name})
	return n
}

// forget takes back count tellings. Node numbers it does not know are ignored.
func (t *inodes) forget(id, count uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID.Get(id)
	if n == nil || id == rootID {
		return
	}
	if n.lookups > count {
		n.lookups -= count
		return
	}
	n.lookups = 0
	t.byID.Delete(id)
	if t.byNode.Get(n.node) == n {
		t.byNode.Delete(n.node)
	}
	if old := slices.DeleteFunc(t.old[n.node], func(o *inode) bool { return o == n }); len(old) > 0 {
		t.old[n.node] = old
	} else {
		delete(t.old, n.node)
	}
}

// unname notes that the node has not the name any more.
func (t *inodes) unname(node vfs.Node, parent *inode, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.all(node) {
		n.dropPlace(place{parent, name})
		n.forget()
	}
}

// rename notes that the node has a new name in place of an old one.
func (t *inodes) rename(node vfs.Node, oldParent *inode, oldName string, parent *inode, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.all(node) {
		n.dropPlace(place{oldParent, oldName})
		n.addPlace(place{parent, name})
		n.forget()
	}
}

// parentIno returns the inode number of the directory that n lies in, its own for the
// root, or 0 if it is not known.
func (t *inodes) parentIno(n *inode) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case n.id == rootID:
		return n.ino
	case n.at.parent != nil:
		return n.at.parent.ino
	default:
		return 0
	}
}

// supersede makes the node get a new number when it is next looked up, and returns the
// inode that had it until now and the names that the kernel may know it by. It returns
// nil if the kernel does not know the node.
func (t *inodes) supersede(node vfs.Node) (*inode, []place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byNode.Get(node)
	if n == nil || n.id == rootID {
		return nil, nil
	}
	t.byNode.Delete(node)
	t.old[node] = append(t.old[node], n)
	n.stale = true
	return n, n.places()
}

// isStale reports whether the node of n has a newer number.
func (t *inodes) isStale(n *inode) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return n.stale
}

// nodes returns all nodes that have a current inode.
func (t *inodes) nodes() []vfs.Node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make([]vfs.Node, 0, t.byNode.Len())
	for node := range t.byNode.All() {
		all = append(all, node)
	}
	return all
}

// placesOf returns the names that the kernel may know n by.
func (t *inodes) placesOf(n *inode) []place {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return n.places()
}

// len returns how many inodes there are.
func (t *inodes) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID.Len()
}

func (n *inode) places() []place {
	var all []place
	if n.at.parent != nil {
		all = append(all, n.at)
	}
	return append(all, n.more...)
}

func (n *inode) has(p place) bool { return n.at == p || slices.Contains(n.more, p) }

func (n *inode) addPlace(p place) {
	switch {
	case n.has(p):
	case n.at.parent == nil || n.kind == vfs.KindDir:
		n.at = p
	default:
		n.more = append(n.more, p)
	}
}

func (n *inode) dropPlace(p place) {
	if n.at == p {
		n.at = place{}
		if len(n.more) > 0 {
			n.at, n.more = n.more[len(n.more)-1], n.more[:len(n.more)-1]
		}
		return
	}
	if i := slices.Index(n.more, p); i >= 0 {
		n.more = slices.Delete(n.more, i, i+1)
	}
}
