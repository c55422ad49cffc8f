package webdav

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/sheaf-drive/sheaf/vfs"
)

// mkcol makes a folder.
func (x *request) mkcol() error {
	if n, _ := io.ReadFull(x.r.Body, make([]byte, 1)); n > 0 {
		return refuse(http.StatusUnsupportedMediaType, "a folder is made without a body")
	}
	end, err := x.t.stepping(x.ctx)
	if err != nil {
		return err
	}
	defer end()
	s, err := x.find(x.ctx, x.path)
	if err != nil {
		return err
	}
	if s.node != nil || s.odd || s.dir == nil {
		return refuse(http.StatusMethodNotAllowed, "something is there already")
	}
	if err := x.allowed(s, x.touched(s)...); err != nil {
		return err
	}
	if s.litter {
		x.t.litter.room(x.ctx)
	}
	n, err := s.dir.Make(x.ctx, s.name, x.t.owned(vfs.KindDir, dirMode))
	if err != nil {
		return err
	}
	if err := n.Sync(context.WithoutCancel(x.ctx)); err != nil {
		return err
	}
	x.done(true)
	return nil
}

// delete removes a file, or a folder with all that is in it.
func (x *request) delete() error {
	if d, err := depth(x.r, -1); err != nil || d >= 0 {
		if s, _ := x.find(x.ctx, x.path); err != nil || s.isDir() {
			return refuse(http.StatusBadRequest, "a folder goes with all that is in it: Depth is infinity")
		}
	}
	s, leave, err := x.deleting()
	if err != nil {
		return err
	}
	defer leave()
	// What is below may be much, so this is no step. Nobody locks it meanwhile, and what is made in it meanwhile is an error.
	after := context.WithoutCancel(x.ctx)
	if s.litter {
		err = vfs.RemoveAllOf(after, s.dir, s.name)
	} else {
		err = vfs.RemoveAllOf(x.ctx, s.dir, s.name)
	}
	if err != nil {
		return err
	}
	if s.isDir() {
		x.t.litter.forget(after, s.path)
	}
	if x.t.locks.gone(s.path) {
		if err := x.t.locks.save(after); err != nil {
			return err
		}
	}
	if err := s.dir.Sync(after); err != nil {
		return err
	}
	x.done(false)
	return nil
}

// deleting looks whether what is asked for may be removed, and keeps new locks off until leave is called.
func (x *request) deleting() (s spot, leave func(), err error) {
	end, err := x.t.stepping(x.ctx)
	if err != nil {
		return spot{}, nil, err
	}
	defer end()
	s, err = x.find(x.ctx, x.path)
	switch {
	case errors.Is(err, errNoParent), err == nil && s.node == nil:
		return spot{}, nil, fs.ErrNotExist
	case err != nil:
		return spot{}, nil, err
	case s.dir == nil || s.path == x.root:
		return spot{}, nil, refuse(http.StatusForbidden, "the root stays")
	}
	if err := x.allowed(s, touch{path: s.path, tree: true}, touch{path: parentOf(s.path)}); err != nil {
		return spot{}, nil, err
	}
	return s, x.t.locks.keepOff(s.path), nil
}

// A trip is a COPY or a MOVE.
type trip struct {
	from, to  spot
	overwrite bool
	depth     int
}

// destination reads where a COPY or MOVE is to lead.
func (x *request) destination() (string, error) {
	v := x.r.Header.Get("Destination")
	u, err := url.Parse(v)
	if v == "" || err != nil || u.Fragment != "" || u.Opaque != "" {
		return "", refuse(http.StatusBadRequest, "Destination is the URL to which it is to go")
	}
	if u.Host != "" && !strings.EqualFold(u.Host, x.r.Host) || u.Host == "" && !strings.HasPrefix(u.Path, "/") {
		return "", refuse(http.StatusBadGateway, "it cannot go to another server")
	}
	return x.under(u)
}

// trip reads what a COPY or MOVE says, and looks whether it may be done.
func (x *request) trip(move bool) (*trip, error) {
	p := &trip{}
	dest, err := x.destination()
	if err != nil {
		return nil, err
	}
	switch x.r.Header.Get("Overwrite") {
	case "", "T", "t":
		p.overwrite = true
	case "F", "f":
	default:
		return nil, refuse(http.StatusBadRequest, "Overwrite is T or F")
	}
	if p.depth, err = depth(x.r, -1); err != nil {
		return nil, err
	}
	if p.depth == 1 || move && p.depth == 0 {
		return nil, refuse(http.StatusBadRequest, "Depth is infinity here")
	}
	return p, x.check(p, dest, move)
}

// check looks where a trip leads now, and whether it may be made.
func (x *request) check(p *trip, dest string, move bool) error {
	from, err := x.find(x.ctx, x.path)
	switch {
	case errors.Is(err, errNoParent), err == nil && from.node == nil:
		return fs.ErrNotExist
	case err != nil:
		return err
	case from.dir == nil || from.path == x.root:
		return refuse(http.StatusForbidden, "the root stays where it is")
	}
	to, err := x.find(x.ctx, dest)
	if err != nil {
		return err
	}
	switch {
	case vfs.Within(from.path, to.path) || vfs.Within(to.path, from.path):
		return refuse(http.StatusForbidden, "a folder cannot go into itself, nor take the place of what it lies in")
	case to.odd:
		return refuse(http.StatusForbidden, "a link or a device is there, which is not touched")
	case to.litter && !from.litter:
		return refuse(http.StatusForbidden, "what bears that name is not kept")
	case to.node != nil && !p.overwrite:
		return refuse(http.StatusPreconditionFailed, "something is there already")
	}
	want := []touch{{path: to.path, tree: true}}
	if to.node == nil {
		want = append(want, touch{path: parentOf(to.path)})
	}
	if move {
		want = append(want, touch{path: from.path, tree: true}, touch{path: parentOf(from.path)})
	}
	p.from, p.to = from, to
	return x.allowed(from, want...)
}

// move gives something another name, in one step.
func (x *request) move() error {
	p, err := x.trip(true)
	if err != nil {
		return err
	}
	if p.from.litter != p.to.litter {
		return x.moveOut(p)
	}
	tidy, err := x.moveStep(p)
	if err != nil {
		return err
	}
	return x.arrived(p, tidy)
}

func (x *request) moveStep(p *trip) (tidy func(), err error) {
	end, err := x.t.stepping(x.ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := x.check(p, p.to.path, true); err != nil {
		return nil, err
	}
	if tidy, err = x.place(p.from.dir, p.from.name, p.from.isDir(), p.to); err != nil {
		return nil, err
	}
	x.t.locks.gone(p.from.path)
	if p.from.isDir() {
		x.t.litter.moved(p.from.path, p.to.path)
	}
	return tidy, nil
}

// moveOut moves a file out of the litter, which is another tree.
func (x *request) moveOut(p *trip) error {
	if err := x.copyBy(p, true); err != nil {
		return err
	}
	after := context.WithoutCancel(x.ctx)
	x.t.locks.gone(p.from.path)
	if err := vfs.RemoveAllOf(after, p.from.dir, p.from.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return x.arrived(p, func() {})
}

// arrived ends a trip, and answers.
func (x *request) arrived(p *trip, tidy func()) error {
	tidy()
	after := context.WithoutCancel(x.ctx)
	if err := x.t.locks.save(after); err != nil {
		return err
	}
	if err := x.t.fsys.Sync(after); err != nil { // it concerns two folders
		return err
	}
	x.done(p.to.node == nil)
	return nil
}

// place gives what is at name in d the place of to, whatever is there. It is one rename, or, where a folder is in the way, that one is set aside
// before; tidy removes it. The step is held.
func (x *request) place(d vfs.Dir, name string, isDir bool, to spot) (tidy func(), err error) {
	if to.node == nil {
		return func() {}, d.Rename(x.ctx, name, to.dir, to.name, vfs.RenameNoReplace)
	}
	if !isDir && !to.isDir() { // whoever locked its URL sent the token, and keeps the lock
		return func() {}, d.Rename(x.ctx, name, to.dir, to.name, vfs.RenameReplace)
	}
	shop, aside, done, err := x.t.workshop(x.ctx, to)
	if err != nil {
		return nil, err
	}
	if err := to.dir.Rename(x.ctx, to.name, shop, aside, vfs.RenameNoReplace); err != nil {
		done()
		return nil, err
	}
	after := context.WithoutCancel(x.ctx)
	if err := d.Rename(after, name, to.dir, to.name, vfs.RenameNoReplace); err != nil {
		defer done()
		return nil, errors.Join(err, shop.Rename(after, aside, to.dir, to.name, vfs.RenameNoReplace))
	}
	x.t.locks.gone(to.path)
	x.t.litter.forget(after, to.path)
	return func() {
		defer done()
		if err := vfs.RemoveAllOf(after, shop, aside); err != nil {
			x.t.o.Log.Warn("what was replaced stays until the next start", "error", err)
		}
	}, nil
}

// copy copies a file or a folder. It is made beside its place, and takes it in one step.
func (x *request) copy() error {
	p, err := x.trip(false)
	if err != nil {
		return err
	}
	if err := x.copyBy(p, false); err != nil {
		return err
	}
	return x.arrived(p, func() {})
}

// copyBy copies from one end of a trip to the other. With move, it is a part of a MOVE.
func (x *request) copyBy(p *trip, move bool) error {
	if p.to.litter {
		x.t.litter.room(x.ctx)
	}
	shop, name, done, err := x.t.workshop(x.ctx, p.to)
	if err != nil {
		return err
	}
	defer done()
	after := context.WithoutCancel(x.ctx)
	sweep := func(err error) error {
		if e := vfs.RemoveAllOf(after, shop, name); e != nil && !errors.Is(e, fs.ErrNotExist) {
			x.t.o.Log.Warn("what was left of a copy stays until the next start", "error", e)
		}
		return err
	}
	if err := x.t.clone(x.ctx, p.from.node, shop, name, p.depth != 0, p.from.litter != p.to.litter); err != nil {
		return sweep(err)
	}
	tidy, err := x.copyStep(p, shop, name, move)
	if err != nil {
		return sweep(err)
	}
	tidy()
	return nil
}

func (x *request) copyStep(p *trip, shop vfs.Dir, name string, move bool) (tidy func(), err error) {
	end, err := x.t.stepping(x.ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := x.check(p, p.to.path, move); err != nil {
		return nil, err
	}
	return x.place(shop, name, p.from.isDir(), p.to)
}

// clone makes a copy of n in d. With deep, it has all that is in n. Of a file stored chunks are shared, unless the copy is in another tree.
func (t *Tree) clone(ctx context.Context, n vfs.Node, d vfs.Dir, name string, deep, other bool) error {
	a, err := n.Attr(ctx)
	if err != nil {
		return err
	}
	what := vfs.New{Kind: a.Kind, Mode: a.Mode, UID: a.UID, GID: a.GID, Rdev: a.Rdev}
	switch n := n.(type) {
	case vfs.File:
		f, to, err := d.Create(ctx, name, what, vfs.OpenWrite)
		if err != nil {
			return err
		}
		err = copyBytes(ctx, n, to, a.Size, other)
		if e := to.Close(context.WithoutCancel(ctx)); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
		return copyAttrs(ctx, f, n)
	case vfs.Link:
		if what.Target, err = n.Target(ctx); err != nil {
			return err
		}
	}
	made, err := d.Make(ctx, name, what)
	if err != nil {
		return err
	}
	from, ok := n.(vfs.Dir)
	if ok && deep {
		for e, err := range from.List(ctx, "") {
			if err != nil {
				return err
			}
			c, err := from.Lookup(ctx, e.Name)
			if err == nil {
				err = t.clone(ctx, c, made.(vfs.Dir), e.Name, true, other)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return copyAttrs(ctx, made, n)
}

// copyBytes copies the content of a file.
func copyBytes(ctx context.Context, from vfs.File, to vfs.Handle, size int64, other bool) (err error) {
	h, err := from.Open(ctx, vfs.OpenRead)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close(context.WithoutCancel(ctx))) }()
	if other {
		_, err := receive(ctx, to, &content{ctx: ctx, h: h, size: size})
		return err
	}
	for off := int64(0); off < size; {
		n, err := h.CopyTo(ctx, off, to, off, size-off)
		if err != nil {
			return err
		}
		if n == 0 { // it became shorter meanwhile
			return nil
		}
		off += n
	}
	return nil
}
