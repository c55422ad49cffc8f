package merge

import (
	"cmp"
	"slices"
	"strings"
)

// match finds out which item is which node.
func (p *planner) match() {
	for s := range Side(2) {
		items := p.loose[s]
		taken := make([]bool, len(items))
		byPath := make(map[string]int, len(items))
		for i := range items {
			byPath[p.pathKey(s, items[i].Path)] = i
		}
		bind := func(n *node, i int) {
			n.cur[s], n.has[s], taken[i] = items[i], true, true
			p.byPath[s][p.pathKey(s, items[i].Path)] = n
		}
		free := func() (nodes []*node) {
			for _, n := range p.nodes {
				if n.hasBase && !n.has[s] && !n.fixed {
					nodes = append(nodes, n)
				}
			}
			return nodes
		}
		atPath := func(n *node) (int, bool) {
			i, ok := byPath[p.pathKey(s, n.base[s].Path)]
			return i, ok && !taken[i] && items[i].Kind == n.kind
		}
		// Two pairs may claim one path: one of them is elsewhere by now, and that was not noted, for it is left out there, or a step was not done. Whoever has the file that is there
		// goes first, for no delete is to follow from the other one.
		for _, n := range free() {
			i, ok := atPath(n)
			if ok && n.kind == File && items[i].Path == n.base[s].Path && items[i].ID == n.base[s].ID && items[i].Version == n.base[s].Version {
				bind(n, i)
			}
		}
		// Where names fold, it may be so for other reasons: whoever has it to the letter goes first.
		for _, exact := range [2]bool{true, false} {
			for _, n := range free() {
				i, ok := atPath(n)
				if ok && (!exact || items[i].Path == n.base[s].Path) && (n.base[s].ID == "" || items[i].ID == "" || n.base[s].ID == items[i].ID) {
					bind(n, i)
				}
			}
		}
		if !p.in.Incomplete[s] {
			p.byID(s, items, taken, free(), bind)
		}
		for _, n := range free() { // programs save a file as a new one
			if i, ok := atPath(n); ok {
				bind(n, i)
			}
		}
		if !p.in.Incomplete[s] {
			p.bySum(s, items, taken, free(), bind)
			p.byKids(s, items, taken, free(), bind)
		} else {
			for _, n := range free() {
				key := p.pathKey(s, n.base[s].Path)
				if _, other := byPath[key]; !other { // nor is it gone
					n.cur[s], n.has[s], n.assumed[s] = n.base[s], true, true
					p.byPath[s][key] = n
				}
			}
		}
		for i := range items {
			if !taken[i] {
				n := p.newNode(items[i].Kind)
				bind(n, i)
			}
		}
	}
	for s := range Side(2) {
		p.imply(s)
	}
	for s := range Side(2) {
		for _, n := range p.nodes {
			if n.has[s] {
				n.par[s] = p.byPath[s][p.pathKey(s, parent(n.cur[s].Path))]
			}
		}
	}
	p.unify()
}

// byID binds by the ID, which survives a move. A place may give the ID of what is gone to what is made next, so two pairs may have one: whose file has the time and the size that is there goes first.
func (p *planner) byID(s Side, items []Item, taken []bool, nodes []*node, bind func(*node, int)) {
	type id struct {
		id   string
		kind Kind
	}
	at := map[id]int{}
	for i := range items {
		if !taken[i] && items[i].ID != "" {
			at[id{items[i].ID, items[i].Kind}] = i
		}
	}
	if len(at) == 0 {
		return
	}
	for _, sure := range [2]bool{true, false} {
		for _, n := range nodes {
			b := &n.base[s]
			i, ok := at[id{b.ID, n.kind}]
			if ok && b.ID != "" && !n.has[s] && !taken[i] && (!sure || items[i].Version == b.Version || items[i].MTime == b.MTime && items[i].Size == b.Size) {
				bind(n, i)
			}
		}
	}
}

// bySum binds files by the hash of their content. Of several, one that kept its name goes first.
func (p *planner) bySum(s Side, items []Item, taken []bool, nodes []*node, bind func(*node, int)) {
	at := map[string][]int{}
	for i := range items {
		if it := &items[i]; !taken[i] && it.Kind == File && it.Size > 0 && !it.Out {
			for sum := range strings.SplitSeq(it.Sums, " ") {
				if sum != "" {
					at[sum] = append(at[sum], i)
				}
			}
		}
	}
	if len(at) == 0 {
		return
	}
	for _, named := range [2]bool{true, false} {
		for _, n := range nodes {
			if n.has[s] || n.kind != File || n.base[s].Size <= 0 {
				continue
			}
			for sum := range strings.SplitSeq(n.base[s].Sums, " ") {
				i := slices.IndexFunc(at[sum], func(i int) bool {
					it := &items[i]
					eq, known := sameContent(&n.base[s], it)
					return !taken[i] && eq && known && (!named || base(it.Path) == base(n.base[s].Path))
				})
				if sum != "" && i >= 0 {
					bind(n, at[sum][i])
					break
				}
			}
		}
	}
}

// byKids binds a directory to where most of what was in it has gone under its old name, the deepest first.
func (p *planner) byKids(s Side, items []Item, taken []bool, nodes []*node, bind func(*node, int)) {
	dirs := map[string]int{}
	for i := range items {
		if !taken[i] && items[i].Kind == Dir {
			dirs[items[i].Path] = i
		}
	}
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n.kind != Dir || n.has[s] })
	if len(dirs) == 0 || len(nodes) == 0 {
		return
	}
	type way struct{ from, to string }
	votes := map[way]int{}
	vote := func(n *node) {
		was, is := n.base[s].Path, n.cur[s].Path
		if base(was) == base(is) && parent(was) != parent(is) {
			votes[way{parent(was), parent(is)}]++
		}
	}
	for _, n := range p.nodes {
		if n.hasBase && n.has[s] && !n.fixed {
			vote(n)
		}
	}
	depth := func(n *node) int { return strings.Count(n.base[s].Path, "/") }
	slices.SortStableFunc(nodes, func(a, b *node) int {
		return cmp.Or(cmp.Compare(depth(b), depth(a)), strings.Compare(a.base[s].Path, b.base[s].Path))
	})
	byFrom := map[string][]way{}
	for w := range votes {
		byFrom[w.from] = append(byFrom[w.from], w)
	}
	for _, n := range nodes {
		best, most := -1, 0
		ways := byFrom[n.base[s].Path]
		slices.SortFunc(ways, func(a, b way) int { return strings.Compare(a.to, b.to) })
		for _, w := range ways {
			if i, ok := dirs[w.to]; ok && !taken[i] && votes[w] > most {
				best, most = i, votes[w]
			}
		}
		if best < 0 {
			continue
		}
		bind(n, best)
		before := len(votes)
		vote(n)
		if w := (way{parent(n.base[s].Path), parent(n.cur[s].Path)}); len(votes) > before {
			byFrom[w.from] = append(byFrom[w.from], w)
		}
	}
}

// imply makes the directories that a side does not show and that must be there, for something is in them.
func (p *planner) imply(s Side) {
	for i := 0; i < len(p.nodes); i++ { // it grows
		n := p.nodes[i]
		for up := parent(n.cur[s].Path); n.has[s] && p.byPath[s][p.pathKey(s, up)] == nil; up = parent(up) {
			d := p.byBase[s][up]
			if d == nil || d.kind != Dir || d.has[s] {
				d = p.newNode(Dir)
			}
			d.cur[s], d.has[s] = Item{Path: up, Kind: Dir}, true
			p.byPath[s][p.pathKey(s, up)] = d
		}
	}
}

// unify takes what both sides have made at one place for one thing.
func (p *planner) unify() {
	type place struct {
		par  *node
		slot string
		kind Kind
	}
	made := map[place][]*node{}
	fresh := func(s Side) (all []*node) {
		for _, n := range p.nodes {
			if !n.hasBase && n.has[s] && !n.has[s.Other()] {
				all = append(all, n)
			}
		}
		depth := func(n *node) int { return strings.Count(n.cur[s].Path, "/") }
		slices.SortStableFunc(all, func(a, b *node) int {
			return cmp.Or(cmp.Compare(depth(a), depth(b)), strings.Compare(a.cur[s].Path, b.cur[s].Path))
		})
		return all
	}
	at := func(s Side, n *node) place {
		return place{n.par[s], p.o.simplify(p.name(s, n.cur[s].Path)), n.kind}
	}
	for _, n := range fresh(Left) {
		if !n.cur[Left].Out {
			made[at(Left, n)] = append(made[at(Left, n)], n)
		}
	}
	gone := map[*node]bool{}
	news := fresh(Right)
	for _, exact := range [2]bool{true, false} {
		for _, n := range news {
			if n.cur[Right].Out || gone[n] {
				continue
			}
			n.par[Right] = p.byPath[Right][p.pathKey(Right, parent(n.cur[Right].Path))]
			pl := at(Right, n)
			name := p.name(Right, n.cur[Right].Path)
			i := slices.IndexFunc(made[pl], func(m *node) bool {
				return !m.has[Right] && (!exact || p.name(Left, m.cur[Left].Path) == name)
			})
			if i < 0 {
				continue
			}
			m := made[pl][i]
			m.cur[Right], m.has[Right], m.par[Right] = n.cur[Right], true, n.par[Right]
			p.byPath[Right][p.pathKey(Right, n.cur[Right].Path)] = m
			gone[n] = true
		}
	}
	if len(gone) == 0 {
		return
	}
	p.nodes = slices.DeleteFunc(p.nodes, func(n *node) bool { return gone[n] })
	for _, n := range p.nodes {
		if n.has[Right] {
			n.par[Right] = p.byPath[Right][p.pathKey(Right, parent(n.cur[Right].Path))]
		}
	}
}
