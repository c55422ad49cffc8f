package sheaf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// contents is a pool of few contents, so that what one writer deletes another one stores again while it is
// condemned.
type contents [][]byte

func makeContents(rng *rand.Rand) contents {
	c := contents{{}}
	for range 40 {
		c = append(c, testkit.Random(rng, 1+rng.IntN(40<<10)))
	}
	return append(c, testkit.Random(rng, 2<<20), testkit.Random(rng, 3<<20))
}

// A writer works in a directory of its own and knows what must be there.
type writer struct {
	d    *Drive
	fsys vfs.FS
	dir  string
	rng  *rand.Rand
	pool contents
	now  map[string][]byte
	kept []keptState
	n    int
}

type keptState struct {
	k    manifest.Kept
	tree map[string][]byte
}

// step does one thing.
func (w *writer) step(ctx context.Context) error {
	w.n++
	names := slices.Sorted(maps.Keys(w.now))
	pick := func() string { return names[w.rng.IntN(len(names))] }
	body := w.pool[w.rng.IntN(len(w.pool))]
	fresh := fmt.Sprintf("%s/%d", w.dir, w.n)
	switch op := w.rng.IntN(20); {
	case op < 5 || len(names) == 0:
		w.now[fresh] = body
		return vfs.WriteFile(ctx, w.fsys, fresh, body, vfs.New{Kind: vfs.KindFile, Mode: 0o644})
	case op < 8:
		w.now[fresh] = body
		return w.load(ctx, fresh, body)
	case op < 10:
		name := pick()
		w.now[name] = body
		return vfs.WriteFile(ctx, w.fsys, name, body, vfs.New{Kind: vfs.KindFile, Mode: 0o644})
	case op < 13:
		name := pick()
		delete(w.now, name)
		return vfs.RemoveAll(ctx, w.fsys, name)
	case op < 14:
		name := pick()
		w.now[fresh] = w.now[name]
		return w.clone(ctx, name, fresh)
	case op < 16:
		return w.d.Commit(ctx)
	case op < 17:
		k, err := w.d.Snapshot(ctx, fresh)
		w.kept = append(w.kept, keptState{k, maps.Clone(w.now)})
		return err
	case op < 18 && len(w.kept) > 2:
		i := w.rng.IntN(len(w.kept))
		k := w.kept[i].k
		w.kept = slices.Delete(w.kept, i, i+1)
		return w.d.DropSnapshot(ctx, SnapshotID(k.Dot.String()))
	case len(w.kept) > 0:
		s := w.kept[w.rng.IntN(len(w.kept))]
		if len(s.tree) == 0 {
			return nil
		}
		old := slices.Sorted(maps.Keys(s.tree))
		return w.restore(ctx, s, old[w.rng.IntN(len(old))], fresh)
	}
	return nil
}

// load brings a file in as a copy from the disk does.
func (w *writer) load(ctx context.Context, name string, body []byte) error {
	l, err := w.d.Load()
	if err != nil {
		return err
	}
	defer l.Close()
	var parts []live.Stored
	err = l.Store(ctx, bytesSource(body), int64(len(body)), func(s live.Stored) error { parts = append(parts, s); return nil })
	if err != nil {
		return err
	}
	if err := l.Flush(ctx); err != nil {
		return err
	}
	if err := vfs.WriteFile(ctx, w.fsys, name, nil, vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
		return err
	}
	h, err := vfs.OpenPath(ctx, w.fsys, name, vfs.OpenWrite)
	if err != nil {
		return err
	}
	for _, p := range parts {
		err = errors.Join(err, l.Give(ctx, h, p))
	}
	return errors.Join(err, h.Close(ctx))
}

// bytesSource is a file in memory.
type bytesSource []byte

func (b bytesSource) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(b).ReadAt(p, off)
}

func (b bytesSource) Data(_ context.Context, off int64) (int64, int64, error) {
	if off >= int64(len(b)) {
		return 0, 0, io.EOF
	}
	return off, int64(len(b)), nil
}

// clone copies a file by its chunks.
func (w *writer) clone(ctx context.Context, from, to string) error {
	if err := vfs.WriteFile(ctx, w.fsys, to, nil, vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
		return err
	}
	src, err := vfs.OpenPath(ctx, w.fsys, from, vfs.OpenRead)
	if err != nil {
		return err
	}
	dst, err := vfs.OpenPath(ctx, w.fsys, to, vfs.OpenWrite)
	if err != nil {
		return errors.Join(err, src.Close(ctx))
	}
	_, err = src.CopyTo(ctx, 0, dst, 0, 1<<40)
	return errors.Join(err, src.Close(ctx), dst.Close(ctx))
}

// restore brings a file of a kept state back under another name.
func (w *writer) restore(ctx context.Context, s keptState, name, to string) error {
	past, err := w.d.At(ctx, s.k)
	if err != nil {
		return err
	}
	got, err := vfs.ReadFile(ctx, past, name, 1<<30)
	if err != nil {
		return fmt.Errorf("read %s as of %s: %w", name, s.k.Label, err)
	}
	if !bytes.Equal(got, s.tree[name]) {
		return fmt.Errorf("%s as of %s has other bytes", name, s.k.Label)
	}
	w.now[to] = got
	return vfs.WriteFile(ctx, w.fsys, to, got, vfs.New{Kind: vfs.KindFile, Mode: 0o644})
}

// check compares all that w knows of with the drive.
func (w *writer) check(t *testing.T, d *Drive) {
	t.Helper()
	same := func(fsys vfs.FS, when string, want map[string][]byte) {
		for name, body := range want {
			got, err := vfs.ReadFile(t.Context(), fsys, name, 1<<30)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s, %s: %d of %d bytes are as they were written, %v", name, when, len(got), len(body), err)
			}
		}
		dir, err := vfs.WalkDir(t.Context(), fsys, w.dir)
		if err != nil {
			t.Errorf("%s, %s: %v", w.dir, when, err)
			return
		}
		for e, err := range dir.List(t.Context(), "") {
			if _, ok := want[w.dir+"/"+e.Name]; err != nil || !ok {
				t.Errorf("%s/%s, %s: it was deleted and is there, %v", w.dir, e.Name, when, err)
			}
		}
	}
	same(d.FS(), "now", w.now)
	for _, s := range w.kept {
		past, err := d.At(t.Context(), s.k)
		if err != nil {
			t.Errorf("snapshot %s: %v", s.k.Label, err)
			continue
		}
		same(past, "as of "+s.k.Label, s.tree)
	}
}

// X5, G14: garbage is collected all the time, without a grace time, while four writers write, load, clone,
// delete, keep, forget and restore. Nothing that lives is lost, and what is collected was dead: the
// packs are whole, and all can be read after a new start too.
func TestDrive_CollectsGarbageUnderFourWritersAndLosesNothing(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t))
	h := newHome(t)
	d, _ := h.create(Secret{})
	pool := makeContents(rng)
	steps, until := 60, time.Time{}
	if os.Getenv("SHEAF_LONG") != "" {
		steps, until = 1<<30, time.Now().Add(4*time.Minute)
	}
	var writers []*writer
	for i := range 4 {
		w := &writer{d: d, fsys: d.FS(), dir: fmt.Sprintf("w%d", i), pool: pool, now: map[string][]byte{}, rng: rand.New(rand.NewPCG(rng.Uint64(), 1))}
		if _, err := vfs.MkdirAll(t.Context(), d.FS(), w.dir, vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	g, ctx := errgroup.WithContext(t.Context())
	for _, w := range writers {
		g.Go(func() error {
			for i := range steps {
				if err := w.step(ctx); err != nil {
					return fmt.Errorf("%s, step %d: %w", w.dir, i, err)
				}
				if !until.IsZero() && time.Now().After(until) {
					break
				}
			}
			return nil
		})
	}
	stop := make(chan struct{})
	var collecting sync.WaitGroup
	var runs int
	var freed int64
	collecting.Go(func() {
		for {
			r, err := d.GC(context.WithoutCancel(ctx), GCOptions{}, nil)
			if err != nil {
				t.Errorf("collect garbage: %v", err)
				return
			}
			runs++
			freed += r.Freed
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	err := g.Wait()
	close(stop)
	collecting.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range writers {
		w.check(t, d)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	d = h.open(Secret{})
	r, err := d.GC(t.Context(), GCOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range writers {
		w.check(t, d)
	}
	v, err := d.Verify(t.Context(), nil)
	if err != nil || len(v.Findings) > 0 {
		t.Errorf("verify: %v %v", v.Findings, err)
	}
	t.Logf("%d collections freed %d MiB of packs while %d steps were done; %d MiB live", runs, (freed+r.Freed)>>20, writers[0].n*4, r.Live>>20)
	if runs < 2 || freed+r.Freed <= 0 {
		t.Errorf("%d collections freed %d bytes: that proves nothing", runs, freed+r.Freed)
	}
}

// A path is looked up again only where its directory changed.
func TestDrive_HistoryReadsWhatChanged(t *testing.T) {
	h := newHome(t)
	d, _ := h.create(Secret{})
	fsys := d.FS()
	if _, err := vfs.MkdirAll(t.Context(), fsys, "still/deep", vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	write(t, fsys, "still/deep/f", []byte("one"))
	states := 12
	for i := range states {
		if i == 7 {
			write(t, fsys, "still/deep/f", []byte("two"))
		}
		write(t, fsys, "busy", []byte(fmt.Sprint(i)))
		if _, err := d.Snapshot(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	var labels []string
	for v, err := range d.History(t.Context(), "still/deep/f") {
		if err != nil {
			t.Fatal(err)
		}
		labels = append(labels, v.Snapshot.Label)
	}
	if !slices.Equal(labels, []string{"7", "0"}) {
		t.Errorf("got the versions of %q, want 7 and 0", labels)
	}
	all, err := d.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := pathWalk{src: d.store, names: []string{"still", "deep", "f"}, met: make([]lookedUp, 3)}
	looked := map[chunk.Ref]int{}
	last := chunk.Ref{}
	for _, k := range all {
		if _, err := w.at(t.Context(), k.Root); err != nil {
			t.Fatal(err)
		}
		if dir := w.met[2].dir; dir != last {
			looked[dir]++
			last = dir
		}
	}
	if len(looked) != 2 {
		t.Errorf("%d directories were read for two versions", len(looked))
	}
}
