package manifest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// memStore is a Store in memory that names chunks by a cheap hash of kind and bytes and counts
// what it is asked.
type memStore struct {
	m          map[chunk.ID][]byte
	mu         sync.Mutex // guards gets
	gets, puts int
	putBytes   int
}

func newMemStore() *memStore { return &memStore{m: make(map[chunk.ID][]byte)} }

func (s *memStore) Put(_ context.Context, kind chunk.Kind, plain []byte) (chunk.Ref, error) {
	r := chunk.Ref{Size: uint32(len(plain)), Kind: kind}
	h := xxhash.Sum64(plain) ^ uint64(kind)<<56
	binary.BigEndian.PutUint64(r.ID[:], h*0x9e3779b97f4a7c15)
	var d xxhash.Digest
	d.ResetWithSeed(77 + uint64(kind))
	_, _ = d.Write(plain)
	binary.BigEndian.PutUint64(r.ID[8:], d.Sum64())
	r.Key[0] = r.ID[0] ^ 0xff
	s.puts++
	s.putBytes += len(plain)
	if _, ok := s.m[r.ID]; !ok {
		s.m[r.ID] = slices.Clone(plain)
	}
	return r, nil
}

func (s *memStore) Get(_ context.Context, dst []byte, ref chunk.Ref) ([]byte, error) {
	s.mu.Lock()
	s.gets++
	s.mu.Unlock()
	p, ok := s.m[ref.ID]
	if !ok {
		return dst, fmt.Errorf("no chunk %s", ref)
	}
	return append(dst, p...), nil
}

// seed returns the seed of a random test, which it logs, from the environment if it is set there.
func seed(t testing.TB) uint64 {
	t.Helper()
	n := uint64(20261123)
	if s := os.Getenv("SHEAF_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("SHEAF_SEED: %v", err)
		}
		n = v
	}
	t.Logf("SHEAF_SEED=%d", n)
	return n
}

func nodeID(n uint64) (id NodeID) {
	binary.BigEndian.PutUint64(id[:], n+0x1000)
	binary.BigEndian.PutUint64(id[8:], n*0x9e3779b97f4a7c15)
	return id
}

func dataRef(n uint64, size uint32) chunk.Ref {
	r := chunk.Ref{Size: size, Kind: chunk.Data}
	for i := range 4 {
		binary.BigEndian.PutUint64(r.ID[8*i:], xxhash.Sum64String(fmt.Sprint(n, size, i)))
	}
	return r
}

// fileEntry returns a legal entry of a file, of which n decides ID and content.
func fileEntry(name string, n uint64) Entry {
	d := causal.Dot{Device: 0xa1b2c3d4e5f60718, Counter: n + 1}
	return Entry{
		Name: name, ID: nodeID(n), Kind: vfs.KindFile, Mode: 0o644, UID: 1000, GID: 1000, Size: 12345, Bytes: 12345,
		Node: dataRef(n, 12345), MTime: time.Unix(1_700_000_000, 123456789).UTC(),
		CTime: time.Unix(1_700_000_001, 123456789).UTC(), BTime: time.Unix(1_700_000_002, 1).UTC(),
		Dot: d, Edit: d, Place: causal.Stamp{Lamport: n + 1, Device: d.Device}, Attr: causal.Stamp{Lamport: n + 1, Device: d.Device},
	}
}

func seqOf[T any](s []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range s {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func collect[T any](t testing.TB, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var s []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, v)
	}
	return s
}

func buildDir(t testing.TB, st *memStore, es []Entry) chunk.Ref {
	t.Helper()
	ref, _, err := BuildDir(t.Context(), st, seqOf(es))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// randomEntry returns a legal entry with every field that its kind may have, each set or not.
func randomEntry(r *rand.Rand, name string) Entry {
	e := fileEntry(name, r.Uint64N(1000))
	maybe := func() bool { return r.IntN(3) == 0 }
	when := func() time.Time {
		switch r.IntN(6) {
		case 0:
			return time.Time{}
		case 1:
			return time.Unix(0, 0).UTC()
		case 2:
			return time.Unix(r.Int64N(1<<40)-1<<39, r.Int64N(1e9)).UTC()
		}
		return time.Unix(r.Int64N(1<<32), r.Int64N(1e9)).UTC()
	}
	dot := func() causal.Dot {
		return causal.Dot{Device: causal.Device(1 + r.Uint64N(9)), Counter: 1 + r.Uint64N(1<<20)}
	}
	e.Kind = vfs.Kind(1 + r.IntN(7))
	e.MTime, e.CTime, e.ATime, e.BTime = when(), when(), when(), when()
	e.Mode, e.Size = vfs.Mode(r.IntN(0o10000)), r.Int64N(1<<40)+12345
	e.Bytes = e.Size
	if maybe() {
		e.Bytes = r.Int64N(e.Size)
	}
	if maybe() {
		e.Attr = causal.Stamp{Lamport: 1 + r.Uint64N(99), Device: 3}
	}
	if maybe() {
		e.Rdev, e.UID = r.Uint32(), 0
	}
	for i := range r.IntN(3) {
		e.Xattr = append(e.Xattr, Xattr{Name: fmt.Sprint("user.", i), Value: []byte(name)})
	}
	if maybe() {
		e.Stored = &Stored{Name: "else"}
		if maybe() {
			e.Stored.Parent = nodeID(7)
		}
	}
	switch e.Kind {
	case vfs.KindDir:
		e.Edit, e.Node = causal.Dot{}, chunk.Ref{}
		e.Below, e.Held = Below(r.IntN(8)), maybe()
		if maybe() {
			e.From = nodeID(4)
		}
	case vfs.KindFile:
		if maybe() {
			e.Edit = dot()
		}
		for range r.IntN(4) {
			e.Past = append(e.Past, dot())
		}
		if maybe() {
			e.Link = nodeID(5)
		}
		e.Conflict = maybe()
	default:
		e.Edit, e.Node = causal.Dot{}, chunk.Ref{}
		if e.Kind == vfs.KindLink {
			e.Target = "../" + name
		}
	}
	return e
}

func encodeOne(t testing.TB, e *Entry) []byte {
	t.Helper()
	if err := check(e, nil); err != nil {
		t.Fatal(err)
	}
	return appendEntry(nil, e)
}

var errBroken = errors.New("broken")
