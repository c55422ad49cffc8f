package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

func manyEntries(n int) []Entry {
	es := make([]Entry, n)
	for i := range es {
		es[i] = fileEntry(fmt.Sprintf("file-%07d.txt", i), uint64(i))
	}
	return es
}

func TestEditDir_GivesWhatBuildDirGives(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 2))
	st := newMemStore()
	rounds := 16
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		have := make(map[string]Entry)
		var ref chunk.Ref
		span := []int{10, 300, 3000, 40_000}[round%4]
		for range 25 {
			edits := make(map[string]Edit)
			few := r.IntN([]int{4, 40, 4000}[r.IntN(3)])
			at, run := r.IntN(span), r.IntN(2) == 0
			for range few {
				at++
				if !run {
					at = r.IntN(span)
				}
				name := fmt.Sprintf("%06d", at)
				if r.IntN(3) == 0 {
					edits[name] = Edit{Name: name}
					delete(have, name)
					continue
				}
				e := fileEntry(name, r.Uint64N(1<<30))
				if r.IntN(50) == 0 {
					e.Stored = &Stored{Name: "x"}
				}
				edits[name] = Edit{Name: name, Entry: &e}
				have[name] = e
			}
			if r.IntN(20) == 0 { // all of it, or all behind a point
				for name := range have {
					if name > fmt.Sprintf("%06d", at) || at%2 == 0 {
						delete(have, name)
						edits[name] = Edit{Name: name}
					}
				}
			}
			list := slices.SortedFunc(maps.Values(edits), func(a, b Edit) int { return strings.Compare(a.Name, b.Name) })
			got, below, err := EditDir(t.Context(), st, ref, list)
			if err != nil {
				t.Fatal(err)
			}
			full := slices.SortedFunc(maps.Values(have), func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
			want, wantBelow, err := BuildDir(t.Context(), st, seqOf(full))
			if err != nil {
				t.Fatal(err)
			}
			if got != want || below != wantBelow {
				t.Fatalf("round %d: EditDir gives %v %b, BuildDir of %d entries %v %b", round, got, below, len(full), want, wantBelow)
			}
			if n, fl, err := Total(t.Context(), st, got); err != nil || int(n) != len(have) || fl != below {
				t.Fatalf("Total is %d %b %v, want %d %b", n, fl, err, len(have), below)
			}
			ref = got
		}
		listed := collect(t, Entries(t.Context(), st, ref, ""))
		if len(listed) != len(have) {
			t.Fatalf("%d entries listed, want %d", len(listed), len(have))
		}
		for _, e := range listed {
			if w := have[e.Name]; !bytes.Equal(appendEntry(nil, &w), appendEntry(nil, &e)) {
				t.Fatalf("%s was listed otherwise than written", e.Name)
			}
		}
		if all, err := List(t.Context(), st, ref); err != nil || !reflect.DeepEqual(all, listed) {
			t.Fatalf("List gives %d entries, Entries %d: %v", len(all), len(listed), err)
		}
	}
}

func TestEditDir_OfAMillionEntriesRewritesFewNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a directory of 10^6 entries")
	}
	st := newMemStore()
	ref, _, err := BuildDir(t.Context(), st, func(yield func(Entry, error) bool) {
		for i := range 1_000_000 {
			if !yield(fileEntry(fmt.Sprintf("file-%07d.txt", i), uint64(i)), nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed(t), 3))
	sum, worst := 0, 0
	for range 200 {
		e := fileEntry(fmt.Sprintf("file-%07d.txt", r.IntN(1_000_000)), r.Uint64())
		e.Place.Lamport = 9
		st.gets, st.puts, st.putBytes = 0, 0, 0
		if ref, _, err = EditDir(t.Context(), st, ref, []Edit{{Name: e.Name, Entry: &e}}); err != nil {
			t.Fatal(err)
		}
		if st.gets > 8 || st.puts > 8 {
			t.Errorf("%d nodes read and %d written for one changed entry", st.gets, st.puts)
		}
		sum, worst = sum+st.putBytes, max(worst, st.putBytes)
		st.gets = 0
		if got, ok, err := Lookup(t.Context(), st, ref, e.Name); err != nil || !ok || got.ID != e.ID || st.gets > 4 {
			t.Fatalf("Lookup: %v %v %v after %d reads", got.ID, ok, err, st.gets)
		}
	}
	t.Logf("one changed entry of 10^6 writes %d bytes on average, %d at worst", sum/200, worst)
	if sum/200 > 64<<10 {
		t.Errorf("%d bytes written on average, want at most 64 KiB", sum/200)
	}
}

func TestLookup_FindsWhatIsThere(t *testing.T) {
	st := newMemStore()
	ref := buildDir(t, st, manyEntries(5000))
	for i := range 5000 {
		name := fmt.Sprintf("file-%07d.txt", i)
		if e, ok, err := Lookup(t.Context(), st, ref, name); err != nil || !ok || e.Name != name {
			t.Fatalf("%s: %v %v", name, ok, err)
		}
	}
	for _, name := range []string{"", "a", "file-0000007", "file-0004999.txt0", "z"} {
		if _, ok, err := Lookup(t.Context(), st, ref, name); ok || err != nil {
			t.Errorf("%q: %v %v", name, ok, err)
		}
	}
	if _, ok, err := Lookup(t.Context(), st, chunk.Ref{}, "a"); ok || err != nil {
		t.Errorf("in an empty directory: %v %v", ok, err)
	}
}

func TestEntries_BeginAfterAName(t *testing.T) {
	st := newMemStore()
	ref := buildDir(t, st, manyEntries(3000))
	for _, from := range []int{0, 1, 127, 128, 1500, 2998, 2999} {
		got := collect(t, Entries(t.Context(), st, ref, fmt.Sprintf("file-%07d.txt", from)))
		if len(got) != 2999-from {
			t.Errorf("%d entries after %d, want %d", len(got), from, 2999-from)
		}
	}
}

func TestDir_ErrorsOfTheStoreComeThrough(t *testing.T) {
	st := newMemStore()
	ref := buildDir(t, st, manyEntries(3000))
	var victim chunk.ID
	if err := Walk(t.Context(), st, ref, nil, func(r chunk.Ref) error {
		if r.Kind == chunk.Dir && r != ref {
			victim = r.ID
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	delete(st.m, victim)
	failed := false
	for _, err := range Entries(t.Context(), st, ref, "") {
		failed = failed || err != nil
	}
	if !failed {
		t.Error("Entries did not report a missing node")
	}
	if all, err := List(t.Context(), st, ref); err == nil || all != nil {
		t.Errorf("List did not report a missing node: %d entries", len(all))
	}
	e := fileEntry("g", 1)
	_, _, err := BuildDir(t.Context(), st, func(yield func(Entry, error) bool) { _ = yield(e, nil) && yield(Entry{}, errBroken) })
	if !errors.Is(err, errBroken) {
		t.Errorf("BuildDir: %v", err)
	}
	if _, _, err := BuildDir(t.Context(), st, seqOf([]Entry{e, e})); !errors.Is(err, ErrMalformed) {
		t.Errorf("BuildDir of one name twice: %v", err)
	}
}

// dirEntry returns a legal entry of a directory.
func dirEntry(name string, n uint64, node chunk.Ref, below Below) Entry {
	e := fileEntry(name, n)
	return Entry{Name: name, ID: e.ID, Kind: vfs.KindDir, Mode: 0o755, Node: node, Dot: e.Dot, Place: e.Place, Attr: e.Attr, Below: below}
}

func TestDiff_YieldsWhatDiffersAndReadsOnlyThat(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 4))
	st := newMemStore()
	for range 12 {
		trees := [2]map[string]Entry{{}, {}}
		n := r.IntN(5000)
		for i := range n {
			e := fileEntry(fmt.Sprintf("%05d", i), uint64(i))
			for j := range trees {
				f := e
				if r.IntN(400) == 0 {
					f.Mode = vfs.Mode(j)
				}
				if r.IntN(400) > 0 {
					trees[j][e.Name] = f
				}
			}
		}
		var refs [2]chunk.Ref
		for j, m := range trees {
			refs[j] = buildDir(t, st, slices.SortedFunc(maps.Values(m), func(a, b Entry) int { return strings.Compare(a.Name, b.Name) }))
		}
		want := map[string]bool{}
		for i := range n {
			name := fmt.Sprintf("%05d", i)
			a, inA := trees[0][name]
			b, inB := trees[1][name]
			if inA != inB || a.Mode != b.Mode {
				want[name] = true
			}
		}
		last := ""
		for d, err := range Diff(t.Context(), st, refs[0], refs[1]) {
			if err != nil {
				t.Fatal(err)
			}
			if !want[d.Path] || d.Path <= last {
				t.Fatalf("%s yielded after %s", d.Path, last)
			}
			_, inA := trees[0][d.Path]
			_, inB := trees[1][d.Path]
			if (d.Old != nil) != inA || (d.New != nil) != inB {
				t.Fatalf("%s: %v %v", d.Path, d.Old, d.New)
			}
			delete(want, d.Path)
			last = d.Path
		}
		if len(want) > 0 {
			t.Fatalf("not yielded: %v", want)
		}
	}
	big := manyEntries(50_000)
	a := buildDir(t, st, big)
	big[25_000].Mode = 0
	b := buildDir(t, st, big)
	st.gets = 0
	if got := collect(t, Diff(t.Context(), st, a, b)); len(got) != 1 || st.gets > 8 {
		t.Errorf("%d differences after %d reads, want 1 after at most 8", len(got), st.gets)
	}
}

func TestDiff_DescendsInPathOrder(t *testing.T) {
	st := newMemStore()
	sub := buildDir(t, st, []Entry{fileEntry("x", 1), fileEntry("y", 2)})
	sub2 := buildDir(t, st, []Entry{fileEntry("x", 3), fileEntry("y", 2)})
	a := buildDir(t, st, []Entry{dirEntry("a", 10, sub, 0), dirEntry("b", 11, sub, 0), dirEntry("c", 12, sub, 0)})
	b := buildDir(t, st, []Entry{dirEntry("a", 10, sub2, 0), dirEntry("b", 11, sub, 0), fileEntry("c", 12)})
	var got []string
	for _, d := range collect(t, Diff(t.Context(), st, a, b)) {
		got = append(got, d.Path)
	}
	if d := cmp.Diff([]string{"a", "a/x", "c", "c/x", "c/y"}, got); d != "" {
		t.Error(d)
	}
}

// What has a flag that is asked for is yielded though it is equal, with the directories that lead to it; nothing else is.
func TestDiffAlso_YieldsWhatHasTheFlag(t *testing.T) {
	st := newMemStore()
	linked := fileEntry("l", 5)
	linked.Link = nodeID(77)
	sub := buildDir(t, st, []Entry{linked, fileEntry("x", 1)})
	plain := buildDir(t, st, []Entry{fileEntry("x", 2)})
	a := buildDir(t, st, []Entry{dirEntry("a", 10, sub, BelowLink), dirEntry("b", 11, plain, 0), fileEntry("c", 12), fileEntry("d", 13)})
	b := buildDir(t, st, []Entry{dirEntry("a", 10, sub, BelowLink), dirEntry("b", 11, plain, 0), fileEntry("c", 14), fileEntry("d", 13)})
	var got []string
	for _, d := range collect(t, DiffAlso(t.Context(), st, a, b, BelowLink)) {
		got = append(got, d.Path)
	}
	if d := cmp.Diff([]string{"a", "a/l", "c"}, got); d != "" {
		t.Error(d)
	}
}

// T-CAP: the closure of a Ref is the shared subtree, no more and no less: the walk
// below a directory reaches its own chunks and none of its parent's, its siblings', or an
// earlier snapshot's.
func TestWalk_ClosureIsTheSubtree(t *testing.T) {
	st := newMemStore()
	put := func(s string) chunk.Ref {
		r, err := st.Put(t.Context(), chunk.Data, []byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	file := func(name string, n uint64, parts ...string) Entry {
		var xs []Extent
		for _, p := range parts {
			xs = append(xs, Extent{Ref: put(p), Size: int64(len(p))})
		}
		e := fileEntry(name, n)
		var err error
		if e.Node, e.Size, err = BuildFile(t.Context(), st, seqOf(xs)); err != nil {
			t.Fatal(err)
		}
		e.Bytes = e.Size
		return e
	}
	inside := func() []Entry {
		es := []Entry{file("one", 1, "single"), file("two", 2, "first", "second")}
		h := file("three", 3, "hidden bytes")
		h.Name, h.Stored = "three", &Stored{Name: "three"}
		e := file("three", 3, "shown bytes")
		e.Dot.Counter++
		e.Edit = e.Dot
		e.Hidden = []Entry{h}
		return append(es[:1], e, es[1])
	}
	shared := buildDir(t, st, inside())
	mine := map[chunk.ID]bool{}
	for id := range st.m {
		mine[id] = true
	}
	old := buildDir(t, st, []Entry{file("secret", 8, "old secret"), dirEntry("shared", 9, shared, 0)})
	hist, err := BuildHistory(t.Context(), st, []Kept{{Dot: causal.Dot{Device: 1, Counter: 1}, Time: time.Unix(1, 0), Root: old}})
	if err != nil {
		t.Fatal(err)
	}
	root := buildDir(t, st, []Entry{dirEntry("shared", 9, shared, 0), file("tell no one", 7, "sibling")})
	snap, err := PutSnapshot(t.Context(), st, Snapshot{Root: root, History: hist})
	if err != nil {
		t.Fatal(err)
	}
	closure := func(r chunk.Ref) map[chunk.ID]bool {
		got := map[chunk.ID]bool{}
		if err := Walk(t.Context(), st, r, func(r chunk.Ref) bool { return got[r.ID] }, func(r chunk.Ref) error { got[r.ID] = true; return nil }); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if d := cmp.Diff(mine, closure(shared)); d != "" {
		t.Errorf("closure of the shared directory: %s", d)
	}
	if got := closure(snap); len(got) != len(st.m) {
		t.Errorf("closure of the snapshot has %d chunks of %d", len(got), len(st.m))
	}
	// No byte of a node of the subtree holds the name or the key of anything outside.
	for id := range mine {
		for other := range st.m {
			if !mine[other] && strings.Contains(string(st.m[id]), string(other[:16])) {
				t.Errorf("chunk %v names %v, which was not shared", id, other)
			}
		}
	}
}

func TestWalk_SeenCutsTheWalk(t *testing.T) {
	st := newMemStore()
	sub := buildDir(t, st, manyEntries(1000))
	root := buildDir(t, st, []Entry{dirEntry("a", 5001, sub, 0), dirEntry("b", 5002, sub, 0)})
	n := 0
	if err := Walk(t.Context(), st, root, func(r chunk.Ref) bool { return r == sub || r.Kind == chunk.Data }, func(chunk.Ref) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("%d chunks visited, %v; want the root only", n, err)
	}
	if err := Walk(t.Context(), st, root, nil, func(chunk.Ref) error { return errBroken }); !errors.Is(err, errBroken) {
		t.Errorf("error of visit: %v", err)
	}
}

func TestWalkTree_YieldsPathsInOrder(t *testing.T) {
	st := newMemStore()
	sub := buildDir(t, st, []Entry{fileEntry("x", 1)})
	root := buildDir(t, st, []Entry{dirEntry("a", 2, sub, 0), fileEntry("b", 3)})
	var got []string
	for _, p := range collect(t, WalkTree(t.Context(), st, root)) {
		got = append(got, p.Path)
	}
	if d := cmp.Diff([]string{"a", "a/x", "b"}, got); d != "" {
		t.Error(d)
	}
}

// What a change costs is the nodes that it falls into, so few nodes may be much longer than the mean; and each commit writes the last
// leaf of the history.
func TestCutter_FewNodesAreLong(t *testing.T) {
	for _, c := range []struct {
		kind             chunk.Kind
		lim              limits
		mean, long, most int
	}{
		{chunk.Dir, dirLeaf, 150, 280, 400},
		{chunk.Dir, inner, 80, 140, 200},
		{chunk.File, fileLeaf, 300, 560, 800},
		{chunk.History, keptLeaf, 40, 70, 110},
	} {
		rng := rand.New(rand.NewPCG(seed(t), uint64(c.kind)))
		const items = 200_000
		n, squares, inLong := 0, 0, 0
		for range items {
			n++
			if !c.lim.ends(n, rng.Uint64()) {
				continue
			}
			squares += n * n
			if n > c.most {
				t.Errorf("%s: a node of %d items", c.kind, n)
			}
			if n > c.long {
				inLong += n
			}
			n = 0
		}
		if met := squares / items; met > c.mean || inLong > items/100 {
			t.Errorf("%s: a change meets a node of %d items on average, want at most %d, and in %d of %d cases one of more than %d", c.kind, met, c.mean, inLong, items, c.long)
		}
	}
}
