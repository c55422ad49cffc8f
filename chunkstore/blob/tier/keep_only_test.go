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

// Keep fetches nothing. What is read of packs that are kept stays, whatever else is read, also over a restart, until they are kept no more.
func TestKeep_HoldsWhatIsRead(t *testing.T) {
	names, bodies := some(t, slices.Repeat([]int{8 << 20}, 14)...)
	far := evil.NewRecorder(bucketOf(t, bodies))
	o := tier.Options{Local: mem.New(), Dir: t.TempDir(), CacheBytes: 64 << 20}
	x := open(t, o)
	x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
	learn(t, x, "far", far)
	asked := len(far.Calls())
	if n, err := x.Keep(names[0], names[1]); n != 0 || err != nil {
		t.Fatalf("%d bytes are released, %v; there was nothing", n, err)
	}
	if n := len(far.Calls()); n != asked {
		t.Errorf("the remote was asked %d times", n-asked)
	}
	want(t, x, names[0], 3<<20, 1<<20, bodies[names[0]])
	for _, name := range names[2:] {
		want(t, x, name, 0, -1, bodies[name])
	}
	here := func() bool {
		t.Helper()
		h, err := x.Holding(t.Context(), names[0])
		if err != nil {
			t.Fatal(err)
		}
		return h.Here(3<<20, 1<<20)
	}
	if !here() {
		t.Error("what was read of a pack that is kept is gone")
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, o)
	if !here() {
		t.Error("after a restart it is gone")
	}
	n, err := x.Keep(names[1])
	if err != nil || n < 1<<20 || n > 2<<20 {
		t.Errorf("%d bytes are released, %v, want the piece that was read", n, err)
	}
	x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
	for _, name := range names[2:] {
		want(t, x, name, 0, -1, bodies[name])
	}
	if here() {
		t.Error("it is here still, though much was read since it was let go")
	}
	if _, err := x.Keep("heads/x"); !errors.Is(err, blob.ErrName) {
		t.Errorf("keep what is no pack: got error %v, want blob.ErrName", err)
	}
}
