package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// errVanished says that the near side does not have a blob any more.
var errVanished = errors.New("the blob is gone")

// grid is what ranges of packs are rounded to, so that they tell nothing of what is in them (SECURITY.md 2.4).
const grid = 1 << 20

// hashing yields the bytes of a pack, size of them. The last are handed out only if all have the hash; so whoever takes exactly size bytes,
// and does not look for the end, takes none but these. What it finds wrong stays in err.
type hashing struct {
	r    io.Reader
	h    *blake3.Hasher
	want [32]byte
	left int64
	read func(n int64)
	err  error
}

func (h *hashing) Read(p []byte) (int, error) {
	if h.err != nil {
		return 0, h.err
	}
	if h.left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > h.left {
		p = p[:h.left]
	}
	n, err := h.r.Read(p)
	_, _ = h.h.Write(p[:n]) // never fails
	h.left -= int64(n)
	switch {
	case h.left == 0:
		if sum := [32]byte(h.h.Sum(nil)); sum != h.want {
			h.err = fmt.Errorf("%w: its bytes have another hash", ErrDamaged)
			return 0, h.err
		}
	case errors.Is(err, io.EOF):
		h.err = fmt.Errorf("%w: it ends %d bytes early", ErrDamaged, h.left)
		return 0, h.err
	case err != nil:
		h.err = err
		return n, err
	}
	h.read(int64(n))
	return n, nil
}

// A nearError is an error of reading the near side.
type nearError struct{ err error }

func (e *nearError) Error() string { return e.err.Error() }
func (e *nearError) Unwrap() error { return e.err }

// copyPack puts a pack of the near side at the far one, if its bytes have the hash that its name says. c counts the bytes. The error wraps
// errVanished if the near side does not have it, is a nearError if that cannot be read, and a Fault if what it has is damaged, in each of a
// few tries.
func (r *run) copyPack(ctx context.Context, info blob.Info, c *counted) error {
	hash, ok := catalog.PackHash(info.Name)
	if !ok {
		return fmt.Errorf("copy pack %q: %w", string(info.Name), blob.ErrName)
	}
	var err error
	for range tries {
		c.sent = 0
		if err = sendPack(ctx, r.from, r.to, info, hash, c.read); err == nil || !errors.Is(err, ErrDamaged) {
			return err
		}
		if r.o.Forget != nil {
			if ferr := r.o.Forget(ctx, info.Name); ferr != nil {
				return ferr
			}
		}
	}
	return &Fault{info.Name, err}
}

func sendPack(ctx context.Context, from, to blob.Bucket, info blob.Info, hash [32]byte, read func(int64)) error {
	body, err := open(ctx, from, info.Name)
	if errors.Is(err, errVanished) {
		return err
	}
	if err != nil {
		return &nearError{err}
	}
	if info.Size == 0 {
		_ = body.Close()
		return fmt.Errorf("%w: it is empty", ErrDamaged)
	}
	h := &hashing{r: body, h: blake3.New(), want: hash, left: info.Size, read: read}
	err = to.Put(ctx, info.Name, h, info.Size)
	_ = body.Close()
	switch {
	case errors.Is(h.err, ErrDamaged): // whatever the far side makes of it
		return h.err
	case h.err != nil:
		return &nearError{h.err}
	case err == nil && h.left > 0:
		return fmt.Errorf("%w: %s", ErrNotStored, info.Name) // it did not even take the bytes
	}
	return err
}

// open opens a whole blob of the near side.
func open(ctx context.Context, from blob.Bucket, name blob.Name) (io.ReadCloser, error) {
	body, err := from.Get(ctx, name, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errVanished, err)
	}
	return body, err
}

// copyIndex puts an index blob of from at to. Nothing but its length can be checked.
func copyIndex(ctx context.Context, from, to blob.Bucket, info blob.Info, c *counted) error {
	var err error
	for range tries {
		c.sent = 0
		var body io.ReadCloser
		if body, err = open(ctx, from, info.Name); err != nil {
			return err
		}
		err = to.Put(ctx, info.Name, &counting{body, c.read}, info.Size)
		_ = body.Close()
		if err == nil || !errors.Is(err, blob.ErrSize) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// putIndexBlob is copyIndex of one that Options.Index takes. The error wraps ErrDamaged if it takes none.
func (r *run) putIndexBlob(ctx context.Context, info blob.Info) error {
	c := r.progress.of(info.Name)
	if r.o.Index == nil {
		return copyIndex(ctx, r.from, r.to, info, c)
	}
	for try := 1; ; try++ {
		body, err := readWhole(ctx, r.from, info.Name, info.Size, maxIndex)
		if err == nil {
			if err = r.o.Index(info.Name, body); err == nil {
				c.sent = 0
				return r.to.Put(ctx, info.Name, &counting{bytes.NewReader(body), c.read}, info.Size)
			}
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: %w", errVanished, err)
		case !errors.Is(err, ErrDamaged) || try == tries:
			return err
		}
	}
}

// counting tells how many bytes are read.
type counting struct {
	r    io.Reader
	read func(int64)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.read(int64(n))
	return n, err
}

// checkPack reads a pack and holds its hash against its name. The error wraps ErrDamaged, or fs.ErrNotExist, or it is one of the place.
func checkPack(ctx context.Context, b blob.Bucket, name blob.Name) error {
	want, ok := catalog.PackHash(name)
	if !ok {
		return fmt.Errorf("check pack %q: %w", string(name), blob.ErrName)
	}
	r, err := b.Get(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	h := blake3.New()
	n, err := io.Copy(h, io.LimitReader(r, maxPack+1))
	switch {
	case err != nil:
		return fmt.Errorf("read pack %s: %w", name, err)
	case n > maxPack:
		return fmt.Errorf("%w: it is longer than any pack", ErrDamaged)
	case [32]byte(h.Sum(nil)) != want:
		return fmt.Errorf("%w: its %d bytes have another hash", ErrDamaged, n)
	}
	return nil
}

// maxPack is the length of the longest pack.
const maxPack = 32 << 20

// endsAt reports whether a blob is there and size bytes long. It reads its last piece on the grid.
func endsAt(ctx context.Context, b blob.Bucket, name blob.Name, size int64) (bool, error) {
	off := max(0, size-1) / grid * grid
	r, err := b.Get(ctx, name, off, grid)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, grid+1))
	_ = r.Close()
	if err != nil {
		return false, fmt.Errorf("read blob %s: %w", name, err)
	}
	if n == grid { // size ends on the grid, or the blob is longer
		p, err := readRange(ctx, b, name, off+grid)
		return err == nil && p == 0 && off+n == size, err
	}
	return off+n == size, nil
}

// readRange returns how many bytes there are from off, up to a piece of the grid.
func readRange(ctx context.Context, b blob.Bucket, name blob.Name, off int64) (int64, error) {
	r, err := b.Get(ctx, name, off, grid)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, grid+1))
	return n, errors.Join(err, r.Close())
}
