package treefs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/aside"
	"github.com/sheaf-drive/sheaf/vfs"
)

// discard removes a hidden file, if it is the one that its name was made for, as package localdir does.
func (t *Tree) discard(ctx context.Context, d vfs.Dir, name string) (done bool) {
	n, err := d.Lookup(ctx, name)
	if err != nil {
		return false
	}
	a, err := n.Attr(ctx)
	return err == nil && a.Kind != vfs.KindDir && aside.Ours(name, a.Ino, a.Kind == vfs.KindFile && a.Size == 0) && d.Remove(ctx, name, false) == nil
}

// rescue clears up a hidden file that a crash has left: one that was made for its name is removed, and somebody's gets a name that is seen. It reports whether the
// hidden name is gone; one that somebody may still write stays.
func (t *Tree) rescue(ctx context.Context, d vfs.Dir, name string) bool {
	n, err := d.Lookup(ctx, name)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	a, err := n.Attr(ctx)
	if err != nil || time.Since(a.CTime) < aside.Age {
		return false
	}
	return t.discard(ctx, d, name) || t.giveName(ctx, d, name, "file")
}

// giveName gives somebody's file, which is under a hidden name, one that is seen. If it cannot, the next listing tries again.
func (t *Tree) giveName(ctx context.Context, d vfs.Dir, name, was string) bool {
	return d.Rename(ctx, name, d, aside.Saved(name, was), vfs.RenameNoReplace) == nil
}

// Put is as in remote.Tree.
func (t *Tree) Put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	done, err := t.put(ctx, it, known, func(ctx context.Context, h vfs.Handle) error { return fill(ctx, h, r, it.Size) })
	if err != nil {
		return remote.Item{}, fmt.Errorf("put %q: %w", it.Path, says(err))
	}
	return done, nil
}

// put makes it.Path what it says, with the bytes that write writes.
func (t *Tree) put(ctx context.Context, it remote.Item, known remote.Version, write func(context.Context, vfs.Handle) error) (remote.Item, error) {
	if it.Kind != remote.File && it.Kind != remote.Symlink {
		return remote.Item{}, fmt.Errorf("neither a file nor a link: %w", fs.ErrInvalid)
	}
	d, name, err := t.parentOf(ctx, it.Path)
	if err != nil {
		return remote.Item{}, err
	}
	old, err := t.expect(ctx, d, it.Path, name, known)
	if err != nil {
		return remote.Item{}, err
	}
	if it.MTime.IsZero() { // as exact as it gets: what is written later has another time for certain
		it.MTime = time.Now()
	}
	temp, was, err := t.make(ctx, d, it, old, write)
	if err == nil {
		err = ctx.Err()
	}
	// From here on it is done whole, whatever becomes of the context.
	ctx = context.WithoutCancel(ctx)
	switch {
	case err != nil:
	case old == nil:
		err = d.Rename(ctx, temp, d, name, vfs.RenameNoReplace)
	default:
		err = t.replace(ctx, d, temp, it.Path, name, old, known)
	}
	if err != nil {
		if temp != "" {
			t.discard(ctx, d, temp) // if not now, a listing does it
		}
		return remote.Item{}, err
	}
	if err := d.Sync(ctx); err != nil {
		return remote.Item{}, err
	}
	l, err := t.see(ctx, d, it.Path, name, true)
	if err == nil && !same(l.attr, was) {
		err = fmt.Errorf("right after that: %w", remote.ErrChanged)
	}
	return l.it, err
}

// expect returns what is there if that has the version known, nil if nothing is to be there and is not.
func (t *Tree) expect(ctx context.Context, d vfs.Dir, path, name string, known remote.Version) (*look, error) {
	l, err := t.see(ctx, d, path, name, false)
	switch {
	case errors.Is(err, fs.ErrNotExist) && known == "":
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("it is gone: %w", remote.ErrChanged)
	case err != nil:
		return nil, err
	case known == "" || l.it.Version != known:
		return nil, remote.ErrChanged
	}
	return &l, nil
}

// make makes a hidden file, or link, that is all that it says, and durable.
func (t *Tree) make(ctx context.Context, d vfs.Dir, it remote.Item, old *look, write func(context.Context, vfs.Handle) error) (temp string, was vfs.Attr, err error) {
	temp = aside.Name(0)
	what := vfs.New{Kind: vfs.KindFile, Mode: vfs.Mode(it.Mode.Perm()), UID: t.o.UID, GID: t.o.GID}
	if it.Mode == 0 {
		what.Mode = 0o644
	}
	if old != nil {
		what.UID, what.GID = old.attr.UID, old.attr.GID
		if it.Mode == 0 {
			what.Mode = old.attr.Mode
		}
	}
	var n vfs.Node
	var h vfs.Handle
	if it.Kind == remote.Symlink {
		what.Kind, what.Mode, what.Target = vfs.KindLink, 0o777, it.Target
		n, err = d.Make(ctx, temp, what)
	} else {
		n, h, err = d.Create(ctx, temp, what, vfs.OpenWrite)
	}
	if err != nil {
		return "", was, err
	}
	if h != nil {
		defer func() {
			if h != nil {
				err = errors.Join(err, h.Close(context.WithoutCancel(ctx)))
			}
		}()
	}
	a, err := n.Attr(ctx)
	if err != nil {
		return temp, was, err
	}
	named := aside.Name(a.Ino)
	if err := d.Rename(ctx, temp, d, named, vfs.RenameNoReplace); err != nil {
		return temp, was, err
	}
	temp = named
	if h != nil {
		if err := write(ctx, h); err != nil {
			return temp, was, err
		}
		if err := h.Sync(ctx); err != nil {
			return temp, was, err
		}
		err = h.Close(context.WithoutCancel(ctx))
		if h = nil; err != nil {
			return temp, was, err
		}
	}
	if old != nil && old.attr.Kind == what.Kind {
		if err := vfs.CopyXattrs(ctx, old.node, n); err != nil {
			return temp, was, err
		}
	}
	was, err = n.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetMTime, MTime: it.MTime})
	if err == nil {
		err = n.Sync(ctx)
	}
	return temp, was, err
}

// fill copies what r gives, size bytes, or all if size is negative.
func fill(ctx context.Context, h vfs.Handle, r io.Reader, size int64) error {
	if size >= 0 {
		r = blob.Body(ctx, r, size)
	} else {
		r = blob.Stream(ctx, r)
	}
	w := bufio.NewWriterSize(&appender{ctx: ctx, h: h}, 256<<10)
	if _, err := w.ReadFrom(r); err != nil {
		return err
	}
	return w.Flush()
}

// An appender writes one piece behind the other.
type appender struct {
	ctx context.Context // of the Put that it belongs to
	h   vfs.Handle
	off int64
}

func (a *appender) Write(p []byte) (int, error) {
	n, err := a.h.WriteAt(a.ctx, p, a.off)
	a.off += int64(n)
	return n, err
}

// replace puts the hidden file temp in the place of old, as package localdir does.
func (t *Tree) replace(ctx context.Context, d vfs.Dir, temp, path, name string, old *look, known remote.Version) error {
	now, err := t.see(ctx, d, path, name, true)
	if err != nil || now.it.Version != known {
		return remote.ErrChanged
	}
	err = d.Rename(ctx, temp, d, name, vfs.RenameExchange)
	if errors.Is(err, errors.ErrUnsupported) {
		return d.Rename(ctx, temp, d, name, vfs.RenameReplace) // it was looked at right before: Exact is not set
	}
	if err != nil {
		return err
	}
	out, err := t.see(ctx, d, path, temp, true)
	if err == nil && same(out.attr, old.attr) {
		return d.Remove(ctx, temp, false)
	}
	if err := d.Rename(ctx, temp, d, name, vfs.RenameExchange); err != nil {
		t.giveName(ctx, d, temp, name)
		return fmt.Errorf("%w: %w", remote.ErrChanged, err)
	}
	if !t.discard(ctx, d, temp) {
		// Between the two, a third one came. It is the newest, and what was changed before it is kept beside it.
		_ = d.Rename(ctx, temp, d, name, vfs.RenameExchange) // if not, the third one is kept
		t.giveName(ctx, d, temp, name)
	}
	return remote.ErrChanged
}

// Mkdir is as in remote.Tree.
func (t *Tree) Mkdir(ctx context.Context, path string, mode fs.FileMode) (remote.Item, error) {
	d, name, err := t.parentOf(ctx, path)
	if err == nil {
		if mode == 0 {
			mode = 0o755
		}
		_, err = d.Make(ctx, name, vfs.New{Kind: vfs.KindDir, Mode: vfs.Mode(mode.Perm()), UID: t.o.UID, GID: t.o.GID})
	}
	var l look
	if err == nil || errors.Is(err, fs.ErrExist) {
		l, err = t.see(ctx, d, path, name, false)
	}
	if err == nil && l.it.Kind != remote.Dir {
		err = remote.ErrChanged
	}
	if err != nil {
		return remote.Item{}, fmt.Errorf("make directory %q: %w", path, says(err))
	}
	return l.it, nil
}

// Remove is as in remote.Tree.
func (t *Tree) Remove(ctx context.Context, path string, known remote.Version) error {
	if err := t.remove(ctx, path, known); err != nil {
		return fmt.Errorf("remove %q: %w", path, says(err))
	}
	return nil
}

func (t *Tree) remove(ctx context.Context, path string, known remote.Version) error {
	d, name, err := t.parentOf(ctx, path)
	if err != nil {
		return err
	}
	old, err := t.see(ctx, d, path, name, false)
	switch {
	case err != nil:
		return err
	case old.it.Kind == remote.Other:
		return fmt.Errorf("it is neither a file, a link nor a directory: %w", fs.ErrInvalid)
	case old.it.Version != known:
		return remote.ErrChanged
	case old.it.Kind == remote.Dir:
		return d.Remove(vfs.Expect(ctx, vfs.Expected{Dir: d, Name: name, Node: old.node}), name, true)
	}
	ctx = context.WithoutCancel(ctx)
	temp := aside.Name(0)
	if err := d.Rename(ctx, name, d, temp, vfs.RenameNoReplace); err != nil {
		return err
	}
	if out, err := t.see(ctx, d, path, temp, true); err != nil || !same(out.attr, old.attr) {
		if err := d.Rename(ctx, temp, d, name, vfs.RenameNoReplace); err != nil {
			t.giveName(ctx, d, temp, name)
		}
		return remote.ErrChanged
	}
	if err := d.Remove(ctx, temp, false); err != nil {
		return err
	}
	return d.Sync(ctx)
}

// Move is as in remote.Tree.
func (t *Tree) Move(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	it, err := t.move(ctx, from, to, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("move %q to %q: %w", from, to, says(err))
	}
	return it, nil
}

func (t *Tree) move(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	d, name, err := t.parentOf(ctx, from)
	if err != nil {
		return remote.Item{}, err
	}
	if err := t.check(to); err != nil {
		return remote.Item{}, err
	}
	if strings.HasPrefix(to, from+"/") {
		return remote.Item{}, fmt.Errorf("below itself: %w", fs.ErrInvalid)
	}
	old, err := t.see(ctx, d, from, name, false)
	switch {
	case err != nil:
		return remote.Item{}, err
	case old.it.Kind == remote.Other:
		return remote.Item{}, fmt.Errorf("it is neither a file, a link nor a directory: %w", fs.ErrInvalid)
	case old.it.Version != known:
		return remote.Item{}, remote.ErrChanged
	}
	d2, name2, err := t.parentOf(ctx, to)
	if err != nil {
		return remote.Item{}, err
	}
	ctx = context.WithoutCancel(ctx)
	if err := d.Rename(ctx, name, d2, name2, vfs.RenameNoReplace); err != nil {
		return remote.Item{}, err
	}
	l, err := t.see(ctx, d2, to, name2, true)
	if old.it.Kind != remote.Dir && (err != nil || !same(l.attr, old.attr)) {
		_ = d2.Rename(ctx, name2, d, name, vfs.RenameNoReplace) // it is another one, and belongs where it was
		return remote.Item{}, remote.ErrChanged
	}
	return l.it, errors.Join(err, d2.Sync(ctx))
}

// Copy is as in remote.Copier. It shares what is stored.
func (t *Tree) Copy(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	it, err := t.copy(ctx, from, to, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("copy %q to %q: %w", from, to, says(err))
	}
	return it, nil
}

func (t *Tree) copy(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	d, name, err := t.parentOf(ctx, from)
	if err != nil {
		return remote.Item{}, err
	}
	l, err := t.see(ctx, d, from, name, false)
	if err != nil {
		return remote.Item{}, err
	}
	f, ok := l.node.(vfs.File)
	if !ok {
		return remote.Item{}, fmt.Errorf("it is no file: %w", fs.ErrInvalid)
	}
	if l.it.Version != known {
		return remote.Item{}, remote.ErrChanged
	}
	return t.put(ctx, remote.Item{Path: to, MTime: l.it.MTime, Mode: l.it.Mode, Size: l.it.Size}, "", func(ctx context.Context, dst vfs.Handle) error {
		h, err := f.Open(ctx, vfs.OpenRead)
		if err != nil {
			return err
		}
		defer func() { _ = h.Close(context.WithoutCancel(ctx)) }()
		n, err := h.CopyTo(ctx, 0, dst, 0, l.it.Size)
		if err == nil && n != l.it.Size {
			err = remote.ErrChanged
		}
		if a, aerr := f.Attr(ctx); err == nil && (aerr != nil || versionOf(a) != known) {
			err = remote.ErrChanged
		}
		return err
	})
}

// Touch is as in remote.Toucher.
func (t *Tree) Touch(ctx context.Context, it remote.Item, known remote.Version) (remote.Item, error) {
	d, name, err := t.parentOf(ctx, it.Path)
	var l look
	if err == nil {
		l, err = t.see(ctx, d, it.Path, name, false)
	}
	if err == nil && (l.it.Version != known || l.it.Kind == remote.Other) {
		err = remote.ErrChanged
	}
	if err == nil {
		c := vfs.AttrChange{MTime: it.MTime, Mode: l.attr.Mode&^0o777 | vfs.Mode(it.Mode.Perm())}
		if !it.MTime.IsZero() {
			c.Set |= vfs.SetMTime
		}
		if it.Mode != 0 && l.it.Kind != remote.Symlink {
			c.Set |= vfs.SetMode
		}
		if _, err = l.node.SetAttr(ctx, c); err == nil {
			l, err = t.see(ctx, d, it.Path, name, false)
		}
	}
	if err != nil {
		return remote.Item{}, fmt.Errorf("touch %q: %w", it.Path, says(err))
	}
	return l.it, nil
}
