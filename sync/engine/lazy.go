package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// lazy is a Bucket that is reached when it is first used, and again if that failed.
type lazy struct {
	open func(ctx context.Context) (blob.Bucket, error)

	mu     sync.Mutex
	b      blob.Bucket
	old    []blob.Bucket // of before a renew; calls may still be under way on them
	closed bool
}

// renew lets it be reached anew from the next call on.
func (l *lazy) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b != nil {
		l.old = append(l.old, l.b)
	}
	l.b = nil
}

func (l *lazy) reach(ctx context.Context) (blob.Bucket, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("replica is dropped: %w", blob.ErrTemporary)
	}
	if l.b == nil {
		b, err := l.open(ctx)
		if err != nil {
			return nil, err
		}
		l.b = b
	}
	return l.b, nil
}

// Put implements blob.Bucket.
func (l *lazy) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	b, err := l.reach(ctx)
	if err != nil {
		return err
	}
	return b.Put(ctx, name, r, size)
}

// Get implements blob.Bucket.
func (l *lazy) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	b, err := l.reach(ctx)
	if err != nil {
		return nil, err
	}
	return b.Get(ctx, name, off, n)
}

// List implements blob.Bucket.
func (l *lazy) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		b, err := l.reach(ctx)
		if err != nil {
			yield(blob.Info{}, err)
			return
		}
		b.List(ctx, prefix)(yield)
	}
}

// Remove implements blob.Bucket.
func (l *lazy) Remove(ctx context.Context, names ...blob.Name) error {
	b, err := l.reach(ctx)
	if err != nil {
		return err
	}
	return b.Remove(ctx, names...)
}

// Close closes what was reached, for good.
func (l *lazy) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	var errs []error
	for _, b := range append(l.old, l.b) {
		if c, ok := b.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	l.b, l.old = nil, nil
	return errors.Join(errs...)
}
