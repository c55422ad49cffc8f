//go:build linux || darwin

package fuse

import (
	lists "container/list"
	"context"
	"sync"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// stillOpen is how many files of a tree that never changes are kept open. Each may have up to a segment and what is read ahead in memory.
const stillOpen = 64

// A still has the files that were read last of a tree that never changes. The kernel opens none there: at its first OPEN it is told that there is no such request (ENOSYS),
// and from then on it reads by the number of the node alone. That saves a request before each file is read and one behind it. It is safe for concurrent use.
type still struct {
	mu   sync.Mutex
	byID map[uint64]*lists.Element // of *file
	last lists.List                // the one that was used last in front
}

func newStill() *still { return &still{byID: map[uint64]*lists.Element{}} }

// take returns the open file of an inode, which the caller gives back.
func (s *still) take(ctx context.Context, n *inode) (*file, error) {
	if f := s.have(n.id); f != nil {
		return f, nil
	}
	node, ok := n.node.(vfs.File)
	if !ok {
		return nil, vfs.ErrIsDir
	}
	h, err := node.Open(ctx, vfs.OpenRead)
	if err != nil {
		return nil, err
	}
	f, out := s.add(&file{h: h, n: n})
	for _, o := range out {
		_ = o.h.Close(context.Background()) // nothing was written
	}
	return f, nil
}

func (s *still) have(id uint64) *file {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byID[id]
	if e == nil {
		return nil
	}
	s.last.MoveToFront(e)
	f := e.Value.(*file)
	f.users++
	return f
}

// add keeps f, unless somebody was quicker, and returns the one that is kept, taken, and those that are to be closed.
func (s *still) add(f *file) (kept *file, out []*file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[f.n.id]; e != nil {
		kept, out = e.Value.(*file), append(out, f)
	} else {
		kept, s.byID[f.n.id] = f, s.last.PushFront(f)
	}
	kept.users++
	for s.last.Len() > stillOpen {
		e := s.last.Back()
		o := s.last.Remove(e).(*file)
		delete(s.byID, o.n.id)
		if o.left = true; o.users == 0 {
			out = append(out, o)
		}
	}
	return kept, out
}

// give is told that a file that was taken is not used any more.
func (s *still) give(f *file) {
	s.mu.Lock()
	f.users--
	last := f.left && f.users == 0
	s.mu.Unlock()
	if last {
		_ = f.h.Close(context.Background())
	}
}

// close closes all. Nobody takes one any more, and all are given back.
func (s *still) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.last.Front(); e != nil; e = e.Next() {
		_ = e.Value.(*file).h.Close(context.Background())
	}
	s.last.Init()
	clear(s.byID)
}

// use returns the file that a request is about, and done is called with it when the request is answered.
func (s *server) use(ctx context.Context, fh, id uint64) (*file, gofuse.Status) {
	if s.still == nil {
		if f := s.files.get(fh); f != nil {
			return f, gofuse.OK
		}
		return nil, gofuse.EBADF
	}
	n, st := s.node(id)
	if st != gofuse.OK {
		return nil, st
	}
	f, err := s.still.take(ctx, n)
	if err != nil {
		return nil, s.status("open", err)
	}
	return f, gofuse.OK
}

func (s *server) done(f *file) {
	if s.still != nil {
		s.still.give(f)
	}
}
