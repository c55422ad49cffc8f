package merge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
)

// An action is one thing that happens in a schedule. What it does depends on its numbers and on what is there, so a
// schedule from which some are left out still means something.
type action struct {
	kind byte // 'u': a user does something; 's': a plan is made and carried out; 'i': a side leaves a name out, or does so no more; 'f': another filter; 'c': the clock moves
	a    [6]uint32
}

// A schedule is a world and what happens in it.
type schedule struct {
	seed    uint64
	shape   uint32
	actions []action
	// timeless are the sides that give a file the time at which it is put there.
	timeless [2]bool
}

func newSchedule(seed uint64) schedule {
	r := rand.New(rand.NewPCG(seed, 0x6d65726765))
	sc := schedule{seed: seed, shape: r.Uint32()}
	act := func(k byte) {
		a := action{kind: k}
		for i := range a.a {
			a.a[i] = r.Uint32()
		}
		sc.actions = append(sc.actions, a)
	}
	for range 2 + r.IntN(8) {
		act('u')
	}
	for range 1 + r.IntN(3) {
		act('s')
		for range r.IntN(7) {
			act('u')
		}
	}
	// By chance of their own, so that a seed means what it meant before there were any.
	if r := rand.New(rand.NewPCG(seed, 0x69676e6f7265)); r.IntN(2) == 0 {
		for range 1 + r.IntN(5) {
			a := action{kind: 'i', a: [6]uint32{r.Uint32(), r.Uint32()}}
			sc.actions = slices.Insert(sc.actions, r.IntN(len(sc.actions)+1), a)
		}
	}
	sc.filtering()
	return sc
}

// ignore has a side leave out what is called so, and all in it, or leave it out no more.
func (w *world) ignore(a action) {
	s, name := Side(a.a[0]&1), mnames[a.a[1]%uint32(len(mnames))]
	if w.left[s] == nil {
		w.left[s] = map[string]bool{}
	}
	w.left[s][name] = !w.left[s][name]
	w.say("%s: leaves %s out: %v", s, name, w.left[s][name])
}

// isOut reports whether a side leaves out what a side calls so.
func (w *world) isOut(s Side, path string) bool {
	for e := range strings.SplitSeq(w.o.Names[s].DecodePath(path), "/") {
		if w.left[0][e] || w.left[1][e] {
			return true
		}
	}
	return false
}

// noteOut notes what is left out now: when that ends it is as new, whatever somebody did with it meanwhile.
func (w *world) noteOut() {
	for s := range Side(2) {
		for _, t := range w.sides[s].all() {
			if t.kind != Dir && w.isOut(s, t.path()) {
				w.wasOut[t.content] = true
				w.count["left out"]++
			}
		}
	}
}

var mnames = []string{"a", "b", "c", "A", "B", "x.txt", "X.txt", "d:e", "é", "é", "nul", "q."}

func newWorld(shape uint32) *world {
	w := &world{clock: 200, made: map[int]int{}, moved: map[int]bool{}, deleted: map[int]bool{}, base: map[uint64]*Pair{}, ended: map[int]bool{}, carried: map[int]bool{}, wasOut: map[int]bool{}, count: map[string]int{}}
	bit := func(i uint) bool { return shape>>i&1 == 1 }
	for s := range 2 {
		at := uint(s * 12)
		m := &mside{known: map[string]string{}, ids: bit(at), sums: bit(at + 1), restless: bit(at + 2), recycles: bit(at + 3)}
		m.names = Names{Fold: bit(at+4) && bit(at+5), Normal: bit(at+6) && bit(at+4), Windows: bit(at+7) && bit(at+6)}
		m.can = Can{EmptyDirs: bit(at+8) || bit(at+9), Symlinks: true, Modes: bit(at + 10), Touch: bit(at + 11), Times: true, CheapRead: bit(at+2) || bit(at+11)}
		m.root = &mthing{kind: Dir}
		w.sides[s] = m
		w.o.Names[s], w.o.Can[s] = m.names, m.can
	}
	w.o.Date = "2026-11-23"
	w.o.Winner = Winner(shape >> 24 & 7 % 5)
	if shape>>27&3 == 3 {
		w.o.Mode = Mode(shape >> 29 & 3)
	}
	w.o.Brake.Off = true
	return w
}

func (w *world) content() int {
	w.next++
	w.written = append(w.written, w.next)
	return w.next
}

// end notes that a user who saw t replaced or deleted what is in it.
func (w *world) end(t *mthing) {
	if t.kind != Dir {
		w.ended[t.content] = true
	}
	for _, k := range t.kids {
		w.end(k)
	}
}

func (w *world) carry(t *mthing) {
	t.carried = true
	if t.kind != Dir {
		w.carried[t.content] = true
		for c := t.content; c != 0; c = w.made[c] {
			w.moved[c] = true
		}
	}
	for _, k := range t.kids {
		w.carry(k)
	}
}

// user does one thing on one side.
func (w *world) user(a action) {
	s := Side(a.a[0] & 1)
	m := w.sides[s]
	defer m.prune()
	all := m.all()
	dirs := []*mthing{m.root}
	for _, t := range all {
		if t.kind == Dir {
			dirs = append(dirs, t)
		}
	}
	dir := dirs[a.a[1]%uint32(len(dirs))]
	name := mnames[a.a[2]%uint32(len(mnames))]
	if w.legal(s, name) != nil {
		name = "w"
	}
	op := a.a[3] % 16
	var t *mthing
	if len(all) > 0 {
		t = all[a.a[4]%uint32(len(all))]
	} else if op > 5 {
		op = 0
	}
	mtime := int64(a.a[5] % 50)
	switch {
	case op <= 2 || op <= 5 && len(all) < 8: // create
		if m.child(dir, name) != nil {
			return
		}
		k := File
		if op >= 2 && op != 5 {
			k = Dir
		} else if a.a[5]%11 == 0 {
			k = Symlink
		}
		n := m.add(dir, name, k)
		if n.mtime = mtime; k != Dir {
			n.content = w.content()
		}
		w.say("%s: user makes %s %s: %d", s, k, n.path(), n.content)
	case op <= 7: // edit
		if t.kind == Dir {
			return
		}
		w.end(t)
		m.next++
		was := t.content
		t.version, t.content = m.next, w.content()
		w.made[t.content] = was
		if a.a[5]%4 > 0 { // else time and size stay the same
			t.mtime = mtime
		}
		if a.a[5]%5 == 0 && m.ids { // saved by a new file and a rename
			m.next++
			t.id = m.next
		}
		w.say("%s: user edits %s: %d", s, t.path(), t.content)
	case op <= 10: // move
		for d := dir; d != nil; d = d.par {
			if d == t {
				return
			}
		}
		if op == 8 {
			dir = t.par
		}
		if e := m.child(dir, name); e != nil && e != t {
			if a.a[5]%3 > 0 || e.kind == Dir || t.kind == Dir {
				return
			}
			w.end(e)
			w.gone(e)
			m.remove(e)
		}
		from := t.path()
		w.carry(t)
		m.move(t, dir, name)
		w.say("%s: user moves %s to %s", s, from, t.path())
	case op <= 12: // delete
		w.say("%s: user deletes %s", s, t.path())
		w.end(t)
		w.gone(t)
		m.remove(t)
	case op == 13: // the case of the name
		n := strings.ToUpper(t.name)
		if n == t.name {
			n = strings.ToLower(t.name)
		}
		if e := m.child(t.par, n); e != nil && e != t || w.legal(s, n) != nil {
			return
		}
		from := t.path()
		w.carry(t)
		m.move(t, t.par, n)
		w.say("%s: user renames %s to %s", s, from, n)
	case op == 14: // another kind
		w.end(t)
		w.gone(t)
		up, n := t.par, t.name
		m.remove(t)
		k := File
		if t.kind == File {
			k = Dir
		}
		nt := m.add(up, n, k)
		if k == File {
			nt.content = w.content()
		}
		w.say("%s: user makes a %s of %s: %d", s, k, nt.path(), nt.content)
	default: // touch
		t.mtime = mtime + 100
		t.mode = 0o600 + a.a[5]%8
		w.carry(t)
		if m.restless && t.kind == File {
			m.next++
			t.version = m.next
		}
		w.say("%s: user touches %s", s, t.path())
	}
}

// sync makes a plan and carries it out, in some order, with what can go wrong.
func (w *world) sync(a action, calm bool) (steps int, err error) {
	r := rand.New(rand.NewPCG(uint64(a.a[0]), uint64(a.a[1])))
	var hide func(Side, *Item) bool
	if !calm && a.a[2]%5 == 0 {
		s := Side(a.a[3] & 1)
		hide = func(t Side, _ *Item) bool { return s == t && r.IntN(3) == 0 }
		w.count["incomplete"]++
	}
	in := Input{Most: int(a.a[2]/5) % 4}
	for {
		res, err := w.plan(hide, in)
		if in.From != "" && errors.Is(err, ErrMixed) { // the next plan sees it
			w.count["mixed"]++
			return steps + 1, nil
		}
		if err != nil {
			return steps, err
		}
		n, whole, err := w.carryOut(res, a, r, calm, hide != nil)
		steps += n
		if err != nil || !whole || res.Next == "" {
			return steps, err
		}
		if res.Next <= in.From {
			return steps, fmt.Errorf("a plan from %q goes on at %q", in.From, res.Next)
		}
		for i := range res.Steps {
			if res.Steps[i].Op == Remove {
				return steps, fmt.Errorf("a plan that is not of all removes: %v", w.tell(res.Steps))
			}
		}
		in.From = res.Next
		w.count["parts"]++
	}
}

// carryOut does the steps of a plan. whole is false if it was cut off.
func (w *world) carryOut(res *Result, a action, r *rand.Rand, calm, partial bool) (steps int, whole bool, err error) {
	w.rounds++
	w.problem = len(res.Problems)
	w.say("plan %d: %d steps, incomplete: %v", w.rounds, len(res.Steps), partial)
	done := make([]bool, len(res.Steps))
	left := make([]int, len(res.Steps))
	for i := range left {
		left[i] = i
	}
	failed := map[int]bool{}
	stop := len(res.Steps) + 1
	if !calm && a.a[4]%4 == 0 {
		stop = r.IntN(len(res.Steps) + 1)
		w.count["crashes"]++
	}
	for n := 0; len(left) > 0 && n < stop; n++ {
		var ready []int
		for j, i := range left {
			if !slices.ContainsFunc(res.Steps[i].Needs, func(k int) bool { return !done[k] && !failed[k] }) {
				ready = append(ready, j)
			}
		}
		if len(ready) == 0 {
			return 0, false, fmt.Errorf("steps wait for each other: %v", w.tell(res.Steps))
		}
		j := ready[r.IntN(len(ready))]
		i := left[j]
		left = slices.Delete(left, j, j+1)
		st := &res.Steps[i]
		if slices.ContainsFunc(st.Needs, func(k int) bool { return failed[k] }) {
			failed[i] = true
			continue
		}
		if !calm && r.IntN(12) == 0 {
			failed[i] = true
			w.say("  %s: fails", st)
			continue
		}
		if !calm && r.IntN(10) == 0 {
			b := action{kind: 'u'}
			for i := range b.a {
				b.a[i] = r.Uint32()
			}
			w.user(b)
			w.count["meanwhile"]++
		}
		text := st.String()
		switch err := w.do(st); {
		case errors.Is(err, errMChanged):
			failed[i] = true
			w.say("  %s: has changed", st)
			if calm {
				return 0, false, fmt.Errorf("%s is refused though nothing has changed: %v", st, w.tell(res.Steps))
			}
		case err != nil:
			return 0, false, err
		default:
			if st.Why == whyCrossed { // it was deleted twice, once on each side, and neither knew of the other
				for s := range Side(2) {
					if t := w.sides[s].find(st.At[s]); t != nil {
						w.wasOut[t.content] = true
						w.count["crossed"]++
					}
				}
			}
			done[i] = true
			w.say("  %s %v because %s", text, st.At, st.Why)
			w.count[st.Op.String()]++
			if st.Conflict != nil {
				w.count["conflicts"]++
			}
		}
	}
	return len(res.Steps), len(left) == 0, nil
}

func (w *world) tell(steps []Step) string {
	var b strings.Builder
	for i := range steps {
		fmt.Fprintf(&b, "\n  %d: %s %v needs %v", i, &steps[i], steps[i].At, steps[i].Needs)
	}
	return b.String()
}

// run does all that is in a schedule, and then looks whether all is as it has to be.
func (sc schedule) run(tell bool) (w *world, err error) {
	w = newWorld(sc.shape)
	for s, less := range sc.timeless {
		w.sides[s].can.Times = w.sides[s].can.Times && !less
		w.o.Can[s] = w.sides[s].can
	}
	w.quiet = !tell
	defer func() {
		if r := recover(); r != nil && !tell {
			err = fmt.Errorf("panic: %v", r)
		} else if r != nil {
			panic(r)
		}
	}()
	for _, a := range sc.actions {
		switch a.kind {
		case 'u':
			w.user(a)
		case 'i':
			w.ignore(a)
		case 'f':
			w.setLimit(a)
		case 'c':
			w.clock += 10 + int64(a.a[0]%60)
			w.say("the clock is at %d", w.clock)
		default:
			if _, err := w.sync(a, false); err != nil {
				return w, err
			}
		}
	}
	if err := w.settled(action{a: [6]uint32{sc.shape}}); err != nil {
		return w, err
	}
	if err := w.kept(); err != nil {
		return w, err
	}
	if err := w.alikeSoFar(); err != nil {
		return w, err
	}
	if w.left[0] != nil || w.left[1] != nil || w.filters {
		content, s := w.deleteSkipped(action{a: [6]uint32{sc.shape >> 7}})
		w.left, w.limit = [2]map[string]bool{}, limit{}
		w.say("nothing is left out any more")
		if err := w.settled(action{a: [6]uint32{sc.shape}}); err != nil {
			return w, err
		}
		if seen := map[int]int{}; content != 0 {
			if w.sides[s].visible(seen); seen[content] == 0 {
				return w, fmt.Errorf("content %d is gone from the %s side: it was left out when the other side lost it", content, s)
			}
		}
	}
	return w, w.check()
}

// settled plans until nothing is left to do.
func (w *world) settled(a action) error {
	for i := 0; ; i++ {
		if i == 8 {
			return fmt.Errorf("plans do not come to an end")
		}
		a.a[1] = uint32(i)
		n, err := w.sync(a, true)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

// kept returns an error if something is lost that nobody replaced or deleted.
func (w *world) kept() error {
	seen := map[int]int{}
	for s := range 2 {
		w.sides[s].visible(seen)
	}
	for _, c := range w.written {
		if w.o.Mode != Mirror && !w.ended[c] && seen[c] == 0 {
			return fmt.Errorf("content %d is lost: nobody replaced or deleted it", c)
		}
	}
	return nil
}

// tree returns what a side has as lines, in names and forms that both share.
func (w *world) tree(s Side) []string {
	var lines []string
	m := w.sides[s]
	lossy := !w.sides[0].can.EmptyDirs || !w.sides[1].can.EmptyDirs
	for _, t := range m.all() {
		if t.kind == Dir && lossy && !holds(t) {
			continue
		}
		if t.kind != Dir || !lossy {
			lines = append(lines, fmt.Sprintf("%s %s %d", w.o.simplify(w.o.Names[s].DecodePath(t.path())), t.kind, t.content))
		}
	}
	sort.Strings(lines)
	return lines
}

func (w *world) check() error {
	l, r := w.tree(Left), w.tree(Right)
	seen := [2]map[int]int{{}, {}}
	for s := range 2 {
		w.sides[s].visible(seen[s])
	}
	switch {
	case w.problem > 0:
		w.count["told instead"]++
	case w.o.Mode == TwoWay, w.o.Mode == Mirror:
		if !slices.Equal(l, r) {
			return fmt.Errorf("the sides differ:\nleft  %q\nright %q", l, r)
		}
	default:
		for c := range seen[0] {
			if seen[1][c] == 0 && !w.ended[c] { // what the right side changed by itself stays
				return fmt.Errorf("the right side lacks content %d of the left one:\nleft  %q\nright %q", c, l, r)
			}
		}
	}
	if n := len(w.sides[0].all()); w.o.Mode == TwoWay && w.problem == 0 && w.sides[0].can.EmptyDirs && w.sides[1].can.EmptyDirs && len(w.base) != n {
		return fmt.Errorf("the base has %d pairs of %d things: %v", len(w.base), n, w.pairs())
	}
	for s := range Side(2) {
		for _, t := range w.sides[s].all() {
			if strings.HasPrefix(t.name, Moving) {
				return fmt.Errorf("%s: %s is left", s, t.path())
			}
		}
	}
	for _, m := range w.sides {
		for _, t := range m.all() {
			for d := t; d != nil; d = d.par {
				w.carried[t.content] = w.carried[t.content] || d.carried
			}
		}
	}
	if err := w.kept(); err != nil {
		return err
	}
	for _, c := range w.written {
		if w.o.Mode == TwoWay && w.ended[c] && !w.carried[c] && !w.wasOut[c] && seen[0][c] > 0 {
			return fmt.Errorf("content %d is back: it was replaced or deleted, and nobody moved or touched it", c)
		}
		if w.o.Mode == TwoWay && seen[0][c] > 1 {
			w.count["doubled"]++
		}
	}
	return nil
}

// shrink leaves actions out as long as the schedule still fails.
func (sc schedule) shrink() schedule {
	for again := true; again; {
		again = false
		for size := max(1, len(sc.actions)/2); size >= 1; size /= 2 {
			for i := 0; i+size <= len(sc.actions); i++ {
				try := sc
				try.actions = slices.Delete(slices.Clone(sc.actions), i, i+size)
				if _, err := try.run(false); err != nil {
					sc, again = try, true
					i--
				}
			}
		}
	}
	return sc
}
