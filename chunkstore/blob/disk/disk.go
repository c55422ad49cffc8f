// Package disk is a blob.Bucket in a folder of a local file system. It knows
// nothing of what is in a blob, and it is no place for anything but blobs.
//
// A blob named "packs/0f/0f12" is the file packs/0f/0f12 below the folder, with
// mode 0600; folders have mode 0700. All access goes through [os.Root], so no
// symbolic link leads out of the folder; what is not a regular file, or has no
// legal name, is not there for the Bucket and stays untouched.
//
// A Put writes a temporary file in the folder ".tmp", which no legal name can
// reach, makes it durable with fsync, renames it to its name and makes the rename
// durable with an fsync of the folder, and of each folder that had to be made. So a crash
// leaves nothing behind but temporary files. A temporary file is locked as long
// as somebody writes it; [Open] removes those that nobody has locked, and, where
// the file system knows no locks, those that were not written for an hour.
//
// The caller sees to it that nobody else changes the folder meanwhile. A blob that
// is removed or replaced from outside by unlink or rename is noticed all the same.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// Options say how a folder is opened. The zero value works. Durability is not
// optional.
type Options struct {
	// Log takes what Open has mended; nil discards it.
	Log *slog.Logger
}

// A Bucket is a [blob.Bucket] in a folder. It is safe for concurrent use.
type Bucket struct {
	root  *os.Root
	files *files
	bufs  sync.Pool // of *[]byte, copyBuffer bytes each

	mu      sync.Mutex
	durable map[string]bool // the folders of which we know that a crash leaves them
}

var _ blob.Bucket = (*Bucket)(nil)

const (
	copyBuffer = 256 << 10 // bytes written at once
	tmpDir     = ".tmp"
	tmpAge     = time.Hour // after which a temporary file without lock counts as left over
)

// Open opens the folder dir and makes it if it is not there. The caller closes
// the Bucket.
func Open(dir string, o Options) (*Bucket, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := durable.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make blob folder: %w", noSpace(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open blob folder: %w", err)
	}
	b := &Bucket{
		root: root, files: newFiles(maxOpen), durable: map[string]bool{".": true},
		bufs: sync.Pool{New: func() any { p := make([]byte, copyBuffer); return &p }},
	}
	if err := root.Mkdir(tmpDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, errors.Join(fmt.Errorf("make blob folder: %w", noSpace(err)), b.Close())
	}
	if err := b.sweep(log); err != nil {
		return nil, errors.Join(fmt.Errorf("sweep blob folder: %w", err), b.Close())
	}
	return b, nil
}

// Close closes the files that are kept open. Every other method returns an error that wraps
// [fs.ErrClosed] afterwards; readers that are still open stay usable.
func (b *Bucket) Close() error {
	return errors.Join(b.files.close(), b.root.Close())
}

// Put implements [blob.Bucket]. It fsyncs the blob and its folder before it returns nil. If
// the last fsync fails, the whole blob may be there all the same.
func (b *Bucket) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if err := name.Check(); err != nil {
		return err
	}
	if err := b.put(ctx, name, r, size); err != nil {
		return fmt.Errorf("put blob %s: %w", name, noSpace(err))
	}
	return nil
}

func (b *Bucket) put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	tmp, err := b.writeTmp(ctx, r, size)
	if err != nil {
		return err
	}
	err = b.moveIn(tmp, name)
	if err != nil {
		return errors.Join(err, b.root.Remove(tmp))
	}
	b.files.drop(name)
	return b.syncDir(path.Dir(string(name)))
}

// writeTmp writes the body to a temporary file, durably, and returns its name. If it
// fails, the file is gone again.
func (b *Bucket) writeTmp(ctx context.Context, r io.Reader, size int64) (tmp string, err error) {
	body := blob.Body(ctx, r, size)
	f, tmp, err := b.createTmp()
	if err != nil {
		return "", err
	}
	buf := b.bufs.Get().(*[]byte)
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, body, *buf) // the struct hides ReadFrom, which has a small buffer
	b.bufs.Put(buf)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = ctx.Err()
	}
	// Closed before it is renamed: some systems do not rename an open file.
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, b.root.Remove(tmp))
	}
	return tmp, nil
}

// moveIn gives the temporary file its name, in a folder that a crash leaves there.
func (b *Bucket) moveIn(tmp string, name blob.Name) error {
	dir := path.Dir(string(name))
	for again := false; ; again = true {
		if err := b.ensureDir(dir, again); err != nil {
			return asName(err)
		}
		err := b.root.Rename(tmp, string(name))
		if errors.Is(err, fs.ErrNotExist) && !again {
			continue // somebody removed the folder behind our back
		}
		if err != nil {
			if fi, err2 := b.root.Lstat(string(name)); err2 == nil && fi.IsDir() {
				return fmt.Errorf("%w: it is a folder of other blobs: %w", blob.ErrName, err)
			}
			return asName(err)
		}
		return nil
	}
}

// asName adds ErrName to the error of a path that leads through a file.
func asName(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: a part of it is another blob: %w", blob.ErrName, err)
	}
	return err
}

// ensureDir makes the folder and those above it, and makes them durable, unless it
// knows that they are. With forget it does not trust what it knows. A folder that
// exists may be one that another process, or a concurrent Put, has only just made, so
// that alone does not count.
func (b *Bucket) ensureDir(dir string, forget bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if forget {
		b.durable = map[string]bool{".": true}
	}
	return b.ensureLocked(dir)
}

func (b *Bucket) ensureLocked(dir string) error {
	if b.durable[dir] {
		return nil
	}
	parent := path.Dir(dir)
	if err := b.ensureLocked(parent); err != nil {
		return err
	}
	if err := b.root.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		fi, err := b.root.Lstat(dir)
		if err != nil {
			return err
		}
		if !fi.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
	} else if err != nil {
		return err
	}
	if err := b.syncDir(parent); err != nil {
		return err
	}
	b.durable[dir] = true
	return nil
}

func (b *Bucket) syncDir(dir string) error { return syncPath(b.root.Open(dir)) }

// syncPath makes the entries of an open folder durable and closes it.
func syncPath(f *os.File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(syncFolder(f), f.Close())
}

// noSpace adds ErrNoSpace to the system's errors for a full disk or quota.
func noSpace(err error) error {
	if isNoSpace(err) {
		return fmt.Errorf("%w: %w", blob.ErrNoSpace, err)
	}
	return err
}

// Remove implements [blob.Bucket]. It fsyncs the folders before it returns nil. Folders
// stay, also empty ones.
func (b *Bucket) Remove(ctx context.Context, names ...blob.Name) error {
	for _, name := range names {
		if err := name.Check(); err != nil {
			return err
		}
	}
	dirs := map[string]bool{}
	for _, name := range names {
		err := ctx.Err()
		if err == nil {
			err = b.remove(name, dirs)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("remove blob %s: %w", name, err), b.syncDirs(dirs))
		}
	}
	if err := b.syncDirs(dirs); err != nil {
		return fmt.Errorf("remove blobs: %w", err)
	}
	return nil
}

// remove removes one blob and notes its folder, also if the blob is gone: whoever removed
// it may not have made that durable.
func (b *Bucket) remove(name blob.Name, dirs map[string]bool) error {
	fi, err := b.root.Lstat(string(name))
	if err == nil && !fi.Mode().IsRegular() {
		return nil
	}
	if err == nil {
		b.files.drop(name) // before, for systems that do not remove an open file
		err = b.root.Remove(string(name))
		b.files.drop(name) // and after, for a Get in between
	}
	if err != nil && !notThere(err) {
		return err
	}
	dirs[path.Dir(string(name))] = true
	return nil
}

func (b *Bucket) syncDirs(dirs map[string]bool) error {
	for dir := range dirs {
		if err := b.syncDir(dir); err != nil && !notThere(err) {
			return err
		}
	}
	return nil
}

// notThere reports whether err says that a path leads nowhere, or through a file.
func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// sweep removes the temporary files that a crash has left.
func (b *Bucket) sweep(log *slog.Logger) error {
	d, err := b.root.Open(tmpDir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	for {
		names, err := d.Readdirnames(256)
		for _, n := range names {
			if removed, err := b.sweepOne(path.Join(tmpDir, n)); err != nil {
				return err
			} else if removed {
				log.Info("removed a blob that a crash left unfinished", "file", n)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (b *Bucket) sweepOne(name string) (removed bool, err error) {
	if !strings.HasPrefix(path.Base(name), "put-") {
		return false, nil // not ours
	}
	f, err := b.root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it has just been renamed or removed by its owner
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return false, err
	}
	switch tryLock(f) {
	case lockHeld:
		return false, nil
	case lockUnknown:
		if time.Since(fi.ModTime()) < tmpAge {
			return false, nil
		}
	case lockTaken:
	}
	if err := b.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, nil
}
