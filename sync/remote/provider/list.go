package provider

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"

	rclone "github.com/rclone/rclone/fs"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// List implements [blob.Bucket]. A place of objects is listed in one go and sorted, in some hundred bytes a blob; folders are
// walked in order, some of them ahead. A listing that is not whole is an error. What has no legal name is
// not there.
func (b *bucket) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		inner, cancel := b.with(ctx)
		defer cancel()
		more, err := true, inner.Err()
		if base, ok := baseOf(prefix); err == nil && ok {
			l := &lister{b: b, ctx: inner, prefix: string(prefix), seen: b.sights.looked(), yield: func(i blob.Info) bool {
				more = yield(i, nil)
				return more
			}}
			err = l.list(base)
		}
		if more && err != nil {
			yield(blob.Info{}, fmt.Errorf("list blobs: %w", b.failed(inner, err)))
		}
	}
}

// baseOf returns the folder in which all names of a prefix are; false if no legal name can begin so.
func baseOf(prefix blob.Name) (string, bool) {
	i := strings.LastIndexByte(string(prefix), '/')
	if i < 0 {
		return "", true
	}
	base := prefix[:i]
	return string(base), base.Check() == nil
}

var errStopped = errors.New("the caller has had enough")

// A lister is one listing.
type lister struct {
	b      *bucket
	ctx    context.Context // of the List that it belongs to
	prefix string
	seen   sight // of all objects
	yield  func(blob.Info) bool
	last   string
}

func (l *lister) list(base string) error {
	if flush := l.b.f.Features().DirCacheFlush; flush != nil {
		flush() // folders may have been made or moved by others
	}
	var err error
	if listR := l.b.f.Features().ListR; listR != nil && l.b.objects() {
		err = l.flat(base, listR)
	} else {
		err = l.walk(base)
	}
	if errors.Is(err, errStopped) {
		return nil
	}
	return err
}

// give yields a blob. Some places can have several files of one name; the first counts.
func (l *lister) give(i blob.Info) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if string(i.Name) == l.last {
		return nil
	}
	l.last = string(i.Name)
	if !l.yield(i) {
		return errStopped
	}
	return l.ctx.Err()
}

// info returns what a listing says of an entry; false if it is no blob, or none of the prefix.
func (l *lister) info(e rclone.DirEntry) (blob.Info, bool) {
	obj, ok := e.(rclone.Object)
	name := blob.Name(e.Remote())
	if !ok || !strings.HasPrefix(string(name), l.prefix) || name.Check() != nil || obj.Size() < 0 {
		return blob.Info{}, false
	}
	i := blob.Info{Name: name, Size: obj.Size(), ModTime: obj.ModTime(l.ctx)}
	one := l.seen
	one.obj = obj
	l.b.sights.listed(name, one)
	return i, true
}

// flat lists what is below base at once.
func (l *lister) flat(base string, listR rclone.ListRFn) error {
	var all []blob.Info
	err := listR(l.ctx, base, func(entries rclone.DirEntries) error {
		for _, e := range entries {
			if i, ok := l.info(e); ok {
				all = append(all, i)
			}
		}
		return l.ctx.Err()
	})
	if errors.Is(err, rclone.ErrorDirNotFound) {
		return l.b.present(l.ctx, 0)
	}
	if err != nil {
		return err
	}
	if len(all) == 0 && base != "" {
		// A container that is gone has nothing below it, either.
		if err := l.b.present(l.ctx, 0); err != nil {
			return err
		}
	}
	slices.SortStableFunc(all, func(a, b blob.Info) int { return strings.Compare(string(a.Name), string(b.Name)) })
	for _, i := range all {
		if err := l.give(i); err != nil {
			return err
		}
	}
	return nil
}

// walk lists the folder base and those below it.
func (l *lister) walk(base string) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel() // before the wait
	l.ctx = ctx
	ahead := make(chan struct{}, workers[l.b.b.can.Rate])
	f := l.start(&wg, ahead, base)
	<-f.done
	if base != "" && len(f.items) == 1 && path.Base(f.items[0].key) == path.Base(base) {
		// Some servers list a file as if it were a folder in which it lies.
		if l.b.above(l.ctx, f.items[0].key) != "" {
			return nil
		}
	}
	if base == "" {
		if errors.Is(f.err, rclone.ErrorDirNotFound) {
			return fmt.Errorf("%w: %q is not there any more", blob.ErrTemporary, l.b.f.Root())
		}
	}
	return l.in(&wg, ahead, f)
}

// A folder is one whose entries are being asked for. When done is closed, the rest may be read.
type folder struct {
	dir   string
	done  chan struct{}
	items []item
	err   error
}

// An item is a blob or a folder. Its key sorts as the names of blobs in it do.
type item struct {
	key  string
	info blob.Info // of a blob
	dir  string    // "" for a blob
}

// start asks for the entries of a folder.
func (l *lister) start(wg *sync.WaitGroup, ahead chan struct{}, dir string) *folder {
	f := &folder{dir: dir, done: make(chan struct{})}
	wg.Go(func() {
		defer close(f.done)
		select {
		case ahead <- struct{}{}:
			defer func() { <-ahead }()
			f.items, f.err = l.entries(dir)
		case <-l.ctx.Done():
			f.err = l.ctx.Err()
		}
	})
	return f
}

// in yields what is in a folder and below it.
func (l *lister) in(wg *sync.WaitGroup, ahead chan struct{}, f *folder) error {
	<-f.done
	if f.err != nil {
		return l.gone(f)
	}
	// Folders are asked for in order, so many before their turn that calls are always under way.
	started := map[int]*folder{}
	next := 0
	for i, it := range f.items {
		if it.dir == "" {
			if err := l.give(it.info); err != nil {
				return err
			}
			continue
		}
		for next = max(next, i); next < len(f.items) && len(started) < cap(ahead); next++ {
			if dir := f.items[next].dir; dir != "" {
				started[next] = l.start(wg, ahead, dir)
			}
		}
		sub := started[i]
		delete(started, i)
		if err := l.in(wg, ahead, sub); err != nil {
			return err
		}
	}
	return nil
}

// gone returns nil if a folder cannot be listed because it is not there, which is no error if all above it is there.
func (l *lister) gone(f *folder) error {
	if f.dir == "" {
		return f.err
	}
	if !errors.Is(f.err, rclone.ErrorDirNotFound) && !errors.Is(f.err, rclone.ErrorIsFile) {
		if refused(f.err) && l.b.above(l.ctx, f.dir+"/x") != "" {
			return nil // it is a blob, or lies below one
		}
		return f.err
	}
	if err := l.b.present(l.ctx, 0); err != nil {
		return err
	}
	for dir := f.dir; ; {
		parent := path.Dir(dir)
		if parent == "." {
			parent = ""
		}
		items, err := l.b.f.List(l.ctx, parent)
		if errors.Is(err, rclone.ErrorDirNotFound) && parent != "" {
			dir = parent
			continue
		}
		if refused(err) && l.b.above(l.ctx, dir) != "" {
			return nil // it lies below a blob
		}
		if err != nil {
			return err
		}
		for _, e := range items {
			if _, isDir := e.(rclone.Directory); isDir && e.Remote() == dir {
				return fmt.Errorf("%w: it lists the folder %q and then does not find it", blob.ErrTemporary, dir)
			}
		}
		return nil
	}
}

// entries returns what a folder has of the prefix, in the order of the keys.
func (l *lister) entries(dir string) ([]item, error) {
	got, err := l.b.f.List(l.ctx, dir)
	if err != nil {
		return nil, err
	}
	items := make([]item, 0, len(got))
	for _, e := range got {
		if i, ok := l.info(e); ok {
			items = append(items, item{key: string(i.Name), info: i})
			continue
		}
		name := e.Remote()
		key := name + "/"
		if _, ok := e.(rclone.Directory); ok && strings.HasPrefix(key, l.prefix) && blob.Name(name).Check() == nil && strings.Count(key, "/") <= 7 {
			items = append(items, item{key: key, dir: name})
		}
	}
	slices.SortStableFunc(items, func(a, b item) int { return strings.Compare(a.key, b.key) })
	return slices.CompactFunc(items, func(a, b item) bool { return a.key == b.key }), nil
}
