//go:build unix && !race

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// Whatever becomes of a Store, the memory of its packs comes back when it is closed, and none of it is of the heap.
func TestStore_GivesTheMemoryOfPacksBack(t *testing.T) {
	r := testRand(t)
	broken := errors.New("broken")
	for name, do := range map[string]func(s *Store, db *crashKV){
		"flushed":     func(s *Store, _ *crashKV) { flush(t, s) },
		"not flushed": func(*Store, *crashKV) {},
		"failed": func(s *Store, db *crashKV) {
			db.hook = func(string) error { return broken }
			if err := s.Flush(t.Context()); !errors.Is(err, broken) {
				t.Errorf("flush: got %v, want %v", err, broken)
			}
		},
		"read": func(s *Store, _ *crashKV) {
			p := randomBytes(r, 100)
			wantChunk(t, s, put(t, s, p), p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := disk.Open(t.TempDir(), disk.Options{})
			if err != nil {
				t.Fatal(err)
			}
			before, heap := lentMemory(), heapNow()
			db := newCrashKV()
			s := openStore(t, b, db)
			for range 2 * pack.Size >> 20 {
				put(t, s, randomBytes(r, 1<<20))
			}
			if n := lentMemory() - before; n < 1 {
				t.Errorf("%d packs have memory while it is filled", n)
			}
			if grown := heapNow() - heap; grown > pack.Size {
				t.Errorf("the heap grew by %d bytes", grown)
			}
			do(s, db)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = s.Close(ctx)
			if n := lentMemory(); n != before {
				t.Errorf("%d packs have memory after Close, want the %d of before", n, before)
			}
		})
	}
}

func lentMemory() int {
	packMemory.mu.Lock()
	defer packMemory.mu.Unlock()
	return packMemory.lent
}

func heapNow() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Trim does not wait until the Store has been idle for a while.
func TestStore_TrimGivesTheMemoryOfPacksBack(t *testing.T) {
	r := testRand(t)
	b, err := disk.Open(t.TempDir(), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := lentMemory()
	s := openStore(t, b, newCrashKV())
	for range 2 * pack.Size >> 20 {
		put(t, s, randomBytes(r, 1<<20))
	}
	s.Trim()
	last := randomBytes(r, 1<<20)
	ref := put(t, s, last)
	wantChunk(t, s, ref, last)
	if lentMemory() == before {
		t.Error("no pack has memory while one is filled")
	}
	flush(t, s)
	s.Trim()
	if n := lentMemory(); n != before {
		t.Errorf("%d packs have memory after Flush and Trim, want the %d of before", n, before)
	}
	wantChunk(t, s, put(t, s, last), last)
}

// What was not in a pack for a while is no burden when it is: maps do not become smaller by themselves.
func TestStore_KeepsNoMemoryOfWhatWasPending(t *testing.T) {
	b, err := disk.Open(t.TempDir(), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, b, newCrashKV())
	for i := range 20_000 {
		put(t, s, fmt.Appendf(nil, "a short chunk: %d", i))
	}
	flush(t, s)
	before := heapNow()
	s.mu.Lock()
	if n := len(s.pending) + len(s.pendingCID); n > 0 {
		t.Errorf("%d chunks are pending after a flush", n)
	}
	s.pending, s.pendingCID = map[chunk.ID]spot{}, map[seal.CID]chunk.ID{}
	s.mu.Unlock()
	if kept := before - heapNow(); kept > 256<<10 {
		t.Errorf("%d bytes are kept for chunks that are in packs", kept)
	}
}
