package manifest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// flatJoin is Join as its rules read, without regard to cost: it takes both trees apart into
// sets of records, joins the sets, finds the place of each item among all, and
// builds the tree anew. Join must give the same Refs.
func flatJoin(ctx context.Context, st Store, a, b Snapshot) (chunk.Ref, error) {
	ra, rb := map[causal.Dot]record{}, map[causal.Dot]record{}
	if err := flatten(ctx, st, a.Root, RootID, ra); err != nil {
		return chunk.Ref{}, err
	}
	if err := flatten(ctx, st, b.Root, RootID, rb); err != nil {
		return chunk.Ref{}, err
	}
	all := map[NodeID][]record{}
	for d, r := range ra {
		if _, ok := rb[d]; ok || !b.Context.Covers(d) {
			all[r.ID] = append(all[r.ID], r)
		}
	}
	for d, r := range rb {
		if _, ok := ra[d]; !ok && !a.Context.Covers(d) {
			all[r.ID] = append(all[r.ID], r)
		}
	}
	return newFlatView(all).build(ctx, st, RootID)
}

func flatten(ctx context.Context, st Store, dir chunk.Ref, id NodeID, into map[causal.Dot]record) error {
	for e, err := range Entries(ctx, st, dir, "") {
		if err != nil {
			return err
		}
		for _, r := range records(nil, &e, id) {
			into[r.Dot] = r
		}
		if e.Kind == vfs.KindDir {
			if err := flatten(ctx, st, e.Node, e.ID, into); err != nil {
				return err
			}
		}
	}
	return nil
}

type flatItem struct {
	id     NodeID
	kind   vfs.Kind
	place  *record
	values []Entry
	parent NodeID
	held   bool
}

type flatView struct {
	items map[NodeID]*flatItem
	kids  map[NodeID][]*flatItem
}

func newFlatView(all map[NodeID][]record) *flatView {
	v := &flatView{items: map[NodeID]*flatItem{}, kids: map[NodeID][]*flatItem{}}
	var dirs []*flatItem
	for id, recs := range all {
		slices.SortFunc(recs, func(a, b record) int { return a.Dot.Compare(b.Dot) })
		place := &recs[0]
		for i := range recs {
			if c := recs[i].Place.Compare(place.Place); c > 0 || c == 0 && recs[i].Dot.Compare(place.Dot) > 0 {
				place = &recs[i]
			}
		}
		it := &flatItem{id: id, kind: recs[0].Kind, place: place, values: entriesOf(recs, place), parent: place.parent}
		v.items[id] = it
		if it.kind == vfs.KindDir {
			dirs = append(dirs, it)
		}
	}
	dead := func(p NodeID) bool {
		it := v.items[p]
		return p != RootID && p != RecoveredID && (it == nil || it.kind != vfs.KindDir)
	}
	slices.SortFunc(dirs, func(a, b *flatItem) int {
		return cmp.Or(a.place.Place.Compare(b.place.Place), bytes.Compare(a.id[:], b.id[:]))
	})
	tree := map[NodeID]NodeID{}
	below := func(x, d NodeID) bool { // whether x is d or below it
		for {
			if x == d {
				return true
			}
			p, ok := tree[x]
			if !ok {
				return false
			}
			x = p
		}
	}
	hold := func(p NodeID) {
		if it := v.items[p]; it != nil {
			it.held = true
		}
	}
	for _, d := range dirs {
		from := d.place.From
		switch {
		case dead(d.parent):
			d.parent = RecoveredID
		case !below(d.parent, d.id):
		case !dead(from) && !below(from, d.id):
			hold(d.parent)
			d.parent = from
		default:
			hold(d.parent)
			if !dead(from) {
				hold(from)
			}
			d.parent = RootID
		}
		tree[d.id] = d.parent
	}
	for _, it := range v.items {
		if dead(it.parent) {
			it.parent = RecoveredID
		}
		v.kids[it.parent] = append(v.kids[it.parent], it)
	}
	return v
}

func (v *flatView) build(ctx context.Context, st Store, dir NodeID) (chunk.Ref, error) {
	ref, _, err := v.buildDir(ctx, st, dir)
	return ref, err
}

func (v *flatView) buildDir(ctx context.Context, st Store, dir NodeID) (chunk.Ref, Below, error) {
	kids := v.kids[dir]
	slices.SortFunc(kids, func(a, b *flatItem) int {
		return cmp.Or(a.place.Place.Compare(b.place.Place), bytes.Compare(a.id[:], b.id[:]))
	})
	var out []Entry
	wanted := map[string]NodeID{}
	for _, it := range kids { // ascending, so the greatest stays
		wanted[it.place.Name] = it.id
	}
	if dir == RootID {
		ref, below, err := v.buildDir(ctx, st, RecoveredID)
		if err != nil {
			return ref, 0, err
		}
		if !ref.IsZero() {
			wanted[RecoveredName] = RecoveredID
			out = append(out, Entry{Name: RecoveredName, ID: RecoveredID, Kind: vfs.KindDir, Mode: 0o700, Node: ref, Below: below})
		}
	}
	taken := map[string]bool{}
	for _, it := range kids {
		for i, e := range it.values {
			e.Name = it.place.Name
			for try := 0; i > 0 || wanted[it.place.Name] != it.id; try++ {
				e.Name = withSuffix(it.place.Name, it.kind, suffixOf(loser{&item{id: it.id, view: view{values: it.values}}, i}, try))
				if _, w := wanted[e.Name]; !w && !taken[e.Name] {
					taken[e.Name] = true
					break
				}
			}
			if e.Name != it.place.Name || dir != it.place.parent {
				e.Stored = &Stored{Parent: it.place.parent, Name: it.place.Name}
			}
			if it.kind == vfs.KindDir {
				var err error
				if e.Node, e.Below, err = v.buildDir(ctx, st, it.id); err != nil {
					return e.Node, 0, err
				}
				e.Held = it.held
			}
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return BuildDir(ctx, st, seqOf(out))
}
