package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

// blockSize is how many bytes are carried at once, and rangeSize how many are shared at
// once where two places can share them; between two of these a copy can be cancelled.
const (
	blockSize = 1 << 20
	rangeSize = 64 << 20
)

// clockStep is more than any clock that stamps changes takes in one step.
const clockStep = 2 * time.Second

// Options say how to copy.
type Options struct {
	// DryRun makes nothing and counts what would be done.
	DryRun bool
	// Workers is how many files are in flight; 0: 4.
	Workers int
	// Checksum reads both files where size and time are equal, before one is skipped.
	Checksum bool
	// Exact, if not zero, says that the source is a past state of the drive that is the target,
	// taken at that time. Then both files are read where sizes are equal, unless all times are equal too,
	// also that of the last change of attributes, which no program can set, and the change lies
	// well before the state: the clock that stamps changes moves in steps, so what was
	// changed just before the state and again just after may bear one time.
	Exact time.Time
	// Load, if not nil, begins a Load of the tree that is copied to, a Drive. Then files do
	// not go through its journal.
	Load func() (*live.Load, error)
	// Batch is how many loaded files share one sync of the disk; 0: 2048.
	Batch int
	// KeepReplaced, if not nil, gives the name under which a file that differs is kept when
	// it is replaced; n counts the tries.
	KeepReplaced func(name string, n int) string
}

// A copier is one run of Copy.
type copier struct {
	from  Source
	to    Target
	o     Options
	p     *Progress
	bufs  sync.Pool
	dirs  []node              // whose attributes are set last
	first map[Identity]string // the path under which each hard-linked file was met first
	links []node              // the other paths of these

	batches batches
	walked  Count         // the totals, once walk has ended
	ended   chan struct{} // closed then
}

// node is one node and the path that it has in both places.
type node struct {
	path string
	it   Item
}

// Copy makes the target have what the source has, at the top: files with their
// bytes and holes, directories, symbolic links, hard links, FIFOs and devices, and
// their attributes. What is equal already is skipped (see untouched), and what the source does not
// have stays. A file appears under its name when it is whole; what an earlier copy
// of it left behind is compared and gone on with. An item that fails is noted in p
// and the rest goes on. Copy itself fails if ctx is done, the source's top cannot be
// read, or the target is full or read-only; then p has what was done until then.
func Copy(ctx context.Context, from Source, to Target, o Options, p *Progress) error {
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.Batch <= 0 {
		o.Batch = 2048
	}
	c := &copier{from: from, to: to, o: o, p: p, first: map[Identity]string{}, ended: make(chan struct{})}
	defer c.drop()
	c.bufs.New = func() any { return new([2 * blockSize]byte) }
	top, err := from.Stat(ctx, "")
	if err != nil {
		return err
	}

	g, gctx := errgroup.WithContext(ctx)
	work := make(chan node, 4*o.Workers)
	g.Go(func() error {
		defer close(work)
		defer close(c.ended)
		return c.walk(gctx, node{"", top}, work)
	})
	for range o.Workers {
		g.Go(func() error {
			for n := range work {
				later, err := c.file(gctx, n)
				if later && err == nil {
					continue
				}
				if err := c.settle(gctx, n, err); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error { return c.count(gctx, top) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := c.rest(ctx); err != nil {
		return err
	}
	return c.finish(ctx)
}

// walk makes what is no file and hands out the files.
func (c *copier) walk(ctx context.Context, n node, work chan<- node) error {
	c.walked.add(n.it)
	base := path.Base(n.path)
	if strings.HasPrefix(base, partialPrefix) {
		return c.settle(ctx, n, nil) // the remains of another copy
	}
	if n.it.Same != (Identity{}) && n.it.Kind != vfs.KindDir {
		if _, met := c.first[n.it.Same]; met {
			c.links = append(c.links, n)
			return nil
		}
		c.first[n.it.Same] = n.path
	}
	switch n.it.Kind {
	case vfs.KindFile:
		select {
		case work <- n:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case vfs.KindDir:
		if err := c.dir(ctx, n); err != nil {
			return c.settle(ctx, n, err)
		}
		if err := c.settle(ctx, n, nil); err != nil {
			return err
		}
		for ch, err := range c.from.List(ctx, n.path) {
			sub := node{path.Join(n.path, ch.Name), ch.Item}
			if err != nil {
				if err := c.settle(ctx, sub, err); err != nil {
					return err
				}
				continue
			}
			if err := c.walk(ctx, sub, work); err != nil {
				return err
			}
		}
		return nil
	}
	return c.settle(ctx, n, c.other(ctx, n))
}

// settle counts an item that ended with err. It returns an error if the rest is in vain.
func (c *copier) settle(ctx context.Context, n node, err error) error {
	switch {
	case err == nil:
		c.p.done()
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, vfs.ErrNoSpace), errors.Is(err, vfs.ErrQuota), errors.Is(err, vfs.ErrReadOnly):
		if n.path == "" { // it is all that is copied
			return err
		}
		return fmt.Errorf("copy %q: %w", n.path, err)
	}
	c.p.fail(n.path, err)
	return nil
}

// dir makes a directory. Its attributes come last, as making what is in it changes its
// times. A top that is there already keeps its own.
func (c *copier) dir(ctx context.Context, n node) error {
	have, err := c.to.Stat(ctx, n.path)
	if err == nil && have.Kind != vfs.KindDir {
		return vfs.ErrNotDir
	}
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing && !(c.o.DryRun && errors.Is(err, vfs.ErrNotDir)) {
		return err
	}
	if c.o.DryRun {
		if missing {
			c.p.act("make directory " + n.path)
		} else {
			c.p.skip()
		}
		return nil
	}
	if missing {
		if err := c.to.Make(ctx, n.path, n.it); err != nil {
			return err
		}
		c.p.act("make directory " + n.path)
	}
	if !missing {
		c.p.skip()
	}
	if missing || n.path != "" {
		c.dirs = append(c.dirs, n)
	}
	return nil
}

// other makes what is neither file nor directory.
func (c *copier) other(ctx context.Context, n node) error {
	have, err := c.to.Stat(ctx, n.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		if have.Kind == vfs.KindDir {
			return vfs.ErrIsDir
		}
		if have.Kind == n.it.Kind && have.Target == n.it.Target && have.Rdev == n.it.Rdev {
			c.p.skip()
			return c.attributes(ctx, n, have, false)
		}
		if err := c.keep(ctx, n.path); err != nil {
			return err
		}
	}
	c.p.act("make " + n.path)
	if c.o.DryRun {
		return nil
	}
	if err := c.to.Make(ctx, n.path, n.it); err != nil {
		return err
	}
	x, err := c.from.Xattrs(ctx, n.path)
	if err != nil {
		return err
	}
	return c.to.SetAttr(ctx, n.path, n.it, x)
}

// attributes brings those of a node that is there in line. They are set also if they are equal but the
// bytes had to be looked at, so that the next copy sees that this one did.
func (c *copier) attributes(ctx context.Context, n node, have Item, looked bool) error {
	if c.o.DryRun || !looked && have.MTime.Equal(n.it.MTime) && have.Mode == n.it.Mode && have.UID == n.it.UID && have.GID == n.it.GID {
		return nil
	}
	x, err := c.from.Xattrs(ctx, n.path)
	if err != nil {
		return err
	}
	return c.to.SetAttr(ctx, n.path, n.it, x)
}

// file copies one file, or finds that it is there. later says that the file will be settled with its
// batch.
func (c *copier) file(ctx context.Context, n node) (later bool, err error) {
	have, err := c.to.Stat(ctx, n.path)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if there {
		same, looked, err := c.same(ctx, n, have)
		if err != nil {
			return false, err
		}
		if same {
			c.p.skip()
			c.p.bytes(n.it.Size)
			return false, c.attributes(ctx, n, have, looked)
		}
	}
	c.p.act("copy " + n.path)
	if c.o.DryRun {
		c.p.bytes(n.it.Size)
		return false, nil
	}
	r, err := c.from.Open(ctx, n.path)
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }()
	if n.it, err = ripe(ctx, r); err != nil {
		return false, err
	}
	if c.o.Load != nil {
		return c.loadFile(ctx, n, r, there)
	}
	return false, c.carry(ctx, n, r, there)
}

// carry copies the open file r by reading and writing.
func (c *copier) carry(ctx context.Context, n node, r Reader, there bool) error {
	w, err := c.to.Begin(ctx, n.path, n.it)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	if err := c.content(ctx, r, w, n.it.Size); err != nil {
		return err
	}
	x, err := c.unchanged(ctx, n, r)
	if err != nil {
		return err
	}
	if there {
		if err := c.keep(ctx, n.path); err != nil {
			return err
		}
	}
	return w.Commit(ctx, n.it, x)
}

// unchanged returns the extended attributes of r, or ErrChanged if it is not what it was when it
// was begun.
func (c *copier) unchanged(ctx context.Context, n node, r Reader) ([]Xattr, error) {
	x, err := r.Xattrs(ctx)
	if err != nil {
		return nil, err
	}
	now, err := r.Stat(ctx)
	if err != nil {
		return nil, err
	}
	if now.Size != n.it.Size || !now.MTime.Equal(n.it.MTime) || !now.CTime.Equal(n.it.CTime) {
		return nil, ErrChanged
	}
	return x, nil
}

// same reports whether the file at n.path, which is have in the target, needs no copy, and whether the
// bytes were looked at to see that.
func (c *copier) same(ctx context.Context, n node, have Item) (same, looked bool, err error) {
	exact := !c.o.Exact.IsZero()
	switch {
	case have.Kind == vfs.KindDir:
		return false, false, vfs.ErrIsDir
	case have.Kind != vfs.KindFile || have.Size != n.it.Size:
		return false, false, nil
	case exact && have.MTime.Equal(n.it.MTime) && have.CTime.Equal(n.it.CTime) && n.it.CTime.Before(c.o.Exact.Add(-clockStep)):
		return true, false, nil
	case !exact && !have.MTime.Equal(n.it.MTime):
		return false, false, nil
	case !exact && !c.o.Checksum && untouched(n.it, have):
		return true, false, nil
	}
	same, err = c.equal(ctx, n)
	return same, true, err
}

// equal compares the bytes of two files of one size.
func (c *copier) equal(ctx context.Context, n node) (bool, error) {
	a, err := c.from.Open(ctx, n.path)
	if err != nil {
		return false, err
	}
	defer func() { _ = a.Close() }()
	it, err := ripe(ctx, a)
	if err != nil || it.Size != n.it.Size {
		return false, err
	}
	b, err := c.to.Open(ctx, n.path)
	if err != nil {
		return false, err
	}
	defer func() { _ = b.Close() }()
	buf := c.bufs.Get().(*[2 * blockSize]byte)
	defer c.bufs.Put(buf)
	for off := int64(0); off < n.it.Size; off += blockSize {
		k := min(blockSize, n.it.Size-off)
		p, q := buf[:k], buf[blockSize:][:k]
		if err := fill(ctx, a, p, off); err != nil {
			return false, err
		}
		if err := fill(ctx, b, q, off); err != nil {
			return false, err
		}
		if !bytes.Equal(p, q) {
			return false, nil
		}
	}
	return true, nil
}

// keep gives what is at p another name, if it is to be kept.
func (c *copier) keep(ctx context.Context, p string) error {
	if c.o.KeepReplaced == nil {
		return nil
	}
	name := c.to.Name(p)
	for i := range 1000 {
		to := c.o.KeepReplaced(name, i)
		if !c.o.DryRun {
			err := c.to.Rename(ctx, p, to)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			if err != nil {
				return err
			}
		}
		c.p.rename(name, to)
		return nil
	}
	return fs.ErrExist
}

// fill reads all of p, or fails with ErrChanged if the file is shorter.
func fill(ctx context.Context, r interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}, p []byte, off int64,
) error {
	n, err := r.ReadAt(ctx, p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return ErrChanged
	}
	return err
}

// content makes w hold the size bytes of r. What an earlier copy left in w is
// trusted in nothing: it is compared, and written where it differs.
func (c *copier) content(ctx context.Context, r Reader, w Writer, size int64) error {
	buf := c.bufs.Get().(*[2 * blockSize]byte)
	defer c.bufs.Put(buf)
	off := int64(0)
	for have := min(w.Size(), size); off < have; {
		k := min(blockSize, have-off)
		p, q := buf[:k], buf[blockSize:][:k]
		if err := fill(ctx, r, p, off); err != nil {
			return err
		}
		if err := fill(ctx, w, q, off); err != nil {
			return err
		}
		if !bytes.Equal(p, q) {
			if _, err := w.WriteAt(ctx, p, off); err != nil {
				return err
			}
		}
		c.p.bytes(k)
		off += k
	}
	for off < size {
		from, to, err := r.Data(ctx, off)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		from, to = min(max(from, off), size), min(to, size)
		c.p.bytes(from - off)
		if err := c.span(ctx, r, w, from, to, buf[:blockSize]); err != nil {
			return err
		}
		off = to
	}
	c.p.bytes(size - off)
	return nil
}

// span copies the bytes from off to end.
func (c *copier) span(ctx context.Context, r Reader, w Writer, off, end int64, buf []byte) error {
	for off < end {
		n, err := w.CopyFrom(ctx, r, off, min(rangeSize, end-off))
		if errors.Is(err, errCannot) {
			break
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrChanged
		}
		c.p.bytes(n)
		off += n
	}
	if end-off >= 8*blockSize {
		return c.sideBySide(ctx, r, w, off, end)
	}
	for off < end {
		p := buf[:min(int64(len(buf)), end-off)]
		if err := fill(ctx, r, p, off); err != nil {
			return err
		}
		if _, err := w.WriteAt(ctx, p, off); err != nil {
			return err
		}
		c.p.bytes(int64(len(p)))
		off += int64(len(p))
	}
	return nil
}

// sideBySide copies a long run of bytes, several blocks at a time: one is decrypted while another one
// is written.
func (c *copier) sideBySide(ctx context.Context, r Reader, w Writer, off, end int64) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(3)
	for off < end && gctx.Err() == nil {
		at, n := off, min(2*blockSize, end-off) // off+2*blockSize may be beyond what an offset can be
		off += n
		g.Go(func() error {
			buf := c.bufs.Get().(*[2 * blockSize]byte)
			defer c.bufs.Put(buf)
			p := buf[:n]
			if err := fill(gctx, r, p, at); err != nil {
				return err
			}
			if _, err := w.WriteAt(gctx, p, at); err != nil {
				return err
			}
			c.p.bytes(int64(len(p)))
			return nil
		})
	}
	return g.Wait()
}

// finish makes hard links, sets the attributes of directories and syncs.
func (c *copier) finish(ctx context.Context) error {
	for _, n := range c.links {
		if err := c.settle(ctx, n, c.link(ctx, n)); err != nil {
			return err
		}
	}
	slices.Reverse(c.dirs) // children first
	for _, n := range c.dirs {
		if err := c.dirAttributes(ctx, n); err != nil {
			c.p.fail(n.path, err)
		}
	}
	if c.o.DryRun {
		return nil
	}
	return c.to.Sync(ctx)
}

// dirAttributes brings those of a directory in line when all that is in it is there.
func (c *copier) dirAttributes(ctx context.Context, n node) error {
	have, err := c.to.Stat(ctx, n.path)
	if err != nil {
		return err
	}
	return c.attributes(ctx, n, have, !untouched(n.it, have))
}

// link makes a further name of a file that was copied under another.
func (c *copier) link(ctx context.Context, n node) error {
	first := c.first[n.it.Same]
	have, err := c.to.Stat(ctx, n.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.p.bytes(n.it.Size)
	if err == nil {
		if have.Kind == vfs.KindDir {
			return vfs.ErrIsDir
		}
		old, err := c.to.Stat(ctx, first)
		if err == nil && old.Same != (Identity{}) && old.Same == have.Same {
			c.p.skip()
			return nil
		}
		if err := c.keep(ctx, n.path); err != nil {
			return err
		}
	}
	c.p.act("link " + n.path)
	if c.o.DryRun {
		return nil
	}
	return c.to.Link(ctx, first, n.path)
}
