//go:build (windows && !cgo) || (cgofuse && cgo && (linux || darwin))

package winfsp

import (
	"sync"

	"github.com/sheaf-drive/sheaf/vfs"
)

// none is what cgofuse has where there is no handle.
const none = ^uint64(0)

// An open is what a program has open: a file, or a directory.
type open struct {
	node vfs.Node
	h    vfs.Handle // nil for a directory
}

// opens gives numbers to what is open. A number is not used again. It is safe for concurrent use.
type opens struct {
	mu     sync.Mutex
	all    map[uint64]*open
	files  map[vfs.Node]int // how often each is open
	last   uint64
	closed bool // nothing more is opened
}

func newOpens() *opens { return &opens{all: map[uint64]*open{}, files: map[vfs.Node]int{}} }

// put returns a number for o, never 0. ok is false if nothing may be opened any more.
func (t *opens) put(o *open) (fh uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return none, false
	}
	t.last++
	t.all[t.last] = o
	if o.h != nil {
		t.files[o.node]++
	}
	return t.last, true
}

// get returns what has the number, or nil.
func (t *opens) get(fh uint64) *open {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[fh]
}

// drop forgets the number, and returns what had it, or nil.
func (t *opens) drop(fh uint64) *open {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.all[fh]
	if o == nil {
		return nil
	}
	delete(t.all, fh)
	if o.h != nil {
		if t.files[o.node]--; t.files[o.node] == 0 {
			delete(t.files, o.node)
		}
	}
	return o
}

// isOpen reports whether a file is open.
func (t *opens) isOpen(n vfs.Node) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.files[n] > 0
}

// shut lets nothing more be opened, if no file is open; else it reports how many are.
func (t *opens) shut(force bool) (open int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.files) > 0 && !force {
		return len(t.files)
	}
	t.closed = true
	return 0
}

// takeAll empties the table, and returns what was in it.
func (t *opens) takeAll() []*open {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*open
	for _, o := range t.all {
		all = append(all, o)
	}
	clear(t.all)
	clear(t.files)
	t.closed = true
	return all
}
