package merge

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ConflictName returns name with a note of whose it is: "report (conflict, laptop, 2026-11-23).odt". again is 0, or tells several apart.
func ConflictName(name, label, date string, again int) string {
	stem, ext := split(name)
	note := " (conflict, " + label
	if date != "" {
		note += ", " + date
	}
	if again > 0 {
		note += fmt.Sprintf(", %d", again+1)
	}
	note += ")"
	if most := 240 - len(note) - len(ext); len(stem) > most {
		for most = max(most, 0); most > 0 && stem[most]&0xC0 == 0x80; most-- { // no half character
		}
		stem = stem[:most]
	}
	return stem + note + ext
}

// rank says who keeps a name: what no step may touch, then what a conflict has not pushed away, directories, what both sides have there, the left side.
func (p *planner) rank(n *node) int {
	switch {
	case p.o.Mode != TwoWay && n.has[Left]:
		return -1 // nothing is renamed there
	case n.out:
		return 0
	case n.fixed:
		return 1
	case n.fresh:
		return 9
	case n.kind == Dir && n.has[0] && n.has[1]:
		return 2
	case n.kind == Dir:
		return 3
	case n.has[0] && n.has[1] && n.par[0] == n.tpar && n.par[1] == n.tpar:
		return 4
	case n.hasBase:
		return 5
	case n.has[Left]:
		return 6
	}
	return 7
}

// oneName reports whether a and b would have one name on a side.
func (p *planner) oneName(a, b *node) bool {
	return a.tpar == b.tpar && (a.tname[0] == b.tname[0] || a.tname[1] == b.tname[1])
}

// plain gives nodes that each side has in a form of its own the one that the left side has. It reports whether that changed something.
func (p *planner) plain(ns ...*node) (changed bool) {
	for _, n := range ns {
		if n.tname[0] != n.tname[1] && !n.out && !n.fixed {
			n.tname[1], changed = n.tname[0], true
		}
	}
	return changed
}

// taken reports whether side s has something called name in dir.
func (p *planner) taken(s Side, dir, name string) bool {
	if dir != "" {
		name = dir + "/" + name
	}
	return p.byPath[s][p.pathKey(s, name)] != nil || p.in.Taken != nil && p.in.Taken(s, name)
}

// nameReturned gives another name to what is out of the way for a moment and cannot get its old one back, for something has that by now that this plan has
// nothing to do with.
func (p *planner) nameReturned() {
	for _, n := range p.nodes {
		if !n.alive || n.out || n.fixed || !n.has[n.from] || !strings.HasPrefix(base(n.cur[n.from].Path), Moving) {
			continue
		}
		inUse := func(name string) bool {
			for s := range Side(2) {
				if enc, ok := p.o.Names[s].Encode(name, false); ok && p.elsewhere(s, n.tpar, enc) {
					return true
				}
			}
			return false
		}
		old := n.tname[n.from]
		for again := 0; inUse(n.tname[n.from]); again++ {
			name := ConflictName(old, p.o.Label[n.from], p.o.Date, again)
			n.tname = [2]string{name, name}
			n.why = "its name was taken meanwhile"
		}
	}
}

// nameApart sees to it that no two nodes have one name.
func (p *planner) nameApart() {
	type slot struct {
		par  *node
		name string
	}
	// What a side cannot tell apart is in one group; what is not the same there gets a form of its own later.
	groups := map[slot][]*node{}
	var order []slot
	add := func(n *node) {
		for s := range 2 {
			k := slot{n.tpar, p.o.simplify(n.tname[s])}
			if s == 1 && k.name == p.o.simplify(n.tname[0]) {
				break
			}
			if groups[k] == nil {
				order = append(order, k)
			}
			groups[k] = append(groups[k], n)
		}
	}
	for _, n := range p.nodes {
		if n.alive && n != p.root {
			add(n)
		}
	}
	taken := func(n *node, name string) bool {
		k := slot{n.tpar, p.o.simplify(name)}
		for _, m := range groups[k] {
			if m != n && (p.o.Names[0].same(m.tname[0], name) || p.o.Names[1].same(m.tname[1], name)) {
				return true
			}
		}
		for s := range Side(2) {
			if enc, _ := p.o.Names[s].Encode(name, false); n.tpar.has[s] && p.taken(s, n.tpar.cur[s].Path, enc) {
				return true
			}
		}
		return false
	}
	for i := 0; i < len(order); i++ {
		all := groups[order[i]]
		if len(all) < 2 {
			continue
		}
		all = slices.Clone(all)
		slices.SortStableFunc(all, func(a, b *node) int {
			return cmp.Or(cmp.Compare(p.rank(a), p.rank(b)), strings.Compare(a.tname[0], b.tname[0]))
		})
		for j, n := range all {
			var first *node
			for _, m := range all[:j] {
				if p.oneName(m, n) && !(p.plain(m, n) && !p.oneName(m, n)) {
					first = m
					break
				}
			}
			switch {
			case first == nil || n.fixed || n.out:
				continue
			case first.out:
				n.out = true
				p.out.Problems = append(p.out.Problems, Problem{n.from, n.cur[n.from].Path, "its name is taken by something that is left out"})
				continue
			}
			s := n.from
			for again := 0; ; again++ {
				name := ConflictName(n.tname[s], p.o.Label[s], p.o.Date, again)
				if taken(n, name) {
					continue
				}
				n.tname = [2]string{name, name}
				break
			}
			if n.conflict == nil {
				n.conflict, n.beside = &Conflict{Side: s}, first
				n.why = "two things claim one name"
			}
			add(n)
		}
	}
}
