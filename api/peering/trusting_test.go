package peering_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/trust"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// trusting makes a machine whose user has an OpenPGP key.
func trusting(t *testing.T, name string) (*machine, *pgp.Secret) {
	t.Helper()
	m := newMachine(t, name)
	own, err := pgp.Generate(name, "", time.Now().Add(-time.Hour))
	if err == nil {
		m.ring, err = trust.Open(m.dir, [32]byte{1})
	}
	if err == nil {
		err = m.ring.SetOwn(own)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m, own
}

// claims certifies the device of a machine as its user's, as the daemon does when it is opened.
func (m *machine) claims() {
	m.t.Helper()
	p, now := m.drive.Public(), time.Now()
	if err := m.ring.Claim(trust.Record{Drive: m.drive.DriveID(), Sign: p.Sign, KEM: p.KEM, Name: m.name, Created: now}, now); err != nil {
		m.t.Fatal(err)
	}
}

// vouches compares a key that is known here, and certifies it.
func (m *machine) vouches(of *pgp.Secret, v pgp.Vouch) {
	m.t.Helper()
	f := of.Certificate().Fingerprint()
	err := m.ring.Verify(f, pgp.Hex(f))
	if err == nil {
		err = m.ring.Vouch(f, nil, v, time.Now())
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// place returns another machine as a bucket of this one.
func (m *machine) place(o *machine) blob.Bucket {
	m.t.Helper()
	if err := m.peers.Know(keyOf(o), o.peers.Listening()); err != nil {
		m.t.Fatal(err)
	}
	b, err := m.peers.Place(sheaf.PeerDevice{Key: keyOf(o), Name: o.name, ID: o.drive.Info().Device}).Open(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// reads reports how it is to read from another machine.
func reads(ctx context.Context, b blob.Bucket) error {
	for _, err := range b.List(ctx, "drive/") {
		return err
	}
	return errors.New("nothing is there")
}

func (m *machine) connectedTo(o *machine) bool {
	for _, s := range m.peers.Sessions() {
		if s.Key == keyOf(o) {
			return true
		}
	}
	return false
}

func eventually(t *testing.T, what string, d time.Duration, ok func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > d {
			t.Fatalf("not in %s: %s", d, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(begun)
}

// P4 among devices of one process: A trusts B to introduce, B has let C and D in, and vouches for C. C gets in at A, D does not; and when A takes back what it said of B, C is cut off.
func TestTrust_WhoIsVouchedForGetsIn(t *testing.T) {
	a, _ := trusting(t, "anna")
	b, bob := trusting(t, "bob")
	c, cleo := trusting(t, "cleo")
	d, _ := trusting(t, "dora")
	a.create()
	a.claims()
	b.join(a)
	b.claims()
	c.join(b)
	c.claims()
	d.join(b)
	d.claims()
	knows := func(m *machine, k *pgp.Secret) func() bool {
		return func() bool {
			_, err := m.ring.Find(pgp.Hex(k.Certificate().Fingerprint()), time.Now())
			return err == nil
		}
	}
	eventually(t, "A knows whose device B is", 20*time.Second, knows(a, bob))
	eventually(t, "B knows whose device C is", 20*time.Second, knows(b, cleo))
	a.vouches(bob, pgp.Vouch{Depth: 1, Amount: wot.AmountFull})
	if err := a.ring.SetNeed(wot.NeedFull); err != nil {
		t.Fatal(err)
	}
	cAtA, dAtA := c.place(a), d.place(a)
	for _, x := range []struct {
		who string
		b   blob.Bucket
	}{{"C, for which nobody vouches yet,", cAtA}, {"D", dAtA}} {
		eventually(t, x.who+" is refused", 20*time.Second, func() bool { // its session is cut at first
			err := reads(t.Context(), x.b)
			if err == nil {
				t.Errorf("%s gets in", x.who)
			}
			return errors.Is(err, blob.ErrUnauthorized)
		})
	}
	b.vouches(cleo, pgp.Vouch{})
	took := eventually(t, "C gets in, once B vouches for it", 30*time.Second, func() bool { return reads(t.Context(), cAtA) == nil })
	t.Logf("C is let in %s after B vouched for it", took)
	if err := reads(t.Context(), dAtA); !errors.Is(err, blob.ErrUnauthorized) {
		t.Errorf("D gets in: %v", err)
	}
	if v, _ := a.ring.Accept(keyOf(c), a.drive.DriveID(), true, time.Now()); v.Reason != wot.Vouched || len(v.Path) != 2 {
		t.Errorf("C is accepted for %+v", v)
	}
	if err := a.ring.Withdraw(bob.Certificate().Fingerprint(), time.Now()); err != nil {
		t.Fatal(err)
	}
	took = eventually(t, "C is cut off", 10*time.Second, func() bool { return !a.connectedTo(c) && !c.connectedTo(a) })
	t.Logf("C was cut off after %s", took)
	if err := reads(t.Context(), cAtA); err == nil {
		t.Error("C gets in again")
	}
}

// A device that is limited to reading puts and removes nothing here, whatever it tries.
func TestTrust_AReadOnlyDevicePutsNothing(t *testing.T) {
	a, _ := trusting(t, "anna")
	b, _ := trusting(t, "bob")
	a.create()
	b.join(a)
	at := b.place(a)
	ctx := t.Context()
	put := func(name blob.Name) error { return at.Put(ctx, name, bytes.NewReader([]byte("x")), 1) }
	if err := put("heads/00/1"); err != nil {
		t.Fatalf("a member that is not limited: %v", err)
	}
	if err := a.ring.SetDevice(keyOf(b), func(d *trust.Device) { d.Limit = trust.LimitReadOnly }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []blob.Name{"heads/00/2", "members/00", "keys/1", "index/1", "drive/1"} {
		if err := put(name); !errors.Is(err, blob.ErrUnauthorized) {
			t.Errorf("it puts %s: %v", name, err)
		}
		if err := at.Remove(ctx, name, "heads/00/1"); !errors.Is(err, blob.ErrUnauthorized) {
			t.Errorf("it removes %s: %v", name, err)
		}
	}
	if err := reads(ctx, at); err != nil {
		t.Errorf("it does not read: %v", err)
	}
	n := 0
	for info, err := range a.shelf.List(ctx, "heads/00/") {
		if n++; err != nil || info.Name != "heads/00/1" {
			t.Errorf("on A's shelf is %s, %v", info.Name, err)
		}
	}
	if n != 1 {
		t.Errorf("%d heads of the test are on A's shelf, want 1", n)
	}
}
