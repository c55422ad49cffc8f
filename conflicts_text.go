package sheaf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/lines"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// maxText is how long a version may be that MergeText reads, in bytes.
const maxText = 16 << 20

// Why two versions are not made into one.
var (
	ErrNoText   = errors.New("it is no text")
	ErrNoCommon = errors.New("no version that both come from is known here any more")
)

// MergeText returns the text that has what each of the two versions of a conflict has changed in the text that both come from. It changes nothing. Whole lines are compared;
// where both have changed the same ones, or such as touch, in different ways, the error wraps lines.ErrClash, for what is meant only those know who wrote them.
//
// The text that both come from is looked for in the heads of the two devices, as far as these are here. Where a device has shown its version for the first time it must have been the only one of
// its name: then it has taken the place of all that the device had shown under that name before. Of what both devices have shown so, it is what was written last.
func (d *Drive) MergeText(ctx context.Context, c Conflict) (string, error) {
	if len(c.Versions) != 2 {
		return "", fmt.Errorf("%d versions: %w", len(c.Versions), errors.ErrUnsupported)
	}
	names, err := vfs.SplitPath(c.Versions[0].Path)
	if err != nil {
		return "", err
	}
	var texts [2]string
	var before [2][]pastText
	for i, v := range c.Versions {
		at, err := vfs.SplitPath(v.Path)
		if err != nil {
			return "", err
		}
		e, err := entryAt(ctx, d.store, d.tree.Base().Root, at)
		if err != nil {
			return "", err
		}
		if e == nil || e.Kind != vfs.KindFile || e.Size > maxText {
			return "", fmt.Errorf("%s: %w", v.Path, ErrNoText)
		}
		if texts[i], err = textOf(ctx, d.FS(), v.Path); err != nil {
			return "", err
		}
		if before[i], err = d.before(ctx, names, e.Edit); err != nil {
			return "", err
		}
	}
	for _, b := range slices.Backward(before[0]) {
		if !slices.ContainsFunc(before[1], func(o pastText) bool { return o.edit == b.edit }) {
			continue
		}
		past, err := d.At(ctx, manifest.Kept{Root: b.root, Time: time.Now()})
		if err != nil {
			return "", err
		}
		base, err := textOf(ctx, past, c.Versions[0].Path)
		if err != nil {
			return "", err
		}
		return lines.Merge(base, texts[0], texts[1])
	}
	return "", fmt.Errorf("%s: %w", c.Versions[0].Path, ErrNoCommon)
}

// pastText is a version of a file, and the root directory of a state that shows it.
type pastText struct {
	edit causal.Dot
	root chunk.Ref
}

// before returns the versions of the file of that name whose place the given one has taken in the heads of the device that wrote it, the oldest first. There are none if it was not the only
// one there, in the first head that has it, or if that is not known.
func (d *Drive) before(ctx context.Context, names []string, last causal.Dot) (found []pastText, err error) {
	id, ok := d.refs.Members().ByShort(last.Device)
	if !ok {
		return nil, nil
	}
	heads, err := d.refs.Lasting(ctx, id)
	if err != nil {
		return nil, asDamage(err)
	}
	for _, h := range heads {
		root, all, err := d.versionsAt(ctx, h.Root, names)
		if errors.Is(err, chunkstore.ErrMissing) { // collected: the given one may have come with it, beside another
			found = nil
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			switch {
			case e.Edit == last && len(all) == 1:
				return found, nil
			case e.Edit == last:
				return nil, nil
			case e.Kind == vfs.KindFile && (len(found) == 0 || found[len(found)-1].edit != e.Edit) && e.Name == names[len(names)-1]:
				found = append(found, pastText{e.Edit, root})
			}
		}
	}
	return nil, nil
}

// versionsAt returns the root directory of a state, and what has a name in it, or is shown elsewhere because something else has it.
func (d *Drive) versionsAt(ctx context.Context, state chunk.Ref, names []string) (root chunk.Ref, all []manifest.Entry, err error) {
	s, err := d.snapshot(ctx, state)
	if err != nil {
		return root, nil, err
	}
	dir, name := &manifest.Entry{Kind: vfs.KindDir, Node: s.Root}, names[len(names)-1]
	if up := names[:len(names)-1]; len(up) > 0 {
		if dir, err = entryAt(ctx, d.store, s.Root, up); err != nil || dir == nil {
			return s.Root, nil, err
		}
	}
	if dir.Kind != vfs.KindDir || dir.Node.IsZero() {
		return s.Root, nil, nil
	}
	for e, err := range manifest.Entries(ctx, d.store, dir.Node, "") {
		if err != nil {
			return s.Root, nil, err
		}
		if e.Name == name || e.Stored != nil && e.Stored.Name == name {
			all = append(all, e)
		}
	}
	return s.Root, all, nil
}

// textOf reads a file, which must be text.
func textOf(ctx context.Context, fsys vfs.FS, path string) (string, error) {
	b, err := vfs.ReadFile(ctx, fsys, path, maxText)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) || slices.Contains(b, 0) {
		return "", fmt.Errorf("%s: %w", path, ErrNoText)
	}
	return string(b), nil
}
