package keys

import (
	"fmt"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
)

// resolve works out what the entries of the log come to. It is a function of their set, so whoever has the same entries comes to the
// same, and nothing that is added can lock the drive: what breaks a rule does not count, and is no error.
//
//	G1  Without an entry that another one comes after there is no log: ErrIncomplete.
//	G2  An entry must be signed by who it says: the owner, or a device that an entry before it has added.
//	    The first entry is the owner's and adds a device.
//	G3  Whatever the owner signs counts. He alone revokes devices, begins epochs and changes key slots.
//	G4  A device that is an Admin may add others. Of a revoked device those entries count that its revocation comes after, and no
//	    other, whatever they say they come after: there is no time in the log, so a date that is false cannot be told from
//	    one that is true. So a revocation wins each race, and two devices that are revoked at the same time are both revoked.
//	G5  What a device has added whose entry does not count is not added, and so on.
//	G6  Entries that do not know of each other all count. Of several that add one device the earliest says how, and none
//	    makes it a member again after it was revoked. No two devices have one short name, and none has the name
//	    zero: the one whose entry is earlier is added. Earlier is what has the shorter way back to the first entry, or else the lower hash.
//	G7  Of several revocations of a device the highest last head counts: no write is lost that one of them let stand.
//	G8  The epoch to write under is the newest that comes after all revocations. If there is none the log is stale: someone
//	    revoked has the secret of each. Of several the one with the highest number, then with the lowest hash.
//	G9  A key slot counts if an entry says so and none says that it is gone.
func (m *Members) resolve() error {
	if err := m.sort(); err != nil {
		return err
	}
	m.members, m.short, m.revoked = map[DeviceID]Member{}, map[causal.Device]DeviceID{}, map[DeviceID][]*node{}
	m.added, m.slots, m.gone = map[DeviceID][]*node{}, map[SlotID][]byte{}, map[SlotID]bool{}
	m.authenticate()
	var epochs []*node
	for _, n := range m.order {
		if n.void == "" {
			n.void = m.denied(n)
		}
		if n.void == "" {
			n.void, n.foul = m.apply(n), true
		}
		if n.void == "" {
			n.foul = false
			if n.e.Next != nil {
				epochs = append(epochs, n)
			}
		}
	}
	m.revoke()
	m.chooseEpoch(epochs)
	for id := range m.gone {
		delete(m.slots, id)
	}
	covered := make(placeSet, len(m.order)/64+1)
	m.tips = nil
	for _, n := range slices.Backward(m.order) {
		if n.void == "" && !covered.has(n.at) {
			m.tips = append(m.tips, n.hash)
			covered.or(n.before)
		}
	}
	slices.SortFunc(m.tips, func(a, b [32]byte) int { return slices.Compare(a[:], b[:]) })
	m.tips = m.tips[:min(len(m.tips), maxTips)]
	return nil
}

// sort puts the nodes in order: by the longest way back to the beginning, then by hash.
func (m *Members) sort() error {
	depth := map[[32]byte]int{}
	var measure func(n *node) (int, error)
	measure = func(n *node) (int, error) {
		if d, ok := depth[n.hash]; ok {
			return d, nil
		}
		deepest := 0
		for _, h := range n.e.Parents {
			p := m.nodes[h]
			if p == nil {
				return 0, fmt.Errorf("%w: %s of the members log is missing, which comes before %s", ErrIncomplete, entryName(h), entryName(n.hash))
			}
			d, err := measure(p)
			if err != nil {
				return 0, err
			}
			deepest = max(deepest, d)
		}
		depth[n.hash] = deepest + 1
		return deepest + 1, nil
	}
	m.order = nil
	for _, n := range m.nodes {
		if _, err := measure(n); err != nil {
			return err
		}
		m.order = append(m.order, n)
	}
	slices.SortFunc(m.order, func(a, b *node) int {
		if d := depth[a.hash] - depth[b.hash]; d != 0 {
			return d
		}
		return slices.Compare(a.hash[:], b.hash[:])
	})
	for i, n := range m.order {
		n.at, n.void, n.foul = i, "", false
		n.before = make(placeSet, len(m.order)/64+1)
		n.before[i/64] |= 1 << (i % 64)
		for _, h := range n.e.Parents {
			n.before.or(m.nodes[h].before)
		}
	}
	return nil
}

// authenticate checks who signed each entry (G2), and collects the revocations. The ID of a device is the hash of its keys, so
// it does not matter which entry tells the keys.
func (m *Members) authenticate() {
	adds := map[DeviceID][]*node{}
	named := func(id DeviceID, n *node) (DevicePublic, bool) {
		for _, a := range adds[id] {
			if a != n && n.before.has(a.at) {
				return a.e.Public, true
			}
		}
		return DevicePublic{}, false
	}
	for _, n := range m.order {
		key := m.from.owner
		if n.e.By != (DeviceID{}) {
			by, ok := named(n.e.By, n)
			if !ok {
				n.void, n.foul = "it is signed by nobody", true
				continue
			}
			key = by.Sign
		}
		if n.s.Check(key, SignMember) != nil {
			n.void, n.foul = "its signature is wrong", true
			continue
		}
		if n.e.By != (DeviceID{}) && n.e.Op != OpAdd {
			n.void, n.foul = "only the owner may do this", true
			continue
		}
		switch n.e.Op {
		case OpAdd:
			adds[n.e.Device] = append(adds[n.e.Device], n)
		case OpRevoke:
			if _, ok := named(n.e.Device, n); !ok {
				n.void, n.foul = "it revokes nobody", true
				continue
			}
			m.revoked[n.e.Device] = append(m.revoked[n.e.Device], n)
		}
	}
}

// denied holds an entry against G3 to G5: whether who signed it might. All before it were looked at.
func (m *Members) denied(n *node) string {
	if n.e.By == (DeviceID{}) {
		return ""
	}
	by, ok := m.members[n.e.By]
	switch {
	case !ok || !slices.ContainsFunc(m.added[n.e.By], func(a *node) bool { return n.before.has(a.at) }):
		return "who signed it was not added"
	case by.Roles&Admin == 0:
		n.foul = true
		return "who signed it is no admin"
	}
	for _, r := range m.revoked[n.e.By] {
		if !r.before.has(n.at) {
			n.foul = n.before.has(r.at)
			return "who signed it is revoked"
		}
	}
	return ""
}

// apply takes an entry in, or says which rule it breaks.
func (m *Members) apply(n *node) string {
	e := n.e
	switch e.Op {
	case OpAdd:
		short := e.Device.Short()
		if id, ok := m.short[short]; ok && id == e.Device {
			break // it is added already
		} else if ok || short == 0 || len(m.members) == MaxDevices {
			return "the device cannot be added"
		}
		m.short[short] = e.Device
		m.members[e.Device] = Member{Public: e.Public, Name: e.Name, Roles: e.Roles, Added: n.hash, Time: e.Time}
	case OpRevoke, OpEpoch:
		// A revocation holds whatever its epoch is, so that is all it can break.
		if _, ok := m.ring.of(n.hash); !ok && e.Op == OpEpoch {
			return "the secret of its epoch does not open"
		}
	}
	if e.Op == OpAdd {
		m.added[e.Device] = append(m.added[e.Device], n)
	}
	for _, b := range e.Slots {
		if s, ok := parseSlot(b); ok && s.drive == m.from.drive && s.fits(&m.from.root) && m.slots[s.id] == nil {
			m.slots[s.id] = b
		}
	}
	for _, id := range e.Gone {
		m.gone[id] = true
	}
	return ""
}

// revoke marks the devices that are revoked, with the last head of each that counts (G7).
func (m *Members) revoke() {
	for id, by := range m.revoked {
		d, ok := m.members[id]
		if !ok {
			continue
		}
		d.Revoked = true
		for _, n := range by {
			if l := n.e.Last; l.Seq > d.Last.Seq || l.Seq == d.Last.Seq && slices.Compare(l.Hash[:], d.Last.Hash[:]) > 0 {
				d.Last = l
			}
		}
		m.members[id] = d
	}
}

// chooseEpoch finds the epoch to write under (G8).
func (m *Members) chooseEpoch(begun []*node) {
	safe := func(n *node) bool {
		for _, by := range m.revoked {
			for _, r := range by {
				if n == nil || !n.before.has(r.at) {
					return false
				}
			}
		}
		return true
	}
	var best *node // nil: the first epoch
	for _, n := range begun {
		if _, ok := m.ring.of(n.hash); !ok {
			continue
		}
		switch better, than := safe(n), safe(best); {
		case better != than:
			if better {
				best = n
			}
		case best == nil || n.e.Next.Number > best.e.Next.Number ||
			n.e.Next.Number == best.e.Next.Number && slices.Compare(n.hash[:], best.hash[:]) < 0:
			best = n
		}
	}
	m.stale = !safe(best)
	var entry [32]byte
	if best != nil {
		entry = best.hash
	}
	m.ring = m.ring.writing(entry)
}
