//go:build unix && !race

package chunkstore

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// Memory for packs lies outside the heap of Go: there it would let the heap grow by twice its size before it is
// collected, and a collected heap gives memory back to the system slowly. It is never unmapped, only emptied, and
// used again by whatever Store comes next: who reads it too late, against the rules, reads zeros or sealed bytes of another pack.
// Under -race it is ordinary memory, for the detector sees no other.
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
	b, err := unix.Mmap(-1, 0, pack.Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]byte, pack.Size) // the system lends no more maps; it may still lend memory
	}
	return b
}

// returnMemory takes memory back that lendMemory lent and nobody uses.
func returnMemory(b []byte) {
	_ = unix.Madvise(b, unix.MADV_DONTNEED) // else it stays with the process: a matter of figures only
	packMemory.mu.Lock()
	defer packMemory.mu.Unlock()
	packMemory.lent--
	packMemory.free = append(packMemory.free, b)
}
