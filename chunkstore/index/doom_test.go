package index

import (
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// A doomed pack can be read, and gives its chunks to each other one that has them; that is remembered, also of packs that become
// known later, by whichever way, until the time is over.
func TestDoom_IsRememberedAndOthersTakeOver(t *testing.T) {
	ctx := t.Context()
	db := memkv.New()
	x, err := Open(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	known, later, other := pack.Name{1}, pack.Name{2}, pack.Name{3}
	entries := []pack.Entry{entry(1, 8), entry(2, 300)}
	learn := func(x *Index, name pack.Name) {
		t.Helper()
		if err := x.Learn(ctx, name, 1000, entries, Mark{name[0]}); err != nil {
			t.Fatal(err)
		}
	}
	at := func(x *Index) pack.Name {
		t.Helper()
		loc, ok, err := x.Lookup(ctx, entries[0].ID)
		if err != nil || !ok {
			t.Fatalf("%v %v", ok, err)
		}
		return loc.Pack
	}
	learn(x, known)
	now := time.Unix(1e9, 0)
	if err := x.Doom(ctx, now, known, later); err != nil {
		t.Fatal(err)
	}
	if p, _ := x.Pack(known); !p.Doomed || at(x) != known {
		t.Errorf("doomed: %+v, located in %v", p, at(x))
	}
	learn(x, later)
	if p, _ := x.Pack(later); !p.Doomed || at(x) != known {
		t.Errorf("one that is learned later: %+v, located in %v", p, at(x))
	}
	if x, err = Open(ctx, db, nil); err != nil { // as after a new start
		t.Fatal(err)
	}
	for _, name := range []pack.Name{known, later} {
		if p, _ := x.Pack(name); !p.Doomed {
			t.Errorf("pack %v is doomed no more", name)
		}
	}
	learn(x, other)
	if at(x) != other {
		t.Errorf("located in %v, not in the one that stays", at(x))
	}
	// By proof it stays doomed, and takes nothing back.
	if _, err := x.Prove(ctx, known, 1000, entries, Mark{1}); err != nil {
		t.Fatal(err)
	}
	if p, _ := x.Pack(known); !p.Doomed || p.Sure() || at(x) != other {
		t.Errorf("proven: %+v, located in %v", p, at(x))
	}
	if err := x.Doom(ctx, now.Add(time.Hour), known); err != nil { // keeps its first time
		t.Fatal(err)
	}
	if err := x.Drop(ctx, known); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		before time.Time
		doomed bool
	}{{now, true}, {now.Add(time.Second), false}} {
		if err := x.Level(ctx, c.before); err != nil {
			t.Fatal(err)
		}
		learn(x, known)
		if p, _ := x.Pack(known); p.Doomed != c.doomed {
			t.Errorf("after what was before %v is forgotten, doomed is %v", c.before, p.Doomed)
		}
		if err := x.Drop(ctx, known); err != nil {
			t.Fatal(err)
		}
	}
}
