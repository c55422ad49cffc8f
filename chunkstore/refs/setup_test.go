package refs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// lossyDB is a DB that forgets at a crash all that was not synced, as far as a real one may.
type lossyDB struct {
	mu     sync.Mutex
	now    map[string]string
	synced map[string]string
	step   func() error // before each Update and Sync
}

func newDB() *lossyDB { return &lossyDB{now: map[string]string{}, synced: map[string]string{}} }

// crashed returns what is left after a crash.
func (d *lossyDB) crashed() *lossyDB {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &lossyDB{now: maps.Clone(d.synced), synced: maps.Clone(d.synced)}
}

func (d *lossyDB) Get(_ context.Context, key []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok := d.now[string(key)]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(v), nil
}

func (d *lossyDB) Scan(_ context.Context, from, to []byte) iter.Seq2[kv.Pair, error] {
	d.mu.Lock()
	now := maps.Clone(d.now)
	d.mu.Unlock()
	return func(yield func(kv.Pair, error) bool) {
		for _, k := range slices.Sorted(maps.Keys(now)) {
			if k >= string(from) && (to == nil || k < string(to)) && !yield(kv.Pair{Key: []byte(k), Value: []byte(now[k])}, nil) {
				return
			}
		}
	}
}

func (d *lossyDB) Update(_ context.Context, fn func(kv.Tx) error) error {
	if d.step != nil {
		if err := d.step(); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	tx := lossyTx{maps.Clone(d.now)}
	if err := fn(tx); err != nil {
		return err
	}
	d.now = tx.m
	return nil
}

func (d *lossyDB) Sync(context.Context) error {
	if d.step != nil {
		if err := d.step(); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced = maps.Clone(d.now)
	return nil
}

func (d *lossyDB) Trim() {}

func (d *lossyDB) Close() error { return nil }

type lossyTx struct{ m map[string]string }

func (t lossyTx) Get(key []byte) ([]byte, error) {
	v, ok := t.m[string(key)]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(v), nil
}

func (t lossyTx) Put(key, value []byte) error {
	if err := kv.Check(key, value); err != nil {
		return err
	}
	t.m[string(key)] = string(value)
	return nil
}

func (t lossyTx) Delete(key []byte) error {
	delete(t.m, string(key))
	return nil
}

var errCut = errors.New("power was cut")

// faulty is a Bucket whose Put may fail, before it stored anything or after.
type faulty struct {
	blob.Bucket
	before, after func() error
}

func (f *faulty) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if f.before != nil {
		if err := f.before(); err != nil {
			return err
		}
	}
	if err := f.Bucket.Put(ctx, name, r, size); err != nil {
		return err
	}
	if f.after != nil {
		return f.after()
	}
	return nil
}

// node is one device of a drive, with its own memory.
type node struct {
	bucket  blob.Bucket
	db      kv.DB
	account *keys.Account
	device  *keys.Device
	words   string
}

// newNode makes a drive with one device.
func newNode(t testing.TB) (*mem.Bucket, node) {
	t.Helper()
	b := mem.New()
	a, d, words, err := keys.Create(t.Context(), b, keys.CreateOptions{Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	return b, node{b, newDB(), a, d, words}
}

// enroll adds a device to the drive of n, with a memory of its own.
func (n node) enroll(t testing.TB, roles keys.Roles) node {
	t.Helper()
	a, err := keys.Unlock(t.Context(), n.bucket, keys.Secret{Recovery: n.words}, keys.UnlockOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := a.Enroll(t.Context(), keys.EnrollOptions{Roles: roles, Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	return node{n.bucket, newDB(), a, d, n.words}
}

// open opens the heads of n as a process would that has just started.
func (n node) open(t testing.TB) (*Refs, error) {
	t.Helper()
	a, err := keys.Unlock(t.Context(), n.bucket, keys.Secret{Recovery: n.words}, keys.UnlockOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return Open(t.Context(), Options{
		Bucket: n.bucket, KV: n.db, Device: n.device, Members: a.Members(), Record: a.RecordMark, Settle: a.Settle,
	})
}

func (n node) mustOpen(t testing.TB) *Refs {
	t.Helper()
	r, err := n.open(t)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// root is the n-th snapshot of a test.
func root(n int) chunk.Ref {
	if n == 0 {
		return chunk.Ref{}
	}
	return chunk.Ref{ID: chunk.ID{byte(n), byte(n >> 8), 1}, Key: chunk.Key{2}, Size: 3, Kind: chunk.Snapshot}
}

func seen(n int) causal.Context { return causal.Context{{Device: 1, Counter: uint64(n)}} }

// move moves the head from root(n-1) to root(n).
func move(t testing.TB, r *Refs, n int) Head {
	t.Helper()
	h, err := r.Move(t.Context(), root(n-1), root(n), seen(n), noon)
	if err != nil {
		t.Fatalf("move to %d: %v", n, err)
	}
	return h
}

func heads(t testing.TB, r *Refs) (map[keys.DeviceID]int, error) {
	t.Helper()
	got := map[keys.DeviceID]int{}
	var last keys.DeviceID
	for h, err := range r.Heads(t.Context()) {
		if err != nil {
			return got, err
		}
		if len(got) > 0 && cmp.Compare(string(last[:]), string(h.Device[:])) >= 0 {
			t.Error("heads are out of order")
		}
		last, got[h.Device] = h.Device, int(h.Seq)
	}
	return got, nil
}

// newest returns the number of the snapshot at which r's own head is, 0 for none.
func newest(t testing.TB, r *Refs) int {
	t.Helper()
	h, err := r.Head(t.Context())
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(h.Root.ID[0]) + int(h.Root.ID[1])<<8
}

func put(t testing.TB, b blob.Bucket, name blob.Name, p []byte) {
	t.Helper()
	if err := b.Put(t.Context(), name, bytes.NewReader(p), int64(len(p))); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, b blob.Bucket, name blob.Name) []byte {
	t.Helper()
	p, err := keys.ReadBlob(t.Context(), b, name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func remove(t testing.TB, b blob.Bucket, names ...blob.Name) {
	t.Helper()
	if err := b.Remove(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
}

func names(t testing.TB, b blob.Bucket, prefix blob.Name) []blob.Name {
	t.Helper()
	var all []blob.Name
	for info, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Name)
	}
	return all
}

func findings(t testing.TB, r *Refs) map[blob.Name]error {
	t.Helper()
	found := map[blob.Name]error{}
	for name, err := range r.Verify(t.Context()) {
		if err != nil {
			found[name] = err
		}
	}
	return found
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		t.Fatalf("%s: got %v, want %v", what, err, want)
	}
}
