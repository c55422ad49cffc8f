package memfs

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/sheaf-drive/sheaf/vfs"
)

// node is any node of this package: *dir, *file, *link or *special.
type node interface {
	vfs.Node
	base() *inode
}

// inode is what all nodes have in common. fs.mu guards it.
type inode struct {
	fs    *FS
	attr  vfs.Attr // Bytes is filled in when asked for; the rest is true at all times
	xattr map[string][]byte
}

// link is a symbolic link. Its target never changes.
type link struct {
	inode
	target string
}

// special is a FIFO, a socket or a device.
type special struct{ inode }

func (n *inode) base() *inode { return n }

// Target returns what the link says.
func (l *link) Target(ctx context.Context) (string, error) { return l.target, ctx.Err() }

// Attr returns what is known of the node.
func (n *inode) Attr(ctx context.Context) (vfs.Attr, error) {
	if err := ctx.Err(); err != nil {
		return vfs.Attr{}, err
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	return n.attr, nil
}

// SetAttr changes the attributes that are set in c. A file has its own, which
// knows SetSize.
func (n *inode) SetAttr(ctx context.Context, c vfs.AttrChange) (vfs.Attr, error) {
	if err := n.fs.begin(ctx); err != nil {
		return vfs.Attr{}, err
	}
	defer n.fs.mu.Unlock()
	if c.Set&vfs.SetSize != 0 {
		err := fs.ErrInvalid
		if n.attr.Kind == vfs.KindDir {
			err = vfs.ErrIsDir
		}
		return vfs.Attr{}, fmt.Errorf("set size: %w", err)
	}
	n.change(c)
	return n.attr, nil
}

// change sets all but the size. Changing nothing leaves CTime alone.
func (n *inode) change(c vfs.AttrChange) {
	if c.Set == 0 {
		return
	}
	n.attr.CTime = n.fs.now()
	if c.Set&vfs.SetMode != 0 {
		n.attr.Mode = c.Mode & vfs.ModeMask
	}
	if c.Set&vfs.SetUID != 0 {
		n.attr.UID = c.UID
	}
	if c.Set&vfs.SetGID != 0 {
		n.attr.GID = c.GID
	}
	if c.Set&vfs.SetATime != 0 {
		n.attr.ATime = c.ATime
	}
	if c.Set&vfs.SetMTime != 0 {
		n.attr.MTime = c.MTime
	}
	if c.Set&vfs.SetCTime != 0 {
		n.attr.CTime = c.CTime
	}
}

// touch notes that the content changed just now: MTime and CTime.
func (n *inode) touch() {
	n.attr.MTime = n.fs.now()
	n.attr.CTime = n.attr.MTime
}

// Sync does nothing.
func (n *inode) Sync(ctx context.Context) error { return ctx.Err() }

// Xattr returns the value of one extended attribute.
func (n *inode) Xattr(ctx context.Context, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := vfs.CheckXattrName(name); err != nil {
		return nil, err
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	v, ok := n.xattr[name]
	if !ok {
		return nil, fmt.Errorf("get xattr %q: %w", name, vfs.ErrNoXattr)
	}
	return append([]byte{}, v...), nil
}

// SetXattr sets one extended attribute.
func (n *inode) SetXattr(ctx context.Context, name string, value []byte, flag vfs.XattrFlag) error {
	if err := n.fs.begin(ctx); err != nil {
		return err
	}
	defer n.fs.mu.Unlock()
	if err := n.checkXattr(name, value, flag); err != nil {
		return fmt.Errorf("set xattr %.64q: %w", name, err)
	}
	if n.xattr == nil {
		n.xattr = make(map[string][]byte)
	}
	n.xattr[name] = append([]byte{}, value...)
	n.attr.CTime = n.fs.now()
	return nil
}

// checkXattr says why name must not get that value.
func (n *inode) checkXattr(name string, value []byte, flag vfs.XattrFlag) error {
	if err := vfs.CheckXattrName(name); err != nil {
		return err
	}
	if len(value) > vfs.MaxXattrValue {
		return vfs.ErrRange
	}
	_, there := n.xattr[name]
	switch {
	case flag > vfs.XattrReplace:
		return fs.ErrInvalid
	case flag == vfs.XattrCreate && there:
		return fs.ErrExist
	case flag == vfs.XattrReplace && !there:
		return vfs.ErrNoXattr
	}
	total := len(name) + len(value)
	for k, v := range n.xattr {
		if k != name {
			total += len(k) + len(v)
		}
	}
	if total > vfs.MaxXattrTotal {
		return vfs.ErrNoSpace
	}
	return nil
}

// ListXattr returns the names of the extended attributes, sorted.
func (n *inode) ListXattr(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	return slices.Sorted(maps.Keys(n.xattr)), nil
}

// RemoveXattr removes one extended attribute.
func (n *inode) RemoveXattr(ctx context.Context, name string) error {
	if err := n.fs.begin(ctx); err != nil {
		return err
	}
	defer n.fs.mu.Unlock()
	if err := vfs.CheckXattrName(name); err != nil {
		return err
	}
	if _, ok := n.xattr[name]; !ok {
		return fmt.Errorf("remove xattr %q: %w", name, vfs.ErrNoXattr)
	}
	delete(n.xattr, name)
	n.attr.CTime = n.fs.now()
	return nil
}
