//go:build race

package chunkstore

import (
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// Under -race the memory of packs is Go's, for the detector sees no other. It is used again: to tell the detector of new memory takes longer than
// what most tests do with it, and who uses it after he gave it back is found out by what the next owner does.
var packMemory struct {
	mu   sync.Mutex
	free [][]byte
}

// packsKept is how much of it is kept.
const packsKept = 8

// lendMemory returns memory for a pack, with anything in it.
func lendMemory() []byte {
	packMemory.mu.Lock()
	defer packMemory.mu.Unlock()
	n := len(packMemory.free)
	if n == 0 {
		return make([]byte, pack.Size)
	}
	b := packMemory.free[n-1]
	packMemory.free = packMemory.free[:n-1]
	return b
}

// returnMemory takes memory back that lendMemory lent and nobody uses.
func returnMemory(b []byte) {
	packMemory.mu.Lock()
	defer packMemory.mu.Unlock()
	if len(packMemory.free) < packsKept {
		packMemory.free = append(packMemory.free, b)
	}
}
