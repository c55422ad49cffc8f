package keys

import (
	"context"
	"crypto/ed25519"
	"io"
	"iter"
	"slices"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// forge puts an entry that key has signed into the log, as no method would. Without parents it comes after all that is there.
// It returns its hash.
func (d drive) forge(t testing.TB, key ed25519.PrivateKey, e Entry) [32]byte {
	t.Helper()
	m, err := d.load(t)
	if err != nil {
		t.Fatal(err)
	}
	if e.Parents == nil {
		e.Parents = m.Tips()
	}
	if e.Epoch == 0 {
		e.Epoch = m.ring.Epoch()
	}
	if e.Drive.IsZero() {
		e.Drive = d.account.Record.Drive
	}
	s := sign(key, SignMember, e.encode())
	name := entryName(s.Hash())
	k, ok := m.ring.DeriveEpoch(kdf.Members, e.Epoch)
	if !ok {
		t.Fatalf("no epoch %d", e.Epoch)
	}
	b, err := SealBlob(&k, kdf.Members, e.Epoch, name, s.Encode(), 0, entropy(77))
	if err != nil {
		t.Fatal(err)
	}
	if err := putTwice(t.Context(), d.Bucket, name, b); err != nil {
		t.Fatal(err)
	}
	return s.Hash()
}

func (d drive) load(t testing.TB) (*Members, error) {
	t.Helper()
	return loadMembers(t.Context(), d.Bucket, d.account.Members().from, nil)
}

func (d drive) mustLoad(t testing.TB) *Members {
	t.Helper()
	m, err := d.load(t)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// addEntry is an entry that adds dev.
func (d drive) addEntry(t testing.TB, dev *Device, roles Roles, by DeviceID) Entry {
	t.Helper()
	w, err := wrapSecret(&d.account.Ring.epochs[0].secret, d.account.Record.Drive, 1, dev.public, by)
	if err != nil {
		t.Fatal(err)
	}
	return Entry{Op: OpAdd, Device: dev.ID(), Public: dev.public, Roles: roles, By: by, Wraps: []Wrap{{dev.ID(), w}}}
}

func (d drive) add(t testing.TB, dev *Device, roles Roles) [32]byte {
	t.Helper()
	return d.forge(t, d.account.owner, d.addEntry(t, dev, roles, DeviceID{}))
}

// revoke is the owner's revocation of a device by somebody who knows the log as parents stand for it; nil: as it is.
func (d drive) revoke(t testing.TB, id DeviceID, parents Tips, last Mark) [32]byte {
	t.Helper()
	m := d.mustLoad(t)
	if parents != nil {
		// What such a one has: the entries that parents stand for.
		all, known := m.covers(parents), newMembers(m.from)
		for _, n := range m.order {
			if all.has(n.at) {
				known.take(n)
			}
		}
		wantError(t, "resolve", known.resolve(), nil)
		m = known
	}
	next, wraps, err := d.account.nextEpoch(m, id)
	wantError(t, "next epoch", err, nil)
	return d.forge(t, d.account.owner, Entry{
		Op: OpRevoke, Device: id, Last: last, Next: next, Wraps: wraps, Epoch: m.ring.Epoch(), Parents: m.Tips(),
	})
}

func (d drive) drop(t testing.TB, hash [32]byte) {
	t.Helper()
	remove(t, d.Bucket, entryName(hash), spare(entryName(hash)))
}

func (d drive) copied() drive {
	d.Bucket = d.Clone()
	return d
}

func someDevice(t testing.TB, n uint64) *Device {
	t.Helper()
	dev, err := newDevice(entropy(n))
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// is says of a device what the log says: "no", "yes" or "revoked".
func is(m *Members, dev *Device) string {
	switch d, ok := m.Member(dev.ID()); {
	case !ok:
		return "no"
	case d.Revoked:
		return "revoked"
	}
	return "yes"
}

func wantMembers(t testing.TB, what string, m *Members, want map[*Device]string) {
	t.Helper()
	for dev, w := range want {
		if got := is(m, dev); got != w {
			t.Errorf("%s: device %s: member %s, want %s", what, dev.ID(), got, w)
		}
	}
}

func TestLoadMembers_OwnerAndAdminsMaySignAndNobodyElse(t *testing.T) {
	d := newDrive(t)
	admin, writer, third := someDevice(t, 1), someDevice(t, 2), someDevice(t, 3)
	d.forge(t, d.device.sign, d.addEntry(t, admin, Admin, d.device.ID())) // the first device is an admin
	d.forge(t, admin.sign, d.addEntry(t, writer, Writer, admin.ID()))
	m := d.mustLoad(t)
	wantMembers(t, "added by an admin", m, map[*Device]string{admin: "yes", writer: "yes", third: "no"})
	wantError(t, "wraps", m.CheckWraps(writer), nil)
	for name, forger := range map[string]struct {
		key *Device
		by  DeviceID
	}{
		"a writer":                        {writer, writer.ID()},
		"a stranger":                      {third, third.ID()},
		"a stranger, in the owner's name": {third, DeviceID{}},
		"a writer, in an admin's name":    {writer, admin.ID()},
	} {
		c := d.copied()
		hash := c.forge(t, forger.key.sign, c.addEntry(t, third, Writer, forger.by))
		m := c.mustLoad(t)
		wantMembers(t, name, m, map[*Device]string{admin: "yes", writer: "yes", third: "no"})
		if slices.Contains(m.Tips(), hash) {
			t.Errorf("%s: its entry is a tip", name)
		}
		a, err := Unlock(t.Context(), c.Bucket, Secret{Recovery: d.words}, UnlockOptions{})
		wantError(t, "unlock", err, nil)
		wantError(t, name+": verify", findings(t, a)[entryName(hash)], ErrTampered)
		// And what comes after it does not count either, but does no harm.
		c.forge(t, third.sign, c.addEntry(t, someDevice(t, 4), Writer, third.ID()))
		wantMembers(t, name, c.mustLoad(t), map[*Device]string{writer: "yes", someDevice(t, 4): "no"})
	}
	// After it was revoked an admin signs no more.
	d.revoke(t, admin.ID(), nil, Mark{})
	d.forge(t, admin.sign, d.addEntry(t, third, Writer, admin.ID()))
	wantMembers(t, "revoked admin", d.mustLoad(t), map[*Device]string{admin: "revoked", writer: "yes", third: "no"})
}

// T-A12: the rules of the log, each broken by an entry that the owner himself has signed. None counts, and none
// locks the drive.
func TestLoadMembers_WhatBreaksARuleDoesNotCount(t *testing.T) {
	six := someDevice(t, 6)
	for name, bad := range map[string]struct {
		entry func(t *testing.T, d drive) Entry
		want  error // of loading; nil: it is there and does not count
	}{
		"a revoked device is added again": {func(t *testing.T, d drive) Entry { return d.addEntry(t, someDevice(t, 5), Writer, DeviceID{}) }, nil},
		"a stranger is revoked": {func(t *testing.T, d drive) Entry {
			next, wraps, err := d.account.nextEpoch(d.mustLoad(t), DeviceID{})
			wantError(t, "next", err, nil)
			return Entry{Op: OpRevoke, Device: six.ID(), Next: next, Wraps: wraps}
		}, nil},
		"the secret of an epoch does not open": {func(t *testing.T, d drive) Entry {
			next, wraps, err := d.account.nextEpoch(d.mustLoad(t), DeviceID{})
			wantError(t, "next", err, nil)
			next.Sum[0] ^= 1
			return Entry{Op: OpEpoch, Next: next, Wraps: wraps}
		}, nil},
		"a device revokes": {func(t *testing.T, d drive) Entry {
			next, wraps, err := d.account.nextEpoch(d.mustLoad(t), DeviceID{})
			wantError(t, "next", err, nil)
			return Entry{Op: OpRevoke, Device: d.device.ID(), Next: next, Wraps: wraps, By: d.device.ID()}
		}, nil},
		"a device ends key slots": {func(_ *testing.T, d drive) Entry {
			return Entry{Op: OpSlots, Gone: []SlotID{d.account.Members().slotsOf(RecoverySlot)[0].id}, By: d.device.ID()}
		}, nil},
		"an entry that it comes after is not there": {func(t *testing.T, d drive) Entry {
			e := d.addEntry(t, six, 0, DeviceID{})
			e.Parents = append(Tips{{1}}, d.mustLoad(t).Tips()...)
			return e
		}, ErrIncomplete},
		"an entry is of another drive": {func(t *testing.T, d drive) Entry {
			e := d.addEntry(t, six, 0, DeviceID{})
			e.Drive = DriveID{1}
			return e
		}, ErrTampered},
		"an epoch does not rise": {func(t *testing.T, d drive) Entry {
			next, wraps, err := d.account.nextEpoch(d.mustLoad(t), DeviceID{})
			wantError(t, "next", err, nil)
			next.Number = 2
			return Entry{Op: OpEpoch, Next: next, Wraps: wraps}
		}, ErrTampered},
		"keys are not the device's": {func(t *testing.T, d drive) Entry {
			e := d.addEntry(t, six, 0, DeviceID{})
			e.Public = someDevice(t, 7).public
			return e
		}, ErrTampered},
		"a wrap is missing": {func(t *testing.T, d drive) Entry {
			e := d.addEntry(t, six, 0, DeviceID{})
			e.Wraps = nil
			return e
		}, ErrTampered},
		"a first entry by a device": {func(t *testing.T, d drive) Entry {
			e := d.addEntry(t, six, 0, d.device.ID())
			e.Parents = Tips{}
			return e
		}, ErrTampered},
		"operation 0": {func(*testing.T, drive) Entry { return Entry{} }, ErrTampered},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDrive(t)
			five := someDevice(t, 5)
			d.add(t, five, Writer)
			d.revoke(t, five.ID(), nil, Mark{Seq: 3})
			m := d.mustLoad(t)
			if r, _ := m.Member(five.ID()); !r.Revoked || r.Last.Seq != 3 || m.Stale() || m.ring.Epoch() != 2 {
				t.Errorf("got %+v, stale %t, epoch %d", r, m.Stale(), m.ring.Epoch())
			}
			e := bad.entry(t, d)
			key := d.account.owner
			if e.By != (DeviceID{}) {
				key = d.device.sign
			}
			hash := d.forge(t, key, e)
			m, err := d.load(t)
			if wantError(t, "after", err, bad.want); err != nil {
				d.drop(t, hash)
				d.mustUnlock(t)
				return
			}
			wantMembers(t, "after", m, map[*Device]string{d.device: "yes", five: "revoked", six: "no"})
			if m.Stale() || m.ring.Epoch() != 2 || len(m.slotsOf(RecoverySlot)) != 1 {
				t.Errorf("stale %t, epoch %d, %d recovery slots", m.Stale(), m.ring.Epoch(), len(m.slotsOf(RecoverySlot)))
			}
			d.mustUnlock(t)
		})
	}
}

func TestApply_NoShortNameTwice(t *testing.T) {
	d := newDrive(t)
	m := d.mustLoad(t)
	dev := someDevice(t, 8)
	e := d.addEntry(t, dev, Writer, DeviceID{})
	m.short[dev.ID().Short()] = DeviceID{1} // finding two keys with one short name would take 2^32 tries
	if m.apply(&node{e: &e}) == "" {
		t.Error("a short name is given twice")
	}
	delete(m.short, dev.ID().Short())
	if why := m.apply(&node{e: &e}); why != "" {
		t.Error(why)
	}
}

// T-A20, T-A29 for the log: an entry is missing that others come after, or the newest are, or all.
func TestLoadMembers_FindsWhatIsWithheld(t *testing.T) {
	d := newDrive(t)
	second := d.add(t, someDevice(t, 1), Writer)
	third := d.add(t, someDevice(t, 2), Writer)
	m := d.mustLoad(t)
	saved := d.Clone()

	d.drop(t, third)
	short := d.mustLoad(t)
	wantError(t, "cut", short.Follows(m.Tips()), ErrRollback)
	wantError(t, "longer", m.Follows(short.Tips()), nil)
	wantError(t, "from nothing", m.Follows(nil), nil)

	// Another entry in its place is no fork: both count when both are shown.
	d.add(t, someDevice(t, 3), Writer)
	other := d.mustLoad(t)
	wantError(t, "another third", other.Follows(m.Tips()), ErrRollback)
	put(t, d.Bucket, entryName(third), get(t, saved, entryName(third)))
	both := d.mustLoad(t)
	wantError(t, "both", both.Follows(m.Tips()), nil)
	wantError(t, "both", both.Follows(other.Tips()), nil)
	wantMembers(t, "both", both, map[*Device]string{someDevice(t, 1): "yes", someDevice(t, 2): "yes", someDevice(t, 3): "yes"})
	if len(both.Tips()) != 2 {
		t.Errorf("got %d tips", len(both.Tips()))
	}

	d.Bucket = saved
	for _, c := range []byte("0f") {
		name := entryName(third)[:len(entryName(third))-1] + blob.Name(c)
		if name == entryName(third) {
			continue
		}
		put(t, d.Bucket, name, []byte("garbage"))
		_, err := d.load(t)
		wantError(t, "garbage beside", err, ErrTampered)
		remove(t, d.Bucket, name)
	}
	put(t, d.Bucket, entryName(third), get(t, d.Bucket, spare(entryName(third))))

	d.drop(t, second)
	_, err := d.load(t)
	wantError(t, "gap", err, ErrIncomplete)
	_, err = d.unlock(t)
	wantError(t, "gap", err, ErrIncomplete)
	remove(t, d.Bucket, names(t, d.Bucket, memberPrefix)...)
	_, err = d.load(t)
	wantError(t, "gone", err, ErrIncomplete)
}

// A revocation through the account: a new epoch, whose secret opens the old one and is wrapped to the rest.
func TestRevoke_BeginsAnEpochForTheRest(t *testing.T) {
	d := newDrive(t)
	gone := someDevice(t, 1)
	d.add(t, gone, Writer)
	old := d.account.Ring
	wantError(t, "revoke a stranger", d.account.Revoke(t.Context(), someDevice(t, 2).ID(), RevokeOptions{}), ErrNotMember)
	wantError(t, "revoke", d.account.Revoke(t.Context(), gone.ID(), RevokeOptions{Last: Mark{Seq: 7}, Now: noon}), nil)
	wantError(t, "revoke again", d.account.Revoke(t.Context(), gone.ID(), RevokeOptions{}), ErrNotMember)

	a := d.mustUnlock(t)
	m := a.Members()
	wantMembers(t, "after", m, map[*Device]string{gone: "revoked", d.device: "yes"})
	k1, ok := a.Ring.DeriveEpoch(kdf.Head, 1)
	if !ok || a.Ring.Epoch() != 2 || k1 != old.Derive(kdf.Head) || a.Ring.Derive(kdf.Head) == k1 || m.Stale() {
		t.Error("the epochs are not as they were written")
	}
	wantError(t, "wraps", m.CheckWraps(d.device), nil)
	if found := findings(t, a); len(found) > 0 {
		t.Error(found)
	}
	// T-REV: with its own keys the revoked device opens no secret of the new epoch, and all wraps it has are of the old.
	opened := 0
	for _, n := range m.order {
		for _, w := range n.e.Wraps {
			for number := uint32(1); number <= 2; number++ {
				ds, ok := gone.unwrapSecret(w.Sealed, m.ring.drive, number, n.e.By)
				if ok && ds == m.ring.epochs[1].secret {
					t.Error("the revoked device opens the new secret")
				}
				if ok {
					opened++
				}
			}
		}
	}
	if opened != 1 {
		t.Errorf("%d wraps open", opened)
	}
	// One current secret opens all the past, without the root.
	n := m.nodes[m.ring.epochs[1].entry]
	own, _ := d.device.unwrapSecret(n.e.Wraps[0].Sealed, m.ring.drive, 2, DeviceID{})
	if past, ok := n.e.Next.openPast(&own, m.ring.drive, n.e.Next.Past[0]); !ok || past != old.epochs[0].secret {
		t.Error("the new secret does not open the old one")
	}
	// It works on: devices are added, passphrases set, in the new epoch.
	dev, err := a.Enroll(t.Context(), EnrollOptions{Roles: Writer})
	wantError(t, "enroll", err, nil)
	wantError(t, "wraps of the new device", a.Members().CheckWraps(dev), nil)
	for _, n := range a.Members().order[3:] {
		if n.e.Epoch != 2 {
			t.Errorf("an entry after the revocation is sealed under epoch %d", n.e.Epoch)
		}
	}

	// T-A12: the log of the old epoch alone does not pass for the drive for one who remembers.
	tips := a.Members().Tips()
	d.drop(t, a.Members().nodes[tips[0]].hash)
	d.drop(t, n.hash)
	again, err := d.unlock(t)
	if wantError(t, "old epoch", err, nil); again.Ring.Epoch() != 1 {
		t.Fatalf("epoch %d", again.Ring.Epoch())
	}
	wantError(t, "old epoch", again.Members().Follows(tips), ErrRollback)
	_, err = again.refreshMembers(t.Context())
	wantError(t, "refresh", err, nil)
	_, err = a.refreshMembers(t.Context())
	wantError(t, "refresh by one who remembers", err, ErrRollback)
}

// If only the entry is withheld that begins an epoch, what is sealed under it does not open; but it is not taken for damage alone.
func TestLoadMembers_AnEpochThatIsWithheld(t *testing.T) {
	d := newDrive(t)
	gone := someDevice(t, 1)
	d.add(t, gone, Writer)
	hash := d.revoke(t, gone.ID(), nil, Mark{})
	_, err := d.mustUnlock(t).Enroll(t.Context(), EnrollOptions{})
	wantError(t, "enroll", err, nil)
	saved := d.Clone()
	d.drop(t, hash)
	_, err = d.unlock(t)
	wantError(t, "withheld", err, ErrIncomplete)
	d.Bucket = saved
	d.mustUnlock(t)
}

// partial is a Bucket whose listings of members/ leave out what hide says.
type partial struct {
	blob.Bucket
	hide func(blob.Name) bool
}

func (p *partial) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for info, err := range p.Bucket.List(ctx, prefix) {
			if err == nil && p.hide != nil && p.hide(info.Name) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// Two devices enrol, each with a listing that lacks the entry of the other, and a third with one that lacks both: nothing is locked, and all are members.
func TestEnroll_WithPartialListingsLocksNothing(t *testing.T) {
	d := newDrive(t)
	first := len(names(t, d.Bucket, memberPrefix))
	p := &partial{Bucket: d.Bucket}
	var devices []*Device
	genesis := d.mustLoad(t).Tips()[0]
	p.hide = func(n blob.Name) bool {
		return isEntryName(firstName(n)) && firstName(n) != entryName(genesis)
	}
	for range 3 {
		a, err := Unlock(t.Context(), p, Secret{Recovery: d.words}, UnlockOptions{})
		wantError(t, "unlock", err, nil)
		dev, err := a.Enroll(t.Context(), EnrollOptions{Roles: Writer})
		wantError(t, "enroll", err, nil)
		devices = append(devices, dev)
	}
	if n := len(names(t, d.Bucket, memberPrefix)); n != first+6 {
		t.Fatalf("%d blobs", n)
	}
	a := d.mustUnlock(t)
	for _, dev := range devices {
		wantMembers(t, "all shown", a.Members(), map[*Device]string{dev: "yes"})
		wantError(t, "wraps", a.Members().CheckWraps(dev), nil)
	}
	if len(a.Members().Tips()) != 3 {
		t.Errorf("%d tips", len(a.Members().Tips()))
	}
	// The next entry joins them.
	_, err := a.Enroll(t.Context(), EnrollOptions{})
	wantError(t, "enroll", err, nil)
	if got := d.mustLoad(t).Tips(); len(got) != 1 {
		t.Errorf("%d tips", len(got))
	}
	if found := findings(t, d.mustUnlock(t)); len(found) > 0 {
		t.Error(found)
	}
}

// late is a Bucket that, once, lets something happen between a listing of members/ and its answer.
type late struct {
	blob.Bucket
	listed func()
}

func (l *late) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	listed := l.listed
	if prefix != memberPrefix || listed == nil {
		return l.Bucket.List(ctx, prefix)
	}
	l.listed = nil
	var all []blob.Info
	for info, err := range l.Bucket.List(ctx, prefix) {
		if err != nil {
			return func(yield func(blob.Info, error) bool) { yield(blob.Info{}, err) }
		}
		all = append(all, info)
	}
	listed()
	return func(yield func(blob.Info, error) bool) {
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Who reads the log again while a device is revoked does not make the Account forget that, nor the epoch that began with it.
func TestRefresh_ForgetsNothingThatHappensMeanwhile(t *testing.T) {
	d := newDrive(t)
	lost := someDevice(t, 1)
	d.add(t, lost, Writer)
	l := &late{Bucket: d.Bucket}
	a, err := Unlock(t.Context(), l, Secret{Recovery: d.words}, UnlockOptions{})
	wantError(t, "unlock", err, nil)
	l.listed = func() { wantError(t, "revoke", a.Revoke(t.Context(), lost.ID(), RevokeOptions{}), nil) }
	wantError(t, "refresh", a.Refresh(t.Context()), nil)
	wantMembers(t, "after", a.Members(), map[*Device]string{lost: "revoked"})
	if got := a.Members().Ring().Epoch(); got != 2 {
		t.Errorf("got epoch %d, want 2", got)
	}
}

// meddler puts another's entry into the Bucket just before the first entry that is put through it.
type meddler struct {
	blob.Bucket
	before func()
}

func (m *meddler) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if before := m.before; before != nil {
		m.before = nil
		before()
	}
	return m.Bucket.Put(ctx, name, r, size)
}

func TestEnroll_AtTheSameTimeAddsBoth(t *testing.T) {
	d := newDrive(t)
	other := someDevice(t, 4)
	m := &meddler{Bucket: d.Bucket, before: func() { d.add(t, other, Writer) }}
	a, err := Unlock(t.Context(), m, Secret{Recovery: d.words}, UnlockOptions{})
	wantError(t, "unlock", err, nil)
	dev, err := a.Enroll(t.Context(), EnrollOptions{Name: "late"})
	wantError(t, "enroll", err, nil)
	got := d.mustLoad(t)
	wantMembers(t, "both", got, map[*Device]string{other: "yes", dev: "yes"})
	if len(got.Tips()) != 2 {
		t.Errorf("%d tips", len(got.Tips()))
	}
}

// A crash came after the first copy, or before: Admit gives the same device a second entry, and it is the one device that it was.
func TestAdmit_ADeviceThatIsAMemberAlready(t *testing.T) {
	d := newDrive(t)
	a := d.mustUnlock(t)
	m1, _ := a.Members().Member(d.device.ID())
	wantError(t, "admit", a.Admit(t.Context(), d.device, EnrollOptions{Name: "again"}), nil)
	m2, _ := d.mustLoad(t).Member(d.device.ID())
	if m2.Added != m1.Added || m2.Roles != m1.Roles || m2.Name != "first" || m2.Revoked {
		t.Errorf("got %+v", m2)
	}
	// Its first entry is withheld while it is admitted, and comes back: it was a member by either.
	d = newDrive(t)
	dev := someDevice(t, 3)
	hash := d.add(t, dev, Writer)
	old := d.mustLoad(t).Tips()
	blobs := get(t, d.Bucket, entryName(hash))
	d.drop(t, hash)
	wantError(t, "admit", d.mustUnlock(t).Admit(t.Context(), dev, EnrollOptions{Roles: Writer}), nil)
	between := d.mustLoad(t).Tips()
	put(t, d.Bucket, entryName(hash), blobs)
	m := d.mustLoad(t)
	if !m.WasMember(old, dev.ID()) || !m.WasMember(between, dev.ID()) || !m.WasMember(m.Tips(), dev.ID()) {
		t.Error("it was no member by one of its entries")
	}
	// A revoked one stays revoked.
	d.revoke(t, dev.ID(), nil, Mark{})
	wantError(t, "admit", d.mustUnlock(t).Admit(t.Context(), dev, EnrollOptions{Roles: Writer}), nil)
	wantMembers(t, "revoked", d.mustLoad(t), map[*Device]string{dev: "revoked"})
}
