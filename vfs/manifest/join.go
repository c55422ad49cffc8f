package manifest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// Join returns the state that has seen all that a or b has: every write of either that
// the other has not replaced or deleted. It is commutative, associative and
// idempotent, down to the Refs, over states that were written by the rules in
// this package's comment. It decides by Dots, Edits and Stamps, never by a
// time, and makes no Dot. It reads and writes about as much as the two differ in.
//
// Device, Time and Mark of the result are zero: they are the caller's to set. Files and
// Bytes are right if they were in a.
func Join(ctx context.Context, st Store, a, b Snapshot) (Snapshot, error) {
	out := Snapshot{Context: a.Context.Join(b.Context), Lamport: max(a.Lamport, b.Lamport), Top: joinTop(a, b)}
	if inA, inB := a.Context.Includes(b.Context), b.Context.Includes(a.Context); seeded&bugNoShortcut == 0 && (inA != inB || inA && a.Root == b.Root && a.History == b.History) {
		// A writer gives every state a dot of its own, so what has seen b's latest
		// has all of b already, or has replaced it.
		if !inA {
			a = b
		}
		out.Root, out.History, out.Below, out.Files, out.Bytes = a.Root, a.History, a.Below, a.Files, a.Bytes
		return out, nil
	}
	var err error
	if out.History, err = joinHistory(ctx, st, a, b); err != nil {
		return Snapshot{}, fmt.Errorf("join: %w", err)
	}
	if a.Root == b.Root && a.Below&(BelowStored|BelowHeld) == 0 {
		out.Root, out.Below, out.Files, out.Bytes = a.Root, a.Below, a.Files, a.Bytes
		return out, nil
	}
	force := BelowStored | BelowHeld
	if seeded&bugTrustRefs != 0 {
		force = 0
	}
	j := newJoiner(ctx, st, a, b, force)
	err = j.run()
	if errors.Is(err, errUnread) {
		j = newJoiner(ctx, st, a, b, forceAll)
		err = j.run()
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("join: %w", err)
	}
	out.Root, out.Below = j.root, j.below
	out.Files, out.Bytes = j.files.total(a.Files), j.bytes.total(a.Bytes)
	return out, nil
}

// joinTop joins the attributes of the root by the rules of any directory.
func joinTop(a, b Snapshot) Entry {
	var recs [2][]record
	for s, top := range [2]Entry{a.Top, b.Top} {
		if top.Kind != 0 {
			top.Name, top.ID = topName, topID
			recs[s] = records(nil, &top, RootID)
		}
	}
	keep := joinRecords(recs, [2]causal.Context{a.Context, b.Context})
	if len(keep) == 0 { // no writer removes it
		keep = append(recs[sideA], recs[sideB]...)
	}
	if len(keep) == 0 {
		return Entry{}
	}
	top := entriesOf(keep, latestPlace(keep))[0]
	top.Name, top.ID = "", RootID
	return top
}

// errUnread says that a decision hangs on a directory that was not read because
// it is equal in both trees. It is rare: a cycle that three devices made together, or a
// move that one device deleted while another touched its file. Then all is read.
var errUnread = errors.New("directory was not read")

// A delta is a sum that grows and shrinks.
type delta struct{ more, less uint64 }

func (d delta) total(from uint64) uint64 {
	if d.less > from+d.more {
		return 0
	}
	return from + d.more - d.less
}

// The two sides of a join.
const (
	sideA = 0
	sideB = 1
)

// A record is what one write left of an item: an Entry without what the view adds to
// it, whose Name is the record's own, and the directory that it names as its parent.
type record struct {
	Entry
	parent NodeID
}

// records appends the records that e holds, which was found in the directory dir.
func records(dst []record, e *Entry, dir NodeID) []record {
	own := true
	for i := range e.Hidden {
		h := &e.Hidden[i]
		own = own && h.Dot != e.Dot
		dst = append(dst, plain(h, h.Stored.Parent, h.Stored.Name))
	}
	if !own || e.ID == RecoveredID {
		return dst
	}
	if e.Stored != nil {
		return append(dst, plain(e, e.Stored.Parent, e.Stored.Name))
	}
	return append(dst, plain(e, dir, e.Name))
}

func plain(e *Entry, parent NodeID, name string) record {
	r := record{Entry: *e, parent: parent}
	r.Name, r.Stored, r.Hidden, r.Conflict, r.Held, r.Below = name, nil, nil, false, false, 0
	if r.Kind == vfs.KindDir {
		r.Node = chunk.Ref{}
	}
	return r
}

// A shown is where a tree shows an entry of an item.
type shown struct {
	dir   NodeID
	entry *Entry
}

// An item is everything that has one ID: a file with all its values, a directory, …
type item struct {
	id    NodeID
	kind  vfs.Kind
	at    [2][]shown // in a and in b
	recs  []record   // of both, joined, in the order of their Dots; none: dead
	place *record    // the one of recs that says where it is
	dir   *dirState  // of a directory
	view
}

// A dirState is a directory on its way through a join.
type dirState struct {
	in    [2]bool
	ref   [2]chunk.Ref
	below [2]Below
	read  [2]bool     // its entries, or those that differ, are known
	whole bool        // all its entries are known
	had   [2][]*Entry // what each side shows, as far as it was read
	kids  []*item     // of the outcome, as far as they were read
	node  chunk.Ref
	flags Below // of the outcome, with node
}

type joiner struct {
	ctx   context.Context //nolint:containedctx // lives for one call of Join
	st    Store
	force Below
	seen  [2]causal.Context
	items map[NodeID]*item
	order []*item // in the order in which they were met
	queue []*item // directories to read
	alone []*item // directories that were met on one side only, so far

	root         chunk.Ref
	below        Below
	files, bytes delta
}

func newJoiner(ctx context.Context, st Store, a, b Snapshot, force Below) *joiner {
	j := &joiner{ctx: ctx, st: st, force: force, seen: [2]causal.Context{a.Context, b.Context}, items: make(map[NodeID]*item)}
	root := &item{id: RootID, kind: vfs.KindDir, dir: &dirState{
		in: [2]bool{true, true}, ref: [2]chunk.Ref{a.Root, b.Root}, below: [2]Below{a.Below, b.Below},
	}}
	j.items[RootID] = root
	j.queue = append(j.queue, root)
	return j
}

func (j *joiner) run() error {
	if err := j.readAll(); err != nil {
		return err
	}
	if err := j.placeAll(); err != nil {
		return err
	}
	root := j.items[RootID]
	if err := j.write(root); err != nil {
		return err
	}
	j.root, j.below = root.dir.node, root.dir.flags
	return nil
}

// readAll reads what differs and joins the records of every item that it meets.
func (j *joiner) readAll() error {
	for {
		if err := j.readPairs(); err != nil {
			return err
		}
		if d := j.nextAlone(); d != nil {
			if err := j.read(d); err != nil {
				return err
			}
			continue
		}
		// What is in a directory that both still had, but neither's records outlived the
		// join, has lost its parent.
		again := false
		for _, it := range j.order {
			if d := it.dir; d != nil && !d.whole && it.id != RecoveredID && len(j.join(it)) == 0 {
				d.whole, again = true, true
				if err := j.note(it, forceAll); err != nil {
					return err
				}
			}
		}
		if !again {
			break
		}
	}
	for _, it := range j.order {
		it.recs = j.join(it)
		for i := range it.recs {
			if it.recs[i].Kind != it.kind {
				return fmt.Errorf("%w: item %x is of two kinds", ErrMalformed, it.id)
			}
		}
	}
	return nil
}

func (j *joiner) readPairs() error {
	for len(j.queue) > 0 {
		it := j.queue[len(j.queue)-1]
		j.queue = j.queue[:len(j.queue)-1]
		if err := j.read(it); err != nil {
			return err
		}
	}
	return nil
}

// nextAlone returns a directory to read that one side does not have, or not where the
// other could tell so far. Those come first which the other side has not seen: what it has
// elsewhere may have been moved into one of them.
func (j *joiner) nextAlone() *item {
	pending := j.alone[:0]
	for _, it := range j.alone {
		if d := it.dir; d.in[sideA] && !d.read[sideA] || d.in[sideB] && !d.read[sideB] {
			pending = append(pending, it)
		}
	}
	j.alone = pending
	best := len(pending) - 1
	if best < 0 {
		return nil
	}
	for i := len(pending) - 1; i >= 0; i-- {
		it := pending[i]
		s := sideA
		if it.dir.in[sideB] {
			s = sideB
		}
		if it.id == RecoveredID || !j.seen[1-s].Covers(it.at[s][0].entry.Dot) {
			best = i
			break
		}
	}
	it := pending[best]
	j.alone = append(pending[:best], pending[best+1:]...)
	return it
}

// read notes what differs in a directory, or all that one side has if it was read before the
// other was found.
func (j *joiner) read(it *item) error {
	d := it.dir
	if d.in != [2]bool{true, true} || d.read[sideA] || d.read[sideB] {
		d.whole = true
	}
	if d.whole {
		return j.note(it, forceAll)
	}
	return j.note(it, j.force)
}

// note goes through a directory on both sides and notes the entries that differ, or that force
// asks for.
func (j *joiner) note(it *item, force Below) error {
	d := it.dir
	d.read = d.in
	for p, err := range diffDir(j.ctx, j.st, d.ref[sideA], d.ref[sideB], force) {
		if err != nil {
			return err
		}
		for s, e := range [2]*Entry{p.a, p.b} {
			if e != nil {
				if err := j.meet(s, it, e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// meet notes that side s shows e in the directory in. It may be told twice.
func (j *joiner) meet(s int, in *item, e *Entry) error {
	it := j.items[e.ID]
	if it == nil {
		it = &item{id: e.ID, kind: e.Kind}
		j.items[e.ID] = it
		j.order = append(j.order, it)
	}
	if e.Kind != it.kind {
		return fmt.Errorf("%w: item %x is of two kinds", ErrMalformed, e.ID)
	}
	for _, at := range it.at[s] {
		if at.dir == in.id && at.entry.Name == e.Name {
			return nil
		}
	}
	it.at[s] = append(it.at[s], shown{in.id, e})
	in.dir.had[s] = append(in.dir.had[s], e)
	if s == sideA {
		j.files.less++
		j.bytes.less += bytesOf(e)
	}
	if e.Kind != vfs.KindDir {
		return nil
	}
	if it.dir == nil {
		it.dir = &dirState{}
	}
	d := it.dir
	if d.in[s] {
		return fmt.Errorf("%w: directory %x is in two places", ErrMalformed, e.ID)
	}
	d.in[s], d.ref[s], d.below[s] = true, e.Node, e.Below
	switch {
	case !d.in[1-s]:
		j.alone = append(j.alone, it)
	case d.read[1-s] || d.ref[s] != d.ref[1-s] || j.force == forceAll || e.Below&j.force != 0:
		j.queue = append(j.queue, it)
	default:
		d.read = d.in // equal, so there is nothing to know
	}
	return nil
}

func bytesOf(e *Entry) uint64 {
	if e.Kind == vfs.KindDir {
		return 0
	}
	return uint64(e.Bytes)
}

// join returns the records of it that outlive the join.
func (j *joiner) join(it *item) []record {
	var recs [2][]record
	for s := range recs {
		for _, at := range it.at[s] {
			recs[s] = records(recs[s], at.entry, at.dir)
		}
	}
	return joinRecords(recs, j.seen)
}

// joinRecords returns, in the order of their Dots, the records that are on both sides, and
// those that the other side has not seen.
func joinRecords(recs [2][]record, seen [2]causal.Context) []record {
	var keep []record
	for s := range recs {
		for i := range recs[s] {
			dot := recs[s][i].Dot
			other := slices.ContainsFunc(recs[1-s], func(r record) bool { return r.Dot == dot })
			if other || !seen[1-s].Covers(dot) || seeded&bugNoCoverCheck != 0 {
				keep = append(keep, recs[s][i])
			}
		}
	}
	slices.SortStableFunc(keep, func(a, b record) int { return a.Dot.Compare(b.Dot) })
	return slices.CompactFunc(keep, func(a, b record) bool { return a.Dot == b.Dot })
}

func joinHistory(ctx context.Context, st Store, a, b Snapshot) (chunk.Ref, error) {
	if a.History == b.History {
		return a.History, nil
	}
	var kepts [2][]Kept
	var dots [2]map[causal.Dot]bool
	for s, ref := range [2]chunk.Ref{a.History, b.History} {
		dots[s] = make(map[causal.Dot]bool)
		for k, err := range Kepts(ctx, st, ref) {
			if err != nil {
				return chunk.Ref{}, err
			}
			kepts[s] = append(kepts[s], k)
			dots[s][k.Dot] = true
		}
	}
	var keep []Kept
	for s, seen := range [2]causal.Context{b.Context, a.Context} {
		for _, k := range kepts[s] {
			if other := dots[1-s][k.Dot]; other && s == sideA || !other && !seen.Covers(k.Dot) {
				keep = append(keep, k)
			}
		}
	}
	slices.SortFunc(keep, CompareKept)
	return BuildHistory(ctx, st, keep)
}
