package evil

import (
	"context"
	"io"
	"time"
)

// reader yields false bytes.
type reader struct {
	ctx           context.Context // a reader has no other way to stop with its context
	body          []byte
	endless, slow bool
}

// drip is how long a slow body takes for a byte.
const drip = time.Millisecond

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.slow {
		wait := time.NewTimer(drip)
		defer wait.Stop()
		select {
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		case <-wait.C:
		}
		p = p[:1]
	}
	n := copy(p, r.body)
	r.body = r.body[n:]
	if n == 0 && r.endless {
		clear(p)
		return len(p), nil
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *reader) Close() error { return nil }
