package sheaf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/engine"
	"github.com/sheaf-drive/sheaf/vfs"
)

// parted is a place that cannot be reached when it is so.
type parted struct {
	blob.Bucket
	is bool
}

func (p *parted) place(name string) engine.Place {
	return engine.Place{Name: name, At: name, Open: func(context.Context) (blob.Bucket, error) {
		if p.is {
			return nil, fmt.Errorf("no route: %w", blob.ErrTemporary)
		}
		return p.Bucket, nil
	}}
}

// Simulator seed 97005499: another device collected a pack, and put what was live in it on this device, in another one, which nobody has looked at yet. With
// nobody within reach this device read from the place of the pack that is gone, and did not open.
func TestMoved_IsFoundOnThisDevice(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t))
	nas, shelf := &parted{Bucket: mem.New()}, mem.New()
	r := newResident(t, place("nas", nas.Bucket))
	da, words := r.create()
	body := testkit.Random(rng, 4<<20)
	write(t, da.FS(), "stays", body)
	write(t, da.FS(), "goes", testkit.Random(rng, 12<<20))
	if err := exchange(t, da); err != nil {
		t.Fatal(err)
	}
	b := newResident(t, nas.place("nas"), engine.Place{Name: "shelf", At: "this device", Here: true, Open: func(context.Context) (blob.Bucket, error) { return shelf, nil }})
	db := b.join(words)
	if err := errors.Join(exchange(t, db), exchange(t, da), vfs.RemoveAll(t.Context(), da.FS(), "goes")); err != nil {
		t.Fatal(err)
	}
	thin(t, da)
	first := packsOf(t, nas.Bucket)
	gone := func() bool {
		now := packsOf(t, nas.Bucket)
		return slices.ContainsFunc(first, func(n blob.Name) bool { return !slices.Contains(now, n) })
	}
	for i := 0; !gone(); i++ {
		if i == 10 {
			t.Fatal("nothing is collected")
		}
		mustGC(t, da)
		mustExchange(t, da)
		if !gone() {
			mustExchange(t, db, da)
		}
	}
	for name, p := range blobs(t, nas.Bucket) { // as a brings it when it is connected
		if strings.HasPrefix(string(name), pack.Prefix) {
			putBlob(t, shelf, name, p)
		}
	}
	nas.is = true
	if err := db.replicas.engine.Renew("nas"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, db.FS(), "stays"), body) {
		t.Error("it is another one")
	}
}

// Simulator seed 97002999: to open a drive the directories with hard links are read, which others may have put. They are kept on this device.
func TestOpen_HardLinksOfOthersWithNobodyWithinReach(t *testing.T) {
	nas := &parted{Bucket: mem.New()}
	r := newResident(t, place("nas", nas.Bucket))
	da, words := r.create()
	for _, dir := range []string{"some", "some/where", "some/where/deep", "other"} {
		if _, err := vfs.MkdirAll(t.Context(), da.FS(), dir, vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	write(t, da.FS(), "some/where/deep/one", []byte("one file"))
	n, err := vfs.Walk(t.Context(), da.FS(), "some/where/deep/one")
	if err == nil {
		var to vfs.Node
		if to, err = vfs.Walk(t.Context(), da.FS(), "other"); err == nil {
			err = to.(vfs.Dir).Link(t.Context(), "two", n)
		}
	}
	if err := errors.Join(err, exchange(t, da)); err != nil {
		t.Fatal(err)
	}
	b := newResident(t, nas.place("nas"))
	db := b.join(words)
	if err := exchange(t, db); err != nil {
		t.Fatal(err)
	}
	closeDrive(t, db)
	nas.is = true
	db, err = Open(t.Context(), b.settle()) // with a cache that has nothing
	if err != nil {
		t.Fatal(err)
	}
	defer closeDrive(t, db)
	for _, path := range []string{"some/where/deep/one", "other/two"} {
		n, err := vfs.Walk(t.Context(), db.FS(), path)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := n.Attr(t.Context()); err != nil || a.Nlink != 2 {
			t.Errorf("%s has %d names, %v", path, a.Nlink, err)
		}
	}
}

// Simulator seed 99002823: heads of others had come when this device crashed, and what they need could not be had when it was opened again. No turn brought any of
// them again, so that they were not taken over before others put more.
func TestOpen_WhatCouldNotBeReadIsTakenOverLater(t *testing.T) {
	nas := &parted{Bucket: mem.New()}
	r := newResident(t, place("nas", nas.Bucket))
	da, words := r.create()
	if err := exchange(t, da); err != nil {
		t.Fatal(err)
	}
	b := newResident(t, nas.place("nas"))
	db := b.join(words)
	write(t, db.FS(), "own", []byte("of the second"))
	if err := exchange(t, db); err != nil {
		t.Fatal(err)
	}
	write(t, da.FS(), "file", []byte("of the first"))
	if err := exchange(t, da); err != nil {
		t.Fatal(err)
	}
	if err := db.Replicas().Look(t.Context()); err != nil { // the head comes, and nothing else
		t.Fatal(err)
	}
	closeDrive(t, db)
	nas.is = true
	db, err := Open(t.Context(), b.settle())
	if err != nil {
		t.Fatal(err)
	}
	defer closeDrive(t, db)
	nas.is = false
	if err := exchange(t, db); err != nil {
		t.Fatal(err)
	}
	if got := read(t, db.FS(), "file"); string(got) != "of the first" {
		t.Errorf("it shows %q", got)
	}
}
