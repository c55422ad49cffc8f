package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

var sizes = []int{0, 1, 100, seal.SegmentSize - 1, seal.SegmentSize, seal.SegmentSize + 1, 1 << 20, 3<<20 + 17}

func TestStore_GivesBackWhatWasPut(t *testing.T) {
	r := testRand(t)
	bucket, db := mem.New(), newCrashKV()
	s := openStore(t, bucket, db)
	plain := map[chunk.Ref][]byte{}
	for i, n := range sizes {
		for _, p := range [][]byte{randomBytes(r, n), text(i, n)} {
			plain[put(t, s, p)] = p
		}
	}
	check := func(when string, s *Store) {
		t.Run(when, func(t *testing.T) {
			for ref, p := range plain {
				wantChunk(t, s, ref, p)
				if ok, err := s.Has(t.Context(), ref.ID); err != nil || !ok {
					t.Fatalf("has %v: got %v, %v", ref, ok, err)
				}
			}
		})
	}
	check("from open packs", s)
	flush(t, s)
	check("from the bucket", s)
	wantSound(t, s)
	check("after a power cut", openStore(t, bucket.Clone(), db.afterPowerCut()))
	check("from the bucket alone", openStore(t, bucket.Clone(), newCrashKV()))
}

func TestStore_ReadAtIsLikeReaderAt(t *testing.T) {
	r := testRand(t)
	s := openStore(t, mem.New(), newCrashKV())
	plain := randomBytes(r, 5*seal.SegmentSize+333)
	ref := put(t, s, plain)
	flush(t, s)
	want := bytes.NewReader(plain)
	for range 500 {
		off := r.Int64N(int64(len(plain)) + 1000)
		p, q := make([]byte, r.IntN(4*seal.SegmentSize)), []byte(nil)
		q = append(q, p...)
		n, err := s.ReadAt(t.Context(), ref, p, off)
		wn, werr := want.ReadAt(q, off)
		if n != wn || (err == nil) != (werr == nil) || err != nil && !errors.Is(err, io.EOF) && len(p) > 0 {
			t.Fatalf("read %d at %d: got %d, %v, want %d, %v", len(p), off, n, err, wn, werr)
		}
		if !bytes.Equal(p[:n], q[:n]) {
			t.Fatalf("read %d at %d: other bytes", len(p), off)
		}
	}
	if _, err := s.ReadAt(t.Context(), ref, make([]byte, 1), -1); !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("read at -1: got %v", err)
	}
}

// X1: equal bytes are stored once, however they come.
func TestStore_PutOfKnownBytesWritesNothing(t *testing.T) {
	r := testRand(t)
	bucket, db := mem.New(), newCrashKV()
	s := openStore(t, bucket, db)
	plain := randomBytes(r, 300_000)
	var refs [16]chunk.Ref
	var wg sync.WaitGroup
	for i := range refs {
		wg.Go(func() { refs[i], _ = s.Put(t.Context(), chunk.Data, plain) })
	}
	wg.Wait()
	for _, ref := range refs {
		if ref != refs[0] || ref.IsZero() {
			t.Fatalf("got Refs %v and %v for the same bytes", refs[0], ref)
		}
	}
	if st, _ := s.Stats(t.Context()); st.Chunks != 1 {
		t.Fatalf("got %d chunks, want 1", st.Chunks)
	}
	flush(t, s)
	packs := len(packNames(t, bucket))
	again := openStore(t, bucket, db)
	for _, s := range []*Store{s, again} {
		if got := put(t, s, plain); got != refs[0] {
			t.Fatalf("got %v, want %v", got, refs[0])
		}
		flush(t, s)
	}
	if n := len(packNames(t, bucket)); n != packs {
		t.Fatalf("got %d packs, want %d", n, packs)
	}
	t.Run("but another kind is another chunk", func(t *testing.T) {
		ref, err := s.Put(t.Context(), chunk.Dir, plain)
		if err != nil || ref.ID == refs[0].ID {
			t.Fatalf("got %v, %v", ref, err)
		}
	})
}

// scans counts the scans of a database.
type scans struct {
	kv.DB
	n *atomic.Int64
}

func (d scans) Scan(ctx context.Context, from, to []byte) iter.Seq2[kv.Pair, error] {
	d.n.Add(1)
	return d.DB.Scan(ctx, from, to)
}

// A small change of a large store does not go through all that is there, and a large one does it once.
func TestStore_AFewPutsDoNotReadTheIndex(t *testing.T) {
	bucket, db := mem.New(), scans{memkv.New(), new(atomic.Int64)}
	s := openStore(t, bucket, db)
	const chunks = 10 * filterShare
	for i := range chunks {
		put(t, s, text(i, 100))
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, bucket, db)
	before := db.n.Load()
	for i := range 10 {
		put(t, s, text(chunks+i, 100))
	}
	flush(t, s)
	if n := db.n.Load() - before; n > 0 {
		t.Errorf("%d scans for few puts", n)
	}
	put(t, s, text(chunks, 100))
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := db.n.Load() - before; n != 1 {
		t.Errorf("%d scans for many puts, want one", n)
	}
}

func TestStore_MissingChunkIsErrMissing(t *testing.T) {
	s := openStore(t, mem.New(), newCrashKV())
	ref := chunk.Ref{ID: chunk.ID{1}, Size: 10, Kind: chunk.Data}
	_, err := s.Get(t.Context(), nil, ref)
	if !errors.Is(err, ErrMissing) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("get: got %v", err)
	}
	ref.Size = 1 << 20
	if _, err := s.ReadAt(t.Context(), ref, make([]byte, 10), 0); !errors.Is(err, ErrMissing) {
		t.Fatalf("read: got %v", err)
	}
	if ok, err := s.Has(t.Context(), ref.ID); ok || err != nil {
		t.Fatalf("has: got %v, %v", ok, err)
	}
	if _, err := s.Get(t.Context(), nil, chunk.Ref{}); !errors.Is(err, chunk.ErrRef) {
		t.Fatalf("get of the zero Ref: got %v", err)
	}
}

// A pack that comes into the bucket behind the Store's back is found by a miss.
func TestStore_MissFindsNewPacks(t *testing.T) {
	bucket := mem.New()
	reader := openStore(t, bucket, newCrashKV())
	writer := openStore(t, bucket, newCrashKV())
	plain := text(1, 50_000)
	ref := put(t, writer, plain)
	flush(t, writer)
	wantChunk(t, reader, ref, plain)
}

// A22: the cache gives nothing to one who has the ID but not the Key.
func TestStore_CacheKeepsKeysApart(t *testing.T) {
	s := openStore(t, mem.New(), newCrashKV())
	for _, n := range []int{1000, 1 << 20} {
		ref := put(t, s, text(n, n))
		flush(t, s)
		wantChunk(t, s, ref, text(n, n))
		for i, bad := range []chunk.Ref{
			{ID: ref.ID, Key: chunk.Key{1}, Size: ref.Size, Kind: ref.Kind},
			{ID: ref.ID, Key: ref.Key, Size: ref.Size - 1, Kind: ref.Kind},
			{ID: ref.ID, Key: ref.Key, Size: ref.Size, Kind: chunk.Dir}, // T-A17
		} {
			if _, err := s.ReadAt(t.Context(), bad, make([]byte, 10), 0); !errors.Is(err, ErrCorrupt) || !errors.Is(err, seal.ErrTampered) {
				t.Errorf("case %d: read: got %v, want ErrCorrupt", i, err)
			}
			if _, err := s.Get(t.Context(), nil, bad); !errors.Is(err, ErrCorrupt) {
				t.Errorf("case %d: get: got %v, want ErrCorrupt", i, err)
			}
		}
	}
}

func TestStore_CacheIsBoundedAndLoadsOnce(t *testing.T) {
	bucket := &hookBucket{Bucket: mem.New()}
	var gets atomic.Int64
	s, err := Open(t.Context(), Options{Bucket: bucket, KV: newCrashKV(), Keys: testKeys(), CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.Background()) }()
	r := testRand(t)
	var refs []chunk.Ref
	for range 4 {
		refs = append(refs, put(t, s, randomBytes(r, 1<<20)))
	}
	flush(t, s)
	bucket.get = func(blob.Name, int64, int64) { gets.Add(1) }
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := s.ReadAt(t.Context(), refs[0], make([]byte, 4096), 9000); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := gets.Load(); n != 2 {
		t.Errorf("16 readers of one segment: got %d reads of the bucket, want 2 (header and segment)", n)
	}
	before := s.cache.lru.used
	for _, ref := range refs[1:] {
		if _, err := s.ReadAt(t.Context(), ref, make([]byte, 1<<20), 0); err != nil {
			t.Fatal(err)
		}
	}
	if used := s.cache.lru.used; used != before {
		t.Errorf("what is read whole is kept: %d bytes, %d before", used, before)
	}
	for _, ref := range refs {
		for off := int64(100); off < 1<<20; off += seal.SegmentSize {
			if _, err := s.ReadAt(t.Context(), ref, make([]byte, 1<<10), off); err != nil {
				t.Fatal(err)
			}
		}
	}
	if used := s.cache.lru.used; used > 1<<20 || used < 1<<19 {
		t.Errorf("cache holds %d bytes, bound is %d", used, 1<<20)
	}
	if len(s.cache.flights) != 0 {
		t.Errorf("%d loads never landed", len(s.cache.flights))
	}
}

// Whatever part of a chunk is read, by however many at a time, it is that part, whether its segments are kept, on their way, or read
// into the reader's own memory.
func TestStore_ReadsAnyPart(t *testing.T) {
	bucket := &hookBucket{Bucket: mem.New()}
	s, err := Open(t.Context(), Options{Bucket: bucket, KV: newCrashKV(), Keys: testKeys(), CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.Background()) }()
	r := testRand(t)
	var all [][]byte
	for _, n := range []int{2 << 20, 2<<20 - 1, seal.SegmentSize + 1, 9 * seal.SegmentSize, 5} {
		all = append(all, randomBytes(r, n))
	}
	all = append(all, text(3, 1<<20+77)) // compressed
	var refs []chunk.Ref
	for _, p := range all {
		refs = append(refs, put(t, s, p))
	}
	flush(t, s)
	type part struct {
		no, from, n int
	}
	var parts []part
	for range 600 {
		no := r.IntN(len(all))
		size := len(all[no])
		x := part{no: no, from: r.IntN(size + 1), n: r.IntN(size + 1)}
		if r.IntN(2) == 0 { // from a border, to a border or the end
			x.from -= x.from % seal.SegmentSize
		}
		if r.IntN(2) == 0 {
			x.n = min(x.n-x.n%seal.SegmentSize+r.IntN(2)*seal.SegmentSize, size)
		}
		parts = append(parts, x)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := i; k < len(parts); k += 6 { // some parts are read by two
				x := parts[k]
				p := make([]byte, x.n+1)
				p[x.n] = 0x55
				want := all[x.no][x.from:min(x.from+x.n, len(all[x.no]))]
				n, err := s.ReadAt(t.Context(), refs[x.no], p[:x.n:x.n], int64(x.from))
				if wantEOF := len(want) < x.n; (err != nil && !errors.Is(err, io.EOF)) || errors.Is(err, io.EOF) != wantEOF {
					t.Errorf("%+v: %v", x, err)
				}
				if !bytes.Equal(p[:n], want) || p[x.n] != 0x55 {
					t.Errorf("%+v: %d bytes, which are not those of the chunk", x, n)
				}
			}
		})
	}
	wg.Wait()
	if len(s.cache.flights) != 0 {
		t.Errorf("%d loads never landed", len(s.cache.flights))
	}
}

func TestStore_CloseEndsEverything(t *testing.T) {
	before := testkit.Goroutines(t)
	bucket, db := mem.New(), newCrashKV()
	s, err := Open(t.Context(), Options{Bucket: bucket, KV: db, Keys: testKeys()})
	if err != nil {
		t.Fatal(err)
	}
	plain := text(1, 1000)
	ref := put(t, s, plain)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"put":     second(s.Put(t.Context(), chunk.Data, plain)),
		"get":     second(s.Get(t.Context(), nil, ref)),
		"read":    second(s.ReadAt(t.Context(), ref, make([]byte, 1), 0)),
		"has":     second(s.Has(t.Context(), ref.ID)),
		"keep":    s.Keep(t.Context(), ref.ID),
		"flush":   s.Flush(t.Context()),
		"refresh": s.Refresh(t.Context()),
		"compact": s.Compact(t.Context()),
		"gc":      second(s.BeginGC(t.Context())),
		"stats":   second(s.Stats(t.Context())),
		"close":   s.Close(t.Context()),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: got %v", name, err)
		}
	}
	// All goroutines of the Store were waited for, but one that has said so may not be gone yet.
	before.Check(t)
	wantChunk(t, openStore(t, bucket, db), ref, plain)
}

func second[T any](_ T, err error) error { return err }

func TestStore_NothingPlainInBucketOrDatabase(t *testing.T) {
	const canary = "canary-5f1c9e0d77aa4b-never-in-clear"
	bucket, db := mem.New(), newCrashKV()
	s := openStore(t, bucket, db)
	for i := range 100 {
		put(t, s, append([]byte(strings.Repeat(canary, 1+i%3)), byte(i)))
	}
	flush(t, s)
	if err := s.WriteIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	for info, err := range bucket.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		body, err := blob.ReadAll(t.Context(), bucket, info.Name, info.Size)
		if err != nil || bytes.Contains(body, []byte(canary)) || strings.Contains(string(info.Name), canary) {
			t.Errorf("%s: canary found, or %v", info.Name, err)
		}
	}
	for k, v := range db.now {
		if strings.Contains(k, canary) || strings.Contains(v, canary) {
			t.Errorf("canary in the database")
		}
	}
}

func TestKeys_PrintNothing(t *testing.T) {
	k := testKeys()
	var out bytes.Buffer
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		out.Reset()
		fmt.Fprintf(&out, f, k)
		if out.String() != "[key]" {
			t.Errorf("%s prints %q", f, out.String())
		}
	}
}
