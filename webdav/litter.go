package webdav

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"sync"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// The bounds of the memory for litter.
const (
	litterBytes = 16 << 20
	litterNodes = 4_000
	litterDirs  = 5_000
)

// A litter is the memory for what clients leave everywhere and nobody misses: a small tree of its own, with one folder for each
// folder of the real tree.
type litter struct {
	fsys *memfs.FS
	top  vfs.Dir // of uploads
	root vfs.Dir

	mu    sync.Mutex // guards the rest
	last  int
	dirs  map[string]litterDir // by the path of the folder in the real tree
	order []string             // their paths, the oldest first
}

type litterDir struct {
	vfs.Dir
	name string // in root
}

func newLitter() *litter {
	ctx := context.Background()
	l := &litter{fsys: memfs.New(memfs.Options{Limit: litterBytes}), dirs: map[string]litterDir{}}
	l.root, _ = l.fsys.Root(ctx) // memory does not fail
	n, err := l.root.Make(ctx, "uploads", vfs.New{Kind: vfs.KindDir, Mode: 0o700})
	if err != nil {
		panic("webdav: an empty tree in memory takes no folder: " + err.Error())
	}
	l.top = n.(vfs.Dir)
	return l
}

// litterNames are those of Finder and Explorer, in lower case: both fold case.
var litterNames = map[string]bool{
	".ds_store": true, ".spotlight-v100": true, ".trashes": true, ".fseventsd": true, ".temporaryitems": true, ".apdisk": true,
	".metadata_never_index": true, ".metadata_never_index_unless_rootfs": true, ".metadata_direct_scope_only": true,
	".ql_disablethumbnails": true, ".ql_disablecache": true, ".documentrevisions-v100": true, ".volumeicon.icns": true,
	"desktop.ini": true, "thumbs.db": true, "ehthumbs.db": true, "$recycle.bin": true, "system volume information": true,
}

// isLitter reports whether a client leaves such names where nobody asked for them.
func isLitter(name string) bool {
	return strings.HasPrefix(name, "._") || litterNames[strings.ToLower(name)]
}

// appleDouble begins a "._" file that is what Finder leaves. A file of such a name that begins otherwise is somebody's own.
const appleDouble = "\x00\x05\x16\x07"

// dir returns the folder of the litter of the real folder at path.
func (l *litter) dir(ctx context.Context, path string) (vfs.Dir, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.dirs[path]; ok {
		return d.Dir, nil
	}
	if len(l.order) >= litterDirs {
		l.drop(ctx, l.order[0])
	}
	l.last++
	name := strconv.Itoa(l.last)
	n, err := l.root.Make(ctx, name, vfs.New{Kind: vfs.KindDir, Mode: 0o700})
	if err != nil {
		return nil, err
	}
	l.dirs[path] = litterDir{n.(vfs.Dir), name}
	l.order = append(l.order, path)
	return n.(vfs.Dir), nil
}

// room drops the oldest folders until half of the memory is free.
func (l *litter) room(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.order) > 0 {
		u, err := l.fsys.Usage(ctx)
		if err == nil && u.Bytes-u.BytesFree < litterBytes/2 && u.Files-u.FilesFree < litterNodes {
			return
		}
		l.drop(ctx, l.order[0])
	}
}

// drop forgets the litter of the folder at path. l.mu is held.
func (l *litter) drop(ctx context.Context, path string) {
	d, ok := l.dirs[path]
	if !ok {
		return
	}
	delete(l.dirs, path)
	for i, p := range l.order {
		if p == path {
			l.order = append(l.order[:i], l.order[i+1:]...)
			break
		}
	}
	_ = vfs.RemoveAll(ctx, l.fsys, d.name) // memory
}

// forget drops the litter of path and of all below it.
func (l *litter) forget(ctx context.Context, path string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range append([]string(nil), l.order...) {
		if vfs.Within(path, p) {
			l.drop(ctx, p)
		}
	}
}

// moved carries the litter of a folder along with it.
func (l *litter) moved(from, to string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range l.order {
		if vfs.Within(from, p) {
			q := to + strings.TrimPrefix(p, from)
			l.dirs[q] = l.dirs[p]
			delete(l.dirs, p)
			l.order[i] = q
		}
	}
}

// each calls f for the litter of the real folder at path, until it returns false.
func (l *litter) each(ctx context.Context, path string, f func(d vfs.Dir, e vfs.Entry) bool) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	d, ok := l.dirs[path]
	l.mu.Unlock()
	if !ok {
		return nil
	}
	for e, err := range d.List(ctx, "") {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !f(d, e) {
			return nil
		}
	}
	return nil
}
