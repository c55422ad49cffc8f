package winfsp

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// Bounds of what is remembered of directories: in all, and how many.
const (
	maxIndexNames = 1 << 20
	maxIndexes    = 256
)

// An index knows for directories which of their names differ in case only. It lists a directory when it is first asked, and again
// once something else has changed it; what this mount does it is told. It is safe for concurrent use.
type index struct {
	mu    sync.Mutex
	dirs  map[vfs.Node]*dirIndex
	names int
	tick  uint64
}

// A dirIndex is one directory: its names by Fold of how they are shown, those of one key in the order of their bytes.
type dirIndex struct {
	groups map[string][]string
	names  int
	mtime  time.Time // of the directory, when groups was right
	used   uint64
}

func newIndex() *index { return &index{dirs: map[vfs.Node]*dirIndex{}} }

func foldKey(name string) string { return Fold(Encode(name)) }

// group returns the names of d that are shown alike but for case, the one that is shown as it is first.
func (x *index) group(ctx context.Context, d vfs.Dir, key string) ([]string, error) {
	a, err := d.Attr(ctx)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	if di := x.dirs[d]; di != nil && di.mtime.Equal(a.MTime) {
		x.tick++
		di.used = x.tick
		g := slices.Clone(di.groups[key])
		x.mu.Unlock()
		return g, nil
	}
	x.mu.Unlock()
	di := &dirIndex{groups: map[string][]string{}, mtime: a.MTime}
	for e, err := range d.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		k := foldKey(e.Name)
		di.groups[k] = append(di.groups[k], e.Name)
		di.names++
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dropLocked(d)
	x.tick++
	di.used = x.tick
	if di.names <= maxIndexNames {
		x.dirs[d] = di
		x.names += di.names
		x.shrinkLocked()
	}
	return slices.Clone(di.groups[key]), nil
}

// shrinkLocked forgets what was not asked for longest, until the bounds are kept.
func (x *index) shrinkLocked() {
	for len(x.dirs) > maxIndexes || x.names > maxIndexNames {
		var oldest vfs.Node
		for d, di := range x.dirs {
			if oldest == nil || di.used < x.dirs[oldest].used {
				oldest = d
			}
		}
		x.dropLocked(oldest)
	}
}

func (x *index) dropLocked(d vfs.Node) {
	if di := x.dirs[d]; di != nil {
		x.names -= di.names
		delete(x.dirs, d)
	}
}

// drop forgets a directory; all of them for nil.
func (x *index) drop(d vfs.Node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if d == nil {
		clear(x.dirs)
		x.names = 0
		return
	}
	x.dropLocked(d)
}

// changed is told of names that this mount has made in d, or removed from it. before is when d had last changed until then: if the index
// is not as of that, something else changed d too, and it is forgotten.
func (x *index) changed(ctx context.Context, d vfs.Dir, before time.Time, added, removed string) {
	a, err := d.Attr(ctx)
	x.mu.Lock()
	defer x.mu.Unlock()
	di := x.dirs[d]
	if di == nil {
		return
	}
	if err != nil || !di.mtime.Equal(before) {
		x.dropLocked(d)
		return
	}
	if removed != "" {
		k := foldKey(removed)
		if i := slices.Index(di.groups[k], removed); i >= 0 {
			di.groups[k] = slices.Delete(di.groups[k], i, i+1)
			di.names--
			x.names--
		}
		if len(di.groups[k]) == 0 {
			delete(di.groups, k)
		}
	}
	if added != "" {
		k := foldKey(added)
		if i, there := slices.BinarySearch(di.groups[k], added); !there {
			di.groups[k] = slices.Insert(di.groups[k], i, added)
			di.names++
			x.names++
		}
	}
	di.mtime = a.MTime
}

// shownIn returns how a name is shown, which is one of a group.
func shownIn(group []string, name string) string {
	encoded := Encode(name)
	if len(group) == 0 || group[0] == name {
		return encoded
	}
	return escapeCase(encoded, Encode(group[0]))
}
