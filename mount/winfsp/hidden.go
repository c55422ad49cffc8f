//go:build (windows && !cgo) || (cgofuse && cgo && (linux || darwin))

package winfsp

import (
	"context"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// libfuse speaks in paths, so a file that is removed or replaced while it is open gets a hidden name, .fuse_hidden and two
// numbers of eight hexadecimal digits, by which libfuse goes on calling it until it is closed. It renames the file itself: for
// unlink(2) that is all that it does then, for rename(2) the rename that was asked for follows at once, on the same thread.
//
// In the tree the file is to be removed in the first case, and to be replaced by one step in the second, with nothing in between that
// others or a crash could see. So the renaming to a hidden name is not done, but noted: the name is taken for gone. The next call on the
// thread decides. If it is the rename, that replaces the file; else, or if something looks at the directory, or after a moment, the
// file is removed.
//
// libfuse counts a file as open for a moment after Release has returned. If it is removed just then, libfuse renames it though nothing here is open, and, as it notes that
// only afterwards, may never remove it: the hidden name stays in the tree. It is not removed here either, for nothing tells it from what a program has renamed, and what
// is left is better than what is lost.
const (
	hiddenPrefix = ".fuse_hidden"
	hiddenMoment = 20 * time.Millisecond
)

// hiddenNumber returns the second number of a hidden name, which libfuse counts up with each.
func hiddenNumber(name string) (uint32, bool) {
	digits, ok := strings.CutPrefix(name, hiddenPrefix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	for _, half := range []string{digits[:8], digits[8:]} {
		n, err := strconv.ParseUint(half, 16, 32)
		if err != nil || n == 0 || half != strings.ToLower(half) {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(digits[8:], 16, 32)
	return uint32(n), err == nil
}

// A doomed name is to be removed from the tree.
type doomed struct {
	h    *hidden
	d    vfs.Dir
	name string
	node vfs.Node
	path string
	tid  int

	step  sync.Mutex // held while it is decided
	over  bool       // it was
	timer *time.Timer
}

// hidden holds the files that have a hidden name, and the names that are doomed. It is safe for concurrent use.
type hidden struct {
	log  *slog.Logger
	some atomic.Int32 // names that are doomed

	mu    sync.Mutex
	nodes map[string]vfs.Node // by hidden name
	names map[int]*doomed     // by the thread of the system
	last  uint32              // number of the last hidden name
}

func newHidden(log *slog.Logger) *hidden {
	return &hidden{log: log, nodes: map[string]vfs.Node{}, names: map[int]*doomed{}}
}

// hide notes that libfuse gives an open file a hidden name, and reports whether this is that. A program may rename a file to such a name too: but hardly
// an open one, in its own directory, to the very number that libfuse would take next.
func (h *hidden) hide(oldPath, newPath string, from place, open *opens) bool {
	if runtime.GOOS == "windows" {
		return false
	}
	name := newPath[strings.LastIndexByte(newPath, '/')+1:]
	n, ok := hiddenNumber(name)
	if !ok || oldPath[:strings.LastIndexByte(oldPath, '/')] != newPath[:strings.LastIndexByte(newPath, '/')] || !open.isOpen(from.node) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n <= h.last || n > h.last+1024 { // it leaves out numbers of names that are there
		return false
	}
	h.last = n
	h.nodes[name] = from.node
	x := &doomed{h: h, d: from.d, name: from.name, node: from.node, path: oldPath, tid: thread()}
	h.names[x.tid] = x
	h.some.Add(1)
	x.timer = time.AfterFunc(hiddenMoment, x.settle)
	return true
}

// find returns the file that has a hidden name, or nil.
func (h *hidden) find(name string) vfs.Node {
	if !strings.HasPrefix(name, hiddenPrefix) {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.nodes[name]
}

// forget is told that libfuse removes a hidden name, and reports whether it is one.
func (h *hidden) forget(path string) bool {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if h.find(name) == nil {
		return false
	}
	h.begin("")
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.nodes, name)
	return true
}

// begin is the start of a call. What this thread has doomed before is removed now; but if the call is the rename that replaces it, it
// is returned, and done is to be called at the end of the call.
func (h *hidden) begin(replaces string) *doomed {
	if h.some.Load() == 0 {
		return nil
	}
	h.mu.Lock()
	x := h.names[thread()]
	h.mu.Unlock()
	if x == nil {
		return nil
	}
	if replaces == x.path {
		x.step.Lock()
		if !x.over {
			return x
		}
		x.step.Unlock()
		return nil
	}
	x.settle()
	return nil
}

// done ends the call that replaced what was doomed. If it failed, the name stays where it is.
func (x *doomed) done() {
	x.end()
	x.step.Unlock()
}

// end takes x out of the list. x.step is held.
func (x *doomed) end() {
	x.over = true
	x.timer.Stop()
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	if x.h.names[x.tid] == x {
		delete(x.h.names, x.tid)
	}
	x.h.some.Add(-1)
}

// settle removes the name, unless that was decided already.
func (x *doomed) settle() {
	x.step.Lock()
	defer x.step.Unlock()
	if x.over {
		return
	}
	ctx := vfs.Expect(context.Background(), vfs.Expected{Dir: x.d, Name: x.name, Node: x.node})
	if err := x.d.Remove(ctx, x.name, false); err != nil && !missing(err) {
		x.h.log.Error("a removed file stays", "name", x.name, "error", err)
	}
	x.end()
}

// all returns the names that are doomed.
func (h *hidden) all() []*doomed {
	if h.some.Load() == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*doomed
	for _, x := range h.names {
		all = append(all, x)
	}
	return all
}

// settleIn removes what is doomed in a directory. The kernel lets nobody look at or change a directory while it renames something in it, so that what
// is doomed there was removed by a program, and not replaced.
func (h *hidden) settleIn(d vfs.Dir) {
	me := thread()
	for _, x := range h.all() {
		if x.d == d && x.tid != me {
			x.settle()
		}
	}
}

// settleAll removes all that is doomed.
func (h *hidden) settleAll() {
	for _, x := range h.all() {
		x.settle()
	}
}

// removes reports whether a name is doomed.
func (h *hidden) removes(d vfs.Dir, name string) bool {
	for _, x := range h.all() {
		if x.d == d && x.name == name {
			return true
		}
	}
	return false
}

// doomed reports whether a name of the node is doomed.
func (h *hidden) doomed(n vfs.Node) bool {
	for _, x := range h.all() {
		if x.node == n {
			return true
		}
	}
	return false
}
