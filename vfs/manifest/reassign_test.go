package manifest

import (
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/vfs"
)

// A device is set back and goes on: what it writes then has the dots of what it has lost. Under another name neither hides the other.
func TestReassign_TwoLivesOfADeviceHideNothingOfEachOther(t *testing.T) {
	const old, now, other = causal.Device(1), causal.Device(2), causal.Device(3)
	ctx, st := t.Context(), newMemStore()
	entry := func(name string, kind vfs.Kind, id byte, by causal.Device, c uint64) Entry {
		e := Entry{Name: name, Kind: kind, ID: NodeID{id}, Mode: 0o644, MTime: time.Unix(1, 0), Dot: causal.Dot{Device: by, Counter: c}, Place: causal.Stamp{Lamport: c, Device: by}}
		e.Attr = e.Place
		if e.CTime = e.MTime; kind == vfs.KindFile {
			e.Edit = e.Dot
		}
		return e
	}
	state := func(seen causal.Context, history []Kept, inside []Entry, top ...Entry) Snapshot {
		t.Helper()
		d := entry("d", vfs.KindDir, 100, old, seen.Counter(old))
		d.Place = causal.Stamp{Lamport: 1, Device: old}
		d.Attr = d.Place
		var err error
		if d.Node, d.Below, err = EditDir(ctx, st, d.Node, edits(inside)); err != nil {
			t.Fatal(err)
		}
		s := Snapshot{Context: seen, Lamport: 9}
		if s.Root, s.Below, err = EditDir(ctx, st, s.Root, edits(append([]Entry{d}, top...))); err != nil {
			t.Fatal(err)
		}
		if s.History, err = BuildHistory(ctx, st, history); err != nil {
			t.Fatal(err)
		}
		return s
	}
	kept := func(c uint64, label string) Kept {
		return Kept{Dot: causal.Dot{Device: old, Counter: c}, Device: old, Time: time.Unix(int64(c), 0), Label: label}
	}
	both := entry("e", vfs.KindFile, 5, other, 4)
	before := entry("before", vfs.KindFile, 1, old, 1)
	changed := entry("before", vfs.KindFile, 1, old, 2)
	changed.Place, changed.Attr, changed.Past = before.Place, before.Attr, []causal.Dot{before.Edit}
	seen := causal.Context{{Device: old, Counter: 3}, {Device: other, Counter: 4}}
	past := state(seen, []Kept{kept(1, "a"), kept(3, "past")}, []Entry{before, entry("past", vfs.KindFile, 2, old, 3)}, both)
	back := state(seen, []Kept{kept(1, "a"), kept(2, "now")}, []Entry{changed, entry("now", vfs.KindFile, 3, old, 3)}, both)

	lost, err := Join(ctx, st, past, back)
	if err != nil {
		t.Fatal(err)
	}
	if names := paths(t, st, lost); names["d/past"] && names["d/now"] {
		t.Errorf("the join of two states with the same dots has both: %v", names)
	}
	s, err := Reassign(ctx, st, back, Reassignment{From: old, After: 1, Lamport: 1, To: now})
	if err != nil {
		t.Fatal(err)
	}
	if want := (causal.Context{{Device: old, Counter: 1}, {Device: now, Counter: 2}, {Device: other, Counter: 4}}); !s.Context.Equal(want) {
		t.Errorf("it has seen %v, want %v", s.Context, want)
	}
	for p, err := range WalkTree(ctx, st, s.Root) {
		if err != nil {
			t.Fatal(err)
		}
		e := p.Entry
		if e.Dot.Device == old && e.Dot.Counter > 1 || e.Edit.Device == old && e.Edit.Counter > 1 {
			t.Errorf("%s is still a write of the old name: %v", p.Path, e.Dot)
		}
		if e.Name == "before" && (e.Dot != causal.Dot{Device: now, Counter: 1} || e.Edit != e.Dot || e.Past[0] != before.Edit || e.Place != before.Place) {
			t.Errorf("got %+v", e)
		}
	}
	joined, err := Join(ctx, st, past, s)
	if err != nil {
		t.Fatal(err)
	}
	names := paths(t, st, joined)
	for _, want := range []string{"d", "d/before", "d/past", "d/now", "e"} {
		if !names[want] {
			t.Errorf("%s is not in %v", want, names)
		}
	}
	if len(names) != 5 {
		t.Errorf("got %v", names)
	}
	labels := map[string]int{}
	for k, err := range Kepts(ctx, st, joined.History) {
		if err != nil {
			t.Fatal(err)
		}
		labels[k.Label]++
	}
	if len(labels) != 3 || labels["a"] != 1 {
		t.Errorf("kept: %v", labels)
	}
	if again, err := Reassign(ctx, st, s, Reassignment{From: old, After: 1, Lamport: 1, To: now}); err != nil || again.Root != s.Root || !again.Context.Equal(s.Context) {
		t.Errorf("once more: %v, %v", again, err)
	}
}

func edits(es []Entry) []Edit {
	var all []Edit
	for i := range es {
		all = append(all, Edit{Name: es[i].Name, Entry: &es[i]})
	}
	return all
}

func paths(t *testing.T, st *memStore, s Snapshot) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for p, err := range WalkTree(t.Context(), st, s.Root) {
		if err != nil {
			t.Fatal(err)
		}
		all[p.Path] = true
	}
	return all
}
