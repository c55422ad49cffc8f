package webdav

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// scratchIdle is how long such a folder stays when nothing is in it.
const scratchIdle = 5 * time.Second

// Options say how a Tree is opened. The zero Options are good for tests.
type Options struct {
	// Name tells this process' uploads from those of other devices in the same tree: letters and digits. What an earlier
	// process of that name left half done is removed. "" means "local".
	Name string
	// Locks keeps the locks over a restart; nil: they end with the Tree.
	Locks LockStore
	// UID and GID own what is made.
	UID, GID uint32
	// Log takes what there is to say, without names of files; nil discards it.
	Log *slog.Logger
}

// A Tree is a vfs.FS with what all its doors share. It is safe for concurrent use. Of one vfs.FS there should be one Tree at a
// time: two do not see each other's locks.
type Tree struct {
	fsys   vfs.FS
	o      Options
	locks  *lockTable
	litter *litter

	// step is held (a value is in it) for the last, short step of a change: looking once more whether it is allowed, and the
	// one or two calls that do it. It is a channel, so that one does not wait longer than his request lives.
	step chan struct{}

	mu      sync.Mutex // guards the rest
	scratch vfs.Dir    // nil: not there
	users   int        // of scratch
	idle    *time.Timer
	closed  bool
}

// Open returns a Tree over fsys, which stays the caller's. Errors are those of the LockStore and of vfs.
func Open(ctx context.Context, fsys vfs.FS, o Options) (*Tree, error) {
	if o.Name == "" {
		o.Name = "local"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tree{fsys: fsys, o: o, step: make(chan struct{}, 1), litter: newLitter()}
	var err error
	if t.locks, err = openLocks(ctx, o.Locks); err != nil {
		return nil, err
	}
	if err := vfs.RemoveAll(ctx, fsys, t.scratchName()); err != nil && !errors.Is(err, vfs.ErrReadOnly) {
		return nil, fmt.Errorf("clear what an upload left: %w", err)
	}
	return t, nil
}

func (t *Tree) scratchName() string { return vfs.ScratchPrefix + t.o.Name }

// Close removes the folder of uploads. Requests that are still under way may fail. Further calls do nothing.
func (t *Tree) Close(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle != nil {
		t.idle.Stop()
	}
	t.closed = true
	if t.scratch == nil {
		return nil
	}
	t.scratch = nil
	if err := vfs.RemoveAll(ctx, t.fsys, t.scratchName()); err != nil {
		return fmt.Errorf("remove folder of uploads: %w", err)
	}
	return nil
}

// workshop returns the folder in which an upload for s grows, of the same FS, and a name in it that is free. Call done when nothing is left under that name.
func (t *Tree) workshop(ctx context.Context, s spot) (d vfs.Dir, name string, done func(), err error) {
	name = rand.Text()
	if s.litter {
		return t.litter.top, name, func() {}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, "", nil, fmt.Errorf("tree: %w", fs.ErrClosed)
	}
	if t.scratch == nil {
		d, err := vfs.MkdirAll(ctx, t.fsys, t.scratchName(), vfs.New{Mode: 0o700, UID: t.o.UID, GID: t.o.GID})
		if err != nil {
			return nil, "", nil, err
		}
		t.scratch = d
	}
	if t.idle != nil {
		t.idle.Stop()
		t.idle = nil
	}
	t.users++
	return t.scratch, name, sync.OnceFunc(t.left), nil
}

// left counts one user of the scratch folder less.
func (t *Tree) left() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.users--
	if t.users > 0 || t.closed {
		return
	}
	t.idle = time.AfterFunc(scratchIdle, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.users > 0 || t.closed || t.scratch == nil {
			return
		}
		ctx := context.Background()
		root, err := t.fsys.Root(ctx)
		if err == nil {
			err = root.Remove(ctx, t.scratchName(), true)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.o.Log.Warn("the folder of uploads stays", "error", err)
			return
		}
		t.scratch = nil
	})
}

// stepping begins the last step of a change. The function it returns ends it.
func (t *Tree) stepping(ctx context.Context) (end func(), err error) {
	select {
	case t.step <- struct{}{}:
		return func() { <-t.step }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A spot is where a path leads.
type spot struct {
	path   string   // "/" or "/a/b": absolute in the tree, whatever a client takes for its root
	dir    vfs.Dir  // what it lies in; nil for the root
	name   string   // in dir
	node   vfs.Node // nil: nothing is there, or odd
	attr   vfs.Attr // of node
	litter bool     // it is in the memory for litter
	odd    bool     // a link or a device is there, which is not shown
}

// isDir reports whether a folder is there.
func (s spot) isDir() bool { return s.node != nil && s.attr.Kind == vfs.KindDir }

// errNoParent says that the folder in which something should be is not there.
var errNoParent = errors.New("the folder that it would lie in is not there")

// look looks where path leads, with a memory for litter, or without one (nil). That nothing is there is no error, but if its folder
// is not: errNoParent.
func (t *Tree) look(ctx context.Context, path string, l *litter) (spot, error) {
	names, err := vfs.SplitPath(path)
	if err != nil {
		return spot{}, err
	}
	root, err := t.fsys.Root(ctx)
	if err != nil {
		return spot{}, err
	}
	s := spot{path: "/" + strings.Join(names, "/"), node: root}
	for i, name := range names {
		d, ok := s.node.(vfs.Dir)
		if !ok {
			return spot{path: s.path}, fmt.Errorf("find: %w", errNoParent)
		}
		s.dir, s.name, s.node = d, name, nil
		if i == 0 && strings.HasPrefix(name, vfs.ScratchPrefix) {
			return spot{path: s.path}, fmt.Errorf("a name kept for uploads: %w", fs.ErrPermission)
		}
		n, err := d.Lookup(ctx, name)
		if errors.Is(err, fs.ErrNotExist) && !s.litter && l != nil && isLitter(name) {
			s.litter = true
			if s.dir, err = l.dir(ctx, "/"+strings.Join(names[:i], "/")); err != nil {
				return spot{}, err
			}
			n, err = s.dir.Lookup(ctx, name)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if i < len(names)-1 {
				return spot{path: s.path}, fmt.Errorf("find: %w", errNoParent)
			}
			return s, nil
		case err != nil:
			return spot{}, err
		}
		s.node = n
	}
	if s.attr, err = s.node.Attr(ctx); err != nil {
		return spot{}, err
	}
	if s.attr.Kind != vfs.KindDir && s.attr.Kind != vfs.KindFile {
		s.node, s.odd = nil, true
	}
	return s, nil
}

// parentOf returns the path of the folder that path lies in; of the root, the root.
func parentOf(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i <= 0 {
		return "/"
	}
	return path[:i]
}
