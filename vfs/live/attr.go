package live

import (
	"context"
	"io/fs"
	"slices"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// setAttr is vfs.Node.SetAttr.
func (f *FS) setAttr(ctx context.Context, n *node, ch vfs.AttrChange) (vfs.Attr, error) {
	if ch.Set&vfs.SetSize != 0 {
		switch {
		case n.kind == vfs.KindDir:
			return vfs.Attr{}, vfs.ErrIsDir
		case n.kind != vfs.KindFile || ch.Size < 0:
			return vfs.Attr{}, fs.ErrInvalid
		}
	}
	var a vfs.Attr
	err := f.change1(ctx, n, func() error {
		if ch.Set != 0 {
			ch.Mode &= vfs.ModeMask
			now := f.o.Now()
			if ch.Set&vfs.SetCTime == 0 {
				ch.Set, ch.CTime = ch.Set|vfs.SetCTime, now
			}
			if ch.Set&(vfs.SetSize|vfs.SetMTime) == vfs.SetSize {
				ch.Set, ch.MTime = ch.Set|vfs.SetMTime, now
			}
			if err := f.say(n, recSetAttr, &change{attr: ch}); err != nil {
				return err
			}
			n.applyAttr(ch)
			f.mark(n)
		}
		a = n.stat()
		return nil
	})
	return a, err
}

func (n *node) applyAttr(ch vfs.AttrChange) {
	if ch.Set&vfs.SetSize != 0 {
		n.applySize(ch.Size, ch.CTime)
	}
	if ch.Set&vfs.SetMode != 0 {
		n.attr.mode = ch.Mode
	}
	if ch.Set&vfs.SetUID != 0 {
		n.attr.uid = ch.UID
	}
	if ch.Set&vfs.SetGID != 0 {
		n.attr.gid = ch.GID
	}
	if ch.Set&vfs.SetMTime != 0 {
		n.attr.set(mtime, ch.MTime)
	}
	if ch.Set&vfs.SetATime != 0 {
		n.attr.set(atime, ch.ATime)
	}
	n.attr.set(ctime, ch.CTime)
	n.attr.changed = n.attr.changed || ch.Set&(vfs.SetMode|vfs.SetUID|vfs.SetGID) != 0
}

func (n *node) findXattr(as string) (int, bool) {
	return slices.BinarySearchFunc(n.xattrs(), as, func(x manifest.Xattr, as string) int {
		switch {
		case x.Name < as:
			return -1
		case x.Name > as:
			return 1
		}
		return 0
	})
}

// setXattr is vfs.Node.SetXattr.
func (f *FS) setXattr(ctx context.Context, n *node, as string, value []byte, flag vfs.XattrFlag) error {
	if err := vfs.CheckXattrName(as); err != nil {
		return err
	}
	if len(value) > vfs.MaxXattrValue {
		return vfs.ErrRange
	}
	if flag > vfs.XattrReplace {
		return fs.ErrInvalid
	}
	return f.change1(ctx, n, func() error {
		i, have := n.findXattr(as)
		switch {
		case have && flag == vfs.XattrCreate:
			return fs.ErrExist
		case !have && flag == vfs.XattrReplace:
			return vfs.ErrNoXattr
		}
		total := len(as) + len(value)
		for k, x := range n.xattrs() {
			if !have || k != i {
				total += len(x.Name) + len(x.Value)
			}
		}
		if total > vfs.MaxXattrTotal {
			return vfs.ErrNoSpace
		}
		c := &change{name: as, value: value, time: f.o.Now()}
		if err := f.say(n, recSetXattr, c); err != nil {
			return err
		}
		n.applySetXattr(c)
		f.mark(n)
		return nil
	})
}

// The list of extended attributes is never changed in place: a commit may be reading it.
func (n *node) applySetXattr(c *change) {
	i, have := n.findXattr(c.name)
	all := slices.Clone(n.xattrs())
	x := manifest.Xattr{Name: c.name, Value: slices.Clone(c.value)}
	if have {
		all[i] = x
	} else {
		all = slices.Insert(all, i, x)
	}
	n.setXattrs(all, c.time)
}

// removeXattr is vfs.Node.RemoveXattr.
func (f *FS) removeXattr(ctx context.Context, n *node, as string) error {
	if err := vfs.CheckXattrName(as); err != nil {
		return err
	}
	return f.change1(ctx, n, func() error {
		if _, have := n.findXattr(as); !have {
			return vfs.ErrNoXattr
		}
		c := &change{name: as, time: f.o.Now()}
		if err := f.say(n, recRemoveXattr, c); err != nil {
			return err
		}
		n.applyRemoveXattr(c)
		f.mark(n)
		return nil
	})
}

func (n *node) applyRemoveXattr(c *change) {
	if i, have := n.findXattr(c.name); have {
		n.setXattrs(slices.Delete(slices.Clone(n.xattrs()), i, i+1), c.time)
	}
}
