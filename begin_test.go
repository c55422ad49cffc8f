package sheaf

import (
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

func reopened(t *testing.T, r *resident) *Drive {
	t.Helper()
	d, err := Open(t.Context(), r.settle())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A crash came after the head of a commit was put, and before the ground was kept. The drive opens, and takes over what another device did; the next crash comes between the same two steps.
// Simulator: seed 96000001.
func TestOpen_ACrashBetweenHeadAndGroundTwice(t *testing.T) {
	at := mem.New()
	a := newResident(t, place("nas", at))
	da, words := a.create()
	write(t, da.FS(), "first", []byte("first"))
	mustExchange(t, da)
	db := newResident(t, place("nas", at)).join(words)
	mustExchange(t, db, da)
	grounds := func(d *Drive) []byte {
		t.Helper()
		b, err := d.db.Get(t.Context(), []byte(groundKey))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	back := func(d *Drive, b []byte) {
		t.Helper()
		if err := d.db.Update(t.Context(), func(tx kv.Tx) error { return tx.Put([]byte(groundKey), b) }); err != nil {
			t.Fatal(err)
		}
	}
	before := grounds(da)
	write(t, da.FS(), "second", []byte("second"))
	mustExchange(t, da)
	back(da, before)
	closeDrive(t, da)

	da = reopened(t, a)
	before = grounds(da)
	write(t, db.FS(), "other", []byte("other"))
	mustExchange(t, db, da)
	if got := read(t, da.FS(), "other"); string(got) != "other" {
		t.Fatalf("what the other device wrote reads %q", got)
	}
	back(da, before)
	closeDrive(t, da)

	da = reopened(t, a)
	defer closeDrive(t, da)
	for _, name := range []string{"first", "second", "other"} {
		if got := read(t, da.FS(), name); string(got) != name {
			t.Errorf("%s reads %q", name, got)
		}
	}
}
