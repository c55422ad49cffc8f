package provider

import (
	"sync"
	"time"

	rclone "github.com/rclone/rclone/fs"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// sights keep the objects of blobs that were listed or looked up a moment ago, so that who lists blobs and reads them, or reads one part by part, does not
// have each looked up before it is read: with most backends that is a request of its own. An object is with one reader at a time, for backends change it when
// it is read. The zero sights are empty. They are safe for concurrent use.
type sights struct {
	mu    sync.Mutex
	puts  uint64 // changes of blobs by this Bucket
	objs  map[blob.Name][]sight
	n     int
	since time.Time // when there were none
}

// A sight is an object and when it was seen.
type sight struct {
	obj  rclone.Object
	at   time.Time
	puts uint64
}

const (
	// seenFor is how long an object is used. What another one puts or removes meanwhile shows in its parts all the same, but for the length.
	seenFor = time.Minute
	// seenMost is how many are kept: half a mebibyte.
	seenMost = 1024
)

// take returns an object of the blob, if there is one that is new enough.
func (s *sights) take(name blob.Name) (sight, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for all := s.objs[name]; len(all) > 0; all = s.objs[name] {
		last := all[len(all)-1]
		s.n--
		if s.objs[name] = all[:len(all)-1]; len(all) == 1 {
			delete(s.objs, name)
		}
		if last.puts == s.puts && time.Since(last.at) < seenFor {
			return last, true
		}
	}
	return sight{}, false
}

// looked returns the sight of an object that is about to be looked up.
func (s *sights) looked() sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sight{at: time.Now(), puts: s.puts}
}

// give keeps an object that was read without an error.
func (s *sights) give(name blob.Name, one sight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.puts != s.puts {
		return
	}
	if s.objs == nil || s.n >= seenMost {
		s.empty()
	}
	s.objs[name] = append(s.objs[name], one)
	s.n++
}

// listed keeps an object of a listing that began at the time of one, while there is room.
func (s *sights) listed(name blob.Name, one sight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.puts != s.puts || len(s.objs[name]) > 0 {
		return
	}
	if s.objs == nil || s.n >= seenMost && time.Since(s.since) >= seenFor {
		s.empty()
	}
	if s.n < seenMost {
		s.objs[name] = append(s.objs[name], one)
		s.n++
	}
}

// empty forgets all. The caller has the lock.
func (s *sights) empty() {
	s.objs, s.n, s.since = map[blob.Name][]sight{}, 0, time.Now()
}

// changed says that this Bucket is about to change, or has changed, a blob: nothing that was seen before is used any more.
func (s *sights) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	s.objs, s.n = nil, 0
}
