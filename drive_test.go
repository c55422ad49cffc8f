package sheaf

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
	"github.com/sheaf-drive/sheaf/vfs/vfstest"
)

// cheap is the least Argon2 that is taken.
var cheap = keys.Argon{Memory: 64 << 10, Time: 3, Threads: 1}

type home struct {
	t      testing.TB
	dir    string
	bucket string
}

func newHome(t testing.TB) *home {
	d := t.TempDir()
	return &home{t: t, dir: filepath.Join(d, "home"), bucket: filepath.Join(d, "store")}
}

func (h *home) options(s Secret) Options {
	b, err := disk.Open(h.bucket, disk.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = b.Close() })
	var log *slog.Logger
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return Options{Dir: h.dir, Bucket: b, Secret: s, DeviceName: "test", Argon: cheap, Log: log, Tree: live.Options{Idle: -1}}
}

func (h *home) create(s Secret) (*Drive, string) {
	h.t.Helper()
	d, words, err := Create(h.t.Context(), h.options(s))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d, words
}

func (h *home) open(s Secret) *Drive {
	h.t.Helper()
	d, err := Open(h.t.Context(), h.options(s))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

func write(t testing.TB, fsys vfs.FS, path string, data []byte) {
	t.Helper()
	if err := vfs.WriteFile(t.Context(), fsys, path, data, vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, fsys vfs.FS, path string) []byte {
	t.Helper()
	data, err := vfs.ReadFile(t.Context(), fsys, path, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func verify(t testing.TB, d *Drive) VerifyReport {
	t.Helper()
	r, err := d.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func clean(t testing.TB, d *Drive) {
	t.Helper()
	for _, f := range verify(t, d).Findings {
		t.Errorf("verify: %s %s", f.Blob, f.Reason)
	}
}

func closeDrive(t testing.TB, d *Drive) {
	t.Helper()
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestDrive_IsThereAgainAfterClose(t *testing.T) {
	gone := testkit.Goroutines(t)
	h := newHome(t)
	d, words := h.create(Secret{})
	if len(words) < 24 {
		t.Fatalf("recovery words %q", words)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	write(t, d.FS(), "a.txt", []byte("hello"))
	write(t, d.FS(), "big", big)
	clean(t, d)
	closeDrive(t, d)
	d = h.open(Secret{})
	if got := read(t, d.FS(), "a.txt"); string(got) != "hello" {
		t.Errorf("a.txt is %q", got)
	}
	if !bytes.Equal(read(t, d.FS(), "big"), big) {
		t.Error("big has other bytes")
	}
	clean(t, d)
	closeDrive(t, d)
	gone.Check(t)
}

// X7, K16: the words and the bucket alone.
func TestDrive_OpensFromItsBucketAndTheWordsAlone(t *testing.T) {
	h := newHome(t)
	d, words := h.create(Secret{Passphrase: []byte("one")})
	want := d.FS()
	seed := vfstest.Seed(t)
	vfstest.Model(t, want, seed, 300)
	oracle := memfs.New(memfs.Options{})
	if err := vfstest.Replay(t.Context(), oracle, nil); err != nil {
		t.Fatal(err)
	}
	write(t, want, "kept.txt", []byte("kept"))
	closeDrive(t, d)

	other := newHome(t)
	other.bucket = h.bucket
	e, err := Join(t.Context(), other.options(Secret{Recovery: words}), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	d = h.open(Secret{Passphrase: []byte("one")})
	if err := vfstest.SameTree(t.Context(), d.FS(), e.FS()); err != nil {
		t.Error(err)
	}
	if got := read(t, e.FS(), "kept.txt"); string(got) != "kept" {
		t.Errorf("kept.txt is %q", got)
	}
}

func TestDrive_TakesAnotherPassphrase(t *testing.T) {
	h := newHome(t)
	d, _ := h.create(Secret{Passphrase: []byte("one")})
	write(t, d.FS(), "a", []byte("a"))
	if err := d.SetPassphrase(t.Context(), []byte("two")); err != nil {
		t.Fatal(err)
	}
	closeDrive(t, d)
	if _, err := Open(t.Context(), h.options(Secret{Passphrase: []byte("one")})); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the old passphrase: %v", err)
	}
	if _, err := Open(t.Context(), h.options(Secret{})); !errors.Is(err, ErrNeedSecret) {
		t.Errorf("no passphrase: %v", err)
	}
	d = h.open(Secret{Passphrase: []byte("two")})
	clean(t, d)
	if err := d.SetPassphrase(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	closeDrive(t, d)
	d = h.open(Secret{})
	if got := read(t, d.FS(), "a"); string(got) != "a" {
		t.Errorf("a is %q", got)
	}
}

func TestDrive_IsOpenOnce(t *testing.T) {
	h := newHome(t)
	d, _ := h.create(Secret{})
	if _, err := Open(t.Context(), h.options(Secret{})); !errors.Is(err, ErrLocked) {
		t.Fatalf("second Open: %v", err)
	}
	closeDrive(t, d)
	closeDrive(t, h.open(Secret{}))
	empty := newHome(t)
	if _, err := Open(t.Context(), empty.options(Secret{})); !errors.Is(err, ErrNoDrive) {
		t.Fatalf("Open of nothing: %v", err)
	}
	if _, _, err := Create(t.Context(), h.options(Secret{})); !errors.Is(err, ErrExists) {
		t.Fatalf("second Create: %v", err)
	}
}

// S13: without its local state a device is a new one, and nothing is lost or deleted.
func TestDrive_GoesOnWithoutItsDatabase(t *testing.T) {
	h := newHome(t)
	d, _ := h.create(Secret{})
	write(t, d.FS(), "committed", []byte("1"))
	if err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, d.FS(), "journaled", []byte("2"))
	before := d.Info().Device
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Close(done); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "kv")); err != nil {
		t.Fatal(err)
	}
	d = h.open(Secret{})
	for path, want := range map[string]string{"committed": "1", "journaled": "2"} {
		if got := read(t, d.FS(), path); string(got) != want {
			t.Errorf("%s is %q", path, got)
		}
	}
	if d.Info().Device == before {
		t.Error("the device kept its name though its state was lost")
	}
	write(t, d.FS(), "new", []byte("3"))
	if err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	clean(t, d)
	closeDrive(t, d)
	d = h.open(Secret{})
	for _, path := range []string{"committed", "journaled", "new"} {
		read(t, d.FS(), path)
	}
}

func TestDrive_KeepsItsHistory(t *testing.T) {
	h := newHome(t)
	d, _ := h.create(Secret{})
	v := d.FS()
	write(t, v, "f", []byte("one"))
	first, err := d.Snapshot(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	write(t, v, "f", []byte("two!"))
	write(t, v, "g", []byte("new"))
	if err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := vfs.RemoveAll(t.Context(), v, "f"); err != nil {
		t.Fatal(err)
	}
	last, err := d.Snapshot(t.Context(), "last")
	if err != nil {
		t.Fatal(err)
	}
	past, err := d.At(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, past, "f"); string(got) != "one" {
		t.Errorf("f was %q", got)
	}
	if _, err := vfs.ReadFile(t.Context(), past, "g", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("g was there: %v", err)
	}
	var diffs []string
	for diff, err := range d.Diff(t.Context(), first, last) {
		if err != nil {
			t.Fatal(err)
		}
		diffs = append(diffs, diff.Path)
	}
	if len(diffs) != 2 || diffs[0] != "f" || diffs[1] != "g" {
		t.Errorf("differences: %q", diffs)
	}
	var sizes []int64
	for ver, err := range d.History(t.Context(), "f") {
		if err != nil {
			t.Fatal(err)
		}
		if ver.Entry == nil {
			sizes = append(sizes, -1)
		} else {
			sizes = append(sizes, ver.Entry.Size)
		}
	}
	if len(sizes) != 3 || sizes[0] != -1 || sizes[1] != 4 || sizes[2] != 3 {
		t.Errorf("versions of f have sizes %d", sizes)
	}
	if k, err := d.ResolveTime(t.Context(), time.Now()); err != nil || k.Dot != last.Dot {
		t.Errorf("newest is %v, %v", k.Dot, err)
	}
	if err := d.DropSnapshot(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Resolve(t.Context(), "first"); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("dropped snapshot: %v", err)
	}
	clean(t, d)
}

func TestDrive_GCFreesWhatNothingReaches(t *testing.T) {
	h := newHome(t)
	d, _ := h.create(Secret{})
	v := d.FS()
	data := make([]byte, 64<<20)
	rng := newNoise(vfstest.Seed(t))
	rng.fill(data)
	write(t, v, "big", data)
	write(t, v, "small", []byte("small"))
	if err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, err := d.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := vfs.RemoveAll(t.Context(), v, "big"); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := d.GC(t.Context(), GCOptions{}, nil); err != nil || r.Packs != 0 {
		t.Fatalf("gc with the history at hand: %+v, %v", r, err)
	}
	all, err := d.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all[1:] {
		if err := d.DropSnapshot(t.Context(), SnapshotID(k.Dot.String())); err != nil {
			t.Fatal(err)
		}
	}
	r, err := d.GC(t.Context(), GCOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := d.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.PackBytes > before.PackBytes/4 || r.Freed < 48<<20 {
		t.Errorf("gc freed %d: %d of %d bytes are left", r.Freed, after.PackBytes, before.PackBytes)
	}
	if got := read(t, v, "small"); string(got) != "small" {
		t.Errorf("small is %q", got)
	}
	clean(t, d)
}

// Who looks at the past holds it for as long as that, and not until the drive is closed.
func TestDrive_GCLeavesAPastAloneWhileItIsInUse(t *testing.T) {
	h := newHome(t)
	d, _ := h.create(Secret{})
	data := make([]byte, 16<<20)
	rng := newNoise(vfstest.Seed(t))
	rng.fill(data)
	write(t, d.FS(), "big", data)
	k, err := d.Snapshot(t.Context(), "big")
	if err != nil {
		t.Fatal(err)
	}
	if err := vfs.RemoveAll(t.Context(), d.FS(), "big"); err != nil {
		t.Fatal(err)
	}
	var node vfs.Node
	for range 3 {
		past, err := d.At(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		if node, err = vfs.Walk(t.Context(), past, "big"); err != nil {
			t.Fatal(err)
		}
	}
	all, err := d.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		if err := d.DropSnapshot(t.Context(), SnapshotID(k.Dot.String())); err != nil && !errors.Is(err, ErrNoSnapshot) {
			t.Fatal(err)
		}
	}
	inUse := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.past[k.Root]
	}
	await := func(n int) {
		t.Helper()
		for begin := time.Now(); inUse() != n; runtime.GC() {
			if time.Since(begin) > 20*time.Second {
				t.Fatalf("%d trees of the past are in use, want %d", inUse(), n)
			}
		}
	}
	await(1)
	if r, err := d.GC(t.Context(), GCOptions{}, nil); err != nil || r.Freed > 1<<20 {
		t.Fatalf("gc with the past in use: %+v, %v", r, err)
	}
	h1, err := node.(vfs.File).Open(t.Context(), vfs.OpenRead)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if _, err := h1.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the past has other bytes, %v", err)
	}
	if err := h1.Close(t.Context()); err != nil {
		t.Error(err)
	}
	runtime.KeepAlive(node) // and no longer
	await(0)
	if r, err := d.GC(t.Context(), GCOptions{}, nil); err != nil || r.Freed < 15<<20 {
		t.Errorf("gc with the past in use no more: %+v, %v", r, err)
	}
	clean(t, d)
}
