package powerloss

import (
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// op is what an event did.
type op uint8

const (
	opCreate   op = iota // a new node under a name
	opLink               // one more name
	opRemove             // a name goes
	opRename             // a name moves; what bore the new one goes
	opExchange           // two names change places
	opWrite              // bytes
	opTruncate           // a length
	opMode               // permissions
	opSync               // a file or folder was synced
	opSyncFail           // a sync failed, and the pages are clean
)

var opNames = [...]string{"create", "link", "remove", "rename", "exchange", "write", "truncate", "chmod", "sync", "sync fails"}

// event is one step of the log.
type event struct {
	op        op
	node      uint64
	other     uint64 // of an exchange: what goes the other way
	dir, dir2 uint64
	name      string
	name2     string
	off       int64 // of a write; the length of a truncate
	data      []byte
	mode      uint32
	target    string
	kept      bool // of a failed sync: chance has it that the bytes reach the disk all the same
}

// node is a file, folder or symbolic link as the processes see it.
type node struct {
	id      uint64
	mode    uint32 // with the type
	data    []byte
	target  string
	entries map[string]*node
	names   uint32
	changed time.Time
}

func (n *node) isDir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

// state is the file system in memory, with its log. Its methods are those of the system, and answer with an Errno.
type state struct {
	mu    sync.Mutex
	root  *node
	last  uint64 // id
	log   []event
	start *image // the log begins from here
	fault Fault
	calls int // that could have been refused, since the fault was set
	hit   int // of them were refused
	rng   *rand.Rand
	kill  Kill
	// changes counts the calls that changed the disk, or were to, since kill was set.
	changes int
	dead    bool // the process that uses the disk was killed: nothing is done any more
}

// newState returns a disk with what im has, all of it durable.
func newState(im *image) *state {
	s := &state{last: im.last, start: im, rng: rand.New(rand.NewPCG(1, 2))}
	made := map[uint64]*node{}
	var build func(id uint64) *node
	build = func(id uint64) *node {
		n := made[id]
		if n == nil {
			from := im.nodes[id]
			n = &node{id: id, mode: from.mode, target: from.target, data: slices.Clone(from.data), changed: time.Now()}
			made[id] = n
			if n.isDir() {
				n.entries = map[string]*node{}
				for name, sub := range from.entries {
					n.entries[name] = build(sub)
				}
			}
		}
		n.names++
		return n
	}
	s.root = build(rootID)
	return s
}

func (s *state) add(e event) { s.log = append(s.log, e) }

func (s *state) touch(ns ...*node) {
	for _, n := range ns {
		n.changed = time.Now()
	}
}

func (s *state) make(dir *node, name string, mode uint32, target string) (*node, syscall.Errno) {
	s.mu.Lock()
	defer s.done()
	if dir.entries[name] != nil {
		return nil, syscall.EEXIST
	}
	if e := s.refuse(callCreate); e != 0 {
		return nil, e
	}
	s.last++
	n := &node{id: s.last, mode: mode, target: target, names: 1}
	if n.isDir() {
		n.entries = map[string]*node{}
	}
	dir.entries[name] = n
	s.touch(n, dir)
	s.add(event{op: opCreate, node: n.id, dir: dir.id, name: name, mode: mode, target: target})
	return n, 0
}

func (s *state) link(dir *node, name string, n *node) syscall.Errno {
	s.mu.Lock()
	defer s.done()
	if dir.entries[name] != nil {
		return syscall.EEXIST
	}
	if e := s.refuse(callName); e != 0 {
		return e
	}
	n.names++
	dir.entries[name] = n
	s.touch(n, dir)
	s.add(event{op: opLink, node: n.id, dir: dir.id, name: name})
	return 0
}

func (s *state) remove(dir *node, name string, folder bool) syscall.Errno {
	s.mu.Lock()
	defer s.done()
	n := dir.entries[name]
	switch {
	case n == nil:
		return syscall.ENOENT
	case folder && !n.isDir():
		return syscall.ENOTDIR
	case !folder && n.isDir():
		return syscall.EISDIR
	case len(n.entries) > 0:
		return syscall.ENOTEMPTY
	}
	if e := s.refuse(callRemove); e != 0 {
		return e
	}
	n.names--
	delete(dir.entries, name)
	s.touch(n, dir)
	s.add(event{op: opRemove, node: n.id, dir: dir.id, name: name})
	return 0
}

func (s *state) rename(dir *node, name string, dir2 *node, name2 string, flags uint32) syscall.Errno {
	const noReplace, exchange = 1, 2
	s.mu.Lock()
	defer s.done()
	n, old := dir.entries[name], dir2.entries[name2]
	switch {
	case n == nil || old == nil && flags == exchange:
		return syscall.ENOENT
	case flags > exchange:
		return syscall.EINVAL
	case old != nil && flags == noReplace:
		return syscall.EEXIST
	case old == n:
		return 0
	}
	if e := s.refuse(callName); e != 0 {
		return e
	}
	if flags == exchange {
		dir.entries[name], dir2.entries[name2] = old, n
		s.add(event{op: opExchange, node: n.id, other: old.id, dir: dir.id, name: name, dir2: dir2.id, name2: name2})
	} else {
		if old != nil {
			if old.isDir() != n.isDir() || len(old.entries) > 0 {
				return syscall.ENOTEMPTY
			}
			old.names--
		}
		delete(dir.entries, name)
		dir2.entries[name2] = n
		s.add(event{op: opRename, node: n.id, dir: dir.id, name: name, dir2: dir2.id, name2: name2})
	}
	s.touch(n, dir, dir2)
	return 0
}

// resize sets the length of p; what is new is zero.
func resize(p []byte, size int64) []byte {
	if n := size - int64(len(p)); n > 0 {
		p = slices.Grow(p, int(n))
		old := len(p)
		p = p[:size]
		clear(p[old:])
		return p
	}
	return p[:size]
}

// put writes into p, which grows as needed.
func put(p []byte, off int64, data []byte) []byte {
	if end := off + int64(len(data)); end > int64(len(p)) {
		p = resize(p, end)
	}
	copy(p[off:], data)
	return p
}

func (s *state) write(n *node, off int64, data []byte) syscall.Errno {
	s.mu.Lock()
	defer s.done()
	e := s.refuse(callWrite)
	if e != 0 {
		// A part of the bytes may have got there.
		data = data[:s.rng.IntN(len(data)+1)]
		if len(data) == 0 || e == syscall.EROFS || s.dead {
			return e
		}
	}
	data = slices.Clone(data)
	n.data = put(n.data, off, data)
	s.touch(n)
	s.add(event{op: opWrite, node: n.id, off: off, data: data})
	return e
}

func (s *state) truncate(n *node, size int64) syscall.Errno {
	s.mu.Lock()
	defer s.done()
	if size == int64(len(n.data)) {
		return 0
	}
	if e := s.refuse(callWrite); e != 0 {
		return e
	}
	n.data = resize(n.data, size)
	s.touch(n)
	s.add(event{op: opTruncate, node: n.id, off: size})
	return 0
}

// allocate makes room (which grows the file unless keep), or with zero writes zeros within it.
func (s *state) allocate(n *node, off, size int64, keep, zero bool) syscall.Errno {
	s.mu.Lock()
	have := int64(len(n.data))
	s.mu.Unlock()
	if zero {
		if end := min(off+size, have); off < end {
			if e := s.write(n, off, make([]byte, end-off)); e != 0 {
				return e
			}
		}
	}
	if !keep && off+size > have {
		return s.truncate(n, off+size)
	}
	if !zero {
		s.mu.Lock()
		defer s.done()
		return s.refuse(callWrite)
	}
	return 0
}

func (s *state) chmod(n *node, mode uint32) syscall.Errno {
	s.mu.Lock()
	defer s.done()
	if e := s.refuse(callName); e != 0 {
		return e
	}
	n.mode = n.mode&syscall.S_IFMT | mode&^syscall.S_IFMT
	s.touch(n)
	s.add(event{op: opMode, node: n.id, mode: n.mode})
	return 0
}

func (s *state) sync(n *node) syscall.Errno {
	s.mu.Lock()
	defer s.done()
	if e := s.refuse(callSync); s.dead {
		return e
	} else if e != 0 {
		s.add(event{op: opSyncFail, node: n.id, kept: s.rng.IntN(2) == 0})
		return e
	}
	s.add(event{op: opSync, node: n.id})
	return 0
}
