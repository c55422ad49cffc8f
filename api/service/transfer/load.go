package transfer

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/sheaf-drive/sheaf/vfs/live"
)

// batchBytes is after how many bytes the files of a batch are given to the tree, if there are
// not Options.Batch of them before.
const batchBytes = 256 << 20

// A batch is files on their way into a drive that takes what a live.Load stored. Making chunks durable
// costs a sync of the disk, so many files share one.
//
// Each file passes through enter, which counts it in, and leave. The last to leave a batch that
// is full gives all its files to the tree, while the others are busy with the next batch.
type batch struct {
	load  *live.Load
	files []loaded
	bytes int64
	open  int  // files that are being stored
	full  bool // no file comes in any more
}

// loaded is a file whose bytes are stored.
type loaded struct {
	n     node
	there bool   // in the target is something under its name
	w     Writer // nil: not begun yet
	parts []live.Stored
	x     []Xattr
}

// batches are the batches of a copy.
type batches struct {
	mu   sync.Mutex
	now  *batch // the one that files come into; nil: none
	left []*batch
}

// enter counts a file into the batch of now.
func (c *copier) enter() (*batch, error) {
	b := &c.batches
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now == nil {
		l, err := c.o.Load()
		if err != nil {
			return nil, err
		}
		b.now = &batch{load: l}
		b.left = append(b.left, b.now)
	}
	b.now.open++
	return b.now, nil
}

// leave counts a file out, which is nil if it is done already or failed, and gives the batch to the tree if
// it is full and this was the last.
func (c *copier) leave(ctx context.Context, bt *batch, f *loaded) error {
	b := &c.batches
	b.mu.Lock()
	bt.open--
	if f != nil {
		bt.files = append(bt.files, *f)
		bt.bytes += f.n.it.Size
	}
	if len(bt.files) >= c.o.Batch || bt.bytes >= batchBytes {
		bt.full = true
	}
	if bt.full && b.now == bt {
		b.now = nil
	}
	mine := bt.full && bt.open == 0
	b.mu.Unlock()
	if !mine {
		return nil
	}
	return c.give(ctx, bt)
}

// rest gives the last batch to the tree. All files have left.
func (c *copier) rest(ctx context.Context) error {
	if bt := c.batches.now; bt != nil {
		c.batches.now = nil
		return c.give(ctx, bt)
	}
	return nil
}

// drop ends the batches that were not given, when the copy ends.
func (c *copier) drop() {
	for _, bt := range c.batches.left {
		for i := range bt.files {
			if w := bt.files[i].w; w != nil {
				_ = w.Close() // what it has stays for the next copy
			}
		}
		bt.load.Close()
	}
}

// give makes the files of a batch appear under their names.
func (c *copier) give(ctx context.Context, bt *batch) error {
	if err := bt.load.Flush(ctx); err != nil {
		return err
	}
	for len(bt.files) > 0 {
		f := bt.files[0]
		bt.files = bt.files[1:]
		if err := c.settle(ctx, f.n, c.giveFile(ctx, bt.load, &f)); err != nil {
			return err
		}
	}
	b := &c.batches
	b.mu.Lock()
	for i, other := range b.left {
		if other == bt {
			b.left = append(b.left[:i], b.left[i+1:]...)
			break
		}
	}
	b.mu.Unlock()
	bt.load.Close()
	return nil
}

func (c *copier) giveFile(ctx context.Context, l *live.Load, f *loaded) error {
	if f.w == nil {
		w, err := c.to.Begin(ctx, f.n.path, f.n.it)
		if err != nil {
			return err
		}
		f.w = w
	}
	defer func() { _ = f.w.Close() }()
	for _, p := range f.parts {
		if err := f.w.Give(ctx, l, p); err != nil {
			return err
		}
	}
	if f.there {
		if err := c.keep(ctx, f.n.path); err != nil {
			return err
		}
	}
	return f.w.Commit(ctx, f.n.it, f.x)
}

// loadFile stores the bytes of the open file r and leaves the rest to its batch, which settles it. It
// reports whether it does.
func (c *copier) loadFile(ctx context.Context, n node, r Reader, there bool) (later bool, err error) {
	bt, err := c.enter()
	if err != nil {
		return false, err
	}
	f := &loaded{n: n, there: there}
	if err := c.store(ctx, bt, f, r); err != nil {
		if f.w != nil {
			_ = f.w.Close() // err says what is wrong
		}
		return false, errors.Join(err, c.leave(ctx, bt, nil))
	}
	return true, c.leave(ctx, bt, f)
}

func (c *copier) store(ctx context.Context, bt *batch, f *loaded, r Reader) error {
	size := f.n.it.Size
	src := &counted{Reader: r, c: c}
	err := bt.load.Store(ctx, src, size, func(p live.Stored) error {
		if p.End() == size {
			f.parts = append(f.parts, p)
			return nil
		}
		// A long file: what it has is kept as it comes, and the next copy goes on from there.
		if f.w == nil {
			w, err := c.to.Begin(ctx, f.n.path, f.n.it)
			if err != nil {
				return err
			}
			f.w = w
		}
		if err := bt.load.Flush(ctx); err != nil {
			return err
		}
		return f.w.Give(ctx, bt.load, p)
	})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrChanged
	}
	if err != nil {
		return err
	}
	c.p.bytes(size - src.at) // a hole at the end
	f.x, err = c.unchanged(ctx, f.n, r)
	return err
}

// counted is a Reader that tells how far it is read.
type counted struct {
	Reader
	c  *copier
	at int64 // all before was told
}

func (r *counted) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(ctx, p, off)
	if to := off + int64(n); to > r.at {
		r.c.p.bytes(to - r.at)
		r.at = to
	}
	return n, err
}
