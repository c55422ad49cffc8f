package keys

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"maps"
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
	Added   [32]byte  // the entry that added it
	Time    time.Time // when, as its writer said
	Revoked bool
	Last    Mark // if revoked: its last head that counts
}

// Members is the verified members log of a drive. It is a function of the set of entries
// alone, in whatever order they came to be known; see resolve for the rules. It does not change and is safe for
// concurrent use. It prints as "[members]".
type Members struct {
	from  source
	ring  *Ring
	nodes map[[32]byte]*node
	order []*node // each after its parents

	members map[DeviceID]Member
	short   map[causal.Device]DeviceID
	added   map[DeviceID][]*node // the entries that add it, of which the first says how
	revoked map[DeviceID][]*node // the entries that revoke it
	slots   map[SlotID][]byte    // those that count
	gone    map[SlotID]bool
	tips    Tips
	stale   bool
}

// source is what a log is opened and verified with.
type source struct {
	root  secret
	drive DriveID
	owner [ed25519.PublicKeySize]byte
	first *Ring // of the drive record
}

// Format prints "[members]" for every verb.
func (*Members) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[members]")) }

// node is an entry in its place.
type node struct {
	hash   [32]byte
	e      *Entry
	s      Signed
	at     int      // in order
	before placeSet // what it comes after, and itself
	void   string   // why it does not count; empty if it does
	foul   bool     // it never could have counted, whatever else is in the log
}

// maxEntries is the most entries that a log is read with.
const maxEntries = 8 * MaxDevices

// placeSet is a set of places in the order.
type placeSet []uint64

func (b placeSet) has(i int) bool { return i/64 < len(b) && b[i/64]>>(i%64)&1 == 1 }

func (b placeSet) or(o placeSet) {
	for i := range o {
		b[i] |= o[i]
	}
}

// source returns what the members log of the drive is opened with.
func (d *Record) source(root *secret) (source, error) {
	ring, err := d.ring(root)
	return source{root: *root, drive: d.Drive, owner: d.Owner, first: ring}, err
}

func newMembers(from source) *Members {
	return &Members{from: from, ring: from.first, nodes: map[[32]byte]*node{}}
}

// loadMembers reads the log of a drive and verifies it. Entries that old has, which may be nil, are not read again.
// The errors wrap ErrTampered for a blob that is no entry, in both copies, and ErrIncomplete if an entry
// is missing that another one comes after, or all are. That entries are missing that nothing here comes after only the caller can
// know: see Members.Follows.
func loadMembers(ctx context.Context, bucket blob.Bucket, from source, old *Members) (*Members, error) {
	names, err := listFirst(ctx, bucket, memberPrefix, isEntryName)
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("list members: %w: more than %d", ErrTampered, maxEntries)
	}
	m := newMembers(from)
	known := map[blob.Name]*node{}
	if old != nil {
		for _, n := range old.order {
			known[entryName(n.hash)] = n
		}
	}
	// An entry may be sealed under an epoch that begins with another one: what does not open is tried again
	// as long as new epochs come.
	for len(names) > 0 {
		var rest []blob.Name
		var problem error
		before := m.ring
		for _, name := range names {
			n := known[name]
			if n == nil {
				if n, err = readNode(ctx, bucket, m.ring, name); err != nil {
					if !errors.Is(err, ErrTampered) {
						return nil, err
					}
					rest, problem = append(rest, name), errors.Join(problem, err)
					continue
				}
			}
			m.take(n)
		}
		if names = rest; problem != nil && m.ring == before {
			return nil, problem
		}
	}
	if len(m.nodes) == 0 {
		return nil, fmt.Errorf("%w: the members log is missing", ErrIncomplete)
	}
	if err := m.resolve(); err != nil {
		return nil, err
	}
	if len(m.tips) == 0 {
		return nil, fmt.Errorf("%w: the first entry of the members log is missing", ErrIncomplete)
	}
	return m, nil
}

func readNode(ctx context.Context, bucket blob.Bucket, ring *Ring, name blob.Name) (*node, error) {
	n := new(node)
	err := getEither(ctx, bucket, name, func(b []byte) (err error) {
		n.e, n.s, err = openEntry(ring, name, b)
		return err
	})
	n.hash = n.s.Hash()
	return n, err
}

// take adds a node without looking at its place, and the secret of the epoch that it begins.
func (m *Members) take(n *node) {
	m.nodes[n.hash] = &node{hash: n.hash, e: n.e, s: n.s}
	if n.e.Next == nil || n.e.By != (DeviceID{}) || n.s.Check(m.from.owner, SignMember) != nil {
		return
	}
	if ds, ok := n.e.Next.open(m.from.root, m.from.drive); ok {
		m.ring = m.ring.with(epoch{number: n.e.Next.Number, entry: n.hash, secret: ds})
	}
}

// with returns the log with one entry more.
func (m *Members) with(n *node) (*Members, error) {
	more := newMembers(m.from)
	for _, o := range m.order {
		more.take(o)
	}
	more.take(n)
	return more, more.resolve()
}

// Reload reads the log anew from a Bucket. It may have less than m has: see Follows. The errors wrap ErrTampered or
// ErrIncomplete.
func (m *Members) Reload(ctx context.Context, bucket blob.Bucket) (*Members, error) {
	return loadMembers(ctx, bucket, m.from, m)
}

// Tips returns the newest entries of the log, for the caller to remember. Entries that do not count are not among them.
func (m *Members) Tips() Tips { return m.tips }

// Follows returns nil if the log has all that seen stands for, which the caller remembers or
// another device has seen. Otherwise the error wraps ErrRollback.
func (m *Members) Follows(seen Tips) error {
	for _, h := range seen {
		if m.nodes[h] == nil {
			return fmt.Errorf("%w: entry %x of the members log was seen, and is not shown", ErrRollback, h[:8])
		}
	}
	return nil
}

// covers returns the places of all entries that t stands for.
func (m *Members) covers(t Tips) placeSet {
	all := make(placeSet, len(m.order)/64+1)
	for _, h := range t {
		if n := m.nodes[h]; n != nil {
			all.or(n.before)
		}
	}
	return all
}

// Includes reports whether t stands for all that u stands for. The log must have both: see Follows.
func (m *Members) Includes(t, u Tips) bool {
	all := m.covers(t)
	return !slices.ContainsFunc(u, func(h [32]byte) bool { n := m.nodes[h]; return n == nil || !all.has(n.at) })
}

// WasMember reports whether a device was a member by the log as t stands for it: it had been added, and
// was not revoked.
func (m *Members) WasMember(t Tips, id DeviceID) bool {
	all := m.covers(t)
	in := func(n *node) bool { return all.has(n.at) }
	return slices.ContainsFunc(m.added[id], in) && !slices.ContainsFunc(m.revoked[id], in)
}

// LeastEpoch returns the lowest number of an epoch that was to be written under by the log as t stands for it: no device that is revoked
// there has the secret of that one.
func (m *Members) LeastEpoch(t Tips) uint32 {
	least, all := uint32(1), m.covers(t)
	for _, by := range m.revoked {
		for _, n := range by {
			if all.has(n.at) {
				least = max(least, n.e.Next.Number)
			}
		}
	}
	return least
}

// Ring returns the secrets of the drive, with those of all epochs that the log begins.
func (m *Members) Ring() *Ring { return m.ring }

// Stale reports whether a revoked device has the secret of the newest epoch, so that nothing more must be written under
// it: several devices were revoked at the same time, or a writer was cut off. Account.Settle ends that.
func (m *Members) Stale() bool { return m.stale }

// Owner returns the owner's public key.
func (m *Members) Owner() [ed25519.PublicKeySize]byte { return m.from.owner }

// Member returns a device by its ID, also a revoked one.
func (m *Members) Member(id DeviceID) (Member, bool) {
	d, ok := m.members[id]
	return d, ok
}

// Named reports whether an entry names the device, be it one that does not count: it may have been a member
// for who did not know all yet.
func (m *Members) Named(id DeviceID) bool {
	return slices.ContainsFunc(m.order, func(n *node) bool { return n.e.Op == OpAdd && n.e.Device == id })
}

// ByShort returns the ID of the device with a short name.
func (m *Members) ByShort(short causal.Device) (DeviceID, bool) {
	id, ok := m.short[short]
	return id, ok
}

// All yields every device that the log has named, in the order of their IDs. One that was added by an entry that
// does not count any more is not among them.
func (m *Members) All() iter.Seq2[DeviceID, Member] {
	return func(yield func(DeviceID, Member) bool) {
		ids := slices.SortedFunc(maps.Keys(m.members), func(a, b DeviceID) int { return slices.Compare(a[:], b[:]) })
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
			if !d.Revoked && !yield(id, d) {
				return
			}
		}
	}
}

// CheckWraps opens each wrap that the log has for d and compares the secret in it with the
// Ring's. The error wraps ErrTampered, or ErrNotMember if there is none.
func (m *Members) CheckWraps(d *Device) error {
	found := false
	for _, n := range m.order {
		number := n.e.Epoch
		if n.e.Next != nil {
			number = n.e.Next.Number
		}
		for _, w := range n.e.Wraps {
			if n.void != "" || w.Device != d.ID() {
				continue
			}
			found = true
			ds, ok := d.unwrapSecret(w.Sealed, m.ring.drive, number, n.e.By)
			if !ok || !m.ring.has(number, n, ds) {
				return fmt.Errorf("%w: the secret of epoch %d in the members log", ErrTampered, number)
			}
		}
	}
	if !found {
		return fmt.Errorf("%w: %s", ErrNotMember, d.ID())
	}
	return nil
}

// has reports whether ds is the secret that n wraps: of the epoch that it begins, or else of one with the number.
func (r *Ring) has(number uint32, n *node, ds secret) bool {
	return slices.ContainsFunc(r.epochs, func(e epoch) bool {
		return e.number == number && e.secret == ds && (n.e.Next == nil || e.entry == n.hash)
	})
}
