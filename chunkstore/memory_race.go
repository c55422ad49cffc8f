//go:build race

package chunkstore

import "github.com/sheaf-drive/sheaf/chunkstore/pack"

// packsKept is how many packs have memory that nobody uses: to tell the detector of new memory takes longer than what most tests do with it.
const packsKept = 8

// newMemory returns memory of Go, for the detector sees no other.
func newMemory() []byte { return make([]byte, pack.Size) }

func emptyMemory([]byte) {}
