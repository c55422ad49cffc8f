package merge

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
)

// tree reads items from lines "path kind content": a file has its content as its version and hash.
func tree(lines ...string) (items []Item) {
	for _, l := range lines {
		f := strings.Split(l, "|")
		i := Item{Path: f[0], Kind: File, Size: -1}
		for _, a := range f[1:] {
			k, v, _ := strings.Cut(a, "=")
			switch k {
			case "dir":
				i.Kind = Dir
			case "link":
				i.Kind, i.Target = Symlink, v
			case "other":
				i.Kind = Other
			case "out":
				i.Out = true
			case "skip":
				i.Skip = true
			case "id":
				i.ID = v
			case "v":
				i.Version = v
			case "sum":
				i.Sums = "sum:" + v
			case "size":
				fmt.Sscan(v, &i.Size)
			case "t":
				fmt.Sscan(v, &i.MTime)
			}
		}
		items = append(items, i)
	}
	return items
}

// agreed makes pairs of what both sides have alike.
func agreed(left, right []Item) (pairs []Pair) {
	for i := range left {
		pairs = append(pairs, Pair{N: uint64(i + 1), Item: [2]Item{left[i], right[i]}})
	}
	return pairs
}

func able() Options {
	c := Can{EmptyDirs: true, Symlinks: true, Touch: true, Times: true}
	return Options{Can: [2]Can{c, c}, Date: "2026-11-23", Label: [2]string{"laptop", "cloud"}}
}

// steps plans, and returns the lines of the steps that change a place or tell of something.
func steps(t *testing.T, o Options, base []Pair, left, right []Item) []string {
	t.Helper()
	inOrder(&o, Left, left)
	inOrder(&o, Right, right)
	w := &world{o: o, base: map[uint64]*Pair{}}
	for i := range base {
		w.base[base[i].N] = &base[i]
	}
	r, err := Plan(Input{
		Base: seq(w.pairs()), Now: [2]iter.Seq2[Item, error]{seq(left), seq(right)},
		Taken: func(s Side, path string) bool {
			return slices.ContainsFunc([2][]Item{left, right}[s], func(i Item) bool { return i.Path == path })
		},
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for i := range r.Steps {
		if r.Steps[i].Op < Agree {
			all = append(all, r.Steps[i].String())
		}
	}
	for _, p := range r.Problems {
		all = append(all, "problem: "+p.Path+": "+p.Why)
	}
	if r.Braked != nil {
		all = append(all, "braked: "+r.Braked.Error())
	}
	return all
}

func TestPlan_Cases(t *testing.T) {
	both := func(lines ...string) []Pair { return agreed(tree(lines...), tree(lines...)) }
	fold := func(o Options) Options { o.Names[Right].Fold = true; return o }
	for _, c := range []struct {
		name        string
		o           Options
		base        []Pair
		left, right []Item
		want        []string
	}{
		{"nothing has changed", able(), both("a|v=1"), tree("a|v=1"), tree("a|v=1"), nil},
		{"a new file is copied", able(), nil, tree("d|dir", "d/a|v=1"), nil, []string{"right: mkdir d", "right: copy d/a"}},
		{"a deleted file is removed", able(), both("a|v=1", "b|v=1"), tree("b|v=1"), tree("a|v=1", "b|v=1"), []string{"right: remove a"}},
		{"an edit goes over", able(), both("a|v=1"), tree("a|v=2"), tree("a|v=1"), []string{"right: replace a"}},
		{"an edit is not undone by a delete", able(), both("a|v=1"), nil, tree("a|v=2"), []string{"left: copy a"}},
		{"a move is not undone by a delete", able(), both("a|v=1|id=1"), nil, tree("b|v=1|id=1"), []string{"left: copy b"}},
		{
			"nor is one of a directory with all in it", able(), both("d|dir|id=1", "d/a|v=1|id=2"), nil, tree("e|dir|id=1", "e/a|v=1|id=2"),
			[]string{"left: mkdir e", "left: copy e/a"},
		},
		{
			"an ID that is used again moves nothing", able(), agreed(tree("a|dir|id=1", "b/x|v=3"), tree("a|dir", "b/x|v=3")), tree("b|dir|id=1", "b/x|v=3"), nil,
			[]string{"right: mkdir b", "left: remove b/x"}, // whether b is a, or made anew since, nobody can tell; a directory that comes back is empty
		},
		{
			"the last of a content is not deleted under two names", able(), both("a|v=1|size=3|sum=x", "b|v=2|size=3|sum=x"), tree("a|v=1|size=3|sum=x"), tree("b|v=2|size=3|sum=x"),
			[]string{"left: copy b", "right: copy a"},
		},
		{
			"nor is that of a link", able(), both("a|link=x", "b|link=x"), tree("a|link=x"), tree("b|link=x"),
			[]string{"left: copy b", "right: copy a"},
		},
		{"two contents are", able(), both("a|v=1|size=3|sum=x", "b|v=2|size=3|sum=y", "c|v=1"), tree("a|v=1|size=3|sum=x", "c|v=1"), tree("b|v=2|size=3|sum=y", "c|v=1"), []string{"left: remove a", "right: remove b"}},
		{"a touch is not undone by a delete", able(), both("a|v=1|t=5|sum=x|size=3"), nil, tree("a|v=2|t=6|sum=x|size=3"), []string{"left: copy a"}},
		{"a new time goes over without the bytes", able(), both("a|v=1|t=5|sum=x|size=3"), tree("a|v=2|t=6|sum=x|size=3"), tree("a|v=1|t=5|sum=x|size=3"), []string{"right: touch a"}},
		{"both have the same new file", able(), nil, tree("a|v=1|size=5|sum=x"), tree("a|v=9|size=5|sum=x"), nil},
		{"both have a new file, and only reading tells", able(), nil, tree("a|v=1|size=5"), tree("a|v=9|size=5"), []string{"compare a"}},
		{
			"both have edited, the newer keeps the name", able(), both("a.odt|v=1"), tree("a.odt|v=2|size=1|t=5"), tree("a.odt|v=3|size=2|t=9"),
			[]string{"left: move a.odt to a (conflict, laptop, 2026-11-23).odt", "left: copy a.odt", "right: copy a (conflict, laptop, 2026-11-23).odt"},
		},
		{"a move of the right side is followed", able(), both("a|v=1|id=1"), tree("a|v=1|id=1"), tree("b|v=1|id=1"), []string{"left: move a to b"}},
		{
			"where names fold, who has a path to the letter has it", fold(able()), agreed(tree("b|v=1", "B|v=2"), tree("b|v=1", "B|v=2")),
			tree("b|v=1", "B|v=2"), tree("B|v=2"),
			[]string{"left: remove b"},
		},
		{
			"a directory takes the place of another, and what was in that stays", able(), both("b|dir|id=2", "e|dir|id=1", "e/c|v=1|id=3"),
			tree("e|dir|id=2", "e/c|v=1|id=3"), tree("b|dir|id=2", "e|dir|id=1", "e/c|v=1|id=3"),
			[]string{"right: move e to .sheaf-moving-0-e", "right: move b to e", "right: move .sheaf-moving-0-e/c to e/c", "right: remove .sheaf-moving-0-e"},
		},
		{
			"a conflict takes no name that is in use", able(), both("a (conflict, laptop, 2026-11-23)|v=9"),
			tree("a|v=1|size=1|t=1", "a (conflict, laptop, 2026-11-23)|v=9"), tree("a|v=2|size=2|t=9", "a (conflict, laptop, 2026-11-23)|v=9"),
			[]string{"left: move a to a (conflict, laptop, 2026-11-23, 2)", "left: copy a", "right: copy a (conflict, laptop, 2026-11-23, 2)"},
		},
		{
			"what is out of the way gets its name back", able(), agreed(tree("a|v=1"), tree(".sheaf-moving-0-a|v=1")), tree("a|v=1"), tree(".sheaf-moving-0-a|v=1"),
			[]string{"right: move .sheaf-moving-0-a to a"},
		},
		{
			"on the left side, too", able(), agreed(tree(".sheaf-moving-0-a|v=1"), tree("a|v=1")), tree(".sheaf-moving-0-a|v=1"), tree("a|v=1"),
			[]string{"left: move .sheaf-moving-0-a to a"},
		},
		{"a move by ID is a move", able(), both("d|dir|id=1", "d/a|v=1|id=2"), tree("e|dir|id=1", "e/a|v=1|id=2"), tree("d|dir|id=1", "d/a|v=1|id=2"), []string{"right: move d to e"}},
		{
			"a move without IDs is one by content, of a directory too", able(), both("d|dir", "d/a|v=1|size=3|sum=x", "d/b|v=1|size=3|sum=y"),
			tree("e|dir", "e/a|v=1|size=3|sum=x", "e/b|v=1|size=3|sum=y"), tree("d|dir", "d/a|v=1|size=3|sum=x", "d/b|v=1|size=3|sum=y"),
			[]string{"right: move d to e"},
		},
		{"S1: another case is one rename", fold(able()), both("Read|v=1|id=1"), tree("READ|v=1|id=1"), tree("Read|v=1|id=1"), []string{"right: move Read to READ"}},
		{
			"S9: two moves that make a circle", able(), both("a|dir|id=1", "b|dir|id=2"), tree("b|dir|id=2", "b/a|dir|id=1"), tree("a|dir|id=1", "a/b|dir|id=2"),
			[]string{"right: move a/b to b", "right: move a to b/a"},
		},
		{
			"two names change places", able(), both("a|v=1|id=1", "b|v=2|id=2"), tree("a|v=2|id=2", "b|v=1|id=1"), tree("a|v=1|id=1", "b|v=2|id=2"),
			[]string{"right: move a to .sheaf-moving-0-a", "right: move b to a", "right: move .sheaf-moving-0-a to b"},
		},
		{
			"S10: a file becomes a directory", able(), both("a|v=1"), tree("a|dir", "a/b|v=2"), tree("a|v=1"),
			[]string{"right: remove a", "right: mkdir a", "right: copy a/b"},
		},
		{"S15: what is left out is not deleted", able(), both("a|v=1"), tree("a|v=1|out"), tree("a|v=1|out"), nil},
		{"a directory with something that is left out stays", able(), both("d|dir", "d/a|v=1"), nil, tree("d|dir", "d/a|v=1", "d/o|v=7|out"), []string{"left: mkdir d", "right: remove d/a"}},
		{"what has no bytes is left alone, and told", able(), nil, tree("a|other"), nil, []string{"problem: a: it has no bytes that could be copied"}},
		{"two names that one side cannot tell apart", fold(able()), nil, tree("A|v=1", "a|v=2"), nil, []string{"right: copy a", "right: copy A {c40bf6cc}"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := steps(t, c.o, c.base, c.left, c.right)
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// From a tree that was not seen whole follow no delete and no move (I12), and what was not seen is not taken for replaced.
func TestPlan_CasesOfIncompleteListings(t *testing.T) {
	for _, c := range []struct {
		name             string
		base, left, want []string
	}{
		{"no delete", []string{"a|v=1|id=1", "b|v=1|id=2"}, []string{"b|v=1|id=2"}, nil},
		{"no move", []string{"a|v=1|id=1"}, []string{"b|v=1|id=1"}, []string{"right: copy b"}},
		{"no change of kind", []string{"a|v=1"}, []string{"a|dir"}, nil},
	} {
		right := tree(c.base...)
		base := agreed(tree(c.base...), right)
		r, err := Plan(Input{
			Base: seq(base), Now: [2]iter.Seq2[Item, error]{seq(tree(c.left...)), seq(right)}, Incomplete: [2]bool{true, false},
		}, able())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range r.Steps {
			if r.Steps[i].Op < Agree {
				got = append(got, r.Steps[i].String())
			}
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPlan_StopsBeforeItDeletesTooMuch(t *testing.T) {
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprintf("f%03d|v=1", i))
	}
	base := agreed(tree(all...), tree(all...))
	for _, c := range []struct {
		left int
		o    Brake
		want bool
	}{{100, Brake{}, false}, {50, Brake{}, false}, {49, Brake{}, true}, {0, Brake{}, true}, {49, Brake{Off: true}, false}, {90, Brake{Files: 5, Percent: 5}, true}} {
		o := able()
		o.Brake = c.o
		got := steps(t, o, base, tree(all[:c.left]...), tree(all...))
		braked := len(got) > 0 && strings.HasPrefix(got[len(got)-1], "braked")
		if braked != c.want {
			t.Errorf("%d of 100 left, %+v: got braked %v, want %v", c.left, c.o, braked, c.want)
		}
	}
	// Of a few files all is too much, too: that is what a folder looks like when its disk is not there.
	got := steps(t, able(), base[:3], nil, tree(all[:3]...))
	if got[len(got)-1] != "braked: 3 of 3 files would be deleted on the right side" {
		t.Errorf("got %q", got)
	}
}

// A mirror removes also what only the right side had. The first one onto a place that is full of other things asks before it empties that.
func TestPlan_StopsBeforeAMirrorEmptiesAPlace(t *testing.T) {
	var own []string
	for i := range 60 {
		own = append(own, fmt.Sprintf("own%03d|v=1", i))
	}
	o := able()
	o.Mode = Mirror
	got := steps(t, o, nil, tree("a|v=1"), tree(own...))
	if got[len(got)-1] != "braked: 60 of 60 files would be deleted on the right side" {
		t.Errorf("got %q", got)
	}
	var all []string
	for i := range 240 {
		all = append(all, fmt.Sprintf("f%03d|v=1", i))
	}
	base := agreed(tree(all...), tree(all...))
	got = steps(t, o, base, tree(all...), tree(append(own[:50], all...)...))
	if len(got) != 50 || strings.HasPrefix(got[len(got)-1], "braked") {
		t.Errorf("50 of 290: got %q", got)
	}
	got = steps(t, o, base, tree(all...), tree(append(own, all...)...))
	if got[len(got)-1] != "right: remove own059" {
		t.Errorf("60 of 300: got %q", got)
	}
	got = steps(t, o, base, tree(all[:230]...), tree(append(own, all...)...))
	if got[len(got)-1] != "braked: 70 of 300 files would be deleted on the right side" {
		t.Errorf("70 of 300: got %q", got)
	}
}

func TestPlan_FailsWithItsSequences(t *testing.T) {
	bad := func(yield func(Item, error) bool) { yield(Item{}, errors.New("gone")) }
	if _, err := Plan(Input{Now: [2]iter.Seq2[Item, error]{bad, nil}}, able()); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("got %v", err)
	}
	if _, err := Plan(Input{Now: [2]iter.Seq2[Item, error]{nil, seq(tree("b", "a"))}}, able()); err == nil {
		t.Error("got no error for a sequence that is out of order")
	}
}

func TestPlan_IsTheSameForTheSameTrees(t *testing.T) {
	for seed := range uint64(300) {
		sc := newSchedule(seed)
		a, _ := sc.run(true)
		b, _ := sc.run(true)
		if fmt.Sprint(a.said) != fmt.Sprint(b.said) {
			t.Fatalf("seed %d: two runs differ", seed)
		}
	}
}

func BenchmarkPlan_NothingChanged(b *testing.B) {
	items := make([]Item, 0, 100_000)
	for i := range cap(items) {
		items = append(items, Item{Path: fmt.Sprintf("dir%03d/file%06d", i/1000, i), Version: "v1", Size: 100, MTime: 5})
	}
	base := agreed(items, items)
	b.ReportAllocs()
	for b.Loop() {
		r, err := Plan(Input{Base: seq(base), Now: [2]iter.Seq2[Item, error]{seq(items), seq(items)}}, able())
		if err != nil || len(r.Steps) > 0 {
			b.Fatal(err, len(r.Steps))
		}
	}
}
