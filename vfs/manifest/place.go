package manifest

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sheaf-drive/sheaf/vfs"
)

// write stores the outcome of a directory, with all below it, as edits of what one side has.
func (j *joiner) write(it *item) error {
	d := it.dir
	for _, kid := range d.kids {
		if kid.dir != nil {
			if err := j.write(kid); err != nil {
				return err
			}
		}
	}
	n := namer{j: j, dir: it, wanted: make(map[string]*item), taken: make(map[string]bool)}
	if it.id == RootID {
		if r := j.items[RecoveredID]; r != nil {
			if err := j.write(r); err != nil {
				return err
			}
			if !r.dir.node.IsZero() {
				n.recovered = r
			}
		}
	}
	n.base = sideA
	if !d.in[sideA] {
		n.base = sideB
	}
	fresh, err := n.entries()
	if err != nil {
		return fmt.Errorf("directory %x: %w", it.id, err)
	}
	j.files.more += uint64(len(fresh))
	had := make(map[string]*Entry)
	for _, e := range d.had[n.base] {
		had[e.Name] = e
	}
	var edits []Edit
	for i := range fresh {
		e := &fresh[i]
		j.bytes.more += bytesOf(e)
		if old := had[e.Name]; old == nil || !bytes.Equal(appendEntry(nil, old), appendEntry(nil, e)) {
			edits = append(edits, Edit{Name: e.Name, Entry: e})
		}
		delete(had, e.Name)
	}
	for name := range had {
		edits = append(edits, Edit{Name: name})
	}
	d.node, d.flags = d.ref[n.base], d.below[n.base]
	if len(edits) == 0 {
		return nil
	}
	slices.SortFunc(edits, func(a, b Edit) int { return strings.Compare(a.Name, b.Name) })
	d.node, d.flags, err = EditDir(j.ctx, j.st, d.node, edits)
	return err
}

// A namer gives the entries of one directory their names. Whoever has the greatest Place of those
// that want a name gets it; the others, and all but the first value of a file, get one with a
// suffix. Entries that were not read want the name that they have, and no other.
type namer struct {
	j         *joiner
	dir       *item
	base      int   // the side whose entries are there unless they are edited
	recovered *item // to be shown here too; nil: not
	wanted    map[string]*item
	taken     map[string]bool // by suffixed names
	known     map[string]bool // shown here on one side by an entry that was read
	fresh     []Entry
}

// A loser is a value that has to have a name with a suffix.
type loser struct {
	it    *item
	value int
}

func (n *namer) entries() ([]Entry, error) {
	d := n.dir.dir
	n.known = make(map[string]bool)
	for s := range d.had {
		for _, e := range d.had[s] {
			n.known[e.Name] = true
		}
	}
	var losers []loser
	contend := func(it *item) {
		name := it.place.Name
		if best := n.wanted[name]; best == nil {
			n.wanted[name] = it
		} else if best != n.recovered && beats(it, best) {
			n.wanted[name] = it
			losers = append(losers, loser{best, 0})
		} else {
			losers = append(losers, loser{it, 0})
		}
	}
	if n.recovered != nil {
		n.wanted[RecoveredName] = n.recovered
	}
	for _, it := range d.kids {
		contend(it)
		for v := 1; v < len(it.values); v++ {
			losers = append(losers, loser{it, v})
		}
	}
	names := make([]string, 0, len(n.wanted))
	for name := range n.wanted {
		names = append(names, name)
	}
	for _, name := range names { // those who had the names so far
		e, err := n.unread(name)
		if err != nil {
			return nil, err
		}
		if e == nil {
			continue
		}
		contend(n.join(e))
		n.known[e.Name] = true
	}
	for name, it := range n.wanted {
		n.show(it, 0, name)
	}
	slices.SortFunc(losers, func(a, b loser) int {
		return cmp.Or(a.it.place.Place.Compare(b.it.place.Place), bytes.Compare(a.it.id[:], b.it.id[:]), a.value-b.value)
	})
	for _, l := range losers {
		if err := n.suffix(l); err != nil {
			return nil, err
		}
	}
	return n.fresh, nil
}

func beats(a, b *item) bool {
	if seeded&bugWrongWinner != 0 {
		return false
	}
	return cmp.Or(a.place.Place.Compare(b.place.Place), bytes.Compare(a.id[:], b.id[:])) > 0
}

// unread returns the entry of that name that is in this directory on both sides and was not
// read, so that it wants to stay; nil if there is none.
func (n *namer) unread(name string) (*Entry, error) {
	d := n.dir.dir
	if n.known[name] || d.whole || n.j.force == forceAll || seeded&bugNoLookup != 0 {
		return nil, nil
	}
	e, ok, err := Lookup(n.j.ctx, n.j.st, d.ref[n.base], name)
	if err != nil || !ok {
		return nil, err
	}
	return &e, nil
}

// join makes e, which was not read, take part.
func (n *namer) join(e *Entry) *item {
	it := &item{id: e.ID, kind: e.Kind, recs: records(nil, e, n.dir.id)}
	it.parent = n.dir.id
	n.j.files.less++
	n.j.bytes.less += bytesOf(e)
	it.place = latestPlace(it.recs)
	it.values = entriesOf(it.recs, it.place)
	if e.Kind == vfs.KindDir {
		it.dir = &dirState{node: e.Node, flags: e.Below}
	}
	return it
}

// show adds a value of it under a name.
func (n *namer) show(it *item, value int, name string) {
	if it.id == RecoveredID {
		n.fresh = append(n.fresh, Entry{Name: name, ID: RecoveredID, Kind: vfs.KindDir, Mode: 0o700, Node: it.dir.node, Below: it.dir.flags})
		return
	}
	e := it.values[value]
	e.Name = name
	if n.dir.id != it.place.parent || name != it.place.Name {
		e.Stored = &Stored{Parent: it.place.parent, Name: it.place.Name}
	}
	if it.dir != nil {
		e.Node, e.Below, e.Held = it.dir.node, it.dir.flags, it.held
	}
	n.fresh = append(n.fresh, e)
}

// suffix shows a loser under the first name that is free of those that it may have.
func (n *namer) suffix(l loser) error {
	for try := 0; ; try++ {
		name := withSuffix(l.it.place.Name, l.it.kind, suffixOf(l, try))
		if n.taken[name] || n.wanted[name] != nil {
			continue
		}
		if e, err := n.unread(name); err != nil {
			return err
		} else if e != nil {
			continue
		}
		n.taken[name] = true
		n.show(l.it, l.value, name)
		return nil
	}
}

// suffixOf returns the suffix for the try-th time. From the fifth on they differ by a number, so
// there is an end to it.
func suffixOf(l loser, try int) string {
	id := hex.EncodeToString(l.it.id[:])
	if l.value == 0 {
		if try < 4 {
			return " (" + id[:4<<try] + ")"
		}
		return fmt.Sprintf(" (%s-%d)", id, try)
	}
	edit := l.it.values[l.value].Edit
	switch device := edit.Device.String(); try {
	case 0:
		return " (conflict of " + device[:8] + ")"
	case 1:
		return " (conflict of " + device + ")"
	case 2:
		return fmt.Sprintf(" (conflict of %s %d)", device, edit.Counter)
	case 3:
		return fmt.Sprintf(" (conflict of %s %d %s)", device, edit.Counter, id)
	default:
		return fmt.Sprintf(" (conflict of %s %d %s-%d)", device, edit.Counter, id, try)
	}
}

// maxExtension is the most bytes that count as the extension of a name.
const maxExtension = 32

// withSuffix puts suffix before the extension of a name, and shortens the name in front of it,
// between runes, if it would be too long.
func withSuffix(name string, kind vfs.Kind, suffix string) string {
	ext := ""
	if i := strings.LastIndexByte(name, '.'); kind != vfs.KindDir && i > 0 && len(name)-i <= maxExtension {
		name, ext = name[:i], name[i:]
	}
	if room := vfs.MaxName - len(suffix) - len(ext); len(name) > room {
		for room > 0 && !utf8.RuneStart(name[room]) {
			room--
		}
		name = name[:room]
	}
	return name + suffix + ext
}

// A seededBug breaks Join, so that the tests can show that they would find it.
type seededBug uint16

// The bugs that can be seeded. The first is none: it makes Join go the long way always.
const (
	bugNoShortcut   seededBug = 1 << iota
	bugTrustRefs              // skip equal subtrees in spite of BelowStored
	bugNoCoverCheck           // keep what the other side deleted
	bugFirstPlace             // ignore the order of moves
	bugNoPast                 // ignore which Edits were replaced
	bugDropHidden             // forget the records behind a value
	bugShownPlace             // store the place shown for the record's own
	bugNoCycles               // let circles stand
	bugNoHold                 // do not mark where the cut would return to
	bugWrongWinner            // give a name to whoever comes first
	bugNoLookup               // do not look who has a name already
)

// seeded is set by tests, never otherwise.
var seeded seededBug
