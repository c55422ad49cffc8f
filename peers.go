package sheaf

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// A PeerDevice is another device of the drive, as those that reach it directly know it.
type PeerDevice struct {
	Key    [32]byte // its public Ed25519 key
	ID     string   // SHF-…
	Name   string
	Writer bool
}

// Signer signs as this device, for the certificate that it shows to its peers.
func (d *Drive) Signer() crypto.Signer { return d.device.Signer() }

// FindSecrets returns what the devices of the drive find each other by: a secret for each epoch, the one to speak under first. Who was revoked does not have the newest.
func (d *Drive) FindSecrets() [][32]byte { return d.account.Members().Ring().DeriveAll(kdf.Find) }

// TrustKey returns the key under which this device seals the OpenPGP keys that it knows.
func (d *Drive) TrustKey() [32]byte {
	key, _ := d.account.Ring.DeriveEpoch(kdf.OpenPGP, 1) // what never leaves the device is under the first epoch, for good
	return key
}

// DriveID returns which drive it is.
func (d *Drive) DriveID() [16]byte { return d.account.Ring.Drive() }

// Peers returns the other devices that are members, in the order of their IDs. It is quick.
func (d *Drive) Peers() []PeerDevice {
	found := map[keys.DeviceID]keys.Member{}
	for _, m := range []*keys.Members{d.account.Members(), d.refs.Members()} { // a new entry is in one of them first
		for id, x := range m.Active() {
			if id != d.device.ID() && d.isMember(id) == nil {
				found[id] = x
			}
		}
	}
	var all []PeerDevice
	for _, m := range found {
		all = append(all, peerOf(m))
	}
	slices.SortFunc(all, func(a, b PeerDevice) int { return strings.Compare(a.ID, b.ID) })
	return all
}

func peerOf(m keys.Member) PeerDevice {
	return PeerDevice{Key: m.Public.Sign, ID: m.Public.Fingerprint().String(), Name: m.Name, Writer: m.Roles&keys.Writer != 0}
}

// PeerByKey returns the member with a public key. The error is ErrNoDevice if there is none and wraps ErrNotMember if it was revoked, as far as is known here. It is quick: it is asked
// at each handshake and each call of a peer.
func (d *Drive) PeerByKey(key [32]byte) (PeerDevice, error) {
	for _, m := range []*keys.Members{d.account.Members(), d.refs.Members()} { // a new entry is in one of them first
		for id, x := range m.All() {
			if x.Public.Sign == key {
				if err := d.isMember(id); err != nil {
					return PeerDevice{}, err
				}
				return peerOf(x), nil
			}
		}
	}
	return PeerDevice{}, ErrNoDevice
}

// isMember reports whether a device was revoked by what is known from the log, wherever that was read last.
func (d *Drive) isMember(id keys.DeviceID) error {
	for _, m := range []*keys.Members{d.account.Members(), d.refs.Members()} {
		if x, ok := m.Member(id); ok && x.Revoked {
			return fmt.Errorf("%w: %s was revoked", ErrNotMember, x.Public.Fingerprint())
		}
	}
	return nil
}

// Introduced reads the log of members as another device has it, which says that it is a member where this one does not know that: whoever has let it in may be away, or gone. It takes what
// a holder of the drive's keys has written, as from any place, and nothing else. Whether that device is a member by then PeerByKey says.
func (d *Drive) Introduced(ctx context.Context, from blob.Bucket) error {
	r := d.o.Replication
	if r == nil {
		return fmt.Errorf("read the log of members of another device: %w", errors.ErrUnsupported)
	}
	v := &vetter{account: d.account, bucket: d.o.Bucket}
	o := replica.FetchOptions{Own: r.Tier.Own(), Part: true}
	o.Check = func(name blob.Name, body []byte) error { return v.check(ctx, name, body) }
	if _, err := replica.Fetch(ctx, logOnly{from}, r.Mirror, o); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.o.Log.Debug("not all of what a device shows of the log of members is taken", "err", err)
	}
	err := d.account.Refresh(ctx)
	if errors.Is(err, keys.ErrIncomplete) || errors.Is(err, keys.ErrRollback) {
		return nil // it is not all here yet
	}
	return err
}

// logOnly is the members log of a bucket, and nothing else of it.
type logOnly struct{ blob.Bucket }

// List implements [blob.Bucket].
func (b logOnly) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	const members = "members/"
	switch {
	case strings.HasPrefix(string(prefix), members):
		return b.Bucket.List(ctx, prefix)
	case strings.HasPrefix(members, string(prefix)):
		return b.Bucket.List(ctx, members)
	}
	return func(func(blob.Info, error) bool) {}
}

// Welcome makes a device a member that a person has let in: see keys.Account.Welcome. The log with it goes to all replicas. What is written by now is committed first, so that the
// new device, which looks at once, finds it.
func (d *Drive) Welcome(ctx context.Context, p keys.DevicePublic, name string) ([]byte, error) {
	if err := d.Commit(ctx); err != nil {
		d.o.Log.Warn("what is not committed yet comes later to a new device", "error", err)
	}
	d.keysMu.Lock()
	defer d.keysMu.Unlock()
	gift, err := d.account.Welcome(ctx, p, keys.EnrollOptions{Name: name, Roles: keys.Writer | keys.Admin, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	if d.replicas != nil {
		d.replicas.engine.Nudge()
	}
	return gift, nil
}

// Arrive opens a drive for the first time on a device that was welcomed: its device file is in o.Dir. It fetches from the places first. If what they show does not have all of
// tips, they hide something of the members log, and the error wraps keys.ErrRollback.
//
// A device shows the heads of all others, but of their packs only those that they have brought to it: the rest may be at places of which nothing is known here. So where something is missing
// that the drive does not open without, Arrive waits for what is brought to this device, as long as more of it comes: see patience.
func Arrive(ctx context.Context, o Options, tips keys.Tips) (*Drive, error) {
	setDefaults(&o)
	if err := o.Replication.Fetch(ctx, o.Log); err != nil {
		return nil, fmt.Errorf("arrive at drive: %w", err)
	}
	d, err := openHere(ctx, o)
	for tried := -1; errors.Is(err, chunkstore.ErrMissing); {
		n, more := o.Replication.more(ctx, tried)
		if !more {
			break
		}
		o.Log.Info("what the drive begins on is at a place that is not known here: it waits for what others bring", "packs", n, "err", err)
		tried = n
		d, err = openHere(ctx, o)
	}
	if err != nil {
		return nil, fmt.Errorf("arrive at drive: %w", err)
	}
	err = d.account.Members().Follows(tips)
	if err == nil {
		err = o.Replication.purge(ctx, d.account, o.Log)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("arrive at drive: %w", err), d.Close(ctx))
	}
	return d, nil
}

// patience is how long a device that arrives waits for the next pack that others bring to it: whoever has let it in gets it from a place first.
const patience = 30 * time.Second

// more waits until others have brought another number of packs to this device than n, and returns it. It reports whether that came to pass.
func (r *Replication) more(ctx context.Context, n int) (int, bool) {
	tick := time.NewTicker(patience / 100)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; {
		if now, err := r.brought(ctx); err == nil && now != n {
			return now, true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n, false
		}
		if !time.Now().Before(end) {
			return n, false
		}
	}
}

// brought returns how many packs others have put on this device.
func (r *Replication) brought(ctx context.Context) (n int, err error) {
	for _, p := range r.Places {
		if !p.Here {
			continue
		}
		err := at(ctx, p, func(b blob.Bucket) error {
			for _, err := range b.List(ctx, pack.Prefix) {
				if err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// Public returns the public half of this device's identity.
func (d *Drive) Public() keys.DevicePublic { return d.device.Public() }
