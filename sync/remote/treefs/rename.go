package treefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
	"weak"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/vfs"
)

// Rename implements vfs.Dir.
func (d *dirNode) Rename(ctx context.Context, name string, newDir vfs.Dir, newName string, flag vfs.RenameFlag) error {
	to, ok := newDir.(*dirNode)
	if !ok || to.f != d.f {
		return fmt.Errorf("rename %q: %w", name, vfs.ErrCrossTree)
	}
	if err := d.rename(ctx, name, to, newName, flag); err != nil {
		return fmt.Errorf("rename %q to %q: %w", name, newName, err)
	}
	return nil
}

func (d *dirNode) rename(ctx context.Context, name string, to *dirNode, newName string, flag vfs.RenameFlag) error {
	if err := d.may(ctx); err != nil {
		return err
	}
	if err := vfs.CheckName(newName); err != nil {
		return err
	}
	if flag > vfs.RenameExchange {
		return fs.ErrInvalid
	}
	if flag == vfs.RenameExchange {
		return fmt.Errorf("exchange: %w", errors.ErrUnsupported)
	}
	f := d.f
	f.renaming.Lock()
	defer f.renaming.Unlock()
	n, err := d.find(ctx, name)
	if err != nil {
		return err
	}
	for up := to.node; up != nil; up = up.parent {
		if up == n {
			return fs.ErrInvalid
		}
	}
	target, err := to.find(ctx, newName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		target = nil
	case err != nil:
		return err
	case flag == vfs.RenameNoReplace && (target != n || newName == name && to == d):
		return fs.ErrExist
	case target == n && newName == name && to == d:
		return nil
	case target == n: // the case of a name
		target = nil
	case target.kind == remote.Dir && n.kind != remote.Dir:
		return vfs.ErrIsDir
	case target.kind != remote.Dir && n.kind == remote.Dir:
		return vfs.ErrNotDir
	}
	if _, err := to.where(); err != nil {
		return err
	}
	if target != nil && n.kind == remote.File && target.kind == remote.File {
		if done, err := d.over(ctx, n, to, target); done || err != nil {
			return err
		}
	}
	if err := n.flush(ctx); err != nil { // it has its old name at the place
		return err
	}
	f.mu.Lock()
	from, dest, it, fresh := n.path(), join(to.path(), newName), n.item, n.fresh
	f.mu.Unlock()
	if n.kind == remote.Dir && !f.can.DirMove && !fresh || n.kind != remote.Dir && !f.can.ServerMove {
		return vfs.ErrCrossTree // who asked copies it then
	}
	if target != nil {
		if err := to.remove(ctx, newName, target.kind == remote.Dir); err != nil {
			return err
		}
	}
	if !fresh {
		if it, err = f.t.Move(ctx, from, dest, it.Version); err != nil {
			return d.again(n, err)
		}
	}
	d.moved(n, to, newName, it)
	return nil
}

// overMost is how long a file may be that is put once more, so that what it replaces is replaced in one step.
const overMost = 1 << 20

// over puts a file in the place of another one in one step, as who saves a file by a new one wants it: what is not put yet goes there at once, and a short
// file is put again. It reports whether it did.
func (d *dirNode) over(ctx context.Context, n *node, to *dirNode, target *node) (bool, error) {
	f := d.f
	w := &n.work
	w.mu.Lock()
	defer w.mu.Unlock()
	f.mu.Lock()
	from, dest, it, old, fresh, targetFresh, dirty := n.path(), target.path(), n.item, target.item, n.fresh, target.fresh, f.dirty[n]
	f.mu.Unlock()
	if targetFresh || !dirty && it.Size > overMost || w.f == nil && it.Version == "" {
		return false, nil
	}
	target.work.mu.Lock()
	err := target.keep(ctx)
	target.work.mu.Unlock()
	if err != nil {
		return true, err
	}
	if w.f == nil {
		if err := n.fetch(ctx); err != nil {
			return true, failed(err)
		}
	}
	put := remote.Item{Path: dest, Kind: remote.File, Size: w.length, MTime: it.MTime, Mode: it.Mode}
	if dirty {
		if put.MTime = w.written; !w.mtime.IsZero() {
			put.MTime = w.mtime
		}
	}
	done, err := f.t.Put(ctx, put, w.body(), old.Version)
	if err != nil {
		return true, to.again(target, err)
	}
	if !fresh {
		if err := f.t.Remove(ctx, from, it.Version); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.o.Log.Warn("a file that was renamed over another one is there under its old name, too", "path", from, "err", err)
		}
	}
	name := target.name
	target.drop()
	d.moved(n, to, name, done)
	n.put(done)
	if w.writers == 0 {
		w.end()
	}
	return true, nil
}

// moved gives a node its new name.
func (d *dirNode) moved(n *node, to *dirNode, newName string, it remote.Item) {
	f, name := d.f, n.name
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unlist(d.node)
	f.unlist(to.node)
	delete(d.kids, name)
	if d.held[name] == n {
		delete(d.held, name)
		if to.held == nil {
			to.held = map[string]*node{}
		}
		to.held[newName] = n
	}
	n.parent, n.name, n.item, n.seen = to.node, newName, it, time.Now()
	f.relist(n)
	if to.kids == nil {
		to.kids = map[string]weak.Pointer[node]{}
	}
	to.kids[newName] = weak.Make(n)
}

// relist forgets the listings at and below a directory that has moved: they have the old paths. f.mu is held.
func (f *FS) relist(n *node) {
	f.unlist(n)
	for _, w := range n.kids {
		if k := w.Value(); k != nil {
			f.relist(k)
		}
	}
}
