// Package gc decides what a garbage collection frees: which chunks are live, which
// of the others may go, and which packs are worth writing again. It moves and
// deletes nothing itself; that is the store's part.
//
// A chunk goes in two phases, so that no writer has to stand still:
//
//  1. A cycle marks what is reachable. What is not, and was not put since the
//     cycle began, is condemned.
//  2. A later cycle removes what an earlier one condemned, if that is longer
//     ago than the grace time and the chunk is still not reachable and not put.
//
// Whoever puts the bytes of a condemned chunk again pardons it. So a chunk that
// is put must be reachable before the second cycle after that begins, or before
// the grace time is over, whichever is later. A writer that may take longer
// holds what it puts: see Hold of the store.
package gc

import (
	"slices"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// DefaultGrace is how long a chunk should stay condemned before it may go, where other
// devices may be about to refer to it.
const DefaultGrace = 7 * 24 * time.Hour

// RepackShare is the dead share of a pack, 0 to 1, above which it is written again.
const RepackShare = 0.25

// Options say how a Sweep decides.
type Options struct {
	// Grace is how long a chunk must have been condemned before it goes. With 0 there
	// is no wait but that for a later cycle: right only where every writer holds what
	// it puts until it is reachable.
	Grace time.Duration
	// Now is the time to go by; the zero Time for the clock's.
	Now time.Time
	// May reports whether chunks may be removed from a pack; nil: from each. Of packs of which they may not, a Report tells which
	// ones would be worth it.
	May func(pack.Name) bool
}

// Ripe reports whether a chunk that is not marked in this cycle may go.
func (o Options) Ripe(c index.Condemned, cycle uint64) bool {
	return c.Cycle < cycle && !o.Now.Before(c.At.Add(o.Grace))
}

// A Report is what a Sweep did and found.
type Report struct {
	Cycle         uint64
	LiveChunks    int64 // marked, or put while the cycle was under way
	LiveBytes     int64 // their sealed lengths
	Condemned     int64 // chunks that this cycle condemned
	Pardoned      int64 // chunks that were condemned and are live again
	Waiting       int64 // chunks that are condemned now
	WaitingBytes  int64 // their sealed lengths
	Removed       int64 // chunks that are gone for good
	PacksRemoved  int64 // pack files that are gone
	PacksWritten  int64 // new packs, with what was live in some of those
	FreedBytes    int64 // of packs removed, less those of packs written
	DeadBytesKept int64 // of removed chunks, in packs that are not worth writing again

	// Worth are the packs of which May says no, and so large a share of which is ripe that they would be removed or written again.
	Worth []pack.Name
}

// A Marks is the set of chunks that are live in one cycle. It may take a dead
// chunk for a live one, never a live one for a dead one: it knows IDs by their first eight
// bytes, some 16 to 32 bytes of memory each. It is safe for concurrent use.
type Marks struct {
	mu  sync.RWMutex
	set index.Set
}

// Add marks a chunk.
func (m *Marks) Add(id chunk.ID) {
	m.mu.Lock()
	m.set.Add(id)
	m.mu.Unlock()
}

// Has reports whether the chunk is marked.
func (m *Marks) Has(id chunk.ID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.set.Has(id)
}

// Len returns how many chunks are marked, about.
func (m *Marks) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.set.Len()
}

// Dead returns the packs in which nothing is live.
func Dead(packs []index.Pack) []index.Pack {
	var dead []index.Pack
	for _, p := range packs {
		if p.Live == 0 {
			dead = append(dead, p)
		}
	}
	return dead
}

// Repack returns the packs that have live chunks and a dead share of more than
// RepackShare, the most dead first.
func Repack(packs []index.Pack) []index.Pack {
	var out []index.Pack
	for _, p := range packs {
		if p.Live > 0 && p.DeadShare() > RepackShare {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b index.Pack) int {
		switch x, y := a.DeadShare(), b.DeadShare(); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	return out
}

// The compaction of small packs.
const (
	smallPacks = 16 // of them may lie about
	mergeLeast = 8  // of them are merged at a time, if there are
)

// Merge returns which small packs to merge into fewer: none while there are few
// enough. It takes the smallest, and goes on while the next one is not larger than
// all taken together, so that each byte is copied a number of times that grows
// with the logarithm of what is written only.
func Merge(packs []index.Pack) []index.Pack {
	var small []index.Pack
	for _, p := range packs {
		if p.Size < pack.Size {
			small = append(small, p)
		}
	}
	if len(small) <= smallPacks {
		return nil
	}
	slices.SortStableFunc(small, func(a, b index.Pack) int {
		switch {
		case a.LiveBytes < b.LiveBytes:
			return -1
		case a.LiveBytes > b.LiveBytes:
			return 1
		}
		return 0
	})
	var sum int64
	for i, p := range small {
		if i >= mergeLeast && p.LiveBytes > sum {
			return small[:i]
		}
		sum += p.LiveBytes
	}
	return small
}
