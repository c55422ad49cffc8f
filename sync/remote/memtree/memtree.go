// Package memtree is a remote.Tree in memory, for tests, for simulations and as the oracle of the others. What a place may lack can be
// switched off: it is as bad as the places that people have. It does not fail on purpose: a wrapper does.
//
// It starts no goroutine, and asks no clock but the one it is given: the same calls give the same answers.
package memtree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Options say what a Tree lacks. The zero value is a place that can do everything.
type Options struct {
	// Name is what Identity says.
	Name string
	// Now gives a time to what is put without one; nil: the Unix epoch and one second more for each change.
	Now func() time.Time
	// MTime is how exact times are: 0 means 1 ns, and a negative one that all times are those of Now.
	MTime time.Duration
	// Fold and Normal: names that differ in case, or in their Unicode form, only are one. Those that are kept are as they came first.
	Fold, Normal bool
	// Illegal says which names the place cannot have; nil: none.
	Illegal func(name string) bool

	ReadOnly, NoIDs, NoFeed, NoHashes, NoModes, NoSymlinks, NoEmptyDirs, NoDirMove, NoCopy, NoTouch, NoDots bool
	// Log is how many changes the feed remembers; 0: 1<<20. A cursor from before them is ErrCursor.
	Log int
}

// A Tree is a place in memory. Its methods are those of remote.Tree, remote.Copier and remote.Toucher; those whose names begin with Sneak act
// for people who use the place by other means.
type Tree struct {
	o    Options
	fold cases.Caser

	mu    sync.Mutex
	root  *node
	seq   uint64 // of the last change
	ids   uint64
	log   []event
	first uint64 // the seq from which on the log is whole
}

// A node is one thing. Its children have their names as keys, folded as the place folds.
type node struct {
	item remote.Item // Path is the name only
	data []byte
	kids map[string]*node
}

// An event says that the path changed.
type event struct {
	seq  uint64
	path string
}

// New returns an empty Tree.
func New(o Options) *Tree {
	if o.MTime == 0 {
		o.MTime = 1
	}
	if o.Log == 0 {
		o.Log = 1 << 20
	}
	return &Tree{o: o, fold: cases.Fold(), root: &node{item: remote.Item{Kind: remote.Dir}, kids: map[string]*node{}}}
}

// Can is as in remote.Tree.
func (t *Tree) Can() remote.TreeCan {
	can := remote.TreeCan{
		Write: !t.o.ReadOnly, ChangeFeed: !t.o.NoFeed, IDs: !t.o.NoIDs, Ranges: true, ServerMove: true, DirMove: !t.o.NoDirMove,
		ServerCopy: !t.o.NoCopy, Touch: !t.o.NoTouch, EmptyDirs: !t.o.NoEmptyDirs, Symlinks: !t.o.NoSymlinks, Modes: !t.o.NoModes,
		MTime: max(t.o.MTime, 0), Exact: true, Fold: t.o.Fold, Normal: t.o.Normal, NoDots: t.o.NoDots,
	}
	if !t.o.NoHashes {
		can.Hashes = []string{"sha256"}
	}
	return can
}

// Identity is as in remote.Tree.
func (t *Tree) Identity(ctx context.Context) (string, error) {
	return "memory " + t.o.Name, ctx.Err()
}

// key is the name as two names are compared.
func (t *Tree) key(name string) string {
	if t.o.Normal {
		name = norm.NFC.String(name)
	}
	if t.o.Fold {
		name = t.fold.String(name)
		if t.o.Normal {
			name = norm.NFC.String(name)
		}
	}
	return name
}

// parts checks a path and cuts it.
func (t *Tree) parts(path string) ([]string, error) {
	if err := remote.CheckPath(path); err != nil {
		return nil, err
	}
	names := strings.Split(path, "/")
	dotted := func(name string) bool { return t.o.NoDots && strings.HasPrefix(name, ".") }
	if t.o.Illegal != nil && slices.ContainsFunc(names, t.o.Illegal) || slices.ContainsFunc(names, dotted) {
		return nil, fmt.Errorf("path %q: %w", path, remote.ErrIllegal)
	}
	return names, nil
}

// at is where a path leads: the directories from the root to its parent, and what is there.
type at struct {
	dirs []*node // as far as they are there
	path string  // of the parent, as the place has it
	name string  // as the caller has it
	n    *node   // nil: nothing
}

func (a *at) dir() *node { return a.dirs[len(a.dirs)-1] }

// full returns the path of what is there, or what would be, under name.
func (a *at) full(name string) string { return join(a.path, name) }

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// find looks a path up. The parent need not be there: the dirs are fewer than the names then, and n is nil.
func (t *Tree) find(path string) (at, []string, error) {
	names, err := t.parts(path)
	if err != nil {
		return at{}, nil, err
	}
	a := at{dirs: []*node{t.root}, name: names[len(names)-1]}
	for i, name := range names {
		n := a.dir().kids[t.key(name)]
		if i == len(names)-1 {
			a.n = n
			return a, nil, nil
		}
		if n == nil || n.item.Kind != remote.Dir {
			return a, names[i : len(names)-1], nil
		}
		a.dirs, a.path = append(a.dirs, n), join(a.path, n.item.Path)
	}
	panic("memtree: a path without a name")
}

// item returns what is told of a node at path.
func (t *Tree) item(path string, n *node) remote.Item {
	it := n.item
	it.Path = path
	if t.o.NoIDs {
		it.ID = ""
	}
	if n.item.Kind == remote.File && !t.o.NoHashes {
		sum := sha256.Sum256(n.data)
		it.Hashes = map[string]string{"sha256": hex.EncodeToString(sum[:])}
	}
	return it
}

// shown is item of what at has.
func (t *Tree) shown(a at) remote.Item { return t.item(a.full(a.n.item.Path), a.n) }

// now returns the time of a change.
func (t *Tree) now() time.Time {
	if t.o.Now != nil {
		return t.o.Now()
	}
	return time.Unix(int64(t.seq), 0).UTC()
}

// told says that a path changed.
func (t *Tree) told(path string) {
	t.seq++
	if t.o.NoFeed {
		return
	}
	t.log = append(t.log, event{t.seq, path})
	if len(t.log) >= 2*t.o.Log {
		cut := len(t.log) - t.o.Log
		t.first = t.log[cut-1].seq
		t.log = slices.Clone(t.log[cut:])
	}
}

// toldAll says that all at and below a path changed.
func (t *Tree) toldAll(path string, n *node) {
	t.told(path)
	for _, k := range sorted(n) {
		t.toldAll(join(path, k.item.Path), k)
	}
}

// sorted returns the children in the order of their names.
func sorted(n *node) []*node {
	kids := make([]*node, 0, len(n.kids))
	for _, k := range n.kids {
		kids = append(kids, k)
	}
	slices.SortFunc(kids, func(a, b *node) int { return strings.Compare(a.item.Path, b.item.Path) })
	return kids
}

// version returns the next Version.
func (t *Tree) version() remote.Version { return remote.Version("v" + strconv.FormatUint(t.seq+1, 10)) }

// attributes gives a node what of it the place keeps.
func (t *Tree) attributes(n *node, it remote.Item) {
	switch {
	case t.o.MTime < 0 || it.MTime.IsZero():
		n.item.MTime = t.now()
	default:
		n.item.MTime = it.MTime
	}
	if t.o.MTime > 0 {
		n.item.MTime = n.item.MTime.Truncate(t.o.MTime)
	}
	n.item.MTime = n.item.MTime.UTC()
	if !t.o.NoModes {
		n.item.Mode = it.Mode.Perm()
	}
}

// fresh returns a node of a name that is new.
func (t *Tree) fresh(name string, kind remote.ItemKind) *node {
	t.ids++
	n := &node{item: remote.Item{Path: name, Kind: kind, ID: "i" + strconv.FormatUint(t.ids, 10)}}
	if kind == remote.Dir {
		n.kids = map[string]*node{}
	}
	return n
}

// change begins a change.
func (t *Tree) change(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.o.ReadOnly {
		return fmt.Errorf("change a place that can only be read: %w", errors.ErrUnsupported)
	}
	return nil
}

// holds reports whether a thing has the version that is known of it.
func holds(n *node, known remote.Version) bool {
	return n != nil && n.item.Kind != remote.Dir && n.item.Version == known
}

// Put is as in remote.Tree.
func (t *Tree) Put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	done, err := t.put(ctx, it, r, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("put %q: %w", it.Path, err)
	}
	return done, nil
}

func (t *Tree) put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	if err := t.change(ctx); err != nil {
		return remote.Item{}, err
	}
	var data []byte
	switch it.Kind {
	case remote.File:
		var err error
		if data, err = read(ctx, r, it.Size); err != nil {
			return remote.Item{}, err
		}
	case remote.Symlink:
		if t.o.NoSymlinks {
			return remote.Item{}, fmt.Errorf("a symbolic link: %w", errors.ErrUnsupported)
		}
	default:
		return remote.Item{}, fmt.Errorf("neither a file nor a link: %w", fs.ErrInvalid)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a, missing, err := t.find(it.Path)
	if err != nil {
		return remote.Item{}, err
	}
	if known == "" && a.n != nil || known != "" && !holds(a.n, known) {
		return remote.Item{}, remote.ErrChanged
	}
	if err := t.parents(&a, missing); err != nil {
		return remote.Item{}, err
	}
	version := t.version()
	if a.n == nil || a.n.item.Kind != it.Kind { // a kind never changes for one thing
		name := a.name
		if a.n != nil {
			name = a.n.item.Path
		}
		a.n = t.fresh(name, it.Kind)
		a.dir().kids[t.key(name)] = a.n
	}
	a.n.data, a.n.item.Version, a.n.item.Target = data, version, it.Target
	a.n.item.Size = int64(len(data))
	t.attributes(a.n, it)
	t.told(a.full(a.n.item.Path))
	return t.shown(a), nil
}

// read returns what r gives, which has to be size bytes.
func read(ctx context.Context, r io.Reader, size int64) ([]byte, error) {
	if size >= 0 {
		r = blob.Body(ctx, r, size)
	}
	data, err := io.ReadAll(r)
	if err == nil {
		err = ctx.Err()
	}
	return data, err
}

// parents makes the directories that come with what they hold, or says that they are missing.
func (t *Tree) parents(a *at, missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	if !t.o.NoEmptyDirs {
		return fmt.Errorf("its directory: %w", fs.ErrNotExist)
	}
	if n := a.dir().kids[t.key(missing[0])]; n != nil {
		return fmt.Errorf("%q is no directory: %w", a.full(n.item.Path), remote.ErrChanged)
	}
	for _, name := range missing {
		d := t.fresh(name, remote.Dir)
		a.dir().kids[t.key(name)] = d
		a.dirs, a.path = append(a.dirs, d), join(a.path, name)
		t.told(a.path)
	}
	return nil
}

// prune removes the directories at and above a that hold nothing, where such directories do not exist.
func (t *Tree) prune(a *at) {
	if !t.o.NoEmptyDirs {
		return
	}
	path := a.path
	for i := len(a.dirs) - 1; i > 0 && len(a.dirs[i].kids) == 0; i-- {
		delete(a.dirs[i-1].kids, t.key(a.dirs[i].item.Path))
		t.told(path)
		path = path[:max(strings.LastIndexByte(path, '/'), 0)]
	}
}

// Mkdir is as in remote.Tree.
func (t *Tree) Mkdir(ctx context.Context, path string, mode fs.FileMode) (remote.Item, error) {
	it, err := t.mkdir(ctx, path, mode)
	if err != nil {
		return remote.Item{}, fmt.Errorf("make directory %q: %w", path, err)
	}
	return it, nil
}

func (t *Tree) mkdir(ctx context.Context, path string, mode fs.FileMode) (remote.Item, error) {
	if err := t.change(ctx); err != nil {
		return remote.Item{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a, missing, err := t.find(path)
	switch {
	case err != nil:
		return remote.Item{}, err
	case a.n != nil && a.n.item.Kind == remote.Dir:
		return t.shown(a), nil
	case a.n != nil:
		return remote.Item{}, remote.ErrChanged
	case t.o.NoEmptyDirs:
		return remote.Item{Path: path, Kind: remote.Dir}, nil
	}
	if err := t.parents(&a, missing); err != nil {
		return remote.Item{}, err
	}
	a.n = t.fresh(a.name, remote.Dir)
	a.dir().kids[t.key(a.name)] = a.n
	t.attributes(a.n, remote.Item{Mode: mode})
	t.told(a.full(a.name))
	return t.shown(a), nil
}

// Remove is as in remote.Tree.
func (t *Tree) Remove(ctx context.Context, path string, known remote.Version) error {
	err := t.change(ctx)
	if err == nil {
		err = t.remove(path, known)
	}
	if err != nil {
		return fmt.Errorf("remove %q: %w", path, err)
	}
	return nil
}

func (t *Tree) remove(path string, known remote.Version) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, _, err := t.find(path)
	switch {
	case err != nil:
		return err
	case a.n == nil:
		return fs.ErrNotExist
	case a.n.item.Kind == remote.Other:
		return fmt.Errorf("it is neither a file, a link nor a directory: %w", fs.ErrInvalid)
	case a.n.item.Kind == remote.Dir && (known != "" || len(a.n.kids) > 0), a.n.item.Kind != remote.Dir && !holds(a.n, known):
		return remote.ErrChanged
	}
	t.drop(&a)
	return nil
}

// drop takes what is at a away.
func (t *Tree) drop(a *at) {
	delete(a.dir().kids, t.key(a.name))
	t.toldAll(a.full(a.n.item.Path), a.n)
	t.prune(a)
}

// Move is as in remote.Tree.
func (t *Tree) Move(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	err := t.change(ctx)
	var it remote.Item
	if err == nil {
		it, err = t.move(from, to, known)
	}
	if err != nil {
		return remote.Item{}, fmt.Errorf("move %q to %q: %w", from, to, err)
	}
	return it, nil
}

func (t *Tree) move(from, to string, known remote.Version) (remote.Item, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, _, err := t.find(from)
	if err != nil {
		return remote.Item{}, err
	}
	b, missing, err := t.find(to)
	switch {
	case err != nil:
		return remote.Item{}, err
	case a.n == nil:
		return remote.Item{}, fs.ErrNotExist
	case a.n.item.Kind == remote.Dir && t.o.NoDirMove:
		return remote.Item{}, fmt.Errorf("a directory: %w", errors.ErrUnsupported)
	case a.n.item.Kind == remote.Other:
		return remote.Item{}, fmt.Errorf("it is neither a file, a link nor a directory: %w", fs.ErrInvalid)
	case a.n.item.Kind == remote.Dir && known != "", a.n.item.Kind != remote.Dir && !holds(a.n, known):
		return remote.Item{}, remote.ErrChanged
	case slices.Contains(b.dirs, a.n):
		return remote.Item{}, fmt.Errorf("below itself: %w", fs.ErrInvalid)
	case b.n != nil && (b.n != a.n || b.n.item.Path == b.name):
		return remote.Item{}, remote.ErrChanged
	}
	if err := t.parents(&b, missing); err != nil {
		return remote.Item{}, err
	}
	delete(a.dir().kids, t.key(a.name))
	t.toldAll(a.full(a.n.item.Path), a.n)
	a.n.item.Path = b.name
	b.n = a.n
	b.dir().kids[t.key(b.name)] = b.n
	t.toldAll(b.full(b.name), b.n)
	t.prune(&a)
	return t.shown(b), nil
}

// Copy is as in remote.Copier.
func (t *Tree) Copy(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	it, err := t.copy(ctx, from, to, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("copy %q to %q: %w", from, to, err)
	}
	return it, nil
}

func (t *Tree) copy(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	if err := t.change(ctx); err != nil {
		return remote.Item{}, err
	}
	if t.o.NoCopy {
		return remote.Item{}, errors.ErrUnsupported
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a, _, err := t.find(from)
	if err != nil {
		return remote.Item{}, err
	}
	b, missing, err := t.find(to)
	switch {
	case err != nil:
		return remote.Item{}, err
	case a.n == nil:
		return remote.Item{}, fs.ErrNotExist
	case a.n.item.Kind != remote.File:
		return remote.Item{}, fmt.Errorf("it is no file: %w", fs.ErrInvalid)
	case !holds(a.n, known), b.n != nil:
		return remote.Item{}, remote.ErrChanged
	}
	if err := t.parents(&b, missing); err != nil {
		return remote.Item{}, err
	}
	version := t.version()
	b.n = t.fresh(b.name, remote.File)
	b.n.data, b.n.item.Size, b.n.item.Version = a.n.data, a.n.item.Size, version
	t.attributes(b.n, a.n.item)
	b.dir().kids[t.key(b.name)] = b.n
	t.told(b.full(b.name))
	return t.shown(b), nil
}

// Touch is as in remote.Toucher.
func (t *Tree) Touch(ctx context.Context, it remote.Item, known remote.Version) (remote.Item, error) {
	done, err := t.touch(ctx, it, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("touch %q: %w", it.Path, err)
	}
	return done, nil
}

func (t *Tree) touch(ctx context.Context, it remote.Item, known remote.Version) (remote.Item, error) {
	if err := t.change(ctx); err != nil {
		return remote.Item{}, err
	}
	if t.o.NoTouch {
		return remote.Item{}, errors.ErrUnsupported
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a, _, err := t.find(it.Path)
	switch {
	case err != nil:
		return remote.Item{}, err
	case a.n == nil:
		return remote.Item{}, fs.ErrNotExist
	case a.n.item.Kind == remote.Dir && known != "", a.n.item.Kind != remote.Dir && !holds(a.n, known):
		return remote.Item{}, remote.ErrChanged
	}
	if it.Mode == 0 {
		it.Mode = a.n.item.Mode
	}
	if it.MTime.IsZero() {
		it.MTime = a.n.item.MTime
	}
	if a.n.item.Kind != remote.Dir {
		a.n.item.Version = t.version()
	}
	t.attributes(a.n, it)
	t.told(a.full(a.n.item.Path))
	return t.shown(a), nil
}
