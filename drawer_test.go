package sheaf

import (
	"fmt"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
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
