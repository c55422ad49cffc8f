package tier_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
)

// Where a pack is can be said without asking anybody.
func TestHolding_SaysWhereAPackIs(t *testing.T) {
	names, bodies := some(t, 5<<20, 3<<20)
	far := evil.NewRecorder(bucketOf(t, bodies))
	own := mem.New()
	put(t, own, names[1], bodies[names[1]])
	x := open(t, tier.Options{Local: own, Dir: t.TempDir()})
	x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
	holding := func(name blob.Name) tier.Holding {
		t.Helper()
		h, err := x.Holding(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if h := holding(names[0]); h.Own || h.Size != -1 || len(h.Remotes) > 0 || h.Here(0, 1) {
		t.Errorf("of what nobody has: %+v", h)
	}
	learn(t, x, "far", far)
	want(t, x, names[0], 2<<20+5, 10, bodies[names[0]])
	asked := len(far.Calls())
	h := holding(names[0])
	if h.Own || h.Size != 5<<20 || !slices.Equal(h.Remotes, []string{"far"}) || h.Pieces != 1<<2 {
		t.Errorf("of a pack of which one piece was read: %+v", h)
	}
	for _, c := range []struct {
		off, n int64
		here   bool
	}{{2 << 20, 1 << 20, true}, {3<<20 - 1, 1, true}, {3<<20 - 1, 2, false}, {2<<20 - 1, 2, false}, {0, 0, true}, {4 << 20, 1 << 20, false}} {
		if got := h.Here(c.off, c.n); got != c.here {
			t.Errorf("%d bytes from %d are here: %v, want %v", c.n, c.off, got, c.here)
		}
	}
	if h := holding(names[1]); !h.Own || h.Size != 3<<20 || !h.Here(0, 3<<20) || !slices.Equal(h.Remotes, []string{"far"}) {
		t.Errorf("of a pack of this device: %+v", h)
	}
	if n := len(far.Calls()); n != asked {
		t.Errorf("the remote was asked %d times for that", n-asked)
	}
	if err := x.Unlearn("far"); err != nil {
		t.Fatal(err)
	}
	if h := holding(names[1]); len(h.Remotes) > 0 || x.Copies(names[1]) != 0 {
		t.Errorf("a remote that is forgotten still has it: %+v", h)
	}
	if _, err := x.Holding(t.Context(), "heads/x"); !errors.Is(err, blob.ErrName) {
		t.Errorf("of what is no pack: got error %v, want blob.ErrName", err)
	}
}
