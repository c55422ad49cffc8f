package keys

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// G4: a revocation wins each race, also against entries that are dated back.
func TestResolve_ARevocationWinsEachRace(t *testing.T) {
	d := newDrive(t)
	admin, early, late, puppet, third := someDevice(t, 1), someDevice(t, 2), someDevice(t, 3), someDevice(t, 4), someDevice(t, 5)
	d.add(t, admin, Admin|Writer)
	before := d.mustLoad(t).Tips()
	e := d.addEntry(t, early, Writer, admin.ID())
	d.forge(t, admin.sign, e) // before it is revoked, and the revoker knows it
	known := d.mustLoad(t).Tips()
	// At the same time as the revocation, and seen by others first.
	e = d.addEntry(t, puppet, Admin|Writer, admin.ID())
	e.Parents = known
	d.forge(t, admin.sign, e)
	e = d.addEntry(t, third, Writer, puppet.ID())
	d.forge(t, puppet.sign, e)
	wantMembers(t, "before", d.mustLoad(t), map[*Device]string{early: "yes", puppet: "yes", third: "yes"})
	tips := d.mustLoad(t).Tips()
	d.revoke(t, admin.ID(), known, Mark{})
	m := d.mustLoad(t)
	wantMembers(t, "after", m, map[*Device]string{admin: "revoked", early: "yes", puppet: "no", third: "no", d.device: "yes"})
	wantError(t, "what was seen is there", m.Follows(tips), nil)
	// Long after, dated back.
	d.add(t, someDevice(t, 6), Writer)
	e = d.addEntry(t, late, Writer, admin.ID())
	e.Parents = before
	d.forge(t, admin.sign, e)
	m = d.mustLoad(t)
	wantMembers(t, "dated back", m, map[*Device]string{late: "no", someDevice(t, 6): "yes"})
	if len(m.Tips()) != 1 {
		t.Errorf("%d tips: what does not count is among them", len(m.Tips()))
	}
	// Nothing of this is a finding: it is as it should be.
	if found := findings(t, d.mustUnlock(t)); len(found) > 0 {
		t.Error(found)
	}
}

// Two devices are revoked, each by who sits at the other, at the same time: both are, and no epoch of these two is written under.
func TestResolve_ConcurrentRevocationsOfEachOther(t *testing.T) {
	d := newDrive(t)
	a, b, c := someDevice(t, 1), someDevice(t, 2), someDevice(t, 3)
	for _, dev := range []*Device{a, b, c} {
		d.add(t, dev, Writer|Admin)
	}
	tips := d.mustLoad(t).Tips()
	d.revoke(t, a.ID(), tips, Mark{Seq: 4})
	d.revoke(t, b.ID(), tips, Mark{Seq: 5})
	// And a third says of the last head of a something else: the higher one stands.
	d.revoke(t, a.ID(), tips, Mark{Seq: 6})
	m := d.mustLoad(t)
	wantMembers(t, "after", m, map[*Device]string{a: "revoked", b: "revoked", c: "yes", d.device: "yes"})
	if ma, _ := m.Member(a.ID()); ma.Last.Seq != 6 {
		t.Errorf("last head %d", ma.Last.Seq)
	}
	if !m.Stale() || len(m.ring.epochs) != 4 {
		t.Errorf("stale %t, %d epochs", m.Stale(), len(m.ring.epochs))
	}
	// Whoever would write begins an epoch for the rest first. Two do so at the same time: the same one counts for all.
	one, two := d.copied(), d.copied()
	for _, x := range []drive{one, two} {
		wantError(t, "settle", x.mustUnlock(t).Settle(t.Context()), nil)
	}
	for _, n := range names(t, two.Bucket, memberPrefix) {
		put(t, one.Bucket, n, get(t, two.Bucket, n))
	}
	u := one.mustUnlock(t)
	m = u.Members()
	if m.Stale() || m.ring.Epoch() != 3 || len(m.ring.epochs) != 6 {
		t.Errorf("stale %t, epoch %d of %d", m.Stale(), m.ring.Epoch(), len(m.ring.epochs))
	}
	lowest := m.ring.epochs[4].entry
	if m.ring.epochs[m.ring.newest].entry != lowest {
		t.Error("the epoch to write under is not that of the lowest hash")
	}
	for dev, want := range map[*Device]bool{a: false, b: false, c: true} {
		n := m.nodes[lowest]
		has := slices.ContainsFunc(n.e.Wraps, func(w Wrap) bool { return w.Device == dev.ID() })
		if has != want {
			t.Errorf("device %s has the new secret: %t", dev.ID(), has)
		}
	}
	wantError(t, "settle", u.Settle(t.Context()), nil)
	if len(u.Members().order) != len(m.order) {
		t.Error("an epoch is begun that nobody needs")
	}
	if found := findings(t, u); len(found) > 0 {
		t.Error(found)
	}
	// What was sealed under any epoch opens.
	for i := range m.ring.epochs {
		key := m.ring.derive("head", i)
		b, err := SealBlob(&key, "head", m.ring.epochs[i].number, "heads/x", []byte("text"), 0, entropy(1))
		wantError(t, "seal", err, nil)
		plain, _, err := m.ring.OpenBlob("head", "heads/x", b)
		if wantError(t, "open", err, nil); string(plain) != "text" {
			t.Errorf("got %q", plain)
		}
	}
}

// A crash or a lie of the Bucket leaves a revocation without the devices that were added meanwhile: they are told by CheckWraps and
// hold; the next epoch is for them too.
func TestResolve_AddedWhileAnotherIsRevoked(t *testing.T) {
	d := newDrive(t)
	gone, added := someDevice(t, 1), someDevice(t, 2)
	d.add(t, gone, Writer)
	tips := d.mustLoad(t).Tips()
	e := d.addEntry(t, added, Writer, DeviceID{})
	e.Parents = tips
	d.forge(t, d.account.owner, e)
	d.revoke(t, gone.ID(), tips, Mark{})
	m := d.mustLoad(t)
	wantMembers(t, "both hold", m, map[*Device]string{gone: "revoked", added: "yes"})
	wantError(t, "wraps", m.CheckWraps(added), nil)
	if m.Stale() {
		t.Error("stale")
	}
}

// The log is a function of the set of its entries: random histories, told in random orders and in parts, come to the same.
func TestResolve_IsAFunctionOfTheSet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed(t), 7))
	for round := range 6 {
		d := newDrive(t)
		all := d.mustLoad(t)
		devices := []*Device{d.device}
		for i := range 14 {
			// Somebody who knows a part of it.
			known := Tips{all.order[rnd.IntN(len(all.order))].hash, all.order[rnd.IntN(len(all.order))].hash}
			slices.SortFunc(known, func(a, b [32]byte) int { return slices.Compare(a[:], b[:]) })
			known = slices.Compact(known)
			switch by := devices[rnd.IntN(len(devices))]; rnd.IntN(5) {
			case 0, 1:
				dev := someDevice(t, uint64(100*round+i+1000))
				e := d.addEntry(t, dev, Roles(rnd.IntN(4)), by.ID())
				e.Parents, e.Epoch = known, 1
				d.forge(t, by.sign, e)
				devices = append(devices, dev)
			case 2, 3:
				dev := someDevice(t, uint64(100*round+i+1000))
				e := d.addEntry(t, dev, Admin|Writer, DeviceID{})
				e.Parents, e.Epoch = known, 1
				d.forge(t, d.account.owner, e)
				devices = append(devices, dev)
			case 4:
				d.revoke(t, by.ID(), known, Mark{Seq: uint64(rnd.IntN(9))})
			}
			all = d.mustLoad(t)
		}
		want := all
		for range 5 {
			// By one entry at a time, each after its parents, in another order.
			m := newMembers(want.from)
			order := slices.Clone(want.order)
			for len(order) > 0 {
				i := rnd.IntN(len(order))
				ready := !slices.ContainsFunc(order[i].e.Parents, func(h [32]byte) bool { return m.nodes[h] == nil })
				if !ready {
					continue
				}
				before := m.revoked
				next, err := m.with(order[i])
				wantError(t, "with", err, nil)
				for id := range before {
					if len(next.revoked[id]) < len(before[id]) {
						t.Fatal("a revocation is undone by an entry more")
					}
				}
				m, order = next, slices.Delete(order, i, i+1)
			}
			if !m.tips.Equal(want.tips) || m.stale != want.stale || m.ring.epochs[m.ring.newest] != want.ring.epochs[want.ring.newest] {
				t.Fatal("tips or epoch differ")
			}
			for id, d := range want.members {
				if got, ok := m.members[id]; !ok || got.Revoked != d.Revoked || got.Added != d.Added || got.Last != d.Last || got.Roles != d.Roles {
					t.Fatalf("device %s: got %+v, want %+v", id, got, d)
				}
			}
			if len(m.members) != len(want.members) {
				t.Fatal("other members")
			}
		}
		// Each set that lacks something is a smaller log or an ErrIncomplete.
		for _, n := range want.order {
			c := d.copied()
			c.drop(t, n.hash)
			m, err := c.load(t)
			if err != nil && !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrTampered) { // the latter if its epoch's number is another one's too
				t.Fatal(err)
			}
			if err == nil && len(m.order) != len(want.order)-1 {
				t.Fatal("more than one is gone")
			}
		}
	}
}
