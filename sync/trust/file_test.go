package trust

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// A key that this version refuses, and a secret that it cannot read, keep nobody from the others, and stay in the file.
func TestRing_OneBadKeyDoesNotMakeItUnreadable(t *testing.T) {
	dir, key := t.TempDir(), [32]byte{3}
	now := time.Unix(1_700_000_000, 0)
	good, err := pgp.Generate("Good", "", now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Import(good.Certificate()); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := good.Certificate().Write(&b); err != nil {
		t.Fatal(err)
	}
	bad := b.Bytes()
	bad[3] = 9 // a version that nobody knows
	r.mu.Lock()
	next := r.clone()
	next.unread = unread{own: []byte{0xc5, 1, 9}, keys: []rawEntry{{cert: bad, owner: wot.OwnerMarginal, verified: true}, {cert: []byte("no packet at all")}}}
	err = r.save(next)
	r.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // also after it was written anew
		r, err = Open(dir, key)
		if err != nil {
			t.Fatalf("one bad key: %v", err)
		}
		if all := r.List(now); len(all) != 1 || all[0].Certificate.Name() != "Good" {
			t.Fatalf("%d keys are read, want the good one", len(all))
		}
		if n := r.Unread(); n != 3 {
			t.Fatalf("%d are kept unread, want 3", n)
		}
		if !bytes.Equal(r.unread.keys[0].cert, bad) || r.unread.keys[0].owner != wot.OwnerMarginal || !r.unread.keys[0].verified {
			t.Fatal("what is not read is not kept as it was")
		}
		if err := r.SetOwner(good.Certificate().Fingerprint(), wot.OwnerFull); err != nil {
			t.Fatal(err)
		}
	}
	other, err := pgp.Generate("Other", "", now)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetOwn(other); err == nil {
		t.Error("a key of the user's own that cannot be read was replaced")
	}
}

// FuzzRing: what is in the file, once it is open, is held to its limits.
func FuzzRing(f *testing.F) {
	s := state{all: map[wot.Fingerprint]entry{}, devices: map[[32]byte]Device{{1}: {Name: "d", Certified: Certified{Record: []byte{1}}}}, need: wot.NeedFull}
	b, err := encode(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	s.former = [][]byte{{1, 2}, {3}}
	if b, err = encode(s); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Fatalf("what was read is not written so that it can be read: %v", err)
		}
	})
}

// FuzzCards: what strangers send changes nothing unless it is good.
func FuzzCards(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	own, err := pgp.Generate("Own", "", now)
	if err != nil {
		f.Fatal(err)
	}
	r, err := Open(f.TempDir(), [32]byte{})
	if err == nil {
		err = r.SetOwn(own)
	}
	if err == nil {
		err = r.Claim(Record{Sign: [32]byte{5}, KEM: []byte{1}, Name: "d", Created: now}, now)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Cards())
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := Open(dir, [32]byte{})
		if err != nil {
			t.Fatal(err)
		}
		member := func(k [32]byte) bool { return k == [32]byte{5} }
		if _, err := q.Told(b, [16]byte{}, now, member); err != nil {
			return
		}
		for k, d := range q.devices {
			if k != [32]byte{5} || len(d.Certified.Record) == 0 {
				t.Fatalf("it keeps %x", k)
			}
		}
		if err := os.RemoveAll(q.path()); err != nil {
			t.Fatal(err)
		}
	})
}
