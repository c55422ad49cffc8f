package disk

import (
	"container/list"
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// file is an open file that several readers share. It is closed when the last of them is
// done with it and it is no longer kept.
type file struct {
	*os.File
	name blob.Name
	uses int           // readers, guarded by files.mu
	elem *list.Element // its place in files.recent; nil once it is not kept
}

// files keeps the most recently used files open. It is safe for concurrent use.
type files struct {
	limit int

	mu     sync.Mutex
	byName map[blob.Name]*file
	recent *list.List // of *file, most recent first
	gen    uint64     // how often something was dropped
	closed bool
}

func newFiles(limit int) *files {
	return &files{limit: limit, byName: map[blob.Name]*file{}, recent: list.New()}
}

// get returns the kept file of that name, of which the caller has one use, or nil.
// The generation is for add.
func (c *files) get(name blob.Name) (*file, uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, 0, fs.ErrClosed
	}
	f := c.byName[name]
	if f != nil {
		f.uses++
		c.recent.MoveToFront(f.elem)
	}
	return f, c.gen, nil
}

// generation returns a generation for add.
func (c *files) generation() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, fs.ErrClosed
	}
	return c.gen, nil
}

// add takes f over and gives the caller one use of it. It keeps f only if nothing was
// dropped since gen: what was opened before may be the file of a blob that
// has been replaced since.
func (c *files) add(name blob.Name, of *os.File, gen uint64) *file {
	f := &file{File: of, name: name, uses: 1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.limit == 0 || gen != c.gen || c.byName[name] != nil {
		return f
	}
	f.elem = c.recent.PushFront(f)
	c.byName[name] = f
	if c.recent.Len() > c.limit {
		_ = c.forget(c.recent.Back().Value.(*file)) // closing what was only read loses nothing
	}
	return f
}

// release gives one use back.
func (c *files) release(f *file) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.uses--
	if f.uses == 0 && f.elem == nil {
		return f.Close()
	}
	return nil
}

// drop keeps the file of that name no longer.
func (c *files) drop(name blob.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	if f := c.byName[name]; f != nil {
		_ = c.forget(f) // closing what was only read loses nothing
	}
}

// forget takes f out, and closes it if nobody uses it. c.mu is held.
func (c *files) forget(f *file) error {
	c.recent.Remove(f.elem)
	f.elem = nil
	delete(c.byName, f.name)
	if f.uses == 0 {
		return f.Close()
	}
	return nil
}

// close forgets all and keeps nothing from now on.
func (c *files) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var errs []error
	for c.recent.Len() > 0 {
		errs = append(errs, c.forget(c.recent.Front().Value.(*file)))
	}
	return errors.Join(errs...)
}
