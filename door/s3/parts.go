package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"io"
	"strings"

	"github.com/rclone/gofakes3"
)

// maxUploads is how many objects may be under way in parts at once.
const maxUploads = 1000

// upload is an object that comes in parts. Those that came are drafts, of which none is placed.
type upload struct {
	bucket, key string
	meta        map[string]string
	parts       map[int]part
}

type part struct {
	d    *draft
	sum  []byte
	size int64
}

// CreateMultipartUpload implements gofakes3.MultipartBackend.
func (b *backend) CreateMultipartUpload(ctx context.Context, bucket, key string, meta map[string]string) (gofakes3.UploadID, error) {
	if _, err := b.bucket(ctx, bucket); err != nil {
		return "", b.fail(err)
	}
	if _, folder, err := b.pathOf(ctx, bucket, key); err != nil || folder {
		return "", errKey
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.uploads) >= maxUploads {
		return "", gofakes3.ErrorMessage(gofakes3.ErrInvalidArgument, "too many uploads are under way: abort some")
	}
	id := gofakes3.UploadID(rand.Text())
	b.uploads[id] = &upload{bucket, key, meta, map[int]part{}}
	return id, nil
}

// find returns an upload of an object.
func (b *backend) find(bucket, key string, id gofakes3.UploadID) (*upload, error) {
	u := b.uploads[id]
	if u == nil || u.bucket != bucket || u.key != key {
		return nil, gofakes3.ErrNoSuchUpload
	}
	return u, nil
}

// UploadPart implements gofakes3.MultipartBackend.
func (b *backend) UploadPart(ctx context.Context, bucket, key string, id gofakes3.UploadID, number int, size int64, r io.Reader) (string, error) {
	b.mu.Lock()
	_, err := b.find(bucket, key, id)
	b.mu.Unlock()
	if err != nil {
		return "", err
	}
	d, err := b.draft(ctx)
	if err != nil {
		return "", b.fail(err)
	}
	sum, err := d.receive(ctx, r, size)
	var a int64
	if err == nil {
		at, e := d.file.Attr(ctx)
		a, err = at.Size, e
	}
	if err == nil {
		err = d.file.Sync(ctx)
	}
	if err != nil {
		b.drop(ctx, d)
		return "", b.fail(err)
	}
	b.mu.Lock()
	u, err := b.find(bucket, key, id) // it may have been aborted meanwhile
	var old part
	if err == nil {
		old = u.parts[number]
		u.parts[number] = part{d, sum, a}
	}
	b.mu.Unlock()
	if err != nil {
		b.drop(ctx, d)
		return "", err
	}
	if old.d != nil {
		b.drop(ctx, old.d)
	}
	return `"` + hex.EncodeToString(sum) + `"`, nil
}

// CompleteMultipartUpload implements gofakes3.MultipartBackend.
func (b *backend) CompleteMultipartUpload(ctx context.Context, bucket, key string, id gofakes3.UploadID, in *gofakes3.CompleteMultipartUploadRequest) (gofakes3.VersionID, string, error) {
	b.mu.Lock()
	u, err := b.find(bucket, key, id)
	var parts []part
	last := 0
	for _, p := range in.Parts {
		if err != nil {
			break
		}
		have, ok := u.parts[p.PartNumber]
		switch sum, e := hex.DecodeString(strings.Trim(p.ETag, `"`)); {
		case !ok, e != nil, !bytes.Equal(sum, have.sum):
			err = gofakes3.ErrInvalidPart
		case p.PartNumber <= last:
			err = gofakes3.ErrInvalidPartOrder
		}
		last = p.PartNumber
		parts = append(parts, have)
	}
	b.mu.Unlock()
	if err == nil && len(parts) == 0 {
		err = gofakes3.ErrInvalidPart
	}
	if err != nil {
		return "", "", err
	}
	p, _, err := b.pathOf(ctx, bucket, key)
	if err != nil {
		return "", "", err
	}
	if _, err := b.bucket(ctx, bucket); err != nil {
		return "", "", b.fail(err)
	}
	d, err := b.draft(ctx)
	if err != nil {
		return "", "", b.fail(err)
	}
	sums, off := sha1.New(), int64(0) //nolint:gosec // a name, as in note.go
	for _, have := range parts {
		if err != nil {
			break
		}
		sums.Write(have.sum)
		var n int64
		n, err = have.d.handle.CopyTo(ctx, 0, d.handle, off, have.size)
		if off += n; err == nil && n != have.size {
			err = errors.New("a part has become shorter")
		}
	}
	sum := sums.Sum(nil)
	if err == nil {
		d.changed, err = dress(ctx, d.file, sum, u.meta)
	}
	if err == nil {
		err = b.place(ctx, d, p)
	}
	if err != nil {
		b.drop(ctx, d)
		return "", "", b.fail(err)
	}
	b.forget(ctx, id)
	return "", `"` + hex.EncodeToString(sum) + `"`, nil
}

// AbortMultipartUpload implements gofakes3.MultipartBackend.
func (b *backend) AbortMultipartUpload(ctx context.Context, bucket, key string, id gofakes3.UploadID) error {
	b.mu.Lock()
	_, err := b.find(bucket, key, id)
	b.mu.Unlock()
	if err != nil {
		return err
	}
	b.forget(ctx, id)
	return nil
}

// forget removes all parts of an upload.
func (b *backend) forget(ctx context.Context, id gofakes3.UploadID) {
	b.mu.Lock()
	u := b.uploads[id]
	delete(b.uploads, id)
	b.mu.Unlock()
	if u == nil {
		return
	}
	for _, p := range u.parts {
		b.drop(ctx, p.d)
	}
}
