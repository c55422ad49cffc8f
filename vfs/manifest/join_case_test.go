package manifest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// The devices of the cases: old wrote what both sides know.
const (
	old  causal.Device = 1
	devA causal.Device = 2
	devB causal.Device = 3
)

// A sketch is a tree that a case draws: an entry and what is in it.
type sketch struct {
	Entry
	in []sketch
}

// ent returns an entry with the ID n, written by device with the counter and Lamport time given.
func ent(name string, n uint64, device causal.Device, counter, lamport uint64) Entry {
	e := fileEntry(name, n)
	e.Dot = causal.Dot{Device: device, Counter: counter}
	e.Edit = e.Dot
	e.Place = causal.Stamp{Lamport: lamport, Device: device}
	e.Attr = e.Place
	return e
}

func dir(name string, n uint64, device causal.Device, counter, lamport uint64, in ...sketch) sketch {
	f := ent(name, n, device, counter, lamport)
	e := Entry{Name: name, ID: f.ID, Kind: vfs.KindDir, Dot: f.Dot, Place: f.Place, Attr: f.Attr}
	return sketch{e, in}
}

func draw(t *testing.T, st *memStore, in []sketch) (chunk.Ref, Below) {
	t.Helper()
	var list []Entry
	for _, s := range in {
		if s.Kind == vfs.KindDir {
			s.Node, s.Below = draw(t, st, s.in)
		}
		list = append(list, s.Entry)
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	ref, below, err := BuildDir(t.Context(), st, seqOf(list))
	if err != nil {
		t.Fatal(err)
	}
	return ref, below
}

// joinCase joins two trees in both orders, holds that against the flat join, and returns
// the paths that the outcome shows.
func joinCase(t *testing.T, a, b []sketch, seenA, seenB causal.Context) []string {
	t.Helper()
	st := newMemStore()
	sa, sb := Snapshot{Context: seenA}, Snapshot{Context: seenB}
	sa.Root, sa.Below = draw(t, st, a)
	sb.Root, sb.Below = draw(t, st, b)
	want, err := flatJoin(t.Context(), st, sa, sb)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][2]Snapshot{{sa, sb}, {sb, sa}} {
		got, err := Join(t.Context(), st, p[0], p[1])
		if err != nil {
			t.Fatal(err)
		}
		if got.Root != want {
			t.Fatalf("Join gives %v, flat join %v", got.Root, want)
		}
	}
	var paths []string
	for _, p := range collect(t, WalkTree(t.Context(), st, want)) {
		paths = append(paths, p.Path)
	}
	return paths
}

var (
	seenByA = causal.Context{{Device: old, Counter: 99}, {Device: devA, Counter: 9}}
	seenByB = causal.Context{{Device: old, Counter: 99}, {Device: devB, Counter: 9}}
)

func TestJoin_ReadsADirectoryThatOnlyAHiddenRecordNames(t *testing.T) {
	// A moved f from r to q, while another device changed it in r; B deleted it, having
	// seen only the move. r is equal on both sides.
	touched := ent("f", 1, 7, 1, 1)
	touched.Edit = causal.Dot{Device: old, Counter: 1}
	r := dir("r", 3, old, 3, 3)
	f := ent("f", 1, devA, 1, 5)
	f.Edit = touched.Edit
	touched.Stored = &Stored{Parent: r.ID, Name: "f"}
	f.Hidden = []Entry{touched}
	seenA := append(slices.Clone(seenByA), causal.Seen{Device: 7, Counter: 1})
	seenB := causal.Context{{Device: old, Counter: 99}, {Device: devA, Counter: 9}, {Device: devB, Counter: 9}}
	got := joinCase(t,
		[]sketch{r, dir("q", 2, old, 2, 2, sketch{Entry: f})},
		[]sketch{r, dir("q", 2, old, 2, 2)}, seenA, seenB)
	if d := cmp.Diff([]string{"q", "r", "r/f"}, got); d != "" {
		t.Error(d)
	}
}

func TestJoin_ReadsTheWayBackOfANewCycle(t *testing.T) {
	// Both have d in x, where it was moved last of all, from f. A moved y into d, B moved x into y.
	d := func(in ...sketch) sketch {
		s := dir("d", 1, old, 1, 50, in...)
		s.From = nodeID(4)
		return s
	}
	f := dir("f", 4, old, 4, 4, sketch{Entry: ent("in f", 5, old, 5, 5)})
	got := joinCase(t,
		[]sketch{f, dir("x", 2, old, 2, 2, d(dir("y", 3, devA, 1, 10)))},
		[]sketch{f, dir("y", 3, old, 3, 3, dir("x", 2, devB, 1, 11, d()))}, seenByA, seenByB)
	if d := cmp.Diff([]string{"f", "f/d", "f/d/y", "f/d/y/x", "f/in f"}, got); d != "" {
		t.Error(d)
	}
}

func TestJoin_RecoversWhatIsInADirectoryThatBothSidesDeletedInPart(t *testing.T) {
	// Each side has a record of x that the other deleted. What is in it is equal, and so
	// lives.
	y := sketch{Entry: ent("y", 2, old, 2, 2)}
	got := joinCase(t,
		[]sketch{dir("x", 1, devA, 1, 3, y)},
		[]sketch{dir("x", 1, devB, 1, 3, y)},
		causal.Context{{Device: old, Counter: 99}, {Device: devA, Counter: 9}, {Device: devB, Counter: 1}},
		causal.Context{{Device: old, Counter: 99}, {Device: devA, Counter: 1}, {Device: devB, Counter: 9}})
	if d := cmp.Diff([]string{"Recovered", "Recovered/y"}, got); d != "" {
		t.Error(d)
	}
}

func TestJoin_SuffixesAvoidEachOther(t *testing.T) {
	id := func(n uint64) string { return fmt.Sprintf("%x", nodeID(n)) }
	loser := sketch{Entry: ent("b.txt", 1, devA, 1, 1)}
	short, longer := "b ("+id(1)[:4]+").txt", "b ("+id(1)[:8]+").txt"
	// The name with the short suffix is taken: by an entry that both have, and that is not
	// read; by one of B's; and both times the next one too.
	for _, taken := range [][]string{nil, {short}, {short, longer}, {short, longer, "b (" + id(1)[:16] + ").txt", "b (" + id(1) + ").txt"}} {
		for _, both := range []bool{false, true} {
			b := []sketch{{Entry: ent("b.txt", 2, devB, 1, 7)}}
			a := []sketch{loser}
			want := []string{"b.txt"}
			for i, name := range taken {
				e := sketch{Entry: ent(name, uint64(10+i), devB, uint64(2+i), 3)}
				if both {
					e = sketch{Entry: ent(name, uint64(10+i), old, uint64(2+i), 3)}
					a = append(a, e)
				}
				b = append(b, e)
				want = append(want, name)
			}
			next := []string{short, longer, "b (" + id(1)[:16] + ").txt", "b (" + id(1) + ").txt", "b (" + id(1) + "-4).txt"}[len(taken)]
			want = append(want, next)
			slices.Sort(want)
			if d := cmp.Diff(want, joinCase(t, a, b, seenByA, seenByB)); d != "" {
				t.Errorf("%v taken (by both: %v): %s", taken, both, d)
			}
		}
	}
}

func TestJoin_ConflictNamesAvoidEachOther(t *testing.T) {
	dev := devB.String()
	v := func(d causal.Device) sketch {
		e := ent("f", 1, d, 1, 1)
		e.Place = causal.Stamp{Lamport: 1, Device: old}
		return sketch{Entry: e}
	}
	const edited = causal.Device(9) // keeps the name
	names := []string{"f (conflict of " + dev[:8] + ")", "f (conflict of " + dev + ")", "f (conflict of " + dev + " 1)", fmt.Sprintf("f (conflict of %s 1 %x)", dev, nodeID(1)), fmt.Sprintf("f (conflict of %s 1 %x-4)", dev, nodeID(1))}
	for n := range names {
		a, b := []sketch{v(edited)}, []sketch{v(devB)}
		want := append([]string{"f"}, names[:n+1]...)
		for i, name := range names[:n] {
			a = append(a, sketch{Entry: ent(name, uint64(20+i), edited, uint64(2+i), 3)})
		}
		slices.Sort(want)
		got := joinCase(t, a, b, causal.Context{{Device: old, Counter: 99}, {Device: edited, Counter: 9}}, seenByB)
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

func TestJoin_AttributesAndBytesOfTwoWritersBothHold(t *testing.T) {
	base := ent("f", 1, old, 1, 1)
	chmod, edit := base, base
	chmod.Dot, chmod.Mode, chmod.Attr = causal.Dot{Device: devA, Counter: 1}, 0o700, causal.Stamp{Lamport: 5, Device: devA}
	chmod.Xattr = []Xattr{{"user.a", []byte("v")}}
	edit.Dot = causal.Dot{Device: devB, Counter: 1}
	edit.Past, edit.Edit, edit.Node = []causal.Dot{edit.Edit}, edit.Dot, dataRef(99, 12345)
	st := newMemStore()
	sa, sb := Snapshot{Context: seenByA}, Snapshot{Context: seenByB}
	sa.Root, _ = draw(t, st, []sketch{{Entry: chmod}})
	sb.Root, _ = draw(t, st, []sketch{{Entry: edit}})
	got, err := Join(t.Context(), st, sa, sb)
	if err != nil {
		t.Fatal(err)
	}
	list := collect(t, Entries(t.Context(), st, got.Root, ""))
	if len(list) != 1 || list[0].Mode != 0o700 || len(list[0].Xattr) != 1 || list[0].Node != edit.Node || list[0].Conflict {
		t.Errorf("%+v", list)
	}
	// Who deletes it having seen only the edit leaves the other's record, bytes and all.
	gone := Snapshot{Context: causal.Context{{Device: old, Counter: 99}, {Device: devB, Counter: 9}, {Device: 8, Counter: 1}}}
	if got, err = Join(t.Context(), st, got, gone); err != nil {
		t.Fatal(err)
	}
	list = collect(t, Entries(t.Context(), st, got.Root, ""))
	if d := cmp.Diff([]Entry{chmod}, list); d != "" {
		t.Error(d)
	}
}

func TestJoin_OfOneIDWithTwoKindsIsAnError(t *testing.T) {
	st := newMemStore()
	sa, sb := Snapshot{Context: seenByA}, Snapshot{Context: seenByB}
	sa.Root, _ = draw(t, st, []sketch{{Entry: ent("f", 1, devA, 1, 1)}})
	sb.Root, _ = draw(t, st, []sketch{dir("f", 1, devB, 1, 1)})
	if _, err := Join(t.Context(), st, sa, sb); err == nil {
		t.Error("joined")
	}
}

func TestValuesOf_ACircleOfPastsHasOneValue(t *testing.T) {
	a, b := ent("f", 1, devA, 1, 1), ent("f", 1, devB, 1, 1)
	a.Past, b.Past = []causal.Dot{b.Edit}, []causal.Dot{a.Edit}
	v := valuesOf([]record{{Entry: a}, {Entry: b}})
	if len(v) != 1 || len(v[0]) != 2 || v[0][0].Edit != b.Edit {
		t.Errorf("%d values", len(v))
	}
}
