// Package retry is a blob.Bucket that tries again what a place did not answer. It
// knows no place, and changes nothing that it carries.
package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Options say how long to go on. The zero value works.
type Options struct {
	// Tries is how often a call is made at most; 0 means 8, 1 means once.
	Tries int
	// First is the mean wait after the first failure, doubled after each further one up to Most; 0 means
	// 200 ms and 30 s. The wait is drawn evenly from half of that to one and a half of it, so that many callers part.
	First, Most time.Duration
	// Patience is the longest wait that a place may ask for; one that asks for more has failed. 0 means 5 minutes.
	Patience time.Duration
	// Spool is the size, in bytes, up to which a body that cannot be read twice is kept in memory while it is put; 0 means
	// 32 MiB, one pack. A longer one is put once. A body that is an io.Seeker is never kept.
	Spool int64
}

// A Bucket is a [blob.Bucket] over another one. What fails with blob.ErrTemporary is done again, and so is a Put that
// fails with blob.ErrMangled; all other errors are handed on at once. It is safe for concurrent use.
//
// Every method of a Bucket may be done twice: a Put replaces, a Remove of what is gone is no error, a listing
// goes on after the last name. Only a reader of Get that has yielded bytes is not opened again, for
// the blob may have been replaced meanwhile.
type Bucket struct {
	inner blob.Bucket
	o     Options
}

var _ blob.Bucket = (*Bucket)(nil)

// New returns a Bucket over inner.
func New(inner blob.Bucket, o Options) *Bucket {
	if o.Tries <= 0 {
		o.Tries = 8
	}
	if o.First <= 0 {
		o.First = 200 * time.Millisecond
	}
	if o.Most <= 0 {
		o.Most = 30 * time.Second
	}
	if o.Patience <= 0 {
		o.Patience = 5 * time.Minute
	}
	if o.Spool <= 0 {
		o.Spool = 32 << 20
	}
	return &Bucket{inner: inner, o: o}
}

// turn is the state of one call: how often it has failed.
type turn struct {
	o      *Options
	failed int
}

// again waits before the next try, and returns nil then; or it returns the error to hand on.
func (t *turn) again(ctx context.Context, err error) error {
	if !errors.Is(err, blob.ErrTemporary) && !errors.Is(err, blob.ErrMangled) || ctx.Err() != nil {
		return err
	}
	t.failed++
	ask := blob.After(err)
	if t.failed >= t.o.Tries || ask > t.o.Patience {
		if t.failed > 1 {
			return fmt.Errorf("after %d tries: %w", t.failed, err)
		}
		return err
	}
	mean := t.o.Most
	if shift := t.failed - 1; shift < 30 {
		mean = min(mean, t.o.First<<shift)
	}
	wait := mean/2 + time.Duration(rand.Int64N(int64(mean)+1))
	timer := time.NewTimer(max(wait, ask))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), err)
	}
}

// do calls f until it succeeds or is not to be tried again.
func (b *Bucket) do(ctx context.Context, f func() error) error {
	t := turn{o: &b.o}
	for {
		err := f()
		if err == nil {
			return nil
		}
		if err := t.again(ctx, err); err != nil {
			return err
		}
	}
}

// Put implements [blob.Bucket].
func (b *Bucket) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	body := newBody(r, size, b.o.Spool)
	t := turn{o: &b.o}
	for {
		err := b.inner.Put(ctx, name, body, size)
		if err == nil || body.failed != nil {
			return err
		}
		if !body.twice() {
			return err
		}
		if err := t.again(ctx, err); err != nil {
			return err
		}
		if err := body.rewind(); err != nil {
			return fmt.Errorf("put blob %s again: %w", name, err)
		}
	}
}

// Get implements [blob.Bucket].
func (b *Bucket) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	r := &reader{open: func() (io.ReadCloser, error) { return b.inner.Get(ctx, name, off, n) }, ctx: ctx, turn: turn{o: &b.o}}
	if err := r.reopen(); err != nil {
		return nil, err
	}
	return r, nil
}

// reader is opened again as long as nothing has come from it.
type reader struct {
	open  func() (io.ReadCloser, error)
	ctx   context.Context // of the Get that it belongs to
	turn  turn
	inner io.ReadCloser
	began bool
}

func (r *reader) reopen() error {
	for {
		in, err := r.open()
		if err == nil {
			r.inner = in
			return nil
		}
		if err := r.turn.again(r.ctx, err); err != nil {
			return err
		}
	}
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		n, err := r.inner.Read(p)
		r.began = r.began || n > 0
		if err == nil || errors.Is(err, io.EOF) || r.began {
			return n, err
		}
		if err := r.turn.again(r.ctx, err); err != nil {
			return 0, err
		}
		_ = r.inner.Close() // it failed already
		r.inner = io.NopCloser(eof{err})
		if err := r.reopen(); err != nil {
			return 0, err
		}
	}
}

func (r *reader) Close() error { return r.inner.Close() }

// eof is what is left of a reader that could not be opened again.
type eof struct{ err error }

func (e eof) Read([]byte) (int, error) { return 0, e.err }

// List implements [blob.Bucket]. A listing that breaks off is begun anew, and goes on after the last name. Each name is
// progress: only failures one after the other count.
func (b *Bucket) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		t := turn{o: &b.o}
		last, began := blob.Name(""), false
		for {
			var failed error
			for info, err := range b.inner.List(ctx, prefix) {
				if err != nil {
					failed = err
					break
				}
				if began && info.Name <= last {
					continue
				}
				last, began, t.failed = info.Name, true, 0
				if !yield(info, nil) {
					return
				}
			}
			if failed == nil {
				return
			}
			if err := t.again(ctx, failed); err != nil {
				yield(blob.Info{}, err)
				return
			}
		}
	}
}

// Remove implements [blob.Bucket].
func (b *Bucket) Remove(ctx context.Context, names ...blob.Name) error {
	return b.do(ctx, func() error { return b.inner.Remove(ctx, names...) })
}
