package tier_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
)

// proven is a Proof that believes all.
func proven(context.Context, tier.Remote, blob.Name, int64) error { return nil }

// What was evicted is this device's still, for whoever asks Own, also after the tier was opened anew, until it is removed.
func TestOwn_HasWhatWasEvicted(t *testing.T) {
	names, bodies := some(t, 40<<10, 41<<10, 42<<10)
	slices.Sort(names)
	local, a := bucketOf(t, bodies), bucketOf(t, bodies)
	o := tier.Options{Local: local, Dir: t.TempDir()}
	x := open(t, o)
	x.SetRemotes(tier.Remote{Name: "a", Bucket: a})
	learn(t, x, "a", a)
	if freed, err := x.Evict(t.Context(), 1, proven, names[:2]...); err != nil || freed != int64(len(bodies[names[0]])+len(bodies[names[1]])) {
		t.Fatalf("freed %d, %v", freed, err)
	}
	for _, again := range []bool{false, true} {
		if again {
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			x = open(t, o)
			x.SetRemotes(tier.Remote{Name: "a", Bucket: a})
		}
		if diff := cmp.Diff(names[2:], list(t, local, "")); diff != "" {
			t.Errorf("local (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(names, list(t, x.Own(), "")); diff != "" {
			t.Errorf("own (-want +got):\n%s", diff)
		}
		for _, name := range names {
			want(t, x.Own(), name, 0, -1, bodies[name])
			h, err := x.Holding(t.Context(), name)
			if gone := name != names[2]; err != nil || h.Own == gone || h.Evicted != gone || x.Evicted(name) != gone {
				t.Errorf("%s is held %+v, %v", name, h, err)
			}
		}
		if !x.Evicts() {
			t.Error("nothing is evicted")
		}
	}
	b := mem.New() // a place that has none of it
	learn(t, x, "b", b)
	if n, size, err := x.Missing(t.Context(), "b"); n != 3 || size != 123<<10 || err != nil {
		t.Errorf("a place without any lacks %d, %d bytes, %v", n, size, err)
	}
	if err := x.Remove(t.Context(), names[0]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names[1:], list(t, x.Own(), "")); diff != "" {
		t.Errorf("own after a removal (-want +got):\n%s", diff)
	}
	if _, err := x.Own().Get(t.Context(), names[0], 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was removed: %v", err)
	}
	if diff := cmp.Diff([]blob.Name{names[0]}, removed(t, x, "a")); diff != "" {
		t.Errorf("to be removed at a (-want +got):\n%s", diff)
	}
	if err := x.RemovedDone("a", names[0]); err != nil {
		t.Fatal(err)
	}
	if x.Evicted(names[0]) {
		t.Error("what was removed everywhere counts as evicted again")
	}
}

// Of a pack that is there again the one that is here counts.
func TestOwn_APackThatIsPutAgain(t *testing.T) {
	names, bodies := some(t, 40<<10)
	local, a := bucketOf(t, bodies), bucketOf(t, bodies)
	x := open(t, tier.Options{Local: local, Dir: t.TempDir()})
	x.SetRemotes(tier.Remote{Name: "a", Bucket: a})
	learn(t, x, "a", a)
	if _, err := x.Evict(t.Context(), 1, proven, names...); err != nil {
		t.Fatal(err)
	}
	put(t, x.Own(), names[0], bodies[names[0]])
	if err := a.Remove(t.Context(), names[0]); err != nil {
		t.Fatal(err)
	}
	want(t, x.Own(), names[0], 0, -1, bodies[names[0]])
	if diff := cmp.Diff(names, list(t, x.Own(), "")); diff != "" {
		t.Errorf("own (-want +got):\n%s", diff)
	}
	if h, err := x.Holding(t.Context(), names[0]); err != nil || !h.Own || h.Evicted {
		t.Errorf("it is held %+v, %v", h, err)
	}
}
