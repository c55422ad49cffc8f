// Package limit is a blob.Bucket that does not ask more of a place than it may: so many
// bytes and calls a second, so many calls at a time. It refuses nothing, it waits.
package limit

import (
	"context"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Options are the limits. Zero means none.
type Options struct {
	Up, Down int64   // bytes a second
	Calls    float64 // calls of methods a second; a Remove counts once for each name
	AtOnce   int     // calls, and reads from readers of Get, that are under way at a time
}

// A Bucket is a [blob.Bucket] over another one. It is safe for concurrent use.
type Bucket struct {
	inner    blob.Bucket
	up, down *meter
	calls    *meter
	slots    chan struct{} // nil: no limit
}

var _ blob.Bucket = (*Bucket)(nil)

// New returns a Bucket over inner.
func New(inner blob.Bucket, o Options) *Bucket {
	b := &Bucket{inner: inner, up: newMeter(float64(o.Up)), down: newMeter(float64(o.Down)), calls: newMeter(o.Calls)}
	if o.AtOnce > 0 {
		b.slots = make(chan struct{}, o.AtOnce)
	}
	return b
}

// A meter spreads units evenly over time.
type meter struct {
	rate float64 // a second; 0: no limit
	mu   sync.Mutex
	next time.Time // when the next unit may begin
}

func newMeter(rate float64) *meter { return &meter{rate: rate} }

// wait returns when n units more may be used, or the error of ctx.
func (m *meter) wait(ctx context.Context, n int) error {
	if m.rate <= 0 || n <= 0 {
		return ctx.Err()
	}
	m.mu.Lock()
	now := time.Now()
	if m.next.Before(now) {
		m.next = now
	}
	at := m.next
	m.next = at.Add(time.Duration(float64(n) / m.rate * float64(time.Second)))
	m.mu.Unlock()
	return sleep(ctx, at.Sub(now))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter takes a slot; leave gives it back.
func (b *Bucket) enter(ctx context.Context) error {
	if b.slots == nil {
		return ctx.Err()
	}
	select {
	case b.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *Bucket) leave() {
	if b.slots != nil {
		<-b.slots
	}
}

// call makes one call, of n that count, in its turn.
func (b *Bucket) call(ctx context.Context, n int, f func() error) error {
	if err := b.calls.wait(ctx, n); err != nil {
		return err
	}
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.leave()
	return f()
}

// part is how many bytes are asked of a reader at a time where their rate is limited: a tenth of a
// second's, but no more than the buffer of most copies.
func (m *meter) part(n int) int {
	if m.rate <= 0 {
		return n
	}
	return min(n, max(1, min(int(m.rate/10), 32<<10)))
}

// Put implements [blob.Bucket].
func (b *Bucket) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	return b.call(ctx, 1, func() error {
		if b.up.rate <= 0 {
			return b.inner.Put(ctx, name, r, size)
		}
		return b.inner.Put(ctx, name, &upward{ctx, r, b.up}, size)
	})
}

// upward is a body that is read no faster than the meter has it.
type upward struct {
	ctx context.Context // of the Put that it belongs to
	r   io.Reader
	m   *meter
}

func (u *upward) Read(p []byte) (int, error) {
	n, err := u.r.Read(p[:u.m.part(len(p))])
	if werr := u.m.wait(u.ctx, n); werr != nil {
		return 0, werr
	}
	return n, err
}

// Get implements [blob.Bucket].
func (b *Bucket) Get(ctx context.Context, name blob.Name, off, n int64) (r io.ReadCloser, err error) {
	err = b.call(ctx, 1, func() error {
		r, err = b.inner.Get(ctx, name, off, n)
		return err
	})
	if err != nil || b.down.rate <= 0 && b.slots == nil {
		return r, err
	}
	return &downward{ctx, r, b}, nil
}

// downward is a reader that yields no more than the limits have it. It has a slot only while it is
// read, so that whoever holds many open readers blocks nobody.
type downward struct {
	ctx context.Context // of the Get that it belongs to
	r   io.ReadCloser
	b   *Bucket
}

func (d *downward) Read(p []byte) (int, error) {
	if err := d.b.enter(d.ctx); err != nil {
		return 0, err
	}
	n, err := d.r.Read(p[:d.b.down.part(len(p))])
	d.b.leave()
	if werr := d.b.down.wait(d.ctx, n); werr != nil {
		return 0, werr
	}
	return n, err
}

func (d *downward) Close() error { return d.r.Close() }

// List implements [blob.Bucket]. While the caller looks at an Info, the listing has no slot.
func (b *Bucket) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		err := b.calls.wait(ctx, 1)
		if err == nil {
			err = b.enter(ctx)
		}
		if err != nil {
			yield(blob.Info{}, err)
			return
		}
		held := true
		defer func() {
			if held {
				b.leave()
			}
		}()
		for info, err := range b.inner.List(ctx, prefix) {
			b.leave()
			held = false
			if !yield(info, err) || err != nil {
				return
			}
			if err := b.enter(ctx); err != nil {
				yield(blob.Info{}, err)
				return
			}
			held = true
		}
	}
}

// Remove implements [blob.Bucket].
func (b *Bucket) Remove(ctx context.Context, names ...blob.Name) error {
	return b.call(ctx, len(names), func() error { return b.inner.Remove(ctx, names...) })
}
