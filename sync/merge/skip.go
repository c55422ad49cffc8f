package merge

// What a filter leaves out by its size or its age ([Item.Skip]) is a state of a file, and not a name: one side may have a state that is left out and the other one that is not,
// and it comes and goes with a write, or with the clock. So the pair is kept, but no delete follows from it any more until both sides have been seen with a state that is not left out
// ([Shelve]).

// skip decides what becomes of a file of which a side has a state that is left out now, or had one when that was last noted.
func (p *planner) skip(n *node) {
	if n.kind != File || n.out {
		return
	}
	l, r := n.has[Left] && n.cur[Left].Skip, n.has[Right] && n.cur[Right].Skip
	switch {
	case n.has[Left] && n.has[Right]:
		if !l && !r {
			return
		}
		for s := range Side(2) {
			if o := s.Other(); p.o.writes(s) && n.hasBase && !n.cur[o].Skip && n.edited[o] && !n.edited[s] && !n.moved[s] && !n.touched[s] {
				return // what is left out is what both agreed on, and what comes in its place is not left out
			}
		}
	case n.assumed[Left] || n.assumed[Right]: // whether what was not seen is left out now is not known
	case !l && !r:
		n.woken = n.hasBase && (n.base[Left].Skip || n.base[Right].Skip)
		return
	}
	n.out, n.moved, n.edited, n.touched = true, [2]bool{}, [2]bool{}, [2]bool{}
}

// A look is what is seen of a file where nothing else tells who it is.
type look struct{ size, mtime int64 }

// noteSkipped notes the files of each side that are left out by their size or age and that are new, or other than they were.
func (p *planner) noteSkipped() {
	for s := range Side(2) {
		p.skipped[s] = map[look]bool{}
		for _, n := range p.nodes {
			if c := &n.cur[s]; n.has[s] && c.Skip && (!n.hasBase || c.Version != n.base[s].Version) {
				p.skipped[s][look{c.Size, c.MTime}] = true
			}
		}
	}
}

// away reports whether a file that side s seems to have lost may have another name there, under which it is left out: where neither IDs nor hashes tell a move from a delete.
func (p *planner) away(n *node, s Side) bool {
	b := &n.base[s]
	return n.kind == File && b.ID == "" && p.skipped[s][look{b.Size, b.MTime}]
}

// replaced reports whether something else is to have the name that n had, which it has no more: a pair has one path on a side, and the other one's is the same.
func (p *planner) replaced(n *node) bool {
	for s := range Side(2) {
		if at, ok := p.was(s, n); ok {
			if m := p.claimed[s][at]; m != nil && m != n && !m.out {
				return true
			}
		}
	}
	return false
}

// shelve takes note of what is left out of a pair now.
func (p *planner) shelve(n *node) {
	both := n.has[Left] && n.has[Right]
	skips := n.has[Left] && n.cur[Left].Skip || n.has[Right] && n.cur[Right].Skip
	switch {
	case !n.hasBase || n.kind != File:
	case n.forget, skips && (!both || p.replaced(n)):
		p.add(n, Step{Op: Forget, Path: n.base[Left].Path, Drop: true})
	case both && (n.cur[Left].Skip != n.base[Left].Skip || n.cur[Right].Skip != n.base[Right].Skip):
		p.add(n, Step{Op: Shelve, Path: n.base[Left].Path})
	}
}
