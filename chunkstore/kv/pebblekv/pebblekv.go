// Package pebblekv is a kv.DB on disk: pebble, tuned for little memory, on files that are encrypted and
// authenticated. It knows nothing of what is stored.
//
// An Update is one batch of pebble, and durable when it returns. Between pebble and the disk lies
// a sealedFS: see there for the order in which names become durable, and at engine for what happens when the disk
// fails. The files themselves are described at tableWriter and logWriter.
//
// Each file is encrypted with AES-256-GCM under a key of its own, which is derived from Options.Key and a random salt; its header
// is bound to its name. So who can read the folder learns how much is stored and when, and no key or value. Who can
// write to it can take the database back to an older state, or a log back to an earlier end, can mix
// files of two such states that have the same name, and can destroy it. He cannot make the database hold a pair
// that was never stored in it: a changed byte is damage.
//
// Damage that Open meets is its error. Damage that is met later is the error of whoever met it; a mark
// is left, no Update is taken any more, and the next Open calls the database damaged. To open is O(1): pebble reads its
// manifest, and no more of the logs than a memtable's worth, or one Update, if that was larger.
package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sheaf-drive/sheaf/chunkstore/durable"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// KeySize is the length of Options.Key in bytes.
const KeySize = 32

// Options say where the database lies and how it is encrypted. All but Log is needed.
type Options struct {
	Dir string       // a folder of its own, with mode 0700; made if it is not there
	Key []byte       // KeySize bytes; Open copies them
	Log *slog.Logger // takes pebble's messages; nil discards them
}

// A DB is a [kv.DB] on disk. It is safe for concurrent use. Only one DB, of one process, has
// a folder open at a time.
//
// If the disk refuses a change, the Update under way returns the error (one that wraps [kv.ErrNoSpace] where that is the
// reason, else the system's), and nothing of it is stored. The next call opens the files again; until they can be written, Get and Scan are
// answered, and Update returns why not. A Scan under way at that moment may end with that error. Only if the process ends, or the DB
// is closed, before an Update was stored again, it is as with a power cut: the Update that was refused is there as a whole, or not at all.
type DB struct {
	base  vfs.FS
	dir   string
	key   []byte
	tune  func(*pebble.Options)
	locks []io.Closer
	log   *slog.Logger
	turn  chan struct{} // holds one value while an Update runs
	ends  *walEnds

	opened atomic.Bool
	bad    atomic.Pointer[error] // the damage that was met

	repair  chan struct{} // holds one value while an engine takes the place of another
	rw, ro  backoff       // of opening one, guarded by repair
	mu      sync.Mutex
	cur     *engine // nil if none could be opened
	closed  bool
	closing chan struct{}  // closed by Close
	active  sync.WaitGroup // calls under way
}

var _ kv.DB = (*DB)(nil)

// The sizes that bound pebble's memory. While a million pairs of 32 and 64 bytes come in as fast as they can, the process
// stays below the bound of TestDB_MemoryIsBounded.
const (
	memTable  = 4 << 20  // bytes of one memtable; there are two of them
	cacheSize = 16 << 20 // of blocks, and of the memtables, which count as a part of it
	tableSize = 4 << 20
	openFiles = 256
	minFree   = 64 << 20 // bytes; see checkSpace
	maxBatch  = 2 << 30  // bytes of one Update
)

// stall is how many layers of new tables pebble may pile up before it makes writers wait. It must not:
// where damage keeps it from compacting them, they would wait for ever.
const stall = 1 << 20

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
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open key-value database: %w", err)
	}
	d, err := openOn(vfs.Default, o, nil)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	d.locks = append(d.locks, lock)
	return d, nil
}

// lockDir makes the folder, durably, and takes the lock file in it. It is taken before pebble
// looks at anything, so that a folder that is in use is never called damaged.
func lockDir(dir string) (*os.File, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "SHEAF-LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if !lockFile(f) {
		return nil, errors.Join(kv.ErrLocked, f.Close())
	}
	return f, nil
}

// openOn is Open on a file system of pebble's, where the folder is already, without the lock of ours. A tune that is not nil
// changes pebble's options.
func openOn(base vfs.FS, o Options, tune func(*pebble.Options)) (*DB, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &DB{
		base: base, dir: o.Dir, key: append([]byte(nil), o.Key...), tune: tune, log: log, ends: newWALEnds(),
		turn: make(chan struct{}, 1), repair: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	if err := d.open(); err != nil {
		return nil, fmt.Errorf("open key-value database: %w", err)
	}
	return d, nil
}

func (d *DB) open() error {
	if err := d.checkSpace(0); err != nil {
		return err
	}
	if err := d.checkMarks(); err != nil {
		return err
	}
	lock, err := d.base.Lock(d.base.PathJoin(d.dir, "LOCK")) // that of pebble, for all engines
	if err != nil {
		return errors.Join(spaceError(err), d.removeMark())
	}
	if d.cur, err = d.openWritable(); err != nil {
		return errors.Join(err, lock.Close())
	}
	d.locks = append(d.locks, lock)
	d.opened.Store(true)
	if bad := d.bad.Load(); bad != nil { // in the background of Open
		d.markDamaged(*bad)
	}
	return nil
}

// options are pebble's.
func (d *DB) options(e *engine, cache *pebble.Cache) *pebble.Options {
	o := &pebble.Options{
		FS:       e.fs,
		ReadOnly: e.readOnly,
		Logger:   logger{d.log},
		Cache:    cache,
		// Pinned: the files of a later format cannot be read by an earlier release.
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		MemTableSize:                memTable,
		MemTableStopWritesThreshold: 2,
		L0StopWritesThreshold:       stall,
		MaxOpenFiles:                openFiles,
		MaxManifestFileSize:         1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				if isDamage(err) {
					e.onDamage(err)
				}
				d.log.Warn("key-value database", "error", err)
			},
			DataCorruption: func(i pebble.DataCorruptionInfo) { e.onDamage(i.Details) },
		},
	}
	o.Experimental.FileCacheShards = 1
	// What is stored here is mostly hashes, and does not get smaller.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = tableSize
	}
	return o
}

// The files that say something about the whole folder.
const (
	damagedMark = "SHEAF-DAMAGED"
	openingMark = "SHEAF-OPENING"
)

// maxOpenings is how many times in a row an Open may end in the death of the process before the
// files are called damaged.
const maxOpenings = 3

// checkMarks returns ErrDamaged if something was found about the folder before, and notes that pebble is about to open
// it. Pebble may meet a contradiction that makes it panic in a goroutine of its own, which nobody can
// catch: without this note, the process would die of it again each time it is started.
func (d *DB) checkMarks() error {
	names, err := d.base.List(d.dir)
	if err != nil {
		return err
	}
	openings := 0
	for _, name := range names {
		switch name {
		case damagedMark:
			return fmt.Errorf("%w: damage was found when it was open", kv.ErrDamaged)
		case "KEYREGISTRY", "MANIFEST":
			return fmt.Errorf("%w: the folder holds a database of badger, which was used before", kv.ErrDamaged)
		case openingMark:
			st, err := d.base.Stat(d.base.PathJoin(d.dir, name))
			if err != nil {
				return err
			}
			openings = int(st.Size())
		}
	}
	if openings >= maxOpenings {
		return fmt.Errorf("%w: the process died of opening it %d times", kv.ErrDamaged, openings)
	}
	return d.mark(openingMark, openings+1)
}

// mark makes a file of n bytes.
func (d *DB) mark(name string, n int) error {
	f, err := d.base.Create(d.base.PathJoin(d.dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return spaceError(err)
	}
	_, err = f.Write(make([]byte, n))
	return spaceError(errors.Join(err, f.Close()))
}

// unmark removes it, durably: a mark that comes back after a crash would be counted again.
func (d *DB) unmark(e *engine) error {
	if err := d.removeMark(); err != nil {
		return err
	}
	return e.fs.dir.Sync()
}

// removeMark removes it if it is there.
func (d *DB) removeMark() error {
	err := d.base.Remove(d.base.PathJoin(d.dir, openingMark))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// onDamage notes that damage was met. While Open runs it is Open's error, if it is not only the key that is wrong.
func (d *DB) onDamage(err error) {
	err = fmt.Errorf("%w: found before: %s", kv.ErrDamaged, err.Error())
	if d.bad.CompareAndSwap(nil, &err) && d.opened.Load() {
		d.markDamaged(err)
	}
}

// markDamaged makes the next Open call the database damaged.
func (d *DB) markDamaged(err error) {
	d.log.Error("key-value database is damaged and is to be built anew when it is opened again", "error", err)
	if err := d.mark(damagedMark, 1); err != nil {
		d.log.Error("mark key-value database as damaged", "error", err)
	}
}

func isDamage(err error) bool {
	return errors.Is(err, kv.ErrDamaged) || pebble.IsCorruptionError(err)
}

// asDamage makes damage that pebble has found known as such.
func asDamage(err error) error {
	if err != nil && pebble.IsCorruptionError(err) && !errors.Is(err, kv.ErrDamaged) {
		return fmt.Errorf("%w: %w", kv.ErrDamaged, err)
	}
	return err
}

// spaceError makes a full disk known by ErrNoSpace.
func spaceError(err error) error {
	if err != nil && isNoSpace(err) {
		return fmt.Errorf("%w: %w", kv.ErrNoSpace, err)
	}
	return err
}

// ofSystem reports whether err is one that the files are not to blame for.
func ofSystem(err error) bool {
	return errors.Is(err, fs.ErrPermission) || isNoSpace(err) || isExhausted(err)
}

// probe finds out if files can be written here at all.
func (d *DB) probe() error {
	name := d.base.PathJoin(d.dir, "SHEAF-PROBE")
	f, err := d.base.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close(), d.base.Remove(name))
}

// checkSpace returns ErrNoSpace if the disk is nearly full, so that there is room for what pebble does besides
// storing the bytes that the caller is about to write.
func (d *DB) checkSpace(more int64) error {
	du, err := d.base.GetDiskUsage(d.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	if free := int64(min(du.AvailBytes, 1<<62)); free-more < minFree {
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

// Get implements [kv.DB].
func (d *DB) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := kv.Check(key, nil); err != nil {
		return nil, err
	}
	if err := d.begin(ctx); err != nil {
		return nil, fmt.Errorf("get key: %w", err)
	}
	defer d.active.Done()
	for try := 1; ; try++ {
		value, again, err := d.getOn(ctx, key)
		if !again || try == tries {
			return value, err
		}
	}
}

// getOn is Get on the engine of this moment. It reports if another engine may know better.
func (d *DB) getOn(ctx context.Context, key []byte) (value []byte, again bool, err error) {
	e, err := d.use(ctx, false)
	if err != nil {
		return nil, false, fmt.Errorf("get key: %w", err)
	}
	defer d.release(e)
	value, err = get(e.b, key)
	wrong := err
	if errors.Is(err, fs.ErrNotExist) {
		wrong = nil
	}
	if failure := e.doubt(wrong); failure != nil {
		return nil, true, fmt.Errorf("get key: %w", failure)
	}
	return value, false, err
}

// get reads a key.
func get(r pebble.Reader, key []byte) (value []byte, err error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("get key: %w", fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("get key: %w", asDamage(err))
	}
	value = append(make([]byte, 0, len(v)), v...)
	if err := closer.Close(); err != nil {
		return nil, fmt.Errorf("get key: %w", asDamage(err))
	}
	return value, nil
}

// Scan implements [kv.DB].
func (d *DB) Scan(ctx context.Context, from, to []byte) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		if err := d.scan(ctx, from, to, yield); err != nil {
			yield(kv.Pair{}, fmt.Errorf("scan keys: %w", err))
		}
	}
}

// scan yields pairs until there are no more, yield returns false, or something is wrong.
func (d *DB) scan(ctx context.Context, from, to []byte, yield func(kv.Pair, error) bool) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.active.Done()
	if to != nil && len(to) == 0 {
		return nil
	}
	if len(from) == 0 {
		from = nil // pebble, built for tests, does not take an empty bound
	}
	for try := 1; ; try++ {
		yielded := false
		again, err := d.scanOn(ctx, from, to, func(p kv.Pair) bool {
			yielded = true
			return yield(p, nil)
		})
		if !again || yielded || try == tries {
			return err
		}
	}
}

// scanOn is a scan on the engine of this moment. It reports if another engine may know better.
func (d *DB) scanOn(ctx context.Context, from, to []byte, yield func(kv.Pair) bool) (again bool, err error) {
	e, err := d.use(ctx, false)
	if err != nil {
		return false, err
	}
	defer d.release(e)
	it, err := e.b.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		if failure := e.doubt(err); failure != nil {
			return true, failure
		}
		return false, asDamage(err)
	}
	stopped := false
	for ok := it.First(); ok && err == nil && !stopped; {
		if err = d.mayGoOn(ctx, e); err != nil {
			break
		}
		v, valueErr := it.ValueAndErr()
		if err = valueErr; err != nil {
			break
		}
		p := kv.Pair{Key: append([]byte(nil), it.Key()...), Value: append(make([]byte, 0, len(v)), v...)}
		if stopped = !yield(p); !stopped {
			ok = it.Next()
		}
	}
	closeErr := it.Close() // tells what made First or Next end early, too
	switch {
	case stopped:
		return false, nil
	case err == nil:
		err = closeErr
	}
	if err == nil {
		err = d.mayGoOn(ctx, e)
	}
	if ctx.Err() == nil && !errors.Is(err, errStopped) {
		if failure := e.doubt(err); failure != nil {
			return true, failure
		}
	}
	return false, asDamage(err)
}

// errStopped ends a Scan that Close waits for.
var errStopped = fmt.Errorf("%w while it was read", kv.ErrClosed)

// mayGoOn returns why a Scan has to stop, or nil.
func (d *DB) mayGoOn(ctx context.Context, e *engine) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-d.closing:
		return errStopped
	default:
		return e.doubt(nil)
	}
}

// Sync implements [kv.DB]: all is durable already.
func (d *DB) Sync(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer d.active.Done()
	return nil
}

// Trim implements [kv.DB].
func (d *DB) Trim() {
	if d.begin(context.Background()) != nil {
		return // it is closed
	}
	defer d.active.Done()
	if e := d.take(false); e != nil {
		e.trim()
		d.release(e)
	}
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
	var err error
	if d.cur != nil {
		err = d.cur.close()
	}
	for _, lock := range d.locks {
		err = errors.Join(err, lock.Close())
	}
	if err != nil {
		return fmt.Errorf("close key-value database: %w", err)
	}
	return nil
}
