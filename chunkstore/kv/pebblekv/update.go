package pebblekv

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// errTxDone is for a Tx that is used after its Update.
var errTxDone = errors.New("transaction is over")

// tx is an Update under way: what it has written lies in memory until it ends.
type tx struct {
	batch *pebble.Batch
	done  bool
}

func (t *tx) check(key, value []byte) error {
	if t.done {
		return errTxDone
	}
	if err := kv.Check(key, value); err != nil {
		return err
	}
	if t.batch.Len()+len(key)+len(value) > maxBatch {
		return fmt.Errorf("update of more than %d bytes: %w", maxBatch, kv.ErrSize)
	}
	return nil
}

func (t *tx) Get(key []byte) ([]byte, error) {
	if err := t.check(key, nil); err != nil {
		return nil, err
	}
	return get(t.batch, key)
}

func (t *tx) Put(key, value []byte) error {
	if err := t.check(key, value); err != nil {
		return err
	}
	return t.batch.Set(key, value, nil)
}

func (t *tx) Delete(key []byte) error {
	if err := t.check(key, nil); err != nil {
		return err
	}
	return t.batch.Delete(key, nil)
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
	e, err := d.use(ctx, true)
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	defer d.release(e)
	batch := e.b.NewIndexedBatch()
	defer func() { _ = batch.Close() }() // it is only given back
	if err := run(batch, fn); err != nil {
		return err
	}
	err = ctx.Err()
	if err == nil && !batch.Empty() {
		err = d.commit(e, batch)
	}
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	return nil
}

// run collects the writes of fn.
func run(batch *pebble.Batch, fn func(kv.Tx) error) error {
	t := &tx{batch: batch}
	defer func() { t.done = true }()
	return fn(t)
}

// commit stores a batch, durably.
func (d *DB) commit(e *engine, batch *pebble.Batch) error {
	// It is written to the log, to a table, and from there to another one.
	if err := d.checkSpace(3 * int64(batch.Len())); err != nil {
		return err
	}
	if failure := e.fs.failed(); failure != nil {
		return refused(failure)
	}
	if bad := d.bad.Load(); bad != nil {
		return *bad // what is stored now would go with the rest
	}
	if err := batch.Commit(pebble.Sync); err != nil {
		e.fs.fail(err) // it is not known how much of it is in the log
		return refused(err)
	}
	if e.fs.lost.Load() {
		return refused(e.fs.failed())
	}
	// It is stored, also if something else has failed meanwhile.
	d.ends.ack(e.fs)
	return nil
}
