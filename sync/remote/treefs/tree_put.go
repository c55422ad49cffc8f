package treefs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/vfs"
)

// Hidden names are those of package localdir: 16 digits of the number of the file that was made for it, and 16 of chance.
const (
	hiddenPrefix = ".sheaf-tmp-"
	hiddenLen    = len(hiddenPrefix) + 16 + 1 + 16
	hiddenAge    = 24 * time.Hour
)

func hidden(name string) bool {
	return len(name) == hiddenLen && strings.HasPrefix(name, hiddenPrefix) && name[len(hiddenPrefix)+16] == '-'
}

func hiddenName(ino uint64) string {
	var p [8]byte
	_, _ = rand.Read(p[:]) // never fails
	return fmt.Sprintf("%s%016x-%s", hiddenPrefix, ino, hex.EncodeToString(p[:]))
}

// rescue clears up a hidden file that a crash has left: one that was made for its name is removed, and somebody's gets a name that is seen.
func (t *Tree) rescue(ctx context.Context, d vfs.Dir, name string) {
	n, err := d.Lookup(ctx, name)
	if err != nil {
		return
	}
	a, err := n.Attr(ctx)
	if err != nil || time.Since(a.CTime) < hiddenAge {
		return
	}
	ino, err := strconv.ParseUint(name[len(hiddenPrefix):len(hiddenPrefix)+16], 16, 64)
	if err != nil {
		return
	}
	if a.Kind != vfs.KindDir && (ino == a.Ino || ino == 0 && a.Size == 0) {
		_ = d.Remove(ctx, name, false) // the next listing tries again
		return
	}
	t.giveName(ctx, d, name, "file")
}

// giveName gives somebody's file, which is under a hidden name, one that is seen.
func (t *Tree) giveName(ctx context.Context, d vfs.Dir, name, was string) {
	to := was + " (saved by sheaf " + name[hiddenLen-16:] + ")"
	if len(to) > vfs.MaxName {
		to = "saved by sheaf " + name[hiddenLen-16:]
	}
	_ = d.Rename(ctx, name, d, to, vfs.RenameNoReplace) // the next listing tries again
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
		if temp != "" && !errors.Is(err, errKept) {
			_ = d.Remove(ctx, temp, false) // if not now, a listing does it
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

// errKept says that what is under the hidden name is somebody's.
var errKept = errors.New("another one is kept")

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
	temp = hiddenName(0)
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
	named := hiddenName(a.Ino)
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
		if err := sameXattrs(ctx, old.node, n); err != nil {
			return temp, was, err
		}
	}
	was, err = n.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetMTime, MTime: it.MTime})
	if err == nil {
		err = n.Sync(ctx)
	}
	return temp, was, err
}

// sameXattrs copies extended attributes; a tree that keeps none has none to copy.
func sameXattrs(ctx context.Context, from, to vfs.Node) error {
	names, err := from.ListXattr(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		v, err := from.Xattr(ctx, name)
		if errors.Is(err, vfs.ErrNoXattr) {
			continue
		}
		if err == nil {
			err = to.SetXattr(ctx, name, v, vfs.XattrAny)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fill copies what r gives, size bytes, or all if size is negative.
func fill(ctx context.Context, h vfs.Handle, r io.Reader, size int64) error {
	if size >= 0 {
		r = blob.Body(ctx, r, size)
	}
	buf := make([]byte, 256<<10)
	for off := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if _, err := h.WriteAt(ctx, buf[:n], off); err != nil {
				return err
			}
			off += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && size < 0 {
			return nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			// ReadFull says so of a short end; the reader itself has said that it is one.
			if _, rerr := r.Read(buf[:1]); rerr != nil && !errors.Is(rerr, io.EOF) {
				return rerr
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
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
		return fmt.Errorf("%w: %w: %w", errKept, remote.ErrChanged, err)
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
	temp := hiddenName(0)
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
