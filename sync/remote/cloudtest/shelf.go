package cloudtest

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A shelf is what a place of files holds in which a name is there once in a folder, whatever its case. Its exported methods do what somebody else does to the place, and are
// safe for concurrent use; the others are called by who holds mu.
type shelf struct {
	mu     sync.Mutex
	newID  func(n int) string
	sum    func(data []byte) string
	top    *thing
	all    map[string]*thing // also what was there once
	events []event           // a token is an index into it
	expire int               // tokens below are not known any more
	lag    int
	old    map[string][]*thing // what the folders hold for who lists while lag is not 0
}

// A thing is a file or a folder.
type thing struct {
	id, name string
	up       *thing            // nil: the top, or what is not there
	was      *thing            // in what it was before it was put into the trash; nil: it was not, or it is gone for good
	below    map[string]*thing // by names in small letters; nil: a file
	data     []byte
	sum      string
	modified time.Time
	far      bool // it leads to what is not of this place
}

// An event is that something has come, changed or gone. id is "" if it did so only by what lies above it.
type event struct{ id, path string }

func newShelf(newID func(n int) string, sum func([]byte) string) *shelf {
	s := &shelf{newID: newID, sum: sum, all: map[string]*thing{}}
	s.top = s.make("root", true)
	return s
}

// make returns a new thing, which is nowhere.
func (s *shelf) make(name string, dir bool) *thing {
	t := &thing{id: s.newID(len(s.all) + 1), name: name, modified: time.Now().UTC().Truncate(time.Second)}
	if dir {
		t.below = map[string]*thing{}
	}
	s.all[t.id] = t
	return t
}

// find returns the thing with an ID, nil if it is not there.
func (s *shelf) find(id string) *thing {
	t := s.all[id]
	if t == nil || !s.within(t, s.top) {
		return nil
	}
	return t
}

// within reports whether t is dir, or below it.
func (s *shelf) within(t, dir *thing) bool {
	for ; t != nil; t = t.up {
		if t == dir {
			return true
		}
	}
	return false
}

// walk returns what is at a path from a folder; nil if nothing is. up is the folder that it is in or would be in, nil if that is not there, either.
func (s *shelf) walk(from *thing, path string) (up *thing, name string, t *thing) {
	t = from
	for name = range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		if up = t; up == nil || up.below == nil {
			return nil, name, nil
		}
		t = up.below[strings.ToLower(name)]
	}
	if t == from {
		return t.up, t.name, t
	}
	return up, name, t
}

// path returns where t is, from the top: "" is the top itself, and "/a/b" what is below.
func (t *thing) path() string {
	if t.up == nil {
		return ""
	}
	return t.up.path() + "/" + t.name
}

// children returns what a folder holds, in the order of the names.
func (s *shelf) children(dir *thing) []*thing {
	if s.lag > 0 {
		s.lag--
		return s.old[dir.id]
	}
	return sorted(dir)
}

func sorted(dir *thing) []*thing {
	all := make([]*thing, 0, len(dir.below))
	for _, name := range slices.Sorted(maps.Keys(dir.below)) {
		all = append(all, dir.below[name])
	}
	return all
}

// tell notes that t has come or changed; all says that this is so of what is below it, too.
func (s *shelf) tell(t *thing, all bool) {
	s.events = append(s.events, event{t.id, t.path()})
	if all {
		s.below(t, false)
	}
}

// below notes that all below t has other paths now, or if own that it has changed itself.
func (s *shelf) below(t *thing, own bool) {
	for _, k := range sorted(t) {
		e := event{path: k.path()}
		if own {
			e.id = k.id
		}
		s.events = append(s.events, e)
		s.below(k, own)
	}
}

// fill gives a file bytes.
func (s *shelf) fill(t *thing, data []byte, modified time.Time) {
	t.data, t.sum, t.modified = data, s.sum(data), modified
}

// put gives t a place, where nothing else is to be. It reports whether that is so.
func (s *shelf) put(t, dir *thing, name string) bool {
	key := strings.ToLower(name)
	if dir == nil || dir.below == nil || name == "" || dir.below[key] != nil && dir.below[key] != t || s.within(dir, t) {
		return false
	}
	if t.up != nil {
		s.tell(t, false)
		delete(t.up.below, strings.ToLower(t.name))
	}
	t.up, t.was, t.name = dir, nil, name
	dir.below[key] = t
	s.tell(t, true)
	return true
}

// take removes t from where it is.
func (s *shelf) take(t *thing, tellBelow bool) {
	s.tell(t, false)
	if tellBelow {
		s.below(t, true)
	}
	delete(t.up.below, strings.ToLower(t.name))
	t.was, t.up = t.up, nil
}

// Top returns the ID of the folder that all is in.
func (s *shelf) Top() string { return s.top.id }

// Write makes a file, or gives the one that has the name other bytes, and returns its ID: "" if it cannot be there.
func (s *shelf) Write(dir, name string, data []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.find(dir)
	if up == nil || up.below == nil {
		return ""
	}
	t := up.below[strings.ToLower(name)]
	switch {
	case t == nil:
		t = s.make(name, false)
		s.fill(t, data, t.modified)
		s.put(t, up, name)
	case t.below != nil:
		return ""
	default:
		s.fill(t, data, t.modified.Add(time.Second))
		s.tell(t, false)
	}
	return t.id
}

// Mkdir makes a folder and returns its ID: "" if it cannot be there.
func (s *shelf) Mkdir(dir, name string) string { return s.mkdir(dir, name, false) }

func (s *shelf) mkdir(dir, name string, far bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.find(dir)
	if up == nil || up.below == nil || up.below[strings.ToLower(name)] != nil {
		return ""
	}
	t := s.make(name, true)
	t.far = far
	s.put(t, up, name)
	return t.id
}

// Overwrite gives a file other bytes.
func (s *shelf) Overwrite(id string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.find(id); t != nil && t.below == nil {
		s.fill(t, data, t.modified.Add(time.Second))
		s.tell(t, false)
	}
}

// Move gives a thing another name and folder, unless something is there or that is below it.
func (s *shelf) Move(id, dir, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.find(id); t != nil && t != s.top {
		s.put(t, s.find(dir), name)
	}
}

// Trash puts a thing into the trash, or takes it out again if what it was in is there and has nothing of that name.
func (s *shelf) Trash(id string, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.all[id]
	switch {
	case t == nil || t == s.top:
	case in && s.find(id) != nil:
		s.take(t, false)
	case !in && t.was != nil && s.within(t.was, s.top):
		s.put(t, t.was, t.name)
	}
}

// Delete removes a thing for good, with all below it. Whether that is told too, the documents leave open.
func (s *shelf) Delete(id string, tellBelow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.find(id); t != nil && t != s.top {
		s.take(t, tellBelow)
		t.was = nil
	}
}

// Expire has all tokens that were given so far be unknown.
func (s *shelf) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event{})
	s.expire = len(s.events)
}

// Lag has the next n lists of a folder tell what is there now, whatever changes: the documents do not say that a list knows what the feed tells.
func (s *shelf) Lag(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag, s.old = n, map[string][]*thing{}
	for id, t := range s.all {
		for _, k := range sorted(t) {
			c := *k
			s.old[id] = append(s.old[id], &c)
		}
	}
}
