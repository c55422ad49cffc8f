package treefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/vfs"
)

// Open implements vfs.File.
func (n *fileNode) Open(ctx context.Context, flag vfs.OpenFlag) (vfs.Handle, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if flag&(vfs.OpenWrite|vfs.OpenTrunc) != 0 {
		if err := n.may(ctx); err != nil {
			return nil, err
		}
	}
	if flag&vfs.OpenTrunc != 0 {
		if err := n.truncate(ctx, 0); err != nil {
			return nil, err
		}
	}
	h := &handle{n: n.node, flag: flag}
	n.work.mu.Lock()
	n.work.opens++
	if flag&vfs.OpenWrite != 0 {
		n.work.writers++
	}
	n.work.mu.Unlock()
	if flag&vfs.OpenWrite != 0 {
		return h, nil
	}
	if flag&vfs.OpenTrunc != 0 {
		return h, n.flush(ctx)
	}
	return h, nil
}

// A handle is an open file. What it reads from the place is of the version that was there when it read first.
type handle struct {
	n    *node
	flag vfs.OpenFlag

	mu     sync.Mutex
	closed bool
	r      *ranges // of what is not in the spool
}

// use returns an error if the handle is closed, or was not opened for what flag says.
func (h *handle) use(ctx context.Context, flag vfs.OpenFlag, off, size int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return fs.ErrClosed
	case h.flag&flag != flag:
		return fs.ErrPermission
	case off < 0 || size < 0:
		return fs.ErrInvalid
	case off > vfs.MaxSize-size && flag&vfs.OpenWrite != 0:
		return vfs.ErrTooBig
	}
	return ctx.Err()
}

// ReadAt implements vfs.Handle.
func (h *handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := h.use(ctx, vfs.OpenRead, off, 0); err != nil {
		return 0, err
	}
	if n, ok, err := h.n.work.readAt(p, off); ok {
		return n, err
	}
	for try := 0; ; try++ {
		r, err := h.source()
		if err != nil {
			return 0, err
		}
		n, err := r.readAt(ctx, p, off)
		if err == nil || !errors.Is(err, remote.ErrChanged) && !errors.Is(err, fs.ErrNotExist) {
			return n, failed(err)
		}
		// It may be in the spool by now; or another file is there, which will do for who has not read anything yet.
		if n, ok, err := h.n.work.readAt(p, off); ok {
			return n, err
		}
		h.n.f.mu.Lock()
		h.n.seen = time.Time{}
		h.n.f.mu.Unlock()
		if try > 2 || r.began() || !h.renew(ctx, r) {
			return n, failed(err)
		}
	}
}

// source returns what reads from the place.
func (h *handle) source() (*ranges, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fs.ErrClosed
	}
	if h.r == nil {
		p, err := h.n.where()
		if err != nil {
			return nil, err
		}
		h.n.f.mu.Lock()
		h.r = newRanges(h.n.f, p, h.n.item)
		h.n.f.mu.Unlock()
	}
	return h.r, nil
}

// renew looks at the file again, and reports whether there is one.
func (h *handle) renew(ctx context.Context, old *ranges) bool {
	p, err := h.n.where()
	if err != nil {
		return false
	}
	it, err := h.n.f.t.Stat(ctx, p)
	if err != nil || it.Kind != remote.File {
		return false
	}
	h.n.f.mu.Lock()
	if !h.n.f.dirty[h.n] {
		h.n.item = it
	}
	h.n.f.mu.Unlock()
	h.mu.Lock()
	if h.r == old {
		h.r = nil
	}
	h.mu.Unlock()
	old.close()
	return true
}

// WriteAt implements vfs.Handle.
func (h *handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := h.use(ctx, vfs.OpenWrite, off, int64(len(p))); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	return h.n.change(ctx, func(s *spool) (int, error) {
		n, err := s.f.WriteAt(p, off)
		s.length = max(s.length, off+int64(n))
		return n, err
	})
}

// Truncate implements vfs.Handle.
func (h *handle) Truncate(ctx context.Context, size int64) error {
	if err := h.use(ctx, vfs.OpenWrite, 0, size); err != nil {
		return err
	}
	_, err := h.n.change(ctx, func(s *spool) (int, error) { return 0, s.truncate(size) })
	return err
}

// Allocate implements vfs.Handle. The place keeps no holes, and nobody is told that there is one.
func (h *handle) Allocate(ctx context.Context, mode vfs.AllocMode, off, n int64) error {
	if err := h.use(ctx, vfs.OpenWrite, off, n); err != nil {
		return err
	}
	switch {
	case n == 0:
		return fs.ErrInvalid
	case mode == vfs.AllocKeepSize:
		return nil
	case mode > vfs.AllocZeroKeep:
		return fs.ErrInvalid
	case mode != vfs.AllocReserve:
		return fmt.Errorf("make a hole: %w", errors.ErrUnsupported)
	}
	_, err := h.n.change(ctx, func(s *spool) (int, error) {
		if off+n > s.length {
			return 0, s.truncate(off + n)
		}
		return 0, nil
	})
	return err
}

// Seek implements vfs.Handle: all of a file is data.
func (h *handle) Seek(ctx context.Context, off int64, whence vfs.Whence) (int64, error) {
	if err := h.use(ctx, 0, off, 0); err != nil {
		return 0, err
	}
	if whence > vfs.SeekHole {
		return 0, fs.ErrInvalid
	}
	size := h.n.attr().Size
	if off >= size {
		return 0, vfs.ErrNoData
	}
	if whence == vfs.SeekHole {
		return size, nil
	}
	return off, nil
}

// CopyTo implements vfs.Handle.
func (h *handle) CopyTo(ctx context.Context, off int64, dst vfs.Handle, dstOff, n int64) (int64, error) {
	to, ok := dst.(*handle)
	if !ok || to.n.f != h.n.f {
		return 0, vfs.ErrCrossTree
	}
	if err := h.use(ctx, vfs.OpenRead, off, n); err != nil {
		return 0, err
	}
	n = max(min(n, h.n.attr().Size-off), 0)
	if err := to.use(ctx, vfs.OpenWrite, dstOff, n); err != nil {
		return 0, err
	}
	if to.n == h.n && off < dstOff+n && dstOff < off+n && n > 0 {
		return 0, fs.ErrInvalid
	}
	buf := make([]byte, min(n, 1<<20))
	var done int64
	for done < n {
		p := buf[:min(int64(len(buf)), n-done)]
		m, err := h.ReadAt(ctx, p, off+done)
		if m > 0 {
			if _, werr := to.WriteAt(ctx, p[:m], dstOff+done); werr != nil {
				return done, werr
			}
			done += int64(m)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Sync implements vfs.Handle: what was written is put.
func (h *handle) Sync(ctx context.Context) error {
	if err := h.use(ctx, 0, 0, 0); err != nil {
		return err
	}
	return h.n.flush(ctx)
}

// Close implements vfs.Handle. The last one who writes puts the file.
func (h *handle) Close(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return fs.ErrClosed
	}
	h.closed = true
	r := h.r
	h.r = nil
	h.mu.Unlock()
	if r != nil {
		r.close()
	}
	w := &h.n.work
	w.mu.Lock()
	w.opens--
	if h.flag&vfs.OpenWrite != 0 {
		w.writers--
	}
	last := w.writers == 0 && h.flag&vfs.OpenWrite != 0
	if w.opens == 0 && !last && !w.changed {
		w.end() // it was kept for who read it
	}
	w.mu.Unlock()
	if !last {
		return nil
	}
	return h.n.flush(context.WithoutCancel(ctx))
}

// truncate makes a file size bytes long.
func (n *node) truncate(ctx context.Context, size int64) error {
	if size < 0 {
		return fs.ErrInvalid
	}
	_, err := n.change(ctx, func(s *spool) (int, error) { return 0, s.truncate(size) })
	if err == nil && !n.work.open() {
		return n.flush(ctx)
	}
	return err
}

// change brings the file into the spool, and changes it there.
func (n *node) change(ctx context.Context, do func(*spool) (int, error)) (int, error) {
	if err := n.may(ctx); err != nil {
		return 0, err
	}
	n.work.mu.Lock()
	defer n.work.mu.Unlock()
	if n.work.f == nil {
		if err := n.fetch(ctx); err != nil {
			return 0, fmt.Errorf("fetch to write: %w", failed(err))
		}
	}
	m, err := do(&n.work)
	n.work.changed, n.work.written, n.work.mtime = true, time.Now(), time.Time{}
	n.f.mu.Lock()
	n.f.dirty[n] = true
	n.f.mu.Unlock()
	return m, err
}

// fetch copies the file to the spool. work.mu is held.
func (n *node) fetch(ctx context.Context) error {
	n.f.mu.Lock()
	gone, p, it := n.gone, n.path(), n.item
	n.f.mu.Unlock()
	if gone {
		return fs.ErrNotExist
	}
	if err := n.work.start(n.f.o.Spool); err != nil {
		return err
	}
	if it.Size == 0 {
		return nil
	}
	r, err := n.f.t.Open(ctx, p, 0, -1, it.Version)
	if err == nil {
		n.work.length, err = io.Copy(n.work.f, r)
		err = errors.Join(err, r.Close())
	}
	if err != nil {
		n.work.end()
		n.f.mu.Lock()
		n.seen = time.Time{}
		n.f.mu.Unlock()
	}
	return err
}

// flush puts what is in the spool.
func (n *node) flush(ctx context.Context) error {
	w := &n.work
	w.mu.Lock()
	defer w.mu.Unlock()
	f := n.f
	f.mu.Lock()
	dirty, gone, p, known := f.dirty[n], n.gone, n.path(), n.item.Version
	it := remote.Item{Path: p, Kind: remote.File, Size: w.length, MTime: w.written, Mode: n.item.Mode}
	if n.fresh {
		known = ""
	}
	f.mu.Unlock()
	if gone {
		if w.opens == 0 {
			w.end()
		}
		return nil
	}
	if !dirty || w.f == nil {
		if w.writers == 0 {
			w.end()
		}
		return nil
	}
	if !w.mtime.IsZero() {
		it.MTime = w.mtime
	}
	done, err := f.t.Put(ctx, it, w.body(), known)
	if errors.Is(err, remote.ErrChanged) {
		if err = n.beside(ctx, it, w); err == nil {
			done, err = f.t.Stat(ctx, p)
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
				f.mu.Lock()
				n.gone = true
				f.mu.Unlock()
			}
		}
	}
	if err != nil {
		return fmt.Errorf("put %q: %w", p, failed(err))
	}
	n.put(done)
	if w.writers == 0 {
		w.end()
	}
	return nil
}

// put says that the place has what is in the spool. work.mu is held.
func (n *node) put(done remote.Item) {
	f := n.f
	n.work.changed = false
	f.mu.Lock()
	if done.ID != "" && numberOf(done) != n.ino {
		if f.born == nil || len(f.born) >= 1<<16 {
			f.born = map[string]uint64{}
		}
		f.born[done.ID] = n.ino
	}
	n.item, n.seen, n.fresh = done, time.Now(), false
	delete(f.dirty, n)
	if n.parent.held[n.name] == n {
		delete(n.parent.held, n.name)
	}
	f.unlist(n.parent)
	f.mu.Unlock()
}

// beside puts what was written into a file of its own, for the place has another version by now.
func (n *node) beside(ctx context.Context, it remote.Item, w *spool) error {
	dir, name := path.Split(it.Path)
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	if stem == "" {
		stem, ext = name, ""
	}
	for i := 1; i < 1000; i++ {
		it.Path = fmt.Sprintf("%s%s (conflict %d)%s", dir, stem, i, ext)
		_, err := n.f.t.Put(ctx, it, w.body(), "")
		if errors.Is(err, remote.ErrChanged) {
			continue
		}
		if err == nil {
			n.f.o.Log.Warn("the file was changed by somebody else: what was written here is beside it", "path", it.Path)
		}
		return err
	}
	return fmt.Errorf("%q has a thousand conflicts: %w", name, remote.ErrChanged)
}
