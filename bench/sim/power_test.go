package sim

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
)

// errDead is what everything answers on a device whose power is gone.
var errDead = errors.New("the device is without power")

// A power is the life of a device from one start to the next crash. All that the device does to its disk and to places asks it, so
// that a crash may come at each write.
type power struct {
	mu    sync.Mutex
	off   bool
	left  int  // writes until it goes off; negative: it stays on
	after bool // the last write is done, though nobody hears of it
}

// write says that something is about to be changed. do reports whether it is to be done, err what is to be answered.
func (p *power) write() (do bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.off:
		return false, errDead
	case p.left < 0:
		return true, nil
	case p.left > 0:
		p.left--
		return true, nil
	}
	p.off = true
	return p.after, errDead
}

func (p *power) read() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return errDead
	}
	return nil
}

// set says how many writes it stays on for; negative: for good. after says whether the last of them is done.
func (p *power) set(left int, after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off, p.left, p.after = false, left, after
}

// cut switches it off.
func (p *power) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off = true
}

// A disk is the database of a device. What was not synced may be gone after a crash.
type disk struct {
	*memkv.DB
	p      *power
	synced *memkv.DB
}

func newDisk(db *memkv.DB, p *power) *disk { return &disk{DB: db, p: p, synced: db.Clone()} }

func (k *disk) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := k.p.read(); err != nil {
		return nil, err
	}
	return k.DB.Get(ctx, key)
}

func (k *disk) Scan(ctx context.Context, from, to []byte) iter.Seq2[kv.Pair, error] {
	if err := k.p.read(); err != nil {
		return func(yield func(kv.Pair, error) bool) { yield(kv.Pair{}, err) }
	}
	return k.DB.Scan(ctx, from, to)
}

func (k *disk) Update(ctx context.Context, fn func(kv.Tx) error) error {
	do, err := k.p.write()
	if do {
		err = errors.Join(k.DB.Update(ctx, fn), err)
	}
	return err
}

func (k *disk) Sync(ctx context.Context) error {
	do, err := k.p.write()
	if do {
		err = errors.Join(k.DB.Sync(ctx), err)
		k.synced = k.DB.Clone()
	}
	return err
}

// Close leaves the database as it is, for the next start.
func (k *disk) Close() error { return nil }

// A folder is a bucket on the disk of a device.
type folder struct {
	blob.Bucket
	p     *power
	noted func(name string) // is told of each change; nil: nobody wants to know
}

func (f *folder) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	do, err := f.p.write()
	if do {
		err = errors.Join(f.Bucket.Put(ctx, name, r, size), err)
		f.note(name)
	}
	return err
}

func (f *folder) Remove(ctx context.Context, names ...blob.Name) error {
	do, err := f.p.write()
	if do {
		err = errors.Join(f.Bucket.Remove(ctx, names...), err)
		f.note(names...)
	}
	return err
}

func (f *folder) note(names ...blob.Name) {
	for _, name := range names {
		if f.noted != nil {
			f.noted(string(name))
		}
	}
}

func (f *folder) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if err := f.p.read(); err != nil {
		return nil, err
	}
	return f.Bucket.Get(ctx, name, off, n)
}

func (f *folder) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	if err := f.p.read(); err != nil {
		return func(yield func(blob.Info, error) bool) { yield(blob.Info{}, err) }
	}
	return f.Bucket.List(ctx, prefix)
}
