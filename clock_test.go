package sheaf

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
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
			if _, err := d.GC(t.Context(), nil); err != nil {
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
