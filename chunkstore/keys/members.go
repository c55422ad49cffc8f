package keys

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
)

// A Member is a device that the members log has named.
type Member struct {
	Public  DevicePublic
	Name    string
	Roles   Roles
	Added   uint64    // the entry that added it
	Time    time.Time // when, as its writer said
	Revoked uint64    // the entry that revoked it, 0 if none
	Last    Mark      // if revoked: its last head that counts
}

// Members is the verified members log of a drive, up to one entry. It does not change
// and is safe for concurrent use. LoadMembers makes one.
type Members struct {
	ring    *Ring
	owner   [ed25519.PublicKeySize]byte
	hashes  [][32]byte // of entry 1, 2, …
	epoch   uint32
	members map[DeviceID]Member
	short   map[causal.Device]DeviceID
	wraps   map[wrapOf]wrapBy
}

type wrapOf struct {
	device DeviceID
	epoch  uint32
}

type wrapBy struct {
	by     DeviceID
	sealed []byte
}

// LoadMembers reads the log of a drive and verifies it from its first entry on: that each
// entry opens, was signed by the owner or by a device that was an Admin then, names the hash of
// the one before, and follows the rules of apply. The errors wrap ErrTampered,
// ErrFork for two entries in one place, or ErrIncomplete for a gap or an empty log. That a
// log is shorter than one seen before only the caller can know: see Members.Follows.
func LoadMembers(ctx context.Context, bucket blob.Bucket, ring *Ring, owner [ed25519.PublicKeySize]byte) (*Members, error) {
	var names []blob.Name
	for info, err := range bucket.List(ctx, memberPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list members: %w", err)
		}
		name := firstName(info.Name)
		if _, ok := entrySeq(name); !ok || len(names) > 0 && names[len(names)-1] == name {
			continue // Verify reports strange names
		}
		if names = append(names, name); len(names) > maxEntries {
			return nil, fmt.Errorf("list members: %w: more than %d", ErrTampered, maxEntries)
		}
	}
	m := newMembers(ring, owner)
	for i, name := range names {
		seq, _ := entrySeq(name)
		if i > 0 {
			if before, _ := entrySeq(names[i-1]); before == seq {
				return nil, m.forked(ctx, bucket, names[i-1], name)
			}
		}
		if want := uint64(len(m.hashes)) + 1; seq != want {
			return nil, fmt.Errorf("%w: entry %d of the members log is missing", ErrIncomplete, want)
		}
		err := getEither(ctx, bucket, name, func(b []byte) error { return m.add(name, b) })
		if err != nil {
			return nil, err
		}
	}
	if len(m.hashes) == 0 {
		return nil, fmt.Errorf("%w: the members log is missing", ErrIncomplete)
	}
	return m, nil
}

// maxEntries is the most entries that a log is read with: adding and revoking every device,
// and every epoch.
const maxEntries = 2*MaxDevices + maxEpochs

func newMembers(ring *Ring, owner [ed25519.PublicKeySize]byte) *Members {
	return &Members{
		ring: ring, owner: owner,
		members: map[DeviceID]Member{}, short: map[causal.Device]DeviceID{}, wraps: map[wrapOf]wrapBy{},
	}
}

// forked tells a fork from a blob that somebody without keys put beside an entry. a and b bear
// one sequence number, and a was added to m.
func (m *Members) forked(ctx context.Context, bucket blob.Bucket, a, b blob.Name) error {
	var e *Entry
	var s Signed
	err := getEither(ctx, bucket, b, func(p []byte) (err error) {
		e, s, err = openEntry(m.ring, b, p)
		return err
	})
	if err == nil {
		err = m.checkSigner(e, s)
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s and %s", ErrFork, a, b)
}

func (m *Members) checkSigner(e *Entry, s Signed) error {
	if e.By == (DeviceID{}) {
		return s.Check(m.owner, SignMember)
	}
	by, ok := m.members[e.By]
	if !ok || by.Revoked != 0 || by.Roles&Admin == 0 {
		return fmt.Errorf("%w: %s may not sign", ErrTampered, e.By)
	}
	return s.Check(by.Public.Sign, SignMember)
}

// add opens, verifies and applies the next entry. It changes nothing if it returns an error.
func (m *Members) add(name blob.Name, b []byte) error {
	e, s, err := openEntry(m.ring, name, b)
	if err != nil {
		return err
	}
	if err := m.checkSigner(e, s); err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	if e.Seq != uint64(len(m.hashes))+1 || e.Prev != m.Mark().Hash {
		return fmt.Errorf("open %s: %w: it does not follow the entry before", name, ErrTampered)
	}
	if err := m.apply(e); err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	m.hashes = append(m.hashes, s.Hash())
	return nil
}

// apply holds an entry against the rules and takes it in:
//
//   - the first one adds a device, is signed by the owner and begins epoch 1;
//   - the epoch never falls, and rises by one with OpEpoch and at no other time;
//   - no device is added twice, not even after it was revoked, nor one whose short name another
//     device has or which is zero;
//   - only a member is revoked, and once;
//   - a new epoch is wrapped to exactly the devices that are members.
func (m *Members) apply(e *Entry) error {
	first := len(m.hashes) == 0
	epoch := m.epoch
	if first || e.Op == OpEpoch {
		epoch++
	}
	if first && (e.Op != OpAdd || e.By != DeviceID{}) || e.Epoch != epoch {
		return fmt.Errorf("%w: epoch or first entry", ErrTampered)
	}
	switch e.Op {
	case OpAdd:
		short := e.Device.Short()
		if _, ok := m.short[short]; ok || short == 0 || len(m.members) == MaxDevices {
			return fmt.Errorf("%w: device %s cannot be added", ErrTampered, e.Device)
		}
		m.short[short] = e.Device
		m.members[e.Device] = Member{Public: e.Public, Name: e.Name, Roles: e.Roles, Added: e.Seq, Time: e.Time}
	case OpRevoke:
		d, ok := m.members[e.Device]
		if !ok || d.Revoked != 0 {
			return fmt.Errorf("%w: device %s is no member", ErrTampered, e.Device)
		}
		d.Revoked, d.Last = e.Seq, e.Last
		m.members[e.Device] = d
	case OpEpoch:
		var want, got []DeviceID
		for id := range m.Active() {
			want = append(want, id)
		}
		for _, w := range e.Wraps {
			got = append(got, w.Device)
		}
		if !slices.Equal(want, got) {
			return fmt.Errorf("%w: the new epoch is not for the members", ErrTampered)
		}
	}
	m.epoch = epoch
	for _, w := range e.Wraps {
		m.wraps[wrapOf{w.Device, e.Epoch}] = wrapBy{e.By, w.Sealed}
	}
	return nil
}

// Mark returns the newest entry of the log, for the caller to remember.
func (m *Members) Mark() Mark {
	n := len(m.hashes)
	if n == 0 {
		return Mark{}
	}
	return Mark{Seq: uint64(n), Hash: m.hashes[n-1]}
}

// Follows returns nil if the log goes on from seen, an entry that the caller
// remembers. Otherwise the error wraps ErrRollback if the log ends before it, ErrFork if
// another entry stands in its place. Every log follows the zero Mark.
func (m *Members) Follows(seen Mark) error {
	switch {
	case seen.Seq == 0:
		return nil
	case seen.Seq > uint64(len(m.hashes)):
		return fmt.Errorf("%w: the members log ends at entry %d, and %d was seen", ErrRollback, len(m.hashes), seen.Seq)
	case m.hashes[seen.Seq-1] != seen.Hash:
		return fmt.Errorf("%w: entry %d of the members log is another one now", ErrFork, seen.Seq)
	}
	return nil
}

// Owner returns the owner's public key.
func (m *Members) Owner() [ed25519.PublicKeySize]byte { return m.owner }

// Member returns a device by its ID, also a revoked one.
func (m *Members) Member(id DeviceID) (Member, bool) {
	d, ok := m.members[id]
	return d, ok
}

// ByShort returns the ID of the device with a short name.
func (m *Members) ByShort(short causal.Device) (DeviceID, bool) {
	id, ok := m.short[short]
	return id, ok
}

// All yields every device that the log has ever named, in the order of their IDs.
func (m *Members) All() iter.Seq2[DeviceID, Member] {
	return func(yield func(DeviceID, Member) bool) {
		ids := make([]DeviceID, 0, len(m.members))
		for id := range m.members {
			ids = append(ids, id)
		}
		slices.SortFunc(ids, func(a, b DeviceID) int { return slices.Compare(a[:], b[:]) })
		for _, id := range ids {
			if !yield(id, m.members[id]) {
				return
			}
		}
	}
}

// Active yields the devices that are members, in the order of their IDs.
func (m *Members) Active() iter.Seq2[DeviceID, Member] {
	return func(yield func(DeviceID, Member) bool) {
		for id, d := range m.All() {
			if d.Revoked == 0 && !yield(id, d) {
				return
			}
		}
	}
}

// CheckWraps opens each wrap that the log has for d and compares the secret in it with the
// Ring's. The error wraps ErrTampered, or ErrNotMember if there is none.
func (m *Members) CheckWraps(d *Device) error {
	found := false
	for epoch := uint32(1); epoch <= m.ring.Epoch(); epoch++ {
		w, ok := m.wraps[wrapOf{d.ID(), epoch}]
		if !ok {
			continue
		}
		found = true
		ds, ok := d.unwrapSecret(w.sealed, m.ring.drive, epoch, w.by)
		if !ok || ds != m.ring.secrets[epoch-1] {
			return fmt.Errorf("%w: the secret of epoch %d in the members log", ErrTampered, epoch)
		}
	}
	if !found {
		return fmt.Errorf("%w: %s", ErrNotMember, d.ID())
	}
	return nil
}
