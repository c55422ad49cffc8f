package merge

import (
	"cmp"
	"slices"
	"strings"
)

// decide says for each node whether it is to be, where, and with which content.
func (p *planner) decide() {
	for _, n := range p.nodes {
		p.compare(n)
	}
	for s := range Side(2) {
		p.assume(s)
	}
	for _, n := range p.nodes {
		for s := range Side(2) { // something else has the place of what was not seen: it may be elsewhere
			if p.in.Incomplete[s] && n.hasBase && !n.has[s] && n.has[s.Other()] {
				n.out = true
			}
		}
		p.skip(n)
	}
	p.noteSkipped()
	p.rescue()
	for _, n := range p.nodes {
		p.live(n)
	}
	p.keepCrossed()
	for _, n := range p.nodes {
		if n.alive {
			p.place(n)
		}
	}
	p.keepParents()
	for again := true; again; { // what comes to life has a place, too, and each time there is more of it
		p.breakCircles()
		again = p.keepParents()
	}
	for _, n := range slices.Clone(p.nodes) {
		if n.alive && !n.out {
			p.content(n)
		}
	}
	p.nameReturned()
	p.nameApart()
}

// compare notes what each side did to n.
func (p *planner) compare(n *node) {
	for s := range Side(2) {
		if !n.has[s] {
			continue
		}
		c, b := &n.cur[s], &n.base[s]
		if c.Out {
			n.out = true
			continue
		}
		if why := p.impossible(c, s); why != "" {
			n.out = true
			p.out.Problems = append(p.out.Problems, Problem{s, c.Path, why})
		}
		if !n.hasBase || n.fixed || n.assumed[s] {
			continue
		}
		was, up := p.byBase[s][parent(b.Path)], n.par[s]
		if was != nil && was.kind != Dir {
			was = nil // a file, whose name the directory has taken since
		}
		n.moved[s] = was != up && (was != nil || p.pathKey(s, parent(c.Path)) != p.pathKey(s, parent(b.Path))) ||
			!p.o.Names[s].same(p.name(s, c.Path), p.name(s, b.Path))
		switch n.kind {
		case File:
			if c.Version != b.Version {
				eq, known := sameContent(b, c)
				n.edited[s] = !known || !eq
			}
			n.touched[s] = c.MTime != b.MTime || p.o.Can[s].Modes && c.Mode != b.Mode
		case Symlink:
			n.edited[s] = c.Target != b.Target
		case Dir:
			n.touched[s] = p.o.Can[s].Modes && c.Mode != b.Mode
		}
	}
}

// assume takes directories to be where they were on a place that shows none that are empty, so that they were not removed there; from the top, for one is in another.
func (p *planner) assume(s Side) {
	if p.o.Can[s].EmptyDirs {
		return
	}
	o, all := s.Other(), []*node{}
	for _, n := range p.nodes {
		if n.kind == Dir && n.hasBase && !n.has[s] && n.has[o] {
			all = append(all, n)
		}
	}
	depth := func(n *node) int { return strings.Count(n.base[s].Path, "/") }
	slices.SortStableFunc(all, func(a, b *node) int { return cmp.Compare(depth(a), depth(b)) })
	where := map[*node]string{p.root: ""} // of those that are not shown
	for _, n := range all {
		up := p.byBase[s][parent(n.base[s].Path)]
		if up == nil || !up.has[s] || p.byPath[s][p.pathKey(s, n.base[s].Path)] != nil {
			continue // it was deleted with what it was in, or something else has its place
		}
		is := base(n.base[s].Path)
		if at, ok := where[up]; !ok {
			is = up.cur[s].Path + "/" + is
		} else if up != p.root {
			is = at + "/" + is
		}
		if p.byPath[s][p.pathKey(s, is)] != nil { // or where it has come to with what it is in
			continue
		}
		n.has[s], n.assumed[s], n.cur[s], n.par[s] = true, true, n.base[s], up
		where[n] = is
	}
}

// rescue finds what was in a directory that one side moved and the other removed with all in it: a move is a wish to have it.
func (p *planner) rescue() {
	var is func(n *node, s Side, depth int) bool
	is = func(n *node, s Side, depth int) bool {
		if n == nil || n == p.root || depth > 4096 || !n.hasBase || !n.has[s] || n.has[s.Other()] {
			return false
		}
		return n.rescued || n.moved[s] || p.wasIn(n, s) && is(n.par[s], s, depth+1)
	}
	for _, n := range p.nodes {
		for s := range Side(2) {
			if n.has[s] && !n.has[s.Other()] && is(n, s, 0) {
				n.rescued = true
			}
		}
	}
}

// wasIn reports whether n was in the directory already when both last agreed on it: only then a move of that directory has carried it. A directory that was made
// since may have the ID of one that is gone, and then looks as if that one had moved to where n always was.
func (p *planner) wasIn(n *node, s Side) bool {
	return p.byBase[s][parent(n.base[s].Path)] == n.par[s]
}

// live decides whether n is to be, by itself.
func (p *planner) live(n *node) {
	switch {
	case n.out, n.fixed, n.has[0] && n.has[1]:
		n.alive = true
		return
	case !n.has[0] && !n.has[1]:
		return
	}
	s := Left
	if n.has[Right] {
		s = Right
	}
	o := s.Other()
	if !n.hasBase {
		n.alive = s == Left || p.o.Mode != Mirror
		n.why = "it is new on the " + s.String() + " side"
		if !n.alive {
			n.why = "the left side does not have it"
		}
		return
	}
	if n.woken {
		n.alive = s == Left || p.o.Mode != Mirror
		n.why = "a filter left it out when the " + o.String() + " side lost it"
		return
	}
	if p.away(n, o) {
		n.alive, n.out, n.forget = true, true, true
		return
	}
	if p.o.Mode != TwoWay && s == Left { // what is not written to loses nothing
		n.alive = true
		n.why = "the right side has lost it"
		return
	}
	changed := n.edited[s] || n.rescued || n.touched[s] && n.kind != Dir && p.o.Can[s].Modes && n.cur[s].Mode != n.base[s].Mode
	if !changed && n.kind == File && n.cur[s].Version != n.base[s].Version && n.cur[s].MTime != n.base[s].MTime {
		changed = true // somebody touched it
	}
	switch {
	case p.o.Mode == Mirror:
		n.why = "it was deleted on the left side"
	case p.o.Mode == CopyOnly:
		n.alive = true
	case changed:
		n.alive = true
		n.why = "it was deleted on the " + o.String() + " side and changed on the " + s.String() + " side"
	default:
		n.why = "it was deleted on the " + o.String() + " side"
	}
}

// place decides where n is to be.
func (p *planner) place(n *node) {
	take := func(s Side) {
		n.from, n.tpar = s, n.par[s]
		name := p.name(s, n.cur[s].Path)
		n.tname = [2]string{name, name}
		if n.has[0] && n.has[1] { // each keeps its own form of a name that is one for them
			o := s.Other()
			other := p.name(o, n.cur[o].Path)
			if !n.moved[s] && !n.moved[o] && p.alike(other, name) || p.o.Names[o].same(other, name) {
				n.tname[o] = other
			}
		}
	}
	switch {
	case !n.has[Right]:
		take(Left)
	case !n.has[Left]:
		take(Right)
	case p.o.Mode != TwoWay:
		take(Left)
	case n.moved[Right] && !n.moved[Left]:
		take(Right)
	case n.moved[Right] && p.o.Winner == RightOne:
		take(Right)
	default: // also where the base itself was between two places
		take(Left)
	}
}

// alike reports whether one of the sides cannot tell two names apart.
func (p *planner) alike(a, b string) bool { return p.o.simplify(a) == p.o.simplify(b) }

// keepParents sees to it that what holds something that is to be, is to be.
func (p *planner) keepParents() (changed bool) {
	for _, n := range p.nodes {
		for m := n; m.alive && m != p.root; m = m.tpar {
			up := m.tpar
			if up == nil || !up.has[0] && !up.has[1] {
				m.tpar = p.root
				break
			}
			if up.alive {
				break // it has, or had, its own turn
			}
			up.alive, changed = true, true
			up.why = "something in it is to stay"
			p.place(up)
		}
	}
	return changed
}

// breakCircles takes moves back that would put a directory into itself.
func (p *planner) breakCircles() {
	const (
		white = iota
		grey
		black
	)
	color := make(map[*node]int, 16)
	flips := map[*node]int{}
	for _, n := range p.nodes {
		if !n.alive || n.kind != Dir {
			continue
		}
		for again := true; again; {
			again = false
			var trail []*node
			m := n
			for m != nil && m != p.root && color[m] == white {
				color[m] = grey
				trail = append(trail, m)
				m = m.tpar
			}
			circle := m != nil && m != p.root && color[m] == grey
			if circle {
				p.flip(trail[slices.Index(trail, m):], flips)
				again = true
			}
			for _, m := range trail {
				if circle {
					color[m] = white
				} else {
					color[m] = black
				}
			}
		}
	}
}

// flip takes back one move of a circle.
func (p *planner) flip(circle []*node, flips map[*node]int) {
	// The order must not depend on where the circle was met.
	circle = slices.Clone(circle)
	slices.SortFunc(circle, func(a, b *node) int {
		return cmp.Or(strings.Compare(a.cur[Left].Path, b.cur[Left].Path), strings.Compare(a.cur[Right].Path, b.cur[Right].Path))
	})
	for _, want := range [2]Side{Left, Right} {
		for _, n := range circle {
			o := want
			if n.has[0] && n.has[1] && n.from != o && flips[n] == 0 && n.par[o] != nil && n.par[o] != n.tpar {
				flips[n]++
				n.from, n.tpar = o, n.par[o]
				name := p.name(o, n.cur[o].Path)
				n.tname = [2]string{name, name}
				n.why = "both moves together would put a directory into itself"
				return
			}
		}
	}
	circle[0].tpar = p.root
	circle[0].why = "it would be in itself"
}

// content decides whose bytes and attributes n gets.
func (p *planner) content(n *node) {
	if !n.has[0] || !n.has[1] {
		n.source = int8(Left)
		if n.has[Right] {
			n.source = int8(Right)
		}
		if n.kind == Dir {
			n.source = -1
		}
		return
	}
	l, r := &n.cur[Left], &n.cur[Right]
	edited := n.edited
	if !n.hasBase {
		edited = [2]bool{true, true}
	}
	if n.kind == Dir || n.fixed {
		edited = [2]bool{}
	}
	switch {
	case edited[0] && edited[1]:
		eq, known := sameContent(l, r)
		switch {
		case known && eq:
		case !known:
			n.source = -2
		case p.o.Mode == Mirror:
			n.source, n.why = int8(Left), "it differs"
		default:
			p.clash(n)
		}
	case edited[0], edited[1]:
		s := Left
		if edited[1] {
			s = Right
		}
		n.why = "it was changed on the " + s.String() + " side"
		n.source = int8(s)
		if eq, known := sameContent(l, r); known && eq {
			n.source = -1
		} else if !known && p.hashable(n, s) {
			n.source = -2
		}
		if s == Right && p.o.Mode != TwoWay {
			switch p.o.Mode {
			case Mirror:
				if n.source == int8(Right) {
					n.source, n.why = int8(Left), "it was changed on the right side"
				}
			default:
				n.source = -1
				n.stay = true // as it is, and the base too
			}
		}
	}
	p.attributes(n)
}

// hashable reports whether the hash of what side s shows now is worth to be known: where its version may have changed and its bytes not.
func (p *planner) hashable(n *node, s Side) bool {
	c, b := &n.cur[s], &n.base[s]
	if !p.o.Can[s].CheapRead || n.kind != File || b.Sums == "" || c.Sums != "" && p.comparable(c, b) {
		return false
	}
	return c.Size == b.Size
}

func (p *planner) comparable(a, b *Item) bool {
	_, known := Equal(a.Sums, b.Sums)
	return known
}

// attributes decides whether a time or mode has to go to the other side.
func (p *planner) attributes(n *node) {
	if n.source != -1 || !n.hasBase || n.out || n.stay || n.kind == Symlink {
		return
	}
	for s := range Side(2) {
		o := s.Other()
		if !n.touched[s] || n.touched[o] && s == Right || !p.o.writes(o) || !p.o.Can[o].Touch || n.kind == Dir && !p.o.Can[o].EmptyDirs {
			continue
		}
		time := n.kind == File && n.cur[s].MTime != n.base[s].MTime && p.o.Can[o].Times && n.cur[s].MTime != n.cur[o].MTime
		mode := p.o.Can[0].Modes && p.o.Can[1].Modes && n.cur[s].Mode != n.base[s].Mode && n.cur[s].Mode != n.cur[o].Mode
		if time || mode {
			n.touch = int8(s)
			n.why = "its time or mode was changed on the " + s.String() + " side"
			return
		}
	}
}

// clash makes two things of a file that both sides have changed.
func (p *planner) clash(n *node) {
	win := Left
	l, r := &n.cur[Left], &n.cur[Right]
	switch p.o.Winner {
	case Newer:
		if r.MTime > l.MTime && l.MTime != 0 {
			win = Right
		}
	case Older:
		if r.MTime < l.MTime && r.MTime != 0 {
			win = Right
		}
	case Larger:
		if r.Size > l.Size {
			win = Right
		}
	case RightOne:
		win = Right
	}
	if p.o.Mode != TwoWay {
		win = Left
	}
	lose := win.Other()
	p.apart(n, lose)
	n.why = "both sides changed it"
}

// apart makes a thing of its own of what side lose has of n, under a name that tells of it.
func (p *planner) apart(n *node, lose Side) {
	m := p.newNode(n.kind)
	m.fresh, m.alive = true, true
	m.cur[lose], m.has[lose], m.par[lose] = n.cur[lose], true, n.par[lose]
	m.tpar, m.from, m.source = n.tpar, lose, int8(lose)
	m.tname = n.tname
	m.drop = n.hasBase
	m.thing.N = n.thing.N
	m.why = "both sides changed it, and both are kept"
	n.has[lose], n.cur[lose], n.par[lose] = false, Item{}, nil
	n.hasBase, n.thing.N, n.source, n.touch = false, 0, int8(lose.Other()), -1
	m.conflict, m.beside = &Conflict{Side: lose}, n
}
