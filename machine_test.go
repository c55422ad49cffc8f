package sheaf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// long reports whether the tests have the time to try everything.
func long() bool { return os.Getenv("SHEAF_LONG") != "" }

// A machine is where one device of a drive lives: its folder, and in memory its database and its
// journal, so that a test can copy and alter all of it as a whole.
type machine struct {
	t      testing.TB
	dir    string
	bucket blob.Bucket
	db     *memkv.DB
	wal    *journal.MemDir
	log    *slog.Logger
}

func newMachine(t testing.TB, b blob.Bucket) *machine {
	return &machine{t: t, dir: filepath.Join(t.TempDir(), "home"), bucket: b, db: memkv.New(), wal: journal.NewMemDir()}
}

// lasting is a database that outlives the drive that closes it.
type lasting struct{ *memkv.DB }

func (lasting) Close() error { return nil }

// mendLog takes note of what is mended when a drive is opened: that was noticed, though Verify finds nothing afterwards.
type mendLog struct {
	slog.Handler
	mended atomic.Pointer[string]
}

func (l *mendLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *mendLog) Handle(_ context.Context, r slog.Record) error {
	if strings.HasSuffix(r.Message, "is restored") {
		l.mended.Store(&r.Message)
	}
	return nil
}

func (m *machine) options(s Secret) Options {
	if m.log == nil {
		m.log = slog.New(&mendLog{Handler: slog.DiscardHandler})
	}
	o := Options{
		Dir: m.dir, Bucket: m.bucket, Secret: s, DeviceName: "test", Argon: cheap, Log: m.log, Tree: live.Options{Idle: -1},
		OpenKV: func(context.Context, string, [32]byte, *slog.Logger) (kv.DB, error) { return lasting{m.db}, nil },
	}
	o.Tree.Journal.Dir = m.wal
	return o
}

// clone copies the machine as it lies there, to go on with another bucket.
func (m *machine) clone(b blob.Bucket) *machine {
	m.t.Helper()
	c := &machine{t: m.t, dir: filepath.Join(m.t.TempDir(), "home"), bucket: b, db: m.db.Clone(), wal: m.wal.Clone(), log: m.log}
	if err := os.CopyFS(c.dir, os.DirFS(m.dir)); err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *machine) create(s Secret) (*Drive, string) {
	m.t.Helper()
	d, words, err := Create(m.t.Context(), m.options(s))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = d.Close(done()) })
	return d, words
}

func (m *machine) open() *Drive {
	m.t.Helper()
	d, err := m.tryOpen()
	if err != nil {
		m.t.Fatal(err)
	}
	return d
}

func (m *machine) tryOpen() (*Drive, error) {
	d, err := Open(m.t.Context(), m.options(Secret{}))
	if err == nil {
		m.t.Cleanup(func() { _ = d.Close(done()) })
	}
	return d, err
}

func (m *machine) join(words string) *Drive {
	m.t.Helper()
	d, err := Join(m.t.Context(), m.options(Secret{Recovery: words}), true)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = d.Close(done()) })
	return d
}

// done returns a context that is over: closing with it leaves in the journal what is there.
func done() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// drop closes a drive as a crash would: nothing is committed.
func drop(t testing.TB, d *Drive) {
	t.Helper()
	if err := d.Close(done()); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func commit(t testing.TB, d *Drive) {
	t.Helper()
	if err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A state is what a tree has: the bytes of its files, by path; of a directory "dir", of a link its target.
type state map[string]string

// stateOf reads a whole tree. An error that says "not there" of what a listing has shown is
// passed on as wrong data: nobody removed it.
func stateOf(ctx context.Context, fsys vfs.FS) (state, error) {
	top, err := fsys.Root(ctx)
	if err != nil {
		return nil, err
	}
	s := state{}
	for e, err := range vfs.Tree(ctx, top) {
		if err == nil {
			s[e.Path], err = content(ctx, e.Node)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %q seems not to be there: %w", errWrong, e.Path, err)
		}
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", e.Path, err)
		}
	}
	return s, nil
}

func content(ctx context.Context, n vfs.Node) (string, error) {
	switch n := n.(type) {
	case vfs.Dir:
		return "dir", nil
	case vfs.Link:
		to, err := n.Target(ctx)
		return "link " + to, err
	case vfs.File:
		h, err := n.Open(ctx, vfs.OpenRead)
		if err != nil {
			return "", err
		}
		a, err := n.Attr(ctx)
		if err != nil {
			return "", errors.Join(err, h.Close(ctx))
		}
		p := make([]byte, a.Size)
		_, err = h.ReadAt(ctx, p, 0)
		return "file " + string(p), errors.Join(err, h.Close(ctx))
	}
	return "node", nil
}

// errWrong is the one outcome that must never be: other data than was written.
var errWrong = errors.New("WRONG DATA")

// differs tells how a tree differs from what it should be, in short.
func (s state) differs(want state) error {
	for _, p := range slices.Sorted(maps.Keys(want)) {
		switch got, ok := s[p]; {
		case !ok:
			return fmt.Errorf("%w: %q is missing", errWrong, p)
		case got != want[p]:
			return fmt.Errorf("%w: %q is %.40q (%d bytes), not %.40q (%d bytes)", errWrong, p, got, len(got), want[p], len(want[p]))
		}
	}
	for p := range s {
		if _, ok := want[p]; !ok {
			return fmt.Errorf("%w: %q is new", errWrong, p)
		}
	}
	return nil
}

// typed reports whether err is one of those that say what is wrong with stored bytes.
func typed(err error) bool {
	for _, t := range []error{
		keys.ErrTampered, keys.ErrFork, keys.ErrRollback, keys.ErrIncomplete, keys.ErrFormat, keys.ErrWrongSecret, keys.ErrNotMember,
		refs.ErrStateLost, chunkstore.ErrCorrupt, chunkstore.ErrMissing, seal.ErrTampered, index.ErrBlob, manifest.ErrMalformed,
		journal.ErrDamaged, vfs.ErrCorrupt, kv.ErrDamaged, ErrPassphrase, ErrNoDrive, evil.ErrFault,
	} {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// inspect opens a drive, verifies it and reads all of it. found is the typed error of whoever noticed
// that something is wrong: Open, Verify or a read. err is set if a tree was shown that is not
// want, or an error came that does not say what is wrong.
func inspect(t testing.TB, open func() (*Drive, error), want state) (found, err error) {
	t.Helper()
	d, err := open()
	if err != nil {
		if !typed(err) {
			return nil, fmt.Errorf("open: error without a type: %w", err)
		}
		return err, nil
	}
	defer drop(t, d)
	r, err := d.Verify(t.Context(), nil)
	if err != nil && !typed(err) {
		return nil, fmt.Errorf("verify: error without a type: %w", err)
	}
	found = err
	if l, ok := d.o.Log.Handler().(*mendLog); ok && l.mended.Load() != nil {
		found = errors.Join(found, errors.New(*l.mended.Load()))
	}
	for _, f := range r.Findings {
		if f.Err != nil && !typed(f.Err) {
			return nil, fmt.Errorf("verify: finding without a type: %s: %w", f.Blob, f.Err)
		}
		if f.Err == nil {
			f.Err = errors.New(f.Reason)
		}
		found = errors.Join(found, fmt.Errorf("%s: %w", f.Blob, f.Err))
	}
	got, err := stateOf(t.Context(), d.FS())
	switch {
	case err == nil:
		return found, got.differs(want)
	case errors.Is(err, errWrong):
		return found, err
	case !typed(err):
		return found, fmt.Errorf("read: error without a type: %w", err)
	}
	return errors.Join(found, err), nil
}

// blobs returns all that lies in a bucket.
func blobs(t testing.TB, b blob.Bucket) map[blob.Name][]byte {
	t.Helper()
	all := map[blob.Name][]byte{}
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		p, err := blob.ReadAll(t.Context(), b, info.Name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		all[info.Name] = p
	}
	return all
}

func putBlob(t testing.TB, b blob.Bucket, name blob.Name, p []byte) {
	t.Helper()
	if err := b.Put(t.Context(), name, bytes.NewReader(p), int64(len(p))); err != nil {
		t.Fatal(err)
	}
}

func removeBlob(t testing.TB, b blob.Bucket, names ...blob.Name) {
	t.Helper()
	if err := b.Remove(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
}

// named returns the names in all that begin with prefix, sorted.
func named(all map[blob.Name][]byte, prefix string) []blob.Name {
	var names []blob.Name
	for n := range all {
		if strings.HasPrefix(string(n), prefix) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// A village is a small closed drive with two or three of everything.
type village struct {
	*machine
	store *mem.Bucket
	words string
	want  state
	past  []*mem.Bucket // the bucket after each commit, oldest first
	wants []state       // the tree then
}

// newVillage makes a drive with some files of one chunk and one of three segments, committed in three
// steps, with index blobs and a snapshot, and closes it.
func newVillage(t testing.TB) *village {
	t.Helper()
	v := &village{store: mem.New()}
	v.machine = newMachine(t, v.store)
	d, words := v.create(Secret{})
	v.words = words
	mark := func() {
		s, err := stateOf(t.Context(), d.FS())
		if err != nil {
			t.Fatal(err)
		}
		v.past, v.wants, v.want = append(v.past, v.store.Clone()), append(v.wants, s), s
	}
	big := make([]byte, 300<<10)
	newNoise(1).fill(big)
	write(t, d.FS(), "big", big)
	write(t, d.FS(), "note", []byte("first"))
	commit(t, d)
	mark()
	if _, err := vfs.MkdirAll(t.Context(), d.FS(), "x/y", vfs.New{Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	write(t, d.FS(), "x/same-size", []byte(strings.Repeat("x", 1000)))
	write(t, d.FS(), "x/y/same-size", []byte(strings.Repeat("y", 1000)))
	if _, err := d.Snapshot(t.Context(), "label"); err != nil {
		t.Fatal(err)
	}
	mark()
	write(t, d.FS(), "note", []byte("second, and longer"))
	if err := d.store.WriteIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, d)
	mark()
	closeDrive(t, d)
	return v
}

// The control of inspect: an untouched village has nothing to find, and other bytes are noticed.
func TestVillage_IsSoundAndInspectSeesWrongData(t *testing.T) {
	v := newVillage(t)
	m := v.clone(v.store.Clone())
	if found, err := inspect(t, m.tryOpen, v.want); found != nil || err != nil {
		t.Fatalf("untouched: found %v, error %v", found, err)
	}
	other := maps.Clone(v.want)
	other["note"] += "!"
	if _, err := inspect(t, m.tryOpen, other); !errors.Is(err, errWrong) {
		t.Errorf("inspect took other bytes for right: %v", err)
	}
	all := blobs(t, v.store)
	for prefix, least := range map[string]int{"packs/": 2, "heads/": 3, "index/": 2, "keys/": 2, "drive/": 2, "members/": 2} {
		if n := len(named(all, prefix)); n < least {
			t.Errorf("%d blobs %s, want at least %d", n, prefix, least)
		}
	}
}
