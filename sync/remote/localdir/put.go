package localdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/aside"
)

// discard removes a hidden file, if it is the one that its name was made for: no content is removed because of its name alone.
func (t *Tree) discard(in *folder, name string) (done bool) {
	i, err := in.lstat(name)
	return err == nil && i.kind != remote.Dir && aside.Ours(name, i.ino, i.kind == remote.File && i.size == 0) && in.unlink(name) == nil
}

// rescue clears up a hidden file that a crash has left. One of ours is removed. Somebody's gets a name that is seen: it is in nobody's way,
// and nothing that a user has written is ever removed because of its name.
func (t *Tree) rescue(in *folder, path, name string, now time.Time) {
	i, err := in.lstat(name)
	if err != nil || now.Sub(i.ctime) < aside.Age {
		return
	}
	if t.discard(in, name) {
		t.o.Log.Info("removed what a crash had left", "folder", path, "name", name)
		return
	}
	t.giveName(in, path, name, "file")
}

// giveName gives somebody's file, which is under a hidden name, one that is seen.
func (t *Tree) giveName(in *folder, path, name, was string) {
	to := aside.Saved(name, was)
	if err := in.moveNew(name, in, to); err == nil {
		t.o.Log.Warn("a file had been left under a hidden name, and has one that is seen again", "folder", path, "name", to)
	}
}

// Put is as in remote.Tree. The file has the owner of this process, and no more attributes than Item says.
func (t *Tree) Put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	done, err := t.put(ctx, it, r, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("put %q: %w", it.Path, failed(err))
	}
	return done, nil
}

func (t *Tree) put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	if it.Kind != remote.File && it.Kind != remote.Symlink {
		return remote.Item{}, fmt.Errorf("neither a file nor a link: %w", fs.ErrInvalid)
	}
	in, name, err := t.above(ctx, it.Path)
	if err != nil {
		return remote.Item{}, err
	}
	defer func() { _ = in.Close() }()
	if len(name) > 255 { // before all of it is written
		return remote.Item{}, remote.ErrIllegal
	}
	old, err := t.expect(ctx, in, name, known)
	if err != nil {
		return remote.Item{}, err
	}
	if old != nil && it.Mode == 0 && old.kind == it.Kind {
		it.Mode = old.mode
	}
	if it.MTime.IsZero() { // as exact as it gets: what is written later has another time for certain
		it.MTime = time.Now()
	}
	temp, sums, err := t.write(ctx, in, it, r)
	var was info
	if err == nil {
		was, err = in.lstat(temp)
	}
	if err == nil {
		err = ctx.Err()
	}
	var is info
	if err == nil {
		is, err = t.place(in, temp, name, old, &was)
	}
	if err != nil {
		if temp != "" {
			t.discard(in, temp) // if not now, a scan does it
		}
		return remote.Item{}, err
	}
	if err := t.flushes.sync(in); err != nil {
		return remote.Item{}, err
	}
	done, err := t.ours(ctx, in, it.Path, name, is)
	if err == nil && sums != nil {
		t.o.Known.Put(done.ID, done.Version, sums.hashes())
		done.Hashes = sums.hashes()
	}
	return done, err
}

// expect returns what is at name if that has the version known, nil if nothing is to be there and is not.
func (t *Tree) expect(ctx context.Context, in *folder, name string, known remote.Version) (*info, error) {
	i, version, err := t.settled(ctx, in, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && known == "":
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("it is gone: %w", remote.ErrChanged)
	case err != nil:
		return nil, err
	case known == "" || version != known:
		return nil, remote.ErrChanged
	}
	return &i, nil
}

// write makes a hidden file, or link, that is all that it says, and durable.
func (t *Tree) write(ctx context.Context, in *folder, it remote.Item, r io.Reader) (temp string, sums sums, err error) {
	temp = aside.Name(0)
	if it.Kind == remote.Symlink {
		if err := in.symlink(it.Target, temp); err != nil {
			return "", nil, err
		}
		_ = in.setTime(temp, it.MTime) // of a link, many cannot
		temp, err = t.named(in, temp)
		return temp, nil, err
	}
	f, err := in.create(temp)
	if err != nil {
		return "", nil, err
	}
	if temp, err = t.named(in, temp); err != nil {
		return temp, nil, errors.Join(err, f.Close())
	}
	sums, err = newSums(t.o.Hashes)
	if err == nil {
		err = fill(ctx, f, sums, r, it.Size)
	}
	if err == nil && it.Mode != 0 {
		err = f.Chmod(it.Mode.Perm())
	}
	if err == nil {
		err = in.setTime(temp, it.MTime)
	}
	if err == nil {
		err = f.Sync()
	}
	return temp, sums, errors.Join(err, f.Close())
}

// named gives a hidden file the name that says which file it is.
func (t *Tree) named(in *folder, temp string) (string, error) {
	i, err := in.lstat(temp)
	if err != nil {
		return temp, err
	}
	name := aside.Name(i.ino)
	if err := in.moveNew(temp, in, name); err != nil {
		return temp, err
	}
	return name, nil
}

// fill copies what r gives, size bytes, or all if size is negative.
func fill(ctx context.Context, f *os.File, sums sums, r io.Reader, size int64) error {
	if size >= 0 {
		r = blob.Body(ctx, r, size)
	} else {
		r = blob.Stream(ctx, r)
	}
	_, err := io.Copy(io.MultiWriter(f, sums), r)
	return err
}

// place gives the hidden file temp, which is as was says, its name: where nothing is, or where old is. It returns what is there then,
// and remote.ErrChanged also if that is somebody else's already.
func (t *Tree) place(in *folder, temp, name string, old, was *info) (info, error) {
	done, err := turn(in)
	if err != nil {
		return info{}, err
	}
	defer done()
	if old != nil {
		err = t.replace(in, temp, name, old, old.version())
	} else if err = in.moveNew(temp, in, name); errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("something is there: %w", remote.ErrChanged)
	}
	if err != nil {
		return info{}, err
	}
	return look(in, name, was)
}

// replace puts the hidden file temp in the place of old. The two change places; if what came out is not what was known, or somebody has it open for
// writing, they change back.
func (t *Tree) replace(in *folder, temp, name string, old *info, known remote.Version) error {
	if unchanged(in, name, known) != nil {
		return remote.ErrChanged
	}
	err := in.exchange(temp, name)
	if errors.Is(err, errors.ErrUnsupported) {
		return in.rename(temp, in, name) // the version was looked at right before: Exact is not set
	}
	if err != nil {
		return err
	}
	out, err := in.lstat(temp)
	if err == nil && out.same(old) && !in.written(temp) {
		return in.unlink(temp)
	}
	// It is another one. It comes back, and ours goes.
	if err := in.exchange(temp, name); err != nil {
		if errors.Is(err, fs.ErrNotExist) && in.moveNew(temp, in, name) == nil { // ours was removed meanwhile
			return remote.ErrChanged
		}
		t.giveName(in, "", temp, name)
		return fmt.Errorf("%w: %w", remote.ErrChanged, err)
	}
	if !t.discard(in, temp) {
		// Between the two, a third one came. It is the newest, and what was changed before it is kept beside it.
		_ = in.exchange(temp, name) // if not, the third one is kept
		t.giveName(in, "", temp, name)
	}
	return remote.ErrChanged
}

// Mkdir is as in remote.Tree.
func (t *Tree) Mkdir(ctx context.Context, path string, mode fs.FileMode) (remote.Item, error) {
	it, err := t.mkdir(ctx, path, mode)
	if err != nil {
		return remote.Item{}, fmt.Errorf("make directory %q: %w", path, failed(err))
	}
	return it, nil
}

func (t *Tree) mkdir(ctx context.Context, path string, mode fs.FileMode) (remote.Item, error) {
	in, name, err := t.above(ctx, path)
	if err != nil {
		return remote.Item{}, err
	}
	defer func() { _ = in.Close() }()
	err = in.mkdir(name, mode)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return remote.Item{}, err
	}
	it, _, err := t.item(ctx, in, path, name)
	switch {
	case err != nil:
		return remote.Item{}, err
	case it.Kind != remote.Dir:
		return remote.Item{}, remote.ErrChanged
	case made:
		err = t.flushes.sync(in)
	}
	return it, err
}

// Remove is as in remote.Tree. What is removed gets a hidden name first: what comes to its old name meanwhile is not touched.
func (t *Tree) Remove(ctx context.Context, path string, known remote.Version) error {
	err := t.remove(ctx, path, known)
	if err != nil {
		return fmt.Errorf("remove %q: %w", path, failed(err))
	}
	return nil
}

func (t *Tree) remove(ctx context.Context, path string, known remote.Version) error {
	in, name, err := t.above(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	it, old, err := t.item(ctx, in, path, name)
	switch {
	case err != nil:
		return err
	case it.Kind == remote.Other:
		return fmt.Errorf("it is neither a file, a link nor a directory: %w", fs.ErrInvalid)
	case it.Kind == remote.Dir && known == "":
		if err := in.rmdir(name); errors.Is(err, fs.ErrExist) {
			return t.clear(in, path, name)
		} else if err != nil {
			return err
		}
		return t.flushes.sync(in)
	case it.Version != known || known == "":
		return remote.ErrChanged
	}
	if err := t.takeAway(in, path, name, &old); err != nil {
		return err
	}
	return t.flushes.sync(in)
}

// takeAway removes old, a file or a link, if it is still what is at name.
func (t *Tree) takeAway(in *folder, path, name string, old *info) error {
	done, err := turn(in)
	if err != nil {
		return err
	}
	defer done()
	if err := unchanged(in, name, old.version()); err != nil {
		return err
	}
	temp := aside.Name(0)
	if err := in.moveNew(name, in, temp); err != nil {
		return err
	}
	if out, err := in.lstat(temp); err != nil || !out.same(old) || in.written(temp) {
		if err := in.moveNew(temp, in, name); err != nil {
			t.giveName(in, path, temp, name)
		}
		return remote.ErrChanged
	}
	return in.unlink(temp)
}

// unchanged returns remote.ErrChanged if what is at name is not what has the version known.
func unchanged(in *folder, name string, known remote.Version) error {
	now, err := in.lstat(name)
	if err == nil && now.version() != known {
		return remote.ErrChanged
	}
	return err
}

// clear removes a directory in which nothing is but hidden files that are left from a crash.
func (t *Tree) clear(in *folder, path, name string) error {
	sub, err := in.open(name, t.o.CrossMounts)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }()
	names, err := sub.names()
	if err != nil {
		return err
	}
	for _, n := range names {
		if !aside.Is(n) {
			return fmt.Errorf("it is not empty: %w", remote.ErrChanged)
		}
		t.rescue(sub, path, n, time.Now())
	}
	if err := in.rmdir(name); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("it is not empty: %w", remote.ErrChanged)
	} else if err != nil {
		return err
	}
	return t.flushes.sync(in)
}

// Move is as in remote.Tree.
func (t *Tree) Move(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	it, err := t.move(ctx, from, to, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("move %q to %q: %w", from, to, failed(err))
	}
	return it, nil
}

func (t *Tree) move(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	if err := errors.Join(t.check(from), t.check(to)); err != nil {
		return remote.Item{}, err
	}
	if strings.HasPrefix(to, from+"/") {
		return remote.Item{}, fmt.Errorf("below itself: %w", fs.ErrInvalid)
	}
	in, name, err := t.above(ctx, from)
	if err != nil {
		return remote.Item{}, err
	}
	defer func() { _ = in.Close() }()
	it, old, err := t.item(ctx, in, from, name)
	switch {
	case err != nil:
		return remote.Item{}, err
	case it.Kind == remote.Other:
		return remote.Item{}, fmt.Errorf("it is neither a file, a link nor a directory: %w", fs.ErrInvalid)
	case it.Version != known:
		return remote.Item{}, remote.ErrChanged
	}
	in2, name2, err := t.above(ctx, to)
	if err != nil {
		return remote.Item{}, err
	}
	defer func() { _ = in2.Close() }()
	is, err := t.rename(in, name, in2, name2, &old, strings.EqualFold(from, to))
	if err != nil {
		return remote.Item{}, err
	}
	if err := errors.Join(t.flushes.sync(in2), t.flushes.sync(in)); err != nil {
		return remote.Item{}, err
	}
	done, err := t.ours(ctx, in2, to, name2, is)
	if err == nil && it.Hashes != nil {
		done.Hashes = it.Hashes
		t.o.Known.Put(done.ID, done.Version, it.Hashes)
	}
	return done, err
}

// rename gives old, which is at name, another name, at which nothing is, and returns what is there then; folded says that the two are one where case does
// not count.
func (t *Tree) rename(in *folder, name string, in2 *folder, name2 string, old *info, folded bool) (info, error) {
	done, err := turn(in, in2)
	if err != nil {
		return info{}, err
	}
	defer done()
	if old.kind != remote.Dir {
		if err := unchanged(in, name, old.version()); err != nil {
			return info{}, err
		}
	}
	err = in.moveNew(name, in2, name2)
	if errors.Is(err, fs.ErrExist) && folded && t.can.Fold {
		if is, serr := in2.lstat(name2); serr == nil && is.id() == old.id() {
			err = in.rename(name, in2, name2) // it is in its own way
		}
	}
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("something is there: %w", remote.ErrChanged)
	}
	if err != nil {
		return info{}, err
	}
	if old.kind == remote.Dir {
		return look(in2, name2, nil)
	}
	is, err := look(in2, name2, old)
	if err != nil {
		_ = in2.moveNew(name2, in, name) // it is another one, and belongs where it was
		return info{}, remote.ErrChanged
	}
	return is, nil
}

// Touch is as in remote.Toucher.
func (t *Tree) Touch(ctx context.Context, it remote.Item, known remote.Version) (remote.Item, error) {
	done, err := t.touch(ctx, it, known)
	if err != nil {
		return remote.Item{}, fmt.Errorf("touch %q: %w", it.Path, failed(err))
	}
	return done, nil
}

func (t *Tree) touch(ctx context.Context, it remote.Item, known remote.Version) (remote.Item, error) {
	in, name, err := t.above(ctx, it.Path)
	if err != nil {
		return remote.Item{}, err
	}
	defer func() { _ = in.Close() }()
	old, was, err := t.item(ctx, in, it.Path, name)
	switch {
	case err != nil:
		return remote.Item{}, err
	case old.Version != known || old.Kind == remote.Other:
		return remote.Item{}, remote.ErrChanged
	}
	is, err := t.mark(in, name, it, &was)
	if err != nil {
		return remote.Item{}, err
	}
	return t.ours(ctx, in, it.Path, name, is)
}

// mark gives was, which is at name, the mode and the time of it, and returns what it is then.
func (t *Tree) mark(in *folder, name string, it remote.Item, was *info) (info, error) {
	done, err := turn(in)
	if err != nil {
		return info{}, err
	}
	defer done()
	if now, err := in.lstat(name); err != nil || was.kind != remote.Dir && now.version() != was.version() {
		return info{}, remote.ErrChanged
	}
	if it.Mode != 0 && was.kind != remote.Symlink {
		if err := in.setMode(name, it.Mode.Perm()); err != nil {
			return info{}, err
		}
	}
	if !it.MTime.IsZero() {
		if err := in.setTime(name, it.MTime); err != nil {
			return info{}, err
		}
	}
	is, err := in.lstat(name)
	if err == nil && (is.kind != was.kind || is.id() != was.id() || is.size != was.size && was.kind != remote.Dir) {
		err = fmt.Errorf("right after that: %w", remote.ErrChanged)
	}
	return is, err
}
