package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// listBatch is how many entries of one folder List holds in memory, at most twice
// that while it reads. A larger folder is read once for each batch.
const listBatch = 16 << 10

// List implements [blob.Bucket]. It holds a bounded number of names in memory,
// however many there are.
func (b *Bucket) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		l := lister{ctx: ctx, prefix: string(prefix), batch: listBatch, yield: yield}
		err := ctx.Err()
		if err == nil {
			err = l.folder(b.root, "")
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(blob.Info{}, fmt.Errorf("list blobs %q: %w", string(prefix), err))
		}
	}
}

// errStop ends a walk because the caller has enough.
var errStop = errors.New("stop")

// lister is one walk. Each key is the name of a file, or that of a folder with a
// slash behind it: in the order of these keys, a walk of the tree yields the whole
// names in byte order. ("a-b" < "a/b" < "a0", though the folder is named "a".)
type lister struct {
	ctx    context.Context // of the one List call that this value lives in
	prefix string
	batch  int
	yield  func(blob.Info, error) bool
}

// folder yields what lies in dir, whose path is base: "" or one that ends with a slash.
func (l *lister) folder(dir *os.Root, base string) error {
	for last := ""; ; {
		keys, more, err := l.read(dir, base, last)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := l.entry(dir, base, key); err != nil {
				return err
			}
			last = key
		}
		if !more {
			return nil
		}
	}
}

// entry yields a file, or what lies in a folder. What has vanished meanwhile is passed over.
func (l *lister) entry(dir *os.Root, base, key string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if sub, ok := strings.CutSuffix(key, "/"); ok {
		r, err := dir.OpenRoot(sub)
		if notThere(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.Join(l.folder(r, base+key), r.Close())
	}
	fi, err := dir.Lstat(key)
	if notThere(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return nil
	}
	if !l.yield(blob.Info{Name: blob.Name(base + key), Size: fi.Size(), ModTime: fi.ModTime()}, nil) {
		return errStop
	}
	return nil
}

// read returns the first keys of dir after last, in order, and whether there are more.
func (l *lister) read(dir *os.Root, base, last string) (keys []string, more bool, err error) {
	d, err := dir.Open(".")
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = d.Close() }()
	for {
		entries, err := d.ReadDir(512)
		for _, e := range entries {
			if key, ok := l.key(e, base); ok && key > last {
				keys = append(keys, key)
			}
		}
		if len(keys) > 2*l.batch || err != nil {
			slices.Sort(keys)
			keys = slices.Compact(keys) // a folder that changes may show an entry twice
			if len(keys) > l.batch {
				clear(keys[l.batch:])
				keys, more = keys[:l.batch], true
			}
		}
		if errors.Is(err, io.EOF) {
			return keys, more, nil
		}
		if err != nil {
			return nil, false, err
		}
		if err := l.ctx.Err(); err != nil {
			return nil, false, err
		}
	}
}

// key returns the key of an entry that is, or may lead to, a blob with the prefix.
func (l *lister) key(e os.DirEntry, base string) (string, bool) {
	name := base + e.Name()
	if blob.Name(name).Check() != nil {
		return "", false
	}
	if e.IsDir() {
		name += "/"
		return e.Name() + "/", strings.HasPrefix(name, l.prefix) || strings.HasPrefix(l.prefix, name)
	}
	return e.Name(), strings.HasPrefix(name, l.prefix)
}
