package live

import (
	"context"
	"errors"
	"io"
)

// smallLoad is how many bytes a Load does not turn into chunks, but gives to the files by the journal. To make
// chunks durable before the journal names them takes a flush of their own, and so at least a pack of the smallest
// size; by the journal they come into the same pack as the manifests of the commit that follows. Where there is more
// to store than this, that pack counts for little, and to write the bytes twice would cost more.
const smallLoad = 256 << 10

// run is bytes of a file.
type run struct {
	off int64
	p   []byte
}

// isSmall reports whether a file of that size still belongs to what is small, and counts it then.
func (l *Load) isSmall(size int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size > smallLoad-l.small {
		return false
	}
	l.small += size
	return true
}

// keep is Store for a file that is small: it reads the bytes.
func (l *Load) keep(ctx context.Context, src LoadSource, size int64, take func(Stored) error) error {
	if size == 0 {
		return nil
	}
	w := &loading{src: src, size: size}
	part := Stored{end: size}
	for w.at < size {
		from, to, err := w.run(ctx)
		if err != nil {
			return err
		}
		if from > w.at {
			part.runs = append(part.runs, piece{off: w.at, n: from - w.at, from: isHole})
		}
		if w.at = to; from == to {
			continue
		}
		r := run{off: from, p: make([]byte, to-from)}
		if n, err := src.ReadAt(ctx, r.p, from); n < len(r.p) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		part.plain = append(part.plain, r)
	}
	return take(part)
}
