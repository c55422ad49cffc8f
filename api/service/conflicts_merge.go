package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/lines"
)

// merged makes one of all: of folders, and of two texts.
func (k *keeper) merged(ctx context.Context, d Drive, c sheaf.Conflict) error {
	if slices.ContainsFunc(c.Versions, func(v sheaf.ConflictVersion) bool { return v.Dir }) {
		return k.folders(ctx, c.Versions)
	}
	return k.texts(ctx, d, c)
}

// texts writes the text that has the changes of both under the name of the first, and removes the other version.
func (k *keeper) texts(ctx context.Context, d Drive, c sheaf.Conflict) error {
	vs := c.Versions
	text, err := d.MergeText(ctx, c)
	for _, why := range []error{sheaf.ErrNoText, sheaf.ErrNoCommon, lines.ErrClash, errors.ErrUnsupported} {
		if errors.Is(err, why) {
			return errorf(sheafv1.Code_CODE_DECISION, "sheaf conflict keep PATH --both, or --mine, or --theirs", "the versions of %q cannot be made into one: %w", vs[0].Path, err)
		}
	}
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(ctx, k.fsys, vs[0].Path, []byte(text), vfs.New{Kind: vfs.KindFile, Mode: 0o600}); err != nil { // it is there, and keeps what it has besides
		return err
	}
	if err := d.Commit(ctx); err != nil { // before the other is removed
		return err
	}
	return k.one(ctx, vs, 0)
}

// folders moves what is in the other folders into the first.
func (k *keeper) folders(ctx context.Context, vs []sheaf.ConflictVersion) error {
	if i := slices.IndexFunc(vs, func(v sheaf.ConflictVersion) bool { return !v.Dir }); i >= 0 {
		return errorf(sheafv1.Code_CODE_WRONG_KIND, "sheaf conflict keep PATH --both", "%q is no folder, and another version is one", vs[i].Path)
	}
	for _, v := range vs[1:] {
		if err := k.merge(ctx, v, v.Path, vs[0].Path); err != nil {
			return err
		}
		k.resp.Removed = append(k.resp.Removed, wirepath.Encode(v.Path))
	}
	k.resp.Kept = append(k.resp.Kept, wirepath.Encode(vs[0].Path))
	return nil
}

// merge moves what is in the folder from into the folder to, and removes from. What has a name there already gets
// one that says it is v's, but for folders, which are merged, and files of the same bytes, of which one goes.
func (k *keeper) merge(ctx context.Context, v sheaf.ConflictVersion, from, to string) error {
	n, err := vfs.Walk(ctx, k.fsys, from)
	if err != nil {
		return err
	}
	dir, ok := n.(vfs.Dir)
	if !ok {
		return fmt.Errorf("merge %q: %w", from, vfs.ErrNotDir)
	}
	var names []string
	for e, err := range dir.List(ctx, "") {
		if err != nil {
			return err
		}
		names = append(names, e.Name)
	}
	for _, name := range names {
		if err := k.bring(ctx, v, path.Join(from, name), path.Join(to, name)); err != nil {
			return err
		}
	}
	up, name, err := vfs.WalkParent(ctx, k.fsys, from)
	if err != nil {
		return err
	}
	return up.Remove(ctx, name, true) // something that came meanwhile keeps it, and the next merge takes it
}

// bring moves one thing to a place that may be taken.
func (k *keeper) bring(ctx context.Context, v sheaf.ConflictVersion, from, to string) error {
	err := k.rename(ctx, from, to, vfs.RenameNoReplace)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	mine, err := vfs.Walk(ctx, k.fsys, from)
	if err != nil {
		return err
	}
	theirs, err := vfs.Walk(ctx, k.fsys, to)
	if err != nil {
		return err
	}
	_, isDir := mine.(vfs.Dir)
	if _, both := theirs.(vfs.Dir); both && isDir {
		return k.merge(ctx, v, from, to)
	}
	same, err := sameFile(ctx, mine, theirs)
	if err != nil {
		return err
	}
	if same {
		d, name, err := vfs.WalkParent(ctx, k.fsys, from)
		if err != nil {
			return err
		}
		return d.Remove(ctx, name, false)
	}
	kept, err := k.aside(ctx, from, to, v)
	if err == nil {
		k.resp.Kept = append(k.resp.Kept, wirepath.Encode(kept))
	}
	return err
}

// sameFile reports whether two nodes are files of the same bytes.
func sameFile(ctx context.Context, a, b vfs.Node) (bool, error) {
	var readers [2]vfs.Handle
	for i, n := range []vfs.Node{a, b} {
		f, ok := n.(vfs.File)
		if !ok {
			return false, nil
		}
		h, err := f.Open(ctx, vfs.OpenRead)
		if err != nil {
			return false, err
		}
		defer func() { _ = h.Close(context.WithoutCancel(ctx)) }()
		readers[i] = h
	}
	bufs := [2][]byte{make([]byte, readBlock), make([]byte, readBlock)}
	for off := int64(0); ; off += readBlock {
		var read [2][]byte
		for i, h := range readers {
			n, err := h.ReadAt(ctx, bufs[i], off)
			if err != nil && !errors.Is(err, io.EOF) {
				return false, err
			}
			read[i] = bufs[i][:n]
		}
		if !bytes.Equal(read[0], read[1]) {
			return false, nil
		}
		if len(read[0]) < readBlock {
			return true, nil
		}
	}
}
