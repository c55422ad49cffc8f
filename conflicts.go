package sheaf

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// A Conflict is one file and its versions, which devices wrote without having seen each other's: several values of
// one file, or several files or folders of one name.
type Conflict struct {
	Versions []ConflictVersion // the one that has the name first, then by path
}

// A ConflictVersion is one of them.
type ConflictVersion struct {
	Path       string // from the root, without a slash in front
	Device     string // SHF-… of who wrote it; "" if it is no member of the drive any more
	DeviceName string
	Mine       bool // this device wrote it
	MTime      time.Time
	Size       int64
	Dir        bool // a folder: Device is who made or moved it last

	named bool
}

// Conflicts returns the conflicts at or below a path, as last committed: all devices show the same ones. Its cost is that of
// the directories that have conflicts, or entries shown elsewhere, below them.
func (d *Drive) Conflicts(ctx context.Context, below string) ([]Conflict, error) {
	names, err := vfs.SplitPath(below)
	if err != nil {
		return nil, err
	}
	if err := d.tree.Commit(ctx); err != nil {
		return nil, err
	}
	base := d.tree.Base()
	w := conflictWalk{d: d, found: map[string][]ConflictVersion{}}
	var self []Conflict
	at := manifest.Entry{ID: manifest.RootID, Kind: vfs.KindDir, Node: base.Root, Below: base.Below}
	if len(names) > 0 {
		e, err := entryAt(ctx, d.store, base.Root, names)
		if err != nil {
			return nil, err
		}
		if e == nil {
			return nil, &fs.PathError{Op: "look for conflicts", Path: below, Err: fs.ErrNotExist}
		}
		if self, err = d.conflictOf(ctx, names); err != nil || e.Kind != vfs.KindDir {
			return self, err
		}
		at = *e
	}
	if err := w.down(ctx, path.Join(names...), &at); err != nil {
		return nil, err
	}
	return append(self, w.all()...), nil
}

// conflictOf returns the conflict that a file or folder is a version of, if it is: its folder has them all.
func (d *Drive) conflictOf(ctx context.Context, names []string) ([]Conflict, error) {
	base := d.tree.Base()
	folder := manifest.Entry{ID: manifest.RootID, Node: base.Root}
	if up := names[:len(names)-1]; len(up) > 0 {
		e, err := entryAt(ctx, d.store, base.Root, up)
		if err != nil || e == nil {
			return nil, err
		}
		folder = *e
	}
	w := conflictWalk{d: d, found: map[string][]ConflictVersion{}}
	if err := w.one(ctx, path.Join(names[:len(names)-1]...), &folder, nil); err != nil {
		return nil, err
	}
	is := func(v ConflictVersion) bool { return v.Path == path.Join(names...) }
	return slices.DeleteFunc(w.all(), func(c Conflict) bool { return !slices.ContainsFunc(c.Versions, is) }), nil
}

type conflictWalk struct {
	d     *Drive
	found map[string][]ConflictVersion // by the path that all versions of a file would have
}

func (w *conflictWalk) down(ctx context.Context, at string, dir *manifest.Entry) error {
	if dir.Below&manifest.BelowStored == 0 || dir.Node.IsZero() {
		return nil
	}
	return w.one(ctx, at, dir, func(e *manifest.Entry) error { return w.down(ctx, path.Join(at, e.Name), e) })
}

// one looks at one directory, and gives those in it to sub.
func (w *conflictWalk) one(ctx context.Context, at string, dir *manifest.Entry, sub func(*manifest.Entry) error) error {
	var apart []manifest.Entry         // versions that are shown under another name than their own
	own := map[string]manifest.Entry{} // by name: any of them may have the name that another one wants
	for e, err := range manifest.Entries(ctx, w.d.store, dir.Node, "") {
		if err != nil {
			return fmt.Errorf("look for conflicts: %w", err)
		}
		if e.Kind == vfs.KindDir && sub != nil {
			if err := sub(&e); err != nil {
				return err
			}
		}
		switch {
		case e.Stored != nil && (e.Stored.Parent == dir.ID || e.Conflict):
			apart = append(apart, e)
		default:
			own[e.Name] = e
		}
	}
	for _, e := range apart {
		key := path.Join(at, e.Stored.Name)
		if named, ok := own[e.Stored.Name]; ok && len(w.found[key]) == 0 {
			w.found[key] = append(w.found[key], w.version(at, &named, true))
		}
		w.found[key] = append(w.found[key], w.version(at, &e, false))
	}
	return nil
}

func (w *conflictWalk) version(at string, e *manifest.Entry, named bool) ConflictVersion {
	v := ConflictVersion{Path: path.Join(at, e.Name), MTime: e.MTime, Size: e.Size, Dir: e.Kind == vfs.KindDir, named: named}
	by := e.Edit.Device
	if v.Dir {
		by = e.Place.Device
	}
	for id, m := range w.d.refs.Members().All() {
		if id.Short() == by {
			v.Device, v.DeviceName = m.Public.Fingerprint().String(), m.Name
		}
	}
	v.Mine = by == w.d.device.ID().Short()
	return v
}

func (w *conflictWalk) all() []Conflict {
	all := make([]Conflict, 0, len(w.found))
	for _, vs := range w.found {
		if len(vs) < 2 {
			continue // shown elsewhere for another reason
		}
		slices.SortFunc(vs, func(a, b ConflictVersion) int {
			if a.named != b.named {
				if a.named {
					return -1
				}
				return 1
			}
			return cmp.Compare(a.Path, b.Path)
		})
		all = append(all, Conflict{Versions: vs})
	}
	slices.SortFunc(all, func(a, b Conflict) int { return cmp.Compare(a.Versions[0].Path, b.Versions[0].Path) })
	return all
}
