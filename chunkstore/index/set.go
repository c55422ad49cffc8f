package index

import (
	"encoding/binary"
	"sync"
)

// A Set is a set of hashes by their first eight bytes, in an open-addressed
// table of about 16 bytes each. Two hashes with equal first bytes count as one, so it
// may say yes wrongly, with odds of one in 2^64 for each it holds, and never no.
// The zero Set is empty. It is not safe for concurrent use.
type Set struct {
	slots []uint64 // a power of two; 0 is empty
	n     int
	zero  bool // holds the prefix 0, which no slot can
}

// Len returns how many prefixes the Set holds.
func (s *Set) Len() int { return s.n }

// Bytes returns the memory of the table in bytes.
func (s *Set) Bytes() int { return 8 * len(s.slots) }

// Add adds a hash and reports whether its prefix is new.
func (s *Set) Add(hash [32]byte) bool {
	p := binary.LittleEndian.Uint64(hash[:])
	if p == 0 {
		fresh := !s.zero
		if fresh {
			s.zero = true
			s.n++
		}
		return fresh
	}
	if 4*(s.n+1) > 3*len(s.slots) {
		s.grow()
	}
	if !s.insert(p) {
		return false
	}
	s.n++
	return true
}

// Has reports whether the Set holds the prefix of hash.
func (s *Set) Has(hash [32]byte) bool {
	p := binary.LittleEndian.Uint64(hash[:])
	if p == 0 {
		return s.zero
	}
	if len(s.slots) == 0 {
		return false
	}
	mask := uint64(len(s.slots) - 1)
	for i := spread(p) & mask; s.slots[i] != 0; i = (i + 1) & mask {
		if s.slots[i] == p {
			return true
		}
	}
	return false
}

func (s *Set) insert(p uint64) bool {
	mask := uint64(len(s.slots) - 1)
	i := spread(p) & mask
	for ; s.slots[i] != 0; i = (i + 1) & mask {
		if s.slots[i] == p {
			return false
		}
	}
	s.slots[i] = p
	return true
}

func (s *Set) grow() {
	old := s.slots
	s.slots = make([]uint64, max(64, 2*len(old)))
	for _, p := range old {
		if p != 0 {
			s.insert(p)
		}
	}
}

// spread makes a table position of a prefix. The hashes are uniform unless
// someone chose them; the multiplication keeps chosen ones from one short run of slots.
func spread(p uint64) uint64 {
	p ^= p >> 32
	return p * 0x9e3779b97f4a7c15 >> 20
}

// filterMax is the most prefixes that a filter keeps; its table has then 64 MiB, and while it is filled again there are two.
const filterMax = 6 << 20

// filterFloor is how many prefixes of chunks that are gone are not worth a fill.
const filterFloor = 1 << 12

// filter knows which CIDs the index has never met, so that storing new bytes
// does not ask the DB. What was removed stays in it until it is filled again.
type filter struct {
	mu   sync.RWMutex
	set  *Set // complete; nil: there is none, and nothing is excluded
	next *Set // what the fill that is under way has met; nil: none is
	over bool // the last fill, or what came after it, had more than filterMax
}

func (f *filter) excludes(cid [32]byte) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.set != nil && !f.set.Has(cid)
}

func (f *filter) add(cid [32]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put(&f.set, cid)
	f.put(&f.next, cid)
}

// put adds to one of the two, if it is there, and gives it up if it becomes too large. f.mu is held.
func (f *filter) put(set **Set, cid [32]byte) {
	if *set == nil {
		return
	}
	if (*set).Add(cid); (*set).Len() > filterMax {
		*set, f.over = nil, true
	}
}

// begin begins a fill, of which finish makes the filter; nil if one is under way.
func (f *filter) begin() *Set {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next != nil {
		return nil
	}
	f.next = new(Set)
	return f.next
}

// met adds to a fill what a scan met; false if it has become too large.
func (f *filter) met(fill *Set, cid [32]byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next != fill {
		return false
	}
	f.put(&f.next, cid)
	return f.next != nil
}

// finish ends the fill. If it met all, it is the filter from then on.
func (f *filter) finish(fill *Set, all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next != fill {
		return
	}
	if f.next = nil; all {
		f.set, f.over = fill, false
	}
}

// stale reports whether most of what is in the filter belongs to no chunk of the given number of chunks, or they would fit again.
func (f *filter) stale(chunks int64) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.set == nil {
		return f.over && chunks < filterMax/2
	}
	return int64(f.set.Len()) > 2*chunks+filterFloor
}
