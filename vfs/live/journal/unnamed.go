package journal

import (
	"runtime"
	"sync"
)

// unnamed are the files of segments that have lost their names, and that something may still point to. Each is closed
// when nothing does, which the collection of memory finds out, or with the journal. It is safe for concurrent use.
type unnamed struct {
	mu    sync.Mutex
	files map[File]struct{} // not the segments, for these would be pointed to
}

func (u *unnamed) add(s *segment) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.files == nil {
		u.files = map[File]struct{}{}
	}
	u.files[s.f] = struct{}{}
	runtime.AddCleanup(s, u.drop, s.f)
}

// drop closes a file that nobody reads any more.
func (u *unnamed) drop(f File) {
	u.mu.Lock()
	_, ok := u.files[f]
	delete(u.files, f)
	u.mu.Unlock()
	if ok {
		_ = f.Close()
	}
}

// close closes all.
func (u *unnamed) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for f := range u.files {
		_ = f.Close()
	}
	u.files = nil
}

func (u *unnamed) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.files)
}
