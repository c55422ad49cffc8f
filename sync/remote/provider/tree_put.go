package provider

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	rclone "github.com/rclone/rclone/fs"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A hidden file is one that is being put where a backend does not do so at once. It lies beside its place, for a move to another folder is none on
// some servers, and does not begin with a dot, for some hide or refuse that.
const hiddenPrefix = "~sheaf-put-"

func hidden(name string) bool {
	rest, ok := strings.CutPrefix(name, hiddenPrefix)
	stamp, id, ok2 := strings.Cut(rest, "-")
	_, err := strconv.ParseInt(stamp, 36, 64)
	return ok && ok2 && err == nil && len(id) == 24 && strings.Trim(id, "0123456789abcdef") == ""
}

func hiddenName() string {
	var p [12]byte
	_, _ = rand.Read(p[:]) // never fails
	return hiddenPrefix + strconv.FormatInt(time.Now().Unix(), 36) + "-" + hex.EncodeToString(p[:])
}

// sweepOne removes a hidden file that was left unfinished long ago. That it fails keeps nobody from anything.
func (t *tree) sweepOne(ctx context.Context, o rclone.Object) {
	if time.Since(begun(strings.TrimPrefix(path.Base(o.Remote()), "~sheaf-"))) > tmpAge && time.Since(o.ModTime(ctx)) > tmpAge {
		_ = o.Remove(ctx)
	}
}

// object returns the file at path; fs.ErrNotExist if there is none, and fs.ErrInvalid if something else is there.
func (t *tree) object(ctx context.Context, p string) (obj rclone.Object, it remote.Item, err error) {
	if err := ctx.Err(); err != nil {
		return nil, it, err
	}
	if err := t.check(p); err != nil {
		return nil, it, err
	}
	err = t.patiently(ctx, func() (err error) {
		obj, err = t.f.NewObject(ctx, standard(p))
		return err
	})
	if err == nil {
		it, ok := t.item(ctx, obj)
		if !ok || it.Kind != remote.File {
			return nil, it, fmt.Errorf("it is no file: %w", fs.ErrInvalid)
		}
		return obj, it, nil
	}
	if !notThere(err) && !(refused(err) && t.bucket.above(ctx, standard(p)) != "") {
		return nil, it, err
	}
	isDir, derr := t.isDir(ctx, p)
	switch {
	case derr != nil:
		return nil, it, derr
	case isDir:
		return nil, remote.Item{Path: p, Kind: remote.Dir}, fmt.Errorf("it is a directory: %w", fs.ErrInvalid)
	}
	if err := t.here(ctx, fresh); err != nil {
		return nil, it, err
	}
	return nil, it, fmt.Errorf("%w: %w", fs.ErrNotExist, noNotExist{err})
}

// isDir reports whether a directory is there.
func (t *tree) isDir(ctx context.Context, p string) (bool, error) {
	if p == "" {
		return true, nil
	}
	items, err := t.entries(ctx, p)
	if errors.Is(err, fs.ErrNotExist) || err != nil && refused(err) {
		return false, nil
	}
	return err == nil && (len(items) > 0 || t.can.EmptyDirs), err
}

func (t *tree) check(p string) error {
	if err := remote.CheckPath(p); err != nil {
		return err
	}
	for name := range strings.SplitSeq(p, "/") {
		if hidden(name) || t.hides(name) {
			return fmt.Errorf("path %q: %w", p, remote.ErrIllegal)
		}
	}
	return nil
}

// hides reports whether a place may take the name, and not list it as it is: then it is not there for who lists, and was never removed. Servers of FTP
// do so with names that begin with a dot, and with control characters, for which they show others; and the lists of S3 are XML, which has none of these.
func (t *tree) hides(name string) bool {
	switch t.b.name {
	case "ftp":
		return name[0] == '.' || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '‛' || r == utf8.RuneError })
	case "s3":
		return strings.ContainsFunc(name, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff })
	}
	return false
}

// Stat implements [remote.Tree].
func (t *tree) Stat(ctx context.Context, p string) (remote.Item, error) {
	ctx, cancel := t.with(ctx)
	defer cancel()
	it, err := t.stat(ctx, p)
	if err != nil {
		return remote.Item{}, fmt.Errorf("stat %q: %w", p, t.failed(ctx, err))
	}
	return it, nil
}

func (t *tree) stat(ctx context.Context, p string) (remote.Item, error) {
	_, it, err := t.object(ctx, p)
	if err != nil && !errors.Is(err, fs.ErrInvalid) {
		return it, err
	}
	if it.Kind == remote.Dir && t.can.IDs { // only the listing above it knows who it is
		dir, _ := split(p)
		items, err := t.entries(ctx, dir)
		if err != nil {
			return it, err
		}
		for _, one := range items {
			if one.Path == p {
				return one, nil
			}
		}
	}
	return it, nil
}

// expect returns the file that has the version known, nil if nothing is to be there and is not.
func (t *tree) expect(ctx context.Context, p string, known remote.Version) (rclone.Object, error) {
	obj, it, err := t.object(ctx, p)
	switch {
	case errors.Is(err, fs.ErrNotExist) && known == "":
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("it is gone: %w", remote.ErrChanged)
	case errors.Is(err, fs.ErrInvalid):
		return nil, fmt.Errorf("it is no file: %w", remote.ErrChanged)
	case err != nil:
		return nil, err
	case it.Version != known:
		return nil, remote.ErrChanged
	}
	return obj, nil
}

// parent returns an error if nothing can be put into the directory of p.
func (t *tree) parent(ctx context.Context, p string) error {
	dir, _ := split(p)
	if t.dirs.has(dir) {
		return nil
	}
	if t.can.EmptyDirs {
		is, err := t.isDir(ctx, dir)
		if err == nil && is {
			if _, oerr := t.f.NewObject(ctx, standard(dir)); oerr == nil { // some servers answer for a file as for an empty folder
				is = false
			}
		}
		if err == nil && !is {
			err = fmt.Errorf("its directory: %w", fs.ErrNotExist)
		}
		if err == nil {
			t.dirs.add(dir)
		}
		return err
	}
	for _, d := range above(p) {
		if t.dirs.has(d) {
			continue
		}
		if _, err := t.f.NewObject(ctx, standard(d)); err == nil {
			return fmt.Errorf("%q is a file: %w", d, remote.ErrChanged)
		}
		t.dirs.add(d)
	}
	return nil
}

// late is a body that looks once more whether the place is as it is known to be when all but its end has been read.
type late struct {
	r    io.Reader
	left int64
	look func() error
	done bool
}

func (l *late) Read(p []byte) (int, error) {
	if int64(len(p)) >= l.left && !l.done {
		l.done = true
		if err := l.look(); err != nil {
			return 0, err
		}
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}

// treeSource is a source with a time.
type treeSource struct {
	source
	mtime time.Time
}

func (s treeSource) ModTime(context.Context) time.Time { return s.mtime }

// Put implements [remote.Tree]. What was put is compared with what the place has, by hash or, where it has none, by reading it back.
func (t *tree) Put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	ctx, cancel := t.with(ctx)
	defer cancel()
	done, err := t.put(ctx, it, r, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("put %q: %w", it.Path, t.failed(ctx, t.name(err)))
	}
	return done, nil
}

// name tells a name that the place refuses from what else may be wrong.
func (t *tree) name(err error) error {
	if errors.Is(err, blob.ErrName) {
		return fmt.Errorf("%w: %w", remote.ErrIllegal, err)
	}
	return err
}

func (t *tree) put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	switch it.Kind {
	case remote.File:
	case remote.Symlink:
		return remote.Item{}, fmt.Errorf("a symbolic link: %w", errors.ErrUnsupported)
	default:
		return remote.Item{}, fmt.Errorf("neither a file nor a link: %w", fs.ErrInvalid)
	}
	if _, err := t.expect(ctx, it.Path, known); err != nil {
		return remote.Item{}, err
	}
	if err := t.parent(ctx, it.Path); err != nil {
		return remote.Item{}, err
	}
	if it.Size < 0 {
		f, size, err := spooled(ctx, r)
		if err != nil {
			return remote.Item{}, err
		}
		defer func() { _ = f.Close() }()
		r, it.Size = f, size
	}
	if it.MTime.IsZero() {
		it.MTime = time.Now()
	}
	obj, err := t.send(ctx, it, r, known)
	if err != nil {
		return remote.Item{}, err
	}
	if done, ok := t.item(ctx, obj); ok && done.Path == it.Path && !t.b.can.AtomicPut {
		return done, nil
	}
	_, done, err := t.object(ctx, it.Path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: it does not find what was put", blob.ErrMangled)
	}
	return done, err
}

// spooled keeps a body whose length is not known in a file that has no name. The caller closes it.
func spooled(ctx context.Context, r io.Reader) (*os.File, int64, error) {
	f, err := os.CreateTemp("", "sheaf-put-")
	if err != nil {
		return nil, 0, err
	}
	_ = os.Remove(f.Name()) // on Windows it stays as long as it is open, and goes with the folder
	n, err := io.Copy(f, blob.Stream(ctx, r))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, n, nil
}

// send puts the bytes, and gives them their name.
func (t *tree) send(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (rclone.Object, error) {
	kind := t.hash()
	sum, err := newSum(kind)
	if err != nil {
		return nil, err
	}
	if it.Size <= small {
		again, give, err := t.ahead(ctx, r, it.Size, sum)
		if err != nil {
			return nil, err
		}
		defer give()
		if again != nil {
			r = again
		}
		sum.Reset()
	}
	body, err := newBody(ctx, &late{r: r, left: it.Size, look: func() error {
		_, err := t.expect(ctx, it.Path, known)
		return err
	}}, it.Size, sum)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.end() }()
	where := it.Path
	if !t.b.can.AtomicPut {
		dir, _ := split(it.Path)
		where = path.Join(dir, hiddenName())
	}
	obj, err := t.f.Put(ctx, body, treeSource{source{t.f, standard(where), it.Size, kind, ""}, it.MTime})
	if own := body.end(); own != nil {
		err = own
	} else if err == nil && !body.complete() {
		err = fmt.Errorf("%w: it was content with a part", blob.ErrMangled)
	}
	if err == nil {
		err = t.verify(ctx, obj, kind, sum, it.Size)
	}
	err = t.lost(ctx, err)
	if err == nil && where != it.Path && known != "" {
		obj, err = t.distinct(ctx, obj, &where, known)
	}
	if err == nil && where != it.Path {
		obj, err = t.into(ctx, obj, it.Path, known)
	}
	if err != nil {
		if where != it.Path || errors.Is(err, blob.ErrMangled) && known == "" {
			t.discard(ctx, standard(where))
		}
		return nil, t.whyNot(ctx, it.Path, it.Size, err)
	}
	return obj, nil
}

// distinct sees to it that a hidden file will not have the version of what it replaces, as it would where nothing but size and time make a version: its time is
// set to the next, or a copy of it is made when the server's clock has gone on.
func (t *tree) distinct(ctx context.Context, obj rclone.Object, where *string, known remote.Version) (rclone.Object, error) {
	if v, _ := t.version(ctx, obj); v != known {
		return obj, nil
	}
	if t.can.Touch {
		err := obj.SetModTime(ctx, obj.ModTime(ctx).Add(t.can.MTime))
		if err != nil {
			return nil, fmt.Errorf("set time: %w", err)
		}
		return t.f.NewObject(ctx, standard(*where))
	}
	do := t.f.Features().Copy
	if do == nil {
		return obj, nil // it is published of such places that they do not see it
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(1100 * time.Millisecond): // the clock of HTTP has steps of a second
	}
	dir, _ := split(*where)
	again := path.Join(dir, hiddenName())
	out, err := do(ctx, obj, standard(again))
	t.discard(ctx, standard(*where))
	*where = again
	return out, err
}

// whyNot finds out whether it is the name that the place does not want.
func (t *tree) whyNot(ctx context.Context, p string, size int64, err error) error {
	if errors.Is(err, remote.ErrChanged) || known(err) || ctx.Err() != nil || !refused(err) && !badName(err) {
		return err
	}
	if badName(err) {
		return fmt.Errorf("%w: %w", remote.ErrIllegal, err)
	}
	return t.why(ctx, blob.Name(standard(p)), size, err)
}

// into gives a hidden file the name of the file that has the version known, or of none.
func (t *tree) into(ctx context.Context, obj rclone.Object, p string, known remote.Version) (rclone.Object, error) {
	old, err := t.expect(ctx, p, known)
	if err != nil {
		return nil, err
	}
	do := t.f.Features().Move
	if do == nil {
		return nil, fmt.Errorf("move on %s: %w", t.b.name, errors.ErrUnsupported)
	}
	size := obj.Size()
	moved, err := do(ctx, obj, standard(p))
	if err != nil && old != nil && ctx.Err() == nil && !temporary(err) {
		if err := old.Remove(ctx); err != nil {
			return nil, fmt.Errorf("replace: %w", err)
		}
		moved, err = do(ctx, obj, standard(p))
	}
	if err != nil {
		return nil, fmt.Errorf("move: %w", err)
	}
	if moved.Size() != size {
		return nil, fmt.Errorf("%w: it has %d bytes after a move, and had %d", blob.ErrMangled, moved.Size(), size)
	}
	return moved, nil
}

// Mkdir implements [remote.Tree].
func (t *tree) Mkdir(ctx context.Context, p string, _ fs.FileMode) (remote.Item, error) {
	ctx, cancel := t.with(ctx)
	defer cancel()
	it, err := t.mkdir(ctx, p)
	if err != nil {
		return remote.Item{}, fmt.Errorf("make directory %q: %w", p, t.failed(ctx, t.name(err)))
	}
	return it, nil
}

func (t *tree) mkdir(ctx context.Context, p string) (remote.Item, error) {
	_, _, err := t.object(ctx, p)
	switch {
	case err == nil:
		return remote.Item{}, remote.ErrChanged
	case errors.Is(err, fs.ErrInvalid):
		it, err := t.stat(ctx, p)
		if err == nil && it.Kind != remote.Dir {
			err = remote.ErrChanged
		}
		return it, err
	case !errors.Is(err, fs.ErrNotExist):
		return remote.Item{}, err
	}
	if !t.can.EmptyDirs {
		return remote.Item{Path: p, Kind: remote.Dir}, nil
	}
	if err := t.parent(ctx, p); err != nil {
		return remote.Item{}, err
	}
	if err := t.patiently(ctx, func() error { return t.f.Mkdir(ctx, standard(p)) }); err != nil {
		if badName(err) {
			err = fmt.Errorf("%w: %w", remote.ErrIllegal, err)
		}
		return remote.Item{}, err
	}
	t.dirs.add(p)
	return t.stat(ctx, p)
}

// Remove implements [remote.Tree].
func (t *tree) Remove(ctx context.Context, p string, known remote.Version) error {
	ctx, cancel := t.with(ctx)
	defer cancel()
	if err := t.remove(ctx, p, known); err != nil {
		return fmt.Errorf("remove %q: %w", p, t.failed(ctx, err))
	}
	return nil
}

func (t *tree) remove(ctx context.Context, p string, known remote.Version) error {
	obj, it, err := t.object(ctx, p)
	switch {
	case err == nil && (known == "" || it.Version != known):
		return remote.ErrChanged
	case err == nil:
		return obj.Remove(ctx)
	case !errors.Is(err, fs.ErrInvalid) || it.Kind != remote.Dir:
		return err
	case known != "":
		return remote.ErrChanged
	}
	items, err := t.entries(ctx, p)
	if err != nil {
		return err
	}
	if len(items) > 0 {
		return fmt.Errorf("it is not empty: %w", remote.ErrChanged)
	}
	t.dirs.forget(p)
	err = t.f.Rmdir(ctx, standard(p))
	if errors.Is(err, rclone.ErrorDirectoryNotEmpty) {
		return fmt.Errorf("it is not empty: %w", remote.ErrChanged)
	}
	return err
}
