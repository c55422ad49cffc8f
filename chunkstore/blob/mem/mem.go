// Package mem is a blob.Bucket in memory, for tests and for what need not last.
// It keeps nothing when the process ends.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// A Bucket is a [blob.Bucket] in memory. It is safe for concurrent use. Its zero
// value is an empty Bucket.
type Bucket struct {
	mu    sync.RWMutex
	blobs map[blob.Name]entry
	order []blob.Name // the sorted names; nil when they have changed since
}

// entry is one blob. Its bytes are never written again, so readers need no lock.
type entry struct {
	body []byte
	at   time.Time
}

var _ blob.Bucket = (*Bucket)(nil)

// New returns an empty Bucket.
func New() *Bucket { return &Bucket{} }

// Clone returns a Bucket of its own with the blobs as they are now: what a crash at
// this moment would leave behind, as each Put and Remove that has returned is durable.
func (b *Bucket) Clone() *Bucket {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return &Bucket{blobs: maps.Clone(b.blobs)}
}

// Put implements [blob.Bucket].
func (b *Bucket) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if err := name.Check(); err != nil {
		return err
	}
	var buf bytes.Buffer // grows with what comes, not with what is declared
	if _, err := buf.ReadFrom(blob.Body(ctx, r, size)); err != nil {
		return fmt.Errorf("put blob %s: %w", name, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put blob %s: %w", name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.blobs == nil {
		b.blobs = map[blob.Name]entry{}
	}
	if _, ok := b.blobs[name]; !ok {
		b.order = nil
	}
	b.blobs[name] = entry{body: buf.Bytes(), at: time.Now()}
	return nil
}

// Get implements [blob.Bucket].
func (b *Bucket) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if err := name.Check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get blob %s: %w", name, err)
	}
	if off < 0 {
		return nil, fmt.Errorf("get blob %s: offset %d: %w", name, off, fs.ErrInvalid)
	}
	b.mu.RLock()
	e, ok := b.blobs[name]
	b.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("get blob %s: %w", name, fs.ErrNotExist)
	}
	body := e.body[min(off, int64(len(e.body))):]
	if n >= 0 && n < int64(len(body)) {
		body = body[:n]
	}
	return &reader{ctx: ctx, r: bytes.NewReader(body)}, nil
}

// reader yields the bytes of one blob until its context is done.
type reader struct {
	ctx context.Context // a reader has no other way to stop with its context
	r   *bytes.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

func (r *reader) Close() error { return nil }

// List implements [blob.Bucket].
func (b *Bucket) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		order := b.sorted()
		first, _ := slices.BinarySearch(order, prefix)
		for _, name := range order[first:] {
			if !strings.HasPrefix(string(name), string(prefix)) {
				break
			}
			if err := ctx.Err(); err != nil {
				yield(blob.Info{}, fmt.Errorf("list blobs %q: %w", string(prefix), err))
				return
			}
			b.mu.RLock()
			e, ok := b.blobs[name]
			b.mu.RUnlock()
			if ok && !yield(blob.Info{Name: name, Size: int64(len(e.body)), ModTime: e.at}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(blob.Info{}, fmt.Errorf("list blobs %q: %w", string(prefix), err))
		}
	}
}

// sorted returns the names in order. The slice is never written again.
func (b *Bucket) sorted() []blob.Name {
	b.mu.RLock()
	order, n := b.order, len(b.blobs)
	b.mu.RUnlock()
	if order != nil || n == 0 {
		return order
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.order == nil {
		b.order = slices.Sorted(maps.Keys(b.blobs))
	}
	return b.order
}

// Remove implements [blob.Bucket].
func (b *Bucket) Remove(ctx context.Context, names ...blob.Name) error {
	for _, name := range names {
		if err := name.Check(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("remove blobs: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		if _, ok := b.blobs[name]; ok {
			delete(b.blobs, name)
			b.order = nil
		}
	}
	return nil
}
