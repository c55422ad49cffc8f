package manifest

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
)

// A view is what the records of an item come to.
type view struct {
	values []Entry // one for each value, the first keeps the name; Name and Stored are not yet set
	parent NodeID  // the directory that shows it
	exile  exile
	held   bool
}

// exile is why an item is not shown in the directory that its record names.
type exile uint8

const (
	atHome    exile = iota
	orphan          // the directory is dead
	cutCycle        // it is below the item itself; shown where it was before
	cutToRoot       // and that is below the item too, or dead
)

// latestPlace returns the record of the greatest Place, by the rules of places. Records with one
// stamp have one place.
func latestPlace(recs []record) *record {
	best := &recs[0]
	for i := range recs {
		if r := &recs[i]; cmp.Or(r.Place.Compare(best.Place), r.Dot.Compare(best.Dot)) > 0 {
			best = r
		}
	}
	if seeded&bugFirstPlace != 0 {
		return &recs[0]
	}
	return best
}

// latestAttr returns the record of the greatest Attr.
func latestAttr(recs []record) *record {
	best := &recs[0]
	for i := range recs {
		if r := &recs[i]; cmp.Or(r.Attr.Compare(best.Attr), r.Dot.Compare(best.Dot)) > 0 {
			best = r
		}
	}
	return best
}

// valuesOf sorts recs, which are all of one item, into its values: each gets the records of its
// Edit first, and those with Edits that it replaced are hidden behind it. The
// values are in descending order of their Edits, and the first is the one that keeps the name.
func valuesOf(recs []record) [][]record {
	replaced := make(map[causal.Dot]bool)
	for i := range recs {
		for _, p := range recs[i].Past {
			replaced[p] = seeded&bugNoPast == 0
		}
	}
	var edits []causal.Dot
	for i := range recs {
		if e := recs[i].Edit; !replaced[e] && !slices.Contains(edits, e) {
			edits = append(edits, e)
		}
	}
	if len(edits) == 0 { // no writer makes a circle of Pasts; then the greatest stands for all
		for i := range recs {
			edits = append(edits, recs[i].Edit)
		}
		edits = []causal.Dot{slices.MaxFunc(edits, causal.Dot.Compare)}
	}
	slices.SortFunc(edits, func(a, b causal.Dot) int { return b.Compare(a) })
	values := make([][]record, len(edits))
	past := make([]map[causal.Dot]bool, len(edits))
	for i := range recs {
		if v := slices.Index(edits, recs[i].Edit); v >= 0 {
			values[v] = append(values[v], recs[i])
			if past[v] == nil {
				past[v] = make(map[causal.Dot]bool)
			}
			for _, p := range recs[i].Past {
				past[v][p] = true
			}
		}
	}
	for i := range recs {
		if slices.Contains(edits, recs[i].Edit) {
			continue
		}
		v := max(0, slices.IndexFunc(past, func(p map[causal.Dot]bool) bool { return p[recs[i].Edit] }))
		if seeded&bugDropHidden == 0 {
			values[v] = append(values[v], recs[i])
		}
	}
	return values
}

// entriesOf returns an Entry for each value of an item with the records recs, of which place
// says where it is. Name and Stored are those of the place.
func entriesOf(recs []record, place *record) []Entry {
	if len(recs) == 1 { // nearly always
		e := recs[0].Entry
		return []Entry{e}
	}
	values := valuesOf(recs)
	entries := make([]Entry, 0, len(values))
	for _, group := range values {
		n := 0 // records of the value itself come first
		for n < len(group) && group[n].Edit == group[0].Edit {
			n++
		}
		own, attr := latestAttr(group[:n]), latestAttr(group)
		e := own.Entry
		e.Mode, e.UID, e.GID, e.Xattr, e.Attr = attr.Mode, attr.UID, attr.GID, attr.Xattr, attr.Attr
		e.Name, e.Place, e.From = place.Name, place.Place, place.From
		e.Conflict = len(values) > 1
		mixed := !sameAttr(own, attr) || own.Name != place.Name || own.parent != place.parent || own.Place != place.Place || own.From != place.From
		for i := range group {
			if r := &group[i]; mixed || r.Dot != own.Dot {
				h := r.Entry
				h.Stored = &Stored{Parent: r.parent, Name: r.Name}
				if seeded&bugShownPlace != 0 {
					h.Stored = &Stored{Parent: place.parent, Name: place.Name}
					h.Name = place.Name
				}
				e.Hidden = append(e.Hidden, h)
			}
		}
		slices.SortFunc(e.Hidden, func(a, b Entry) int { return a.Dot.Compare(b.Dot) })
		entries = append(entries, e)
	}
	return entries
}

func sameAttr(a, b *record) bool {
	return a.Attr == b.Attr && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID &&
		slices.EqualFunc(a.Xattr, b.Xattr, func(x, y Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) })
}

// placeAll finds the view of every item that was read: its values, and the directory that
// shows it.
func (j *joiner) placeAll() error {
	if err := j.meetRecovered(); err != nil {
		return err
	}
	var dirs []*item
	for _, it := range j.order {
		if len(it.recs) == 0 {
			continue
		}
		it.place = latestPlace(it.recs)
		it.values = entriesOf(it.recs, it.place)
		if it.dir != nil {
			dirs = append(dirs, it)
			continue
		}
		it.parent = it.place.parent
		if alive, err := j.alive(it, it.parent); err != nil {
			return err
		} else if !alive {
			it.parent, it.exile = RecoveredID, orphan
		}
	}
	if err := j.replay(dirs); err != nil {
		return err
	}
	for _, it := range j.order {
		if len(it.recs) > 0 {
			p := j.dirItem(it.parent)
			p.dir.kids = append(p.dir.kids, it)
		}
	}
	return nil
}

// alive reports whether the directory p, that a record of it names, lives on.
func (j *joiner) alive(it *item, p NodeID) (bool, error) {
	if p == RootID || p == RecoveredID {
		return true, nil
	}
	if d := j.items[p]; d != nil {
		return d.dir != nil && len(d.recs) > 0, nil
	}
	if j.force == forceAll {
		return false, nil
	}
	// It was not read, so it is in both trees or in none. A tree that shows an orphan of it has
	// it not.
	for s := range it.at {
		for _, at := range it.at[s] {
			if at.dir == RecoveredID && at.entry.Stored != nil && at.entry.Stored.Parent == p {
				return false, nil
			}
		}
	}
	return false, errUnread
}

// replay puts the directories into the tree in the order of their moves. One that would be below
// itself goes to where it was before, or else to the root.
//
// Only directories that were read take part. That is enough: the parents of a directory
// that was read were read, in the tree that its place comes from, so a circle
// that has one of them has only such.
func (j *joiner) replay(dirs []*item) error {
	slices.SortFunc(dirs, func(a, b *item) int {
		return cmp.Or(a.place.Place.Compare(b.place.Place), bytes.Compare(a.id[:], b.id[:]))
	})
	in := make(map[NodeID]NodeID, len(dirs))
	closes := func(id, parent NodeID) bool {
		for parent != id {
			next, ok := in[parent]
			if !ok {
				return false
			}
			parent = next
		}
		return true
	}
	if seeded&bugNoCycles != 0 {
		closes = func(NodeID, NodeID) bool { return false }
	}
	for _, it := range dirs {
		it.parent = it.place.parent
		alive, err := j.alive(it, it.parent)
		if err != nil {
			return err
		}
		switch {
		case !alive:
			it.parent, it.exile = RecoveredID, orphan
		case closes(it.id, it.parent):
			from := it.place.From
			j.hold(it.parent)
			it.parent, it.exile = from, cutCycle
			if alive, err = j.alive(it, from); err != nil {
				return err
			}
			if !alive || closes(it.id, from) {
				it.parent, it.exile = RootID, cutToRoot
				if alive {
					j.hold(from)
				}
			}
		}
		in[it.id] = it.parent
	}
	return nil
}

// hold marks a directory as one that an item cut from a circle would return to, so that the next
// join reads it.
func (j *joiner) hold(id NodeID) {
	if it := j.items[id]; it != nil && seeded&bugNoHold == 0 {
		it.held = true
	}
}

// meetRecovered looks up the directory of recovered entries if it was not met, which says that
// it is equal on both sides or on none.
func (j *joiner) meetRecovered() error {
	if j.items[RecoveredID] != nil {
		return nil
	}
	root := j.items[RootID]
	e, ok, err := Lookup(j.ctx, j.st, root.dir.ref[sideA], RecoveredName)
	if err != nil || !ok || e.ID != RecoveredID {
		return err
	}
	for s := range root.dir.in {
		if err := j.meet(s, root, &e); err != nil {
			return err
		}
	}
	return nil
}

// dirItem returns the item of a directory that shows something, which was read, or is
// that of recovered entries and new.
func (j *joiner) dirItem(id NodeID) *item {
	it := j.items[id]
	if it == nil {
		it = &item{id: id, dir: &dirState{}}
		j.items[id] = it
	}
	return it
}
