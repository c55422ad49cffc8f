package retry

import (
	"errors"
	"io"
)

// body is a reader that can be read again from where it began: it is sought back, or what was read of
// it is kept.
type body struct {
	r      io.Reader
	seeker io.Seeker // nil: there is none
	start  int64     // where it began
	keep   bool
	kept   []byte // what was read of r
	pos    int    // how much of kept has been read in this try
	failed error  // of r itself, which no other try mends
}

func newBody(r io.Reader, size, spool int64) *body {
	b := &body{r: r}
	if s, ok := r.(io.Seeker); ok {
		if at, err := s.Seek(0, io.SeekCurrent); err == nil {
			b.seeker, b.start = s, at
			return b
		}
	}
	b.keep = size <= spool
	return b
}

// twice reports whether the body can be read once more.
func (b *body) twice() bool { return b.seeker != nil || b.keep }

// rewind goes back to the beginning.
func (b *body) rewind() error {
	if b.seeker != nil {
		_, err := b.seeker.Seek(b.start, io.SeekStart)
		return err
	}
	b.pos = 0
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	if b.pos < len(b.kept) {
		n := copy(p, b.kept[b.pos:])
		b.pos += n
		return n, nil
	}
	n, err := b.r.Read(p)
	if b.keep {
		b.kept = append(b.kept, p[:n]...)
		b.pos += n
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed = err
	}
	return n, err
}
