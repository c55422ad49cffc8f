package s3

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/rclone/gofakes3"

	"github.com/sheaf-drive/sheaf/vfs"
)

// copyBlock is how much of a body is in memory at once.
const copyBlock = 1 << 20

// new says what a new node is to be.
func (b *backend) new(kind vfs.Kind, mode vfs.Mode) vfs.New {
	return vfs.New{Kind: kind, Mode: mode, UID: b.h.o.UID, GID: b.h.o.GID}
}

// draft is a file that grows where nobody sees it.
type draft struct {
	dir    vfs.Dir
	name   string
	file   vfs.File
	handle vfs.Handle
	// changed is the CTime that it is to have in its place.
	changed time.Time
	closed  bool
}

// close gives the handle back, once.
func (d *draft) close(ctx context.Context) error {
	if d.closed {
		return nil
	}
	d.closed = true
	return d.handle.Close(context.WithoutCancel(ctx))
}

// draft makes one.
func (b *backend) draft(ctx context.Context) (*draft, error) {
	what := b.new(vfs.KindDir, 0o700)
	d, err := vfs.MkdirAll(ctx, b.h.fsys, b.h.scratch, what)
	if err != nil {
		return nil, err
	}
	name := rand.Text()
	f, h, err := d.Create(ctx, name, b.new(vfs.KindFile, fileMode), vfs.OpenRead|vfs.OpenWrite)
	if err != nil {
		return nil, err
	}
	return &draft{dir: d, name: name, file: f, handle: h}, nil
}

// drop removes a draft that was not placed.
func (b *backend) drop(ctx context.Context, d *draft) {
	ctx = context.WithoutCancel(ctx)
	err := d.close(ctx)
	if e := d.dir.Remove(ctx, d.name, false); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	if err != nil {
		b.h.o.Log.Warn("what was left of an upload stays until the next start", "error", err)
	}
}

// receive writes size bytes of r into a draft and returns their MD5.
func (d *draft) receive(ctx context.Context, r io.Reader, size int64) ([]byte, error) {
	sum := md5.New() //nolint:gosec // what S3 calls an ETag
	buf := make([]byte, min(max(size, 1), copyBlock))
	for off := int64(0); ; {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			sum.Write(buf[:n])
			if _, err := d.handle.WriteAt(ctx, buf[:n], off); err != nil {
				return nil, err
			}
			off += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if size >= 0 && off != size {
				return nil, gofakes3.ErrIncompleteBody
			}
			return sum.Sum(nil), nil
		case err != nil:
			return nil, err
		}
	}
}

// place gives a draft its place, in one step, and returns when it is durable. What lies there is replaced; a folder is not.
func (b *backend) place(ctx context.Context, d *draft, p string) error {
	dir, err := b.parents(ctx, path.Dir(p))
	if err != nil {
		return err
	}
	if err := d.file.Sync(ctx); err != nil { // before it is seen
		return err
	}
	err = d.dir.Rename(ctx, d.name, dir, path.Base(p), vfs.RenameReplace)
	switch {
	case errors.Is(err, vfs.ErrIsDir):
		return gofakes3.ErrorMessage(gofakes3.ErrInvalidArgument, "there is a folder of this name")
	case err != nil:
		return err
	}
	// The move was the last change of it. Whoever writes to it meanwhile gives it another time of writing, too.
	_, err = d.file.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetCTime, CTime: d.changed})
	return errors.Join(err, d.file.Sync(ctx), dir.Sync(ctx), d.close(ctx))
}

// parents returns the folder at a path, and makes, and marks, what is missing of it.
func (b *backend) parents(ctx context.Context, p string) (vfs.Dir, error) {
	d, err := b.h.fsys.Root(ctx)
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		n, err := d.Lookup(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			if n, err = d.Make(ctx, name, b.new(vfs.KindDir, dirMode)); err == nil {
				mark, _ := json.Marshal(note{Made: true}) // of such a value it cannot fail
				err = errors.Join(n.SetXattr(ctx, noteAttr, mark, vfs.XattrAny), d.Sync(ctx))
			} else if errors.Is(err, fs.ErrExist) { // somebody was faster
				n, err = d.Lookup(ctx, name)
			}
		}
		if err != nil {
			return nil, err
		}
		next, ok := n.(vfs.Dir)
		if !ok {
			return nil, gofakes3.ErrorMessage(gofakes3.ErrInvalidArgument, "a part of the key before a / is an object")
		}
		d = next
	}
	return d, nil
}

// PutObject implements gofakes3.Backend.
func (b *backend) PutObject(ctx context.Context, bucket, key string, meta map[string]string, r io.Reader, size int64) (gofakes3.PutObjectResult, error) {
	var none gofakes3.PutObjectResult
	if _, err := b.bucket(ctx, bucket); err != nil {
		return none, b.fail(err)
	}
	p, folder, err := b.pathOf(ctx, bucket, key)
	if err != nil {
		return none, err
	}
	if folder {
		if n, err := io.ReadFull(r, make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
			return none, gofakes3.ErrorMessage(gofakes3.ErrInvalidArgument, "a key that ends in / is a folder, and has no bytes")
		}
		// It was asked for, so that it stays.
		d, err := vfs.MkdirAll(ctx, b.h.fsys, p, b.new(vfs.KindDir, dirMode))
		if err == nil {
			err = d.Sync(ctx)
		}
		return none, b.fail(err)
	}
	d, err := b.draft(ctx)
	if err != nil {
		return none, b.fail(err)
	}
	sum, err := d.receive(ctx, r, size)
	if err == nil {
		d.changed, err = dress(ctx, d.file, sum, meta)
	}
	if err == nil {
		err = b.place(ctx, d, p)
	}
	if err != nil {
		b.drop(ctx, d)
		return none, b.fail(err)
	}
	return none, nil
}

// CopyObject implements gofakes3.Backend. Bytes that lie in chunks are not copied.
func (b *backend) CopyObject(ctx context.Context, fromBucket, from, toBucket, to string, meta map[string]string) (res gofakes3.CopyObjectResult, err error) {
	defer func() { err = b.fail(err) }()
	n, a, err := b.object(ctx, fromBucket, from)
	if err != nil {
		return res, err
	}
	p, folder, err := b.pathOf(ctx, toBucket, to)
	if err != nil {
		return res, err
	}
	if _, err := b.bucket(ctx, toBucket); err != nil {
		return res, err
	}
	f, ok := n.(vfs.File)
	if !ok || folder {
		return res, gofakes3.ErrorMessage(gofakes3.ErrInvalidArgument, "a folder is not copied")
	}
	t, err := noteOf(ctx, n, a)
	if err != nil {
		return res, err
	}
	src, err := f.Open(ctx, vfs.OpenRead)
	if err != nil {
		return res, err
	}
	defer func() { _ = src.Close(context.WithoutCancel(ctx)) }()
	d, err := b.draft(ctx)
	if err != nil {
		return res, err
	}
	_, err = src.CopyTo(ctx, 0, d.handle, 0, a.Size)
	if err == nil && len(t.Sum) != md5.Size {
		t.Sum = sumOf(a.Ino, uint64(a.Size), uint64(a.CTime.UnixNano()))
	}
	if err == nil {
		d.changed, err = dress(ctx, d.file, t.Sum, meta)
	}
	var now vfs.Attr
	if err == nil {
		now, err = d.file.Attr(ctx)
	}
	if err == nil && now.Size != a.Size {
		err = errors.New("a file changed while it was copied")
	}
	if err == nil {
		err = b.place(ctx, d, p)
	}
	if err != nil {
		b.drop(ctx, d)
		return res, err
	}
	return gofakes3.CopyObjectResult{ETag: `"` + hex.EncodeToString(t.Sum) + `"`, LastModified: gofakes3.NewContentTime(now.MTime)}, nil
}

// DeleteObject implements gofakes3.Backend. What is not there is deleted already.
func (b *backend) DeleteObject(ctx context.Context, bucket, key string) (res gofakes3.ObjectDeleteResult, err error) {
	if _, err := b.bucket(ctx, bucket); err != nil {
		return res, b.fail(err)
	}
	p, folder, err := b.pathOf(ctx, bucket, key)
	if err != nil {
		return res, nil //nolint:nilerr // no object can have this key
	}
	dir, name, err := vfs.WalkParent(ctx, b.h.fsys, p)
	if err == nil {
		err = dir.Remove(ctx, name, folder)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, vfs.ErrNotDir), errors.Is(err, vfs.ErrIsDir):
		return res, nil // no object of this key is there
	case errors.Is(err, vfs.ErrNotEmpty): // the folder is there for what lies in it
		return res, nil
	case err != nil:
		return res, b.fail(err)
	}
	if err := dir.Sync(ctx); err != nil {
		return res, b.fail(err)
	}
	return res, b.fail(b.tidy(ctx, bucket, path.Dir(p)))
}

// tidy removes the folders at and above a path, but for the bucket, that are empty and were made for what lay in them.
func (b *backend) tidy(ctx context.Context, bucket, p string) error {
	top := path.Join(scopeOf(ctx).root, bucket)
	for ; p != top && len(p) > len(top); p = path.Dir(p) {
		dir, name, err := vfs.WalkParent(ctx, b.h.fsys, p)
		if err != nil {
			return err
		}
		n, err := dir.Lookup(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		t, err := noteOf(ctx, n, vfs.Attr{Kind: vfs.KindDir})
		if err != nil || !t.Made {
			return err
		}
		switch err := dir.Remove(ctx, name, true); {
		case errors.Is(err, vfs.ErrNotEmpty), errors.Is(err, vfs.ErrNotDir):
			return nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// DeleteMulti implements gofakes3.Backend.
func (b *backend) DeleteMulti(ctx context.Context, bucket string, keys ...string) (res gofakes3.MultiDeleteResult, err error) {
	if _, err := b.bucket(ctx, bucket); err != nil {
		return res, b.fail(err)
	}
	for _, key := range keys {
		if _, err := b.DeleteObject(ctx, bucket, key); err != nil {
			e := gofakes3.ErrorResultFromError(err)
			e.Key = key
			res.Error = append(res.Error, e)
			continue
		}
		res.Deleted = append(res.Deleted, gofakes3.ObjectID{Key: key})
	}
	return res, nil
}
