package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Get implements [blob.Bucket]. Its readers read from where they are told to, so that
// many of them share one open file.
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
	f, size, err := b.open(name)
	if err != nil {
		return nil, fmt.Errorf("get blob %s: %w", name, err)
	}
	off = min(off, size)
	if n < 0 || n > size-off {
		n = size - off
	}
	return &reader{ctx: ctx, files: b.files, f: f, name: name, off: off, end: off + n}, nil
}

// open returns the open file of a blob, of which the caller has one use, and its size.
func (b *Bucket) open(name blob.Name) (*file, int64, error) {
	f, gen, err := b.files.get(name)
	if err != nil {
		return nil, 0, err
	}
	if f != nil {
		// A file without a name was removed or replaced, perhaps by another program.
		if fi, err := f.Stat(); err == nil && alive(fi) {
			return f, fi.Size(), nil
		}
		b.files.drop(name)
		if err := b.files.release(f); err != nil {
			return nil, 0, err
		}
		if gen, err = b.files.generation(); err != nil {
			return nil, 0, err
		}
	}
	of, size, err := b.openFile(name)
	if err != nil {
		return nil, 0, err
	}
	return b.files.add(name, of, gen), size, nil
}

// openFile opens a blob that is a regular file itself, not by way of a link.
func (b *Bucket) openFile(name blob.Name) (*os.File, int64, error) {
	for {
		before, err := b.root.Lstat(string(name))
		if err != nil {
			if notThere(err) {
				err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
			}
			return nil, 0, err
		}
		if !before.Mode().IsRegular() {
			return nil, 0, fs.ErrNotExist
		}
		f, err := b.root.OpenFile(string(name), os.O_RDONLY|openFlags, 0)
		if err != nil {
			if notThere(err) {
				err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
			}
			return nil, 0, err
		}
		fi, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
		if os.SameFile(before, fi) {
			return f, fi.Size(), nil
		}
		// It was replaced in between. Each turn needs one more such replacement.
		if err := f.Close(); err != nil {
			return nil, 0, err
		}
	}
}

// reader yields one range of one blob.
type reader struct {
	ctx      context.Context // a reader has no other way to stop with its context
	files    *files
	f        *file // nil once closed
	name     blob.Name
	off, end int64
}

func (r *reader) Read(p []byte) (int, error) {
	if r.f == nil {
		return 0, fmt.Errorf("read blob %s: %w", r.name, fs.ErrClosed)
	}
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("read blob %s: %w", r.name, err)
	}
	if r.off >= r.end {
		return 0, io.EOF
	}
	if int64(len(p)) > r.end-r.off {
		p = p[:r.end-r.off]
	}
	n, err := r.f.ReadAt(p, r.off)
	r.off += int64(n)
	if n > 0 {
		return n, nil // the error comes again with the next read, if there is one
	}
	if err == nil || len(p) == 0 {
		return 0, nil
	}
	if errors.Is(err, io.EOF) { // somebody has cut the file off
		err = io.ErrUnexpectedEOF
	}
	return 0, fmt.Errorf("read blob %s: %w", r.name, err)
}

func (r *reader) Close() error {
	if r.f == nil {
		return nil
	}
	f := r.f
	r.f = nil
	return r.files.release(f)
}
