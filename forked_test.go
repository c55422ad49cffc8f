package sheaf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/vfs"
)

// clone returns a copy of the folder of a resident whose drive is closed, as a backup has it.
func (r *resident) copied() *resident {
	r.t.Helper()
	return &resident{machine: r.machine.clone(nil), places: r.places, mirror: r.mirror.Clone(), own: r.own.Clone()}
}

func (r *resident) starts() *Drive {
	r.t.Helper()
	d, err := Open(r.t.Context(), r.settle())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = d.Close(done()) })
	return d
}

// T-A20d with places: a device is set back to its backup and writes before it meets the place that has what it wrote after that. It finds so at the first
// turn, whichever of the two has written more, becomes a new device, and nothing is lost of what either wrote; nobody sees a fork.
func TestReplay_ADeviceThatWritesBeforeItLearnsThatItWasSetBack(t *testing.T) {
	for _, c := range []struct {
		before, past, now int  // commits until the backup, after it, and when it was set back
		lost              bool // the database
		pruned            bool // at the place: all heads until the last one
		away              bool // the place, when the drive is opened again
		loose             bool // something is in the journal only
	}{
		{before: 0, past: 1, now: 1},
		{before: 0, past: 2, now: 1},
		{before: 0, past: 1, now: 2},
		{before: 2, past: 1, now: 1},
		{before: 2, past: 3, now: 1},
		{before: 2, past: 1, now: 3},
		{before: 2, past: 3, now: 3},
		{before: 2, past: 2, now: 1, lost: true},
		{before: 2, past: 1, now: 2, lost: true},
		{before: 2, past: 3, now: 2, pruned: true},
		{before: 2, past: 4, now: 1, pruned: true, away: true},
		{before: 2, past: 2, now: 2, away: true},
		{before: 2, past: 1, now: 2, away: true},
		{before: 0, past: 2, now: 0, loose: true},
		{before: 0, past: 1, now: 1, loose: true},
		{before: 2, past: 2, now: 0, loose: true},
		{before: 2, past: 2, now: 2, loose: true, away: true},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			p := mem.New()
			a := newResident(t, place("p", p))
			d, words := a.create()
			var bodies []string
			work := func(d *Drive, what string, n int) {
				t.Helper()
				if _, err := vfs.MkdirAll(t.Context(), d.FS(), what, vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
					t.Fatal(err)
				}
				for i := range n {
					body := fmt.Sprintf("%s, %d", what, i)
					bodies = append(bodies, body)
					write(t, d.FS(), fmt.Sprintf("%s/%d", what, i), []byte(body))
					write(t, d.FS(), "same", []byte(body+", in the same place"))
					if err := exchange(t, d); err != nil {
						t.Fatal(err)
					}
				}
				bodies = append(bodies, fmt.Sprintf("%s, %d, in the same place", what, n-1))
			}
			if err := exchange(t, d); err != nil {
				t.Fatal(err)
			}
			if c.before > 0 {
				work(d, "before", c.before)
				bodies = bodies[:len(bodies)-1]
			}
			closeDrive(t, d)
			back := a.copied()
			d = a.starts()
			work(d, "past", c.past)
			old := d.Info().Device
			closeDrive(t, d)
			if c.pruned {
				heads := slices.DeleteFunc(slices.Sorted(maps.Keys(blobs(t, p))), func(n blob.Name) bool { return !strings.HasPrefix(string(n), "heads/") })
				if err := p.Remove(t.Context(), heads[:len(heads)-1]...); err != nil {
					t.Fatal(err)
				}
			}
			b := newResident(t, place("p", p))
			db := b.join(words)
			if err := exchange(t, db); err != nil {
				t.Fatal(err)
			}

			places := back.places
			back.places = nil
			d = back.starts()
			if c.now > 0 {
				work(d, "now", c.now)
			}
			if c.loose {
				write(t, d.FS(), "loose", []byte("loose"))
				bodies = append(bodies, "loose")
				drop(t, d)
			} else {
				closeDrive(t, d)
			}
			back.places = places
			if c.lost {
				back.db = memkv.New()
			}
			d = back.starts()
			err := d.Replicas().Sync(t.Context())
			if d.Info().Device == old {
				write(t, d.FS(), "late", []byte("late"))
				bodies = append(bodies, "late")
				if cerr := d.Commit(t.Context()); !errors.Is(cerr, keys.ErrFork) && !errors.Is(cerr, refs.ErrStateLost) {
					t.Errorf("it has met the place (%v), and writes on: %v", err, cerr)
				}
				drop(t, d)
				if c.away {
					back.places = nil
				}
				d = back.starts()
				if c.away {
					closeDrive(t, d)
					back.places = places
					d = back.starts()
				}
			}
			if d.Info().Device == old {
				t.Error("it goes on under the old name")
			}
			mustHave(t, "the device that was set back", d, slices.DeleteFunc(slices.Clone(bodies), func(b string) bool { return strings.HasPrefix(b, "past") })...)
			for range 2 {
				for _, d := range []*Drive{d, db} {
					if err := exchange(t, d); err != nil {
						t.Error(err)
					}
				}
			}
			mustHave(t, "the device that was set back, in the end", d, bodies...)
			mustHave(t, "another", db, bodies...)
			for _, d := range []*Drive{d, db} {
				clean(t, d)
				all, err := d.Devices(t.Context())
				if err != nil {
					t.Error(err)
				}
				for _, i := range all {
					if i.Err != nil {
						t.Errorf("%s: %v", i.Name, i.Err)
					}
				}
			}
			closeDrive(t, d)
			mustHave(t, "the device that was set back, later", back.starts(), bodies...)
		})
	}
}
