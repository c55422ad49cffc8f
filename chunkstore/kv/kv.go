// Package kv is the joint to an ordered key-value database on this device: the
// index, what is known of heads, the engine's memory. It is not a place for
// anything that cannot be rebuilt from a Bucket, but for the device's own
// high-water marks.
package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// The errors of a DB, besides io/fs.ErrNotExist.
var (
	ErrClosed  = errors.New("key-value database is closed") // of every method after Close
	ErrDamaged = errors.New("key-value database is damaged or its key is wrong")
	ErrLocked  = errors.New("key-value database is open elsewhere")
	ErrNoSpace = errors.New("no space left for the key-value database")
	ErrSize    = errors.New("key or value has an illegal size")
)

// Limits of keys and values in bytes. A key has at least one byte.
const (
	MaxKey   = 1 << 10
	MaxValue = 1 << 20
)

// Check returns an error that wraps ErrSize if key or value has an illegal size.
func Check(key, value []byte) error {
	if len(key) == 0 || len(key) > MaxKey {
		return fmt.Errorf("%w: key of %d bytes", ErrSize, len(key))
	}
	if len(value) > MaxValue {
		return fmt.Errorf("%w: value of %d bytes", ErrSize, len(value))
	}
	return nil
}

// A Pair is one key and its value. Both belong to the caller that receives them.
type Pair struct {
	Key, Value []byte
}

// A DB is an ordered map of bytes. What it holds can be lost and rebuilt, but
// for the device's own heads. Keys are 1 to 1,024 bytes long, values at most 1
// MiB; others are refused with [ErrSize]. All methods are safe for concurrent use
// and stop when their context is done. Every implementation must pass kvtest.Run.
type DB interface {
	// Get returns the value of key, or an error that wraps [io/fs.ErrNotExist].
	// The slice belongs to the caller.
	Get(ctx context.Context, key []byte) ([]byte, error)

	// Scan yields the pairs with from <= key < to, in the byte order of their
	// keys, as they were when it began. A nil to means no upper bound. The
	// sequence ends at the first error, which it yields with a zero Pair.
	Scan(ctx context.Context, from, to []byte) iter.Seq2[Pair, error]

	// Update runs fn once; all that it writes is stored when Update returns nil,
	// and none of it otherwise. Updates run one after the other. It may hold as
	// many writes as memory allows: an implementation whose transactions are limited
	// must still be all or nothing, also over a crash. An error of the disk does not close the
	// DB: when the disk is in order again, the next Update is stored. Only if the DB is closed, or the
	// process ends, before that, a DB that is opened anew may hold all that was refused last, as after a crash.
	Update(ctx context.Context, fn func(Tx) error) error

	// Sync returns when every Update that returned before is durable.
	Sync(ctx context.Context) error

	// Trim gives back the memory of what was read last and can be read again. It changes nothing, may be called at any time, also when
	// the DB is closed, and does not fail.
	Trim()

	// Close gives the database back, durably. It waits for what is under way, and so
	// must not be called from within a Scan or an Update. Closing twice is no error.
	Close() error
}

// A Tx is one Update in progress. It sees its own writes. It must not be used
// after fn has returned, nor by several goroutines.
type Tx interface {
	Get(key []byte) ([]byte, error)
	Put(key, value []byte) error
	Delete(key []byte) error
}
