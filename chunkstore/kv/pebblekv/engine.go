package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// An engine is one pebble on one sealedFS. It ends with the first change that the disk refuses: what pebble knows from then on is in
// its memory only. The next call retires it, and opens another one from what is on the disk: one that writes if a probe shows that this
// can be done, else one that only reads and needs nothing of the disk but the files. So a read is answered as long as the disk
// can be read; and the first Update that finds the disk in order makes an engine that writes.
//
// Nobody waits for the users of a retired engine, since a Scan may call the DB: the last of them closes it.
type engine struct {
	db       *DB
	b        *pebble.DB
	cache    *pebble.Cache // there as long as b is open
	fs       *sealedFS
	readOnly bool

	users   int // guarded by DB.mu, as is retired
	retired bool
}

// tries is how many engines a read asks before it gives up.
const tries = 3

// errReplaced ends an engine that reads when another one writes: files that it needs may be removed then.
var errReplaced = errors.New("the database was opened again")

// openWritable opens an engine that writes. The mark of opening is there, and is not there afterwards.
func (d *DB) openWritable() (*engine, error) {
	e, err := d.openEngine(false)
	if err != nil {
		// Nobody has died.
		return nil, errors.Join(err, d.removeMark())
	}
	if err := d.unmark(e); err != nil {
		e.fs.end(err)
		return nil, errors.Join(spaceError(err), e.close())
	}
	return e, nil
}

func (d *DB) openEngine(readOnly bool) (*engine, error) {
	e := &engine{db: d, readOnly: readOnly}
	var err error
	if e.fs, err = newSealedFS(d.base, d.dir, d.key, d.ends, e.onDamage); err != nil {
		return nil, err
	}
	if err := e.open(); err != nil {
		e.fs.end(err)
		return nil, errors.Join(err, e.fs.close())
	}
	return e, nil
}

// open opens pebble and says whose fault it is if that fails.
func (e *engine) open() (err error) {
	defer func() {
		// Pebble panics at some contradictions of its files.
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", kv.ErrDamaged, r)
		}
	}()
	e.cache = pebble.NewCache(cacheSize)
	defer e.cache.Unref() // pebble has its own reference
	o := e.db.options(e, e.cache)
	if e.db.tune != nil {
		e.db.tune(o)
	}
	e.b, err = pebble.Open(e.db.dir, o)
	if failure := e.fs.failed(); failure != nil {
		if err == nil {
			_ = e.b.Close() // nothing that it does reaches the disk
		}
		return spaceError(failure)
	}
	if err == nil || isDamage(err) || ofSystem(err) || e.db.opened.Load() || e.db.probe() != nil {
		return asDamage(err)
	}
	return fmt.Errorf("%w: %w", kv.ErrDamaged, err)
}

// trim makes the cache forget all blocks: it is told that something else needs its room, and then that this needs it no more.
func (e *engine) trim() { e.cache.Reserve(cacheSize)() }

func (e *engine) close() error { return errors.Join(e.b.Close(), e.fs.close()) }

// onDamage notes damage. After the end of an engine it is no wonder that the files are not what pebble thinks.
func (e *engine) onDamage(err error) {
	if e.fs.failed() == nil {
		e.db.onDamage(err)
	}
}

// doubt returns why an answer of the engine must not be believed, or nil; err is what it has said. One that only reads does not
// know of anything that is not stored, but may miss files after its end.
func (e *engine) doubt(err error) error {
	failure := e.fs.failed()
	if failure == nil || e.readOnly && err == nil {
		return nil
	}
	return refused(failure)
}

// refused is what a caller is told of a change that the disk has refused.
func refused(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		// Not wrapped: a reader must not take the cause for that of its own key.
		return fmt.Errorf("the disk has failed: %s", err.Error())
	}
	return fmt.Errorf("the disk has failed: %w", spaceError(err))
}

// take returns the engine of this moment, for release, or nil if it does not do.
func (d *DB) take(write bool) *engine {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.cur
	if e == nil || e.fs.failed() != nil || write && e.readOnly {
		return nil
	}
	e.users++
	return e
}

// release gives back an engine.
func (d *DB) release(e *engine) {
	d.mu.Lock()
	e.users--
	last := e.retired && e.users == 0
	d.mu.Unlock()
	if last {
		d.closeRetired(e)
	}
}

// retire ends an engine, for err if it has not failed.
func (d *DB) retire(e *engine, err error) {
	e.fs.end(err)
	d.mu.Lock()
	d.cur = nil
	e.retired = true
	last := e.users == 0
	d.mu.Unlock()
	if last {
		d.closeRetired(e)
	}
}

func (d *DB) closeRetired(e *engine) {
	if err := e.close(); err != nil {
		d.log.Debug("close the key-value database that has failed", "error", err)
	}
}

// use returns an engine that reads, and writes if that is asked for. It opens one if there is none.
// The caller is counted in active.
func (d *DB) use(ctx context.Context, write bool) (*engine, error) {
	if e := d.take(write); e != nil {
		return e, nil
	}
	select {
	case d.repair <- struct{}{}:
		defer func() { <-d.repair }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.closing:
		return nil, kv.ErrClosed
	}
	var err error
	for range tries {
		if e := d.take(write); e != nil {
			return e, nil
		}
		if err = d.reopen(ctx, write); err != nil {
			return nil, err
		}
		err = errReplaced
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cur != nil && d.cur.fs.failed() != nil {
		err = refused(d.cur.fs.failed())
	}
	return nil, err
}

// reopen puts an engine in the place of one that has failed, or that cannot write. The caller has repair.
func (d *DB) reopen(ctx context.Context, write bool) error {
	if bad := d.bad.Load(); bad != nil {
		return *bad
	}
	old := d.cur
	if old != nil && old.fs.failed() != nil {
		d.log.Warn("key-value database is opened again", "error", old.fs.failed())
		d.retire(old, errReplaced)
		old = nil
	}
	err := d.writable()
	if err == nil {
		err = d.rw.wait(ctx, d.closing)
	}
	if err == nil {
		if old != nil {
			d.retire(old, errReplaced)
			old = nil
		}
		if err = d.install(&d.rw, d.openAgain); err == nil {
			return nil
		}
	}
	if errors.Is(err, ctx.Err()) && ctx.Err() != nil || errors.Is(err, kv.ErrClosed) || isDamage(err) {
		return err
	}
	err = refused(err)
	if old == nil {
		if waitErr := d.ro.wait(ctx, d.closing); waitErr != nil {
			return waitErr
		}
		readErr := d.install(&d.ro, func() (*engine, error) { return d.openEngine(true) })
		if readErr != nil {
			return errors.Join(err, readErr)
		}
	}
	if write {
		return err
	}
	return nil
}

// writable returns why the disk cannot be written, or nil.
func (d *DB) writable() error {
	if err := d.checkSpace(0); err != nil {
		return err
	}
	return d.probe()
}

// openAgain is openWritable where the mark of opening has to be made.
func (d *DB) openAgain() (*engine, error) {
	if err := d.mark(openingMark, 1); err != nil {
		return nil, errors.Join(err, d.removeMark())
	}
	return d.openWritable()
}

// install opens an engine for all.
func (d *DB) install(b *backoff, open func() (*engine, error)) error {
	e, err := open()
	if err != nil {
		b.failed()
		return err
	}
	*b = backoff{}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cur = e
	return nil
}

// The pauses between two attempts to open an engine that fail, which take more than a probe.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// A backoff says when the next attempt may be.
type backoff struct {
	pause time.Duration
	until time.Time
}

func (b *backoff) failed() {
	b.pause = min(max(firstPause, 2*b.pause), lastPause)
	b.until = time.Now().Add(b.pause)
}

// wait waits until then.
func (b *backoff) wait(ctx context.Context, closing <-chan struct{}) error {
	left := time.Until(b.until)
	if left <= 0 {
		return nil
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closing:
		return kv.ErrClosed
	}
}
