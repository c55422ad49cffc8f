package sheaf

import (
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/sync/engine"
)

func namesIn(t testing.TB, b blob.Bucket, prefix blob.Name) (names []blob.Name) {
	t.Helper()
	for info, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

// A place that hides what one device has put, and shows what another one put that had seen it, keeps nobody from opening the drive: what is
// shown later is taken over then. Hidden are the device's entry in the members log, or its heads.
func TestPlaces_WhatIsWithheldKeepsNobodyOut(t *testing.T) {
	for _, prefix := range []string{"members/", "heads/"} {
		t.Run(strings.TrimSuffix(prefix, "/"), func(t *testing.T) {
			at := mem.New()
			liar := evil.New(at, 1)
			da, words := newResident(t, place("nas", at)).create()
			write(t, da.FS(), "first", []byte("first"))
			mustExchange(t, da)
			b := newResident(t, place("nas", liar))
			db := b.join(words)
			write(t, db.FS(), "mine", []byte("mine"))
			meet(t, db, da)
			before := namesIn(t, at, blob.Name(prefix))
			third := func(name string) *Drive {
				d := newResident(t, place("nas", at)).join(words)
				write(t, d.FS(), name, []byte(name))
				mustExchange(t, d)
				return d
			}
			dc := third("c")
			hidden := slices.DeleteFunc(namesIn(t, at, blob.Name(prefix)), func(n blob.Name) bool { return slices.Contains(before, n) })
			third("d")
			liar.Set(evil.Withhold, func(n blob.Name) bool { return slices.Contains(hidden, n) })
			_ = db.Replicas().Sync(t.Context()) // which says what is wrong
			closeDrive(t, db)
			db, err := Open(t.Context(), b.settle())
			if err != nil {
				t.Fatalf("with something withheld: %v", err)
			}
			defer closeDrive(t, db)
			if got := read(t, db.FS(), "mine"); string(got) != "mine" {
				t.Errorf("got %q", got)
			}
			liar.Heal()
			meet(t, db, dc)
			for _, name := range []string{"first", "mine", "c", "d"} {
				if got := read(t, db.FS(), name); string(got) != name {
					t.Errorf("%s: got %q", name, got)
				}
			}
		})
	}
}

// A place that damaged what it gave to a device that joins keeps it out neither when it is tried again nor where another place is well.
func TestJoin_IsTriedAgainWithWhatIsWell(t *testing.T) {
	at, other := mem.New(), mem.New()
	liar := evil.New(at, 1)
	da, words := newResident(t, place("nas", at), place("other", other)).create()
	write(t, da.FS(), "first", []byte("first"))
	mustExchange(t, da)
	for _, prefix := range []string{"drive/", "keys/", "members/"} {
		join := func(places ...engine.Place) (*resident, error) {
			b := newResident(t, places...)
			return b, rejoin(t, b, words)
		}
		liar.Set(evil.FlipBit, onlyIn(prefix))
		b, err := join(place("nas", liar))
		if err == nil {
			t.Errorf("%s: it joins by damaged blobs: this shows nothing", prefix)
		}
		if _, err := join(place("nas", liar), place("other", other)); err != nil {
			t.Errorf("%s: beside a place that is well: %v", prefix, err)
		}
		liar.Heal()
		if err := rejoin(t, b, words); err != nil {
			t.Errorf("%s: when the place is well: %v", prefix, err)
		}
	}
}

// rejoin joins a drive and looks at it.
func rejoin(t *testing.T, r *resident, words string) error {
	t.Helper()
	o := r.settle()
	o.Secret = Secret{Recovery: words}
	d, err := Join(t.Context(), o, true)
	if err != nil {
		return err
	}
	defer closeDrive(t, d)
	if got := read(t, d.FS(), "first"); string(got) != "first" {
		t.Errorf("got %q", got)
	}
	return nil
}

// A device that joined by a place which hid something, so that it has no state of its own, opens when a place shows that.
func TestOpen_LooksForWhatIsMissing(t *testing.T) {
	at, other := mem.New(), mem.New()
	liar := evil.New(at, 1)
	da, words := newResident(t, place("nas", at), place("other", other)).create()
	write(t, da.FS(), "first", []byte("first"))
	mustExchange(t, da)
	dc := newResident(t, place("nas", at)).join(words)
	write(t, dc.FS(), "c", []byte("c"))
	before := namesIn(t, at, "heads/")
	mustExchange(t, dc)
	hidden := slices.DeleteFunc(namesIn(t, at, "heads/"), func(n blob.Name) bool { return slices.Contains(before, n) })
	mustExchange(t, da, da) // whose head has seen that of c
	liar.Set(evil.Withhold, func(n blob.Name) bool { return slices.Contains(hidden, n) })
	b := newResident(t, place("nas", liar))
	o := b.settle()
	o.Secret = Secret{Recovery: words}
	if d, err := Join(t.Context(), o, true); err == nil {
		closeDrive(t, d)
		t.Fatal("it joins though heads are withheld: this shows nothing")
	}
	liar.Heal()
	b.places = []engine.Place{place("nas", liar)}
	db, err := Open(t.Context(), b.settle())
	if err != nil {
		t.Fatal(err)
	}
	defer closeDrive(t, db)
	for _, name := range []string{"first", "c"} {
		if got := read(t, db.FS(), name); string(got) != name {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
