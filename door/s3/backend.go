package s3

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/rclone/gofakes3"

	"github.com/sheaf-drive/sheaf/vfs"
)

// The modes of what is made.
const (
	fileMode = 0o644
	dirMode  = 0o755
)

// backend implements gofakes3.Backend and gofakes3.MultipartBackend.
type backend struct {
	h *Handler

	mu      sync.Mutex // guards uploads, and what they hold
	uploads map[gofakes3.UploadID]*upload
}

// errKey says that a key can be no path.
var errKey = gofakes3.ErrorMessage(gofakes3.ErrInvalidArgument, "a key is made of names that files can have, with one / between two")

// fail returns an error as S3 has it. Of one that S3 has no word for, the client is told that something went wrong, and the log what.
func (b *backend) fail(err error) error {
	var known gofakes3.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, vfs.ErrReadOnly), errors.Is(err, fs.ErrPermission):
		return gofakes3.ErrorMessage(gofakes3.ErrInvalidArgument, "this cannot be changed")
	case errors.Is(err, vfs.ErrName), errors.Is(err, vfs.ErrNameLen):
		return errKey
	case errors.Is(err, vfs.ErrNoSpace), errors.Is(err, vfs.ErrQuota):
		return gofakes3.ErrorMessage(gofakes3.ErrInternal, "no space is left")
	}
	b.h.o.Log.Error("the S3 door", "error", cause(err))
	return gofakes3.ErrInternal
}

// cause returns what is at the bottom of an error, which names no file.
func cause(err error) error {
	for {
		next := errors.Unwrap(err)
		if j, ok := err.(interface{ Unwrap() []error }); ok {
			next = j.Unwrap()[0]
		}
		if next == nil {
			return err
		}
		err = next
	}
}

// pathOf returns where an object lies, relative to the root of the tree. folder says that it is called as one.
func (b *backend) pathOf(ctx context.Context, bucket, key string) (p string, folder bool, err error) {
	if bucket == "" || strings.Contains(bucket, "/") || hidden(bucket) {
		return "", false, gofakes3.BucketNotFound(bucket)
	}
	key, folder = strings.CutSuffix(key, "/")
	if key == "" {
		return "", false, errKey
	}
	for name := range strings.SplitSeq(key, "/") {
		if vfs.CheckName(name) != nil {
			return "", false, errKey
		}
	}
	return path.Join(scopeOf(ctx).root, bucket, key), folder, nil
}

// hidden reports whether a folder at the top is one that doors keep for themselves.
func hidden(name string) bool { return strings.HasPrefix(name, vfs.ScratchPrefix) }

// bucket returns the folder of a bucket.
func (b *backend) bucket(ctx context.Context, name string) (vfs.Dir, error) {
	if name == "" || strings.Contains(name, "/") || vfs.CheckName(name) != nil || hidden(name) {
		return nil, gofakes3.BucketNotFound(name)
	}
	d, err := vfs.WalkDir(ctx, b.h.fsys, path.Join(scopeOf(ctx).root, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, vfs.ErrNotDir) {
		return nil, gofakes3.BucketNotFound(name)
	}
	return d, err
}

// ListBuckets implements gofakes3.Backend.
func (b *backend) ListBuckets(ctx context.Context) ([]gofakes3.BucketInfo, error) {
	top, err := vfs.WalkDir(ctx, b.h.fsys, scopeOf(ctx).root)
	if err != nil {
		return nil, b.fail(err)
	}
	var all []gofakes3.BucketInfo
	for e, err := range top.List(ctx, "") {
		if err != nil {
			return nil, b.fail(err)
		}
		if e.Kind != vfs.KindDir || hidden(e.Name) {
			continue
		}
		n, err := top.Lookup(ctx, e.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		var a vfs.Attr
		if err == nil {
			a, err = n.Attr(ctx)
		}
		if err != nil {
			return nil, b.fail(err)
		}
		all = append(all, gofakes3.BucketInfo{Name: e.Name, CreationDate: gofakes3.NewContentTime(a.BTime)})
	}
	return all, nil
}

// BucketExists implements gofakes3.Backend.
func (b *backend) BucketExists(ctx context.Context, name string) (bool, error) {
	_, err := b.bucket(ctx, name)
	if gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchBucket) {
		return false, nil
	}
	return err == nil, b.fail(err)
}

// CreateBucket implements gofakes3.Backend.
func (b *backend) CreateBucket(ctx context.Context, name string) error {
	top, err := vfs.WalkDir(ctx, b.h.fsys, scopeOf(ctx).root)
	if err == nil {
		_, err = top.Make(ctx, name, b.new(vfs.KindDir, dirMode))
	}
	if errors.Is(err, fs.ErrExist) {
		return gofakes3.ResourceError(gofakes3.ErrBucketAlreadyExists, name)
	}
	if err == nil {
		err = top.Sync(ctx)
	}
	return b.fail(err)
}

// DeleteBucket implements gofakes3.Backend. Only an empty folder goes.
func (b *backend) DeleteBucket(ctx context.Context, name string) error {
	if _, err := b.bucket(ctx, name); err != nil {
		return b.fail(err)
	}
	top, err := vfs.WalkDir(ctx, b.h.fsys, scopeOf(ctx).root)
	if err == nil {
		err = top.Remove(ctx, name, true)
	}
	if errors.Is(err, vfs.ErrNotEmpty) {
		return gofakes3.ResourceError(gofakes3.ErrBucketNotEmpty, name)
	}
	if err == nil {
		err = top.Sync(ctx)
	}
	return b.fail(err)
}

// object returns what lies at a key: a file, or a folder if it is called as one.
func (b *backend) object(ctx context.Context, bucket, key string) (vfs.Node, vfs.Attr, error) {
	if _, err := b.bucket(ctx, bucket); err != nil {
		return nil, vfs.Attr{}, err
	}
	p, folder, err := b.pathOf(ctx, bucket, key)
	if err != nil {
		return nil, vfs.Attr{}, gofakes3.KeyNotFound(key)
	}
	n, err := vfs.Walk(ctx, b.h.fsys, p)
	var a vfs.Attr
	if err == nil {
		a, err = n.Attr(ctx)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, vfs.ErrNotDir):
		return nil, a, gofakes3.KeyNotFound(key)
	case err != nil:
		return nil, a, err
	case folder && a.Kind != vfs.KindDir, !folder && a.Kind != vfs.KindFile:
		return nil, a, gofakes3.KeyNotFound(key)
	}
	return n, a, nil
}

// HeadObject implements gofakes3.Backend.
func (b *backend) HeadObject(ctx context.Context, bucket, key string) (*gofakes3.Object, error) {
	n, a, err := b.object(ctx, bucket, key)
	if err != nil {
		return nil, b.fail(err)
	}
	return b.describe(ctx, key, n, a)
}

// GetObject implements gofakes3.Backend.
func (b *backend) GetObject(ctx context.Context, bucket, key string, want *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	n, a, err := b.object(ctx, bucket, key)
	if err != nil {
		return nil, b.fail(err)
	}
	o, err := b.describe(ctx, key, n, a)
	if err != nil {
		return nil, err
	}
	if o.Range, err = want.Range(o.Size); err != nil {
		return nil, err
	}
	f, ok := n.(vfs.File)
	if !ok { // a folder has no bytes
		return o, nil
	}
	h, err := f.Open(ctx, vfs.OpenRead)
	if err != nil {
		return nil, b.fail(err)
	}
	off, size := int64(0), o.Size
	if o.Range != nil {
		off, size = o.Range.Start, o.Range.Length
	}
	o.Contents = &reader{ctx: ctx, h: h, off: off, left: size}
	return o, nil
}

// describe returns what is known of an object, without its bytes.
func (b *backend) describe(ctx context.Context, key string, n vfs.Node, a vfs.Attr) (*gofakes3.Object, error) {
	note, err := noteOf(ctx, n, a)
	if err != nil {
		return nil, b.fail(err)
	}
	o := &gofakes3.Object{Name: key, Metadata: note.metadata(a), Hash: note.Sum, Contents: io.NopCloser(strings.NewReader(""))}
	if a.Kind == vfs.KindFile {
		o.Size = a.Size
	}
	return o, nil
}

// reader reads a part of a file.
type reader struct {
	ctx       context.Context
	h         vfs.Handle
	off, left int64
}

func (r *reader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	n, err := r.h.ReadAt(r.ctx, p[:min(int64(len(p)), r.left)], r.off)
	r.off, r.left = r.off+int64(n), r.left-int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		err = io.ErrUnexpectedEOF // it has become shorter since its length was told
	}
	return n, err
}

func (r *reader) Close() error { return r.h.Close(context.WithoutCancel(r.ctx)) }
