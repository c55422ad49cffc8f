package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/sheaf-drive/sheaf/vfs"
)

// change does something in the tree of d.
func (d *device) change() (what string, err error) {
	w := d.w
	if d.held != nil && w.rng.IntN(3) == 0 {
		what, err = d.writeHeld()
	} else {
		what, err = d.act()
	}
	if err == nil && w.rng.IntN(3) > 0 {
		if err = d.fsys.Sync(w.ctx); err == nil {
			d.synced()
			what += " and syncs"
		}
	}
	for _, usual := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrInvalid, vfs.ErrNotDir, vfs.ErrIsDir, vfs.ErrNotEmpty} {
		if errors.Is(err, usual) {
			return what + ": not so", nil
		}
	}
	return what, err
}

var dirs = []string{"", "", "a", "b", "a/c", "d"}

func (d *device) path() string {
	return path.Join(dirs[d.w.rng.IntN(len(dirs))], fmt.Sprint("f", d.w.rng.IntN(3)))
}

func (d *device) dirPath() string { return dirs[2+d.w.rng.IntN(len(dirs)-2)] }

func (d *device) act() (string, error) {
	w := d.w
	switch n := w.rng.IntN(24); {
	case n < 7:
		p := d.path()
		return "write " + p, d.write(p)
	case n < 9:
		p := d.path()
		return "append " + p, d.append(p)
	case n < 11:
		p := d.path()
		return "remove " + p, d.remove(p)
	case n < 14:
		from, to := d.path(), d.path()
		return "rename " + from + " " + to, d.rename(from, to)
	case n < 16:
		from, to := d.dirPath(), d.dirPath()
		if w.rng.IntN(3) == 0 {
			to = path.Join(d.dirPath(), path.Base(from))
		}
		return "rename folder " + from + " " + to, d.rename(from, to)
	case n < 18:
		p := d.dirPath()
		_, err := vfs.MkdirAll(w.ctx, d.fsys, p, vfs.New{Kind: vfs.KindDir, Mode: 0o755})
		return "make folder " + p, err
	case n < 19:
		p := d.dirPath()
		return "remove folder " + p, d.removeAll(p)
	case n < 20:
		from, to := d.path(), d.path()
		return "link " + from + " " + to, d.link(from, to)
	case n < 21:
		p := d.path()
		return "chmod " + p, d.chmod(p)
	case n < 22:
		p := d.path()
		return "hold " + p, d.hold(p)
	case n < 23:
		from, to := d.path(), d.path()
		return "clone " + from + " " + to, d.clone(from, to)
	default:
		p := d.dirPath()
		dir, name, err := vfs.WalkParent(w.ctx, d.fsys, p+"/l")
		if err == nil {
			_, err = dir.Make(w.ctx, name, vfs.New{Kind: vfs.KindLink, Target: fmt.Sprint("to", w.rng.IntN(3))})
		}
		return "symlink in " + p, err
	}
}

// content reads a file, which may not be there.
func (d *device) content(p string) (f vfs.File, content string, err error) {
	n, err := vfs.Walk(d.w.ctx, d.fsys, p)
	if err != nil {
		return nil, "", err
	}
	f, ok := n.(vfs.File)
	if !ok {
		return nil, "", vfs.ErrIsDir
	}
	content, err = d.peek(f)
	if err == nil && !d.w.known[content] {
		err = fmt.Errorf("%w: %q has %d bytes: %.80q", errWrong, p, len(content), content)
	}
	return f, content, err
}

// peek reads a file. Of one with several names, to end one of them does not end what is in it.
func (d *device) peek(f vfs.File) (string, error) {
	b, err := readNode(d.w.ctx, f)
	if err != nil {
		return "", err
	}
	if a, err := f.Attr(d.w.ctx); err != nil || a.Nlink > 1 {
		d.carries(b)
	}
	return b, nil
}

// fresh returns bytes that are to be written, with a word in them; or some that were written before, without one.
func (d *device) fresh(before string) (string, *word) {
	w := d.w
	if before == "" && w.rng.IntN(3) == 0 {
		return w.pool[w.rng.IntN(len(w.pool))], nil
	}
	x := d.newWord()
	s := before + x.text
	if w.rng.IntN(6) == 0 {
		s += strings.Repeat("x", w.rng.IntN(20<<10))
	}
	w.known[s] = true
	return s, x
}

func (d *device) note(x *word) {
	if x != nil {
		d.wrote(x)
	}
}

func (d *device) write(p string) error {
	w := d.w
	_, old, err := d.content(p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s, x := d.fresh("")
	d.ends(old)
	if dir := path.Dir(p); dir != "." && w.rng.IntN(2) == 0 {
		if _, err := vfs.MkdirAll(w.ctx, d.fsys, dir, vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := vfs.WriteFile(d.w.ctx, d.fsys, p, []byte(s), vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
		return err
	}
	d.note(x)
	return nil
}

func (d *device) append(p string) error {
	f, old, err := d.content(p)
	if err != nil {
		return err
	}
	h, err := f.Open(d.w.ctx, vfs.OpenWrite)
	if err != nil {
		return err
	}
	s, x := d.fresh(old + "+")
	d.carries(old)
	_, err = h.WriteAt(d.w.ctx, []byte(s[len(old):]), int64(len(old)))
	if err == nil {
		d.note(x)
	}
	return errors.Join(err, h.Close(d.w.ctx))
}

func (d *device) remove(p string) error {
	_, old, err := d.content(p)
	if err != nil {
		return err
	}
	dir, name, err := vfs.WalkParent(d.w.ctx, d.fsys, p)
	if err != nil {
		return err
	}
	d.ends(old)
	return dir.Remove(d.w.ctx, name, false)
}

func (d *device) rename(from, to string) error {
	for i, p := range []string{from, to} {
		_, old, err := d.content(p)
		if errors.Is(err, vfs.ErrIsDir) {
			d.carriesAll(p)
			continue
		}
		if i == 1 && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if d.carries(old); i == 1 && from != to {
			d.ends(old)
		}
	}
	a, name, err := vfs.WalkParent(d.w.ctx, d.fsys, from)
	if err != nil {
		return err
	}
	b, newName, err := vfs.WalkParent(d.w.ctx, d.fsys, to)
	if err != nil {
		return err
	}
	return a.Rename(d.w.ctx, name, b, newName, vfs.RenameReplace)
}

// below calls fn with the bytes of each file below a folder.
func (d *device) below(p string, fn func(string)) error {
	dir, err := vfs.WalkDir(d.w.ctx, d.fsys, p)
	if err != nil {
		return err
	}
	for e, err := range vfs.Tree(d.w.ctx, dir) {
		if err != nil {
			return err
		}
		if f, ok := e.Node.(vfs.File); ok {
			b, err := d.peek(f)
			if err != nil {
				return err
			}
			fn(b)
		}
	}
	return nil
}

func (d *device) carriesAll(p string) { _ = d.below(p, d.carries) } // what cannot be read is not carried by reading it

func (d *device) removeAll(p string) error {
	if err := d.below(p, d.ends); err != nil {
		return err
	}
	return vfs.RemoveAll(d.w.ctx, d.fsys, p)
}

func (d *device) link(from, to string) error {
	f, old, err := d.content(from)
	if err != nil {
		return err
	}
	dir, name, err := vfs.WalkParent(d.w.ctx, d.fsys, to)
	if err != nil {
		return err
	}
	d.carries(old)
	return dir.Link(d.w.ctx, name, f)
}

func (d *device) chmod(p string) error {
	f, old, err := d.content(p)
	if err != nil {
		return err
	}
	d.carries(old)
	_, err = f.SetAttr(d.w.ctx, vfs.AttrChange{Set: vfs.SetMode, Mode: vfs.Mode(0o600 + d.w.rng.IntN(64))})
	return err
}

func (d *device) hold(p string) error {
	d.drop()
	f, old, err := d.content(p)
	if err != nil {
		return err
	}
	d.carries(old)
	h, err := f.Open(d.w.ctx, vfs.OpenRead|vfs.OpenWrite)
	if err == nil {
		d.held = &held{f, h}
	}
	return err
}

func (d *device) writeHeld() (string, error) {
	if d.w.rng.IntN(4) == 0 {
		d.drop()
		return "let go", nil
	}
	old, err := readHandle(d.w.ctx, d.held.f, d.held.h)
	if err != nil {
		return "read what is held", err
	}
	s, x := d.fresh(old + "+")
	d.carries(old)
	if _, err := d.held.h.WriteAt(d.w.ctx, []byte(s[len(old):]), int64(len(old))); err != nil {
		return "write to what is held", err
	}
	d.note(x)
	if a, err := d.held.f.Attr(d.w.ctx); err != nil || a.Nlink == 0 {
		d.ends(s) // it has no name any more
	}
	return "write to what is held", nil
}

func (d *device) clone(from, to string) error {
	_, old, err := d.content(from)
	if err != nil {
		return err
	}
	if from == to {
		return nil
	}
	_, gone, err := d.content(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.carries(old)
	d.ends(gone)
	if err := vfs.WriteFile(d.w.ctx, d.fsys, to, nil, vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
		return err
	}
	src, err := vfs.OpenPath(d.w.ctx, d.fsys, from, vfs.OpenRead)
	if err != nil {
		return err
	}
	dst, err := vfs.OpenPath(d.w.ctx, d.fsys, to, vfs.OpenWrite)
	if err != nil {
		return errors.Join(err, src.Close(d.w.ctx))
	}
	_, err = src.CopyTo(d.w.ctx, 0, dst, 0, 1<<40)
	return errors.Join(err, src.Close(d.w.ctx), dst.Close(d.w.ctx))
}
