package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
)

// SplitPath returns the names of a path, none for the root. Names are separated by
// '/'; empty ones and "." mean nothing, so "a/b", "/a/b" and "a//./b/" are the same.
// ".." is refused, as is every name that CheckName refuses.
func SplitPath(path string) ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		if err := CheckName(name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

// Walk returns the node at path, as SplitPath reads it. It follows no symbolic
// link: a link on the way is ErrNotDir, as is anything else that is no directory.
func Walk(ctx context.Context, fsys FS, path string) (Node, error) {
	names, err := SplitPath(path)
	if err != nil {
		return nil, err
	}
	n, err := walk(ctx, fsys, names)
	if err != nil {
		return nil, fmt.Errorf("walk to %q: %w", path, err)
	}
	return n, nil
}

// WalkDir is Walk to a directory; anything else there is ErrNotDir.
func WalkDir(ctx context.Context, fsys FS, path string) (Dir, error) {
	n, err := Walk(ctx, fsys, path)
	if err != nil {
		return nil, err
	}
	d, ok := n.(Dir)
	if !ok {
		return nil, fmt.Errorf("walk to %q: %w", path, ErrNotDir)
	}
	return d, nil
}

// WalkParent returns the directory that path lies in and the last name of path,
// which need not be there. The root has no parent: fs.ErrInvalid.
func WalkParent(ctx context.Context, fsys FS, path string) (Dir, string, error) {
	names, err := SplitPath(path)
	if err != nil {
		return nil, "", err
	}
	if len(names) == 0 {
		return nil, "", fmt.Errorf("parent of the root: %w", fs.ErrInvalid)
	}
	last := len(names) - 1
	n, err := walk(ctx, fsys, names[:last])
	if err != nil {
		return nil, "", fmt.Errorf("walk to the parent of %q: %w", path, err)
	}
	d, ok := n.(Dir)
	if !ok {
		return nil, "", fmt.Errorf("walk to the parent of %q: %w", path, ErrNotDir)
	}
	return d, names[last], nil
}

// walk follows names from the root.
func walk(ctx context.Context, fsys FS, names []string) (Node, error) {
	root, err := fsys.Root(ctx)
	if err != nil {
		return nil, err
	}
	n := Node(root)
	for _, name := range names {
		d, ok := n.(Dir)
		if !ok {
			return nil, ErrNotDir
		}
		if n, err = d.Lookup(ctx, name); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// ListAttr yields the children of d as List does, with what Attr says of each at that moment.
func ListAttr(ctx context.Context, d Dir, after string) iter.Seq2[EntryAttr, error] {
	if l, ok := d.(AttrLister); ok {
		return l.ListAttr(ctx, after)
	}
	return func(yield func(EntryAttr, error) bool) {
		for e, err := range d.List(ctx, after) {
			one := EntryAttr{Name: e.Name}
			var n Node
			if err == nil {
				n, err = d.Lookup(ctx, e.Name)
			}
			if err == nil {
				one.Attr, err = n.Attr(ctx)
			}
			if l, ok := n.(Link); ok && err == nil {
				one.Target, err = l.Target(ctx)
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone meanwhile
			}
			if !yield(one, err) || err != nil {
				return
			}
		}
	}
}

// MkdirAll returns the directory at path and makes what is missing of it as what
// says, whose Kind it ignores. What is there and no directory is ErrNotDir.
func MkdirAll(ctx context.Context, fsys FS, path string, what New) (Dir, error) {
	names, err := SplitPath(path)
	if err != nil {
		return nil, err
	}
	d, err := fsys.Root(ctx)
	if err != nil {
		return nil, err
	}
	what.Kind = KindDir
	for _, name := range names {
		n, err := d.Lookup(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			n, err = d.Make(ctx, name, what)
			if errors.Is(err, fs.ErrExist) { // somebody was faster
				n, err = d.Lookup(ctx, name)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("make directory %q: %w", path, err)
		}
		next, ok := n.(Dir)
		if !ok {
			return nil, fmt.Errorf("make directory %q: %q: %w", path, name, ErrNotDir)
		}
		d = next
	}
	return d, nil
}

// OpenPath opens the file at path. A directory is ErrIsDir, anything else that is no
// file fs.ErrInvalid.
func OpenPath(ctx context.Context, fsys FS, path string, flag OpenFlag) (Handle, error) {
	n, err := Walk(ctx, fsys, path)
	if err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case File:
		return n.Open(ctx, flag)
	case Dir:
		return nil, fmt.Errorf("open %q: %w", path, ErrIsDir)
	}
	return nil, fmt.Errorf("open %q: %w", path, fs.ErrInvalid)
}

// ReadFile returns the bytes of the file at path. More than limit bytes are
// ErrTooBig: a file may say that it has 2^62 bytes, and they may all be a hole.
func ReadFile(ctx context.Context, fsys FS, path string, limit int64) (data []byte, err error) {
	h, err := OpenPath(ctx, fsys, path, OpenRead)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close(ctx)) }()

	const step = 256 << 10
	for {
		if int64(len(data)) > limit {
			return nil, fmt.Errorf("read %q: more than %d bytes: %w", path, limit, ErrTooBig)
		}
		data = append(data, make([]byte, step)...)
		p := data[len(data)-step:]
		n, err := h.ReadAt(ctx, p, int64(len(data)-step))
		data = data[:len(data)-step+n]
		if errors.Is(err, io.EOF) {
			if int64(len(data)) > limit {
				continue
			}
			return data, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", path, err)
		}
	}
}

// WriteFile makes the file at path hold data and nothing else. If it is not there it is
// made as what says, whose Kind is ignored; its directory must be there. The
// change is not atomic, and durable only after a Sync.
func WriteFile(ctx context.Context, fsys FS, path string, data []byte, what New) (err error) {
	d, name, err := WalkParent(ctx, fsys, path)
	if err != nil {
		return err
	}
	what.Kind = KindFile
	_, h, err := d.Create(ctx, name, what, OpenWrite)
	if errors.Is(err, fs.ErrExist) {
		h, err = OpenPath(ctx, fsys, path, OpenWrite|OpenTrunc)
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	defer func() { err = errors.Join(err, h.Close(ctx)) }()
	if _, err := h.WriteAt(ctx, data, 0); err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	return nil
}

// RemoveAll removes what is at path with all below it. It is no error if nothing is
// there. The root cannot be removed: fs.ErrInvalid. If something is made below path
// meanwhile, it may end with ErrNotEmpty.
func RemoveAll(ctx context.Context, fsys FS, path string) error {
	d, name, err := WalkParent(ctx, fsys, path)
	if err == nil {
		err = RemoveAllOf(ctx, d, name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove all of %q: %w", path, err)
	}
	return nil
}

// RemoveAllOf removes the child of d with all below it. If there is none it is fs.ErrNotExist; what goes meanwhile below it is no error.
func RemoveAllOf(ctx context.Context, d Dir, name string) error {
	n, err := d.Lookup(ctx, name)
	if err != nil {
		return err
	}
	sub, ok := n.(Dir)
	if !ok {
		return d.Remove(ctx, name, false)
	}
	for e, err := range sub.List(ctx, "") {
		if err != nil {
			return err
		}
		if err := RemoveAllOf(ctx, sub, e.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.Remove(ctx, name, true)
}

// TreeEntry is one node that Tree found.
type TreeEntry struct {
	Path string // names below the top, separated by '/'
	Node Node
	Attr Attr
}

// Tree yields all that lies below top, but not top itself: a directory before what
// is in it, the children of one directory in the byte order of their names. What
// is made, moved or removed meanwhile may be missed, or met twice. The sequence
// ends at the first error.
func Tree(ctx context.Context, top Dir) iter.Seq2[TreeEntry, error] {
	return func(yield func(TreeEntry, error) bool) {
		tree(ctx, top, "", yield)
	}
}

// tree yields what is below d, whose own path with a final '/' is prefix, and reports
// whether to go on.
func tree(ctx context.Context, d Dir, prefix string, yield func(TreeEntry, error) bool) bool {
	for e, err := range d.List(ctx, "") {
		if err != nil {
			yield(TreeEntry{}, fmt.Errorf("list %q: %w", prefix, err))
			return false
		}
		n, err := d.Lookup(ctx, e.Name)
		if errors.Is(err, fs.ErrNotExist) { // it is gone already
			continue
		}
		t := TreeEntry{Path: prefix + e.Name, Node: n}
		if err == nil {
			t.Attr, err = n.Attr(ctx)
		}
		if err != nil {
			yield(TreeEntry{}, fmt.Errorf("look at %q: %w", t.Path, err))
			return false
		}
		if !yield(t, nil) {
			return false
		}
		if sub, ok := n.(Dir); ok && !tree(ctx, sub, t.Path+"/", yield) {
			return false
		}
	}
	return true
}

// ScratchPrefix begins the names of folders at the root of a tree in which doors that take whole files let them grow. Doors of that kind show
// them to nobody.
const ScratchPrefix = ".sheaf-dav-"

// Inner returns the deeper of two folders, of which one must lie in the other: what is seen of one by whoever may see the other only. Both are
// absolute and clean; "" is the root, as "/" is.
func Inner(a, b string) (string, bool) {
	switch {
	case Within(a, b):
		return b, true
	case Within(b, a):
		return a, true
	}
	return "", false
}

// Within reports whether path is top or lies below it. Both are as for Inner.
func Within(top, path string) bool {
	return top == "" || top == "/" || path == top || strings.HasPrefix(path, top) && path[len(top)] == '/'
}
