package sheaf

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// A place that is away for long, as a disk in a drawer is, lacks heads of another device that nobody has any more when it is back: it gets those that there are, and
// a device that begins from it alone has the whole drive.
func TestPlaces_OneThatWasAwayForLong(t *testing.T) {
	cloud, disk := mem.New(), mem.New()
	drawer := evil.New(disk, 1)
	a := newResident(t, place("cloud", cloud), place("disk", drawer))
	da, words := a.create()
	mustExchange(t, da)
	b := newResident(t, place("cloud", cloud))
	db := b.join(words)
	write(t, db.FS(), "f", []byte("before"))
	meet(t, db, da)

	drawer.Set(evil.Fail, nil)
	for i := range keepHeads + 20 {
		write(t, db.FS(), "f", fmt.Appendf(nil, "version %d", i))
		mustExchange(t, db)
	}
	for range 2 {
		if err := exchange(t, da); err == nil {
			t.Fatal("the disk is there")
		}
		write(t, da.FS(), "seen", []byte("by a"))
	}
	mustExchange(t, db)
	mustGC(t, db)
	mustExchange(t, db)
	_ = exchange(t, da)
	heads := 0
	for _, err := range cloud.List(t.Context(), refs.Folder(db.account.Members(), db.device.ID())+"/") {
		if err != nil {
			t.Fatal(err)
		}
		heads++
	}
	if heads > keepHeads+5 {
		t.Fatalf("%d heads are left: nothing was pruned", heads)
	}

	drawer.Heal()
	mustExchange(t, da, da)
	c := newResident(t, place("disk", disk))
	wantFile(t, "f", fmt.Appendf(nil, "version %d", keepHeads+19), c.join(words))
}

// silent lists nothing, as if it were empty, and gives and takes what it is asked for.
type silent struct {
	blob.Bucket
	on atomic.Bool
}

func (s *silent) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	if s.on.Load() {
		return func(func(blob.Info, error) bool) {}
	}
	return s.Bucket.List(ctx, prefix)
}

// A device whose place lists nothing for a while does not see who else is on the drive, nor what they need: it collects nothing until the place lists what that
// device has put there itself.
func TestGC_APlaceThatListsNothing(t *testing.T) {
	p := mem.New()
	link := &silent{Bucket: p}
	a := newResident(t, place("p", link))
	da, words := a.create()
	body := testkit.Random(testkit.Rand(1), 100<<10)
	write(t, da.FS(), "f", body)
	mustExchange(t, da)
	link.on.Store(true)
	db := newResident(t, place("p", p)).join(words)
	write(t, db.FS(), "mine", body) // which is stored already
	mustExchange(t, db)

	if err := vfs.RemoveAll(t.Context(), da.FS(), "f"); err != nil {
		t.Fatal(err)
	}
	thin(t, da)
	for range 4 {
		mustExchange(t, da)
		if r := mustGC(t, da); r.Packs > 0 {
			t.Errorf("%d packs were removed", r.Packs)
		}
	}
	link.on.Store(false)
	meet(t, da, db)
	wantFile(t, "mine", body, newResident(t, place("p", p)).join(words))
}
