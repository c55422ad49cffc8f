// Package memkv is a kv.DB in memory, for tests and for systems without a database of
// their own. It keeps nothing when the process ends.
package memkv

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// A DB is a [kv.DB] in memory. It is safe for concurrent use.
type DB struct {
	seed   maphash.Seed
	turn   chan struct{}        // holds one value while an Update runs
	root   atomic.Pointer[node] // what readers see
	closed atomic.Bool
	active sync.WaitGroup // Scans under way
	mu     sync.Mutex     // between closed and active
}

var _ kv.DB = (*DB)(nil)

// New returns an empty DB.
func New() *DB {
	return &DB{seed: maphash.MakeSeed(), turn: make(chan struct{}, 1)}
}

// Clone returns a DB of its own with the pairs as they are now: what a crash at this
// moment would leave behind of all that Sync has seen.
func (d *DB) Clone() *DB {
	c := New()
	c.seed = d.seed
	c.root.Store(d.root.Load())
	return c
}

// begin counts what Close has to wait for.
func (d *DB) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Load() {
		return kv.ErrClosed
	}
	d.active.Add(1)
	return nil
}

// Trim implements [kv.DB]: nothing can be read again.
func (*DB) Trim() {}

// Get implements [kv.DB].
func (d *DB) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := kv.Check(key, nil); err != nil {
		return nil, err
	}
	if err := d.begin(ctx); err != nil {
		return nil, fmt.Errorf("get key: %w", err)
	}
	defer d.active.Done()
	return get(d.root.Load(), key)
}

func get(n *node, key []byte) ([]byte, error) {
	v, ok := n.get(string(key))
	if !ok {
		return nil, fmt.Errorf("get key: %w", fs.ErrNotExist)
	}
	return own(v), nil
}

// own returns a copy that is never nil.
func own(p []byte) []byte { return append(make([]byte, 0, len(p)), p...) }

// Scan implements [kv.DB].
func (d *DB) Scan(ctx context.Context, from, to []byte) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		if err := d.begin(ctx); err != nil {
			yield(kv.Pair{}, fmt.Errorf("scan keys: %w", err))
			return
		}
		defer d.active.Done()
		if to != nil && slices.Compare(from, to) >= 0 {
			return // also keeps an empty to apart from none
		}
		var err error
		d.root.Load().scan(string(from), string(to), func(n *node) bool {
			if err = ctx.Err(); err == nil && d.closed.Load() {
				err = kv.ErrClosed
			}
			return err == nil && yield(kv.Pair{Key: []byte(n.key), Value: own(n.value)}, nil)
		})
		if err != nil {
			yield(kv.Pair{}, fmt.Errorf("scan keys: %w", err))
		}
	}
}

// Update implements [kv.DB].
func (d *DB) Update(ctx context.Context, fn func(kv.Tx) error) error {
	if err := d.begin(ctx); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	defer d.active.Done()
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return fmt.Errorf("update: %w", ctx.Err())
	}
	tx := &tx{db: d, root: d.root.Load()}
	err := fn(tx)
	tx.done = true
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	d.root.Store(tx.root)
	return nil
}

// errTxDone is for a Tx that is used after its Update.
var errTxDone = errors.New("transaction is over")

// tx is an Update under way: a tree of its own that nobody else sees yet.
type tx struct {
	db   *DB
	root *node
	done bool
}

func (t *tx) Get(key []byte) ([]byte, error) {
	if err := t.check(key, nil); err != nil {
		return nil, err
	}
	return get(t.root, key)
}

func (t *tx) Put(key, value []byte) error {
	if err := t.check(key, value); err != nil {
		return err
	}
	t.root = t.root.put(t.db.seed, string(key), own(value))
	return nil
}

func (t *tx) Delete(key []byte) error {
	if err := t.check(key, nil); err != nil {
		return err
	}
	t.root = t.root.remove(string(key))
	return nil
}

func (t *tx) check(key, value []byte) error {
	if t.done {
		return errTxDone
	}
	return kv.Check(key, value)
}

// Sync implements [kv.DB]: there is nothing that could be more durable.
func (d *DB) Sync(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	d.active.Done()
	return nil
}

// Close implements [kv.DB].
func (d *DB) Close() error {
	d.mu.Lock()
	d.closed.Store(true)
	d.mu.Unlock()
	d.active.Wait()
	return nil
}
