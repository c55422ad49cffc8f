package sftp

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/sheaf-drive/sheaf/vfs"
)

// file is an open file.
type file struct {
	s       *session
	h       vfs.Handle
	node    vfs.Node
	writes  bool
	appends bool

	appending sync.Mutex // held while the end is looked for and written to
	closing   sync.Once
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.s.may(false); err != nil {
		return 0, err
	}
	n, err := f.h.ReadAt(f.s.ctx, p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, status(err)
	}
	if err != nil {
		err = io.EOF // as it is: that is what the protocol's library compares with
	}
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.s.may(true); err != nil {
		return 0, err
	}
	if f.appends {
		f.appending.Lock()
		defer f.appending.Unlock()
		a, err := f.node.Attr(f.s.ctx)
		if err != nil {
			return 0, status(err)
		}
		off = a.Size
	}
	n, err := f.h.WriteAt(f.s.ctx, p, off)
	return n, status(err)
}

// Close gives the file back. What was written is durable when it returns nil: a client takes the answer for just that.
func (f *file) Close() (err error) {
	f.closing.Do(func() {
		defer f.s.handles.Add(-1)
		ctx := context.WithoutCancel(f.s.ctx)
		if f.writes {
			err = f.h.Sync(ctx)
		}
		err = errors.Join(err, f.h.Close(ctx))
	})
	return status(err)
}
