package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
	"github.com/sheaf-drive/sheaf/vfs/vfstest"
)

// joinWith returns a join with the states that other devices have published.
func joinWith(store *memStore, others ...*disk) func(context.Context, manifest.Snapshot) (manifest.Snapshot, bool, error) {
	return func(ctx context.Context, base manifest.Snapshot) (manifest.Snapshot, bool, error) {
		some := false
		for _, d := range others {
			d.mu.Lock()
			head := d.head
			d.mu.Unlock()
			if head.IsZero() {
				continue
			}
			s, err := manifest.GetSnapshot(ctx, store, head)
			if err != nil {
				return base, false, err
			}
			if base.Context.Includes(s.Context) {
				continue
			}
			some = true
			if s.Context.Includes(base.Context) {
				base = s
			} else if base, err = manifest.Join(ctx, store, base, s); err != nil {
				return base, false, err
			}
		}
		return base, some, nil
	}
}

// A fleet is several devices with one Store.
type fleet struct {
	t     *testing.T
	store *memStore
	disks []*disk
	trees []*FS
	plays []*vfstest.Player
}

func newFleet(t *testing.T, n int) *fleet {
	fl := &fleet{t: t, store: newStore()}
	for i := range n {
		d := newDisk()
		d.store, d.shared = fl.store, true
		d.tune = func(o *Options) { o.Device = causal.Device(7 + i) }
		f := mustOpen(t, d)
		fl.disks, fl.trees, fl.plays = append(fl.disks, d), append(fl.trees, f), append(fl.plays, vfstest.NewPlayer(f.View()))
	}
	return fl
}

// adopt lets device i take over what the others have published, and holds what it shows then against what a tree shows
// that is opened anew.
func (fl *fleet) adopt(i int) error {
	var others []*disk
	for k, d := range fl.disks {
		if k != i {
			others = append(others, d)
		}
	}
	f, d := fl.trees[i], fl.disks[i]
	if _, err := f.Adopt(fl.t.Context(), joinWith(fl.store, others...)); err != nil {
		return err
	}
	g, err := (&disk{store: fl.store, dir: d.dir.Clone(), head: d.head, tune: d.tune}).open(fl.t)
	if err != nil {
		return fmt.Errorf("open anew: %w", err)
	}
	defer func() { _ = g.Close(context.Background()) }()
	if err := vfstest.SameTree(fl.t.Context(), g.View(), f.View()); err != nil {
		return fmt.Errorf("shows another tree than one that is opened anew: %w\n%s\nopened anew:\n%s", err, links(f), links(g))
	}
	if a, b := f.files.Load(), g.files.Load(); a != b {
		return fmt.Errorf("counts %d entries, one that is opened anew %d", a, b)
	}
	return nil
}

// links says which names a tree takes for those of one file.
func links(f *FS) string {
	var b strings.Builder
	for _, n := range f.linked {
		fmt.Fprintf(&b, "%x, edit %v, %d writers:", n.id[:3], n.edit, n.writers)
		for _, nm := range n.names {
			fmt.Fprintf(&b, " %q (entry %x) in %x;", nm.name, nm.id[:3], nm.parent.id[:3])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Devices change their trees and take over each other's work while files are open: each shows at each moment what a tree
// shows that is opened anew on its head, what is written through files that were open all the time is in the
// tree, and in the end all show the same.
func TestAdopt_ShowsWhatATreeOpenedAnewShows(t *testing.T) {
	seed := vfstest.Seed(t)
	for round := range long(5, 1000) {
		rng := rand.New(rand.NewPCG(seed, round))
		fl := newFleet(t, 2+int(round%2))
		for step := range uint64(12) {
			i := rng.IntN(len(fl.trees))
			ops, err := vfstest.Ops(t.Context(), seed+100*round+step%3, 40)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range ops {
				if rng.IntN(3) > 0 {
					fl.plays[i].Apply(t.Context(), o)
				}
			}
			pens := fl.openSome(rng, i)
			if rng.IntN(3) > 0 {
				if err := fl.trees[(i+1)%len(fl.trees)].Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := fl.adopt(i); err != nil {
				t.Fatalf("seed %d, round %d, step %d, device %d: %v", seed, round, step, i, err)
			}
			for _, p := range pens {
				if err := p.check(t.Context()); err != nil {
					t.Fatalf("seed %d, round %d, step %d, device %d: %s: %v", seed, round, step, i, p.path, err)
				}
			}
			if err := fl.dies(rng, i, ops); err != nil {
				t.Fatalf("seed %d, round %d, step %d, device %d: %v", seed, round, step, i, err)
			}
		}
		for _, p := range fl.plays {
			_ = p.Close(t.Context()) // what is open for writing makes conflicts
		}
		fl.settle(seed, round)
	}
}

// dies lets device i do some more, and looks whether another process, that finds only what it left, shows the same.
func (fl *fleet) dies(rng *rand.Rand, i int, ops []vfstest.Op) error {
	for _, o := range ops {
		if rng.IntN(4) == 0 {
			fl.plays[i].Apply(fl.t.Context(), o)
		}
	}
	c := fl.disks[i].crash(nil)
	c.store, c.tune = fl.store, fl.disks[i].tune
	g, err := c.open(fl.t)
	if err != nil {
		return fmt.Errorf("open after a crash: %w", err)
	}
	defer func() { _ = g.Close(context.Background()) }()
	if err := vfstest.SameTree(fl.t.Context(), fl.trees[i].View(), g.View()); err != nil {
		return fmt.Errorf("shows another tree after a crash: %w", err)
	}
	return nil
}

// settle lets all devices take over all, and compares them.
func (fl *fleet) settle(seed, round uint64) {
	fl.t.Helper()
	for range 2 {
		for i, f := range fl.trees {
			if err := f.Commit(fl.t.Context()); err != nil {
				fl.t.Fatal(err)
			}
			if err := fl.adopt(i); err != nil {
				fl.t.Fatalf("seed %d, round %d, at the end, device %d: %v", seed, round, i, err)
			}
		}
	}
	for i, f := range fl.trees[1:] {
		if err := vfstest.SameTree(fl.t.Context(), fl.trees[0].View(), f.View()); err != nil {
			fl.t.Fatalf("seed %d, round %d: device %d and the first differ at the end: %v", seed, round, i+1, err)
		}
	}
}

// A pen is a file that is open for writing.
type pen struct {
	path string
	f    vfs.File
	h    vfs.Handle
	mark []byte
}

// openSome opens a few files of device i.
func (fl *fleet) openSome(rng *rand.Rand, i int) []*pen {
	var pens []*pen
	fsys := fl.trees[i].View()
	root, err := fsys.Root(fl.t.Context())
	if err != nil {
		fl.t.Fatal(err)
	}
	for e, err := range vfs.Tree(fl.t.Context(), root) {
		if err != nil {
			fl.t.Fatal(err)
		}
		file, ok := e.Node.(vfs.File)
		if !ok || rng.IntN(4) > 0 || len(pens) == 3 {
			continue
		}
		h, err := file.Open(fl.t.Context(), vfs.OpenRead|vfs.OpenWrite)
		if err != nil {
			fl.t.Fatal(err)
		}
		pens = append(pens, &pen{path: e.Path, f: file, h: h, mark: fmt.Appendf(nil, "by %d of %s %d", i, e.Path, rng.Uint64())})
	}
	return pens
}

// check writes, and looks whether it is in a file that has a name.
func (p *pen) check(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, p.h.Close(ctx)) }()
	a, err := p.f.Attr(ctx)
	if err != nil {
		return err
	}
	if a.Nlink == 0 {
		return errors.New("is open for writing, and has no name any more")
	}
	if _, err := p.h.WriteAt(ctx, p.mark, a.Size); err != nil {
		return err
	}
	got := make([]byte, len(p.mark))
	if _, err := p.h.ReadAt(ctx, got, a.Size); err != nil && !bytes.Equal(got, p.mark) {
		return err
	}
	if !bytes.Equal(got, p.mark) {
		return fmt.Errorf("got %q, wrote %q", got, p.mark)
	}
	return nil
}

// A file that is open for writing when another device replaces its bytes keeps what it has, under a name of its own,
// and so what is written next.
func TestAdopt_AFileOpenForWritingIsNoOnesElse(t *testing.T) {
	for _, what := range []string{"written", "removed", "replaced", "its folder removed"} {
		t.Run(what, func(t *testing.T) {
			fl := newFleet(t, 2)
			ctx := t.Context()
			a, b := fl.trees[0].View(), fl.trees[1].View()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			_, err := vfs.MkdirAll(ctx, a, "/d", vfs.New{Kind: vfs.KindDir, Mode: 0o755})
			must(err)
			must(vfs.WriteFile(ctx, a, "/d/f", []byte("both"), vfs.New{Kind: vfs.KindFile, Mode: 0o644}))
			must(fl.trees[0].Commit(ctx))
			must(fl.adopt(1))
			h, err := vfs.OpenPath(ctx, a, "/d/f", vfs.OpenRead|vfs.OpenWrite)
			must(err)
			switch what {
			case "written":
				must(vfs.WriteFile(ctx, b, "/d/f", []byte("other"), vfs.New{}))
			case "removed":
				must(vfs.RemoveAll(ctx, b, "/d/f"))
			case "replaced":
				must(vfs.RemoveAll(ctx, b, "/d/f"))
				must(vfs.WriteFile(ctx, b, "/d/f", []byte("other"), vfs.New{Kind: vfs.KindFile, Mode: 0o644}))
			case "its folder removed":
				must(vfs.RemoveAll(ctx, b, "/d"))
			}
			must(fl.trees[1].Commit(ctx))
			must(fl.adopt(0))
			_, err = h.WriteAt(ctx, []byte(" mine"), 4)
			must(err)
			must(h.Close(ctx))
			must(fl.trees[0].Commit(ctx))
			must(fl.adopt(1))
			found := map[string]string{}
			root, err := b.Root(ctx)
			must(err)
			for e, err := range vfs.Tree(ctx, root) {
				must(err)
				if _, ok := e.Node.(vfs.File); ok {
					data, err := vfs.ReadFile(ctx, b, e.Path, 100)
					must(err)
					found[string(data)] = e.Path
				}
			}
			if found["both mine"] == "" {
				t.Errorf("what was written is nowhere: %v", found)
			}
			if (what == "written" || what == "replaced") && found["other"] == "" {
				t.Errorf("what the other device wrote is nowhere: %v", found)
			}
		})
	}
}

// Writers go on while a tree takes over others' work, and lose nothing.
func TestAdopt_BesideWriters(t *testing.T) {
	fl := newFleet(t, 2)
	ctx := t.Context()
	const files = 60
	var wg sync.WaitGroup
	for i, f := range fl.trees {
		for w := range 2 {
			wg.Go(func() {
				for k := range files {
					path := fmt.Sprintf("/of %d %d %d", i, w, k)
					if err := vfs.WriteFile(ctx, f.View(), path, []byte(path), vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
						t.Errorf("write %s: %v", path, err)
					}
				}
			})
		}
	}
	for i := range fl.trees {
		wg.Go(func() {
			for range 30 {
				if err := fl.trees[i].Commit(ctx); err != nil {
					t.Errorf("commit: %v", err)
				}
				if _, err := fl.trees[i].Adopt(ctx, joinWith(fl.store, fl.disks[1-i])); err != nil {
					t.Errorf("adopt: %v", err)
				}
			}
		})
	}
	wg.Wait()
	fl.settle(0, 0)
	for i := range fl.trees {
		for w := range 2 {
			for k := range files {
				path := fmt.Sprintf("/of %d %d %d", i, w, k)
				if data, err := vfs.ReadFile(ctx, fl.trees[0].View(), path, 100); err != nil || string(data) != path {
					t.Fatalf("%s has %q, %v", path, data, err)
				}
			}
		}
	}
}

// A crash at any moment of it leaves the state before or after, and what was written.
func TestAdopt_SurvivesACrash(t *testing.T) {
	fl := newFleet(t, 2)
	ctx := t.Context()
	write := func(i int, path, data string) {
		t.Helper()
		if err := vfs.WriteFile(ctx, fl.trees[i].View(), path, []byte(data), vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	write(1, "/theirs", "theirs")
	if err := fl.trees[1].Commit(ctx); err != nil {
		t.Fatal(err)
	}
	write(0, "/ours", "ours")
	d := fl.disks[0]
	look := func(when string) {
		t.Helper()
		c := d.crash(nil)
		c.tune = d.tune
		g := mustOpen(t, c)
		if data, err := vfs.ReadFile(ctx, g.View(), "/ours", 10); err != nil || string(data) != "ours" {
			t.Errorf("%s: /ours has %q, %v", when, data, err)
		}
	}
	refused := errors.New("refused")
	d.fail = func() error { return nil }
	for _, when := range []string{"before the head", "after all"} {
		calls := 0
		d.fail = func() error {
			if calls++; calls == 2 && when == "before the head" { // the first is of the commit
				return refused
			}
			return nil
		}
		_, err := fl.trees[0].Adopt(ctx, joinWith(fl.store, fl.disks[1]))
		if (err != nil) != (when == "before the head") {
			t.Fatalf("%s: got error %v", when, err)
		}
		look(when)
		write(0, "/ours", "ours")
		if err := fl.trees[0].Sync(ctx); err != nil {
			t.Fatal(err)
		}
		look(when + ", and a write")
	}
	if data, err := vfs.ReadFile(ctx, fl.trees[0].View(), "/theirs", 10); err != nil || string(data) != "theirs" {
		t.Errorf("/theirs has %q, %v", data, err)
	}
}
