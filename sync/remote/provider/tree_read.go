package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	rclone "github.com/rclone/rclone/fs"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Open implements [remote.Tree].
func (t *tree) Open(ctx context.Context, p string, off, n int64, known remote.Version) (io.ReadCloser, error) {
	ctx, cancel := t.with(ctx)
	r, err := t.openFile(ctx, p, off, n, known)
	if err != nil {
		err = t.failed(ctx, err)
		cancel()
		return nil, fmt.Errorf("open %q: %w", p, err)
	}
	r.cancel = cancel
	return r, nil
}

func (t *tree) openFile(ctx context.Context, p string, off, n int64, known remote.Version) (*treeReader, error) {
	obj, it, err := t.object(ctx, p)
	switch {
	case err != nil:
		return nil, err
	case known != "" && it.Version != known:
		return nil, remote.ErrChanged
	case off < 0:
		return nil, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid)
	}
	size := obj.Size()
	off = min(off, size)
	if n < 0 || n > size-off {
		n = size - off
	}
	r := &treeReader{t: t, ctx: ctx, path: p, version: it.Version, left: n}
	if n == 0 {
		return r, nil
	}
	var opts []rclone.OpenOption
	if off > 0 || n < size {
		opts = append(opts, &rclone.RangeOption{Start: off, End: off + n - 1})
	}
	err = t.patiently(ctx, func() (err error) {
		r.r, err = obj.Open(ctx, opts...)
		return err
	})
	if err != nil && notThere(err) {
		err = fmt.Errorf("it is gone: %w", remote.ErrChanged)
	}
	return r, err
}

// A treeReader gives what was asked for, no byte more or less, of one version. It is used by one goroutine at a time.
type treeReader struct {
	t       *tree
	ctx     context.Context // of the Open that it belongs to
	cancel  context.CancelFunc
	path    string
	version remote.Version
	r       io.ReadCloser // nil: nothing was asked for
	left    int64
	err     error
}

func (r *treeReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %q: %w", r.path, r.t.failed(r.ctx, err))
	}
	r.err = err
	return n, err
}

func (r *treeReader) read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.r == nil || r.left == 0 {
		return 0, r.end()
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = nil
		if r.left > 0 {
			if err = r.still(); err == nil {
				err = fmt.Errorf("%w: the file ends %d bytes early", blob.ErrTemporary, r.left)
			}
		}
	}
	return n, err
}

// end returns io.EOF if the file is still the one that was opened. What an object store sends is of one version in any case.
func (r *treeReader) end() error {
	if r.r != nil && !r.t.b.can.AtomicPut {
		if err := r.still(); err != nil {
			return err
		}
	}
	return io.EOF
}

func (r *treeReader) still() error {
	_, it, err := r.t.object(r.ctx, r.path)
	if err == nil && it.Version == r.version {
		return nil
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return remote.ErrChanged
	}
	return err
}

func (r *treeReader) Close() error {
	defer r.cancel()
	if r.err == nil {
		r.err = fs.ErrClosed
	}
	if r.r == nil {
		return nil
	}
	err := r.r.Close()
	r.r = nil
	if r.left > 0 || r.ctx.Err() != nil {
		return nil // who closes half-way is not interested in what is cut off
	}
	return err
}

// badName reports whether an error says that a place cannot have a name. They say so in words, if at all.
func badName(err error) bool {
	if err == nil {
		return false
	}
	if s := status(err); s == http.StatusRequestURITooLong || s == http.StatusUnprocessableEntity {
		return true
	}
	text := strings.ToLower(err.Error())
	for _, w := range []string{"name too long", "file name", "filename", "invalid name", "keytoolong", "invalid path", "illegal byte sequence", "objectname"} {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

var (
	_ remote.Tree    = (*tree)(nil)
	_ remote.Copier  = (*tree)(nil)
	_ remote.Toucher = (*tree)(nil)
	_ remote.Watcher = (*tree)(nil)
)
