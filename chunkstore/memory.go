//go:build unix || race

package chunkstore

import "sync"

// packMemory is the memory for packs that nobody uses. It is used again by whatever Store comes next: who reads it too late, against the rules,
// reads zeros or sealed bytes of another pack, and under -race is found out by what the next owner does.
var packMemory struct {
	mu   sync.Mutex
	free [][]byte
	lent int
}

// lendMemory returns memory for a pack, with anything in it.
func lendMemory() []byte {
	packMemory.mu.Lock()
	defer packMemory.mu.Unlock()
	packMemory.lent++
	if n := len(packMemory.free); n > 0 {
		b := packMemory.free[n-1]
		packMemory.free = packMemory.free[:n-1]
		return b
	}
	return newMemory()
}

// returnMemory takes memory back that lendMemory lent and nobody uses.
func returnMemory(b []byte) {
	emptyMemory(b)
	packMemory.mu.Lock()
	defer packMemory.mu.Unlock()
	packMemory.lent--
	if len(packMemory.free) < packsKept {
		packMemory.free = append(packMemory.free, b)
	}
}
