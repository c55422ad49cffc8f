package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/service/transfer"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newDrive makes a drive that commits when it is asked to.
func newDrive(t *testing.T) *sheaf.Drive {
	t.Helper()
	d, _, err := sheaf.Create(t.Context(), sheaf.Options{
		Dir: filepath.Join(t.TempDir(), "home"), Bucket: mem.New(), DeviceName: "test",
		Argon: keys.Argon{Memory: 64 << 10, Time: 3, Threads: 1}, Tree: live.Options{Idle: -1},
	})
	check(t, err)
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

// load copies a folder into the drive.
func load(ctx context.Context, t *testing.T, d *sheaf.Drive, dir string, c *transfer.Claims) (*transfer.Progress, error) {
	t.Helper()
	from, err := transfer.OpenLocal(dir, nil)
	check(t, err)
	defer func() { _ = from.Close() }()
	var p transfer.Progress
	err = transfer.Copy(ctx, from, transfer.NewDrive(d.FS(), "in", c), transfer.Options{Load: d.Load, Batch: 40}, &p)
	return &p, err
}

// compare fails if a file of dir is not the same in the drive.
func compare(t *testing.T, d *sheaf.Drive, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		got, err := vfs.ReadFile(t.Context(), d.FS(), "in/"+filepath.ToSlash(rel), 1<<30)
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%s has other bytes", rel)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// manyFiles makes more files than one batch takes, and a long one.
func manyFiles(t *testing.T, n int) string {
	t.Helper()
	rng := testkit.Rand(testkit.Seed(t))
	dir := filepath.Join(t.TempDir(), "src")
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprint(i%7), fmt.Sprint(i%3))
		check(t, os.MkdirAll(sub, 0o755))
		check(t, os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), testkit.Random(rng, rng.IntN(3000)), 0o644))
	}
	check(t, os.WriteFile(filepath.Join(dir, "long"), testkit.Random(rng, 5<<20), 0o600))
	check(t, os.Link(filepath.Join(dir, "long"), filepath.Join(dir, "another-name")))
	return dir
}

func TestCopy_LoadsATreeAndFindsItUnchanged(t *testing.T) {
	d, c := newDrive(t), &transfer.Claims{}
	dir := manyFiles(t, 150)
	p, err := load(t.Context(), t, d, dir, c)
	check(t, err)
	if f := p.Failures(); f != nil {
		t.Fatalf("failures: %v", f)
	}
	n := p.Count()
	if n.Items != n.ItemsTotal || n.Bytes != n.BytesTotal || !n.Counted {
		t.Errorf("got %+v, want all done", n)
	}
	compare(t, d, dir)
	check(t, d.Commit(t.Context()))
	compare(t, d, dir)
	before, err := d.Stats(t.Context())
	check(t, err)
	p, err = load(t.Context(), t, d, dir, c)
	check(t, err)
	if n := p.Count(); n.Skipped != n.Items || len(p.Actions()) != 0 {
		t.Errorf("the second time: got %+v, %q, want all skipped", n, p.Actions())
	}
	check(t, d.Commit(t.Context()))
	after, err := d.Stats(t.Context())
	check(t, err)
	if after.Chunks != before.Chunks {
		t.Errorf("copying what is there made %d chunks", after.Chunks-before.Chunks)
	}
}

// SYNC.md S6: a change that leaves size and time as they were is seen, also one that follows the copy at once.
func TestCopy_SeesAChangeThatSizeAndTimeHide(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no time of the last change of attributes there")
	}
	d, c := newDrive(t), &transfer.Claims{}
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	when := time.Now()
	for i := range 20 {
		body := []byte(fmt.Sprintf("version %02d", i))
		check(t, os.WriteFile(file, body, 0o644))
		check(t, os.Chtimes(file, when, when))
		p, err := load(t.Context(), t, d, dir, c)
		check(t, err)
		if f := p.Failures(); f != nil {
			t.Fatalf("failures: %v", f)
		}
		compare(t, d, dir)
	}
	// Its attributes only: nothing is copied, and the next time nothing is even read.
	check(t, os.Chmod(file, 0o600))
	for i, want := range []int{1, 0} {
		reads := &reading{}
		from, err := transfer.OpenLocal(dir, nil)
		check(t, err)
		reads.Source = from
		var p transfer.Progress
		check(t, transfer.Copy(t.Context(), reads, transfer.NewDrive(d.FS(), "in", c), transfer.Options{Load: d.Load, Batch: 40}, &p))
		_ = from.Close()
		if reads.opened != want || len(p.Actions()) != 0 {
			t.Errorf("copy %d after a chmod: %d files were read, want %d; did %q", i, reads.opened, want, p.Actions())
		}
	}
	n, err := vfs.Walk(t.Context(), d.FS(), "in/f")
	check(t, err)
	if a, err := n.Attr(t.Context()); err != nil || a.Mode != 0o600 {
		t.Errorf("got mode %o, %v", a.Mode, err)
	}
}

// reading counts the files that are opened.
type reading struct {
	transfer.Source
	opened int
}

func (r *reading) Open(ctx context.Context, p string) (transfer.Reader, error) {
	r.opened++
	return r.Source.Open(ctx, p)
}

// interrupts cancels the copy when so many files were opened.
type interrupts struct {
	transfer.Source
	left   int
	cancel context.CancelFunc
}

func (i *interrupts) Open(ctx context.Context, p string) (transfer.Reader, error) {
	if i.left--; i.left == 0 {
		i.cancel()
	}
	return i.Source.Open(ctx, p)
}

// A copy that is cut off leaves whole files and no half ones, what it replaces stays until the new is
// there, and the next copy brings the rest, also with a garbage collection in between.
func TestCopy_ALoadThatIsCutOffGoesOn(t *testing.T) {
	d, c := newDrive(t), &transfer.Claims{}
	dir := manyFiles(t, 150)
	old := []byte("what was there")
	_, err := vfs.MkdirAll(t.Context(), d.FS(), "in", vfs.New{Kind: vfs.KindDir, Mode: 0o755})
	check(t, err)
	check(t, vfs.WriteFile(t.Context(), d.FS(), "in/long", old, vfs.New{Kind: vfs.KindFile, Mode: 0o644}))
	for i, after := range []int{1, 50, 110} {
		from, err := transfer.OpenLocal(dir, nil)
		check(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var p transfer.Progress
		o := transfer.Options{Load: d.Load, Workers: 1, Batch: 40}
		err = transfer.Copy(ctx, &interrupts{from, after, cancel}, transfer.NewDrive(d.FS(), "in", c), o, &p)
		cancel()
		_ = from.Close()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("copy %d: got %v, want cancelled", i, err)
		}
		top, err := vfs.WalkDir(t.Context(), d.FS(), "in")
		check(t, err)
		for e, err := range vfs.Tree(t.Context(), top) {
			check(t, err)
			f, ok := e.Node.(vfs.File)
			if !ok || strings.Contains(e.Path, ".sheaf-partial-") {
				continue
			}
			got, err := vfs.ReadFile(t.Context(), d.FS(), "in/"+e.Path, 1<<30)
			check(t, err)
			want, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(e.Path)))
			check(t, err)
			if !bytes.Equal(got, want) && !(e.Path == "long" && bytes.Equal(got, old)) {
				t.Fatalf("copy %d left half of %s (%T)", i, e.Path, f)
			}
		}
		_, err = d.GC(t.Context(), sheaf.GCOptions{}, nil)
		check(t, err)
	}
	p, err := load(t.Context(), t, d, dir, c)
	check(t, err)
	if f := p.Failures(); f != nil {
		t.Fatalf("failures: %v", f)
	}
	_, err = d.GC(t.Context(), sheaf.GCOptions{}, nil)
	check(t, err)
	compare(t, d, dir)
}
