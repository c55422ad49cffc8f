//go:build linux || darwin

package fuse

import "sync"

// handles gives numbers to what is open. A number is used again after it was dropped.
// It is safe for concurrent use.
type handles[T any] struct {
	mu   sync.RWMutex
	all  []*T
	free []uint32
}

// put returns a number for x, never 0.
func (h *handles[T]) put(x *T) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.free); n > 0 {
		i := h.free[n-1]
		h.free = h.free[:n-1]
		h.all[i] = x
		return uint64(i) + 1
	}
	h.all = append(h.all, x)
	return uint64(len(h.all))
}

// get returns what has the number, or nil.
func (h *handles[T]) get(fh uint64) *T {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if fh == 0 || fh > uint64(len(h.all)) {
		return nil
	}
	return h.all[fh-1]
}

// drop gives the number back, and returns what had it, or nil.
func (h *handles[T]) drop(fh uint64) *T {
	h.mu.Lock()
	defer h.mu.Unlock()
	if fh == 0 || fh > uint64(len(h.all)) || h.all[fh-1] == nil {
		return nil
	}
	x := h.all[fh-1]
	h.all[fh-1] = nil
	h.free = append(h.free, uint32(fh-1))
	return x
}

// takeAll empties the table and returns what was in it.
func (h *handles[T]) takeAll() []*T {
	h.mu.Lock()
	defer h.mu.Unlock()
	var open []*T
	for _, x := range h.all {
		if x != nil {
			open = append(open, x)
		}
	}
	h.all, h.free = nil, nil
	return open
}
