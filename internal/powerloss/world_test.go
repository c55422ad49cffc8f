//go:build linux

package powerloss

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

func TestMain(m *testing.M) {
	Child()
	victim()
	judge()
	os.Exit(m.Run())
}

// cheap is the least Argon2 that is taken.
var cheap = keys.Argon{Memory: 64 << 10, Time: 3, Threads: 1}

// segment is the size of journal segments here, so that workloads of some hundred KiB meet several.
const segment = 256 << 10

// options opens what lies in home.
func options(home string, secret sheaf.Secret, log *slog.Logger) (sheaf.Options, error) {
	b, err := disk.Open(filepath.Join(home, "store"), disk.Options{})
	if err != nil {
		return sheaf.Options{}, err
	}
	return sheaf.Options{
		Dir: filepath.Join(home, "data"), Bucket: b, Secret: secret, DeviceName: "test", Argon: cheap, Log: log,
		Tree: live.Options{Idle: -1, Journal: journal.Options{SegmentSize: segment}},
	}, nil
}

// drive is an open drive with its bucket.
type drive struct {
	*sheaf.Drive
	bucket io.Closer
}

func (d *drive) close(ctx context.Context) error {
	return errors.Join(d.Close(ctx), d.bucket.Close())
}

func openDrive(ctx context.Context, home string, secret sheaf.Secret, log *slog.Logger) (*drive, error) {
	return begin(ctx, home, secret, log, sheaf.Open)
}

func createDrive(ctx context.Context, home string, secret sheaf.Secret, log *slog.Logger) (*drive, error) {
	return begin(ctx, home, secret, log, func(ctx context.Context, o sheaf.Options) (*sheaf.Drive, error) {
		d, _, err := sheaf.Create(ctx, o)
		return d, err
	})
}

func begin(ctx context.Context, home string, secret sheaf.Secret, log *slog.Logger, how func(context.Context, sheaf.Options) (*sheaf.Drive, error)) (*drive, error) {
	o, err := options(home, secret, log)
	if err != nil {
		return nil, err
	}
	d, err := how(ctx, o)
	if err != nil {
		return nil, errors.Join(err, o.Bucket.(io.Closer).Close())
	}
	return &drive{d, o.Bucket.(io.Closer)}, nil
}

// A world is a drive on a disk that remembers, and beside it a tree in memory to which the same is
// done. After each step it knows what the tree must look like.
type world struct {
	t       testing.TB
	disk    *Disk
	home    string
	d       *drive
	secrets []sheaf.Secret // one of these opens the drive; the last one is the newest
	// secretAt are the moments when these were set.
	secretAt []int
	model    vfs.FS
	labels   map[string]string // of kept snapshots: the state that they keep
	steps    []step            // the first is the empty tree
	saves    []save
	touched  map[string]int    // path: the last step that a sync of it saves
	told     func(note string) // of what is begun and done; nil: nobody is
	loose    bool              // faults are about: what is done may fail
	failed   []error
	refused  int // calls
	untyped  int // errors of commits
	round    int // of mixed
}

// A step is one change that is there or not.
type step struct {
	what       string
	begin, end int // moments
	state      []string
}

// A save says that from a moment on all steps up to one are durable.
type save struct{ at, step int }

// newWorld returns one on an empty disk, without a drive.
func newWorld(t testing.TB) *world {
	t.Helper()
	disk := New(t)
	w := worldIn(t, disk.Dir)
	w.disk = disk
	return w
}

// worldIn returns one whose drive is in home, or will be.
func worldIn(t testing.TB, home string) *world {
	t.Helper()
	w := &world{
		t: t, home: home, model: memfs.New(memfs.Options{}), secrets: []sheaf.Secret{{}}, secretAt: []int{0}, labels: map[string]string{},
		touched: map[string]int{},
	}
	w.steps = []step{{what: "begin", state: w.digest(w.model, nil)}}
	return w
}

func (w *world) create() {
	w.t.Helper()
	w.begin(createDrive)
}

// open opens the drive, which is there and empty.
func (w *world) open() {
	w.t.Helper()
	w.begin(openDrive)
}

func (w *world) begin(how func(context.Context, string, sheaf.Secret, *slog.Logger) (*drive, error)) {
	w.t.Helper()
	w.tell("begin", 0)
	d, err := how(w.t.Context(), w.home, w.secrets[0], nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.d = d
	w.steps[0].end = w.moment()
	w.tell("end", 0)
	w.saved(0)
}

// tell notes what becomes of a step.
func (w *world) tell(what string, step int) {
	if w.told != nil {
		w.told(fmt.Sprintf("%s %d", what, step))
	}
}

// moment is the moment now, on a disk that remembers.
func (w *world) moment() int {
	w.t.Helper()
	if w.disk == nil {
		return 0
	}
	return w.disk.Pos()
}

// saved notes that what was done up to a step is durable now.
func (w *world) saved(step int) { w.saves = append(w.saves, save{w.moment(), step}) }

// last is the number of the last step.
func (w *world) last() int { return len(w.steps) - 1 }

// do is one step: the same on the drive and on the model. paths are what a sync must name to save it.
func (w *world) do(what string, f func(ctx context.Context, fsys vfs.FS) error, paths ...string) (done bool) {
	w.t.Helper()
	ctx := w.t.Context()
	s := w.step(what)
	err := f(ctx, w.d.FS())
	if err != nil && w.loose {
		w.failed = append(w.failed, fmt.Errorf("%s: %w", what, err))
		return false
	}
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	if err := f(ctx, w.model); err != nil {
		w.t.Fatalf("%s, in the model: %v", what, err)
	}
	w.ended(s)
	for _, p := range paths {
		w.touched[p] = w.last()
	}
	return true
}

// step begins one.
func (w *world) step(what string) step {
	w.t.Helper()
	w.tell("begin", len(w.steps))
	return step{what: what, begin: w.moment()}
}

// ended notes that a step is done.
func (w *world) ended(s step) {
	w.t.Helper()
	w.tell("end", len(w.steps))
	s.end, s.state = w.moment(), w.digest(w.model, w.labels)
	w.steps = append(w.steps, s)
}

// act does something to the drive that does not change the tree.
func (w *world) act(what string, f func(ctx context.Context) error) {
	w.t.Helper()
	if err := f(w.t.Context()); err != nil {
		if w.loose {
			w.failed = append(w.failed, fmt.Errorf("%s: %w", what, err))
			return
		}
		w.t.Fatalf("%s: %v", what, err)
	}
}

// commit saves all.
func (w *world) commit() {
	w.t.Helper()
	w.act("commit", func(ctx context.Context) error {
		last := w.last()
		err := w.d.Commit(ctx)
		if err == nil {
			w.saved(last)
		}
		return err
	})
}

// passphrase sets another secret, which opens the drive from then on.
func (w *world) passphrase(s sheaf.Secret) {
	w.t.Helper()
	w.tell("begin-secret", len(w.secrets))
	w.secrets = append(w.secrets, s)
	w.act("passphrase "+string(s.Passphrase), func(ctx context.Context) error {
		err := w.d.SetPassphrase(ctx, s.Passphrase)
		if err == nil {
			w.secretAt = append(w.secretAt, w.moment())
			w.tell("end-secret", len(w.secrets)-1)
		}
		return err
	})
}

// sync saves what was done to a path.
func (w *world) sync(path string) {
	w.t.Helper()
	w.act("sync "+path, func(ctx context.Context) error {
		n, err := vfs.Walk(ctx, w.d.FS(), path)
		if err == nil {
			err = n.Sync(ctx)
		}
		if err == nil {
			w.saved(w.touched[path])
		}
		return err
	})
}

// syncAll saves all.
func (w *world) syncAll() {
	w.t.Helper()
	w.act("sync all", func(ctx context.Context) error {
		last := w.last()
		err := w.d.FS().Sync(ctx)
		if err == nil {
			w.saved(last)
		}
		return err
	})
}

func (w *world) make(path string, what vfs.New) bool {
	w.t.Helper()
	return w.do("make "+path, func(ctx context.Context, fsys vfs.FS) error {
		d, name, err := vfs.WalkParent(ctx, fsys, path)
		if err == nil {
			_, err = d.Make(ctx, name, what)
		}
		return err
	}, path, filepath.Dir(path))
}

func (w *world) file(path string) bool {
	w.t.Helper()
	return w.make(path, vfs.New{Kind: vfs.KindFile, Mode: 0o640})
}

func (w *world) dir(path string) {
	w.t.Helper()
	w.make(path, vfs.New{Kind: vfs.KindDir, Mode: 0o750})
}

// with is a step on an open file.
func (w *world) with(what, path string, f func(ctx context.Context, h vfs.Handle) error) {
	w.t.Helper()
	w.do(what+" "+path, func(ctx context.Context, fsys vfs.FS) error {
		h, err := vfs.OpenPath(ctx, fsys, path, vfs.OpenRead|vfs.OpenWrite)
		if err != nil {
			return err
		}
		return errors.Join(f(ctx, h), h.Close(ctx))
	}, path)
}

// write is one step if data is at most 128 KiB, for that is one record.
func (w *world) write(path string, data []byte, off int64) {
	w.t.Helper()
	w.with(fmt.Sprintf("write %d bytes at %d of", len(data), off), path, func(ctx context.Context, h vfs.Handle) error {
		_, err := h.WriteAt(ctx, data, off)
		return err
	})
}

// put makes a file and writes it.
func (w *world) put(path string, data []byte) bool {
	w.t.Helper()
	if !w.file(path) {
		return false
	}
	w.write(path, data, 0)
	return true
}

func (w *world) rename(from, to string, flag vfs.RenameFlag) bool {
	w.t.Helper()
	return w.do("rename "+from+" to "+to, func(ctx context.Context, fsys vfs.FS) error {
		d, name, err := vfs.WalkParent(ctx, fsys, from)
		if err != nil {
			return err
		}
		d2, name2, err := vfs.WalkParent(ctx, fsys, to)
		if err != nil {
			return err
		}
		return d.Rename(ctx, name, d2, name2, flag)
	}, to, filepath.Dir(from), filepath.Dir(to))
}

func (w *world) link(from, to string) {
	w.t.Helper()
	w.do("link "+from+" to "+to, func(ctx context.Context, fsys vfs.FS) error {
		n, err := vfs.Walk(ctx, fsys, from)
		if err != nil {
			return err
		}
		d, name, err := vfs.WalkParent(ctx, fsys, to)
		if err != nil {
			return err
		}
		return d.Link(ctx, name, n)
	}, from, to, filepath.Dir(to))
}

func (w *world) remove(path string, dir bool) bool {
	w.t.Helper()
	return w.do("remove "+path, func(ctx context.Context, fsys vfs.FS) error {
		d, name, err := vfs.WalkParent(ctx, fsys, path)
		if err == nil {
			err = d.Remove(ctx, name, dir)
		}
		return err
	}, filepath.Dir(path))
}

// node is a step on a node.
func (w *world) node(what, path string, f func(ctx context.Context, n vfs.Node) error) {
	w.t.Helper()
	w.do(what+" "+path, func(ctx context.Context, fsys vfs.FS) error {
		n, err := vfs.Walk(ctx, fsys, path)
		if err == nil {
			err = f(ctx, n)
		}
		return err
	}, path)
}

// snapshot keeps the state, which is durable when that returns.
func (w *world) snapshot(label string) {
	w.t.Helper()
	s := w.step("snapshot " + label)
	w.act(s.what, func(ctx context.Context) error {
		_, err := w.d.Snapshot(ctx, label)
		if err == nil {
			w.labels[label] = sum(w.digest(w.model, nil))
			w.ended(s)
			w.saved(w.last())
		}
		return err
	})
}

func (w *world) drop(label string) {
	w.t.Helper()
	s := w.step("drop " + label)
	w.act(s.what, func(ctx context.Context) error {
		err := w.d.DropSnapshot(ctx, sheaf.SnapshotID(label))
		if err == nil {
			delete(w.labels, label)
			w.ended(s)
			w.saved(w.last())
		}
		return err
	})
}

// digest says in lines what is in a tree, and which snapshots are kept.
func (w *world) digest(fsys vfs.FS, labels map[string]string) []string {
	w.t.Helper()
	lines, err := describe(w.t.Context(), fsys)
	if err != nil {
		w.t.Fatalf("describe the model: %v", err)
	}
	for label, state := range labels {
		lines = append(lines, "snapshot "+label+" "+state)
	}
	slices.Sort(lines)
	return lines
}

func sum(lines []string) string {
	h := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return fmt.Sprintf("%x", h[:6])
}

// describe says in lines what is in a tree. Times are left out.
func describe(ctx context.Context, fsys vfs.FS) ([]string, error) {
	root, err := fsys.Root(ctx)
	if err != nil {
		return nil, err
	}
	var lines []string
	links := map[uint64]string{}
	for e, err := range vfs.Tree(ctx, root) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
		a, err := e.Node.Attr(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
		line := fmt.Sprintf("%s kind %d mode %o links %d", e.Path, a.Kind, a.Mode, a.Nlink)
		if a.Nlink > 1 {
			if links[a.Ino] == "" {
				links[a.Ino] = e.Path
			}
			line += " is " + links[a.Ino]
		}
		switch a.Kind {
		case vfs.KindFile:
			h := sha256.New()
			data, err := vfs.ReadFile(ctx, fsys, e.Path, 1<<30)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.Path, err)
			}
			h.Write(data)
			line += fmt.Sprintf(" size %d bytes %x", a.Size, h.Sum(nil)[:8])
		case vfs.KindLink:
			target, err := e.Node.(vfs.Link).Target(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.Path, err)
			}
			line += " to " + target
		}
		names, err := e.Node.ListXattr(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
		slices.Sort(names)
		for _, name := range names {
			v, err := e.Node.Xattr(ctx, name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.Path, err)
			}
			line += fmt.Sprintf(" %s=%q", name, v)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines, nil
}

// stateOf describes a drive as world.digest does.
func stateOf(ctx context.Context, d *drive) ([]string, error) {
	lines, err := describe(ctx, d.FS())
	if err != nil {
		return nil, err
	}
	all, err := d.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		if k.Label == "" {
			continue
		}
		past, err := d.At(ctx, k)
		if err != nil {
			return nil, err
		}
		old, err := describe(ctx, past)
		if err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", k.Label, err)
		}
		lines = append(lines, "snapshot "+k.Label+" "+sum(old))
	}
	slices.Sort(lines)
	return lines, nil
}
