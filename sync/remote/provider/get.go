package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	rclone "github.com/rclone/rclone/fs"
	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Get implements [blob.Bucket].
func (b *bucket) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if err := name.Check(); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("get blob %s: offset %d", name, off)
	}
	ctx, cancel := b.with(ctx)
	r, err := b.get(ctx, name, off, n)
	if err != nil {
		err = b.failed(ctx, err)
		cancel()
		return nil, fmt.Errorf("get blob %s: %w", name, err)
	}
	r.cancel = cancel
	return r, nil
}

func (b *bucket) get(ctx context.Context, name blob.Name, off, n int64) (*reader, error) {
	// By what was seen before a part is read, or all of what is small: then it is known before anybody has a byte of it whether it ends where it
	// did. If that fails in whatever way, the blob may be another one.
	if n != 0 {
		if one, ok := b.sights.take(name); ok {
			out, err := b.again(ctx, name, one, off, n)
			if err == nil {
				return out, nil
			}
		}
	}
	one := b.sights.looked()
	var err error
	if one.obj, err = b.find(ctx, name, 0); err != nil {
		return nil, err
	}
	return b.read(ctx, name, one, off, n)
}

// atOnce is up to which size a blob that was seen before is read at once.
const atOnce = 1 << 20

var errLonger = errors.New("the end is read, which may be elsewhere by now")

// again opens a part of an object that was seen before.
func (b *bucket) again(ctx context.Context, name blob.Name, one sight, off, n int64) (*reader, error) {
	size := one.obj.Size()
	if n > 0 && off+n <= size {
		return b.read(ctx, name, one, off, n)
	}
	if off > 0 || size == 0 || size > atOnce {
		return nil, errLonger
	}
	out, err := b.read(ctx, name, one, 0, -1)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(out)
	if cerr := out.r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return &reader{b: b, ctx: ctx, name: name, r: io.NopCloser(bytes.NewReader(p)), left: size, seen: one}, nil
}

// read opens a part of an object.
func (b *bucket) read(ctx context.Context, name blob.Name, one sight, off, n int64) (*reader, error) {
	size := one.obj.Size()
	if size < 0 {
		return nil, fmt.Errorf("%w: it does not say how long the blob is", blob.ErrTemporary)
	}
	off = min(off, size)
	if n < 0 || n > size-off {
		n = size - off
	}
	out := &reader{b: b, ctx: ctx, name: name, left: n, seen: one}
	if n == 0 {
		return out, nil
	}
	var opts []rclone.OpenOption
	if off > 0 || n < size {
		opts = append(opts, &rclone.RangeOption{Start: off, End: off + n - 1})
	}
	var err error
	if out.r, err = one.obj.Open(ctx, opts...); err != nil {
		return nil, b.missing(ctx, string(name), err, 0)
	}
	if b.b.holds && n <= held {
		if out.r, err = whole(out.r, n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// held is up to which size a body is read at once where it could be neither replaced nor removed as long as a reader has it open.
const held = 1 << 20

// whole returns a reader of the n bytes of r in memory, and closes r.
func whole(r io.ReadCloser, n int64) (io.ReadCloser, error) {
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return io.NopCloser(bytes.NewReader(p)), nil
}

// find returns the object of that name. That it is not there counts only where the place is there, or was within the last age.
func (b *bucket) find(ctx context.Context, name blob.Name, age time.Duration) (rclone.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	obj, err := b.f.NewObject(ctx, string(name))
	if err != nil {
		return nil, b.missing(ctx, string(name), err, age)
	}
	return obj, nil
}

// missing turns the error of a call for one blob into fs.ErrNotExist, if that is what it means.
func (b *bucket) missing(ctx context.Context, name string, err error, age time.Duration) error {
	if !notThere(err) && !(refused(err) && b.above(ctx, name) != "") {
		return err
	}
	if err := b.present(ctx, age); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
}

// above returns the blob among the folders above name, "" if there is none. Some servers have an answer of their own for what
// lies below a file.
func (b *bucket) above(ctx context.Context, name string) string {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, err := b.f.NewObject(ctx, dir); err == nil {
			return dir
		}
	}
	return ""
}

// reader yields what was asked for, no byte more or less, or an error.
type reader struct {
	b      *bucket
	ctx    context.Context // of the Get that it belongs to
	cancel context.CancelFunc
	name   blob.Name
	r      io.ReadCloser // nil: nothing was asked for
	left   int64
	err    error
	seen   sight
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read blob %s: %w", r.name, r.b.failed(r.ctx, err))
	}
	r.err = err
	return n, err
}

func (r *reader) read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.r == nil {
		return 0, io.EOF
	}
	if r.left == 0 {
		return 0, r.atEnd()
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.r.Read(p)
	r.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && r.left > 0:
		err = fmt.Errorf("%w: the blob ends %d bytes early", blob.ErrTemporary, r.left)
	case errors.Is(err, io.EOF) && n > 0:
		err = nil
	}
	return n, err
}

// atEnd returns io.EOF if the place sends no more than it was asked for. Who sends more may have sent another part.
func (r *reader) atEnd() error {
	var one [1]byte
	for range 100 {
		n, err := r.r.Read(one[:])
		switch {
		case n > 0:
			return fmt.Errorf("%w: it sends more than was asked for", blob.ErrTemporary)
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

func (r *reader) Close() error {
	defer r.cancel()
	if r.r == nil {
		return nil
	}
	err := r.r.Close()
	r.r = nil
	if err == nil && r.left == 0 && (r.err == nil || errors.Is(r.err, io.EOF)) && r.ctx.Err() == nil {
		r.b.sights.give(r.name, r.seen)
	}
	if r.err == nil {
		r.err = fs.ErrClosed
	}
	if r.left > 0 || r.ctx.Err() != nil {
		return nil // who closes half-way is not interested in what is cut off
	}
	return err
}

// Remove implements [blob.Bucket]. Folders stay.
func (b *bucket) Remove(ctx context.Context, names ...blob.Name) error {
	for _, name := range names {
		if err := name.Check(); err != nil {
			return err
		}
	}
	b.sights.changed()
	defer b.sights.changed()
	ctx, cancel := b.with(ctx)
	defer cancel()
	all, sub := errgroup.WithContext(ctx)
	all.SetLimit(workers[b.b.can.Rate])
	seen := make(map[blob.Name]bool, len(names))
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		all.Go(func() error {
			if err := b.remove(sub, name); err != nil {
				return fmt.Errorf("remove blob %s: %w", name, b.failed(sub, err))
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (b *bucket) remove(ctx context.Context, name blob.Name) error {
	obj, err := b.find(ctx, name, fresh)
	if err == nil {
		if err = obj.Remove(ctx); err != nil {
			err = b.missing(ctx, string(name), err, fresh)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
