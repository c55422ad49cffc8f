package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/retry"
)

// flaky fails two calls of seven, one before and one after it was done.
type flaky struct {
	blob.Bucket
	n   atomic.Int64
	err error
}

func newFlaky(err error) *flaky { return &flaky{Bucket: mem.New(), err: err} }

// fate is what becomes of a call: 0 fails before it is done, 1 after, others succeed.
func (f *flaky) fate() int64 { return f.n.Add(1) % 7 }

func (f *flaky) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	fate := f.fate()
	if size > 32<<20 || ctx.Err() != nil { // the first would be put once only
		fate = 2
	}
	switch fate {
	case 0:
		// It breaks off half-way.
		if _, err := io.CopyN(io.Discard, blob.Body(ctx, r, size), max(size, 0)/2+1); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return fmt.Errorf("put: %w", f.err)
	case 1:
		if err := f.Bucket.Put(ctx, name, r, size); err != nil {
			return err
		}
		return fmt.Errorf("put: the answer was lost: %w", f.err)
	}
	return f.Bucket.Put(ctx, name, r, size)
}

func (f *flaky) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	fate := f.fate()
	if off < 0 || ctx.Err() != nil {
		fate = 2
	}
	switch fate {
	case 0:
		return nil, fmt.Errorf("get: %w", f.err)
	case 1:
		return io.NopCloser(iotest.ErrReader(fmt.Errorf("read: %w", f.err))), nil
	}
	return f.Bucket.Get(ctx, name, off, n)
}

func (f *flaky) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		// Not by turns: others that call at the same pace would leave a listing the same ones for ever, and only one of seven does not break off.
		most := int(uint64(f.n.Add(1)) * 0x9e3779b97f4a7c15 >> 32 % 7)
		for info, err := range f.Bucket.List(ctx, prefix) {
			if !yield(info, err) {
				return
			}
			if most--; most == 0 {
				yield(blob.Info{}, fmt.Errorf("list: %w", f.err))
				return
			}
		}
	}
}

func (f *flaky) Remove(ctx context.Context, names ...blob.Name) error {
	fate := f.fate()
	for _, name := range names {
		if name.Check() != nil {
			fate = 2
		}
	}
	if ctx.Err() != nil {
		fate = 2
	}
	switch fate {
	case 0:
		return fmt.Errorf("remove: %w", f.err)
	case 1:
		if err := f.Bucket.Remove(ctx, names[:len(names)/2]...); err != nil {
			return err
		}
		return fmt.Errorf("remove: %w", f.err)
	}
	return f.Bucket.Remove(ctx, names...)
}

func TestBucket_Suite(t *testing.T) {
	for name, inner := range map[string]func() blob.Bucket{
		"over a place that answers":      func() blob.Bucket { return mem.New() },
		"over a place that often breaks": func() blob.Bucket { return newFlaky(blob.ErrTemporary) },
	} {
		t.Run(name, func(t *testing.T) {
			blobtest.Run(t, func(*testing.T) blob.Bucket {
				return retry.New(inner(), retry.Options{First: time.Microsecond, Most: time.Microsecond, Tries: 1000})
			})
		})
	}
}

// always fails every call, and counts them.
type always struct {
	blob.Bucket
	err error
	n   int
}

func (a *always) Put(_ context.Context, _ blob.Name, r io.Reader, _ int64) error {
	a.n++
	_, _ = io.Copy(io.Discard, r)
	return a.err
}

func (a *always) Get(context.Context, blob.Name, int64, int64) (io.ReadCloser, error) {
	a.n++
	return nil, a.err
}

func (a *always) List(context.Context, blob.Name) iter.Seq2[blob.Info, error] {
	a.n++
	return func(yield func(blob.Info, error) bool) { yield(blob.Info{}, a.err) }
}

func (a *always) Remove(context.Context, ...blob.Name) error {
	a.n++
	return a.err
}

// calls makes each call once and tells f of its error.
func calls(t *testing.T, b blob.Bucket, f func(what string, err error)) {
	t.Helper()
	f("put", b.Put(t.Context(), "x", strings.NewReader("x"), 1))
	_, err := b.Get(t.Context(), "x", 0, -1)
	f("get", err)
	for _, err := range b.List(t.Context(), "") {
		f("list", err)
	}
	f("remove", b.Remove(t.Context(), "x"))
}

func TestBucket_GivesUpAfterItsTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &always{err: fmt.Errorf("down: %w", blob.ErrTemporary)}
		b := retry.New(a, retry.Options{Tries: 5, First: time.Second, Most: 3 * time.Second})
		calls(t, b, func(what string, err error) {
			if !errors.Is(err, blob.ErrTemporary) || a.n != 5 {
				t.Errorf("%s: %d tries and error %v, want 5 and ErrTemporary", what, a.n, err)
			}
			a.n = 0
		})
	})
}

func TestBucket_WaitsLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			a := &always{err: blob.ErrTemporary}
			began := time.Now()
			_ = retry.New(a, retry.Options{Tries: 5, First: time.Second, Most: 3 * time.Second}).Remove(t.Context(), "x")
			// The means are 1, 2, 3 and 3 s.
			if took := time.Since(began); took < 4500*time.Millisecond || took > 13500*time.Millisecond {
				t.Errorf("it waited %v, want 4.5 to 13.5 s", took)
			}
		}
	})
}

func TestBucket_DoesNotRepeatWhatNoRepetitionMends(t *testing.T) {
	for _, want := range []error{
		fs.ErrNotExist, fs.ErrPermission, blob.ErrName, blob.ErrNoSpace, blob.ErrSize, blob.ErrUnauthorized, errors.ErrUnsupported,
		context.Canceled, errors.New("unknown"),
	} {
		a := &always{err: want}
		calls(t, retry.New(a, retry.Options{}), func(what string, err error) {
			if !errors.Is(err, want) || a.n != 1 {
				t.Errorf("%s with %v: %d tries and error %v, want one", what, want, a.n, err)
			}
			a.n = 0
		})
	}
}

func TestBucket_WaitsAsLongAsThePlaceAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &always{err: blob.Later(blob.ErrTemporary, 40*time.Second)}
		b := retry.New(a, retry.Options{Tries: 3, First: time.Millisecond})
		began := time.Now()
		_ = b.Remove(t.Context(), "x")
		if took := time.Since(began); took != 80*time.Second {
			t.Errorf("it waited %v, want 80 s", took)
		}
		a.n, a.err = 0, blob.Later(blob.ErrTemporary, time.Hour)
		if err := b.Remove(t.Context(), "x"); a.n != 1 || !errors.Is(err, blob.ErrTemporary) {
			t.Errorf("asked to wait an hour: %d tries and error %v, want one and ErrTemporary", a.n, err)
		}
	})
}

func TestBucket_StopsWaitingWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		b := retry.New(&always{err: blob.ErrTemporary}, retry.Options{First: time.Hour, Most: time.Hour})
		if err := b.Remove(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Errorf("got error %v after %v, want context.DeadlineExceeded after 10 s", err, time.Since(began))
		}
	})
}

func TestBucket_PutReadsItsBodyAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := bytes.Repeat([]byte("body"), 1000)
		seekable := bytes.NewReader(append([]byte("before"), body...))
		_, _ = seekable.Seek(6, io.SeekStart)
		for name, r := range map[string]io.Reader{
			"a seeker": seekable, "a stream": io.MultiReader(bytes.NewReader(body)), "a stream of single bytes": iotest.OneByteReader(bytes.NewReader(body)),
		} {
			for _, err := range []error{blob.ErrTemporary, blob.ErrMangled} {
				f := newFlaky(err)
				f.n.Store(6) // the next call breaks off half-way
				if name == "a seeker" {
					_, _ = seekable.Seek(6, io.SeekStart)
				} else if s, ok := r.(io.Seeker); ok {
					t.Fatalf("%s is a seeker: %v", name, s)
				}
				if name != "a seeker" && !errors.Is(err, blob.ErrTemporary) {
					continue // a stream is used up
				}
				if err := retry.New(f, retry.Options{}).Put(t.Context(), "x", r, int64(len(body))); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got, err := blob.ReadAll(t.Context(), f.Bucket, "x", 1<<20)
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("%s: got %d bytes and error %v, want the body", name, len(got), err)
				}
			}
		}
	})
}

func TestBucket_PutsALongStreamOnce(t *testing.T) {
	a := &always{err: blob.ErrTemporary}
	err := retry.New(a, retry.Options{Spool: 10}).Put(t.Context(), "x", io.MultiReader(strings.NewReader("eleven byte")), 11)
	if a.n != 1 || !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("%d tries and error %v, want one and ErrTemporary", a.n, err)
	}
}

func TestBucket_DoesNotRepeatABodyThatFailed(t *testing.T) {
	broken := fmt.Errorf("the disk of the body: %w", blob.ErrTemporary)
	b := mem.New()
	err := retry.New(b, retry.Options{First: time.Hour}).Put(t.Context(), "x", iotest.ErrReader(broken), 5)
	if !errors.Is(err, broken) {
		t.Errorf("got error %v, want that of the body", err)
	}
}

// breaking is a Bucket whose readers break after some bytes.
type breaking struct{ blob.Bucket }

func (b breaking) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	r, err := b.Bucket.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, 3), iotest.ErrReader(blob.ErrTemporary)), r}, nil
}

func TestReader_IsNotOpenedAgainOnceItHasYielded(t *testing.T) {
	m := mem.New()
	if err := m.Put(t.Context(), "x", strings.NewReader("first"), 5); err != nil {
		t.Fatal(err)
	}
	r, err := retry.New(breaking{m}, retry.Options{First: time.Microsecond}).Get(t.Context(), "x", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	got, err := io.ReadAll(r)
	if string(got) != "fir" || !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("got %q and error %v, want the first three bytes and ErrTemporary", got, err)
	}
}
