// Package treefs turns a place of plain files into a tree for doors, and a tree into a place: FS mounts and serves any remote.Tree, and Tree makes
// any vfs.FS, such as a drive, one side of a rule. It is neither a cache of contents nor a synchronisation.
package treefs

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/vfs"
)

// Options say how a Tree is shown. The zero value works.
type Options struct {
	// Spool is the folder for files that are being written; "": that of the system. Nobody else may read it: what is in it is not encrypted.
	Spool string
	// Age is how long a listing is taken for true; 0: ten seconds. A Tree that watches is not waited for.
	Age time.Duration
	// Most is how many entries of listings are kept, in some 300 bytes each; 0: 200,000.
	Most int
	// ReadOnly refuses all changes.
	ReadOnly bool
	UID, GID uint32 // of all that is there
	Log      *slog.Logger
}

// FS is a Tree as a vfs.FS. A file that is opened for writing is copied to the spool, unless it is emptied, and put when the last one who writes closes it, or
// syncs: so there is one upload for each time that somebody writes. If the place has another version by then, what was written
// goes into a file beside it, "name (conflict N)", and nothing is lost. What cannot be put stays in the spool, and is tried again by Sync.
//
// Of the contract of vfs a place of files cannot give all: there are no hard links, no extended attributes, no owners and no devices; a file that was removed cannot be read
// on by who has it open; no holes; and a rename that replaces takes away what is in the way in a step of its own.
type FS struct {
	t   remote.Tree
	can remote.TreeCan
	o   Options

	renaming sync.Mutex // held by one rename at a time: two could close a circle

	mu     sync.Mutex
	root   *node
	nodes  map[uint64]weak.Pointer[node] // by number, so that one thing is one node
	kept   int                           // entries of listings
	listed []*node                       // whose listings are kept, the oldest first
	dirty  map[*node]bool                // that hold what is not put
	born   map[string]uint64             // the numbers, by ID, of what was made here and had no ID then
}

// New returns a FS of the Tree, which stays the caller's.
func New(t remote.Tree, o Options) *FS {
	if o.Age == 0 {
		o.Age = 10 * time.Second
	}
	if o.Most == 0 {
		o.Most = 200_000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Spool == "" {
		o.Spool = os.TempDir()
	}
	f := &FS{t: t, can: t.Can(), o: o, nodes: map[uint64]weak.Pointer[node]{}, dirty: map[*node]bool{}}
	if !f.can.Write {
		f.o.ReadOnly = true
	}
	f.root = f.newNode(remote.Item{Kind: remote.Dir})
	f.root.ino = 1
	return f
}

// Root implements vfs.FS.
func (f *FS) Root(ctx context.Context) (vfs.Dir, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &f.root.dir, nil
}

// Usage implements vfs.FS: a place does not say how much room it has.
func (f *FS) Usage(ctx context.Context) (vfs.Usage, error) {
	const much = 1 << 50
	return vfs.Usage{Bytes: much, BytesFree: much, Files: much, FilesFree: much}, ctx.Err()
}

// Sync implements vfs.FS: all that is in the spool is put.
func (f *FS) Sync(ctx context.Context) error {
	f.mu.Lock()
	all := make([]*node, 0, len(f.dirty))
	for n := range f.dirty {
		all = append(all, n)
	}
	f.mu.Unlock()
	var errs []error
	for _, n := range all {
		errs = append(errs, n.flush(ctx))
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// Pending returns how many files are in the spool.
func (f *FS) Pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.dirty)
}

// Changes implements vfs.FS. Of a Tree that watches it is told what changes, of another one every Age that anything may have.
func (f *FS) Changes(ctx context.Context) iter.Seq[vfs.Change] {
	return func(yield func(vfs.Change) bool) {
		if w, ok := f.t.(remote.Watcher); ok && f.can.Watch {
			for path, err := range w.Watch(ctx) {
				if err != nil {
					break
				}
				for _, c := range f.stale(path) {
					if !yield(c) {
						return
					}
				}
			}
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(f.o.Age):
				if !yield(vfs.Change{}) {
					return
				}
			}
		}
	}
}

// stale forgets what is known of a path, and returns what doors are to forget.
func (f *FS) stale(path string) []vfs.Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	if path == "" {
		for len(f.listed) > 0 {
			f.unlist(f.listed[0])
		}
		for _, w := range f.nodes {
			if n := w.Value(); n != nil {
				n.seen = time.Time{}
			}
		}
		return []vfs.Change{{}}
	}
	n := f.root
	for {
		name, rest, more := strings.Cut(path, "/")
		child := n.kids[name].Value()
		if !more || child == nil {
			f.unlist(n)
			changes := []vfs.Change{{Node: n.as(), Name: name}, {Node: n.as()}}
			if child != nil {
				child.seen = time.Time{}
				changes = append(changes, vfs.Change{Node: child.as()})
			}
			return changes
		}
		n, path = child, rest
	}
}

// A node is one thing of the Tree. It is a vfs.Node by the one of its faces that is of its kind.
type node struct {
	f    *FS
	ino  uint64
	kind remote.ItemKind
	dir  dirNode // the faces: each has a pointer back
	file fileNode
	link linkNode
	odd  oddNode

	// Guarded by FS.mu.
	parent *node
	name   string
	gone   bool // it has no name any more
	item   remote.Item
	seen   time.Time // when item was true; zero: look again
	fresh  bool      // it was made here, and is not put yet
	list   []remote.Item
	listAt time.Time // zero: no list
	turn   uint64    // how often the listing was forgotten
	kids   map[string]weak.Pointer[node]
	held   map[string]*node // kids that are not put yet

	making sync.Mutex // held while something is made in the directory
	work   spool
}

func (f *FS) newNode(it remote.Item) *node {
	ino, ok := f.born[it.ID]
	if !ok || it.ID == "" {
		ino = numberOf(it)
	}
	n := &node{f: f, ino: ino, kind: it.Kind, item: it, seen: time.Now()}
	n.dir.node, n.file.node, n.link.node, n.odd.node = n, n, n, n
	return n
}

// as returns the face.
func (n *node) as() vfs.Node {
	switch n.kind {
	case remote.Dir:
		return &n.dir
	case remote.File:
		return &n.file
	case remote.Symlink:
		return &n.link
	case remote.Other:
	}
	return &n.odd
}

// path returns where the node is. FS.mu is held.
func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	if above := n.parent.path(); above != "" {
		return above + "/" + n.name
	}
	return n.name
}

// where is path, or an error if the node has no name any more.
func (n *node) where() (string, error) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if n.gone {
		return "", fs.ErrNotExist
	}
	return n.path(), nil
}

// numberOf returns the number that a thing has, also after a restart: that of its ID, or of its path.
func numberOf(it remote.Item) uint64 {
	h := fnv.New64a()
	if it.ID != "" {
		_, _ = h.Write([]byte("id " + it.ID))
	} else {
		_, _ = h.Write([]byte("path " + it.Path))
	}
	if ino := h.Sum64(); ino > 1 {
		return ino
	}
	return 2
}

// child returns the node of a thing in the directory n, as the place told it after the time at. FS.mu is held.
func (n *node) child(name string, it remote.Item, at time.Time) *node {
	old := n.kids[name].Value()
	if old != nil && !old.gone && (old.seen.After(at) || n.f.dirty[old]) {
		return old // it was changed here since; what is not put yet finds out when it is, and goes beside what is there then
	}
	if old != nil && !old.gone && old.kind == it.Kind && (old.item.ID == it.ID || old.fresh) {
		if !old.fresh {
			old.item = it
		}
		old.seen = at
		return old
	}
	if old != nil {
		old.gone = true
	}
	kid := n.f.newNode(it)
	kid.parent, kid.name, kid.seen = n, name, at
	for n.f.nodes[kid.ino].Value() != nil { // another thing has it: a move that was not seen, or chance
		kid.ino++
	}
	n.f.enter(n, kid)
	return kid
}

// enter puts a node into a directory. f.mu is held.
func (f *FS) enter(dir, kid *node) {
	if dir.kids == nil {
		dir.kids = map[string]weak.Pointer[node]{}
	}
	if len(f.nodes) > 4096 && len(f.nodes)%4096 == 0 {
		for ino, w := range f.nodes {
			if w.Value() == nil {
				delete(f.nodes, ino)
			}
		}
	}
	dir.kids[kid.name] = weak.Make(kid)
	f.nodes[kid.ino] = weak.Make(kid)
}

// unlist forgets a listing, also one that is on its way. f.mu is held.
func (f *FS) unlist(n *node) {
	n.turn++
	if n.listAt.IsZero() {
		return
	}
	f.kept -= len(n.list)
	n.list, n.listAt = nil, time.Time{}
	for name, w := range n.kids {
		if w.Value() == nil {
			delete(n.kids, name)
		}
	}
	for i, one := range f.listed {
		if one == n {
			f.listed = append(f.listed[:i], f.listed[i+1:]...)
			break
		}
	}
}

// failed says what an error of a Tree means in the words of vfs. The error of the system that may be in it is not handed on: it speaks of a file that
// who called does not know.
func failed(err error) error {
	for _, is := range []struct{ place, vfs error }{
		{remote.ErrIllegal, vfs.ErrName},
		{remote.ErrChanged, vfs.ErrStale},
		{blob.ErrNoSpace, vfs.ErrNoSpace},
		{blob.ErrUnauthorized, fs.ErrPermission},
		{fs.ErrNotExist, fs.ErrNotExist},
		{fs.ErrExist, fs.ErrExist},
		{fs.ErrPermission, fs.ErrPermission},
		{fs.ErrInvalid, fs.ErrInvalid},
		{errors.ErrUnsupported, errors.ErrUnsupported},
	} {
		if errors.Is(err, is.place) {
			return fmt.Errorf("%w: %v", is.vfs, err) //nolint:errorlint // see above
		}
	}
	return err
}

var _ vfs.FS = (*FS)(nil)
