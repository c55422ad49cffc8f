package measure

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// Same reports whether two files have the same bytes.
func Same(a, b string) (bool, error) {
	x, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer func() { _ = x.Close() }() // it was only read
	y, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer func() { _ = y.Close() }() // the same
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(x, p)
		m, err2 := io.ReadFull(y, q)
		if !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return errors.Is(err2, io.EOF) || errors.Is(err2, io.ErrUnexpectedEOF), nil
		case err != nil || err2 != nil:
			return false, errors.Join(err, err2)
		}
	}
}
