package live

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
	"github.com/sheaf-drive/sheaf/vfs/vfstest"
)

// history is a run of Ops on a tree, of which it knows which were made durable.
type history struct {
	t      *testing.T
	ops    []vfstest.Op
	done   int // of ops
	synced int // of ops
}

// state returns the oracle after the first n Ops.
func (h *history) state(n int) vfs.FS {
	h.t.Helper()
	oracle := memfs.New(memfs.Options{})
	p := vfstest.NewPlayer(oracle)
	for _, o := range h.ops[:n] {
		p.Apply(h.t.Context(), o)
	}
	if err := p.Close(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return oracle
}

// check reports whether the tree is what some of the Ops leave, all that were synced among them.
func (h *history) check(f *FS) error {
	var first error
	for n := h.done; n >= h.synced; n-- {
		err := vfstest.SameTree(h.t.Context(), h.state(n), f.View())
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return fmt.Errorf("the tree is none of those after %d to %d operations: %w", h.synced, h.done, first)
}

// G4 in small: the process dies after any step. All that was acknowledged is there.
func TestFS_DeathOfTheProcessLosesNothing(t *testing.T) {
	seed := vfstest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 2))
	for round := range long(5, 200) {
		ops, err := vfstest.Ops(t.Context(), seed+round, 250)
		if err != nil {
			t.Fatal(err)
		}
		h := &history{t: t, ops: ops}
		d := newDisk()
		f := mustOpen(t, d)
		p := vfstest.NewPlayer(f.View())
		for i, o := range ops {
			p.Apply(t.Context(), o)
			h.done, h.synced = i+1, i+1
			if rng.IntN(25) == 0 {
				if err := f.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if rng.IntN(12) == 0 {
				c := d.crash(nil)
				g := mustOpen(t, c)
				if err := h.check(g); err != nil {
					t.Fatalf("round %d, after %d: %v", round, i+1, err)
				}
				// And once more after a commit of what was replayed, and after a second death.
				if err := g.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := h.check(mustOpen(t, c.crash(nil))); err != nil {
					t.Fatalf("round %d, after %d and a commit: %v", round, i+1, err)
				}
			}
		}
		_ = p.Close(t.Context())
	}
}

// G5: the power fails; of what was not synced some is lost, torn or out of order. What was synced is
// there, and the rest is a state that was.
func TestFS_PowerCutKeepsWhatWasSynced(t *testing.T) {
	seed := vfstest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	for round := range long(5, 200) {
		ops, err := vfstest.Ops(t.Context(), seed+round, 250)
		if err != nil {
			t.Fatal(err)
		}
		for i := range ops {
			// One Op is one record: what a cut may leave is then a number of Ops.
			switch ops[i].Do {
			case vfstest.DoWrite:
				ops[i].N = min(ops[i].N, journal.MaxData)
			case vfstest.DoCopy:
				ops[i].N = 0
			}
		}
		h := &history{t: t, ops: ops}
		d := newDisk()
		f := mustOpen(t, d)
		p := vfstest.NewPlayer(f.View())
		for i, o := range ops {
			r := p.Apply(t.Context(), o)
			h.done = i + 1
			switch {
			case o.Do == vfstest.DoSyncAll && r.Err == "":
				h.synced = i + 1
			case rng.IntN(25) == 0:
				if err := f.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				h.synced = i + 1
			case rng.IntN(12) == 0:
				if err := f.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				h.synced = i + 1
			}
			if rng.IntN(12) == 0 {
				c := d.crash(rng)
				g := mustOpen(t, c)
				if err := h.check(g); err != nil {
					t.Fatalf("round %d, after %d: %v", round, i+1, err)
				}
				end(t, g)
			}
		}
		_ = p.Close(t.Context())
	}
}

// A commit may be cut off after any of its writes.
func TestFS_DeathWithinACommitLosesNothing(t *testing.T) {
	seed := vfstest.Seed(t)
	for round := range long(3, 50) {
		ops, err := vfstest.Ops(t.Context(), seed+round, 120)
		if err != nil {
			t.Fatal(err)
		}
		h := &history{t: t, ops: ops, done: len(ops), synced: len(ops)}
		d := newDisk()
		f := mustOpen(t, d)
		p := vfstest.NewPlayer(f.View())
		for i, o := range ops {
			p.Apply(t.Context(), o)
			if i == 60 {
				if err := f.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		var crashes []*disk
		look := func(string) error {
			if len(crashes) < 60 {
				c := &disk{store: newStore(), dir: d.dir.Clone(), head: d.head, tune: d.tune}
				for ref, b := range d.store.chunks {
					if !d.store.pending[ref] {
						c.store.chunks[ref] = b
					}
				}
				crashes = append(crashes, c)
			}
			return nil
		}
		d.store.fail = look
		d.fail = func() error { return look("") }
		if err := f.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		crashes = append(crashes, d.crash(nil))
		for i, c := range crashes {
			if err := h.check(mustOpen(t, c)); err != nil {
				t.Fatalf("round %d, cut off at step %d of %d: %v", round, i, len(crashes), err)
			}
		}
		_ = p.Close(t.Context())
	}
}

// G6: a damaged journal is an error, never another tree.
func TestFS_ADamagedJournalIsFound(t *testing.T) {
	seed := vfstest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 4))
	ops, err := vfstest.Ops(t.Context(), seed, 100)
	if err != nil {
		t.Fatal(err)
	}
	d := newDisk()
	f := mustOpen(t, d)
	p := vfstest.NewPlayer(f.View())
	for _, o := range ops {
		p.Apply(t.Context(), o)
	}
	_ = p.Close(t.Context())
	h := &history{t: t, ops: ops, done: len(ops), synced: len(ops)}
	if err := f.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, _ := d.dir.List()
	found := 0
	for range long(60, 1000) {
		c := d.crash(nil)
		name := names[rng.IntN(len(names))]
		seg, err := c.dir.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		size, err := seg.Size()
		if err != nil {
			t.Fatal(err)
		}
		if !c.dir.FlipBit(name, rng.Int64N(8*size)) {
			t.Fatalf("segment %s of %d bytes has no such bit", name, size)
		}
		g, err := c.open(t)
		if err == nil {
			if err := h.check(g); err != nil {
				t.Fatalf("a flipped bit was not found: %v", err)
			}
			_ = g.Close(context.Background())
			continue
		}
		if !errors.Is(err, journal.ErrDamaged) {
			t.Fatalf("a flipped bit: %v", err)
		}
		found++
	}
	if found == 0 {
		t.Error("no flipped bit hit a record")
	}
}
