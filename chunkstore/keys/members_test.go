package keys

import (
	"context"
	"crypto/ed25519"
	"io"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// forge puts an entry that key has signed at the end of the log, as no method would. It
// returns its name.
func (d drive) forge(t testing.TB, key ed25519.PrivateKey, e Entry) blob.Name {
	t.Helper()
	m, err := LoadMembers(t.Context(), d.Bucket, d.account.Ring, d.account.Record.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if e.Seq == 0 {
		e.Seq, e.Prev = m.Mark().Seq+1, m.Mark().Hash
	}
	if e.Epoch == 0 {
		e.Epoch = 1
	}
	if e.Drive.IsZero() {
		e.Drive = d.account.Record.Drive
	}
	s := sign(key, SignMember, e.encode())
	name := entryName(Mark{e.Seq, s.Hash()})
	k, ok := d.account.Ring.DeriveEpoch(kdf.Members, e.Epoch)
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
	return name
}

func (d drive) load(t testing.TB) (*Members, error) {
	t.Helper()
	return LoadMembers(t.Context(), d.Bucket, d.account.Ring, d.account.Record.Owner)
}

// addEntry is an entry that adds dev.
func (d drive) addEntry(t testing.TB, dev *Device, roles Roles, by DeviceID) Entry {
	t.Helper()
	w, err := wrapSecret(&d.account.Ring.secrets[0], d.account.Record.Drive, 1, dev.public, by)
	if err != nil {
		t.Fatal(err)
	}
	return Entry{Op: OpAdd, Device: dev.ID(), Public: dev.public, Roles: roles, By: by, Wraps: []Wrap{{dev.ID(), w}}}
}

func someDevice(t testing.TB, n uint64) *Device {
	t.Helper()
	dev, err := newDevice(entropy(n))
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

func TestLoadMembers_OwnerAndAdminsMaySignAndNobodyElse(t *testing.T) {
	d := newDrive(t)
	admin, writer, third := someDevice(t, 1), someDevice(t, 2), someDevice(t, 3)
	d.forge(t, d.device.sign, d.addEntry(t, admin, Admin, d.device.ID())) // the first device is an admin
	d.forge(t, admin.sign, d.addEntry(t, writer, Writer, admin.ID()))
	m, err := d.load(t)
	wantError(t, "load", err, nil)
	if _, ok := m.Member(writer.ID()); !ok {
		t.Error("the device that an admin added is not there")
	}
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
		copied := d
		copied.Bucket = d.Clone()
		copied.forge(t, forger.key.sign, d.addEntry(t, third, Writer, forger.by))
		_, err := copied.load(t)
		wantError(t, name, err, ErrTampered)
	}
	// After it was revoked an admin signs no more.
	d.forge(t, d.account.owner, Entry{Op: OpRevoke, Device: admin.ID()})
	d.forge(t, admin.sign, d.addEntry(t, third, Writer, admin.ID()))
	_, err = d.load(t)
	wantError(t, "revoked admin", err, ErrTampered)
}

func (d drive) drop(t testing.TB, name blob.Name) {
	t.Helper()
	remove(t, d.Bucket, name, spare(name))
}

// T-A12: the rules of the log, each broken by an entry that the owner himself has signed.
func TestLoadMembers_RefusesWhatBreaksARule(t *testing.T) {
	for name, bad := range map[string]func(t *testing.T, d drive) Entry{
		"a device is added again":         func(t *testing.T, d drive) Entry { return d.addEntry(t, d.device, Writer, DeviceID{}) },
		"a revoked device is added again": func(t *testing.T, d drive) Entry { return d.addEntry(t, someDevice(t, 5), Writer, DeviceID{}) },
		"a stranger is revoked":           func(*testing.T, drive) Entry { return Entry{Op: OpRevoke, Device: DeviceID{1}} },
		"a device is revoked again":       func(t *testing.T, _ drive) Entry { return Entry{Op: OpRevoke, Device: someDevice(t, 5).ID()} },
		"an entry does not name the one before": func(t *testing.T, d drive) Entry {
			e := d.addEntry(t, someDevice(t, 6), 0, DeviceID{})
			e.Seq = 4
			return e
		},
		"an entry is of another drive": func(t *testing.T, d drive) Entry {
			e := d.addEntry(t, someDevice(t, 6), 0, DeviceID{})
			e.Drive = DriveID{1}
			return e
		},
		"an epoch does not rise": func(*testing.T, drive) Entry { return Entry{Op: OpEpoch} },
		"keys are not the device's": func(t *testing.T, d drive) Entry {
			e := d.addEntry(t, someDevice(t, 6), 0, DeviceID{})
			e.Public = someDevice(t, 7).public
			return e
		},
		"a wrap is missing": func(t *testing.T, d drive) Entry {
			e := d.addEntry(t, someDevice(t, 6), 0, DeviceID{})
			e.Wraps = nil
			return e
		},
		"operation 0": func(*testing.T, drive) Entry { return Entry{} },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDrive(t)
			five := someDevice(t, 5)
			d.forge(t, d.account.owner, d.addEntry(t, five, Writer, DeviceID{}))
			d.forge(t, d.account.owner, Entry{Op: OpRevoke, Device: five.ID(), Last: Mark{Seq: 3}})
			m, err := d.load(t)
			wantError(t, "before", err, nil)
			if r, _ := m.Member(five.ID()); r.Revoked != 3 || r.Last.Seq != 3 {
				t.Errorf("got %+v", r)
			}
			d.forge(t, d.account.owner, bad(t, d))
			_, err = d.load(t)
			wantError(t, "after", err, ErrTampered)
		})
	}
}

func TestLoadMembers_RefusesAShortNameTwice(t *testing.T) {
	d := newDrive(t)
	m, err := d.load(t)
	wantError(t, "load", err, nil)
	dev := someDevice(t, 8)
	e := d.addEntry(t, dev, Writer, DeviceID{})
	e.Epoch, e.Seq = 1, 2
	m.short[dev.ID().Short()] = DeviceID{1} // finding two keys with one short name would take 2^32 tries
	wantError(t, "apply", m.apply(&e), ErrTampered)
	delete(m.short, dev.ID().Short())
	wantError(t, "apply", m.apply(&e), nil)
}

// T-A20 for the log: it is forked, has a gap, is cut, or is gone.
func TestLoadMembers_FindsForksGapsAndRollback(t *testing.T) {
	d := newDrive(t)
	second := d.forge(t, d.account.owner, d.addEntry(t, someDevice(t, 1), Writer, DeviceID{}))
	third := d.forge(t, d.account.owner, d.addEntry(t, someDevice(t, 2), Writer, DeviceID{}))
	m, err := d.load(t)
	wantError(t, "load", err, nil)
	saved := d.Clone()

	d.drop(t, third)
	short, err := d.load(t)
	wantError(t, "cut", err, nil)
	wantError(t, "cut", short.Follows(m.Mark()), ErrRollback)
	wantError(t, "longer", m.Follows(short.Mark()), nil)
	wantError(t, "from nothing", m.Follows(Mark{}), nil)

	d.forge(t, d.account.owner, d.addEntry(t, someDevice(t, 3), Writer, DeviceID{}))
	other, err := d.load(t)
	wantError(t, "another third", err, nil)
	wantError(t, "another third", other.Follows(m.Mark()), ErrFork)

	put(t, d.Bucket, third, get(t, saved, third))
	_, err = d.load(t)
	wantError(t, "two thirds", err, ErrFork)

	d.Bucket = saved
	put(t, d.Bucket, third[:len(third)-1]+"f", []byte("garbage"))
	put(t, d.Bucket, third[:len(third)-1]+"0", []byte("garbage"))
	_, err = d.load(t)
	wantError(t, "garbage beside", err, ErrTampered)
	remove(t, d.Bucket, third[:len(third)-1]+"f", third[:len(third)-1]+"0")
	put(t, d.Bucket, third, get(t, d.Bucket, spare(third)))

	d.drop(t, second)
	_, err = d.load(t)
	wantError(t, "gap", err, ErrIncomplete)
	remove(t, d.Bucket, names(t, d.Bucket, memberPrefix)...)
	_, err = d.load(t)
	wantError(t, "gone", err, ErrIncomplete)
}

// A drive of epoch 2: everything walks back to epoch 1, and who was revoked has no wrap.
func TestUnlock_ReadsADriveOfALaterEpoch(t *testing.T) {
	d := newDrive(t)
	gone := someDevice(t, 1)
	d.forge(t, d.account.owner, d.addEntry(t, gone, Writer, DeviceID{}))
	d.forge(t, d.account.owner, Entry{Op: OpRevoke, Device: gone.ID()})
	rec := *d.account.Record
	rec.Version, rec.Prev = 2, d.account.RecordMark.Hash
	secrets := append(d.account.Ring.secrets[:1:1], secret{42})
	wantError(t, "secrets", rec.setSecrets(&d.account.root, secrets, entropy(1)), nil)
	b, mark, err := rec.seal(&d.account.root, entropy(2))
	wantError(t, "seal", err, nil)
	wantError(t, "put", putTwice(t.Context(), d.Bucket, recordName(2), b), nil)
	old := d.account.Ring
	d.account.Ring = &Ring{drive: rec.Drive, secrets: secrets}
	w, err := wrapSecret(&secrets[1], rec.Drive, 2, d.device.public, DeviceID{})
	wantError(t, "wrap", err, nil)
	d.forge(t, d.account.owner, Entry{Op: OpEpoch, Epoch: 2, Wraps: []Wrap{{d.device.ID(), w}}})

	a := d.mustUnlock(t)
	k1, _ := a.Ring.DeriveEpoch(kdf.Head, 1)
	if a.Ring.Epoch() != 2 || k1 != old.Derive(kdf.Head) || a.Ring.Derive(kdf.Head) == k1 || a.RecordMark != mark {
		t.Error("the epochs are not as they were written")
	}
	wantError(t, "wraps", a.Members.CheckWraps(d.device), nil)
	if found := findings(t, a); len(found) > 0 {
		t.Error(found)
	}
	dev, err := a.Enroll(t.Context(), EnrollOptions{Roles: Writer})
	wantError(t, "enroll", err, nil)
	wantError(t, "wraps of the new device", a.Members.CheckWraps(dev), nil)

	// T-A12: the record of the old epoch alone does not pass for the drive.
	d.drop(t, recordName(2))
	_, err = d.unlock(t)
	wantError(t, "old epoch", err, ErrTampered)
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

func TestEnroll_AtTheSameTimeLeavesNoFork(t *testing.T) {
	d := newDrive(t)
	other := someDevice(t, 4)
	m := &meddler{Bucket: d.Bucket, before: func() { d.forge(t, d.account.owner, d.addEntry(t, other, Writer, DeviceID{})) }}
	a, err := Unlock(t.Context(), m, Secret{Recovery: d.words}, UnlockOptions{})
	wantError(t, "unlock", err, nil)
	dev, err := a.Enroll(t.Context(), EnrollOptions{Name: "late"})
	wantError(t, "enroll", err, nil)
	got, err := d.load(t)
	wantError(t, "load", err, nil)
	first, ok1 := got.Member(other.ID())
	second, ok2 := got.Member(dev.ID())
	if !ok1 || !ok2 || first.Added != 2 || second.Added != 3 {
		t.Errorf("got %+v, %+v", first.Added, second.Added)
	}
}
