package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Body returns a reader for the implementations of [Bucket.Put]: it yields the
// bytes of r as long as there are exactly size of them. Its last Read returns
// an error that wraps [ErrSize] in place of io.EOF if r ends early or goes on
// after size bytes, and the error of ctx once that is done. It never yields
// more than size bytes. A negative size is an [ErrSize] at once.
func Body(ctx context.Context, r io.Reader, size int64) io.Reader {
	return &body{ctx: ctx, r: r, left: size, size: size}
}

type body struct {
	ctx        context.Context // a reader has no other way to stop with its context
	r          io.Reader
	left, size int64
	err        error
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if err := b.ctx.Err(); err != nil {
		b.err = err
		return 0, err
	}
	if b.left < 0 {
		b.err = fmt.Errorf("%w: size %d", ErrSize, b.size)
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if b.left == 0 {
		b.err = b.atEnd()
		return 0, b.err
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && b.left > 0:
		b.err = fmt.Errorf("%w: %d of %d bytes", ErrSize, b.size-b.left, b.size)
	case errors.Is(err, io.EOF): // the end is confirmed
		b.err = io.EOF
	case err != nil:
		b.err = err
	}
	return n, b.err
}

// atEnd reads once more, to see that r ends where it should: io.EOF if so.
func (b *body) atEnd() error {
	var one [1]byte
	for range 100 { // as many empty reads as bufio allows
		n, err := b.r.Read(one[:])
		switch {
		case n > 0:
			return fmt.Errorf("%w: more than %d bytes", ErrSize, b.size)
		case errors.Is(err, io.EOF):
			return io.EOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// Stream returns a reader of r whose Read returns the error of ctx once that is
// done. It is [Body] for what has no known size.
func Stream(ctx context.Context, r io.Reader) io.Reader { return &stream{ctx, r} }

type stream struct {
	ctx context.Context // as in body
	r   io.Reader
}

func (s *stream) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}
