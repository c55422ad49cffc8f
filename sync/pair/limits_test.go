package pair_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
)

// filtering has the rule of every other schedule change what it leaves out by size and age, by chance of its own, so that seeds mean what they meant before.
func (w *sim) filtering(seed uint64) {
	if r := rand.New(rand.NewPCG(seed, 0x66696c746572)); r.IntN(2) == 0 {
		w.flt = r
	}
}

// limit gives the rule another filter.
func (w *sim) limit(p *pair.Pair) *pair.Pair {
	if w.flt == nil || w.flt.IntN(3) == 0 {
		return p
	}
	w.o.Limits = pair.Limits{
		MinSize: []int64{0, 0, 2}[w.flt.IntN(3)], MaxSize: []int64{0, 2, 3}[w.flt.IntN(3)],
		MinAge: []time.Duration{0, 0, 4 * time.Second}[w.flt.IntN(3)], MaxAge: []time.Duration{0, 5 * time.Second, 15 * time.Second}[w.flt.IntN(3)],
	}
	w.count["filters"]++
	w.say("the rule leaves out by %+v", w.o.Limits)
	return nil
}

// mark notes that a user deleted or moved a content, and with that what it was made of by edits.
func (w *sim) mark(c string) {
	for ; c != ""; c = w.made[c] {
		w.dropped[c] = true
	}
}

// watched has a turn, and returns an error if it takes a content away from a side that nobody deleted or moved, and that is in nothing that came in its place. Turns that fail say nothing.
func (w *sim) watched(turn func()) error {
	var had [2][]simFile
	for s := range merge.Side(2) {
		had[s], _ = w.list(s)
	}
	turn()
	if w.dead || w.flt == nil || w.faulty[0].rate > 0 || w.faulty[0].killAt > 0 {
		return nil
	}
	for s := range merge.Side(2) {
		has := map[string]bool{}
		files, _ := w.list(s)
		for _, f := range files {
			for c := f.content; c != ""; c = w.made[c] {
				has[c] = true
			}
		}
		for _, f := range had[s] {
			if !has[f.content] && !w.dropped[f.content] && slices.Contains(w.written, f.content) {
				return fmt.Errorf("%s: %s is gone from %s, and nobody deleted or moved it", s, f.content, f.path)
			}
		}
	}
	return nil
}

// A file that grows over the limit is left as it is on both sides, and so is one that gets too old; when the limit goes, what was changed goes over.
func TestPair_LimitsLeaveOutAndDeleteNothing(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	limits := func(l pair.Limits) { r.o.Limits, r.p = l, nil }
	day := 24 * time.Hour
	r.put(merge.Left, "grows", "12")
	r.put(merge.Left, "stays", "34")
	r.put(merge.Right, "big", "123456789")
	limits(pair.Limits{MaxSize: 5})
	r.mustRun()
	r.want(merge.Right, "grows=12", "stays=34", "big=123456789")
	r.want(merge.Left, "grows=12", "stays=34")
	r.put(merge.Left, "grows", "123456")
	r.put(merge.Left, "stays", "345")
	r.mustRun()
	r.want(merge.Right, "grows=12", "stays=345", "big=123456789")
	r.want(merge.Left, "grows=123456", "stays=345")
	e, err := r.p.Explain(t.Context(), "grows")
	if err != nil || !e.Agreed || !strings.Contains(e.LeftOut[0], "6 bytes are more than the 5") || e.LeftOut[1] != "" || len(e.Next) > 0 {
		t.Errorf("explain: %+v, %v", e, err)
	}
	// One that a side removes while it is left out stays on the other, and comes back when the limit goes, also if no turn saw it.
	r.remove(merge.Left, "grows")
	limits(pair.Limits{})
	r.mustRun()
	r.both("grows=12", "stays=345", "big=123456789")
	// Age: what gets too old stays, and an edit goes over, over the old state, too.
	limits(pair.Limits{MaxAge: 30 * day})
	r.now = r.now.Add(31 * day)
	r.mustRun()
	r.both("grows=12", "stays=345", "big=123456789")
	r.put(merge.Left, "stays", "new")
	r.put(merge.Left, "young", "x")
	r.remove(merge.Right, "big")
	r.mustRun()
	r.want(merge.Left, "grows=12", "stays=new", "big=123456789", "young=x")
	r.want(merge.Right, "grows=12", "stays=new", "young=x")
	var out []string
	rep, err := r.p.Preview(t.Context(), pair.PreviewOptions{Limits: &pair.Limits{MaxSize: 2}, File: func(f pair.FileSeen) error {
		out = append(out, fmt.Sprintf("%s %v %v", f.Path, f.On, f.Why != ""))
		return nil
	}})
	slices.Sort(out)
	if got := strings.Join(out, ", "); err != nil || len(rep.Steps) > 0 || got != "big [true false] true, grows [true true] false, stays [true true] true, young [true true] false" {
		t.Errorf("the preview has %s, and the steps %q (%v)", got, rep.Steps, err)
	}
	if rep, err = r.p.Preview(t.Context(), pair.PreviewOptions{Limits: &pair.Limits{}}); err != nil || strings.Join(rep.Steps, ", ") != "right: copy big" {
		t.Errorf("without limits: %q (%v)", rep.Steps, err)
	}
	if rep := r.mustRun(); len(rep.Steps) > 0 {
		t.Errorf("a preview changed the rule: %q", rep.Steps)
	}
}
