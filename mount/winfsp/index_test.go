package winfsp

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// An index that is told of what its mount does, and not of what others do, knows what a list would say.
func TestIndex_KnowsWhatTheDirectoryHas(t *testing.T) {
	ctx := t.Context()
	r := testkit.Rand(testkit.Seed(t))
	now := time.Unix(1, 0)
	fsys := memfs.New(memfs.Options{Now: func() time.Time { now = now.Add(1); return now }})
	d, err := fsys.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	x := newIndex()
	there := map[string]bool{}
	for range 3000 {
		name := fmt.Sprintf("%c%c", "aAbB"[r.IntN(4)], "xXyYkK\u212a"[r.IntN(6)])
		at, err := d.Attr(ctx)
		if err != nil {
			t.Fatal(err)
		}
		added, removed := "", ""
		if there[name] {
			err = d.Remove(ctx, name, false)
			removed = name
		} else {
			_, err = d.Make(ctx, name, vfs.New{Kind: vfs.KindFile})
			added = name
		}
		if err != nil {
			t.Fatal(err)
		}
		there[name] = !there[name]
		if r.IntN(4) > 0 { // else it was done behind the mount
			x.changed(ctx, d, at.MTime, added, removed)
		}
		if r.IntN(3) > 0 {
			continue
		}
		var want []string
		for other, is := range there {
			if is && Fold(other) == Fold(name) {
				want = append(want, other)
			}
		}
		slices.Sort(want)
		got, err := x.group(ctx, d, foldKey(name))
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("names like %q: got %q, %v, want %q", name, got, err, want)
		}
		for i, shown := range EncodeAll(want) {
			if one := shownIn(got, want[i]); one != shown {
				t.Fatalf("%q among %q is shown as %q, want %q", want[i], want, one, shown)
			}
		}
		if r.IntN(50) == 0 {
			x.drop(d)
		}
	}
}
