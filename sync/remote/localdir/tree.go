package localdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/aside"
)

// Options say how a folder is opened as a Tree. The zero value works.
type Options struct {
	// CrossMounts lets the Tree go into other file systems that are mounted below it; else each of them is an Other.
	CrossMounts bool
	// Hashes are those that are computed on the way, of what is put and of what is read whole; nil: sha256.
	Hashes []string
	// Known keeps hashes, so that they outlive the process; nil: those of the last 64 Ki files are kept in memory.
	Known Known
	// Rescan is how often Watch says that anything may have changed where the system watches no more folders; 0: a minute.
	Rescan time.Duration
	Log    *slog.Logger // nil: nothing is logged
}

// A Tree is a folder of this machine as a place of plain files. Its methods are those of remote.Tree, remote.Toucher and remote.Watcher.
//
// A Version is what a stat says: size, the times of the last change of bytes and of anything, and the number of the file. Times move in steps,
// and what changes twice in one step looks the same after both. So a file that changed in the last two steps is looked at again when they are over: no version
// is given that a later write could leave as it is (the problem that git calls "racily clean"). A program that
// writes through a memory map may change a file without a sign of it, until the system writes its pages.
//
// What is put is written to a hidden file beside it, and changes places with what was there; only then is what was there looked at for the last time, and
// comes back if it is not what the caller knew. So nothing is lost to a program that writes at the same moment. Where the file system cannot do so, Exact is not set.
type Tree struct {
	dir  string
	root *folder
	o    Options
	can  remote.TreeCan

	flushes flushes
}

// OpenTree opens the folder dir, which must be there: a folder that is gone is never taken for an empty one. The caller closes it.
func OpenTree(dir string, o Options) (*Tree, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := openRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", dir, err)
	}
	if o.Hashes == nil {
		o.Hashes = []string{"sha256"}
	}
	if _, err := newSums(o.Hashes); err != nil {
		return nil, errors.Join(fmt.Errorf("open folder %s: %w", dir, err), root.Close())
	}
	if o.Known == nil {
		o.Known = newMemory(64 << 10)
	}
	if o.Rescan == 0 {
		o.Rescan = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tree{dir: dir, root: root, o: o}
	t.can = remote.TreeCan{
		Write: true, IDs: true, Ranges: true, ServerMove: true, DirMove: true, EmptyDirs: true, Symlinks: true, Modes: modes, Touch: true, Watch: true,
		MTime: root.granularity(), Exact: root.exact(), Fold: folds(dir), Normal: normalizes, Hashes: slices.Clone(o.Hashes), Rate: remote.Fast,
	}
	return t, nil
}

// Close gives the folder back.
func (t *Tree) Close() error { return t.root.Close() }

// Can is as in remote.Tree.
func (t *Tree) Can() remote.TreeCan {
	can := t.can
	can.Hashes = slices.Clone(can.Hashes)
	return can
}

// Identity is as in remote.Tree: the file system, and the number and birth of the folder in it.
func (t *Tree) Identity(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := t.present(); err != nil {
		return "", fmt.Errorf("folder %s: %w", t.dir, err)
	}
	id, err := t.root.identity()
	if err != nil {
		return "", fmt.Errorf("folder %s: %w", t.dir, err)
	}
	return id, nil
}

// present returns an error if the folder is not at its path any more, or another one is.
func (t *Tree) present() error {
	now, err := openRoot(t.dir)
	if err != nil {
		return err
	}
	defer func() { _ = now.Close() }()
	a, err := now.self()
	if err != nil {
		return err
	}
	b, err := t.root.self()
	if err != nil {
		return err
	}
	if a.id() != b.id() || a.dev != b.dev {
		return fmt.Errorf("it is another folder than the one that was opened: %w", fs.ErrNotExist)
	}
	return nil
}

// An info is what a stat says.
type info struct {
	kind         remote.ItemKind
	mode         fs.FileMode // permission bits
	size         int64
	mtime, ctime time.Time
	btime        time.Time // zero: not known
	dev, mnt     uint64    // where; mnt 0: not known
	far          uint64    // dev, where that is not the one of the root
	ino          uint64    // 0: the system has no such number
}

// id is who it is, within one file system.
func (i *info) id() string {
	if i.ino == 0 {
		return ""
	}
	id := strconv.FormatUint(i.ino, 36)
	if !i.btime.IsZero() {
		id += "." + strconv.FormatInt(i.btime.UnixNano(), 36)
	}
	if i.far != 0 {
		id += "." + strconv.FormatUint(i.far, 36)
	}
	return id
}

// version is the Version. It is no more than what a stat said once: see settled.
func (i *info) version() remote.Version {
	return remote.Version(strconv.FormatInt(i.size, 36) + "." + strconv.FormatInt(i.mtime.UnixNano(), 36) + "." +
		strconv.FormatInt(i.ctime.UnixNano(), 36) + "." + i.id())
}

// same reports whether it is the same thing with the same bytes, when only its name was changed meanwhile: that changes the ctime.
func (i *info) same(o *info) bool {
	return i.kind == o.kind && i.id() == o.id() && i.size == o.size && i.mtime.Equal(o.mtime)
}

// step is how far apart two changes have to be to be told apart, by the look of a time that users cannot set: where the
// fraction of a second is nothing, the file system keeps none, and FAT has steps of two seconds.
func (i *info) step() time.Duration {
	if i.ctime.Nanosecond() == 0 {
		return 2 * time.Second
	}
	return tick
}

// settled stats a name until what it says is older than two steps, so that every later change gives another version. Something that
// changes all the time gets a version that nothing will ever have.
func (t *Tree) settled(ctx context.Context, in *folder, name string) (info, remote.Version, error) {
	for try := 0; ; try++ {
		i, err := in.lstat(name)
		if err != nil || i.kind == remote.Dir || i.kind == remote.Other {
			return i, "", err
		}
		age := time.Since(i.ctime)
		wait := 2*i.step() - age
		// A time in the future was given by another clock. This one will hardly meet the same nanosecond.
		if wait <= 0 || age < -2*i.step() {
			return i, i.version(), nil
		}
		if try == 3 {
			return i, i.version() + remote.Version("~"+strconv.FormatInt(time.Now().UnixNano(), 36)), nil
		}
		select {
		case <-ctx.Done():
			return i, "", ctx.Err()
		case <-time.After(wait):
		}
	}
}

// item is what is told of the thing.
func (t *Tree) item(ctx context.Context, in *folder, path, name string) (remote.Item, info, error) {
	i, version, err := t.settled(ctx, in, name)
	if err != nil {
		return remote.Item{}, i, err
	}
	it, err := t.tell(in, path, name, i, version)
	return it, i, err
}

// look stats what this Tree has just put or moved, in the same turn: what comes after it is not taken for what it did. was is
// what it looks like but for the time of change; nil: it is a directory.
func look(in *folder, name string, was *info) (info, error) {
	i, err := in.lstat(name)
	if err == nil && (was != nil && !i.same(was) || i.kind == remote.Dir && was != nil) {
		err = fmt.Errorf("right after that: %w", remote.ErrChanged)
	}
	return i, err
}

// ours is the item of what this Tree has just changed, as it was seen in the same turn. Its time was set, or is older than its last change: no later write leaves it, and
// nothing is waited for. Where times move in long steps, it is looked at once more when they are over.
func (t *Tree) ours(ctx context.Context, in *folder, path, name string, i info) (remote.Item, error) {
	if i.step() > time.Second {
		it, now, err := t.item(ctx, in, path, name)
		if err == nil && i.kind != remote.Dir && !now.same(&i) {
			err = fmt.Errorf("right after that: %w", remote.ErrChanged)
		}
		return it, err
	}
	version := remote.Version("")
	if i.kind == remote.File || i.kind == remote.Symlink {
		version = i.version()
	}
	return t.tell(in, path, name, i, version)
}

func (t *Tree) tell(in *folder, path, name string, i info, version remote.Version) (it remote.Item, err error) {
	it = remote.Item{Path: path, Kind: i.kind, MTime: i.mtime, Mode: i.mode, ID: i.id(), Version: version}
	if in.other(&i, t.o.CrossMounts) {
		it.Kind, it.Version = remote.Other, ""
	}
	switch it.Kind {
	case remote.File:
		it.Size = i.size
		it.Hashes = t.o.Known.Get(it.ID, version)
	case remote.Symlink:
		it.Target, err = in.readlink(name)
	case remote.Dir, remote.Other:
	}
	return it, err
}

// above opens the directory in which path lies, unless ctx is done.
func (t *Tree) above(ctx context.Context, path string) (*folder, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	if err := t.check(path); err != nil {
		return nil, "", err
	}
	dir, name, ok := cutLast(path)
	if !ok {
		in, err := t.root.again()
		return in, name, err
	}
	in, err := t.root.open(dir, t.o.CrossMounts)
	return in, name, failed(err)
}

func cutLast(path string) (dir, name string, ok bool) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:], true
	}
	return "", path, false
}

// check refuses what is no path, and names that hidden files of this package have.
func (t *Tree) check(path string) error {
	if err := remote.CheckPath(path); err != nil {
		return err
	}
	for name := range strings.SplitSeq(path, "/") {
		if aside.Is(name) || !legal(name) {
			return fmt.Errorf("path %q: %w", path, remote.ErrIllegal)
		}
	}
	return nil
}

// Stat is as in remote.Tree.
func (t *Tree) Stat(ctx context.Context, path string) (remote.Item, error) {
	it, err := t.stat(ctx, path)
	if err != nil {
		return remote.Item{}, fmt.Errorf("stat %q: %w", path, failed(err))
	}
	return it, nil
}

func (t *Tree) stat(ctx context.Context, path string) (remote.Item, error) {
	in, name, err := t.above(ctx, path)
	if err != nil {
		return remote.Item{}, err
	}
	defer func() { _ = in.Close() }()
	it, _, err := t.item(ctx, in, path, name)
	return it, err
}

// List is as in remote.Tree. It keeps the names of the directory in memory.
func (t *Tree) List(ctx context.Context, dir string) iter.Seq2[remote.Item, error] {
	return func(yield func(remote.Item, error) bool) {
		err := t.list(ctx, dir, yield)
		if err != nil && !errors.Is(err, errStop) {
			yield(remote.Item{}, fmt.Errorf("list %q: %w", dir, failed(err)))
		}
	}
}

// errStop says that the caller wants no more.
var errStop = errors.New("no more")

func (t *Tree) list(ctx context.Context, dir string, yield func(remote.Item, error) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	in, err := t.below(dir)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	return t.each(ctx, in, dir, func(it remote.Item, _ string) error {
		if !yield(it, nil) {
			return errStop
		}
		return nil
	})
}

// below opens a directory.
func (t *Tree) below(dir string) (*folder, error) {
	if dir == "" {
		return t.root.again()
	}
	if err := t.check(dir); err != nil {
		return nil, err
	}
	return t.root.open(dir, t.o.CrossMounts)
}

// each calls fn with what the folder holds, in the order of the names. What goes meanwhile is left out.
func (t *Tree) each(ctx context.Context, in *folder, path string, fn func(it remote.Item, name string) error) error {
	names, err := in.names()
	if err != nil {
		return fmt.Errorf("%w: %q: %w", remote.ErrIncomplete, path, err)
	}
	slices.Sort(names)
	now := time.Now()
	for _, name := range names {
		if aside.Is(name) {
			t.rescue(in, path, name, now)
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		p := name
		if path != "" {
			p = path + "/" + name
		}
		it, _, err := t.item(ctx, in, p, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: %q: %w", remote.ErrIncomplete, p, err)
		}
		if err := fn(it, name); err != nil {
			return err
		}
	}
	return nil
}

// Changes is as in remote.Tree: all of the folder is looked at, whatever the cursor. It keeps the names of the directories from the root to where it
// is in memory, and an open folder for each.
func (t *Tree) Changes(ctx context.Context, _ remote.Cursor) (iter.Seq2[remote.Change, error], func() remote.Cursor) {
	return remote.Listing(func(give func(remote.Change) error) (remote.Cursor, error) {
		if err := t.scan(ctx, give); err != nil {
			return "", fmt.Errorf("scan %s: %w", t.dir, failed(err))
		}
		return "all", nil
	})
}

func (t *Tree) scan(ctx context.Context, give func(remote.Change) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.present(); err != nil {
		return fmt.Errorf("%w: %w", remote.ErrIncomplete, err)
	}
	in, err := t.root.again()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if err := t.walk(ctx, in, "", give); err != nil {
		return err
	}
	// A disk that was unmounted meanwhile has no more names, and does not say so.
	if err := t.present(); err != nil {
		return fmt.Errorf("%w: %w", remote.ErrIncomplete, err)
	}
	return ctx.Err()
}

func (t *Tree) walk(ctx context.Context, in *folder, path string, give func(remote.Change) error) error {
	return t.each(ctx, in, path, func(it remote.Item, name string) error {
		if err := give(remote.Change{Item: it}); err != nil {
			return err
		}
		if it.Kind != remote.Dir {
			return nil
		}
		sub, err := in.open(name, t.o.CrossMounts)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went, or became something else
		}
		if err != nil {
			return fmt.Errorf("%w: %q: %w", remote.ErrIncomplete, it.Path, err)
		}
		defer func() { _ = sub.Close() }()
		return t.walk(ctx, sub, it.Path, give)
	})
}

// Open is as in remote.Tree. A file that is changed while it is read is ErrChanged at its end at the latest.
func (t *Tree) Open(ctx context.Context, path string, off, n int64, known remote.Version) (io.ReadCloser, error) {
	r, err := t.open(ctx, path, off, n, known)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, failed(err))
	}
	return r, nil
}

func (t *Tree) open(ctx context.Context, path string, off, n int64, known remote.Version) (io.ReadCloser, error) {
	in, name, err := t.above(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	it, i, err := t.item(ctx, in, path, name)
	switch {
	case err != nil:
		return nil, err
	case known != "" && known != it.Version:
		return nil, remote.ErrChanged
	case it.Kind != remote.File:
		return nil, fmt.Errorf("it is no file: %w", fs.ErrInvalid)
	case off < 0:
		return nil, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid)
	}
	f, err := in.openFile(name)
	if err != nil {
		return nil, err
	}
	r := &reader{ctx: ctx, t: t, f: f, version: i.version(), left: n, size: i.size}
	if err := r.check(); err != nil { // another one may be there by now
		return nil, errors.Join(err, f.Close())
	}
	if off > 0 {
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	} else if it.Hashes == nil && (n < 0 || n >= i.size) {
		r.sums, _ = newSums(t.o.Hashes)
	}
	return r, nil
}

// A reader reads one version of a file. It is used by one goroutine at a time.
type reader struct {
	ctx     context.Context
	t       *Tree
	f       *os.File
	version remote.Version
	left    int64 // < 0: to the end
	size    int64
	read    int64
	sums    sums // nil: the hashes are known, or not wanted
	err     error
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left >= 0 {
		p = p[:min(int64(len(p)), r.left)]
	}
	var n int
	err := io.EOF
	if len(p) > 0 {
		n, err = r.f.Read(p)
	} else if r.left != 0 {
		return 0, nil
	}
	r.read += int64(n)
	if r.left >= 0 {
		r.left -= int64(n)
	}
	for _, s := range r.sums {
		s.sum.Write(p[:n])
	}
	if errors.Is(err, io.EOF) {
		if cerr := r.check(); cerr != nil {
			n, err = 0, cerr
		} else if r.sums != nil && r.read == r.size {
			r.t.o.Known.Put(r.id(), r.version, r.sums.hashes())
		}
	}
	r.err = err
	return n, err
}

// id is the ID in the version.
func (r *reader) id() string {
	parts := strings.SplitN(string(r.version), ".", 4)
	return parts[len(parts)-1]
}

// check returns an error if the file is not of the version any more.
func (r *reader) check() error {
	i, err := r.t.root.fstat(r.f)
	if err != nil {
		return err
	}
	if i.version() != r.version {
		return fmt.Errorf("read %s: %w", r.f.Name(), remote.ErrChanged)
	}
	return nil
}

// Close gives the file back.
func (r *reader) Close() error {
	if r.err == nil {
		r.err = fs.ErrClosed
	}
	return r.f.Close()
}

// failed says what an error of the system means in the words of package remote.
func failed(err error) error {
	switch {
	case err == nil, errors.Is(err, remote.ErrChanged), errors.Is(err, remote.ErrIllegal):
		return err
	case isFull(err):
		return fmt.Errorf("%w: %w", blob.ErrNoSpace, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", blob.ErrUnauthorized, err)
	case isIllegal(err):
		return fmt.Errorf("%w: %w", remote.ErrIllegal, err)
	}
	return err
}

var (
	_ remote.Tree    = (*Tree)(nil)
	_ remote.Toucher = (*Tree)(nil)
	_ remote.Watcher = (*Tree)(nil)
)
