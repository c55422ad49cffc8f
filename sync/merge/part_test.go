package merge

import (
	"errors"
	"iter"
	"slices"
	"testing"
)

// Plans that are of a part: what differs decides whether there are any.
func TestPlan_CasesOfParts(t *testing.T) {
	o := able()
	pairs := func(items ...string) []Pair { return agreed(tree(items...), tree(items...)) }
	for _, tt := range []struct {
		name        string
		from        string
		base        []Pair
		left, right []Item
		mode        Mode
		fold        bool
		steps       []string
		next        string
		err         error
	}{
		{name: "the first of what is new", left: tree("a", "b", "c"), steps: []string{"right: copy a", "right: copy b"}, next: "c"},
		{name: "the rest of it", from: "c", left: tree("c"), steps: []string{"right: copy c"}},
		{
			name: "what both have made is one thing, and what one group has is not taken apart", left: tree("a", "b", "c"), right: tree("b", "c"),
			steps: []string{"right: copy a", "compare b"}, next: "c",
		},
		{name: "what is alike counts as nothing", base: pairs("a", "b"), left: tree("a", "b", "c", "d", "e"), right: tree("a", "b"), steps: []string{"right: copy c", "right: copy d"}, next: "e"},
		{
			name: "something was moved to where the first part does not come, and was edited on the other side", base: pairs("n|id=1|v=1|sum=1"),
			left: tree("a", "b", "c", "z|id=1|v=1|sum=1"), right: tree("n|id=1|v=2|sum=2"),
			steps: []string{"right: move n to z", "left: replace z", "right: copy a", "right: copy b", "right: copy c"},
		},
		{
			name: "something was moved from where the first part does not come, and was edited on the other side", base: pairs("z|id=1|v=1|sum=1"),
			left: tree("a", "b", "c", "d|id=1|v=1|sum=1"), right: tree("z|id=1|v=2|sum=2"),
			steps: []string{"right: move z to d", "left: replace d", "right: copy a", "right: copy b", "right: copy c"},
		},
		{name: "something differs from there on", from: "c", base: pairs("z|v=1|sum=1"), left: tree("c", "z|v=2|sum=2"), right: tree("z|v=1|sum=1"), err: ErrMixed},
		{name: "a mirror may have to be stopped", mode: Mirror, left: tree("a", "b", "c"), steps: []string{"right: copy a", "right: copy b", "right: copy c"}},
		{name: "names fold", fold: true, left: tree("a", "b", "c"), steps: []string{"right: copy a", "right: copy b", "right: copy c"}},
		{name: "the directory was made by a part before", from: "d\x00b", base: pairs("d|dir"), left: tree("d|dir", "d/a", "d/b"), right: tree("d|dir", "d/a"), steps: []string{"right: copy d/b"}},
		{name: "the directory could not be made by a part before", from: "d\x00b", left: tree("d|dir", "d/a", "d/b", "e"), steps: []string{"right: copy e"}},
		{name: "the directory is left out", from: "d\x00b", left: tree("d|dir|out", "d/a|out", "d/b|out", "e"), steps: []string{"right: copy e"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := o
			o.Mode, o.Names[Right].Fold = tt.mode, tt.fold
			r, err := Plan(Input{Base: seq(tt.base), Dirs: seq(tt.base), Now: [2]iter.Seq2[Item, error]{seq(tt.left), seq(tt.right)}, Most: 2, From: tt.from}, o)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			var got []string
			for i := range r.Steps {
				if r.Steps[i].Op < Agree {
					got = append(got, r.Steps[i].String())
				}
			}
			slices.Sort(got)
			slices.Sort(tt.steps)
			if !slices.Equal(got, tt.steps) || r.Next != tt.next {
				t.Errorf("got %q and then %q, want %q and %q", got, r.Next, tt.steps, tt.next)
			}
		})
	}
}
