package badgerkv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	badger "github.com/dgraph-io/badger/v4"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// The first bytes of badger's keys.
const (
	prefixCommit = 'c'
	prefixIntent = 'i'
	prefixUser   = 'u'
)

// pieceSize is about how many bytes of writes one piece of an intent holds.
const pieceSize = 256 << 10

// write is one write of an Update. A nil value deletes.
type write struct {
	key   string // badger's
	value []byte
}

// errTxDone is for a Tx that is used after its Update.
var errTxDone = errors.New("transaction is over")

// tx is an Update under way: what it has written lies in memory until it ends.
type tx struct {
	snapshot *badger.Txn
	writes   map[string][]byte // by badger's key; nil deletes
	done     bool
}

func (t *tx) check(key, value []byte) error {
	if t.done {
		return errTxDone
	}
	return kv.Check(key, value)
}

func (t *tx) Get(key []byte) ([]byte, error) {
	if err := t.check(key, nil); err != nil {
		return nil, err
	}
	k := userKey(key)
	v, ok := t.writes[string(k)]
	switch {
	case !ok:
		return get(t.snapshot, k)
	case v == nil:
		return nil, fmt.Errorf("get key: %w", fs.ErrNotExist)
	}
	return append(make([]byte, 0, len(v)), v...), nil
}

func (t *tx) Put(key, value []byte) error {
	if err := t.check(key, value); err != nil {
		return err
	}
	t.writes[string(userKey(key))] = append(make([]byte, 0, len(value)), value...)
	return nil
}

func (t *tx) Delete(key []byte) error {
	if err := t.check(key, nil); err != nil {
		return err
	}
	t.writes[string(userKey(key))] = nil
	return nil
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
	t, err := d.run(fn)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if len(t.writes) == 0 {
		return nil
	}
	if err := d.checkSpace(0); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	err = d.commit(t.writes)
	if errors.Is(err, badger.ErrTxnTooBig) {
		err = d.commitBig(ctx, t.writes)
	}
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	return nil
}

// run collects the writes of fn.
func (d *DB) run(fn func(kv.Tx) error) (*tx, error) {
	snapshot, err := d.snapshot()
	if err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	defer snapshot.Discard()
	t := &tx{snapshot: snapshot, writes: map[string][]byte{}}
	defer func() { t.done = true }()
	return t, fn(t)
}

// commit stores writes in one transaction of badger, or nothing and ErrTxnTooBig.
func (d *DB) commit(writes map[string][]byte) error {
	txn := d.b.NewTransaction(true)
	defer txn.Discard()
	for k, v := range writes {
		if err := set(txn, write{k, v}); err != nil {
			return err
		}
	}
	return txn.Commit()
}

// set adds a write to a transaction.
func set(txn *badger.Txn, w write) error {
	if w.value == nil {
		return txn.Delete([]byte(w.key))
	}
	return txn.Set([]byte(w.key), w.value)
}

// commitBig stores writes that are too many for one transaction. The steps are those of the
// package's comment.
func (d *DB) commitBig(ctx context.Context, writes map[string][]byte) error {
	id, pieces, err := d.writeIntent(ctx, writes)
	if err == nil {
		d.stage("intent")
		err = d.sync()
	}
	if err == nil {
		err = ctx.Err() // the last moment
	}
	if err != nil {
		return errors.Join(err, d.removeIntents())
	}
	record := binary.BigEndian.AppendUint64(nil, id)
	record = binary.BigEndian.AppendUint64(record, pieces)
	d.apply.Lock()
	defer d.apply.Unlock()
	err = d.commit(map[string][]byte{string(rune(prefixCommit)): record})
	if err == nil {
		d.stage("committed")
		err = d.sync()
	}
	if err == nil {
		d.stage("durable")
		err = d.applyAll(func(yield func(write, error) bool) {
			for _, k := range slices.Sorted(maps.Keys(writes)) {
				if !yield(write{k, writes[k]}, nil) {
					return
				}
			}
		})
	}
	if err == nil {
		err = d.finish()
	}
	if err != nil {
		// Not wrapped: a reader must not take the cause for that of its own key.
		d.failed = fmt.Errorf("%w: a big update may be half done, open it again: %s", kv.ErrClosed, err.Error())
		return d.failed
	}
	return nil
}

// writeIntent stores the pieces of an intent and returns its id and their number.
func (d *DB) writeIntent(ctx context.Context, writes map[string][]byte) (id, pieces uint64, err error) {
	id = d.b.MaxVersion() // grows with every transaction, so no other intent has it
	var size int64
	piece := make([]byte, 0, pieceSize+kv.MaxKey)
	flush := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		// There must be room to apply it all, too: the tree, and its log.
		size += int64(len(piece))
		if err := d.checkSpace(2 * size); err != nil {
			return err
		}
		err := d.commit(map[string][]byte{string(intentKey(id, pieces)): piece})
		pieces++
		piece = make([]byte, 0, pieceSize+kv.MaxKey)
		d.stage("piece")
		return err
	}
	for k, v := range writes {
		if len(piece) > 0 && len(piece)+len(k)+len(v)+16 > pieceSize {
			if err := flush(); err != nil {
				return 0, 0, err
			}
		}
		piece = appendWrite(piece, write{k, v})
	}
	return id, pieces, flush()
}

func intentKey(id, piece uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{prefixIntent}, id), piece)
}

// appendWrite encodes a write: the length of the key, the key, the length of the value plus
// one (0: delete), the value.
func appendWrite(p []byte, w write) []byte {
	p = binary.AppendUvarint(p, uint64(len(w.key)))
	p = append(p, w.key...)
	if w.value == nil {
		return binary.AppendUvarint(p, 0)
	}
	p = binary.AppendUvarint(p, uint64(len(w.value))+1)
	return append(p, w.value...)
}

var errIntent = errors.New("malformed intent")

// parseWrite is the inverse of appendWrite and returns what follows. The value is part of p.
func parseWrite(p []byte) (w write, rest []byte, err error) {
	n, used := binary.Uvarint(p)
	if used <= 0 || n > uint64(len(p)-used) || n < 2 || n > kv.MaxKey+1 {
		return write{}, nil, errIntent
	}
	p = p[used:]
	w.key, p = string(p[:n]), p[n:]
	if w.key[0] != prefixUser {
		return write{}, nil, errIntent
	}
	n, used = binary.Uvarint(p)
	if used <= 0 || n > uint64(len(p)-used)+1 || n > kv.MaxValue+1 {
		return write{}, nil, errIntent
	}
	p = p[used:]
	if n > 0 {
		w.value, p = p[:n-1:n-1], p[n-1:]
	}
	return w, p, nil
}

// applyAll stores writes in as many transactions as it takes, and syncs.
func (d *DB) applyAll(writes func(yield func(write, error) bool)) error {
	txn := d.b.NewTransaction(true)
	defer func() { txn.Discard() }()
	for w, err := range writes {
		if err == nil {
			err = set(txn, w)
		}
		if errors.Is(err, badger.ErrTxnTooBig) {
			if err := txn.Commit(); err != nil {
				return err
			}
			d.stage("applied")
			txn = d.b.NewTransaction(true)
			err = set(txn, w)
		}
		if err != nil {
			return err
		}
	}
	if err := txn.Commit(); err != nil {
		return err
	}
	d.stage("applied")
	return d.sync()
}

// finish removes the commit record, durably, and then the intents.
func (d *DB) finish() error {
	if err := d.commit(map[string][]byte{string(rune(prefixCommit)): nil}); err != nil {
		return err
	}
	d.stage("finished")
	if err := d.sync(); err != nil {
		return err
	}
	return d.removeIntents()
}

// removeIntents removes the pieces of all intents.
func (d *DB) removeIntents() error {
	for {
		keys := map[string][]byte{}
		err := d.b.View(func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixIntent}})
			defer it.Close()
			for it.Rewind(); it.Valid() && len(keys) < 1000; it.Next() {
				keys[string(it.Item().KeyCopy(nil))] = nil
			}
			return nil
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := d.commit(keys); err != nil {
			return err
		}
	}
}

// recover finishes the Update that a crash has interrupted after its commit record, or
// removes what is left of one that had not come so far.
func (d *DB) recover(ctx context.Context) (err error) {
	defer recovered(&err)
	txn := d.b.NewTransaction(false)
	defer txn.Discard()
	record, err := get(txn, []byte{prefixCommit})
	if errors.Is(err, fs.ErrNotExist) {
		return d.removeIntents()
	}
	if err != nil {
		return err
	}
	if len(record) != 16 {
		return fmt.Errorf("%w: commit record of %d bytes", kv.ErrDamaged, len(record))
	}
	id, pieces := binary.BigEndian.Uint64(record), binary.BigEndian.Uint64(record[8:])
	err = d.applyAll(func(yield func(write, error) bool) {
		for i := range pieces {
			if !d.replay(ctx, txn, intentKey(id, i), yield) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return d.finish()
}

// replay yields the writes of one piece of an intent and reports whether to go on.
func (d *DB) replay(ctx context.Context, txn *badger.Txn, key []byte, yield func(write, error) bool) bool {
	p, err := get(txn, key)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: a piece of an intent is missing", kv.ErrDamaged)
	}
	if err == nil {
		err = ctx.Err()
	}
	for err == nil && len(p) > 0 {
		var w write
		if w, p, err = parseWrite(p); err == nil && !yield(w, nil) {
			return false
		}
	}
	if errors.Is(err, errIntent) {
		err = fmt.Errorf("%w: %w", kv.ErrDamaged, err)
	}
	return err == nil || yield(write{}, err)
}
