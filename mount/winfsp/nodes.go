//go:build (windows && !cgo) || (cgofuse && cgo && (linux || darwin))

package winfsp

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/winfsp/cgofuse/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// The modes that a new node gets on Windows, which has none: Linux is to be able to use it.
const (
	windowsFile vfs.Mode = 0o644
	windowsDir  vfs.Mode = 0o755
)

// newNode says what a new node in a place is to be.
func (a *adapter) newNode(ctx context.Context, p place, kind vfs.Kind, mode uint32) (vfs.New, error) {
	what := vfs.New{Kind: kind, Mode: vfs.Mode(mode) & vfs.ModeMask}
	if !a.windows {
		what.UID, what.GID, _ = fuse.Getcontext()
		return what, nil
	}
	at, err := p.d.Attr(ctx)
	if err != nil {
		return vfs.New{}, err
	}
	what.UID, what.GID = at.UID, at.GID
	switch kind {
	case vfs.KindDir:
		what.Mode = windowsDir
	case vfs.KindLink:
		what.Mode = 0o777
	default:
		what.Mode = windowsFile
	}
	return what, nil
}

// make makes anything but an open file.
func (a *adapter) make(op, path string, kind vfs.Kind, mode uint32, with func(*vfs.New)) (code int) {
	defer caught(a.log, &code)
	if a.readOnly {
		return -fuse.EROFS
	}
	a.hidden.begin("")
	ctx := background()
	p, err := a.place(ctx, path)
	if err != nil {
		return a.code(op, err)
	}
	if p.node != nil {
		return -fuse.EEXIST
	}
	what, err := a.newNode(ctx, p, kind, mode)
	if err != nil {
		return a.code(op, err)
	}
	if with != nil {
		with(&what)
	}
	if _, err := p.d.Make(ctx, p.name, what); err != nil {
		return a.code(op, err)
	}
	a.changed(ctx, p, true)
	return 0
}

// Mkdir makes a directory.
func (a *adapter) Mkdir(path string, mode uint32) int {
	return a.make("mkdir", path, vfs.KindDir, mode, nil)
}

// Mknod makes a FIFO, a socket, a device node or an empty file.
func (a *adapter) Mknod(path string, mode uint32, dev uint64) int {
	kind, err := kindOf(mode)
	if err != nil || kind == vfs.KindDir || kind == vfs.KindLink {
		return -fuse.EINVAL
	}
	return a.make("mknod", path, kind, mode, func(w *vfs.New) {
		if kind == vfs.KindChar || kind == vfs.KindBlock {
			w.Rdev = uint32(dev)
		}
	})
}

// Symlink makes a symbolic link.
func (a *adapter) Symlink(target, path string) int {
	if a.windows {
		var err error
		if target, err = a.target(target, func(shown string) (string, error) {
			name, _, ok := Decode(shown)
			if !ok {
				return "", vfs.ErrName
			}
			return name, nil
		}); err != nil {
			return a.code("symlink", err)
		}
	}
	return a.make("symlink", path, vfs.KindLink, 0o777, func(w *vfs.New) { w.Target = target })
}

// Readlink returns what a symbolic link says.
func (a *adapter) Readlink(path string) (code int, target string) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	ctx := background()
	n, err := a.node(ctx, path)
	if err != nil {
		return a.code("readlink", err), ""
	}
	l, ok := n.(vfs.Link)
	if !ok {
		return -fuse.EINVAL, ""
	}
	if target, err = l.Target(ctx); err != nil {
		return a.code("readlink", err), ""
	}
	if a.windows {
		target, _ = a.target(target, func(name string) (string, error) { return Encode(name), nil })
	}
	return 0, target
}

// target maps each name in what a link says. What "." and ".." mean they mean everywhere.
func (a *adapter) target(target string, name func(string) (string, error)) (string, error) {
	parts := strings.Split(target, "/")
	for i, part := range parts {
		if part == "" || part == "." || part == ".." {
			continue
		}
		var err error
		if parts[i], err = name(part); err != nil {
			return "", err
		}
	}
	return strings.Join(parts, "/"), nil
}

// Link gives a node one more name.
func (a *adapter) Link(oldPath, newPath string) (code int) {
	defer caught(a.log, &code)
	if a.readOnly {
		return -fuse.EROFS
	}
	a.hidden.begin("")
	ctx := background()
	n, err := a.node(ctx, oldPath)
	if err != nil {
		return a.code("link", err)
	}
	p, err := a.place(ctx, newPath)
	if err != nil {
		return a.code("link", err)
	}
	if p.node != nil {
		return -fuse.EEXIST
	}
	if err := p.d.Link(ctx, p.name, n); err != nil {
		return a.code("link", err)
	}
	a.changed(ctx, p, true)
	return 0
}

// Unlink removes a name of anything but a directory.
func (a *adapter) Unlink(path string) (code int) {
	if a.hidden.forget(path) {
		return 0
	}
	return a.remove("unlink", path, false)
}

// Rmdir removes an empty directory.
func (a *adapter) Rmdir(path string) int { return a.remove("rmdir", path, true) }

func (a *adapter) remove(op, path string, dir bool) (code int) {
	defer caught(a.log, &code)
	if a.readOnly {
		return -fuse.EROFS
	}
	a.hidden.begin("")
	ctx := background()
	p, err := a.place(ctx, path)
	if errors.Is(err, fs.ErrExist) {
		return -fuse.EBUSY // the root
	}
	if err != nil {
		return a.code(op, notThere(err))
	}
	if p.node == nil {
		return -fuse.ENOENT
	}
	if d, ok := p.node.(vfs.Dir); ok {
		a.hidden.settleIn(d)
	}
	if err := p.d.Remove(p.expected(ctx), p.name, dir); err != nil {
		return a.code(op, err)
	}
	a.changed(ctx, p, false)
	return 0
}

// expected returns a context with which nothing else than what was found there is removed or moved.
func (p place) expected(ctx context.Context, more ...place) context.Context {
	var what []vfs.Expected
	for _, q := range append(more, p) {
		if q.node != nil {
			what = append(what, vfs.Expected{Dir: q.d, Name: q.name, Node: q.node})
		}
	}
	return vfs.Expect(ctx, what...)
}

// Rename moves a name. What bore the new one is replaced.
func (a *adapter) Rename(oldPath, newPath string) int { return a.Rename3(oldPath, newPath, 0) }

// Rename3 moves a name, or does with what bears the new one as the flags say.
func (a *adapter) Rename3(oldPath, newPath string, flags uint32) (code int) {
	defer caught(a.log, &code)
	if a.readOnly {
		return -fuse.EROFS
	}
	ctx := background()
	var flag vfs.RenameFlag
	switch flags {
	case 0:
		flag = vfs.RenameReplace
	case fuse.RENAME_NOREPLACE:
		flag = vfs.RenameNoReplace
	case fuse.RENAME_EXCHANGE:
		flag = vfs.RenameExchange
	default:
		return -fuse.EINVAL
	}
	doomed := a.hidden.begin(newPath)
	if doomed != nil {
		defer doomed.done()
	}
	from, err := a.place(ctx, oldPath)
	if err == nil && from.node == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return a.code("rename", notThere(err))
	}
	if a.hidden.hide(oldPath, newPath, from, a.opens) {
		return 0
	}
	var to place
	if doomed != nil {
		to = place{d: doomed.d, name: doomed.name}
		if a.windows {
			at, err := to.d.Attr(ctx)
			if err != nil {
				return a.code("rename", err)
			}
			to.mtime = at.MTime
		}
	} else if to, err = a.place(ctx, newPath); err != nil {
		return a.code("rename", err)
	}
	if a.windows && to.node == from.node && to.d == from.d && to.name == from.name {
		// Another case of the same name.
		to.name, _, _ = Decode(newPath[strings.LastIndexByte(newPath, '/')+1:])
		if to.name == from.name {
			return 0
		}
	}
	expect := from.expected(ctx)
	if flag == vfs.RenameExchange {
		expect = from.expected(ctx, to)
	}
	if err := from.d.Rename(expect, from.name, to.d, to.name, flag); err != nil {
		return a.code("rename", err)
	}
	switch {
	case !a.windows || flag == vfs.RenameExchange:
	case from.d == to.d:
		a.index.changed(ctx, to.d, to.mtime, to.name, from.name)
	default:
		a.changed(ctx, from, false)
		a.changed(ctx, to, true)
	}
	return 0
}
