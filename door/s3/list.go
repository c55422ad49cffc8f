package s3

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/rclone/gofakes3"

	"github.com/sheaf-drive/sheaf/vfs"
)

// maxKeys is how many keys are told at once if a client does not say.
const maxKeys = 1000

// lister gathers one page of the keys of a bucket, in the order of their bytes.
type lister struct {
	prefix gofakes3.Prefix
	after  string // keys up to it were told
	most   int
	list   *gofakes3.ObjectList
	last   string // what was told last: a key, or a common prefix
}

// errFull says that the page is full, and there is more.
var errFull = errors.New("the page is full")

// ListBucket implements gofakes3.Backend.
func (b *backend) ListBucket(ctx context.Context, bucket string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	d, err := b.bucket(ctx, bucket)
	if err != nil {
		return nil, b.fail(err)
	}
	l := &lister{after: page.Marker, most: int(page.MaxKeys), list: gofakes3.NewObjectList()}
	if prefix != nil {
		l.prefix = *prefix
	}
	if l.most <= 0 || l.most > maxKeys {
		l.most = maxKeys
	}
	// What lies beside the way to the prefix is not looked at.
	at := ""
	if i := strings.LastIndexByte(l.prefix.Prefix, '/'); l.prefix.HasPrefix && i >= 0 {
		at = l.prefix.Prefix[:i+1]
		n, err := vfs.Walk(ctx, b.h.fsys, path.Join(scopeOf(ctx).root, bucket, at))
		sub, ok := n.(vfs.Dir)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, vfs.ErrNotDir), errors.Is(err, vfs.ErrName), errors.Is(err, vfs.ErrNameLen), err == nil && !ok:
			return l.list, nil
		case err != nil:
			return nil, b.fail(err)
		}
		if path.Clean("/"+at) != "/"+strings.TrimSuffix(at, "/") { // no key has such a prefix
			return l.list, nil
		}
		d = sub
	}
	err = l.dir(ctx, d, at)
	if errors.Is(err, errFull) {
		l.list.IsTruncated, l.list.NextMarker = true, l.last
		err = nil
	}
	return l.list, b.fail(err)
}

// dir takes what is below a folder, whose keys begin with at.
func (l *lister) dir(ctx context.Context, d vfs.Dir, at string) error {
	// Folders are in the order of their names with the / behind, as the keys in them are.
	var names []string
	for e, err := range d.List(ctx, "") {
		switch {
		case err != nil:
			return err
		case e.Kind == vfs.KindDir:
			names = append(names, e.Name+"/")
		case e.Kind == vfs.KindFile:
			names = append(names, e.Name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 && at != "" && at > l.after {
		return l.take(ctx, d, at)
	}
	for _, name := range names {
		key := at + name
		isDir := strings.HasSuffix(key, "/")
		if key <= l.after && !(isDir && strings.HasPrefix(l.after, key)) {
			continue
		}
		if l.prefix.HasPrefix && !strings.HasPrefix(key, l.prefix.Prefix) && !strings.HasPrefix(l.prefix.Prefix, key) {
			continue
		}
		if common, ok := l.common(key); ok {
			if common > l.after && common != l.last {
				if err := l.room(common); err != nil {
					return err
				}
				l.list.AddPrefix(common)
			}
			continue
		}
		n, err := d.Lookup(ctx, strings.TrimSuffix(name, "/"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return err
		}
		if sub, ok := n.(vfs.Dir); ok && isDir {
			err = l.dir(ctx, sub, key)
		} else if !isDir {
			err = l.take(ctx, n, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// common returns the common prefix that a key is told as, if it is. All that is below a folder whose key has one has the same.
func (l *lister) common(key string) (string, bool) {
	if !l.prefix.HasDelimiter || l.prefix.Delimiter == "" {
		return "", false
	}
	start := 0
	if l.prefix.HasPrefix {
		start = len(l.prefix.Prefix)
	}
	if len(key) < start {
		return "", false
	}
	i := strings.Index(key[start:], l.prefix.Delimiter)
	if i < 0 {
		return "", false
	}
	return key[:start+i+len(l.prefix.Delimiter)], true
}

// room makes sure that one more fits into the page.
func (l *lister) room(what string) error {
	if len(l.list.Contents)+len(l.list.CommonPrefixes) >= l.most {
		return errFull
	}
	l.last = what
	return nil
}

// take tells of one object: a file, or an empty folder.
func (l *lister) take(ctx context.Context, n vfs.Node, key string) error {
	if l.prefix.HasPrefix && !strings.HasPrefix(key, l.prefix.Prefix) {
		return nil
	}
	a, err := n.Attr(ctx)
	var t note
	if err == nil {
		t, err = noteOf(ctx, n, a)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := l.room(key); err != nil {
		return err
	}
	size := a.Size
	if a.Kind == vfs.KindDir {
		size = 0
	}
	l.list.Add(&gofakes3.Content{
		Key: key, LastModified: gofakes3.NewContentTime(a.MTime), ETag: `"` + hex.EncodeToString(t.Sum) + `"`, Size: size, StorageClass: gofakes3.StorageStandard,
	})
	return nil
}
