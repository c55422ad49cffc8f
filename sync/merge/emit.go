package merge

import (
	"fmt"
	"slices"
	"strings"
)

// Moving is how the names begin that things have for a moment while others take theirs: a number, "-" and the old name follow.
const Moving = ".sheaf-moving-"

// emit makes the steps.
func (p *planner) emit() {
	for s := range Side(2) {
		for _, n := range p.nodes {
			if n.has[s] {
				n.thing.Now[s], n.thing.Has[s] = n.cur[s], true
				n.there[s] = true
				p.settle(s, n, spot{n.par[s], base(n.cur[s].Path)})
			}
		}
		p.wants(s)
	}
	for _, n := range p.nodes {
		if n.out {
			p.leaveOut(n)
		}
	}
	for s := range Side(2) {
		if p.o.writes(s) {
			for _, n := range p.nodes {
				if n.alive {
					p.put(s, n)
				}
			}
		}
	}
	for s := range Side(2) {
		if p.o.writes(s) {
			for _, n := range p.nodes {
				p.fill(s, n)
			}
		}
	}
	for s := range Side(2) {
		if p.o.deletes(s) {
			for _, n := range p.nodes {
				if !n.alive && n.there[s] {
					p.remove(s, n)
				}
			}
		}
	}
	for _, n := range p.nodes {
		p.finish(n)
	}
}

// base returns the last element of a path.
func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// slotOf is a spot in the form in which s tells names apart.
func (p *planner) slotOf(s Side, at spot) spot { return spot{at.par, p.o.Names[s].slot(at.name)} }

// settle notes that n is at a spot now.
func (p *planner) settle(s Side, n *node, at spot) {
	n.at[s] = at
	p.occ[s][p.slotOf(s, at)] = n
	at.par.kids[s] = append(at.par.kids[s], n)
}

// leave notes that n is no more where it was.
func (p *planner) leave(s Side, n *node) {
	at := n.at[s]
	if k := p.slotOf(s, at); p.occ[s][k] == n {
		delete(p.occ[s], k)
	}
	if i := slices.Index(at.par.kids[s], n); i >= 0 {
		at.par.kids[s] = slices.Delete(at.par.kids[s], i, i+1)
	}
}

// wants decides the form of the name of each node on s.
func (p *planner) wants(s Side) {
	p.claimed[s] = map[spot]*node{}
	claim := func(n *node, enc string) bool {
		k := p.slotOf(s, spot{n.tpar, enc})
		if p.claimed[s][k] != nil {
			return false
		}
		p.claimed[s][k] = n
		n.want[s] = enc
		return true
	}
	var rest []*node
	for _, n := range p.nodes {
		if !n.alive {
			continue
		}
		if n.there[s] && p.o.Names[s].same(p.o.Names[s].Decode(n.at[s].name), n.tname[s]) && claim(n, n.at[s].name) {
			continue
		}
		rest = append(rest, n)
	}
	for _, n := range rest {
		enc, ok := p.o.Names[s].Encode(n.tname[s], false)
		// What is called as another name is written there was met under its own name, if at all.
		if ok && (enc != n.tname[s] && p.elsewhere(s, n.tpar, enc) || !claim(n, enc)) {
			enc, ok = p.o.Names[s].Encode(n.tname[s], true)
			ok = ok && !p.elsewhere(s, n.tpar, enc) && claim(n, enc)
		}
		if !ok && !n.out && p.o.writes(s) && (n.kind == Dir && !n.there[s] || n.source >= 0 && Side(n.source) != s || n.there[s]) {
			n.blocked[s] = true
			p.out.Problems = append(p.out.Problems, Problem{s.Other(), p.path(s.Other(), n), fmt.Sprintf("the %s side cannot have the name", s)})
		}
	}
}

// elsewhere reports whether a name is used by something that this plan has nothing to do with.
func (p *planner) elsewhere(s Side, dir *node, name string) bool {
	if !dir.has[s] {
		return false
	}
	if dir != p.root {
		name = dir.cur[s].Path + "/" + name
	}
	return p.byPath[s][p.pathKey(s, name)] == nil && p.in.Taken != nil && p.in.Taken(s, name)
}

// path returns where n is on s, as the steps up to now make it.
func (p *planner) path(s Side, n *node) string {
	if n == p.root || !n.there[s] {
		return ""
	}
	if n.at[s].par == p.root {
		return n.at[s].name
	}
	return p.path(s, n.at[s].par) + "/" + n.at[s].name
}

// put brings a directory, and whatever is on s already, to its place there. It reports whether n can have things in it.
func (p *planner) put(s Side, n *node) bool {
	if n == p.root || n.placed[s] {
		return n.there[s] && !n.blocked[s]
	}
	if n.out || n.fixed {
		n.placed[s] = true
		if n.out && n.there[s] {
			p.put(s, n.at[s].par) // it stays in that, wherever that is to be
		}
		return n.there[s]
	}
	if n.busy[s] {
		return false
	}
	n.busy[s] = true
	defer func() { n.busy[s], n.placed[s] = false, true }()
	if n.blocked[s] || !n.alive || !p.put(s, n.tpar) {
		n.blocked[s] = true
		return false
	}
	if n.placed[s] {
		return n.there[s]
	}
	want := spot{n.tpar, n.want[s]}
	if n.there[s] && n.at[s] == want {
		return true
	}
	if !n.there[s] && (n.kind != Dir || !n.has[s.Other()]) {
		return false
	}
	if n.there[s] && within(s, n.tpar, n) {
		p.out.Problems = append(p.out.Problems, Problem{s, p.path(s, n), "it is to be in a directory that is left out, and that one is in it"})
		n.blocked[s] = true
		return false
	}
	if !p.clear(s, want, n) {
		n.blocked[s] = true
		return false
	}
	if n.there[s] {
		p.move(s, n, want)
		return true
	}
	n.there[s] = true
	p.settle(s, n, want)
	p.add(n, Step{Op: Mkdir, Side: s, Path: p.path(s, n)})
	n.last[s] = n.prev
	return true
}

// within reports whether n is in up, or in something in it, as the steps up to now make it.
func within(s Side, n, up *node) bool {
	for ; n != nil; n = n.at[s].par {
		if n == up {
			return true
		}
	}
	return false
}

// move makes a step of it.
func (p *planner) move(s Side, n *node, to spot) {
	from := p.path(s, n)
	needs := p.chain(nil, s, n)
	up := n.at[s].par
	p.leave(s, n)
	was := p.slotOf(s, n.at[s])
	p.settle(s, n, to)
	st := Step{Op: Move, Side: s, From: from, Path: p.path(s, n), Needs: append(needs, n.out2[s]...)}
	st.Carries = n.kind == Dir && !n.hasBase && p.byBase[s][from] == nil
	st.Follows = n.alive && n.from != s && n.there[s.Other()] && to == spot{n.tpar, n.want[s]}
	p.add(n, st)
	i := n.prev
	n.last[s] = i
	p.freed(s, was, i)
	for ; up != nil && up != p.root; up = up.at[s].par {
		up.out2[s] = append(up.out2[s], i)
	}
}

// clear sees to it that nothing is where n is to be.
func (p *planner) clear(s Side, want spot, n *node) bool {
	k := p.slotOf(s, want)
	for range 2 {
		m := p.occ[s][k]
		switch {
		case m == nil || m == n:
			return true
		case m.out || m.fixed:
			p.out.Problems = append(p.out.Problems, Problem{s, p.path(s, m), "something else would have its name, and it is left out"})
			return false
		case m.alive && !m.busy[s] && !m.placed[s] && !busyAbove(s, m):
			p.put(s, m)
			continue
		}
		break
	}
	m := p.occ[s][k]
	switch {
	case m == nil || m == n:
		return true
	case m.alive && m.placed[s]: // it could not go away
		return false
	case !m.alive && !p.o.deletes(s):
		return false
	case !m.alive && p.removable(s, m):
		p.remove(s, m)
		return true
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s%d-%s", Moving, i, strings.TrimPrefix(m.at[s].name, Moving))
		name = name[:min(len(name), 255)]
		to := spot{m.at[s].par, name}
		if p.occ[s][p.slotOf(s, to)] == nil && !p.taken(s, p.path(s, to.par), name) {
			p.move(s, m, to)
			return true
		}
	}
}

// busyAbove reports whether n is to be in something that waits for room itself.
func busyAbove(s Side, n *node) bool {
	for n = n.tpar; n != nil; n = n.tpar {
		if n.busy[s] {
			return true
		}
	}
	return false
}

// removable reports whether n and all in it is to go.
func (p *planner) removable(s Side, n *node) bool {
	return !n.alive && !n.out && !slices.ContainsFunc(n.kids[s], func(m *node) bool { return !p.removable(s, m) })
}

// remove removes n and what is in it, as far as it is to go.
func (p *planner) remove(s Side, n *node) {
	if n.alive || n.out || n == p.root {
		return
	}
	for _, m := range slices.Clone(n.kids[s]) {
		p.remove(s, m)
	}
	if len(n.kids[s]) > 0 {
		return
	}
	name := p.path(s, n)
	up := n.at[s].par
	p.add(n, Step{Op: Remove, Side: s, Path: name, Needs: append(p.chain(nil, s, n), n.out2[s]...), Drop: n.hasBase})
	p.leave(s, n)
	n.there[s] = false
	n.last[s] = n.prev
	p.freed(s, p.slotOf(s, n.at[s]), n.prev)
	if up != p.root {
		up.out2[s] = append(up.out2[s], n.prev)
	}
}

// fill brings content, times and modes to s.
func (p *planner) fill(s Side, n *node) {
	o := s.Other()
	if !n.alive || n.out || n.kind == Dir && n.touch < 0 {
		return
	}
	switch {
	case n.source == int8(o) && n.there[o] && !n.blocked[o]:
		if n.blocked[s] || !n.tpar.there[s] || n.tpar.blocked[s] {
			return
		}
		want := spot{n.tpar, n.want[s]}
		if !n.there[s] {
			if !p.clear(s, want, n) {
				n.blocked[s] = true
				return
			}
			n.there[s] = true
			p.settle(s, n, want)
			n.placed[s] = true
		}
		p.add(n, Step{Op: Copy, Side: s, From: p.path(o, n), Path: p.path(s, n)})
	case n.touch == int8(o) && n.there[s] && n.there[o]:
		p.add(n, Step{Op: Touch, Side: s, From: p.path(o, n), Path: p.path(s, n)})
	}
}

// freedKey is where steps are noted that made room.
type freedKey struct {
	side Side
	at   spot
}

func (p *planner) freed(s Side, at spot, step int) {
	k := freedKey{s, at}
	p.free[k] = append(p.free[k], step)
}

// chain appends the steps by which n came to be where it is on s.
func (p *planner) chain(needs []int, s Side, n *node) []int {
	for ; n != nil && n != p.root && n.there[s]; n = n.at[s].par {
		if n.last[s] >= 0 {
			needs = append(needs, n.last[s])
		}
	}
	return needs
}

// add appends a step of n.
func (p *planner) add(n *node, st Step) {
	s := st.Side
	st.Thing, st.Why = n.thing, n.why
	st.Needs = p.chain(st.Needs, s, n)
	st.Needs = p.chain(st.Needs, s.Other(), n)
	if st.Op == Move || st.Op == Mkdir || st.Op == Copy {
		// The room of what it is in counts, too: a directory without files may be there by name only.
		for m := n; m != nil && m != p.root && m.there[s]; m = m.at[s].par {
			st.Needs = append(st.Needs, p.free[freedKey{s, p.slotOf(s, m.at[s])}]...)
		}
	}
	if n.prev >= 0 {
		st.Needs = append(st.Needs, n.prev)
	}
	slices.Sort(st.Needs)
	st.Needs = slices.Compact(st.Needs)
	st.At = [2]string{p.path(Left, n), p.path(Right, n)}
	if st.Op == Remove {
		st.At[s] = ""
	}
	if n.conflict != nil && len(n.steps) == 0 {
		st.Conflict = n.conflict
	}
	if n.drop && len(n.steps) == 0 {
		st.Drop = true
	}
	n.prev = len(p.out.Steps)
	n.steps = append(n.steps, n.prev)
	p.out.Steps = append(p.out.Steps, st)
}

// inPlace reports whether n is where it is to be, on both sides, seen from the directory that it is in.
func (n *node) inPlace() bool {
	return n.at[Left] == spot{n.tpar, n.want[Left]} && n.at[Right] == spot{n.tpar, n.want[Right]}
}

// leaveOut takes note of what is left out. Nothing else is agreed on at its place before that: two pairs of one path would be mistaken for each other.
func (p *planner) leaveOut(n *node) {
	if n.hasBase && (n.cur[0].Out || n.cur[1].Out) {
		p.add(n, Step{Op: Forget, Path: n.base[Left].Path, Drop: true})
	} else {
		p.shelve(n)
	}
	for s := range Side(2) {
		if at, ok := p.was(s, n); ok && len(n.steps) > 0 {
			p.freed(s, at, n.prev)
		}
	}
}

// was returns where n was in the base, in the form in which s tells names apart.
func (p *planner) was(s Side, n *node) (at spot, ok bool) {
	up := p.byBase[s][parent(n.base[s].Path)]
	return p.slotOf(s, spot{up, base(n.base[s].Path)}), n.hasBase && up != nil
}

// finish says what is agreed on in the end.
func (p *planner) finish(n *node) {
	if n.conflict != nil {
		s := n.conflict.Side
		n.conflict.Copy = p.path(s, n)
		o := s.Other()
		if n.beside.there[o] {
			n.conflict.Path = p.path(o, n.beside)
		} else {
			n.conflict.Path = p.path(s, n.beside)
		}
	}
	both := n.there[0] && n.there[1]
	switch {
	case n.fixed, n.stay, n.out:
	case n.source == -2 && both:
		p.add(n, Step{Op: Hash, Path: p.path(Left, n)})
	case n.kind == Dir && both && (n.blocked[0] || n.blocked[1]) && n.inPlace() && (!n.hasBase || len(n.steps) > 0 && p.out.Steps[n.prev].Op == Mkdir):
		// Only what it is in cannot have its name. One that was made anew would be met as another one otherwise, again and again.
		p.add(n, Step{Op: Agree, Path: p.path(Left, n), Settles: true})
	case n.source == -2 || n.blocked[0] || n.blocked[1]:
	case len(n.steps) > 0 && both && p.out.Steps[n.prev].Op != Move && p.out.Steps[n.prev].Op != Mkdir:
		p.out.Steps[n.prev].Settles = true
	case both && (!n.hasBase || n.base != n.cur || len(n.steps) > 0): // after moves: only now it is known where they all end
		p.add(n, Step{Op: Agree, Path: p.path(Left, n), Settles: true})
	case n.alive && n.hasBase && p.o.Mode != TwoWay && !n.has[Left] && len(n.steps) == 0: // it is the right side's own now
		p.add(n, Step{Op: Forget, Path: n.base[Left].Path, Drop: true})
	case !n.alive && n.hasBase && !n.there[0] && !n.there[1] && len(n.steps) == 0:
		p.add(n, Step{Op: Forget, Path: n.base[Left].Path, Drop: true})
	}
}

// brake looks at how much would be deleted.
func (p *planner) brake() {
	b := p.o.Brake
	if b.Off {
		return
	}
	if b.Files == 0 {
		b.Files = 50
	}
	if b.Percent == 0 {
		b.Percent = 20
	}
	gone, of, stop := [2]int{}, [2]int{p.total, p.total}, false
	for i := range p.out.Steps {
		st := &p.out.Steps[i]
		if st.Op != Remove || st.Thing.Kind == Dir {
			continue
		}
		gone[st.Side]++
		if !st.Drop { // both have never agreed on it, and it is to go because one has to be as the other
			of[st.Side]++
		}
	}
	for s := range Side(2) {
		stop = stop || gone[s] > b.Files && gone[s]*100 > of[s]*b.Percent || gone[s] > 1 && gone[s] >= of[s]
	}
	if !stop {
		return
	}
	s := Left
	if gone[Right] > gone[Left] {
		s = Right
	}
	p.out.Braked = &Braked{Side: s, Files: gone[s], Of: of[s]}
}
