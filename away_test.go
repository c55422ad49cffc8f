package sheaf

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/vfs"
)

// topNames returns the names in the root.
func topNames(t *testing.T, d *Drive) []string {
	t.Helper()
	root, err := d.FS().Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for e, err := range root.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name)
	}
	return names
}

// A device whose newest state is another's, and whose cache is gone, opens while no place can be reached: what it has written is there, the root is
// shown, new files are kept, and a file that is elsewhere says so. When the place is back all is as it should be.
func TestOpen_WhilePlacesAreAway(t *testing.T) {
	at := mem.New()
	net := evil.New(at, 1)
	da, words := newResident(t, place("nas", at)).create()
	write(t, da.FS(), "first", []byte("first"))
	mustExchange(t, da)
	b := newResident(t, place("nas", net))
	db := b.join(words)
	write(t, db.FS(), "mine", []byte("mine"))
	mustExchange(t, db, da)
	for i := range 3000 { // so that the root has nodes below it
		write(t, da.FS(), fmt.Sprintf("name-%04d", i), nil)
	}
	write(t, da.FS(), "second", []byte("second, which is far"))
	mustExchange(t, da, db)
	want := len(topNames(t, db))
	closeDrive(t, db)

	net.Set(evil.Fail, func(blob.Name) bool { return true })
	for round := range 2 { // and once more with what was written while it was away
		db, err := Open(t.Context(), b.settle())
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if got := len(topNames(t, db)); got != want+round {
			t.Errorf("round %d: the root shows %d names, not %d", round, got, want+round)
		}
		if got := read(t, db.FS(), "mine"); string(got) != "mine" {
			t.Errorf("round %d: what this device has: got %q", round, got)
		}
		if _, err := vfs.ReadFile(t.Context(), db.FS(), "second", 1<<20); !errors.Is(err, blob.ErrTemporary) {
			t.Errorf("round %d: what is elsewhere: got %v", round, err)
		}
		write(t, db.FS(), fmt.Sprintf("new-%d", round), []byte("new"))
		if err := db.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		closeDrive(t, db)
	}
	net.Heal()
	db, err := Open(t.Context(), b.settle())
	if err != nil {
		t.Fatal(err)
	}
	defer closeDrive(t, db)
	meet(t, da, db)
	for name, want := range map[string]string{"first": "first", "second": "second, which is far", "new-0": "new", "new-1": "new"} {
		for _, d := range []*Drive{da, db} {
			if got := read(t, d.FS(), name); string(got) != want {
				t.Errorf("%s: got %q", name, got)
			}
		}
	}
}
