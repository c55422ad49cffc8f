package pair_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
)

// What is new goes over a part after the other in one turn, from both sides, also where directories are begun in one part and go on in the next, and where one side shows none.
func TestPair_BringsWhatIsNewInParts(t *testing.T) {
	defer pair.PlansOf(4)()
	for name, shape := range map[string]memtree.Options{"a folder": {NoFeed: true}, "a bucket": {NoEmptyDirs: true, NoIDs: true, NoFeed: true, NoDirMove: true}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memtree.Options{}, shape)
			plans := 0
			r.o.Planned = func(int, int64) { plans++ }
			var want []string
			for i := range 30 {
				path := fmt.Sprintf("d%d/e/f%02d", i/10, i)
				r.put(merge.Side(i%2), path, path)
				want = append(want, path+"="+path)
			}
			want = append(want, "d0/", "d0/e/", "d1/", "d1/e/", "d2/", "d2/e/")
			if rep := r.mustRun(); rep.Agreed != 0 || len(rep.Problems) > 0 || plans < 5 {
				t.Errorf("%d plans, %d alike before, problems %v; want some plans, and nothing else", plans, rep.Agreed, rep.Problems)
			}
			r.both(want...)
		})
	}
}

// What one part cannot bring over keeps no other part back.
func TestPair_GoesOnAfterAPartThatFails(t *testing.T) {
	defer pair.PlansOf(2)()
	r := newRig(t, memtree.Options{}, memtree.Options{Illegal: func(name string) bool { return name == "b" || name == "g" }})
	for _, path := range []string{"a", "b/x", "b/y", "b/z", "c/x", "g", "h", "i/j/k"} {
		r.put(merge.Left, path, path)
	}
	if rep, err := r.run(); !errors.Is(err, pair.ErrSome) {
		t.Errorf("got %v and %v, want ErrSome", err, rep.Failed)
	}
	r.want(merge.Right, "a=a", "c/", "c/x=c/x", "h=h", "i/", "i/j/", "i/j/k=i/j/k")
}

// Where something went away besides, one plan has all: what got another name is not deleted, and many deletes are a question.
func TestPair_LooksAtAllWhereSomethingWentAway(t *testing.T) {
	defer pair.PlansOf(2)()
	r := newRig(t, memtree.Options{}, memtree.Options{})
	for i := range 60 {
		r.put(merge.Left, fmt.Sprintf("f%02d", i), fmt.Sprint(i))
	}
	r.mustRun()
	for i := range 10 {
		r.put(merge.Left, fmt.Sprintf("a%d", i), fmt.Sprint("a", i))
	}
	r.move(merge.Left, "f59", "z")
	if rep := r.mustRun(); !slices.Contains(rep.Steps, "right: move f59 to z") || len(rep.Steps) != 11 {
		t.Errorf("it did %q, want one move and ten copies", rep.Steps)
	}
	for i := range 59 {
		r.remove(merge.Left, fmt.Sprintf("f%02d", i))
	}
	for i := range 10 {
		r.put(merge.Left, fmt.Sprintf("b%d", i), fmt.Sprint("b", i))
	}
	if _, err := r.run(); !errors.Is(err, pair.ErrBraked) {
		t.Errorf("got %v, want ErrBraked", err)
	}
}
