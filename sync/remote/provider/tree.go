package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	rclone "github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/encoder"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A tree is a [remote.Tree] over one rclone Fs: the same place as a bucket, with files as people have them.
//
// No backend lets a writer hold to a version, so Exact is not set: the version is looked at right before the place is told to do something, and of a Put
// when all but the last byte has gone there. A version is made of what a listing says: the ID, the size, the time and one hash. Where a place has no hashes, what
// keeps size and time is not seen to be another; docs/adr/0025-plain-places.md says of which places this is so.
type tree struct {
	*bucket
	can   remote.TreeCan
	where string

	dirs dirs
	feed *feed // nil: the place tells no changes, or not all of them
}

func openTree(ctx context.Context, k *remote.Kind, b *backend, info *rclone.RegInfo, c remote.Config) (remote.Tree, error) {
	mk := c.Make
	c.Make = false
	got, err := open(ctx, k, b, info, c)
	if err != nil && (b.can.Containers && b.can.AtomicPut || mk) && errors.Is(err, fs.ErrNotExist) {
		// Where folders do not exist without files, one that is not there is an empty one, as long as its container is there.
		got, err = openEmpty(ctx, k, b, info, c, mk)
	}
	if err != nil {
		return nil, err
	}
	t := &tree{bucket: got.(*bucket)}
	if t.where, err = whereOf(ctx, b, c); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	ft := t.f.Features()
	t.can = remote.TreeCan{
		Write: true, IDs: ids[b.name], Ranges: b.can.Ranges, ServerMove: ft.Move != nil || ft.Copy != nil, DirMove: ft.DirMove != nil,
		ServerCopy: ft.Copy != nil, EmptyDirs: ft.CanHaveEmptyDirectories && !t.objects(), Watch: ft.ChangeNotify != nil,
		Fold: ft.CaseInsensitive, NoDots: b.name == "ftp", Hashes: t.hashNames(), Rate: b.can.Rate,
	}
	if p := t.f.Precision(); p != rclone.ModTimeNotSupported && !t.serverTime() {
		t.can.MTime = max(p, 1)
		t.can.Touch = t.b.name != "dropbox" // which takes a time with the bytes alone
	}
	if err := t.follow(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// ids are the backends that know who a file is.
var ids = map[string]bool{"box": true, "drive": true, "dropbox": true, "onedrive": true, "pcloud": true}

// serverTime reports whether a file has the time of its upload. Some places of objects keep another one in what costs a call for each name.
func (t *tree) serverTime() bool { return t.b.name == "s3" || t.b.name == "swift" }

// openEmpty opens a place of which nothing is there yet.
func openEmpty(ctx context.Context, k *remote.Kind, b *backend, info *rclone.RegInfo, c remote.Config, mk bool) (blob.Bucket, error) {
	first, rest, _ := strings.Cut(strings.Trim(c.Path, "/"), "/")
	if b.can.Containers && b.can.AtomicPut && rest != "" {
		at := c
		at.Path, at.Make = first, mk
		container, err := open(ctx, k, b, info, at)
		if err != nil {
			return nil, err
		}
		if err := container.(*bucket).Close(); err != nil {
			return nil, err
		}
		c.Make = false
		return openBare(ctx, k, b, info, c)
	}
	if !mk {
		return nil, fmt.Errorf("the place %q is not there: %w", c.Path, fs.ErrNotExist)
	}
	c.Make = true
	return open(ctx, k, b, info, c)
}

// where are the options that say where a place is, and whose.
var where = []string{
	"host", "port", "user", "endpoint", "account", "account_name", "url", "domain", "namenode", "root_folder_id", "team_drive", "drive_id", "tenant", "auth", "bucket",
	"access_key_id", "region", "username", "hostname", "client_id", "mountid",
}

// whereOf returns what names the place: two places that differ are never called the same.
func whereOf(ctx context.Context, b *backend, c remote.Config) (string, error) {
	var s strings.Builder
	s.WriteString(b.name)
	for _, name := range where {
		v, err := c.Get(ctx, name)
		if err != nil {
			return "", err
		}
		if v != "" {
			s.WriteString(" " + name + "=" + strconv.Quote(v))
		}
	}
	return s.String() + " " + strconv.Quote(strings.Trim(path.Clean("/"+c.Path), "/")), nil
}

// Can implements [remote.Tree].
func (t *tree) Can() remote.TreeCan {
	can := t.can
	can.Hashes = slices.Clone(can.Hashes)
	return can
}

// hashNames returns the hashes that a listing has, or that cost no reading.
func (t *tree) hashNames() []string {
	if t.f.Features().SlowHash {
		return nil
	}
	var names []string
	for _, h := range t.f.Hashes().Array() {
		names = append(names, h.String())
	}
	slices.Sort(names)
	return names
}

// Identity implements [remote.Tree]. It is where the place is, and whose; that a server was set up anew under the same name is not seen by it.
func (t *tree) Identity(ctx context.Context) (string, error) {
	ctx, cancel := t.with(ctx)
	defer cancel()
	err := ctx.Err()
	if err == nil {
		err = t.patiently(ctx, func() error {
			if t.feed != nil {
				return t.feed.present(ctx)
			}
			return t.here(ctx, 0)
		})
	}
	if err != nil {
		return "", fmt.Errorf("who is it: %w", t.failed(ctx, err))
	}
	return t.where, nil
}

// here is present, but for places of objects, where only the container has to be there.
func (t *tree) here(ctx context.Context, age time.Duration) error {
	if !t.needsMark() {
		return t.present(ctx, age)
	}
	_, err := t.f.List(ctx, "")
	if errors.Is(err, rclone.ErrorDirNotFound) {
		if why := t.denied(ctx); why != nil {
			return why
		}
		first, _, _ := strings.Cut(t.f.Root(), "/")
		return t.container(ctx, first)
	}
	return err
}

// container returns an error if there is no such container.
func (t *tree) container(ctx context.Context, name string) error {
	at, err := t.info.NewFs(ctx, t.f.Name(), name, t.m)
	if err != nil {
		return err
	}
	if _, err = at.List(ctx, ""); errors.Is(err, rclone.ErrorDirNotFound) {
		return fmt.Errorf("%w: %q is not there any more", blob.ErrTemporary, name)
	}
	return err
}

// version makes a Version of what a listing says.
func (t *tree) version(ctx context.Context, obj rclone.Object) (remote.Version, map[string]string) {
	v := strconv.FormatInt(obj.Size(), 36) + "." + strconv.FormatInt(obj.ModTime(ctx).UnixNano(), 36)
	var hashes map[string]string
	if !t.f.Features().SlowHash {
		for _, h := range t.f.Hashes().Array() {
			sum, err := obj.Hash(ctx, h)
			if err != nil || sum == "" {
				continue
			}
			if hashes == nil {
				hashes = map[string]string{}
				v += "." + sum
			}
			hashes[h.String()] = strings.ToLower(sum)
		}
	}
	if id, ok := obj.(rclone.IDer); ok && t.can.IDs {
		v += "." + id.ID()
	}
	return remote.Version(v), hashes
}

// item returns what is told of an entry, and false if it is none of the place.
func (t *tree) item(ctx context.Context, e rclone.DirEntry) (remote.Item, bool) {
	dir, name := split(e.Remote())
	name = encoder.Standard.Decode(name)
	if strings.Contains(name, "/") { // Google Drive has such names, and no path says them
		return remote.Item{Path: path.Join(plain(dir), strings.ReplaceAll(name, "/", "／")), Kind: remote.Other, ID: t.idOf(e), MTime: e.ModTime(ctx)}, true
	}
	it := remote.Item{Path: plain(e.Remote())}
	if hidden(path.Base(it.Path)) || remote.CheckPath(it.Path) != nil {
		return it, false
	}
	it.ID = t.idOf(e)
	switch e := e.(type) {
	case rclone.Directory:
		it.Kind = remote.Dir
		return it, true
	case rclone.Object:
		it.Size, it.MTime = e.Size(), e.ModTime(ctx)
		if it.Size < 0 || !e.Storable() { // a document that has no file, a link to nowhere, a device
			it.Kind, it.Size = remote.Other, 0
			return it, true
		}
		it.Version, it.Hashes = t.version(ctx, e)
		return it, true
	}
	return it, false
}

// idOf returns who an entry is, "" where places know no such thing.
func (t *tree) idOf(e rclone.DirEntry) string {
	if id, ok := e.(rclone.IDer); ok && t.can.IDs {
		return id.ID()
	}
	return ""
}

// patiently calls what may be called twice until it does not fail for now, or six times. The place says how long to wait, or it is half a second, and twice as long each time.
func (t *tree) patiently(ctx context.Context, call func() error) error {
	wait := 500 * time.Millisecond
	for try := 1; ; try++ {
		err := call()
		if err == nil || try == 6 || ctx.Err() != nil {
			return err
		}
		f := t.failed(ctx, err)
		if !errors.Is(f, blob.ErrTemporary) {
			return err
		}
		pause := max(wait, blob.After(f))
		if pause > time.Minute {
			return f // who asked knows when to come back
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		wait *= 2
	}
}

// entries returns what a directory holds, in the order of the names; fs.ErrNotExist if it is not there.
func (t *tree) entries(ctx context.Context, dir string) ([]remote.Item, error) {
	var got rclone.DirEntries
	err := t.patiently(ctx, func() (err error) {
		got, err = t.f.List(ctx, standard(dir))
		if notThere(err) || dir == "" && errors.Is(err, rclone.ErrorDirNotFound) {
			return fs.ErrNotExist
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	items := make([]remote.Item, 0, len(got))
	for _, e := range got {
		if it, ok := t.item(ctx, e); ok {
			if dir != "" && it.Path == dir {
				return nil, fs.ErrNotExist // some servers list a file as if it were one in itself
			}
			items = append(items, it)
		} else if o, ok := e.(rclone.Object); ok && hidden(path.Base(e.Remote())) {
			t.sweepOne(ctx, o)
		}
	}
	items, doubled := sortItems(items)
	if doubled && t.feed != nil {
		t.feed.doubled.Add(1)
	}
	return items, nil
}

// sortItems sorts, and leaves out what has the name of what comes before it: some places can have several things of one name. It says whether a directory is among those.
func sortItems(items []remote.Item) (sorted []remote.Item, doubledDir bool) {
	slices.SortStableFunc(items, func(a, b remote.Item) int { return strings.Compare(a.Path, b.Path) })
	sorted = slices.CompactFunc(items, func(a, b remote.Item) bool {
		same := a.Path == b.Path
		doubledDir = doubledDir || same && (a.Kind == remote.Dir || b.Kind == remote.Dir)
		return same
	})
	return sorted, doubledDir
}

// List implements [remote.Tree].
func (t *tree) List(ctx context.Context, dir string) iter.Seq2[remote.Item, error] {
	return func(yield func(remote.Item, error) bool) {
		ctx, cancel := t.with(ctx)
		defer cancel()
		items, err := t.list(ctx, dir)
		if err != nil {
			yield(remote.Item{}, fmt.Errorf("list %q: %w", dir, t.failed(ctx, err)))
			return
		}
		for _, it := range items {
			if !yield(it, nil) {
				return
			}
		}
	}
}

func (t *tree) list(ctx context.Context, dir string) ([]remote.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if dir != "" {
		if err := remote.CheckPath(dir); err != nil {
			return nil, err
		}
	}
	items, err := t.entries(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(items) == 0 && !t.can.EmptyDirs {
		if err := t.here(ctx, 0); err != nil {
			return nil, err
		}
		if dir == "" {
			return nil, nil
		}
		return nil, fmt.Errorf("no directory: %w", fs.ErrNotExist)
	}
	// Some servers answer for a file as for an empty folder, or one that holds the file.
	odd := err == nil && (len(items) == 0 || len(items) == 1 && path.Base(items[0].Path) == path.Base(dir)) || err != nil && refused(err)
	if odd && dir != "" {
		if _, oerr := t.f.NewObject(ctx, standard(dir)); oerr == nil {
			return nil, fmt.Errorf("no directory: %w", fs.ErrNotExist)
		}
	}
	if err == nil {
		t.dirs.add(dir)
	}
	return items, err
}

// Changes implements [remote.Tree]. Places of objects are listed in one go and sorted, in some 400 bytes a file; folders are walked, some of them at a time. How a feed
// of changes is followed is said at the type feed.
func (t *tree) Changes(ctx context.Context, since remote.Cursor) (iter.Seq2[remote.Change, error], func() remote.Cursor) {
	return remote.Listing(func(give func(remote.Change) error) (remote.Cursor, error) {
		ctx, cancel := t.with(ctx)
		defer cancel()
		if since != "" && t.feed != nil {
			return t.changed(ctx, since, give)
		}
		one := func(it remote.Item) error {
			if err := give(remote.Change{Item: it}); err != nil {
				return err
			}
			return ctx.Err()
		}
		next, err := remote.Cursor("all"), error(nil)
		if t.feed != nil {
			next, err = t.feed.full(ctx, one)
		} else {
			err = t.changes(ctx, one)
		}
		if err != nil {
			return "", fmt.Errorf("list all: %w: %w", remote.ErrIncomplete, t.failed(ctx, err))
		}
		return next, nil
	})
}

func (t *tree) changes(ctx context.Context, give func(remote.Item) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.flush()
	if listR := t.f.Features().ListR; listR != nil && t.objects() {
		return t.flat(ctx, listR, give)
	}
	return t.walk(ctx, "", give)
}

// flush has the backend forget where folders are: they may have been made or moved by others.
func (t *tree) flush() {
	if flush := t.f.Features().DirCacheFlush; flush != nil {
		flush()
	}
}

// flat lists a place of objects, and adds the directories that are only in the names of what they hold.
func (t *tree) flat(ctx context.Context, listR rclone.ListRFn, give func(remote.Item) error) error {
	var all []remote.Item
	err := t.patiently(ctx, func() error {
		all = all[:0]
		return listR(ctx, "", func(entries rclone.DirEntries) error {
			for _, e := range entries {
				if _, isDir := e.(rclone.Directory); isDir {
					continue // it may be a mark, with nothing in it
				}
				if it, ok := t.item(ctx, e); ok {
					all = append(all, it)
				}
			}
			return ctx.Err()
		})
	})
	if errors.Is(err, rclone.ErrorDirNotFound) {
		err = nil
	}
	if err == nil && len(all) == 0 {
		err = t.here(ctx, 0) // a container that is gone has nothing in it, either
	}
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b remote.Item) int { return remote.ComparePaths(a.Path, b.Path) })
	last := ""
	for i, it := range all {
		if i > 0 && all[i-1].Path == it.Path {
			continue
		}
		for _, dir := range above(it.Path) {
			if last == dir || strings.HasPrefix(last, dir+"/") {
				continue
			}
			if err := give(remote.Item{Path: dir, Kind: remote.Dir}); err != nil {
				return err
			}
		}
		last = it.Path
		if err := give(it); err != nil {
			return err
		}
	}
	return nil
}

// above returns the directories above a path, from the top.
func above(p string) (dirs []string) {
	for i := range p {
		if p[i] == '/' {
			dirs = append(dirs, p[:i])
		}
	}
	return dirs
}

// A branch is a directory that is being listed. When done is closed, the rest may be read.
type branch struct {
	done  chan struct{}
	items []remote.Item
	err   error
}

// walk lists the folder dir and those below it, some of them ahead of their turn.
func (t *tree) walk(ctx context.Context, dir string, give func(remote.Item) error) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before the wait
	ahead := make(chan struct{}, workers[t.b.can.Rate])
	start := func(dir string) *branch {
		b := &branch{done: make(chan struct{})}
		wg.Go(func() {
			defer close(b.done)
			select {
			case ahead <- struct{}{}:
				defer func() { <-ahead }()
				b.items, b.err = t.entries(ctx, dir)
			case <-ctx.Done():
				b.err = ctx.Err()
			}
		})
		return b
	}
	var in func(b *branch, dir string) error
	in = func(b *branch, dir string) error {
		<-b.done
		if b.err != nil {
			return t.vanishedDir(ctx, dir, b.err)
		}
		started, next := map[int]*branch{}, 0
		for i, it := range b.items {
			for next = max(next, i); next < len(b.items) && len(started) < cap(ahead); next++ {
				if b.items[next].Kind == remote.Dir {
					started[next] = start(b.items[next].Path)
				}
			}
			if err := give(it); err != nil {
				return err
			}
			if it.Kind != remote.Dir {
				continue
			}
			sub := started[i]
			delete(started, i)
			if err := in(sub, it.Path); err != nil {
				return err
			}
		}
		return nil
	}
	return in(start(dir), dir)
}

// vanishedDir returns nil if a directory was removed while all was listed. It is looked for where it would be: a place that lists it and does
// not find it has not told all.
func (t *tree) vanishedDir(ctx context.Context, dir string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if dir == "" {
		return fmt.Errorf("%w: %q is not there any more", blob.ErrTemporary, t.f.Root())
	}
	if err := t.here(ctx, 0); err != nil {
		return err
	}
	parent, _ := split(dir)
	items, err := t.entries(ctx, parent)
	if errors.Is(err, fs.ErrNotExist) {
		return t.vanishedDir(ctx, parent, err)
	}
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.Path == dir && it.Kind == remote.Dir {
			return fmt.Errorf("%w: it lists the folder %q and then does not find it", blob.ErrTemporary, dir)
		}
	}
	return nil
}

// standard and plain translate between a path as it is and as rclone has it, which writes what some place may not have, such as control
// characters, as other ones that look like it.
func standard(p string) string { return elements(p, encoder.Standard.Encode) }

func plain(p string) string { return elements(p, encoder.Standard.Decode) }

func elements(p string, of func(string) string) string {
	if p == "" {
		return ""
	}
	all := strings.Split(p, "/")
	for i := range all {
		all[i] = of(all[i])
	}
	return strings.Join(all, "/")
}

func split(p string) (dir, name string) {
	dir, name = path.Split(p)
	return strings.TrimSuffix(dir, "/"), name
}
