package live

import (
	"context"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sheaf-drive/sheaf/vfs"
)

// A View is the tree as one door sees it. All Views of an FS show the same tree; what is
// changed through one of them is told to the others. It is a vfs.FS.
type View struct{ f *FS }

var _ vfs.FS = (*View)(nil)

// View returns a new View.
func (f *FS) View() *View { return &View{f: f} }

// Root returns the root directory.
func (v *View) Root(context.Context) (vfs.Dir, error) { return dirNode{plain{v, v.f.root}}, nil }

// Usage reports the room of the tree.
func (v *View) Usage(ctx context.Context) (vfs.Usage, error) {
	files := uint64(max(v.f.files.Load(), 0))
	u := vfs.Usage{Bytes: unknownRoom, BytesFree: unknownRoom}
	if v.f.o.Usage != nil {
		var err error
		if u, err = v.f.o.Usage(ctx); err != nil {
			return u, err
		}
		u.BytesFree = min(u.BytesFree, uint64(v.f.spare(ctx)))
	}
	// Files take no room but their bytes.
	u.Files, u.FilesFree = files+unknownFiles, unknownFiles
	return u, nil
}

// What is told where nobody knows how much room there is.
const (
	unknownRoom  = 1 << 50
	unknownFiles = 1 << 32
)

// Sync returns when all that was done before the call is durable.
func (v *View) Sync(ctx context.Context) error { return v.f.Sync(ctx) }

// A feed is one reader of Changes.
type feed struct {
	v    *View
	ch   chan told
	lost atomic.Bool // changes did not fit

	mu      sync.Mutex
	marks   uint64
	unheard map[*node]uint64 // nodes whose content changed and whose reader does not know yet, with the number of the last mark
}

// told is a change that was marked by then.
type told struct {
	c    vfs.Change
	n    *node // whose content changed; nil: none
	mark uint64
}

const feedLength = 4096

// Changes yields what was changed through other Views.
func (v *View) Changes(ctx context.Context) iter.Seq[vfs.Change] {
	return func(yield func(vfs.Change) bool) {
		fd := &feed{v: v, ch: make(chan told, feedLength), unheard: map[*node]uint64{}}
		v.f.setFeeds(func(all []*feed) []*feed { return append(all, fd) })
		defer v.f.setFeeds(func(all []*feed) []*feed {
			return slices.DeleteFunc(all, func(o *feed) bool { return o == fd })
		})
		for {
			select {
			case <-ctx.Done():
				return
			case t := <-fd.ch:
				if fd.lost.Swap(false) {
					marks := fd.now()
					if !yield(vfs.Change{}) {
						return
					}
					fd.heard(nil, marks)
				}
				if !yield(t.c) {
					return
				}
				if t.n != nil {
					fd.heard(t.n, t.mark)
				}
			}
		}
	}
}

func (fd *feed) now() uint64 {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	return fd.marks
}

// mark notes that the content of n is about to be, or has been, changed behind the reader's back, and returns the number of that.
func (fd *feed) mark(n *node) uint64 {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	fd.marks++
	fd.unheard[n] = fd.marks
	return fd.marks
}

// heard notes that the reader has dealt with the changes of n, or of all nodes, that were marked up to that number.
func (fd *feed) heard(n *node, upTo uint64) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if n == nil {
		maps.DeleteFunc(fd.unheard, func(_ *node, mark uint64) bool { return mark <= upTo })
	} else if mark, ok := fd.unheard[n]; ok && mark <= upTo {
		delete(fd.unheard, n)
	}
}

// Still implements vfs.Still.
func (v *View) Still() bool { return v.f.jr == nil }

// Unheard implements vfs.Unhearing.
func (v *View) Unheard(node vfs.Node) bool {
	n, ok := v.f.own(node)
	p := v.f.feeds.Load()
	if !ok || p == nil {
		return false
	}
	for _, fd := range *p {
		if fd.v != v {
			continue
		}
		fd.mu.Lock()
		_, unheard := fd.unheard[n]
		fd.mu.Unlock()
		if unheard {
			return true
		}
	}
	return false
}

func (f *FS) setFeeds(change func([]*feed) []*feed) {
	f.viewMu.Lock()
	defer f.viewMu.Unlock()
	var all []*feed
	if p := f.feeds.Load(); p != nil {
		all = slices.Clone(*p)
	}
	all = change(all)
	f.feeds.Store(&all)
}

// tell lets the other Views know that n, or the name as in it, changed.
func (v *View) tell(n *node, as string) {
	p := v.f.feeds.Load()
	if p == nil {
		return
	}
	for _, fd := range *p {
		if fd.v == v {
			continue
		}
		t := told{c: vfs.Change{Node: fd.v.wrap(n), Name: as}}
		if as == "" {
			t.n, t.mark = n, fd.mark(n)
		}
		select {
		case fd.ch <- t:
		default:
			// The reader has as many waiting as fit: the next it gets will be "anything".
			fd.lost.Store(true)
		}
	}
}

func (v *View) wrap(n *node) vfs.Node {
	p := plain{v, n}
	switch n.kind {
	case vfs.KindDir:
		return dirNode{p}
	case vfs.KindFile:
		return fileNode{p}
	case vfs.KindLink:
		return linkNode{p}
	default:
		return p
	}
}

// own returns the node behind a vfs.Node of any View of f.
func (f *FS) own(n vfs.Node) (*node, bool) {
	p, ok := plainOf(n)
	if !ok {
		return nil, false
	}
	return p.n, p.v.f == f
}

// plainOf returns the node behind a vfs.Node of any FS.
func plainOf(n vfs.Node) (p plain, ok bool) {
	switch n := n.(type) {
	case dirNode:
		p = n.plain
	case fileNode:
		p = n.plain
	case linkNode:
		p = n.plain
	case plain:
		p = n
	default:
		return plain{}, false
	}
	return p, true
}

// plain is a node as a View shows it. Equal nodes of one View are equal values.
type plain struct {
	v *View
	n *node
}

type (
	dirNode  struct{ plain }
	fileNode struct{ plain }
	linkNode struct{ plain }
)

func (p plain) Attr(context.Context) (vfs.Attr, error) {
	p.v.f.mu.RLock()
	defer p.v.f.mu.RUnlock()
	p.n.mu.RLock()
	defer p.n.mu.RUnlock()
	return p.n.stat(), nil
}

func (p plain) SetAttr(ctx context.Context, c vfs.AttrChange) (vfs.Attr, error) {
	a, err := p.v.f.setAttr(ctx, p.n, c)
	if err == nil {
		p.v.tell(p.n, "")
	}
	return a, err
}

func (p plain) Xattr(_ context.Context, as string) ([]byte, error) {
	if err := vfs.CheckXattrName(as); err != nil {
		return nil, err
	}
	p.n.mu.RLock()
	defer p.n.mu.RUnlock()
	i, have := p.n.findXattr(as)
	if !have {
		return nil, vfs.ErrNoXattr
	}
	return slices.Clone(p.n.xattrs()[i].Value), nil
}

func (p plain) SetXattr(ctx context.Context, as string, value []byte, flag vfs.XattrFlag) error {
	err := p.v.f.setXattr(ctx, p.n, as, value, flag)
	if err == nil {
		p.v.tell(p.n, "")
	}
	return err
}

func (p plain) ListXattr(context.Context) ([]string, error) {
	p.n.mu.RLock()
	defer p.n.mu.RUnlock()
	names := make([]string, 0, len(p.n.xattrs()))
	for _, x := range p.n.xattrs() {
		names = append(names, x.Name)
	}
	return names, nil
}

func (p plain) RemoveXattr(ctx context.Context, as string) error {
	err := p.v.f.removeXattr(ctx, p.n, as)
	if err == nil {
		p.v.tell(p.n, "")
	}
	return err
}

func (p plain) Sync(context.Context) error {
	if p.v.f.jr == nil {
		return nil
	}
	return translate(p.v.f.jr.Sync(p.n.last.Load()))
}

func (d dirNode) Lookup(ctx context.Context, as string) (vfs.Node, error) {
	n, err := d.v.f.lookup(ctx, d.n, as)
	if err != nil {
		return nil, err
	}
	return d.v.wrap(n), nil
}

func (d dirNode) List(ctx context.Context, after string) iter.Seq2[vfs.Entry, error] {
	return d.v.f.list(ctx, d.n, after)
}

// ListAttr implements vfs.AttrLister.
func (d dirNode) ListAttr(ctx context.Context, after string) iter.Seq2[vfs.EntryAttr, error] {
	return d.v.f.listAttr(ctx, d.n, after)
}

func (d dirNode) Create(ctx context.Context, as string, what vfs.New, flag vfs.OpenFlag) (vfs.File, vfs.Handle, error) {
	if what.Kind != vfs.KindFile {
		return nil, nil, fs.ErrInvalid
	}
	n, err := d.v.f.create(ctx, d.n, as, what, &flag)
	if err != nil {
		return nil, nil, err
	}
	d.v.tell(d.n, as)
	return fileNode{plain{d.v, n}}, &handle{v: d.v, n: n, flag: flag}, nil
}

func (d dirNode) Make(ctx context.Context, as string, what vfs.New) (vfs.Node, error) {
	n, err := d.v.f.create(ctx, d.n, as, what, nil)
	if err != nil {
		return nil, err
	}
	d.v.tell(d.n, as)
	return d.v.wrap(n), nil
}

func (d dirNode) Link(ctx context.Context, as string, node vfs.Node) error {
	n, ok := d.v.f.own(node)
	if !ok {
		return vfs.ErrCrossTree
	}
	if err := d.v.f.link(ctx, d.n, as, n); err != nil {
		return err
	}
	d.v.tell(d.n, as)
	d.v.tell(n, "")
	return nil
}

func (d dirNode) Remove(ctx context.Context, as string, dir bool) error {
	err := d.v.f.remove(ctx, d.n, as, dir)
	if err == nil {
		d.v.tell(d.n, as)
	}
	return err
}

func (d dirNode) Rename(ctx context.Context, as string, newDir vfs.Dir, newName string, flag vfs.RenameFlag) error {
	n, ok := d.v.f.own(newDir)
	if !ok {
		return vfs.ErrCrossTree
	}
	if err := d.v.f.rename(ctx, d.n, as, n, newName, flag); err != nil {
		return err
	}
	d.v.tell(d.n, as)
	d.v.tell(n, newName)
	return nil
}

func (l linkNode) Target(context.Context) (string, error) {
	l.n.mu.RLock()
	defer l.n.mu.RUnlock()
	return l.n.target(), nil
}

func (x fileNode) Open(ctx context.Context, flag vfs.OpenFlag) (vfs.Handle, error) {
	f := x.v.f
	if flag&(vfs.OpenWrite|vfs.OpenTrunc) != 0 {
		if err := f.usable(); err != nil {
			return nil, err
		}
	}
	f.open(x.n, flag)
	h := &handle{v: x.v, n: x.n, flag: flag}
	if flag&vfs.OpenTrunc != 0 {
		if _, err := f.setAttr(ctx, x.n, vfs.AttrChange{Set: vfs.SetSize}); err != nil {
			f.release(x.n, flag)
			return nil, err
		}
		x.v.tell(x.n, "")
	}
	return h, nil
}

// open and release count who has a file open: as long as somebody has, what it holds stays though it has no name.
func (f *FS) open(n *node, flag vfs.OpenFlag) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n.mu.Lock()
	n.opened(flag)
	n.mu.Unlock()
	if len(n.names) == 0 {
		f.dirtyMu.Lock()
		f.orphans[n] = struct{}{}
		f.dirtyMu.Unlock()
	}
}

func (f *FS) release(n *node, flag vfs.OpenFlag) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n.mu.Lock()
	n.opens--
	if flag&vfs.OpenWrite != 0 {
		n.writers--
	}
	last := n.opens == 0
	n.mu.Unlock()
	if last && len(n.names) == 0 {
		f.dirtyMu.Lock()
		delete(f.orphans, n)
		f.dirtyMu.Unlock()
	}
}

// opened counts one more who has n open. n.mu is held.
func (n *node) opened(flag vfs.OpenFlag) {
	n.opens++
	if flag&vfs.OpenWrite != 0 {
		n.writers++
	}
}

// handle is an open file.
type handle struct {
	v    *View
	n    *node
	flag vfs.OpenFlag

	mu     sync.Mutex
	calls  int // under way
	closed bool
}

// begin returns why a call that needs the given rights cannot go on. If it returns nil, the caller must
// call h.end. Close does not wait for calls under way: two handles that copy to each other while
// they are closed would wait forever.
func (h *handle) begin(need vfs.OpenFlag) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return fs.ErrClosed
	case h.flag&need != need:
		return fs.ErrPermission
	}
	h.calls++
	return nil
}

func (h *handle) end() {
	h.mu.Lock()
	h.calls--
	last := h.closed && h.calls == 0
	h.mu.Unlock()
	if last {
		h.v.f.release(h.n, h.flag)
	}
}

func (h *handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := h.begin(vfs.OpenRead); err != nil {
		return 0, err
	}
	defer h.end()
	return h.v.f.readAt(ctx, h.n, p, off)
}

func (h *handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := h.begin(vfs.OpenWrite); err != nil {
		return 0, err
	}
	defer h.end()
	n, err := h.v.f.writeAt(ctx, h.n, p, off)
	if n > 0 {
		h.v.tell(h.n, "")
	}
	return n, err
}

func (h *handle) Truncate(ctx context.Context, size int64) error {
	if err := h.begin(vfs.OpenWrite); err != nil {
		return err
	}
	defer h.end()
	_, err := h.v.f.setAttr(ctx, h.n, vfs.AttrChange{Set: vfs.SetSize, Size: size})
	if err == nil {
		h.v.tell(h.n, "")
	}
	return err
}

func (h *handle) Allocate(ctx context.Context, mode vfs.AllocMode, off, n int64) error {
	if err := h.begin(vfs.OpenWrite); err != nil {
		return err
	}
	defer h.end()
	err := h.v.f.allocate(ctx, h.n, mode, off, n)
	if err == nil {
		h.v.tell(h.n, "")
	}
	return err
}

func (h *handle) Seek(ctx context.Context, off int64, whence vfs.Whence) (int64, error) {
	if err := h.begin(0); err != nil {
		return 0, err
	}
	defer h.end()
	return h.v.f.seek(ctx, h.n, off, whence)
}

func (h *handle) CopyTo(ctx context.Context, off int64, dst vfs.Handle, dstOff, n int64) (int64, error) {
	to, ok := dst.(*handle)
	if !ok || to.v.f != h.v.f {
		return 0, vfs.ErrCrossTree
	}
	if err := h.begin(vfs.OpenRead); err != nil {
		return 0, err
	}
	defer h.end()
	if err := to.begin(vfs.OpenWrite); err != nil {
		return 0, err
	}
	defer to.end()
	done, err := h.v.f.copyTo(ctx, h.n, off, to.n, dstOff, n)
	if done > 0 {
		h.v.tell(to.n, "")
	}
	return done, err
}

func (h *handle) Sync(ctx context.Context) error {
	if err := h.begin(0); err != nil {
		return err
	}
	defer h.end()
	return plain{h.v, h.n}.Sync(ctx)
}

func (h *handle) Close(context.Context) error {
	h.mu.Lock()
	was, calls := h.closed, h.calls
	h.closed = true
	h.mu.Unlock()
	if was {
		return fs.ErrClosed
	}
	if calls == 0 {
		h.v.f.release(h.n, h.flag)
	}
	return nil
}
