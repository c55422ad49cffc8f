package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

// Drive is a place inside a vfs.FS.
type Drive struct {
	fsys  vfs.FS
	base  string
	claim *Claims
}

// NewDrive returns the place at base of fsys. Claims are shared by all who copy to
// fsys at the same time; a place that is only read needs none.
func NewDrive(fsys vfs.FS, base string, c *Claims) *Drive {
	return &Drive{fsys: fsys, base: strings.Trim(base, "/"), claim: c}
}

// at returns the path of p from the root.
func (d *Drive) at(p string) string { return path.Join(d.base, p) }

// Stat implements Source.
func (d *Drive) Stat(ctx context.Context, p string) (Item, error) {
	n, err := vfs.Walk(ctx, d.fsys, d.at(p))
	if err != nil {
		return Item{}, err
	}
	return itemOf(ctx, n)
}

// itemOf returns what a node is.
func itemOf(ctx context.Context, n vfs.Node) (Item, error) {
	a, err := n.Attr(ctx)
	if err != nil {
		return Item{}, err
	}
	it := Item{
		Kind: a.Kind, Mode: a.Mode, UID: a.UID, GID: a.GID, Rdev: a.Rdev, Size: a.Size,
		ATime: a.ATime, MTime: a.MTime, CTime: a.CTime, Nlink: a.Nlink,
	}
	if a.Kind != vfs.KindDir && a.Nlink > 1 {
		it.Same = Identity{Ino: a.Ino}
	}
	if l, ok := n.(vfs.Link); ok {
		if it.Target, err = l.Target(ctx); err != nil {
			return Item{}, err
		}
	}
	return it, nil
}

// List implements Source.
func (d *Drive) List(ctx context.Context, p string) iter.Seq2[Child, error] {
	return func(yield func(Child, error) bool) {
		dir, err := vfs.WalkDir(ctx, d.fsys, d.at(p))
		if err != nil {
			yield(Child{}, err)
			return
		}
		for e, err := range dir.List(ctx, "") {
			if err != nil {
				yield(Child{}, err)
				return
			}
			n, err := dir.Lookup(ctx, e.Name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone meanwhile
			}
			c := Child{Name: e.Name}
			if err == nil {
				c.Item, err = itemOf(ctx, n)
			}
			if err != nil {
				err = fmt.Errorf("look at %q: %w", path.Join(p, e.Name), err)
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// Open implements Source.
func (d *Drive) Open(ctx context.Context, p string) (Reader, error) {
	n, err := vfs.Walk(ctx, d.fsys, d.at(p))
	if err != nil {
		return nil, err
	}
	f, ok := n.(vfs.File)
	if !ok {
		return nil, fmt.Errorf("open %q: %w", p, vfs.ErrIsDir)
	}
	h, err := f.Open(ctx, vfs.OpenRead)
	if err != nil {
		return nil, err
	}
	return &driveReader{f: f, h: h}, nil
}

// Xattrs implements Source.
func (d *Drive) Xattrs(ctx context.Context, p string) ([]Xattr, error) {
	n, err := vfs.Walk(ctx, d.fsys, d.at(p))
	if err != nil {
		return nil, err
	}
	return xattrsOf(ctx, n)
}

func xattrsOf(ctx context.Context, n vfs.Node) ([]Xattr, error) {
	names, err := n.ListXattr(ctx)
	if err != nil {
		return nil, err
	}
	var x []Xattr
	for _, name := range names {
		v, err := n.Xattr(ctx, name)
		if errors.Is(err, vfs.ErrNoXattr) {
			continue
		}
		if err != nil {
			return nil, err
		}
		x = append(x, Xattr{name, v})
	}
	return x, nil
}

// Make implements Target.
func (d *Drive) Make(ctx context.Context, p string, it Item) error {
	if it.Kind == vfs.KindDir {
		if d.at(p) == "" {
			return nil
		}
		dir, name, err := vfs.WalkParent(ctx, d.fsys, d.at(p))
		if err != nil {
			return err
		}
		_, err = dir.Make(ctx, name, newOf(it))
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		n, err := dir.Lookup(ctx, name)
		if err != nil {
			return err
		}
		if _, ok := n.(vfs.Dir); !ok {
			return fmt.Errorf("make directory %q: %w", p, vfs.ErrNotDir)
		}
		return nil
	}
	return d.replace(ctx, p, func(dir vfs.Dir, name string) error {
		_, err := dir.Make(ctx, name, newOf(it))
		return err
	})
}

// replace lets put make a node under a partial name and then gives it its own.
func (d *Drive) replace(ctx context.Context, p string, put func(dir vfs.Dir, name string) error) error {
	release, err := d.claim.Take(d.at(p))
	if err != nil {
		return err
	}
	defer release()
	dir, name, err := vfs.WalkParent(ctx, d.fsys, d.at(p))
	if err != nil {
		return err
	}
	part := partialName(name)
	err = put(dir, part)
	if errors.Is(err, fs.ErrExist) { // an earlier copy left it
		if err = dir.Remove(ctx, part, false); err == nil {
			err = put(dir, part)
		}
	}
	if err != nil {
		return err
	}
	if err := dir.Rename(ctx, part, dir, name, vfs.RenameReplace); err != nil {
		return errors.Join(err, dir.Remove(context.WithoutCancel(ctx), part, false))
	}
	// Renaming one name of a file over another name of it does nothing, and leaves both.
	if err := dir.Remove(ctx, part, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// newOf returns what makes a node like it.
func newOf(it Item) vfs.New {
	return vfs.New{Kind: it.Kind, Mode: it.Mode, UID: it.UID, GID: it.GID, Rdev: it.Rdev, Target: it.Target}
}

// Link implements Target.
func (d *Drive) Link(ctx context.Context, old, p string) error {
	n, err := vfs.Walk(ctx, d.fsys, d.at(old))
	if err != nil {
		return err
	}
	return d.replace(ctx, p, func(dir vfs.Dir, name string) error { return dir.Link(ctx, name, n) })
}

// Begin implements Target.
func (d *Drive) Begin(ctx context.Context, p string, it Item) (_ Writer, err error) {
	release, err := d.claim.Take(d.at(p))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	dir, name, err := vfs.WalkParent(ctx, d.fsys, d.at(p))
	if err != nil {
		return nil, err
	}
	w := &driveWriter{dir: dir, name: name, release: release}
	w.f, w.h, err = dir.Create(ctx, partialName(name), vfs.New{Kind: vfs.KindFile, Mode: 0o600, UID: it.UID, GID: it.GID}, vfs.OpenRead|vfs.OpenWrite)
	if err == nil {
		return w, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	n, err := dir.Lookup(ctx, partialName(name))
	if err != nil {
		return nil, err
	}
	f, ok := n.(vfs.File)
	if !ok {
		return nil, fmt.Errorf("%q: %w", partialName(name), fs.ErrExist)
	}
	a, err := f.Attr(ctx)
	if err != nil {
		return nil, err
	}
	if w.h, err = f.Open(ctx, vfs.OpenRead|vfs.OpenWrite); err != nil {
		return nil, err
	}
	w.f, w.size = f, a.Size
	return w, nil
}

// SetAttr implements Target.
func (d *Drive) SetAttr(ctx context.Context, p string, it Item, x []Xattr) error {
	n, err := vfs.Walk(ctx, d.fsys, d.at(p))
	if err != nil {
		return err
	}
	return setAttr(ctx, n, it, x)
}

// setAttr gives n the attributes of it, and exactly the extended attributes x.
func setAttr(ctx context.Context, n vfs.Node, it Item, x []Xattr) error {
	have, err := n.ListXattr(ctx)
	if err != nil {
		return err
	}
	for _, name := range have {
		if !slices.ContainsFunc(x, func(x Xattr) bool { return x.Name == name }) {
			if err := n.RemoveXattr(ctx, name); err != nil && !errors.Is(err, vfs.ErrNoXattr) {
				return err
			}
		}
	}
	for _, x := range x {
		if err := n.SetXattr(ctx, x.Name, x.Value, vfs.XattrAny); err != nil {
			return fmt.Errorf("extended attribute %q: %w", x.Name, err)
		}
	}
	c := vfs.AttrChange{
		Set: vfs.SetUID | vfs.SetGID | vfs.SetATime | vfs.SetMTime,
		UID: it.UID, GID: it.GID, ATime: it.ATime, MTime: it.MTime,
	}
	if it.Kind != vfs.KindLink {
		c.Set, c.Mode = c.Set|vfs.SetMode, it.Mode
	}
	_, err = n.SetAttr(ctx, c)
	return err
}

// Rename implements Target.
func (d *Drive) Rename(ctx context.Context, p, name string) error {
	dir, old, err := vfs.WalkParent(ctx, d.fsys, d.at(p))
	if err != nil {
		return err
	}
	return dir.Rename(ctx, old, dir, name, vfs.RenameNoReplace)
}

// Name implements Target.
func (d *Drive) Name(p string) string { return path.Base(d.at(p)) }

// Sync implements Target.
func (d *Drive) Sync(ctx context.Context) error { return d.fsys.Sync(ctx) }

// driveReader is a file of a Drive.
type driveReader struct {
	f vfs.File
	h vfs.Handle
}

func (r *driveReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return r.h.ReadAt(ctx, p, off)
}

func (r *driveReader) Data(ctx context.Context, off int64) (int64, int64, error) {
	from, err := r.h.Seek(ctx, off, vfs.SeekData)
	if errors.Is(err, vfs.ErrNoData) {
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, err
	}
	to, err := r.h.Seek(ctx, from, vfs.SeekHole)
	if errors.Is(err, vfs.ErrNoData) { // it became shorter in between
		return 0, 0, io.EOF
	}
	return from, to, err
}

func (r *driveReader) Stat(ctx context.Context) (Item, error) { return itemOf(ctx, r.f) }

func (r *driveReader) Xattrs(ctx context.Context) ([]Xattr, error) { return xattrsOf(ctx, r.f) }

func (r *driveReader) Close() error { return r.h.Close(context.Background()) }

// driveWriter is a partial file of a Drive.
type driveWriter struct {
	dir     vfs.Dir
	name    string // the later name
	f       vfs.File
	h       vfs.Handle // nil once closed
	size    int64
	release func()
}

func (w *driveWriter) Size() int64 { return w.size }

func (w *driveWriter) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return w.h.ReadAt(ctx, p, off)
}

func (w *driveWriter) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	return w.h.WriteAt(ctx, p, off)
}

func (w *driveWriter) CopyFrom(ctx context.Context, r Reader, off, n int64) (int64, error) {
	dr, ok := r.(*driveReader)
	if !ok {
		return 0, errCannot
	}
	done, err := dr.h.CopyTo(ctx, off, w.h, off, n)
	if errors.Is(err, vfs.ErrCrossTree) {
		return 0, errCannot
	}
	return done, err
}

func (w *driveWriter) Give(ctx context.Context, l *live.Load, s live.Stored) error {
	return l.Give(ctx, w.h, s)
}

func (w *driveWriter) Commit(ctx context.Context, it Item, x []Xattr) error {
	h := w.h
	w.h = nil
	defer w.release()
	err := h.Truncate(ctx, it.Size)
	if e := h.Close(ctx); err == nil {
		err = e
	}
	if err == nil {
		err = setAttr(ctx, w.f, it, x)
	}
	if err != nil {
		return err
	}
	// No Sync of each file: the bytes come before the rename in the drive's journal, and a
	// crash loses only its end. The copier syncs once, after the last file.
	return w.dir.Rename(ctx, partialName(w.name), w.dir, w.name, vfs.RenameReplace)
}

func (w *driveWriter) Close() error {
	if w.h == nil {
		return nil
	}
	h := w.h
	w.h = nil
	defer w.release()
	return h.Close(context.Background())
}
