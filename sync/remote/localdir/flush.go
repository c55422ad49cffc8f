package localdir

import "sync"

// flushes make the names in folders durable, for several callers at once: what a caller has done before it calls is durable when it returns, and one sync that begins after
// the calls of many is enough for all of them. It is safe for concurrent use.
type flushes struct {
	mu               sync.Mutex
	running, waiting map[[2]uint64]*flush // by the folder: its file system and its number
}

// A flush is one sync. done is closed when it is over, and err is its error then.
type flush struct {
	done chan struct{}
	err  error
}

// sync returns when all names in the folder are durable, as well as its file system can.
func (s *flushes) sync(in *folder) error {
	i, err := in.self()
	if err != nil {
		return err
	}
	if i.ino == 0 { // who it is, is not known
		return in.sync()
	}
	return s.do([2]uint64{i.dev, i.ino}, in.sync)
}

func (s *flushes) do(key [2]uint64, sync func() error) error {
	s.mu.Lock()
	if b := s.waiting[key]; b != nil { // it has not begun
		s.mu.Unlock()
		<-b.done
		return b.err
	}
	if s.running == nil {
		s.running, s.waiting = map[[2]uint64]*flush{}, map[[2]uint64]*flush{}
	}
	b := &flush{done: make(chan struct{})}
	if before := s.running[key]; before != nil { // it may have begun too early
		s.waiting[key] = b
		s.mu.Unlock()
		<-before.done
		s.mu.Lock()
		delete(s.waiting, key)
	}
	s.running[key] = b
	s.mu.Unlock()
	b.err = sync()
	s.mu.Lock()
	delete(s.running, key)
	s.mu.Unlock()
	close(b.done)
	return b.err
}
