package localdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/aside"
)

// Watch is as in remote.Watcher. Where the system watches no more folders it yields "" every Options.Rescan, and where it lost some of what it
// had to say, at once: nothing is missed for long.
func (t *Tree) Watch(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := t.watch(ctx, yield); err != nil && !errors.Is(err, errStop) {
			yield("", fmt.Errorf("watch %s: %w", t.dir, err))
		}
	}
}

func (t *Tree) watch(ctx context.Context, yield func(string, error) bool) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		t.o.Log.Warn("the system watches no folder for us: all is scanned from time to time", "folder", t.dir, "every", t.o.Rescan, "err", err)
		return t.tick(ctx, yield)
	}
	defer func() { _ = w.Close() }()
	v := &watching{t: t, w: w}
	if err := v.add(ctx, ""); err != nil {
		return err
	}
	// What changed before it was watched is not told by anybody.
	if !yield("", nil) {
		return errStop
	}
	var again <-chan time.Time
	for {
		if v.partly && again == nil {
			ticker := time.NewTicker(t.o.Rescan)
			defer ticker.Stop()
			again = ticker.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again:
			if !yield("", nil) {
				return errStop
			}
		case e, ok := <-w.Events:
			if !ok {
				return fs.ErrClosed
			}
			path, ok := v.path(e.Name)
			if !ok {
				continue
			}
			if e.Has(fsnotify.Create) {
				if err := v.add(ctx, path); err != nil && ctx.Err() != nil {
					return err
				}
			}
			if !yield(path, nil) {
				return errStop
			}
		case err, ok := <-w.Errors:
			if !ok {
				return fs.ErrClosed
			}
			t.o.Log.Debug("the system has lost some of what changed", "folder", t.dir, "err", err)
			if err := v.add(ctx, ""); err != nil { // directories that came meanwhile
				return err
			}
			if !yield("", nil) {
				return errStop
			}
		}
	}
}

// tick says now and then that anything may have changed.
func (t *Tree) tick(ctx context.Context, yield func(string, error) bool) error {
	for {
		if !yield("", nil) {
			return errStop
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(t.o.Rescan):
		}
	}
}

// watching is one Watch.
type watching struct {
	t      *Tree
	w      *fsnotify.Watcher
	partly bool // not all is watched
}

// path returns the path in the Tree of what an event is about, and false if that is a hidden file.
func (v *watching) path(name string) (string, bool) {
	rel, err := filepath.Rel(v.t.dir, name)
	if err != nil {
		return "", true
	}
	rel = filepath.ToSlash(rel)
	if rel == "." {
		return "", true
	}
	return rel, !aside.Is(rel[strings.LastIndexByte(rel, '/')+1:])
}

// add watches the directory path and all below it; nothing if it is no directory.
func (v *watching) add(ctx context.Context, path string) error {
	if v.partly {
		return nil
	}
	in, err := v.t.below(path)
	if err != nil {
		if path == "" {
			return err
		}
		return nil // it is no directory, or gone again
	}
	defer func() { _ = in.Close() }()
	if err := v.w.Add(filepath.Join(v.t.dir, filepath.FromSlash(path))); err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EMFILE) {
			v.partly = true
			v.t.o.Log.Warn("the system watches no more folders: all is scanned from time to time", "folder", v.t.dir, "every", v.t.o.Rescan,
				"hint", "raise fs.inotify.max_user_watches")
			return nil
		}
		return nil // it is gone again
	}
	names, err := in.names()
	if err != nil {
		return nil // the scan says so
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		i, err := in.lstat(name)
		if err != nil || i.kind != remote.Dir || in.other(&i, v.t.o.CrossMounts) {
			continue
		}
		p := name
		if path != "" {
			p = path + "/" + name
		}
		if err := v.add(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
