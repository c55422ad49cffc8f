//go:build !unix && !race

package chunkstore

import "github.com/sheaf-drive/sheaf/chunkstore/pack"

// lendMemory returns memory for a pack.
func lendMemory() []byte { return make([]byte, pack.Size) }

// returnMemory takes memory back that nobody uses.
func returnMemory([]byte) {}
