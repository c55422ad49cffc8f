package sheaf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/engine"
	"github.com/sheaf-drive/sheaf/vfs"
)

// noGrace frees what it may at once.
var noGrace = GCOptions{Grace: -1}

// mustGC collects garbage without grace.
func mustGC(t testing.TB, d *Drive) GCReport {
	t.Helper()
	r, err := d.GC(t.Context(), noGrace, nil)
	if err != nil {
		t.Fatalf("collect garbage: %v", err)
	}
	return r
}

// thin forgets the states that no label keeps.
func thin(t testing.TB, d *Drive) {
	t.Helper()
	if err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := d.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []SnapshotID
	for _, k := range all {
		if k.Label == "" {
			ids = append(ids, SnapshotID(k.Dot.String()))
		}
	}
	if len(ids) == 0 {
		return
	}
	if err := d.DropSnapshot(t.Context(), ids...); err != nil {
		t.Fatal(err)
	}
}

func mustExchange(t testing.TB, ds ...*Drive) {
	t.Helper()
	for _, d := range ds {
		if err := exchange(t, d); err != nil {
			t.Fatal(err)
		}
	}
}

// meet lets all devices know of each other, and of what they say to that.
func meet(t testing.TB, ds ...*Drive) {
	t.Helper()
	for range 3 {
		mustExchange(t, ds...)
	}
}

// forget has the first device remove what is under a name, and all devices forget the states that had it.
func forget(t testing.TB, name string, ds ...*Drive) {
	t.Helper()
	if err := vfs.RemoveAll(t.Context(), ds[0].FS(), name); err != nil {
		t.Fatal(err)
	}
	thin(t, ds[0])
	meet(t, ds...)
	for _, d := range ds[1:] {
		thin(t, d)
	}
	meet(t, ds...)
}

// What one device deletes on a drive of three goes once the others have agreed, and not before; then it is gone at the place, too.
func TestGC_FreesWhatAllDevicesAgreeTo(t *testing.T) {
	at := mem.New()
	a := newResident(t, place("nas", at))
	da, words := a.create()
	body := testkit.Random(rand.New(rand.NewPCG(1, 2)), 1<<20)
	write(t, da.FS(), "goes", body)
	mustExchange(t, da)
	had := packsAt(t, at)
	db, dc := newResident(t, place("nas", at)).join(words), newResident(t, place("nas", at)).join(words)
	mustExchange(t, db, dc, da)
	if err := vfs.RemoveAll(t.Context(), da.FS(), "goes"); err != nil {
		t.Fatal(err)
	}
	write(t, da.FS(), "stays", []byte("stays"))
	thin(t, da)
	mustExchange(t, da)

	meet(t, db, dc, da)
	thin(t, db)
	thin(t, dc)
	meet(t, db, dc, da)
	if r := mustGC(t, da); r.Freed > 0 || r.Announced == 0 {
		t.Fatalf("when all know that it was deleted: %+v", r)
	}
	if r := mustGC(t, da); r.Freed > 0 || len(r.Waits) != 2 {
		t.Fatalf("before the others know what goes: %+v", r)
	}
	meet(t, da, db)
	if r := mustGC(t, da); r.Freed > 0 || !slices.Equal(r.Waits, []string{"test"}) {
		t.Fatalf("before the third device knows: %+v", r)
	}
	meet(t, dc)
	if r := mustGC(t, da); r.Freed > 0 || len(r.Waits) != 1 {
		t.Fatalf("before the second has seen that the third agrees: %+v", r)
	}
	meet(t, db)
	r := mustGC(t, da)
	if r.Freed < 1<<20 || len(r.Waits) > 0 {
		t.Fatalf("when all agree: %+v", r)
	}
	meet(t, da, db, dc)
	now := packsAt(t, at)
	for _, name := range had {
		if !slices.Contains(now, name) {
			for _, d := range []*Drive{da, db, dc} {
				readAll(t, d)
				if v, err := d.Verify(t.Context(), nil); err != nil || len(v.Findings) > 0 {
					t.Errorf("verify: %v %v", v.Findings, err)
				}
			}
			return
		}
	}
	t.Errorf("all packs of before are still at the place")
}

// What was deleted by one and is written again by another, which had agreed that it goes, is stored anew.
func TestGC_WhoAgreedStoresAnew(t *testing.T) {
	at := mem.New()
	a := newResident(t, place("nas", at))
	da, words := a.create()
	body := testkit.Random(rand.New(rand.NewPCG(1, 2)), 1<<20)
	write(t, da.FS(), "goes", body)
	mustExchange(t, da)
	db := newResident(t, place("nas", at)).join(words)
	mustExchange(t, db, da)
	forget(t, "goes", da, db)
	if r := mustGC(t, da); r.Announced == 0 {
		t.Fatalf("nothing goes: %+v", r)
	}
	meet(t, da, db)                                // which agrees
	write(t, db.FS(), "again", body)               // and now wants it
	if err := db.Commit(t.Context()); err != nil { // in a head that nobody hears of for now
		t.Fatal(err)
	}
	mustExchange(t, da)
	if r := mustGC(t, da); r.Freed < 1<<20 {
		t.Fatalf("it does not go: %+v", r)
	}
	mustExchange(t, da, db, da)
	for _, d := range []*Drive{da, db} {
		if got, err := vfs.ReadFile(t.Context(), d.FS(), "again", 1<<30); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if v, err := d.Verify(t.Context(), nil); err != nil || len(v.Findings) > 0 {
			t.Errorf("verify: %v %v", v.Findings, err)
		}
	}
}

// What a device needs by its newest head stays, also if the one that has put it deleted it.
func TestGC_WhatAnotherOneReachesStays(t *testing.T) {
	at := mem.New()
	a := newResident(t, place("nas", at))
	da, words := a.create()
	body := testkit.Random(rand.New(rand.NewPCG(1, 2)), 1<<20)
	write(t, da.FS(), "goes", body)
	mustExchange(t, da)
	db := newResident(t, place("nas", at)).join(words)
	write(t, db.FS(), "mine", body) // by the chunks of the first
	if err := vfs.RemoveAll(t.Context(), da.FS(), "goes"); err != nil {
		t.Fatal(err)
	}
	thin(t, da)
	mustGC(t, da) // which has not heard of it
	for range 3 {
		meet(t, da, db)
		mustGC(t, da)
	}
	for _, d := range []*Drive{da, db} {
		if got, err := vfs.ReadFile(t.Context(), d.FS(), "mine", 1<<30); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if v, err := d.Verify(t.Context(), nil); err != nil || len(v.Findings) > 0 {
			t.Errorf("verify: %v %v", v.Findings, err)
		}
	}
}

func packsAt(t testing.TB, b blob.Bucket) (names []blob.Name) {
	t.Helper()
	for info, err := range b.List(t.Context(), pack.Prefix) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

// readAll reads every file of the drive.
func readAll(t testing.TB, d *Drive) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	var walk func(dir string)
	walk = func(dir string) {
		n, err := vfs.WalkDir(t.Context(), d.FS(), dir)
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		for e, err := range n.List(t.Context(), "") {
			if err != nil {
				t.Fatalf("list %s: %v", dir, err)
			}
			name := e.Name
			if dir != "" {
				name = dir + "/" + e.Name
			}
			if e.Kind == vfs.KindDir {
				walk(name)
				continue
			}
			body, err := vfs.ReadFile(t.Context(), d.FS(), name, 1<<30)
			if err != nil {
				t.Errorf("read %s: %v", name, err)
			}
			all[name] = body
		}
	}
	walk("")
	return all
}

// G14: three devices, of which the first and the last never meet at one place, write, clone, delete, keep and restore the same few contents,
// each in a folder of its own and all in one, and collect garbage without any grace, in every order of exchanges, commits, ends
// and starts. No file is ever without its bytes, on no device.
func TestGC_OfManyDevicesLosesNothing(t *testing.T) {
	seed := testkit.Seed(t)
	rounds, steps := 3, 80
	if long() {
		rounds = 200
	}
	var times atomic.Int64
	t.Run("all", func(t *testing.T) {
		for i := range rounds {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				if !long() {
					t.Parallel()
				}
				// In every second round all meet at one place.
				times.Add(int64(collectors(t, rand.New(rand.NewPCG(uint64(seed), uint64(i))), steps, i%2 == 0)))
			})
		}
	})
	if times.Load() == 0 {
		t.Error("nothing was freed while something was written: that proves nothing")
	}
}

type collector struct {
	*resident
	*writer
}

// collectors is one round. It returns how often something was freed while something was written.
func collectors(t *testing.T, rng *rand.Rand, steps int, near bool) (times int) {
	left, right := mem.New(), mem.New()
	places := [][]engine.Place{{place("left", left)}, {place("left", left), place("right", right)}, {place("right", right)}}
	if near {
		places = [][]engine.Place{{place("left", left)}, {place("left", left)}, {place("left", left)}}
	}
	var all []*collector
	var words string
	pool := contents{{}}
	for i := range 16 { // few, so that what was deleted comes back, and more than there are files, so that it goes
		pool = append(pool, testkit.Random(rng, (i+1)*8<<10))
	}
	for i := range places {
		c := &collector{resident: newResident(t, places[i]...)}
		var d *Drive
		if i == 0 {
			d, words = c.create()
			meet(t, d)
		} else {
			d = c.join(words)
			meet(t, d)
		}
		c.writer = &writer{d: d, fsys: d.FS(), dir: fmt.Sprintf("w%d", i), pool: pool, now: map[string][]byte{}, rng: rng}
		for _, dir := range []string{c.writer.dir, "all"} {
			if _, err := vfs.MkdirAll(t.Context(), d.FS(), dir, vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, c)
	}
	known := map[string]bool{}
	for _, body := range pool {
		known[string(body)] = true
	}
	var freed int64
	for step := range steps * len(all) {
		c := all[rng.IntN(len(all))]
		d := c.writer.d
		op := rng.IntN(20)
		t.Logf("%s does %d", c.writer.dir, op) // shown if it fails
		switch {
		case op < 4:
			if err := c.step(t.Context()); err != nil {
				t.Fatalf("%s: %v", c.writer.dir, err)
			}
			c.few(t)
		case op < 7:
			c.inAll(t, rng)
		case op < 9:
			thin(t, d)
		case op < 10:
			if err := d.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		case op < 15:
			mustExchange(t, d)
		case op < 19:
			if r := mustGC(t, d); r.Freed > 0 {
				freed, times = freed+r.Freed, times+1
			}
		default:
			if rng.IntN(2) == 0 {
				drop(t, d)
			} else if err := d.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.again(t)
		}
		if step%16 != 0 {
			continue
		}
		for name, body := range readAll(t, c.writer.d) {
			if !known[string(body)] {
				t.Fatalf("%s on %s: %d bytes that nobody wrote", name, c.writer.dir, len(body))
			}
		}
	}
	for range 8 {
		for _, c := range all {
			thin(t, c.writer.d)
			mustExchange(t, c.writer.d)
			freed += mustGC(t, c.writer.d).Freed
		}
	}
	for _, c := range all {
		if err := c.writer.d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.again(t) // with nothing in memory
		c.check(t, c.writer.d)
		for _, other := range all {
			if got := readAll(t, c.writer.d); other != c {
				for name, body := range other.now {
					if !bytes.Equal(got[name], body) {
						t.Errorf("%s on %s: %d bytes, want %d", name, c.writer.dir, len(got[name]), len(body))
					}
				}
			}
		}
		if v, err := c.writer.d.Verify(t.Context(), nil); err != nil || len(v.Findings) > 0 {
			t.Errorf("verify of %s: %v %v", c.writer.dir, v.Findings, err)
		}
	}
	t.Logf("freed %d KiB, %d times while something was written", freed>>10, times)
	return times
}

// few deletes what is too much.
func (c *collector) few(t *testing.T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(c.now)) {
		if len(c.now) <= 3 {
			break
		}
		delete(c.now, name)
		if err := vfs.RemoveAll(t.Context(), c.fsys, name); err != nil {
			t.Fatal(err)
		}
	}
	for len(c.kept) > 1 {
		k := c.kept[0].k
		c.kept = slices.Delete(c.kept, 0, 1)
		if err := c.writer.d.DropSnapshot(t.Context(), SnapshotID(k.Dot.String())); err != nil {
			t.Fatal(err)
		}
	}
}

// again opens the drive anew.
func (c *collector) again(t *testing.T) {
	t.Helper()
	d, err := Open(t.Context(), c.settle())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(done()) })
	c.writer.d, c.fsys = d, d.FS()
}

// inAll does something in the folder of all, where nobody knows what others do.
func (c *collector) inAll(t *testing.T, rng *rand.Rand) {
	t.Helper()
	ctx := t.Context()
	name := func() string { return fmt.Sprintf("all/%d", rng.IntN(4)) }
	var err error
	switch rng.IntN(5) {
	case 0, 1:
		err = vfs.WriteFile(ctx, c.fsys, name(), c.pool[rng.IntN(len(c.pool))], vfs.New{Kind: vfs.KindFile, Mode: 0o644})
	case 2:
		err = vfs.RemoveAll(ctx, c.fsys, name())
	case 3:
		from, to := name(), name()
		if _, werr := vfs.Walk(ctx, c.fsys, from); werr == nil && from != to {
			err = c.clone(ctx, from, to)
		}
	case 4:
		from, to := name(), name()
		dir, derr := vfs.WalkDir(ctx, c.fsys, "all")
		if derr != nil {
			t.Fatal(derr)
		}
		err = dir.Rename(ctx, from[4:], dir, to[4:], 0)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// A device that has joined by one place and written nothing is known at the others all the same: heads that name its entry are else
// taken over by nobody there.
func TestPlaces_WhoHasWrittenNothingKeepsNobodyApart(t *testing.T) {
	left, right := mem.New(), mem.New()
	a := newResident(t, place("left", left))
	da, words := a.create() // with nothing in it, so that who joins has no head
	mustExchange(t, da)
	db := newResident(t, place("left", left), place("right", right)).join(words)
	meet(t, db)
	dc := newResident(t, place("right", right)).join(words)
	if err := dc.Replicas().Sync(t.Context()); err != nil { // without a commit
		t.Fatal(err)
	}
	mustExchange(t, db)
	if _, err := db.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, db.FS(), "b", []byte("b")) // by a head that names the entry of the third
	mustExchange(t, db, db, da)
	if got, err := vfs.ReadFile(t.Context(), da.FS(), "b", 10); err != nil || string(got) != "b" {
		t.Errorf("got %q, %v", got, err)
	}
}
