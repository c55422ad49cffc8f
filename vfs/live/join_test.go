package live

import (
	"bytes"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
	"github.com/sheaf-drive/sheaf/vfs/vfstest"
)

// Two devices write at the same time, and join. The outcome is a tree like any other: it can be written,
// committed and opened again, and joined once more, whatever conflicts are in it.
func TestFS_GoesOnAfterAJoin(t *testing.T) {
	seed := vfstest.Seed(t)
	for round := range long(6, 200) {
		store := newStore()
		disks := [2]*disk{}
		for i := range disks {
			disks[i] = newDisk()
			disks[i].store = store
			disks[i].tune = func(o *Options) { o.Device = causal.Device(7 + i) }
		}
		for step := range uint64(4) {
			var states [2]manifest.Snapshot
			for i, d := range disks {
				// Ops of one seed on trees that are alike at first meet in many names.
				ops, err := vfstest.Ops(t.Context(), seed+100*round+step, 60)
				if err != nil {
					t.Fatal(err)
				}
				f := mustOpen(t, d)
				p := vfstest.NewPlayer(f.View())
				for k, o := range ops {
					if (k+i)%3 != 0 { // each leaves out others
						p.Apply(t.Context(), o)
					}
				}
				_ = p.Close(t.Context())
				if err := f.Commit(t.Context()); err != nil {
					t.Fatalf("round %d, step %d, device %d: %v", round, step, i, err)
				}
				g := mustOpen(t, &disk{store: store, dir: d.dir.Clone(), head: d.head, tune: d.tune})
				if err := vfstest.SameTree(t.Context(), f.View(), g.View()); err != nil {
					t.Fatalf("round %d, step %d, device %d, opened again: %v", round, step, i, err)
				}
				if err := f.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if d.head.IsZero() {
					continue // none of the Ops did anything
				}
				if states[i], err = manifest.GetSnapshot(t.Context(), store, d.head); err != nil {
					t.Fatal(err)
				}
			}
			ab, err := manifest.Join(t.Context(), store, states[0], states[1])
			if err != nil {
				t.Fatalf("round %d, step %d: %v", round, step, err)
			}
			ba, err := manifest.Join(t.Context(), store, states[1], states[0])
			if err != nil {
				t.Fatal(err)
			}
			var codes [2][]byte
			for i, s := range []manifest.Snapshot{ab, ba} {
				s.Files, s.Bytes = 0, 0 // information, as one side has it
				if codes[i], err = manifest.EncodeSnapshot(nil, s); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(codes[0], codes[1]) {
				t.Fatalf("round %d, step %d: the order of the join matters", round, step)
			}
			for i, d := range disks {
				ab.Mark = states[i].Mark
				ab.Device = causal.Device(7 + i)
				if d.head, err = manifest.PutSnapshot(t.Context(), store, ab); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
