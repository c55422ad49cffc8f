package chunkstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// crashKV is a kv.DB in memory that knows what a power cut would leave: what was
// there at the last Sync. hook, if set, is called before each change and its error is
// returned in place of the change; got is called after each Get. Both may use the DB.
type crashKV struct {
	mu      sync.Mutex
	now     map[string]string
	durable map[string]string
	hook    func(op string) error
	got     func(key []byte)
}

func newCrashKV() *crashKV { return &crashKV{now: map[string]string{}, durable: map[string]string{}} }

// afterPowerCut returns what is left if the power fails now. Everything that was not synced
// is gone.
func (d *crashKV) afterPowerCut() *crashKV {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &crashKV{now: maps.Clone(d.durable), durable: maps.Clone(d.durable)}
}

// onGet sets what is called after each Get. The maintainer of a Store calls Get too.
func (d *crashKV) onGet(got func(key []byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = got
}

func (d *crashKV) Get(ctx context.Context, key []byte) ([]byte, error) {
	d.mu.Lock()
	v, err := (*crashTx)(d).Get(key)
	got := d.got
	d.mu.Unlock()
	if got != nil {
		got(key)
	}
	return v, err
}

func (d *crashKV) Scan(ctx context.Context, from, to []byte) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		d.mu.Lock()
		var keys []string
		for k := range d.now {
			if k >= string(from) && (to == nil || k < string(to)) {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		pairs := make([]kv.Pair, len(keys))
		for i, k := range keys {
			pairs[i] = kv.Pair{Key: []byte(k), Value: []byte(d.now[k])}
		}
		d.mu.Unlock()
		for _, p := range pairs {
			if err := ctx.Err(); err != nil {
				yield(kv.Pair{}, err)
				return
			}
			if !yield(p, nil) {
				return
			}
		}
	}
}

func (d *crashKV) Update(ctx context.Context, fn func(kv.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.hook != nil {
		if err := d.hook("update"); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	undo := &undoTx{crashTx: (*crashTx)(d), old: map[string]*string{}}
	if err := fn(undo); err != nil {
		for k, v := range undo.old {
			if v == nil {
				delete(d.now, k)
			} else {
				d.now[k] = *v
			}
		}
		return err
	}
	return nil
}

func (d *crashKV) Trim() {}

func (d *crashKV) Sync(ctx context.Context) error {
	if d.hook != nil {
		if err := d.hook("sync"); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.durable = maps.Clone(d.now)
	return nil
}

func (d *crashKV) Close() error { return nil }

type crashTx crashKV

func (t *crashTx) Get(key []byte) ([]byte, error) {
	v, ok := t.now[string(key)]
	if !ok {
		return nil, fmt.Errorf("key %x: %w", key, fs.ErrNotExist)
	}
	return []byte(v), nil
}

type undoTx struct {
	*crashTx
	old map[string]*string
}

func (t *undoTx) remember(key []byte) {
	k := string(key)
	if _, ok := t.old[k]; ok {
		return
	}
	if v, ok := t.now[k]; ok {
		t.old[k] = &v
	} else {
		t.old[k] = nil
	}
}

func (t *undoTx) Put(key, value []byte) error {
	if err := kv.Check(key, value); err != nil {
		return err
	}
	t.remember(key)
	t.now[string(key)] = string(value)
	return nil
}

func (t *undoTx) Delete(key []byte) error {
	t.remember(key)
	delete(t.now, string(key))
	return nil
}

// hookBucket calls hook before each Put and Remove, and returns its error in place of the
// change. It counts what is read.
type hookBucket struct {
	*mem.Bucket
	hook func(op string, name blob.Name) error
	get  func(name blob.Name, off, n int64)
	// stale, if set, is listed and read as well: a bucket that is slow to forget.
	stale *mem.Bucket
}

func (b *hookBucket) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if b.hook != nil {
		if err := b.hook("put", name); err != nil {
			return err
		}
	}
	return b.Bucket.Put(ctx, name, r, size)
}

func (b *hookBucket) Remove(ctx context.Context, names ...blob.Name) error {
	for _, name := range names {
		if b.hook != nil {
			if err := b.hook("remove", name); err != nil {
				return err
			}
		}
		if err := b.Bucket.Remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (b *hookBucket) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if b.get != nil {
		b.get(name, off, n)
	}
	r, err := b.Bucket.Get(ctx, name, off, n)
	if errors.Is(err, fs.ErrNotExist) && b.stale != nil {
		return b.stale.Get(ctx, name, off, n)
	}
	return r, err
}

func (b *hookBucket) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	if b.stale != nil {
		return b.stale.List(ctx, prefix)
	}
	return b.Bucket.List(ctx, prefix)
}

var errInjected = errors.New("injected fault")

// testKeys are fixed keys.
func testKeys() Keys {
	var k Keys
	for i := range 32 {
		k.Seal.CID[i], k.Seal.SIV[i], k.Seal.Chunk[i] = byte(i), byte(i+32), byte(i+64)
		k.PackDir[i], k.Index[i] = byte(i+96), byte(i+128)
	}
	return k
}

// open opens a Store that ends with the test.
func openStore(t testing.TB, b blob.Bucket, db kv.DB) *Store {
	t.Helper()
	return openWith(t, Options{Bucket: b, KV: db})
}

// openLazy is openStore, of one that learns what there is when it needs it, and not because a slow machine let time pass.
func openLazy(t testing.TB, b blob.Bucket, db kv.DB) *Store {
	t.Helper()
	return openWith(t, Options{Bucket: b, KV: db, Lazy: true, rest: time.Hour})
}

func openWith(t testing.TB, o Options) *Store {
	t.Helper()
	o.Keys, o.Level = testKeys(), seal.Default
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		// The context of the test is done by now: do not flush.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Close(ctx); err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, context.Canceled) {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// testRand returns a source whose seed is printed, and taken from SHEAF_SEED if that is set.
func testRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("SHEAF_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("SHEAF_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("SHEAF_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// randomBytes returns n bytes that nothing compresses.
func randomBytes(r *rand.Rand, n int) []byte {
	p := make([]byte, n+7)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:i+8:len(p)], r.Uint64())
		if i+16 > len(p) {
			break
		}
	}
	return p[:n]
}

// text returns n bytes that compress well, different for each seed.
func text(seed, n int) []byte {
	var p []byte
	for i := 0; len(p) < n; i++ {
		p = fmt.Appendf(p, "line %d of text %d, as dull as the one before\n", i, seed)
	}
	return p[:n]
}

func put(t testing.TB, s *Store, plain []byte) chunk.Ref {
	t.Helper()
	ref, err := s.Put(t.Context(), chunk.Data, plain)
	if err != nil {
		t.Fatalf("put %d bytes: %v", len(plain), err)
	}
	return ref
}

func flush(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

// wantChunk fails the test if the Store does not give the bytes back, whole and in parts.
func wantChunk(t testing.TB, s *Store, ref chunk.Ref, plain []byte) {
	t.Helper()
	got, err := s.Get(t.Context(), nil, ref)
	if err != nil {
		t.Fatalf("get %v: %v", ref, err)
	}
	if string(got) != string(plain) {
		t.Fatalf("get %v: %d bytes that are not those put (%d)", ref, len(got), len(plain))
	}
	p := make([]byte, 5000)
	off := int64(len(plain) / 2)
	n, err := s.ReadAt(t.Context(), ref, p, off)
	if err != nil && err != io.EOF { //nolint:errorlint // ReadAt promises io.EOF itself, as io.ReaderAt does
		t.Fatalf("read %v at %d: %v", ref, off, err)
	}
	if want := min(len(p), len(plain)-int(off)); n != want || string(p[:n]) != string(plain[off:int(off)+n]) {
		t.Fatalf("read %v at %d: got %d bytes, want %d, or other bytes", ref, off, n, want)
	}
}

// findings runs Verify to its end.
func findings(t testing.TB, s *Store) []Finding {
	t.Helper()
	var all []Finding
	for f, err := range s.Verify(t.Context(), nil) {
		if err != nil {
			t.Fatalf("verify: %v", err)
		}
		all = append(all, f)
	}
	return all
}

func wantSound(t testing.TB, s *Store) {
	t.Helper()
	for _, f := range findings(t, s) {
		t.Errorf("verify found %v", f)
	}
}

func packNames(t testing.TB, b blob.Bucket) []blob.Info {
	t.Helper()
	var all []blob.Info
	for info, err := range b.List(context.WithoutCancel(t.Context()), "packs/") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info)
	}
	return all
}

// failing lists nothing while fails is true.
type failing struct {
	blob.Bucket
	fails *atomic.Bool
}

func (b failing) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	if b.fails.Load() {
		return func(yield func(blob.Info, error) bool) { yield(blob.Info{}, errInjected) }
	}
	return b.Bucket.List(ctx, prefix)
}
