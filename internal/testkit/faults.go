package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// ErrFault is the error of a planned fault that names no other.
var ErrFault = errors.New("planned fault")

// Faults is a Bucket that counts what is done to another one, and fails as planned. A write
// is a Put or a Remove; writes are numbered from 1. It is safe for concurrent use.
type Faults struct {
	inner blob.Bucket

	mu    sync.Mutex
	count Counts
	plan  map[int64]error // by the number of the write
	after int64           // writes beyond this number fail, if afterErr is set
	err   error
	space int64 // bytes that may still be put; negative: any number
}

var _ blob.Bucket = (*Faults)(nil)

// Counts is what was done to a Bucket, with or without success.
type Counts struct {
	Puts, Gets, Lists, Removes int64 // calls
	PutBytes, GetBytes         int64 // as declared by Put, as read from the readers of Get
}

// Writes returns the number of the last write.
func (c Counts) Writes() int64 { return c.Puts + c.Removes }

// NewFaults returns a Bucket over inner that does not fail yet.
func NewFaults(inner blob.Bucket) *Faults {
	return &Faults{inner: inner, plan: map[int64]error{}, space: -1}
}

// Counts returns what was done so far.
func (f *Faults) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// FailWrite makes the n-th write from now on fail with err (nil: ErrFault), once, before it
// changes anything.
func (f *Faults) FailWrite(n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan[f.count.Writes()+n] = orFault(err)
}

// FailAfter makes every write after the next n fail with err (nil: ErrFault), before it changes
// anything: as if the place were gone.
func (f *Faults) FailAfter(n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after, f.err = f.count.Writes()+n, orFault(err)
}

// Space leaves room for n more bytes. A Put for which there is no room fails with
// blob.ErrNoSpace; what is removed or replaced gives no room back. A negative n means any number.
func (f *Faults) Space(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.space = n
}

// Heal forgets all planned faults. Counts go on.
func (f *Faults) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.err, f.space = map[int64]error{}, nil, -1
}

func orFault(err error) error {
	if err == nil {
		return ErrFault
	}
	return err
}

// write counts a write and returns its planned error.
func (f *Faults) write(calls *int64, size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	*calls++
	n := f.count.Writes()
	if err := f.plan[n]; err != nil {
		delete(f.plan, n)
		return err
	}
	if f.err != nil && n > f.after {
		return f.err
	}
	if f.space >= 0 && size > 0 {
		if size > f.space {
			return blob.ErrNoSpace
		}
		f.space -= size
	}
	f.count.PutBytes += size
	return nil
}

// Put implements [blob.Bucket].
func (f *Faults) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if err := f.write(&f.count.Puts, size); err != nil {
		return fmt.Errorf("put blob %s: %w", name, err)
	}
	return f.inner.Put(ctx, name, r, size)
}

// Remove implements [blob.Bucket].
func (f *Faults) Remove(ctx context.Context, names ...blob.Name) error {
	if err := f.write(&f.count.Removes, 0); err != nil {
		return fmt.Errorf("remove blobs: %w", err)
	}
	return f.inner.Remove(ctx, names...)
}

// Get implements [blob.Bucket].
func (f *Faults) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	f.mu.Lock()
	f.count.Gets++
	f.mu.Unlock()
	r, err := f.inner.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	return &counted{r, f}, nil
}

// counted counts the bytes that are read.
type counted struct {
	io.ReadCloser
	f *Faults
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.f.mu.Lock()
	c.f.count.GetBytes += int64(n)
	c.f.mu.Unlock()
	return n, err
}

// List implements [blob.Bucket].
func (f *Faults) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	f.mu.Lock()
	f.count.Lists++
	f.mu.Unlock()
	return f.inner.List(ctx, prefix)
}
