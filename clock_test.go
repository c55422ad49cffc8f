package sheaf

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// G8: the clock jumps by ten years, to 1980, and back, between commits, while the drive is open and while it is not.
// What is in the tree does not depend on it, and no snapshot goes.
func TestDrive_ClockJumpsLoseNothing(t *testing.T) {
	r := testkit.Rand(testkit.Seed(t))
	h := newHome(t)
	start := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	jumps := []time.Duration{0, 10 * 365 * 24 * time.Hour, -10 * 365 * 24 * time.Hour, start.Sub(time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)) * -1, -time.Hour}
	at, jump := 0, time.Duration(0)
	now := func() time.Time { return start.Add(time.Duration(at) * time.Second).Add(jump) }
	o := h.options(Secret{})
	o.Tree.Now = now
	d, _, err := Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{}
	var had []manifest.Kept
	for i := range 40 {
		at++
		jump = jumps[r.IntN(len(jumps))]
		name := fmt.Sprint("f", r.IntN(12))
		want[name] = testkit.Random(r, 200)
		write(t, d.FS(), name, want[name])
		if r.IntN(3) > 0 {
			if err := d.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if i%10 == 9 {
			if _, err := d.GC(t.Context(), GCOptions{}, nil); err != nil {
				t.Fatal(err)
			}
			closeDrive(t, d)
			o := h.options(Secret{})
			o.Tree.Now = now
			if d, err = Open(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		all, err := d.Snapshots(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range had {
			if !slices.ContainsFunc(all, func(a manifest.Kept) bool { return a.Dot == k.Dot }) {
				t.Fatalf("the snapshot of %v is gone after a jump by %v", k.Time, jump)
			}
		}
		had = all
	}
	for name, data := range want {
		if got := read(t, d.FS(), name); !slices.Equal(got, data) {
			t.Errorf("%s has other bytes", name)
		}
	}
	clean(t, d)
	closeDrive(t, d)
}

// The same with the clock that all parts of a drive ask, on a real disk: between two openings it falls back to the year 2000, where
// a bubble of synctest begins, and comes back.
func TestDrive_OpensWhateverTheYear(t *testing.T) {
	h := newHome(t)
	want := map[string][]byte{}
	var had []manifest.Kept
	r := testkit.Rand(testkit.Seed(t))
	use := func(t *testing.T, open func(Options) (*Drive, error)) {
		b, err := disk.Open(h.bucket, disk.Options{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := open(Options{Dir: h.dir, Bucket: b, DeviceName: "test", Argon: cheap, Tree: live.Options{Idle: -1}})
		if err != nil {
			t.Fatalf("in %d: %v", time.Now().Year(), err)
		}
		name := fmt.Sprint("f", len(want))
		for n, data := range want {
			if got := read(t, d.FS(), n); !slices.Equal(got, data) {
				t.Errorf("in %d %s has other bytes", time.Now().Year(), n)
			}
		}
		want[name] = testkit.Random(r, 30_000)
		write(t, d.FS(), name, want[name])
		if err := d.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := d.GC(t.Context(), GCOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		all, err := d.Snapshots(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range had {
			if !slices.ContainsFunc(all, func(a manifest.Kept) bool { return a.Dot == k.Dot }) {
				t.Errorf("the snapshot of %v is gone in %d", k.Time, time.Now().Year())
			}
		}
		had = all
		clean(t, d)
		closeDrive(t, d)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	open := func(o Options) (*Drive, error) { return Open(t.Context(), o) }
	use(t, func(o Options) (*Drive, error) {
		d, _, err := Create(t.Context(), o)
		return d, err
	})
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			use(t, func(o Options) (*Drive, error) { return Open(t.Context(), o) })
		})
		use(t, open)
	}
	if len(had) < 7 {
		t.Errorf("%d snapshots are kept, want one of each time", len(had))
	}
}
