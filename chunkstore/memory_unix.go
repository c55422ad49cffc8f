//go:build unix && !race

package chunkstore

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// packsKept is how many packs have memory that nobody uses: all, for it is never unmapped, only emptied.
const packsKept = math.MaxInt

// newMemory returns memory outside the heap of Go: there it would let the heap grow by twice its size before it is
// collected, and a collected heap gives memory back to the system slowly.
func newMemory() []byte {
	b, err := unix.Mmap(-1, 0, pack.Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]byte, pack.Size) // the system lends no more maps; it may still lend memory
	}
	return b
}

func emptyMemory(b []byte) {
	_ = unix.Madvise(b, unix.MADV_DONTNEED) // else it stays with the process: a matter of figures only
}
