package chunkstore

import (
	"context"
	"errors"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// An lru keeps the values that were used last, up to a bound on their cost. It is not
// safe for concurrent use.
type lru[K comparable, V any] struct {
	max, used int64
	items     map[K]*item[K, V]
	ring      item[K, V] // ring.next is the newest, ring.prev the oldest
}

type item[K comparable, V any] struct {
	key        K
	value      V
	cost       int64
	prev, next *item[K, V]
}

func newLRU[K comparable, V any](max int64) *lru[K, V] {
	l := &lru[K, V]{max: max, items: map[K]*item[K, V]{}}
	l.ring.prev, l.ring.next = &l.ring, &l.ring
	return l
}

func (l *lru[K, V]) get(key K) (V, bool) {
	it, ok := l.items[key]
	if !ok {
		var none V
		return none, false
	}
	if l.ring.next != it {
		l.unlink(it)
		l.front(it)
	}
	return it.value, true
}

func (l *lru[K, V]) add(key K, value V, cost int64) {
	if cost > l.max {
		return
	}
	if it, ok := l.items[key]; ok {
		l.drop(it)
	}
	it := &item[K, V]{key: key, value: value, cost: cost}
	l.items[key] = it
	l.front(it)
	for l.used += cost; l.used > l.max; {
		l.drop(l.ring.prev)
	}
}

// clear drops all.
func (l *lru[K, V]) clear() {
	*l = lru[K, V]{max: l.max, items: map[K]*item[K, V]{}}
	l.ring.prev, l.ring.next = &l.ring, &l.ring
}

func (l *lru[K, V]) drop(it *item[K, V]) {
	l.unlink(it)
	delete(l.items, it.key)
	l.used -= it.cost
}

func (l *lru[K, V]) unlink(it *item[K, V]) { it.prev.next, it.next.prev = it.next, it.prev }

func (l *lru[K, V]) front(it *item[K, V]) {
	it.prev, it.next = &l.ring, l.ring.next
	it.prev.next, it.next.prev = it, it
}

// A segmentKey names one plain segment. The whole Ref is part of it, the Key too: who
// does not have the Key of a chunk does not get it from the cache either (attack A22).
type segmentKey struct {
	ref chunk.Ref
	no  int
}

// flight is the loading of one segment, on which any number of readers wait.
type flight struct {
	done  chan struct{}
	plain []byte
	err   error
}

// segmentCache keeps plain segments and lets each be loaded by one reader at a
// time. It is safe for concurrent use. Its slices are never written again.
type segmentCache struct {
	mu      sync.Mutex
	lru     *lru[segmentKey, []byte]
	flights map[segmentKey]*flight
}

func newSegmentCache(max int64) *segmentCache {
	return &segmentCache{lru: newLRU[segmentKey, []byte](max), flights: map[segmentKey]*flight{}}
}

// segmentOverhead is what an item of the cache costs besides its bytes.
const segmentOverhead = 256

// get returns segment no of ref. If neither it nor someone's loading of it is
// there, it has load load it, and with it up to ahead segments that follow and are
// not there either, in one step; those are returned as next. load fills in the plain
// bytes of each.
func (c *segmentCache) get(ctx context.Context, ref chunk.Ref, no, ahead int, load func(no int, plain [][]byte) error) (plain []byte, next [][]byte, err error) {
	for {
		c.mu.Lock()
		key := segmentKey{ref, no}
		if p, ok := c.lru.get(key); ok {
			c.mu.Unlock()
			return p, nil, nil
		}
		f, ok := c.flights[key]
		if !ok {
			run := c.takeOffLocked(ref, no, ahead)
			c.mu.Unlock()
			all, err := c.fly(ref, no, run, load)
			return all[0], all[1:], err
		}
		c.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		if f.err == nil {
			return f.plain, nil, nil
		}
		// The one who loaded may just have lost interest.
		if !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
			return nil, nil, f.err
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
	}
}

// takeOffLocked enters flights for segment no and those after it that nobody has.
func (c *segmentCache) takeOffLocked(ref chunk.Ref, no, ahead int) []*flight {
	run := make([]*flight, 0, 1+ahead)
	for i := range 1 + ahead {
		key := segmentKey{ref, no + i}
		if i > 0 {
			if _, ok := c.lru.items[key]; ok {
				break
			}
			if _, ok := c.flights[key]; ok {
				break
			}
		}
		f := &flight{done: make(chan struct{})}
		c.flights[key] = f
		run = append(run, f)
	}
	return run
}

// has reports whether a segment is kept, or about to be.
func (c *segmentCache) has(ref chunk.Ref, no int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := segmentKey{ref, no}
	_, kept := c.lru.items[key]
	_, flies := c.flights[key]
	return kept || flies
}

// claim enters a flight for a segment that nobody has, for fly; nil: somebody has it.
func (c *segmentCache) claim(ref chunk.Ref, no int) []*flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := segmentKey{ref, no}
	if _, ok := c.lru.items[key]; ok || c.flights[key] != nil {
		return nil
	}
	return c.takeOffLocked(ref, no, 0)
}

// fly loads what flights were entered for, and lets all have it who wait.
func (c *segmentCache) fly(ref chunk.Ref, no int, run []*flight, load func(int, [][]byte) error) ([][]byte, error) {
	plain := make([][]byte, len(run))
	err := load(no, plain)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range run {
		key := segmentKey{ref, no + i}
		delete(c.flights, key)
		f.plain, f.err = plain[i], err
		if err == nil {
			c.lru.add(key, plain[i], int64(len(plain[i]))+segmentOverhead)
		}
		close(f.done)
	}
	return plain, err
}

// layouts is how many layouts of chunks are kept, of some 1.2 KiB each.
const layouts = 1024

// layoutCache keeps the layouts of the chunks that were read last. It is safe for
// concurrent use.
type layoutCache struct {
	mu  sync.Mutex
	lru *lru[chunk.Ref, seal.Layout]
}

func newLayoutCache() *layoutCache { return &layoutCache{lru: newLRU[chunk.Ref, seal.Layout](layouts)} }

func (c *layoutCache) get(ref chunk.Ref) (seal.Layout, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lru.get(ref)
}

func (c *layoutCache) add(ref chunk.Ref, l seal.Layout) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.add(ref, l, 1)
}

// Trim gives back the memory of what was read last, which can be read again, and that of packs which were written. It may be called at any
// time.
func (s *Store) Trim() {
	s.releaseBuffers()
	s.cache.mu.Lock()
	s.cache.lru.clear()
	s.cache.mu.Unlock()
	s.layouts.mu.Lock()
	s.layouts.lru.clear()
	s.layouts.mu.Unlock()
	s.x.Trim()
}
