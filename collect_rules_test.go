package sheaf

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

// sync3 gives each place of the drive three turns, without a commit of what was written.
func sync3(t testing.TB, ds ...*Drive) {
	t.Helper()
	for range 3 {
		for _, d := range ds {
			if err := d.Replicas().Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func wantFile(t testing.TB, name string, want []byte, ds ...*Drive) {
	t.Helper()
	for i, d := range ds {
		if got, err := vfs.ReadFile(t.Context(), d.FS(), name, 1<<30); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s on device %d: %d bytes, %v", name, i, len(got), err)
		}
		if v, err := d.Verify(t.Context(), nil); err != nil || len(v.Findings) > 0 {
			t.Errorf("verify of device %d: %v %v", i, v.Findings, err)
		}
	}
}

// A device that brings a file in took its bytes for stored before it heard that they go. It agrees when the file is in its head, not before.
func TestGC_WhoIsInTheMidstOfItAgreesLater(t *testing.T) {
	at := mem.New()
	da, words := newResident(t, place("nas", at)).create()
	body := testkit.Random(rand.New(rand.NewPCG(1, 2)), 1<<20)
	write(t, da.FS(), "goes", body)
	mustExchange(t, da)
	db := newResident(t, place("nas", at)).join(words)
	meet(t, db, da)
	forget(t, "goes", da, db)

	l, err := db.Load()
	if err != nil {
		t.Fatal(err)
	}
	var parts []live.Stored
	if err := l.Store(t.Context(), bytesSource(body), int64(len(body)), func(s live.Stored) error { parts = append(parts, s); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := mustGC(t, da); r.Announced == 0 {
		t.Fatalf("nothing goes: %+v", r)
	}
	sync3(t, da, db)
	if r := mustGC(t, da); r.Freed > 0 || len(r.Waits) == 0 {
		t.Fatalf("while the other device is in the midst of it: %+v", r)
	}
	write(t, db.FS(), "again", nil)
	h, err := vfs.OpenPath(t.Context(), db.FS(), "again", vfs.OpenWrite)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if err := l.Give(t.Context(), h, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Close()
	sync3(t, db, da) // nobody commits but for the word
	if r := mustGC(t, da); len(r.Waits) > 0 {
		t.Fatalf("when the file is in the tree: %+v", r)
	}
	meet(t, db, da)
	wantFile(t, "again", body, da, db)
}

// A head that a device knows of and has not taken over yet can still be what it goes on from: what that reaches is live, though its own
// device has gone on to one that does not.
func TestGC_WhatAHeadOfBeforeReachesIsLiveForWhoIsLate(t *testing.T) {
	at := mem.New()
	da, words := newResident(t, place("nas", at)).create()
	body := testkit.Random(rand.New(rand.NewPCG(1, 2)), 1<<20)
	write(t, da.FS(), "goes", body)
	mustExchange(t, da)
	db, dc := newResident(t, place("nas", at)).join(words), newResident(t, place("nas", at)).join(words)
	meet(t, db, dc, da)
	forget(t, "goes", da, db, dc)

	write(t, dc.FS(), "again", body) // by the chunks that nobody else reaches
	if err := dc.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := mustGC(t, da); r.Announced == 0 {
		t.Fatalf("nothing goes: %+v", r)
	}
	sync3(t, da)
	sync3(t, db)
	sync3(t, dc) // agrees, by a head that reaches it

	// The second hears of that head, and says so, before it takes over.
	if err := db.Replicas().Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.refs.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.adoptMu.Lock()
	err := db.agree(t.Context())
	db.adoptMu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.Walk(t.Context(), db.FS(), "again"); err == nil {
		t.Fatal("it has taken over: this shows nothing")
	}
	late, err := db.refs.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Replicas().Sync(t.Context()); err != nil { // puts that head at the place, and then takes over
		t.Fatal(err)
	}
	if late.Sees(dc.device.ID()) == 0 {
		t.Fatal("it does not say what it has seen")
	}
	// The third goes on to a head that does not reach it.
	if err := vfs.RemoveAll(t.Context(), dc.FS(), "again"); err != nil {
		t.Fatal(err)
	}
	thin(t, dc)
	if err := dc.Replicas().Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustGC(t, da)
	// And the second gives it another name, before it knows of that.
	root, err := db.FS().Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Rename(t.Context(), "again", root, "mine", vfs.RenameReplace); err != nil {
		t.Fatal(err)
	}
	meet(t, db, da, dc)
	meet(t, db, da, dc)
	wantFile(t, "mine", body, da, db, dc)
}

// A device that brings to one place what it knows of others, and does not know yet that one of them has moved chunks from packs which it removed, does
// not take these for lost: it looks where they are now.
func TestGC_WhatWasMovedMeanwhileIsNotLacking(t *testing.T) {
	nas, usb := mem.New(), mem.New()
	da, words := newResident(t, place("nas", nas), place("usb", usb)).create()
	rng := rand.New(rand.NewPCG(1, 2))
	stays := testkit.Random(rng, 1<<20)
	write(t, da.FS(), "goes", testkit.Random(rng, 4<<20))
	write(t, da.FS(), "stays", stays)
	mustExchange(t, da)
	db := newResident(t, place("nas", nas), place("usb", usb)).join(words)
	meet(t, db, da)
	forget(t, "goes", da, db)
	had := packsAt(t, nas)
	if r := mustGC(t, da); r.Announced == 0 {
		t.Fatalf("nothing goes: %+v", r)
	}
	meet(t, da, db)
	if r := mustGC(t, da); r.Freed < 4<<20 {
		t.Fatalf("when the other device agrees: %+v", r)
	}
	sync3(t, da)
	now := packsAt(t, nas)
	if !slices.ContainsFunc(had, func(n blob.Name) bool { return !slices.Contains(now, n) }) {
		t.Fatal("all packs are at the place still: this shows nothing")
	}
	db.Replicas().Spread() // all that it knows of is brought to each place, not only what it has put
	if err := db.Replicas().Sync(t.Context()); err != nil {
		t.Errorf("before it knows what was moved: %v", err)
	}
	wantFile(t, "stays", stays, da, db)
}
