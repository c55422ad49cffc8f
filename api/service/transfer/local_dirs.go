package transfer

import (
	"os"
	"path"
	"sync"
)

// keepDirs is how many folders of a Local stay open.
const keepDirs = 32

// openDirs keeps the folders that were used last open, so that a file deep in a tree is not looked for from
// the top each time: an os.Root takes several system calls for each folder on the way.
type openDirs struct {
	mu    sync.Mutex
	dirs  map[string]*openDir
	clock uint64
}

type openDir struct {
	root *os.Root
	uses int
	last uint64
	gone bool // out of the map: the last user closes it
}

// in calls do with the open folder that holds p, and p's name in it.
func (l *Local) in(p string, do func(dir *os.Root, name string) error) error {
	if p == "" {
		return do(l.root, l.base)
	}
	dir, done, err := l.dir(path.Dir(p))
	if err != nil {
		return err
	}
	defer done()
	return do(dir, path.Base(p))
}

// dir returns the open folder p, "." for the top, which stays open until done is called.
func (l *Local) dir(p string) (_ *os.Root, done func(), err error) {
	if p == "." {
		p = ""
	}
	s := &l.open
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	d := s.dirs[p]
	if d == nil {
		root, err := l.root.OpenRoot(l.at(p))
		if err != nil {
			return nil, nil, err
		}
		s.makeRoom()
		d = &openDir{root: root}
		if s.dirs == nil {
			s.dirs = map[string]*openDir{}
		}
		s.dirs[p] = d
	}
	d.uses++
	d.last = s.clock
	return d.root, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.uses--; d.uses == 0 && d.gone {
			_ = d.root.Close() // it was only looked through
		}
	}, nil
}

// makeRoom forgets the folder that was not used for longest. s.mu is held.
func (s *openDirs) makeRoom() {
	if len(s.dirs) < keepDirs {
		return
	}
	var oldest string
	for p, d := range s.dirs {
		if o := s.dirs[oldest]; o == nil || d.last < o.last {
			oldest = p
		}
	}
	s.forget(oldest)
}

// forget closes the folder p, if it is open, once nobody uses it. s.mu is held.
func (s *openDirs) forget(p string) {
	d := s.dirs[p]
	if d == nil {
		return
	}
	delete(s.dirs, p)
	if d.gone = true; d.uses == 0 {
		_ = d.root.Close() // it was only looked through
	}
}

// close closes all.
func (s *openDirs) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.dirs {
		s.forget(p)
	}
}
