package memfs

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/sheaf-drive/sheaf/vfs"
)

// pageSize is the grain of holes, in bytes.
const pageSize = 4096

// file is a file. fs.mu guards it.
//
// What a page has beyond attr.Size is zero, and no page lies wholly beyond it, so a
// file that grows reads as zeros there.
type file struct {
	inode
	pages map[int64]*[pageSize]byte // by offset / pageSize; what is missing is a hole
	opens int                       // open handles
	held  int64                     // how much of fs.used is this file's
}

// account brings fs.used up to date after the pages, the names or the handles of f changed.
func (f *file) account() {
	var now int64
	if f.attr.Nlink > 0 || f.opens > 0 {
		now = int64(len(f.pages)) * pageSize
	}
	f.fs.used += now - f.held
	f.held = now

	f.attr.Bytes = int64(len(f.pages)) * pageSize
	if last := (f.attr.Size - 1) / pageSize; f.attr.Size > 0 && f.pages[last] != nil {
		f.attr.Bytes -= pageSize - (f.attr.Size - last*pageSize)
	}
}

// SetAttr changes the attributes that are set in c, all or none.
func (f *file) SetAttr(ctx context.Context, c vfs.AttrChange) (vfs.Attr, error) {
	if err := f.fs.begin(ctx); err != nil {
		return vfs.Attr{}, err
	}
	defer f.fs.mu.Unlock()
	if c.Set&vfs.SetSize != 0 {
		if c.Size < 0 {
			return vfs.Attr{}, fmt.Errorf("set size %d: %w", c.Size, fs.ErrInvalid)
		}
		f.resize(c.Size)
		f.touch()
	}
	f.change(c)
	return f.attr, nil
}

// Open opens the file.
func (f *file) Open(ctx context.Context, flag vfs.OpenFlag) (vfs.Handle, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.ro && flag&(vfs.OpenWrite|vfs.OpenTrunc) != 0 {
		return nil, fmt.Errorf("open for writing: %w", vfs.ErrReadOnly)
	}
	return f.open(flag), nil
}

func (f *file) open(flag vfs.OpenFlag) *handle {
	f.opens++
	if flag&vfs.OpenTrunc != 0 {
		f.resize(0)
		f.touch()
	}
	f.account()
	return &handle{file: f, flag: flag}
}

// resize makes the file size >= 0 bytes long.
func (f *file) resize(size int64) {
	if size < f.attr.Size {
		f.clear(size, f.attr.Size-size)
	}
	f.attr.Size = size
	f.account()
}

// clear makes n bytes from off read as zeros. Pages that lie in that range as far
// as the file goes become holes.
func (f *file) clear(off, n int64) {
	end := f.attr.Size
	if n < end-off {
		end = off + n
	}
	for i, p := range f.pages {
		start := i * pageSize
		lo := max(off-start, 0)
		hi := min(end-start, pageSize)
		switch {
		case lo >= hi:
		case lo == 0 && (hi == pageSize || end == f.attr.Size):
			delete(f.pages, i)
		default:
			clear(p[lo:hi])
		}
	}
	f.account()
}

// missing adds the pages that writing n > 0 bytes at off would have to add to the set new.
func (f *file) missing(off, n int64, new map[int64]bool) {
	for i := off / pageSize; i <= (off+n-1)/pageSize; i++ {
		if f.pages[i] == nil {
			new[i] = true
		}
	}
}

// room returns vfs.ErrNoSpace if so many more pages are too many.
func (f *file) room(pages int) error {
	if more := int64(pages) * pageSize; more > 0 && more > f.fs.limit-f.fs.used {
		return vfs.ErrNoSpace
	}
	return nil
}

// write writes p at off. The caller has made sure that it may.
func (f *file) write(p []byte, off int64) {
	f.attr.Size = max(f.attr.Size, off+int64(len(p)))
	for len(p) > 0 {
		i, at := off/pageSize, off%pageSize
		if f.pages[i] == nil {
			f.pages[i] = new([pageSize]byte)
		}
		n := copy(f.pages[i][at:], p)
		p, off = p[n:], off+int64(n)
	}
	f.account()
}

// handle is an open file. file.fs.mu guards it.
type handle struct {
	file   *file
	flag   vfs.OpenFlag
	closed bool
}

// begin takes the lock for something that needs the rights in flag. If it returns
// nil the caller unlocks.
func (h *handle) begin(ctx context.Context, flag vfs.OpenFlag) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h.file.fs.mu.Lock()
	err := h.may(flag)
	if err != nil {
		h.file.fs.mu.Unlock()
	}
	return err
}

// may says why the handle cannot do what needs the rights in flag. The lock is held.
func (h *handle) may(flag vfs.OpenFlag) error {
	switch {
	case h.closed:
		return fs.ErrClosed
	case h.flag&flag != flag:
		return fs.ErrPermission
	case flag&vfs.OpenWrite != 0 && h.file.fs.ro:
		return vfs.ErrReadOnly
	}
	return nil
}

// ReadAt fills p from off on.
func (h *handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := h.begin(ctx, vfs.OpenRead); err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	defer h.file.fs.mu.Unlock()
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, fs.ErrInvalid)
	}
	left := h.file.attr.Size - off
	if left <= 0 && len(p) > 0 {
		return 0, io.EOF
	}
	var err error
	if int64(len(p)) > left && len(p) > 0 {
		p, err = p[:left], io.EOF
	}
	n := 0
	for n < len(p) {
		i, at := off/pageSize, off%pageSize
		part := p[n:min(int64(len(p)), int64(n)+pageSize-at)]
		if page := h.file.pages[i]; page != nil {
			copy(part, page[at:])
		} else {
			clear(part)
		}
		n, off = n+len(part), off+int64(len(part))
	}
	return n, err
}

// WriteAt writes p at off: all of it or nothing.
func (h *handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := h.begin(ctx, vfs.OpenWrite); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	defer h.file.fs.mu.Unlock()
	f, n := h.file, int64(len(p))
	if err := checkRange(off, n); err != nil {
		return 0, fmt.Errorf("write %d bytes at %d: %w", n, off, err)
	}
	if n == 0 {
		return 0, nil
	}
	added := make(map[int64]bool)
	f.missing(off, n, added)
	if err := f.room(len(added)); err != nil {
		return 0, fmt.Errorf("write %d bytes at %d: %w", n, off, err)
	}
	f.write(p, off)
	f.touch()
	return len(p), nil
}

// checkRange checks that n >= 0 bytes at off lie in a file as it may be.
func checkRange(off, n int64) error {
	switch {
	case off < 0 || n < 0:
		return fs.ErrInvalid
	case n > vfs.MaxSize-off:
		return vfs.ErrTooBig
	}
	return nil
}

// Truncate makes the file size bytes long.
func (h *handle) Truncate(ctx context.Context, size int64) error {
	if err := h.begin(ctx, vfs.OpenWrite); err != nil {
		return fmt.Errorf("truncate: %w", err)
	}
	defer h.file.fs.mu.Unlock()
	if size < 0 {
		return fmt.Errorf("truncate to %d: %w", size, fs.ErrInvalid)
	}
	h.file.resize(size)
	h.file.touch()
	return nil
}

// Allocate changes n bytes from off as mode says.
func (h *handle) Allocate(ctx context.Context, mode vfs.AllocMode, off, n int64) error {
	if err := h.begin(ctx, vfs.OpenWrite); err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	defer h.file.fs.mu.Unlock()
	f := h.file
	err := checkRange(off, n)
	if n == 0 || mode > vfs.AllocZeroKeep {
		err = fs.ErrInvalid
	}
	if err != nil {
		return fmt.Errorf("allocate %d bytes at %d: %w", n, off, err)
	}
	switch mode {
	case vfs.AllocPunch, vfs.AllocZero, vfs.AllocZeroKeep:
		f.clear(off, n)
	}
	switch mode {
	case vfs.AllocReserve, vfs.AllocZero:
		f.resize(max(f.attr.Size, off+n))
	}
	f.touch()
	return nil
}

// Seek returns the offset of the next data or hole.
func (h *handle) Seek(ctx context.Context, off int64, whence vfs.Whence) (int64, error) {
	if err := h.begin(ctx, 0); err != nil {
		return 0, fmt.Errorf("seek: %w", err)
	}
	defer h.file.fs.mu.Unlock()
	f := h.file
	if off < 0 || whence > vfs.SeekHole {
		return 0, fmt.Errorf("seek from %d: %w", off, fs.ErrInvalid)
	}
	if off >= f.attr.Size {
		return 0, fmt.Errorf("seek from %d: %w", off, vfs.ErrNoData)
	}
	if whence == vfs.SeekHole {
		i := off / pageSize
		if f.pages[i] == nil {
			return off, nil
		}
		for f.pages[i] != nil {
			i++
		}
		if i > f.attr.Size/pageSize { // i*pageSize may not even be an int64
			return f.attr.Size, nil
		}
		return min(i*pageSize, f.attr.Size), nil
	}
	next := int64(-1)
	for i := range f.pages {
		if i >= off/pageSize && (next < 0 || i < next) {
			next = i
		}
	}
	if next < 0 {
		return 0, fmt.Errorf("seek from %d: %w", off, vfs.ErrNoData)
	}
	return max(off, next*pageSize), nil
}

// CopyTo copies n bytes from off to dst at dstOff. Holes stay holes where whole
// pages of dst are covered.
func (h *handle) CopyTo(ctx context.Context, off int64, dst vfs.Handle, dstOff, n int64) (int64, error) {
	to, ok := dst.(*handle)
	if !ok || to.file.fs != h.file.fs {
		return 0, fmt.Errorf("copy range: %w", vfs.ErrCrossTree)
	}
	if err := h.begin(ctx, vfs.OpenRead); err != nil {
		return 0, fmt.Errorf("copy range: %w", err)
	}
	defer h.file.fs.mu.Unlock()
	if err := to.may(vfs.OpenWrite); err != nil {
		return 0, fmt.Errorf("copy range: %w", err)
	}
	n, err := h.file.copyTo(off, to.file, dstOff, n)
	if err != nil {
		return 0, fmt.Errorf("copy range: %w", err)
	}
	return n, nil
}

func (f *file) copyTo(off int64, to *file, dstOff, n int64) (int64, error) {
	if off < 0 || dstOff < 0 || n < 0 {
		return 0, fs.ErrInvalid
	}
	n = min(n, max(f.attr.Size-off, 0))
	if n == 0 {
		return 0, nil
	}
	if err := checkRange(dstOff, n); err != nil {
		return 0, err
	}
	if f == to && off < dstOff+n && dstOff < off+n {
		return 0, fs.ErrInvalid
	}
	// The data of the source; what is no data is a hole.
	type run struct {
		bytes []byte
		at    int64 // in the destination
	}
	var runs []run
	added := make(map[int64]bool)
	for i, p := range f.pages {
		start := i * pageSize
		lo, hi := max(off-start, 0), min(off+n-start, pageSize)
		if lo < hi {
			r := run{p[lo:hi], dstOff + (start + lo - off)}
			runs = append(runs, r)
			to.missing(r.at, int64(len(r.bytes)), added)
		}
	}
	if err := to.room(len(added)); err != nil {
		return 0, err
	}
	to.clear(dstOff, n)
	to.resize(max(to.attr.Size, dstOff+n))
	for _, r := range runs {
		to.write(r.bytes, r.at)
	}
	to.touch()
	return n, nil
}

// Sync does nothing.
func (h *handle) Sync(ctx context.Context) error {
	if err := h.begin(ctx, 0); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	h.file.fs.mu.Unlock()
	return nil
}

// Close gives the handle back. It works with a ctx that is done, too.
func (h *handle) Close(context.Context) error {
	h.file.fs.mu.Lock()
	defer h.file.fs.mu.Unlock()
	if h.closed {
		return fmt.Errorf("close: %w", fs.ErrClosed)
	}
	h.closed = true
	h.file.opens--
	h.file.account()
	return nil
}
