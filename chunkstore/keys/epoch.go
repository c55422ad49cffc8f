package keys

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// epochSum says of a secret that it is that of an epoch, and tells nothing else of it.
func epochSum(ds *secret, drive DriveID, number uint32) [32]byte {
	return deriveFrom(kdf.EpochSum, ds, drive, number)
}

// open opens the secret of an epoch with the root.
func (n *NextEpoch) open(root secret, drive DriveID) (secret, bool) {
	ds, ok := unboxSecret(&root, drive, n.Number, n.Box)
	if !ok || epochSum(&ds, drive, n.Number) != n.Sum {
		return secret{}, false
	}
	return ds, true
}

// pastAAD binds the box of a past secret to its drive and epoch.
func pastAAD(drive DriveID, number uint32, entry [32]byte) []byte {
	return append(secretAAD(drive, number), entry[:]...)
}

// openPast opens a secret that n, whose own secret is ds, has in Past.
func (n *NextEpoch) openPast(ds *secret, drive DriveID, p Past) (secret, bool) {
	key := deriveFrom(kdf.PastSecret, ds, drive, n.Number)
	plain, ok := unbox(&key, pastAAD(drive, p.Number, p.Entry), p.Box)
	if !ok || len(plain) != len(secret{}) {
		return secret{}, false
	}
	return secret(plain), true
}

// nextEpoch draws the secret of a new epoch: it is boxed under the root, opens the secrets of all epochs that m has, and is
// wrapped to all members but one, which may be nobody.
func (a *Account) nextEpoch(m *Members, but DeviceID) (*NextEpoch, []Wrap, error) {
	drive := m.ring.drive
	number := m.ring.epochs[len(m.ring.epochs)-1].number + 1
	if number > maxEpochs {
		return nil, nil, fmt.Errorf("begin epoch: %d are all there can be", maxEpochs)
	}
	var ds secret
	if _, err := io.ReadFull(a.entropy, ds[:]); err != nil {
		return nil, nil, fmt.Errorf("draw secret: %w", err)
	}
	n := &NextEpoch{Number: number, Sum: epochSum(&ds, drive, number)}
	var err error
	if n.Box, err = boxSecret(&a.root, drive, number, &ds, a.entropy); err != nil {
		return nil, nil, err
	}
	key := deriveFrom(kdf.PastSecret, &ds, drive, number)
	for _, e := range m.ring.epochs {
		b, err := box(&key, pastAAD(drive, e.number, e.entry), e.secret[:], a.entropy)
		if err != nil {
			return nil, nil, err
		}
		n.Past = append(n.Past, Past{Number: e.number, Entry: e.entry, Box: b})
	}
	var wraps []Wrap
	for id, d := range m.Active() {
		if id == but {
			continue
		}
		w, err := wrapSecret(&ds, drive, number, d.Public, DeviceID{})
		if err != nil {
			return nil, nil, err
		}
		wraps = append(wraps, Wrap{Device: id, Sealed: w})
	}
	return n, wraps, nil
}

// RevokeOptions say how a device is revoked.
type RevokeOptions struct {
	Last Mark      // its last head that counts, as far as is known; zero: none counts
	Now  time.Time // kept as information
}

// Revoke ends the membership of a device, for good, and begins a new epoch whose secret it is not given, in one
// entry: whoever knows of the one writes under the other. The error wraps ErrNotMember if it is none.
//
// What it means: what the device puts from then on does not count, whatever date it bears, and its device
// keys open no later secret. What it had read stays readable to it. And a device that took the account root out of its memory, or whose
// key file opens the drive without a passphrase, can still do all that its owner can: only a new root helps against that (see ADR 7).
func (a *Account) Revoke(ctx context.Context, id DeviceID, o RevokeOptions) error {
	err := a.appendEntry(ctx, nil, func(m *Members) (Entry, error) {
		if d, ok := m.Member(id); !ok || d.Revoked {
			return Entry{}, fmt.Errorf("%w: %s", ErrNotMember, id)
		}
		next, wraps, err := a.nextEpoch(m, id)
		return Entry{Op: OpRevoke, Device: id, Last: o.Last, Wraps: wraps, Next: next, Time: o.Now}, err
	})
	if err != nil {
		return fmt.Errorf("revoke device: %w", err)
	}
	return a.Settle(ctx)
}

// settleTries is how often Settle begins an epoch if others revoke devices all the time.
const settleTries = 5

// Settle reads the members log, and begins a new epoch if a revoked device has the secret of the newest: see Members.Stale. Nothing
// more may be written before that.
func (a *Account) Settle(ctx context.Context) error {
	for range settleTries {
		m, err := a.refreshMembers(ctx)
		if err != nil {
			return fmt.Errorf("begin epoch: %w", err)
		}
		if !m.Stale() {
			return nil
		}
		err = a.appendEntry(ctx, nil, func(m *Members) (Entry, error) {
			next, wraps, err := a.nextEpoch(m, DeviceID{})
			return Entry{Op: OpEpoch, Wraps: wraps, Next: next}, err
		})
		if err != nil {
			return fmt.Errorf("begin epoch: %w", err)
		}
	}
	return fmt.Errorf("begin epoch: devices are revoked all the time")
}

// epochFaults says what is wrong with the epoch that n begins, for whoever has the root.
func (m *Members) epochFaults(n *node) error {
	if n.e.Next == nil || n.foul {
		return nil
	}
	own, ok := m.ring.of(n.hash)
	if !ok {
		return fmt.Errorf("%w: the secret of epoch %d does not open", ErrTampered, n.e.Next.Number)
	}
	for _, p := range n.e.Next.Past {
		ds, ok := n.e.Next.openPast(&own.secret, m.ring.drive, p)
		known := slices.ContainsFunc(m.ring.epochs, func(e epoch) bool { return e.entry == p.Entry && e.number == p.Number && e.secret == ds })
		if !ok || !known {
			return fmt.Errorf("%w: the secret of epoch %d does not open that of epoch %d", ErrTampered, n.e.Next.Number, p.Number)
		}
	}
	return nil
}
