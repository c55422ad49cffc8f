package sheaf

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// whereIs returns where a path of a drive is.
func whereIs(t *testing.T, d *Drive, path string) Custody {
	t.Helper()
	n, err := vfs.Walk(t.Context(), d.FS(), path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Custodian(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at, err := c.Below(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// What is pinned is fetched as a whole, and what comes below it as well; paused it is not, until it is pinned again.
func TestPin_FetchesAndGoesOn(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t))
	nas := mem.New()
	a, b := newResident(t, place("nas", nas)), newResident(t, place("nas", nas))
	da, words := a.create()
	dir := strings.Repeat(strings.Repeat("d", 200)+"/", 6) // longer than a key of the database
	dir = strings.TrimSuffix(dir, "/")
	if _, err := vfs.MkdirAll(t.Context(), da.FS(), dir, vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	write(t, da.FS(), dir+"/one", testkit.Random(rng, 3<<20))
	if at := whereIs(t, da, dir); at.State() != StateQueued || at.Journal != 3<<20 || at.Copies != 1 || at.Places != 2 {
		t.Errorf("before the first turn: %+v, %s", at, at)
	}
	if err := exchange(t, da); err != nil {
		t.Fatal(err)
	}
	if at := whereIs(t, da, dir); at.State() != StateLocal || at.Copies != 2 || at.Queued != 0 {
		t.Errorf("after a turn: %+v, %s", at, at)
	}
	db := b.join(words)
	if at := whereIs(t, db, dir); at.State() != StateRemote || at.Copies != 1 || at.Here > 2<<20 {
		t.Errorf("on another device: %+v, %s", at, at)
	}
	if err := db.Pin(t.Context(), []string{"nothing"}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pin what is not there: got error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := db.Pin(ctx, []string{dir}, func(done, total int64) {
		if done > 0 {
			cancel()
		}
	})
	cancel()
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := db.Pin(t.Context(), []string{dir}, nil); err != nil {
		t.Fatal(err)
	}
	if at := whereIs(t, db, dir); at.State() != StatePinned || at.Copies != 2 {
		t.Errorf("pinned: %+v, %s", at, at)
	}
	more := func(name string) {
		t.Helper()
		write(t, da.FS(), dir+"/"+name, testkit.Random(rng, 3<<20))
		for _, d := range []*Drive{da, db} {
			if err := exchange(t, d); err != nil {
				t.Fatal(err)
			}
		}
		if at := whereIs(t, db, dir+"/"+name); at.State() != StateRemote || !at.Pinned {
			t.Errorf("%s, before it is fetched: %+v, %s", name, at, at)
		}
		if err := db.keepPinned(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	more("two")
	if at := whereIs(t, db, dir); at.State() != StatePinned || at.Files != 2 {
		t.Errorf("what came later: %+v, %s", at, at)
	}
	if err := db.PausePin(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	more("three")
	if at := whereIs(t, db, dir+"/three"); at.State() != StateRemote {
		t.Errorf("what came while it was paused: %+v, %s", at, at)
	}
	if pins, err := db.Pins(t.Context()); err != nil || len(pins) != 1 || pins[0] != (Pin{dir, true}) {
		t.Errorf("pins are %v, %v", pins, err)
	}
	if err := db.Pin(t.Context(), []string{dir}, nil); err != nil {
		t.Fatal(err)
	}
	if at := whereIs(t, db, dir); at.State() != StatePinned || at.Files != 3 {
		t.Errorf("pinned again: %+v, %s", at, at)
	}
	if _, err := db.Unpin(t.Context(), dir, "nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unpin what is not pinned: got error %v", err)
	}
	n, err := db.Unpin(t.Context(), dir)
	if err != nil || n < 9<<20 {
		t.Errorf("unpin: %d bytes, %v, want those of three files", n, err)
	}
	if at := whereIs(t, db, dir); at.Pinned || at.State() != StateLocal || at.Copies != 1 {
		t.Errorf("not pinned any more: %+v, %s", at, at)
	}
}
