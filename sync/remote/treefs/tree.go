package treefs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/aside"
	"github.com/sheaf-drive/sheaf/vfs"
)

// TreeOptions say how a vfs.FS is a place. Identity is needed.
type TreeOptions struct {
	// Identity is what Identity says: which tree it is.
	Identity string
	// Below is the folder that is the root of the place; "" is all. It has to be there.
	Below string
	// UID and GID own what is made.
	UID, GID uint32
	// Exact says that the FS exchanges names in one step, so that what is replaced can be looked at once more.
	Exact bool
	// Feed returns the paths, in the order of remote.ComparePaths and from the root of the FS, at which something changed since a cursor that it gave, and the next cursor; from
	// "" it returns the cursor of now and no paths. A cursor that it does not know is remote.ErrCursor. If next is "", all is listed the next time. nil: all is listed each time.
	Feed func(ctx context.Context, since remote.Cursor) (paths iter.Seq2[string, error], next remote.Cursor, err error)
}

// Tree is a vfs.FS, such as a drive, as a place of plain files. Its methods are those of remote.Tree, remote.Copier, remote.Toucher and remote.Watcher.
//
// Its versions are made of what Attr says, and as in package localdir none is given for a file that changed within the last two steps of the clock. Its files are
// replaced as there, too: a hidden one changes places with the old one, which is looked at then. Hard links, owners and extended attributes of what is replaced stay with
// the name, but for the links.
type Tree struct {
	fsys vfs.FS
	o    TreeOptions
}

// NewTree returns a Tree of the FS, which stays the caller's.
func NewTree(fsys vfs.FS, o TreeOptions) *Tree { return &Tree{fsys: fsys, o: o} }

// clockStep is the step of the clock by which trees are stamped, at most.
const clockStep = 10 * time.Millisecond

// Can is as in remote.Tree.
func (t *Tree) Can() remote.TreeCan {
	return remote.TreeCan{
		Write: true, ChangeFeed: t.o.Feed != nil, IDs: true, Ranges: true, ServerMove: true, DirMove: true, ServerCopy: true, Touch: true, Watch: true,
		EmptyDirs: true, Symlinks: true, Modes: true, MTime: 1, Exact: t.o.Exact, Rate: remote.Fast,
	}
}

// Identity is as in remote.Tree.
func (t *Tree) Identity(ctx context.Context) (string, error) {
	d, err := t.dirOf(ctx, "")
	if err != nil {
		return "", fmt.Errorf("who is it: %w", says(err))
	}
	a, err := d.Attr(ctx)
	if err != nil {
		return "", fmt.Errorf("who is it: %w", says(err))
	}
	return t.o.Identity + " " + strconv.FormatUint(a.Ino, 36), nil
}

// says is failed the other way.
func says(err error) error {
	switch {
	case err == nil, errors.Is(err, remote.ErrChanged), errors.Is(err, remote.ErrIllegal):
		return err
	case errors.Is(err, vfs.ErrName), errors.Is(err, vfs.ErrNameLen):
		return fmt.Errorf("%w: %w", remote.ErrIllegal, err)
	case errors.Is(err, vfs.ErrStale), errors.Is(err, fs.ErrExist), errors.Is(err, vfs.ErrNotEmpty), errors.Is(err, vfs.ErrIsDir):
		return fmt.Errorf("%w: %w", remote.ErrChanged, err)
	case errors.Is(err, vfs.ErrNotDir):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case errors.Is(err, vfs.ErrNoSpace), errors.Is(err, vfs.ErrQuota):
		return fmt.Errorf("%w: %w", blob.ErrNoSpace, err)
	case errors.Is(err, vfs.ErrReadOnly):
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// dirOf returns the directory at p, "" for the root of the place, and parentOf the one in which p lies, with the last name.
func (t *Tree) dirOf(ctx context.Context, p string) (vfs.Dir, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p != "" {
		if err := t.check(p); err != nil {
			return nil, err
		}
	}
	return vfs.WalkDir(ctx, t.fsys, path.Join(t.o.Below, p))
}

func (t *Tree) parentOf(ctx context.Context, p string) (vfs.Dir, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	if err := t.check(p); err != nil {
		return nil, "", err
	}
	return vfs.WalkParent(ctx, t.fsys, path.Join(t.o.Below, p))
}

func (t *Tree) check(path string) error {
	if err := remote.CheckPath(path); err != nil {
		return err
	}
	for name := range strings.SplitSeq(path, "/") {
		if aside.Is(name) || len(name) > vfs.MaxName {
			return fmt.Errorf("path %q: %w", path, remote.ErrIllegal)
		}
	}
	return nil
}

// A look is what a node said at one time.
type look struct {
	node vfs.Node
	attr vfs.Attr
	it   remote.Item
}

func versionOf(a vfs.Attr) remote.Version {
	if a.Kind != vfs.KindFile && a.Kind != vfs.KindLink {
		return ""
	}
	return remote.Version(strconv.FormatInt(a.Size, 36) + "." + strconv.FormatInt(a.MTime.UnixNano(), 36) + "." +
		strconv.FormatInt(a.CTime.UnixNano(), 36) + "." + strconv.FormatUint(a.Ino, 36))
}

// same reports whether it is the same thing with the same bytes, when only its name was changed meanwhile.
func same(a, b vfs.Attr) bool {
	return a.Ino == b.Ino && a.Kind == b.Kind && a.Size == b.Size && a.MTime.Equal(b.MTime)
}

// see looks at a child. Unless it is ours, whose times were set, it waits until a later change would have another time.
func (t *Tree) see(ctx context.Context, d vfs.Dir, path, name string, ours bool) (look, error) {
	for try := 0; ; try++ {
		n, err := d.Lookup(ctx, name)
		if err != nil {
			return look{}, err
		}
		a, err := n.Attr(ctx)
		if err != nil {
			return look{}, err
		}
		l := look{node: n, attr: a}
		l.it = remote.Item{Path: path, MTime: a.MTime, Mode: fs.FileMode(a.Mode) & fs.ModePerm, ID: strconv.FormatUint(a.Ino, 36), Version: versionOf(a)}
		switch a.Kind {
		case vfs.KindFile:
			l.it.Kind, l.it.Size = remote.File, a.Size
		case vfs.KindDir:
			l.it.Kind = remote.Dir
		case vfs.KindLink:
			l.it.Kind = remote.Symlink
			link, ok := n.(vfs.Link)
			if !ok {
				return look{}, fs.ErrInvalid
			}
			if l.it.Target, err = link.Target(ctx); err != nil {
				return look{}, err
			}
		case vfs.KindFIFO, vfs.KindSocket, vfs.KindChar, vfs.KindBlock:
			l.it.Kind = remote.Other
		}
		age := time.Since(a.CTime)
		if ours || l.it.Version == "" || age >= 2*clockStep || age < -2*clockStep {
			return l, nil
		}
		if try == 3 { // it changes all the time: nothing will ever have this version
			l.it.Version += remote.Version("~" + strconv.FormatInt(time.Now().UnixNano(), 36))
			return l, nil
		}
		select {
		case <-ctx.Done():
			return look{}, ctx.Err()
		case <-time.After(2*clockStep - age):
		}
	}
}

// Stat is as in remote.Tree.
func (t *Tree) Stat(ctx context.Context, path string) (remote.Item, error) {
	d, name, err := t.parentOf(ctx, path)
	var l look
	if err == nil {
		l, err = t.see(ctx, d, path, name, false)
	}
	if err != nil {
		return remote.Item{}, fmt.Errorf("stat %q: %w", path, says(err))
	}
	return l.it, nil
}

var errStop = errors.New("no more")

// List is as in remote.Tree.
func (t *Tree) List(ctx context.Context, dir string) iter.Seq2[remote.Item, error] {
	return func(yield func(remote.Item, error) bool) {
		d, err := t.dirOf(ctx, dir)
		if err == nil {
			_, err = t.each(ctx, d, dir, func(l look) error {
				if !yield(l.it, nil) {
					return errStop
				}
				return nil
			})
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(remote.Item{}, fmt.Errorf("list %q: %w", dir, says(err)))
		}
	}
}

// each calls fn with what the directory holds, in the order of the names. What goes meanwhile is left out. It reports whether there is a hidden file that is to be cleared up
// later.
func (t *Tree) each(ctx context.Context, d vfs.Dir, path string, fn func(look) error) (hidden bool, err error) {
	for e, err := range d.List(ctx, "") {
		if err != nil {
			return hidden, err
		}
		if err := ctx.Err(); err != nil {
			return hidden, err
		}
		if aside.Is(e.Name) {
			hidden = !t.rescue(ctx, d, e.Name) || hidden
			continue
		}
		l, err := t.see(ctx, d, join(path, e.Name), e.Name, false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = fn(l)
		}
		if err != nil {
			return hidden, err
		}
	}
	return hidden, nil
}

// Changes is as in remote.Tree.
func (t *Tree) Changes(ctx context.Context, since remote.Cursor) (iter.Seq2[remote.Change, error], func() remote.Cursor) {
	return remote.Listing(func(give func(remote.Change) error) (remote.Cursor, error) {
		next, err := t.changes(ctx, since, func(c remote.Change) error {
			if err := give(c); err != nil {
				return err
			}
			return ctx.Err()
		})
		if err != nil {
			return "", fmt.Errorf("list what changed: %w", says(err))
		}
		return next, nil
	})
}

// listAll is a cursor after which all is listed: that of a tree without a feed, and of one with a hidden file that only a listing would find again.
const listAll remote.Cursor = "all"

func (t *Tree) changes(ctx context.Context, since remote.Cursor, give func(remote.Change) error) (remote.Cursor, error) {
	if t.o.Feed == nil || since == listAll {
		since = ""
	}
	top, err := t.dirOf(ctx, "")
	if err != nil {
		return "", err
	}
	var paths iter.Seq2[string, error]
	var next remote.Cursor
	if t.o.Feed != nil {
		if paths, next, err = t.o.Feed(ctx, since); err != nil {
			return "", err
		}
	}
	hidden := false
	if since == "" {
		hidden, err = t.walk(ctx, top, "", give)
		since = listAll
	} else {
		hidden, err = t.follow(ctx, top, paths, give)
	}
	if hidden {
		next = since // so that what is hidden is met again, until it is cleared up
	}
	return cmp.Or(next, listAll), err
}

// follow gives what is now at the paths that a feed tells. It reports whether there is a hidden file among them that is to be cleared up later. What it finds gone is gone from the place: it
// fails if the root of the place is not where it was.
func (t *Tree) follow(ctx context.Context, top vfs.Dir, paths iter.Seq2[string, error], give func(remote.Change) error) (hidden bool, err error) {
	for full, err := range paths {
		if err != nil {
			return hidden, err
		}
		p, ok := t.inside(full)
		dir, name := path.Split(p)
		dir = strings.TrimSuffix(dir, "/")
		if !ok || slices.ContainsFunc(strings.Split(dir, "/"), aside.Is) {
			continue // a listing does not show it either
		}
		if aside.Is(name) {
			d, err := t.dirOf(ctx, dir)
			switch {
			case errors.Is(says(err), fs.ErrNotExist):
			case err != nil:
				return hidden, err
			default:
				hidden = !t.rescue(ctx, d, name) || hidden
			}
			continue
		}
		it, err := t.Stat(ctx, p)
		c := remote.Change{Item: it}
		if errors.Is(err, fs.ErrNotExist) {
			c, err = remote.Change{Item: remote.Item{Path: p}, Gone: true}, nil
		}
		if err == nil {
			err = give(c)
		}
		if err != nil {
			return hidden, err
		}
	}
	return hidden, t.still(ctx, top)
}

// still returns an error unless the root of the place is the directory top.
func (t *Tree) still(ctx context.Context, top vfs.Dir) error {
	was, err := top.Attr(ctx)
	if err != nil {
		return err
	}
	d, err := t.dirOf(ctx, "")
	if err != nil {
		return err
	}
	now, err := d.Attr(ctx)
	if err == nil && now.Ino != was.Ino {
		err = fmt.Errorf("the root of the place is another: %w", remote.ErrChanged)
	}
	return err
}

// inside returns the path in the place of what is at full in the FS, if it is below the root of the place.
func (t *Tree) inside(full string) (path string, ok bool) {
	if t.o.Below == "" {
		return full, full != ""
	}
	path, ok = strings.CutPrefix(full, strings.Trim(t.o.Below, "/")+"/")
	return path, ok && path != ""
}

func (t *Tree) walk(ctx context.Context, d vfs.Dir, path string, give func(remote.Change) error) (hidden bool, err error) {
	below := false
	hidden, err = t.each(ctx, d, path, func(l look) error {
		if err := give(remote.Change{Item: l.it}); err != nil {
			return err
		}
		sub, ok := l.node.(vfs.Dir)
		if !ok {
			return nil
		}
		h, err := t.walk(ctx, sub, l.it.Path, give)
		below = below || h
		return err
	})
	return hidden || below, err
}

// Watch is as in remote.Watcher: it tells what others than this FS change.
func (t *Tree) Watch(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for range t.fsys.Changes(ctx) {
			if !yield("", nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield("", fmt.Errorf("watch: %w", err))
		}
	}
}

// Open is as in remote.Tree. A file that changes while it is read is ErrChanged at its end at the latest.
func (t *Tree) Open(ctx context.Context, path string, off, n int64, known remote.Version) (io.ReadCloser, error) {
	r, err := t.open(ctx, path, off, n, known)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, says(err))
	}
	return r, nil
}

func (t *Tree) open(ctx context.Context, path string, off, n int64, known remote.Version) (io.ReadCloser, error) {
	d, name, err := t.parentOf(ctx, path)
	if err != nil {
		return nil, err
	}
	l, err := t.see(ctx, d, path, name, false)
	if err != nil {
		return nil, err
	}
	f, ok := l.node.(vfs.File)
	switch {
	case known != "" && known != l.it.Version:
		return nil, remote.ErrChanged
	case !ok:
		return nil, fmt.Errorf("it is no file: %w", fs.ErrInvalid)
	case off < 0:
		return nil, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid)
	}
	h, err := f.Open(ctx, vfs.OpenRead)
	if err != nil {
		return nil, err
	}
	return &treeReader{ctx: ctx, node: f, h: h, off: off, left: n, version: l.it.Version}, nil
}

// A treeReader reads one version of a file. It is used by one goroutine at a time.
type treeReader struct {
	ctx     context.Context // of the Open that it belongs to
	node    vfs.Node
	h       vfs.Handle
	off     int64
	left    int64 // < 0: to the end
	version remote.Version
	err     error
}

func (r *treeReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.left >= 0 {
		p = p[:min(int64(len(p)), r.left)]
	}
	var n int
	err := io.EOF
	if r.left != 0 {
		if len(p) == 0 {
			return 0, nil
		}
		n, err = r.h.ReadAt(r.ctx, p, r.off)
		r.off += int64(n)
		if r.left > 0 {
			r.left -= int64(n)
		}
	}
	if errors.Is(err, io.EOF) {
		a, aerr := r.node.Attr(r.ctx)
		if aerr == nil && versionOf(a) != r.version {
			aerr = fmt.Errorf("while it was read: %w", remote.ErrChanged)
		}
		if aerr != nil {
			n, err = 0, aerr
		}
	}
	r.err = err
	return n, err
}

func (r *treeReader) Close() error {
	if r.err == nil {
		r.err = fs.ErrClosed
	}
	return r.h.Close(context.WithoutCancel(r.ctx))
}

var (
	_ remote.Tree    = (*Tree)(nil)
	_ remote.Copier  = (*Tree)(nil)
	_ remote.Toucher = (*Tree)(nil)
	_ remote.Watcher = (*Tree)(nil)
)
