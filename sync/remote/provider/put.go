package provider

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	gohash "hash"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	rclone "github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/hash"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// tmpDir holds what is being put where a backend does not do so at once. No legal name of a blob leads there, and
// it does not begin with a dot, for some servers hide or refuse that.
const tmpDir = "tmp~"

// tmpAge is after which time an unfinished file is nobody's. It is long, for the clock of a server may be any.
const tmpAge = 48 * time.Hour

// cleanTime is how long a Put that failed may take to remove what it has left.
const cleanTime = 10 * time.Second

// source tells a backend what it is about to get. Where the hash is known before, the backend tells the server, which then refuses
// what does not have it, before anybody sees it.
type source struct {
	f    rclone.Fs
	name string
	size int64
	kind hash.Type
	sum  string // "" if it is not known before
}

func (s source) Fs() rclone.Info                   { return s.f }
func (s source) String() string                    { return s.name }
func (s source) Remote() string                    { return s.name }
func (s source) ModTime(context.Context) time.Time { return time.Now() }
func (s source) Size() int64                       { return s.size }
func (s source) Storable() bool                    { return true }

func (s source) Hash(_ context.Context, t hash.Type) (string, error) {
	if s.sum == "" || t != s.kind {
		return "", hash.ErrUnsupported
	}
	return s.sum, nil
}

// Put implements [blob.Bucket]. What was put is compared with what the place has, by hash or, where it has none, by
// reading it back, before a reader can see it if the backend needs a temporary name anyway.
func (b *bucket) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if err := name.Check(); err != nil {
		return err
	}
	b.sights.changed()
	defer b.sights.changed()
	ctx, cancel := b.with(ctx)
	defer cancel()
	if err := b.put(ctx, name, r, size); err != nil {
		return fmt.Errorf("put blob %s: %w", name, b.failed(ctx, err))
	}
	return nil
}

func (b *bucket) put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	kind := b.hash()
	sum, err := newSum(kind)
	if err != nil {
		return err
	}
	known := ""
	if b.b.can.AtomicPut && kind != hash.None || size <= small {
		again, give, err := b.ahead(ctx, r, size, sum)
		if err != nil {
			return err
		}
		defer give()
		if again != nil {
			if r = again; kind != hash.None {
				known = hex.EncodeToString(sum.Sum(nil))
			}
			sum.Reset()
		}
	}
	body, err := newBody(ctx, r, size, sum)
	if err != nil {
		return err
	}
	defer func() { _ = body.end() }()
	if err := b.present(ctx, fresh); err != nil {
		return err
	}
	where := string(name)
	var old rclone.Object
	if !b.b.can.AtomicPut {
		if old, err = b.place(ctx, name); err != nil {
			return err
		}
		if old == nil || !b.replaces {
			b.sweep(ctx)
			where = tmpName()
		}
	}
	putCtx := ctx
	if old != nil && where == string(name) {
		putCtx = keeping(ctx)
	}
	obj, err := b.f.Put(putCtx, body, source{b.f, where, size, kind, known})
	if own := body.end(); own != nil {
		err = own
	} else if err == nil && !body.complete() {
		err = fmt.Errorf("%w: it was content with a part", blob.ErrMangled)
	}
	if err == nil {
		err = b.verify(ctx, obj, kind, sum, size)
	}
	err = b.lost(ctx, err)
	if err == nil && where != string(name) {
		err = b.move(ctx, obj, old, name)
	}
	if err != nil {
		mangled := errors.Is(err, blob.ErrMangled)
		if where != string(name) || mangled {
			b.discard(ctx, where)
		}
		if !mangled && body.end() == nil {
			err = b.why(ctx, name, size, err)
		}
		return err
	}
	return nil
}

// spool is the size up to which a body that cannot be read twice is kept in memory: one pack. room is how much that is for all Puts.
// A small body is always read before: one that fails then costs no call.
const (
	spool = 32 << 20
	room  = 4 * spool
	small = 1 << 20
)

// ahead reads a body, to know its hash before it is put, and returns one that is read from its beginning; nil if it is too long to be
// kept and cannot be read twice. The memory is in use until give is called.
func (b *bucket) ahead(ctx context.Context, r io.Reader, size int64, sum gohash.Hash) (again io.Reader, give func(), err error) {
	give = func() {}
	if s, ok := r.(io.Seeker); ok {
		if at, err := s.Seek(0, io.SeekCurrent); err == nil {
			if _, err := io.Copy(sum, blob.Body(ctx, r, size)); err != nil {
				return nil, give, err
			}
			if _, err := s.Seek(at, io.SeekStart); err != nil {
				return nil, give, fmt.Errorf("read body again: %w", err)
			}
			return r, give, nil
		}
	}
	if size > spool {
		return nil, give, nil
	}
	if size > 0 {
		if err := b.room.Acquire(ctx, size); err != nil {
			return nil, give, err
		}
		give = func() { b.room.Release(size) }
	}
	p := make([]byte, 0, max(size, 0)+bytes.MinRead) // so that it need not grow
	buf := bytes.NewBuffer(p)
	if _, err := buf.ReadFrom(io.TeeReader(blob.Body(ctx, r, size), sum)); err != nil {
		give()
		return nil, func() {}, err
	}
	return bytes.NewReader(buf.Bytes()), give, nil
}

// lost says so if a place does not find what it has just taken.
func (b *bucket) lost(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || !vanished(err) {
		return err
	}
	if err := b.present(ctx, 0); err != nil {
		return err
	}
	return fmt.Errorf("%w: it has lost it: %w", blob.ErrMangled, noNotExist{err})
}

func tmpName() string {
	var p [12]byte
	_, _ = rand.Read(p[:]) // never fails
	return path.Join(tmpDir, "put-"+strconv.FormatInt(time.Now().Unix(), 36)+"-"+hex.EncodeToString(p[:]))
}

// place returns what is there under the name; nil if nothing is. A folder of that name is an error: some servers take it away
// to make room for a file.
func (b *bucket) place(ctx context.Context, name blob.Name) (rclone.Object, error) {
	old, err := b.f.NewObject(ctx, string(name))
	switch {
	case err == nil:
		return old, nil
	case errors.Is(err, rclone.ErrorIsDir), errors.Is(err, rclone.ErrorNotAFile):
		return nil, fmt.Errorf("%w: it is a folder of other blobs: %w", blob.ErrName, err)
	case errors.Is(err, rclone.ErrorObjectNotFound):
		return nil, nil
	case refused(err):
		return nil, b.why(ctx, name, 0, err)
	}
	return nil, err
}

// move gives the file its name. What is there is replaced: at once where the server does so, else it is removed before.
func (b *bucket) move(ctx context.Context, obj, old rclone.Object, name blob.Name) error {
	do := b.f.Features().Move
	if do == nil {
		return fmt.Errorf("move on %s: %w", b.b.name, errors.ErrUnsupported)
	}
	size := obj.Size()
	moved, err := do(ctx, obj, string(name))
	if err != nil && old != nil && b.b.holds {
		if errors.Is(err, fs.ErrPermission) { // it replaces what nobody has open
			err = inUse{err}
		}
		return fmt.Errorf("move: %w", err)
	}
	if err != nil && old != nil && ctx.Err() == nil && !temporary(err) {
		if err := old.Remove(ctx); err != nil {
			return fmt.Errorf("replace: %w", err)
		}
		moved, err = do(ctx, obj, string(name))
	}
	if err != nil {
		return b.lost(ctx, fmt.Errorf("move: %w", err))
	}
	if moved.Size() != size {
		return fmt.Errorf("%w: it has %d bytes after a move, and had %d", blob.ErrMangled, moved.Size(), size)
	}
	return nil
}

// discard removes what a Put that failed may have left, also when its context is done.
func (b *bucket) discard(ctx context.Context, where string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	if obj, err := b.f.NewObject(ctx, where); err == nil {
		_ = obj.Remove(ctx) // if not now, a sweep does it
	}
}

// sweep removes, once, what others have left unfinished long ago. That it fails keeps nobody from anything.
func (b *bucket) sweep(ctx context.Context) {
	b.mu.Lock()
	done := b.swept
	b.swept = true
	b.mu.Unlock()
	if done {
		return
	}
	entries, err := b.f.List(ctx, tmpDir)
	if err != nil {
		return
	}
	for _, e := range entries {
		obj, ok := e.(rclone.Object)
		if !ok || time.Since(begun(path.Base(e.Remote()))) < tmpAge || time.Since(obj.ModTime(ctx)) < tmpAge {
			continue
		}
		_ = obj.Remove(ctx)
	}
}

// begun returns when a temporary file was begun, by the clock of who did so; now if that cannot be said, for
// the file may be somebody else's.
func begun(name string) time.Time {
	rest, ok := strings.CutPrefix(name, "put-")
	stamp, _, ok2 := strings.Cut(rest, "-")
	unix, err := strconv.ParseInt(stamp, 36, 64)
	if !ok || !ok2 || err != nil {
		return time.Now()
	}
	return time.Unix(unix, 0)
}

// why finds out more about an error that says too little: whether the name cannot be one here, and whether
// the place is full.
func (b *bucket) why(ctx context.Context, name blob.Name, size int64, err error) error {
	if ctx.Err() != nil || temporary(err) || errors.Is(err, blob.ErrName) {
		return err
	}
	// Some places of objects are folders in truth, and then say that there is a conflict.
	if !b.objects() || status(err) == http.StatusConflict {
		if dir := b.above(ctx, string(name)); dir != "" {
			return fmt.Errorf("%w: %s is another blob: %w", blob.ErrName, dir, err)
		}
		if b.isFolder(ctx, name) {
			return fmt.Errorf("%w: it is a folder of other blobs: %w", blob.ErrName, err)
		}
	}
	if about := b.f.Features().About; about != nil && !full(err) {
		if use, err2 := about(ctx); err2 == nil && use.Free != nil && *use.Free < size+blockSize {
			return fmt.Errorf("%w: %d bytes are free: %w", blob.ErrNoSpace, *use.Free, err)
		}
	}
	return err
}

// isFolder reports whether there is a folder of that name. Some backends list a file as if it were one, and some do not find a folder.
func (b *bucket) isFolder(ctx context.Context, name blob.Name) bool {
	if _, err := b.f.NewObject(ctx, string(name)); !notThere(err) {
		return false
	}
	in, err := b.f.List(ctx, string(name))
	return err == nil && (len(in) > 0 || !b.objects())
}

// blockSize is what a file system may need besides.
const blockSize = 64 << 10
