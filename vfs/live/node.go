package live

import (
	"cmp"
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// A node is one thing of the tree. While anything of it is not committed, or one of its
// names is, it is held from the dirty set; otherwise only by who uses it, so that a tree of any
// size may be walked.
type node struct {
	id    manifest.NodeID // of the thing: the same for all names of a file with hard links
	rdev  uint32
	kind  vfs.Kind
	dirty bool // bytes were changed since the last commit began; guarded as those after mu

	marked atomic.Uint64 // generation in which it is in the dirty set
	bound  atomic.Uint64 // generation in which the journal knows where it is
	last   atomic.Uint64 // LSN of its last record

	// Guarded by FS.mu.
	names []*name
	dir   *dirState // of a directory

	mu      sync.RWMutex // guards what follows; FS.mu is held too by who changes it, extents apart
	attr    attributes
	edit    causal.Dot
	rare    *rare // nil: all of it is empty
	file    content
	opens   int32 // handles
	writers int32 // of these, who may write
}

type attributes struct {
	moments
	mode     vfs.Mode
	uid, gid uint32
	changed  bool         // mode, owner or xattr, since the last commit began
	stamp    causal.Stamp // of the last change of these
}

// rare is what few things have: it takes no memory of the others.
type rare struct {
	past   []causal.Dot
	xattr  []manifest.Xattr
	target string // of a symbolic link
}

// content is the bytes of a file: what was committed, and over it what was not.
type content struct {
	size    int64
	base    chunk.Ref
	bytes   int64    // of base, without its holes
	extents *extents // of base, once they were needed
	later   *later   // nil: the file is base, and nothing else
}

// later is what was changed of a file since it was committed.
type later struct {
	length int64 // of base
	limit  int64 // base counts up to here; behind it are zeros
	low    int64 // the smallest size since the running commit began
	over   pieces
}

// change returns what was changed of the file, to be changed further. It comes before each change of the size.
func (c *content) change() *later {
	if c.later == nil {
		c.later = &later{length: c.size, limit: noLimit, low: noLimit}
	}
	return c.later
}

// length returns that of base.
func (c *content) length() int64 {
	if c.later == nil {
		return c.size
	}
	return c.later.length
}

// limit returns up to where base counts.
func (c *content) limit() int64 {
	if c.later == nil {
		return noLimit
	}
	return c.later.limit
}

// over returns what lies over base, to be read only.
func (c *content) over() *pieces {
	if c.later == nil {
		return noPieces
	}
	return &c.later.over
}

var noPieces = &pieces{}

// A name is one entry of a directory.
type name struct {
	parent *node
	bears  *node // what has the name
	name   string
	id     manifest.NodeID // of the entry
	place  causal.Stamp
	from   manifest.NodeID
	stored *manifest.Stored
	moved  bool // since the last commit began

	conflict, held bool // as manifest.Entry has them
	linked         bool // it is one of several names, or was
	apart          bool // it was moved away from its conflict: its new id is not that of a link
}

// dirState is what a directory has besides attributes.
type dirState struct {
	ref   chunk.Ref // as last committed
	below manifest.Below
	list  *listing // of ref; nil: not loaded
	// over is what differs from list: nil says removed. An entry leaves it when
	// it was committed.
	over map[string]*name
	dead bool

	overMu     sync.Mutex // guards overSorted against readers that sort
	overSorted []string   // the names in over; nil: to be sorted again
}

// listing is a directory as it was committed, in memory. It never changes.
type listing struct {
	ref     chunk.Ref
	entries []manifest.Entry
}

var emptyListing = &listing{}

func (l *listing) find(as string) (int, bool) {
	return slices.BinarySearchFunc(l.entries, as, func(e manifest.Entry, as string) int { return cmp.Compare(e.Name, as) })
}

// identity returns which thing an entry is a name of. A conflict sibling shares its ID with the value that is shown in
// their place, and is yet a thing of its own.
func identity(e *manifest.Entry) manifest.NodeID {
	switch {
	case e.Link != (manifest.NodeID{}):
		return e.Link // where its names have several values, loadLink tells these apart
	case e.Conflict && e.Stored != nil && e.Kind != vfs.KindDir:
		return mixed(e.ID, e.Edit, 0xa5)
	}
	return e.ID
}

// mixed returns an ID that follows from another and an Edit.
func mixed(id manifest.NodeID, edit causal.Dot, with byte) manifest.NodeID {
	var w [16]byte
	binary.BigEndian.PutUint64(w[:], uint64(edit.Device))
	binary.BigEndian.PutUint64(w[8:], edit.Counter)
	for i := range id {
		id[i] ^= w[i] ^ with
	}
	return id
}

// inode returns the inode number of a thing: never 0, and 1 for the root only.
func inode(id manifest.NodeID) uint64 {
	if id == manifest.RootID {
		return 1
	}
	return max(binary.BigEndian.Uint64(id[:])^binary.BigEndian.Uint64(id[8:]), 2)
}

func newNode(id manifest.NodeID, kind vfs.Kind) *node {
	n := &node{id: id, kind: kind}
	if kind == vfs.KindDir {
		n.dir = &dirState{}
	}
	return n
}

func (f *FS) newRoot() *node {
	n := newNode(manifest.RootID, vfs.KindDir)
	n.dir.ref, n.dir.below = f.o.Base.Root, f.o.Base.Below
	if top := f.o.Base.Top; top.Kind == vfs.KindDir {
		n.fill(&top)
		return n
	}
	now := f.o.Now()
	n.attr = attributes{mode: 0o755, uid: f.o.Owner[0], gid: f.o.Owner[1], moments: allAt(now)}
	return n
}

// fill takes what e says of the thing.
func (n *node) fill(e *manifest.Entry) {
	n.rdev = e.Rdev
	n.attr = attributes{mode: e.Mode, uid: e.UID, gid: e.GID, stamp: e.Attr}
	n.attr.setAll(e.ATime, e.MTime, e.CTime, e.BTime)
	if e.ATime.IsZero() {
		n.attr.set(atime, e.MTime)
	}
	n.edit = e.Edit
	n.setRare(rare{past: e.Past, xattr: e.Xattr, target: e.Target})
	switch n.kind {
	case vfs.KindDir:
		if n.id != manifest.RootID {
			n.dir.ref, n.dir.below = e.Node, e.Below
		}
	case vfs.KindFile:
		n.file.size, n.file.base, n.file.bytes = e.Size, e.Node, e.Bytes
		if l := n.file.later; l != nil {
			l.length = e.Size
		}
	}
}

func nameOf(parent, bears *node, e *manifest.Entry) *name {
	return &name{
		parent: parent, bears: bears,
		name: e.Name, id: e.ID, place: e.Place, from: e.From, stored: e.Stored, conflict: e.Conflict, held: e.Held,
		linked: e.Link != (manifest.NodeID{}),
	}
}

// entry returns what the manifest is to say of n under nm. Content and dots are filled in by
// the commit. FS.mu is held for writing, so that nothing changes meanwhile.
func (n *node) entry(nm *name) manifest.Entry {
	e := manifest.Entry{
		Kind: n.kind, Mode: n.attr.mode, UID: n.attr.uid, GID: n.attr.gid, Rdev: n.rdev,
		ATime: n.attr.at(atime), MTime: n.attr.at(mtime), CTime: n.attr.at(ctime), BTime: n.attr.at(btime),
		Edit: n.edit, Attr: n.attr.stamp,
	}
	if r := n.rare; r != nil {
		e.Target, e.Xattr, e.Past = r.target, r.xattr, r.past
	}
	if e.ATime.Equal(e.MTime) {
		e.ATime = time.Time{}
	}
	if nm != nil {
		e.Name, e.ID, e.Place, e.From, e.Stored = nm.name, nm.id, nm.place, nm.from, nm.stored
		e.Conflict, e.Held = nm.conflict, nm.held
		if len(n.names) > 1 || nm.linked && nm.id != n.id && !nm.conflict && !nm.apart {
			e.Link = n.id
		}
	}
	switch n.kind {
	case vfs.KindFile:
		e.Size, e.Node, e.Bytes = n.file.size, n.file.base, n.file.bytes
	case vfs.KindDir:
		e.Node, e.Below = n.dir.ref, n.dir.below
	}
	return e
}

// intern returns the node of the entry e of dir, making it if nobody has it.
// FS.mu is held, for reading at least.
func (f *FS) intern(dir *node, e *manifest.Entry) *node {
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	n, id := f.known(dir, e)
	if n != nil {
		return n
	}
	n = newNode(id, e.Kind)
	n.fill(e)
	n.names = []*name{nameOf(dir, n, e)}
	f.enter(n)
	return n
}

// has reports whether n has that name.
func (n *node) has(dir *node, as string) bool {
	return slices.ContainsFunc(n.names, func(nm *name) bool { return nm.parent == dir && nm.name == as })
}

// enter puts n into the table. f.tableMu is held.
func (f *FS) enter(n *node) {
	w := weak.Make(n)
	f.table.Set(n.id, w)
	// What waits for the end of a node must not hold the tree: that holds the node, and neither would ever end.
	tree := f.self
	runtime.AddCleanup(n, func(id manifest.NodeID) {
		f := tree.Value()
		if f == nil {
			return
		}
		f.tableMu.Lock()
		defer f.tableMu.Unlock()
		if f.table.Get(id) == w {
			f.table.Delete(id)
		}
	}, n.id)
}

func (f *FS) adopt(n *node) {
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	f.enter(n)
}

// nlink returns how many names n has. f.mu is held.
func (n *node) nlink() uint32 {
	if n.kind == vfs.KindDir {
		if n.dir.dead {
			return 0
		}
		return 1
	}
	return uint32(len(n.names))
}

// stat returns the attributes of n. f.mu and n.mu are held, for reading at least.
func (n *node) stat() vfs.Attr {
	a := vfs.Attr{
		Ino: inode(n.id), Kind: n.kind, Mode: n.attr.mode, Nlink: n.nlink(), UID: n.attr.uid, GID: n.attr.gid, Rdev: n.rdev,
		ATime: n.attr.at(atime), MTime: n.attr.at(mtime), CTime: n.attr.at(ctime), BTime: n.attr.at(btime),
	}
	switch n.kind {
	case vfs.KindFile:
		a.Size = n.file.size
		a.Bytes = n.file.dataBytes()
	case vfs.KindLink:
		a.Size = int64(len(n.target()))
	}
	return a
}

// dataBytes returns the size less the holes. Where a part of what was committed was
// written over, its holes are not told apart.
func (c *content) dataBytes() int64 {
	if c.over().empty() && c.limit() == noLimit {
		return c.bytes
	}
	var total, at int64
	committed := c.committed()
	if c.base.IsZero() {
		committed = 0
	}
	gap := func(to int64) {
		if to = min(to, committed); to > at {
			total += to - at
		}
	}
	c.over().each(0, c.size, func(p piece) bool {
		gap(p.off)
		if p.from != isHole {
			total += p.n
		}
		at = p.end()
		return true
	})
	gap(c.size)
	return total
}

// committed returns up to where base counts.
func (c *content) committed() int64 { return min(c.limit(), c.length(), c.size) }

// recent keeps the directories that were listed last in memory, up to a number of entries.
// FS.mu, held for writing, guards it.
type recent struct {
	order []*node // oldest first
	sum   int
	limit int
}

const recentEntries = 1 << 17

func (r *recent) add(n *node) {
	r.order = append(r.order, n)
	r.sum += len(n.dir.list.entries) + 8
	for r.sum > r.limit && len(r.order) > 1 {
		old := r.order[0]
		r.order[0] = nil
		r.order = r.order[1:]
		if old.dir.list != nil {
			r.sum -= len(old.dir.list.entries) + 8
			old.dir.list = nil
		}
	}
}

// drop forgets the listing of n, which is out of date.
func (r *recent) drop(n *node) {
	if n.dir.list == nil {
		return
	}
	r.sum -= len(n.dir.list.entries) + 8
	n.dir.list = nil
	if i := slices.Index(r.order, n); i >= 0 {
		r.order = slices.Delete(r.order, i, i+1)
	}
}

// clear forgets all listings. Each is read again when it is asked for.
func (r *recent) clear() {
	for _, n := range r.order {
		n.dir.list = nil
	}
	r.order, r.sum = nil, 0
}

func touched(n *node, lsn journal.LSN) { n.last.Store(lsn) }
