package merge

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Filters by size and age in the schedules: a rule has one, users of the rule change it, and the clock moves.

// A limit is a filter by size and age. Zero is no limit.
type limit struct{ minSize, maxSize, minAge, maxAge int64 }

// filtering adds what filters do to a schedule, by chance of its own, so that a seed means what it meant before there were any.
func (sc *schedule) filtering() {
	r := rand.New(rand.NewPCG(sc.seed, 0x66696c746572))
	if r.IntN(2) == 0 {
		return
	}
	sc.timeless = [2]bool{r.IntN(4) == 0, r.IntN(4) == 0}
	for range 1 + r.IntN(6) {
		a := action{kind: "ffc"[r.IntN(3)]}
		for i := range a.a {
			a.a[i] = r.Uint32()
		}
		sc.actions = slices.Insert(sc.actions, r.IntN(len(sc.actions)+1), a)
	}
}

// setLimit has the rule leave other sizes and ages out than before.
func (w *world) setLimit(a action) {
	w.limit = limit{
		minSize: []int64{0, 0, 0, 11}[a.a[0]%4], maxSize: []int64{0, 0, 10, 11}[a.a[1]%4],
		minAge: []int64{0, 0, 0, 30, 80}[a.a[2]%5], maxAge: []int64{0, 0, 60, 110, 160}[a.a[3]%5],
	}
	w.filters = true
	w.say("the rule has the filter %+v", w.limit)
}

// skips reports whether the filter leaves an item out.
func (w *world) skips(i *Item) bool {
	l := w.limit
	if i.Kind != File {
		return false
	}
	age := w.clock - i.MTime
	return i.Size < l.minSize || l.maxSize > 0 && i.Size > l.maxSize || i.MTime != 0 && (l.minAge > 0 && age < l.minAge || l.maxAge > 0 && age > l.maxAge)
}

// noteSkips notes what is left out now, and what it was made of: when that ends, or it goes, the other side's is as new.
func (w *world) noteSkips() {
	for s := range Side(2) {
		for _, t := range w.sides[s].all() {
			if i := w.sides[s].item(t); !w.skips(&i) {
				continue
			}
			w.count["skipped"]++
			for c := t.content; c != 0; c = w.made[c] {
				w.wasOut[c] = true
			}
			for _, b := range w.base {
				if o := s.Other(); b.Item[s].Path == t.path() {
					if x := w.sides[o].find(b.Item[o].Path); x != nil && x.kind == File {
						w.wasOut[x.content] = true
					}
				}
			}
		}
	}
}

// gone notes that a user deleted t and all in it, and with that what it was made of.
func (w *world) gone(t *mthing) {
	if t.kind != Dir {
		for c := t.content; c != 0; c = w.made[c] {
			w.deleted[c] = true
		}
	}
	for _, k := range t.kids {
		w.gone(k)
	}
}

// allowed returns an error if a step does something to a file that is left out, or deletes one that nobody deleted. t is what is on the side of the step.
func (w *world) allowed(st *Step, t *mthing) error {
	th, s, o := st.Thing, st.Side, st.Side.Other()
	skip := [2]bool{th.Has[0] && w.skips(&th.Now[0]), th.Has[1] && w.skips(&th.Now[1])}
	switch {
	case th.Kind != File:
		return nil
	case st.Op == Remove && skip[s]:
		return fmt.Errorf("%s is of a file that is left out", st)
	case st.Op == Copy && skip[o] && !w.partial: // nobody has seen how large, or old, it is that a listing lacks
		return fmt.Errorf("%s brings a file over that is left out", st)
	case st.Op == Copy && th.Has[s] && skip[s]:
		if b := w.base[th.N]; b == nil || b.Item[s].Version != th.Now[s].Version && !alikeFor(&b.Item[s], &th.Now[s]) {
			return fmt.Errorf("%s replaces a file that is left out, and that both sides have never agreed on", st)
		}
	case st.Op == Touch && !w.partial && (skip[s] || skip[o]): // of what a listing lacks nobody knows how old it is
		return fmt.Errorf("%s is of a file that is left out", st)
	}
	if st.Op == Remove && w.o.Mode == TwoWay && w.filters && !w.deleted[t.content] && w.base[th.N] != nil {
		seen := map[int]int{}
		w.sides[s].visible(seen)
		hidden, shown := false, seen[t.content] > 1
		for _, x := range w.sides[o].all() {
			if i := w.sides[o].item(x); x.content == t.content && x.kind == File {
				skip := w.skips(&i) && i.MTime == w.base[th.N].Item[o].MTime && !w.isOut(o, x.path()) && !w.brought(o, &i)
				hidden, shown = hidden || skip, shown || !skip
			}
		}
		if hidden && !shown {
			return fmt.Errorf("%s: the other side has it under another name, and that is left out", st)
		}
	}
	if st.Op == Remove && w.o.Mode == TwoWay && w.filters && !w.deleted[t.content] && !w.moved[t.content] && !t.carried {
		return fmt.Errorf("%s: nobody deleted or moved content %d", st, t.content)
	}
	return nil
}

// brought reports whether a file of side s is one that was brought over, or that came from the other side, under the name that it has.
func (w *world) brought(s Side, i *Item) bool {
	for _, b := range w.base {
		if b.Item[s].Path == i.Path && b.Item[s].Version == i.Version {
			return true
		}
	}
	return false
}

func alikeFor(a, b *Item) bool {
	eq, known := sameContent(a, b)
	return eq && known
}

// alikeSoFar returns an error if something that no filter leaves out is not on both sides.
func (w *world) alikeSoFar() error {
	if w.o.Mode != TwoWay || w.problem > 0 {
		return nil
	}
	for _, b := range w.base { // what was moved on one side while it was left out is under another name on the other
		l, r := w.o.Names[Left].DecodePath(b.Item[Left].Path), w.o.Names[Right].DecodePath(b.Item[Right].Path)
		if (b.Item[0].Skip || b.Item[1].Skip) && w.o.simplify(l) != w.o.simplify(r) {
			return nil
		}
		for s := range Side(2) {
			t := w.sides[s].find(b.Item[s].Path)
			if (b.Item[0].Skip || b.Item[1].Skip) && (t == nil || t.kind != File || t.path() != b.Item[s].Path || w.sides[s].item(t).ID != b.Item[s].ID) {
				return nil
			}
		}
	}
	type seen struct {
		content int
		skip    bool
	}
	var at [2]map[string][]seen // two things may share a name here, and are not looked at
	for s := range Side(2) {
		at[s] = map[string][]seen{}
		for _, t := range w.sides[s].all() {
			if i := w.sides[s].item(t); t.kind != Dir && !w.isOut(s, t.path()) {
				k := w.o.simplify(w.o.Names[s].DecodePath(t.path()))
				at[s][k] = append(at[s][k], seen{t.content, w.skips(&i)})
			}
		}
	}
	for s := range Side(2) {
		for path, xs := range at[s] {
			ys := at[s.Other()][path]
			if len(xs) > 1 || len(ys) > 1 || xs[0].skip {
				continue
			}
			if len(ys) == 0 || !ys[0].skip && xs[0].content != ys[0].content {
				return fmt.Errorf("%s of the %s side is left out by nothing, and not on the other:\nleft  %v\nright %v", path, s, at[0], at[1])
			}
		}
	}
	return nil
}

// deleteSkipped has a user delete a file of one side that is left out, and returns the content that the other side has of it, which from then on is nobody's but its own; 0 if there
// is none.
func (w *world) deleteSkipped(a action) (content int, s Side) {
	if s = Side(a.a[0] & 1); w.o.Mode != TwoWay || w.problem > 0 {
		return 0, s
	}
	for _, b := range w.base {
		o := s.Other()
		t, x := w.sides[s].find(b.Item[s].Path), w.sides[o].find(b.Item[o].Path)
		if t == nil || x == nil || t.kind != File || x.kind != File || t.path() != b.Item[s].Path || x.path() != b.Item[o].Path || b.N != w.firstSkipped(s) || !w.madeOf(t.content, x.content) {
			continue
		}
		w.say("%s: user deletes %s, which is left out", s, t.path())
		content = x.content
		w.end(t)
		w.gone(t)
		w.sides[s].remove(t)
		w.sides[s].prune()
		w.count["deleted while left out"]++
		return content, o
	}
	return 0, s
}

// madeOf reports whether a content is another, or was made of it by edits.
func (w *world) madeOf(c, of int) bool {
	for c != 0 && c != of {
		c = w.made[c]
	}
	return c == of
}

// firstSkipped returns the lowest number of a pair that side s has a left out state of; 0 if there is none.
func (w *world) firstSkipped(s Side) (n uint64) {
	for _, b := range w.base {
		t := w.sides[s].find(b.Item[s].Path)
		if t == nil || t.path() != b.Item[s].Path {
			continue
		}
		if i := w.sides[s].item(t); w.skips(&i) && (n == 0 || b.N < n) {
			n = b.N
		}
	}
	return n
}

// What a filter by size or age leaves out is not here: it is neither deleted, nor replaced, nor brought over.
func TestPlan_CasesOfFilters(t *testing.T) {
	both := func(lines ...string) []Pair { return agreed(tree(lines...), tree(lines...)) }
	mirror := able()
	mirror.Mode = Mirror
	for _, c := range []struct {
		name        string
		o           Options
		base        []Pair
		left, right []Item
		want        []string
	}{
		{"a new one is not copied", able(), nil, tree("a|v=1|skip"), nil, nil},
		{"nor to where another has its name", able(), nil, tree("a|v=1|skip"), tree("a|v=2"), nil},
		{"and a mirror does not remove that", mirror, nil, tree("a|v=1|skip"), tree("a|v=2"), nil},
		{"a file that has grown is left on both sides", able(), both("a|v=1"), tree("a|v=2|skip"), tree("a|v=1"), nil},
		{"also when the other side has another edit", able(), both("a|v=1"), tree("a|v=2|skip"), tree("a|v=3"), nil},
		{"one that is left out is not removed", able(), both("a|v=1"), tree(), tree("a|v=1|skip"), nil},
		{"nor by a mirror", mirror, both("a|v=1"), tree(), tree("a|v=1|skip"), nil},
		{
			"what was left out when a side lost it is as new when the filter goes", able(), agreed(tree("a|v=1|skip"), tree("a|v=1")), tree(), tree("a|v=1"),
			[]string{"left: copy a"},
		},
		{"a filter that goes brings an edit over", able(), agreed(tree("a|v=1|skip"), tree("a|v=1")), tree("a|v=2"), tree("a|v=1"), []string{"right: replace a"}},
		{"an edit goes over though the old state is left out", able(), both("a|v=1|t=5"), tree("a|v=2|t=9"), tree("a|v=1|t=5|skip"), []string{"right: replace a"}},
		{"but not over what nobody agreed on", able(), both("a|v=1|t=5"), tree("a|v=2|t=9"), tree("a|v=3|t=6|skip"), nil},
		{"a directory with one in it stays", able(), both("d|dir", "d/a|v=1"), nil, tree("d|dir", "d/a|v=1|skip"), []string{"left: mkdir d"}},
		{"it moves with its directory", able(), both("d|dir|id=1", "d/a|v=1|id=2"), tree("e|dir|id=1", "e/a|v=1|id=2|skip"), tree("d|dir|id=1", "d/a|v=1|id=2|skip"), []string{"right: move d to e"}},
		{"a move of it is not followed", able(), both("a|v=1|id=1"), tree("b|v=1|id=1|skip"), tree("a|v=1|id=1|skip"), nil},
		{
			"what seems gone may have another name, under which it is left out", able(), agreed(tree("a|v=1|size=4|t=7"), tree("a|v=1|size=4|t=8")), tree("b|v=1|size=4|t=7|skip"),
			tree("a|v=1|size=4|t=8"), nil,
		},
		{"what is gone is, whatever else is left out", able(), both("a|v=1|size=4|t=7"), tree("b|v=1|size=5|t=7|skip"), tree("a|v=1|size=4|t=7"), []string{"right: remove a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := steps(t, c.o, c.base, c.left, c.right)
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// What is left out is noted once, and then there is nothing to do; when it is left out no more, that is noted.
func TestPlan_CasesOfWhatIsNoted(t *testing.T) {
	plan := func(base []Pair, left, right []Item) (all []string) {
		r, err := Plan(Input{Base: seq(base), Now: [2]iter.Seq2[Item, error]{seq(left), seq(right)}}, able())
		if err != nil {
			t.Fatal(err)
		}
		for i := range r.Steps {
			all = append(all, r.Steps[i].String())
		}
		return all
	}
	in, out := tree("a|v=1"), tree("a|v=1|skip")
	for _, c := range []struct {
		base        []Pair
		left, right []Item
		want        string
	}{
		{agreed(in, in), out, in, "[shelve a]"},
		{agreed(out, in), out, in, "[]"},
		{agreed(out, out), in, out, "[shelve a]"},
		{agreed(out, out), in, in, "[agree a]"},
		{agreed(out, in), nil, in, "[left: copy a]"},
		{agreed(in, in), nil, out, "[forget a]"},
	} {
		if got := fmt.Sprint(plan(c.base, c.left, c.right)); got != c.want {
			t.Errorf("%v: got %s, want %s", c, got, c.want)
		}
	}
}

// Two pairs may claim one path for a while: one is of a file that has gone elsewhere where it is left out, the other of one that has its name now.
func TestPlan_CasesOfOnePath(t *testing.T) {
	plan := func(base []Pair, left, right []Item) []Step {
		o := able()
		inOrder(&o, Left, left)
		inOrder(&o, Right, right)
		r, err := Plan(Input{Base: seq(base), Now: [2]iter.Seq2[Item, error]{seq(left), seq(right)}}, o)
		if err != nil {
			t.Fatal(err)
		}
		return r.Steps
	}
	// That the one is left out is noted before the other is agreed on, and it is in no pair then.
	got := plan(agreed(tree("c|v=1|id=1"), tree("c|v=1|sum=1|size=4")), tree("C|v=2|id=1|skip", "c|v=3|id=3"), tree("C|v=1|sum=1|size=4"))
	if len(got) != 2 || got[0].String() != "forget c" || got[1].String() != "right: copy c" || !slices.Contains(got[1].Needs, 0) {
		t.Errorf("the steps are %v", got)
	}
	// Where both are in pairs all the same, whoever has the file that is there has it.
	base := agreed(tree("c|v=1|id=1", "c|v=3|id=3"), tree("c|v=1|sum=1|size=4", "c|v=3|sum=3|size=4"))
	got = plan(base, tree("C|v=1|id=1", "c|v=3|id=3"), tree("C|v=1|sum=1|size=4", "c|v=3|sum=3|size=4"))
	if len(got) != 1 || got[0].String() != "agree C" || got[0].Thing.N != 1 {
		t.Errorf("the steps are %v", got)
	}
	// Where names fold, whoever is called so to the letter has it.
	fold := able()
	fold.Names[Left].Fold = true
	two := tree("A|v=1", "a|v=2")
	for _, c := range [][3]string{{"a|v=5", "right: replace a", "right: remove A"}, {"A|v=5", "right: replace A", "right: remove a"}} {
		if got := steps(t, fold, agreed(two, two), tree(c[0]), tree("A|v=1", "a|v=2")); !slices.Equal(got, c[1:]) {
			t.Errorf("%s: the steps are %q", c[0], got)
		}
	}
}
