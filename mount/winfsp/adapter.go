//go:build (windows && !cgo) || (cgofuse && cgo && (linux || darwin))

package winfsp

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/winfsp/cgofuse/fuse"

	"github.com/sheaf-drive/sheaf/mount/errno"
	"github.com/sheaf-drive/sheaf/vfs"
)

// blockSize is what programs are told.
const blockSize = 4096

// An adapter answers the requests of cgofuse from a tree. cgofuse looks for more methods than its FileSystemInterface has, and
// calls those that are there.
type adapter struct {
	fuse.FileSystemBase // answers ENOSYS to what is not here

	fsys  vfs.FS
	root  vfs.Dir
	log   *slog.Logger
	errs  errno.Translator
	opens *opens

	// windows says that names and owners are those of Windows; its tests mount so elsewhere.
	windows bool
	index   *index
	hidden  *hidden

	readOnly bool // nothing is changed

	ready chan struct{} // closed by Init
}

var (
	_ fuse.FileSystemInterface  = (*adapter)(nil)
	_ fuse.FileSystemGetpath    = (*adapter)(nil)
	_ fuse.FileSystemChflags    = (*adapter)(nil)
	_ fuse.FileSystemSetcrtime  = (*adapter)(nil)
	_ fuse.FileSystemSetchgtime = (*adapter)(nil)
)

func newAdapter(ctx context.Context, fsys vfs.FS, windows bool, log *slog.Logger) (*adapter, error) {
	root, err := fsys.Root(ctx)
	if err != nil {
		return nil, err
	}
	return &adapter{
		fsys: fsys, root: root, log: log, errs: errno.Translator{Log: log}, opens: newOpens(),
		windows: windows, index: newIndex(), hidden: newHidden(log), ready: make(chan struct{}),
	}, nil
}

// background is the context of every request: cgofuse tells of no interrupt.
func background() context.Context { return context.Background() }

// Init is called once, before the first request.
func (a *adapter) Init() { close(a.ready) }

// Destroy is called once, after the last request.
func (a *adapter) Destroy() { a.hidden.settleAll() }

// follow drops what is remembered of directories that change behind the mount, until ctx is done.
func (a *adapter) follow(ctx context.Context) {
	for c := range a.fsys.Changes(ctx) {
		a.index.drop(c.Node)
	}
}

// child returns the child that is shown as shown, and its name in the tree. If there is none, the name is that which it
// would be made with, unless the error is that of a name that cannot be.
func (a *adapter) child(ctx context.Context, d vfs.Dir, shown string) (vfs.Node, string, error) {
	n, name, err := a.find(ctx, d, shown)
	if err == nil && a.hidden.removes(d, name) {
		return nil, name, fs.ErrNotExist
	}
	return n, name, err
}

func (a *adapter) find(ctx context.Context, d vfs.Dir, shown string) (vfs.Node, string, error) {
	if !a.windows {
		n, err := d.Lookup(ctx, shown)
		return n, shown, err
	}
	name, exact, ok := Decode(shown)
	if !ok {
		return nil, "", &fs.PathError{Op: "find", Path: shown, Err: vfs.ErrName}
	}
	if err := vfs.CheckName(name); err != nil {
		return nil, "", err
	}
	n, err := d.Lookup(ctx, name)
	if !missing(err) {
		return n, name, err
	}
	group, err := a.index.group(ctx, d, foldKey(name))
	if err != nil {
		return nil, name, err
	}
	if !exact {
		for _, other := range group {
			if n, err := d.Lookup(ctx, other); !missing(err) {
				return n, other, err
			}
		}
		return nil, name, fs.ErrNotExist
	}
	// It is shown so only while it is in the way of another. Made now, it must be shown as whoever makes it says.
	i, _ := slices.BinarySearch(group, name)
	if plain := shownIn(slices.Insert(group, i, name), name); Fold(plain) != Fold(shown) {
		return nil, "", &fs.PathError{Op: "find", Path: shown, Err: vfs.ErrName}
	}
	return nil, name, fs.ErrNotExist
}

// missing reports whether err says that there is no such name.
func missing(err error) bool {
	num, _ := errno.Of(err)
	return num == syscall.ENOENT
}

// walk returns the directory that path lies in, and how path's last element is shown: "" for the root itself.
func (a *adapter) walk(ctx context.Context, path string) (vfs.Dir, string, error) {
	path = strings.Trim(path, "/")
	d := a.root
	for {
		first, rest, more := strings.Cut(path, "/")
		if !more {
			return d, first, nil
		}
		n, _, err := a.child(ctx, d, first)
		if err != nil {
			return nil, "", notThere(err)
		}
		next, ok := n.(vfs.Dir)
		if !ok {
			return nil, "", vfs.ErrNotDir
		}
		d, path = next, rest
	}
}

// notThere returns fs.ErrNotExist for a name that cannot be: what is only looked for is just not there.
func notThere(err error) error {
	if errors.Is(err, vfs.ErrName) {
		return fs.ErrNotExist
	}
	return err
}

// node returns what path leads to.
func (a *adapter) node(ctx context.Context, path string) (vfs.Node, error) {
	d, shown, err := a.walk(ctx, path)
	if err != nil {
		return nil, err
	}
	if shown == "" {
		return d, nil
	}
	if n := a.hidden.find(shown); n != nil {
		return n, nil
	}
	n, _, err := a.child(ctx, d, shown)
	return n, notThere(err)
}

// at returns the node of a handle, or what path leads to if there is none.
func (a *adapter) at(ctx context.Context, path string, fh uint64) (vfs.Node, error) {
	if fh != none {
		if o := a.opens.get(fh); o != nil {
			return o.node, nil
		}
	}
	return a.node(ctx, path)
}

// place is where a name is, or is to be.
type place struct {
	d     vfs.Dir
	name  string    // in the tree
	node  vfs.Node  // nil: there is none
	mtime time.Time // of d, then
}

// place returns the place that path leads to.
func (a *adapter) place(ctx context.Context, path string) (place, error) {
	d, shown, err := a.walk(ctx, path)
	if err != nil {
		return place{}, err
	}
	if shown == "" {
		return place{}, fs.ErrExist // the root, which cannot be made, moved or removed
	}
	a.hidden.settleIn(d)
	p := place{d: d}
	if a.windows {
		at, err := d.Attr(ctx)
		if err != nil {
			return place{}, err
		}
		p.mtime = at.MTime
	}
	p.node, p.name, err = a.child(ctx, d, shown)
	if err != nil && !missing(err) {
		return place{}, err
	}
	return p, nil
}

// changed notes that the name of a place is there now, or is not any more.
func (a *adapter) changed(ctx context.Context, p place, there bool) {
	switch {
	case !a.windows:
	case there:
		a.index.changed(ctx, p.d, p.mtime, p.name, "")
	default:
		a.index.changed(ctx, p.d, p.mtime, "", p.name)
	}
}

// Getpath returns a path as it is shown by what it leads through, whatever case it has been asked for with.
func (a *adapter) Getpath(path string, _ uint64) (code int, out string) {
	defer caught(a.log, &code)
	if !a.windows {
		return 0, path
	}
	ctx := background()
	d := a.root
	for shown := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if shown == "" {
			break
		}
		n, name, err := a.child(ctx, d, shown)
		if err != nil {
			return a.code("getpath", notThere(err)), ""
		}
		group, err := a.index.group(ctx, d, foldKey(name))
		if err != nil {
			return a.code("getpath", err), ""
		}
		out += "/" + shownIn(group, name)
		next, ok := n.(vfs.Dir)
		if !ok {
			break // the last, or WinFsp asks for what cannot be
		}
		d = next
	}
	if out == "" {
		out = "/"
	}
	return 0, out
}

// Statfs reports the room of the tree.
func (a *adapter) Statfs(_ string, out *fuse.Statfs_t) (code int) {
	defer caught(a.log, &code)
	u, err := a.fsys.Usage(background())
	if err != nil {
		return a.code("statfs", err)
	}
	*out = fuse.Statfs_t{
		Bsize: blockSize, Frsize: blockSize,
		Blocks: u.Bytes / blockSize, Bfree: u.BytesFree / blockSize, Bavail: u.BytesFree / blockSize,
		Files: u.Files, Ffree: u.FilesFree, Favail: u.FilesFree, Namemax: vfs.MaxName,
	}
	return 0
}
