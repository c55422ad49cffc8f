package sheaf

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// A place that is away keeps nothing from being verified that is elsewhere. What the drive needs of it makes an error, and no finding: nothing is known of it. If it has
// garbage only, as a device may that never comes back, nothing is wrong.
func TestVerify_WhileAPlaceIsAway(t *testing.T) {
	at := mem.New()
	net := evil.New(at, 1)
	da, words := newResident(t, place("nas", at)).create()
	mustExchange(t, da)
	b := newResident(t, place("nas", net))
	db := b.join(words)
	rnd := testkit.Rand(1)
	mine := testkit.Random(rnd, 300<<10)
	write(t, db.FS(), "mine", mine)
	mustExchange(t, db, da)
	write(t, da.FS(), "far", testkit.Random(rnd, 3<<20))
	mustExchange(t, da, db)

	verify := func(what string, away bool, damaged blob.Name) {
		t.Helper()
		r, err := db.Verify(t.Context(), nil)
		if away != errors.Is(err, blob.ErrTemporary) || !away && err != nil {
			t.Errorf("%s: got %v", what, err)
		}
		switch found := slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Blob == string(damaged) }); {
		case damaged == "" && len(r.Findings) > 0, slices.ContainsFunc(r.Findings, func(f Finding) bool { return errors.Is(f.Err, blob.ErrTemporary) }):
			t.Errorf("%s: found %v", what, r.Findings)
		case damaged != "" && !found:
			t.Errorf("%s: %s is damaged, and found was %v", what, damaged, r.Findings)
		}
	}
	verify("all is well", false, "")
	// again opens the drive anew, without what it has read before.
	again := func() {
		t.Helper()
		closeDrive(t, db)
		var err error
		if db, err = Open(t.Context(), b.settle()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close(done()) })
	}
	again()
	net.Set(evil.Fail, func(blob.Name) bool { return true })
	verify("what is needed is away", true, "")
	var own blob.Name
	for info, err := range b.own.List(t.Context(), "packs/") {
		if err != nil {
			t.Fatal(err)
		}
		own = info.Name
	}
	sound, err := blob.ReadAll(t.Context(), b.own, own, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	put := func(body string) {
		t.Helper()
		if err := b.own.Put(t.Context(), own, strings.NewReader(body), int64(len(body))); err != nil {
			t.Fatal(err)
		}
	}
	put(string(sound[:len(sound)/2]))
	verify("and a pack is damaged here", true, own)
	put(string(sound))

	// Nobody needs any more what is there.
	net.Heal()
	if err := vfs.RemoveAll(t.Context(), db.FS(), "far"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, d := range []*Drive{db, da} {
			mustExchange(t, db, da)
			all, err := d.Snapshots(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var ids []SnapshotID
			for _, k := range all {
				ids = append(ids, SnapshotID(k.Dot.String()))
			}
			if err := d.DropSnapshot(t.Context(), ids...); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustExchange(t, db, da)
	mustExchange(t, db, da)
	again()
	far := map[blob.Name]bool{}
	for info, err := range at.List(t.Context(), "packs/") {
		if err != nil {
			t.Fatal(err)
		}
		far[info.Name] = info.Size > 1<<20
	}
	net.Set(evil.Fail, func(name blob.Name) bool { return far[name] })
	verify("garbage is away", false, "")
}
