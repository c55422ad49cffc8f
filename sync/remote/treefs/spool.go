package treefs

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A spool is the bytes of one file while it is being written, in a file of this machine that has no name. The zero spool is empty.
type spool struct {
	mu      sync.Mutex
	f       *os.File // nil: the bytes are at the place
	name    string   // where a file that is open cannot lose its name
	length  int64
	changed bool
	written time.Time // of the last write
	mtime   time.Time // that was set since
	writers int       // handles that may write
	opens   int       // handles
}

// start makes an empty file. mu is held.
func (s *spool) start(dir string) error {
	f, err := os.CreateTemp(dir, "sheaf-spool-")
	if err != nil {
		return err
	}
	s.f, s.length, s.name = f, 0, ""
	if err := os.Remove(f.Name()); err != nil {
		s.name = f.Name()
	}
	return nil
}

// begin is start for a file that is new.
func (s *spool) begin(dir string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.start(dir); err != nil {
		return err
	}
	s.changed, s.written = true, now
	return nil
}

// end gives the file back. mu is held.
func (s *spool) end() {
	if s.f != nil {
		_ = s.f.Close() // what was in it is at the place, or is not wanted
		if s.name != "" {
			_ = os.Remove(s.name)
		}
	}
	s.f, s.length, s.changed, s.written, s.mtime = nil, 0, false, time.Time{}, time.Time{}
}

// size returns the length, and when it was written; no time if the bytes are at the place.
func (s *spool) size() (int64, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.f == nil || !s.changed:
		return 0, time.Time{}
	case !s.mtime.IsZero():
		return s.length, s.mtime
	}
	return s.length, s.written
}

// open reports whether somebody writes.
func (s *spool) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writers > 0
}

// setAttr keeps a time for the put that comes, and reports whether one does.
func (s *spool) setAttr(it remote.Item) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil || !s.changed {
		return false
	}
	if !it.MTime.IsZero() {
		s.mtime = it.MTime
	}
	return true
}

// truncate changes the length. mu is held.
func (s *spool) truncate(size int64) error {
	if err := s.f.Truncate(size); err != nil {
		return err
	}
	s.length = size
	return nil
}

// readAt reads what is in the spool, and reports whether the bytes are there.
func (s *spool) readAt(p []byte, off int64) (int, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return 0, false, nil
	}
	if off >= s.length {
		if len(p) == 0 {
			return 0, true, nil
		}
		return 0, true, io.EOF
	}
	n, err := s.f.ReadAt(p, off)
	return n, true, err
}

// body returns a reader of all. mu is held until it is read.
func (s *spool) body() io.ReadSeeker { return io.NewSectionReader(s.f, 0, s.length) }
