package provider

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	rclone "github.com/rclone/rclone/fs"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Watch implements [remote.Watcher], where the backend asks the place for what changed. A place is asked every ten seconds.
func (t *tree) Watch(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		notify := t.f.Features().ChangeNotify
		if notify == nil {
			yield("", fmt.Errorf("watch %s: %w", t.b.name, errors.ErrUnsupported))
			return
		}
		ctx, cancel := t.with(ctx)
		defer cancel()
		hints := make(chan string, 256)
		every := make(chan time.Duration, 1)
		defer close(every)
		every <- 10 * time.Second
		notify(ctx, func(p string, _ rclone.EntryType) {
			select {
			case hints <- p:
			case <-ctx.Done():
			}
		}, every)
		for {
			select {
			case p := <-hints:
				if !yield(plain(strings.Trim(p, "/")), nil) {
					return
				}
			case <-ctx.Done():
				yield("", fmt.Errorf("watch %s: %w", t.b.name, ctx.Err()))
				return
			}
		}
	}
}

// feeds find the feed of a tree by the name of its backend; nil if the place has none that tells all.
var feeds = map[string]func(context.Context, *tree) (*feed, error){"dropbox": newDropboxFeed, "drive": newDriveFeed, "onedrive": newOneDriveFeed}

// follow finds out whether the place tells what changes.
func (t *tree) follow(ctx context.Context) (err error) {
	find := feeds[t.b.name]
	if find == nil {
		return nil
	}
	ctx, cancel := t.with(ctx)
	defer cancel()
	if t.feed, err = find(ctx, t); err != nil {
		return fmt.Errorf("find the feed of %s: %w", t.f.Name(), t.failed(ctx, err))
	}
	t.can.ChangeFeed = t.feed != nil
	return nil
}

// changed gives what changed since a cursor.
func (t *tree) changed(ctx context.Context, since remote.Cursor, give func(remote.Change) error) (remote.Cursor, error) {
	all, next, err := t.feed.since(ctx, since)
	if err != nil {
		if !errors.Is(err, remote.ErrCursor) {
			err = t.failed(ctx, err)
		}
		return "", fmt.Errorf("what changed: %w", err)
	}
	for _, c := range all {
		if err := give(c); err != nil {
			return "", err
		}
	}
	return next, ctx.Err()
}

// dirs remembers which directories were there a moment ago, so that each file that is put into one does not ask anew. The zero dirs is empty.
type dirs struct {
	mu  sync.Mutex
	all map[string]time.Time
}

const (
	dirFor  = 20 * time.Second
	dirMost = 10_000
)

func (d *dirs) add(dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil || len(d.all) >= dirMost {
		d.all = map[string]time.Time{}
	}
	d.all[dir] = time.Now()
}

func (d *dirs) has(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return dir == "" || time.Since(d.all[dir]) < dirFor
}

// forget is called before a directory is moved or removed.
func (d *dirs) forget(dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p := range d.all {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			delete(d.all, p)
		}
	}
}
