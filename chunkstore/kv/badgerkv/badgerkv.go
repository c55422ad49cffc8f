// Package badgerkv is a kv.DB on disk: badger, tuned for bounded memory and made all
// or nothing for updates of any size. It knows nothing of what is stored.
//
// All keys of the caller carry the prefix "u" inside badger; the other prefixes
// belong to this package. Badger's transactions are limited to about a megabyte, so a
// larger Update goes this way (a redo log):
//
//  1. its writes are stored, in pieces, under "i" + id + number: the intent
//  2. sync
//  3. a commit record under "c" names the id and the number of pieces; sync.
//     From here on the Update has happened, whatever comes
//  4. the writes are applied in several transactions, while no reader may begin; sync
//  5. the last transaction removes the commit record; sync
//  6. the intent is removed; if a crash comes first, Open does it
//
// Open finds a commit record after a crash between 3 and 5 and does 4 to 6 again, which
// gives the same state; an intent without a commit record is removed unread.
//
// All values shorter than [kv.MaxValue] lie in the tree itself; the value log, which
// a goroutine of the DB tidies up from time to time, holds the rest.
package badgerkv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// KeySize is the length of Options.Key in bytes.
const KeySize = 32

// Options say where the database lies and how it is encrypted. All but Log is needed.
type Options struct {
	Dir string       // a folder of its own, with mode 0700; made if it is not there
	Key []byte       // KeySize bytes; Open copies them
	Log *slog.Logger // takes badger's messages; nil discards them
}

// A DB is a [kv.DB] on disk. It is safe for concurrent use. Only one DB, of one process, has
// a folder open at a time.
//
// If an Update fails from its step 3 on (see the package), it and all later calls
// return an error that wraps [kv.ErrClosed], until the database is opened again: only then
// is it known if the Update is stored, as a whole.
type DB struct {
	b    *badger.DB
	dir  string
	lock *os.File
	turn chan struct{} // holds one value while an Update runs

	// apply is write-held while a big Update is applied, and read-held while a reader
	// takes its snapshot, so that no snapshot lies in the middle of it.
	apply sync.RWMutex
	// failed is the error that left a big Update half applied. Guarded by apply.
	failed error

	mu      sync.Mutex
	closed  bool
	closing chan struct{}  // closed by Close
	active  sync.WaitGroup // calls under way, and the goroutine of tidy

	stage func(string) // called between the steps; for the crash tests of this package only
}

var _ kv.DB = (*DB)(nil)

// The sizes that bound badger's memory. While a million pairs of 32 and 64 bytes come in as fast
// as they can, the process peaks at 300 to 420 MiB resident, of which 60 MiB and more are pages of
// files (TestDB_MemoryIsBounded); badger's defaults take 670 MB. What is left is badger's
// table builders: compaction runs a dozen of them at once and keeps eight, each several
// times as large as a table, hence the small tables.
const (
	memTable   = 7 << 20 // bytes of one memtable; 15 % of it bound a transaction, and so MaxValue
	memTables  = 1       // that wait to be flushed
	table      = 256 << 10
	blockCache = 8 << 20
	indexCache = 8 << 20
	minFree    = 64 << 20 // bytes; see checkSpace
)

// Open opens the database in o.Dir and makes it if it is not there. It returns an
// error that wraps [kv.ErrLocked] if it is open elsewhere, [kv.ErrNoSpace] if the
// disk is full, and [kv.ErrDamaged] if the key is wrong or the files cannot be used: then
// the caller may move the folder away and build the database anew.
func Open(ctx context.Context, o Options) (*DB, error) {
	if len(o.Key) != KeySize {
		return nil, fmt.Errorf("open key-value database: key of %d bytes, want %d", len(o.Key), KeySize)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open key-value database: %w", err)
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &DB{dir: o.Dir, turn: make(chan struct{}, 1), closing: make(chan struct{}), stage: func(string) {}}
	if err := d.lockDir(); err != nil {
		return nil, fmt.Errorf("open key-value database: %w", err)
	}
	if err := d.open(o.Key, log); err != nil {
		return nil, errors.Join(fmt.Errorf("open key-value database: %w", err), d.lock.Close())
	}
	if err := d.recover(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("recover key-value database: %w", err), d.Close())
	}
	d.active.Go(func() { d.tidy(log) })
	return d, nil
}

// tidyEvery is how often the value log is looked through for garbage.
const tidyEvery = 10 * time.Minute

// tidy collects the garbage of the value log until Close.
func (d *DB) tidy(log *slog.Logger) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.closing:
			return
		case <-tick.C:
		}
		err := d.b.RunValueLogGC(0.5)
		if err != nil && !errors.Is(err, badger.ErrNoRewrite) && !errors.Is(err, badger.ErrRejected) {
			log.Warn("tidy key-value database", "error", err)
		}
	}
}

// lockDir makes the folder and takes the lock file in it. It is taken before badger
// looks at anything, so that a folder that is in use is never called damaged.
func (d *DB) lockDir() error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(d.dir, "SHEAF-LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if !lockFile(f) {
		return errors.Join(kv.ErrLocked, f.Close())
	}
	d.lock = f
	return nil
}

func (d *DB) open(key []byte, log *slog.Logger) (err error) {
	if err := d.checkSpace(0); err != nil {
		return err
	}
	if err := d.sweepEmpty(); err != nil {
		return err
	}
	opts := badger.DefaultOptions(d.dir).
		WithEncryptionKey(append([]byte(nil), key...)).
		WithLogger(logger{log}).
		WithMetricsEnabled(false).
		WithBaseTableSize(table).
		WithMemTableSize(memTable).
		WithNumMemtables(memTables).
		WithBlockCacheSize(blockCache).
		WithIndexCacheSize(indexCache).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(6).
		WithNumCompactors(2).
		WithNumGoroutines(2).
		WithValueLogFileSize(16 << 20).
		WithValueThreshold(kv.MaxValue). // shorter values lie in the tree
		// All tables are checked by Open, which reads some 100 bytes for each small pair. There is
		// no other way: where a block turns out to be damaged later, badger's gets and iterators
		// pass over it without a word and come up with older versions of its keys.
		WithChecksumVerificationMode(options.OnTableRead).
		WithDetectConflicts(false). // Updates run one after the other
		WithSyncWrites(false)
	defer func() {
		// Badger trusts its files; some damage makes it panic here, see also countOpening.
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", kv.ErrDamaged, r)
		}
	}()
	opts.TableSizeMultiplier = 1
	if err := d.countOpening(); err != nil {
		return err
	}
	d.b, err = badger.Open(opts)
	if err == nil {
		err = os.Remove(d.openingFile())
	}
	if err != nil && !ofSystem(err) && d.checkSpace(0) == nil && d.probe() == nil {
		err = fmt.Errorf("%w: %w", kv.ErrDamaged, err)
	}
	return err
}

// sweepEmpty removes logs without any byte. A kill leaves one where badger has made a log and
// not written to it yet, or has cut it off in order to remove it; either way nothing was in it that
// counts, but badger does not open a folder with such a file.
func (d *DB) sweepEmpty() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".mem" && ext != ".vlog" {
			continue
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		if fi.Size() > 0 || !fi.Mode().IsRegular() {
			continue
		}
		if err := os.Remove(filepath.Join(d.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// maxOpenings is how many times in a row an Open may end in the death of the process before the
// files are called damaged.
const maxOpenings = 3

func (d *DB) openingFile() string { return filepath.Join(d.dir, "SHEAF-OPENING") }

// countOpening notes that badger is about to open the folder. Some damage, such as a table that was
// cut off, makes badger panic in a goroutine of its own, which nobody can catch: without this
// count, the process would die of it again each time it is started.
func (d *DB) countOpening() error {
	marks, err := os.ReadFile(d.openingFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(marks) >= maxOpenings {
		return fmt.Errorf("%w: the process died of opening it %d times", kv.ErrDamaged, len(marks))
	}
	return os.WriteFile(d.openingFile(), append(marks, 'x'), 0o600)
}

// ofSystem reports whether err is one that the files are not to blame for.
func ofSystem(err error) bool {
	return errors.Is(err, fs.ErrPermission) || isNoSpace(err) || isExhausted(err)
}

// probe finds out if files can be written and opened here at all. Badger hides the
// system's errors in text, so a failed Open does not tell.
func (d *DB) probe() error {
	for range 8 {
		f, err := os.CreateTemp(d.dir, "probe-*")
		if err != nil {
			return err
		}
		_, err = f.Write(make([]byte, 4096))
		defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }()
		if err := errors.Join(err, f.Sync()); err != nil {
			return err
		}
	}
	return nil
}

// checkSpace returns ErrNoSpace if the disk is nearly full. Badger writes to memory that
// is mapped to sparse files: where the disk has no room for a page, the system kills the
// process. So there is always room for more than badger can have under way, besides
// the bytes that the caller is about to write.
func (d *DB) checkSpace(more int64) error {
	free, err := freeSpace(d.dir)
	if err != nil {
		return err
	}
	if free-more < minFree {
		return fmt.Errorf("%w: %d bytes free, want %d", kv.ErrNoSpace, free, minFree+more)
	}
	return nil
}

// begin counts what Close has to wait for.
func (d *DB) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return kv.ErrClosed
	}
	d.active.Add(1)
	return nil
}

// snapshot returns a transaction that reads the state as it is now.
func (d *DB) snapshot() (*badger.Txn, error) {
	d.apply.RLock()
	defer d.apply.RUnlock()
	if d.failed != nil {
		return nil, d.failed
	}
	return d.b.NewTransaction(false), nil
}

// Get implements [kv.DB].
func (d *DB) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := kv.Check(key, nil); err != nil {
		return nil, err
	}
	if err := d.begin(ctx); err != nil {
		return nil, fmt.Errorf("get key: %w", err)
	}
	defer d.active.Done()
	txn, err := d.snapshot()
	if err != nil {
		return nil, fmt.Errorf("get key: %w", err)
	}
	defer txn.Discard()
	return get(txn, userKey(key))
}

// get reads a key of badger.
func get(txn *badger.Txn, key []byte) (value []byte, err error) {
	defer recovered(&err)
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, fmt.Errorf("get key: %w", fs.ErrNotExist)
	}
	if err == nil {
		value, err = item.ValueCopy(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("get key: %w: %w", kv.ErrDamaged, err)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

// recovered turns a panic of badger over damaged files into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", kv.ErrDamaged, r)
	}
}

// userKey returns badger's key for one of the caller's.
func userKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), prefixUser), key...)
}

// Scan implements [kv.DB].
func (d *DB) Scan(ctx context.Context, from, to []byte) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		if err := d.scan(ctx, from, to, yield); err != nil {
			yield(kv.Pair{}, fmt.Errorf("scan keys: %w", err))
		}
	}
}

func (d *DB) scan(ctx context.Context, from, to []byte, yield func(kv.Pair, error) bool) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.active.Done()
	txn, err := d.snapshot()
	if err != nil {
		return err
	}
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: false, Prefix: []byte{prefixUser}})
	defer it.Close()
	for err := seek(it, userKey(from)); ; err = next(it) {
		if err != nil {
			return err
		}
		if !it.Valid() {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		select {
		case <-d.closing:
			return kv.ErrClosed
		default:
		}
		p, err := pair(it.Item())
		if err != nil {
			return err
		}
		if to != nil && string(p.Key) >= string(to) || !yield(p, nil) {
			return nil
		}
	}
}

func seek(it *badger.Iterator, key []byte) (err error) {
	defer recovered(&err)
	it.Seek(key)
	return nil
}

func next(it *badger.Iterator) (err error) {
	defer recovered(&err)
	it.Next()
	return nil
}

func pair(item *badger.Item) (p kv.Pair, err error) {
	defer recovered(&err)
	p.Key = append([]byte(nil), item.Key()[1:]...)
	p.Value, err = item.ValueCopy(nil)
	if err != nil {
		return kv.Pair{}, fmt.Errorf("%w: %w", kv.ErrDamaged, err)
	}
	if p.Value == nil {
		p.Value = []byte{}
	}
	return p, nil
}

// Sync implements [kv.DB].
func (d *DB) Sync(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer d.active.Done()
	if err := d.sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// sync makes what is written durable. Badger syncs the log of its active memtable only,
// and not those that wait to be flushed, so all logs that are there are synced here. One
// that goes away meanwhile is in a table by then, and that is durable.
func (d *DB) sync() error {
	logs, err := filepath.Glob(filepath.Join(d.dir, "*.mem"))
	if err != nil {
		return err
	}
	for _, name := range logs {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	if err := d.b.Sync(); err != nil {
		return err
	}
	return syncDir(d.dir)
}

// Close implements [kv.DB].
func (d *DB) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	close(d.closing)
	d.mu.Unlock()
	d.active.Wait()
	err := errors.Join(d.sync(), d.b.Close(), d.lock.Close())
	if err != nil {
		return fmt.Errorf("close key-value database: %w", err)
	}
	return nil
}
