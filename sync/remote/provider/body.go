package provider

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// A body is what a backend reads while it puts. It gives the last byte away only when the source has been seen to end
// there: a server that has as many bytes as it was promised would keep a body that is
// too long. After end, nobody reads the source any more, whatever a transport still does.
type body struct {
	mu   sync.Mutex
	r    io.Reader // of blob.Body
	left int64     // of what the source has to give
	sum  hash.Hash // of what was given away; nil: none
	err  error
	over bool
}

// newBody returns a body. It has read nothing but, of an empty one, the end.
func newBody(ctx context.Context, r io.Reader, size int64, sum hash.Hash) (*body, error) {
	b := &body{r: blob.Body(ctx, r, size), left: size, sum: sum}
	if size <= 0 {
		if n, err := b.r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			return nil, err
		}
		b.err = io.EOF
	}
	return b, nil
}

var errOver = errors.New("the put is over")

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, errOver
	}
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	for b.left == 0 && err == nil {
		var m int
		m, err = b.r.Read(make([]byte, 1))
		if m > 0 { // blob.Body does not do so
			err = fmt.Errorf("%w: too long", blob.ErrSize)
		}
	}
	if err != nil {
		b.err = err
		if !errors.Is(err, io.EOF) {
			return 0, err
		}
	}
	if b.sum != nil {
		b.sum.Write(p[:n])
	}
	if n > 0 && err != nil {
		err = nil // the next Read says so
	}
	return n, err
}

// end returns when nobody reads the source any more, with the source's own error, if it had one.
func (b *body) end() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if errors.Is(b.err, io.EOF) {
		return nil
	}
	return b.err
}

// complete reports whether all of it was read.
func (b *body) complete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left == 0 && errors.Is(b.err, io.EOF)
}
