// Package memfs is a vfs.FS in memory, simple rather than fast: one mutex guards
// all of it. It is the oracle of the tests and a tree for doors to be tested on; it
// is not a cache and stores nothing that outlives the process.
//
// Choices that the contract of vfs leaves open, and that this package makes:
//
//   - Reading changes no time: ATime is what SetAttr or the making of the node set.
//   - The data of a file is kept in pages of 4 KiB. A page that was written is
//     data, also if it is all zeros; all else is a hole. AllocReserve and AllocKeepSize
//     reserve nothing.
//   - If several errors apply, a bad name comes first, then the lack of the node that the
//     name should mean, then what the flags forbid, then what the kinds forbid.
package memfs

import (
	"context"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// Options say how an FS is made. The zero Options make a writable FS without a
// limit that tells the time of the machine.
type Options struct {
	// ReadOnly makes all that would change the tree fail with vfs.ErrReadOnly.
	// SetReadOnly lifts it.
	ReadOnly bool
	// Limit is how many bytes of pages all files may take together; more is
	// vfs.ErrNoSpace. 0 means no limit.
	Limit int64
	// Now tells the time; nil means vfs.Now. It is called with the lock held, so it
	// must not call the FS.
	Now func() time.Time
}

// An FS is a tree in memory. It implements vfs.FS.
type FS struct {
	now   func() time.Time
	limit int64

	mu      sync.Mutex // guards all below, and every node and handle
	ro      bool
	root    *dir
	lastIno uint64
	used    int64  // bytes of the pages of all files that have a name or an open handle
	nodes   uint64 // nodes with a name, and the root
}

// New returns an empty FS. Its root belongs to user and group 0 and has mode 0755.
func New(o Options) *FS {
	f := &FS{now: o.Now, limit: o.Limit, ro: o.ReadOnly}
	if f.now == nil {
		f.now = vfs.Now
	}
	if f.limit <= 0 {
		f.limit = math.MaxInt64
	}
	f.root = &dir{inode: f.newInode(vfs.New{Kind: vfs.KindDir, Mode: 0o755})}
	return f
}

// SetReadOnly makes the FS read-only or writable. Handles that are open for writing
// are bound by it too.
func (f *FS) SetReadOnly(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ro = on
}

// Root returns the root directory.
func (f *FS) Root(ctx context.Context) (vfs.Dir, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return f.root, nil
}

// Usage reports the pages in use against Limit, or against 2^62 bytes if there is
// none, and the nodes in use against 2^32.
func (f *FS) Usage(ctx context.Context) (vfs.Usage, error) {
	if err := ctx.Err(); err != nil {
		return vfs.Usage{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	const files = 1 << 32
	all := uint64(min(f.limit, 1<<62))
	return vfs.Usage{
		Bytes: all, BytesFree: all - min(all, uint64(f.used)),
		Files: files, FilesFree: files - min(files, f.nodes),
	}, nil
}

// Sync does nothing: memory is as durable as it will ever be.
func (f *FS) Sync(ctx context.Context) error { return ctx.Err() }

// Changes yields nothing until ctx is done: nobody changes the tree but through it.
func (f *FS) Changes(ctx context.Context) iter.Seq[vfs.Change] {
	return func(func(vfs.Change) bool) { <-ctx.Done() }
}

// newInode returns the common part of a new node. f.mu is held, or f is not yet shared.
func (f *FS) newInode(what vfs.New) inode {
	f.lastIno++
	f.nodes++
	now := f.now()
	n := inode{fs: f, attr: vfs.Attr{
		Ino: f.lastIno, Kind: what.Kind, Mode: what.Mode & vfs.ModeMask, Nlink: 1,
		UID: what.UID, GID: what.GID,
		ATime: now, MTime: now, CTime: now, BTime: now,
	}}
	if what.Kind == vfs.KindChar || what.Kind == vfs.KindBlock {
		n.attr.Rdev = what.Rdev
	}
	return n
}

// begin takes the lock for a change. If it returns nil the caller unlocks.
func (f *FS) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	if f.ro {
		f.mu.Unlock()
		return vfs.ErrReadOnly
	}
	return nil
}
