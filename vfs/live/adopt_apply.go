package live

import (
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// apply makes the nodes in memory what next says. f.mu is held for writing, and nothing is dirty.
func (p *plan) apply(next manifest.Snapshot) {
	f := p.f
	for _, c := range p.changes {
		if c.node != nil {
			c.node.names = slices.DeleteFunc(c.node.names, func(nm *name) bool { return nm.parent == c.dir && nm.name == c.name })
		}
		delete(c.dir.dir.over, c.name)
		c.dir.dir.overSorted = nil
	}
	for d, at := range p.dirs {
		f.recent.drop(d)
		switch {
		case at == nil:
			d.dir.ref, d.dir.below = chunk.Ref{}, 0
		case d == f.root:
			d.dir.ref, d.dir.below = next.Root, next.Below
		default:
			d.dir.ref, d.dir.below = at.entry.Node, at.entry.Below
		}
	}
	if top := next.Top; top.Kind == vfs.KindDir {
		f.root.mu.Lock()
		f.root.fill(&top)
		f.root.mu.Unlock()
		p.changed = append(p.changed, f.root)
	}
	p.part()
	for _, c := range p.changes {
		if c.node != nil && c.to != nil {
			f.settleAt(c.node, f.internPlace(c.to.dir), c.to.entry)
			p.changed = append(p.changed, c.node)
		}
	}
	p.applyLinks()
	for _, c := range p.changes {
		switch {
		case c.node == nil:
		case len(c.node.names) == 0:
			f.gone(c.node)
			p.changed = append(p.changed, c.node)
		default:
			f.single(c.node)
		}
	}
	for d := range p.dirs {
		if len(d.dir.over) == 0 {
			d.dir.over = nil
		}
	}
}

// A bond is what the names of one file have in common: none but a file with hard links has several.
type bond struct {
	link manifest.NodeID
	edit causal.Dot
}

func bondOf(e *manifest.Entry) bond {
	b := bond{link: e.Link}
	if e.Kind == vfs.KindFile {
		b.edit = e.Edit
	}
	return b
}

// part takes those names from the nodes that are not names of the same file any more as their others: each of
// these is one of its own.
func (p *plan) part() {
	links := map[*node]map[string]bond{} // by directory and name
	for _, t := range p.links {
		if d := p.f.held(t.dir); d != nil {
			if links[d] == nil {
				links[d] = map[string]bond{}
			}
			links[d][t.entry.Name] = bondOf(t.entry)
		}
	}
	bonds := map[*node]bond{}
	for _, c := range p.changes {
		if c.node == nil || c.to == nil || c.node.kind == vfs.KindDir {
			continue
		}
		b, some := bonds[c.node]
		if !some && len(c.node.names) > 0 { // those that stay
			nm := c.node.names[0]
			if b, some = links[nm.parent][nm.name]; !some {
				b, some = bond{}, true
			}
			bonds[c.node] = b
		}
		if is := bondOf(c.to.entry); !some {
			bonds[c.node] = is
		} else if b != is || b.link == (manifest.NodeID{}) {
			c.to = nil
		}
	}
}

// held returns the node of a directory of the new state, if it is in memory.
func (f *FS) held(at *place) *node {
	if at.entry == nil {
		return f.root
	}
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	return f.table.Get(at.id).Value()
}

// settleAt gives n the name and the content of e in d.
func (f *FS) settleAt(n, d *node, e *manifest.Entry) {
	f.settle1(n, e)
	f.give(n, d, e)
}

// settle1 gives n what e says of it.
func (f *FS) settle1(n *node, e *manifest.Entry) {
	n.mu.Lock()
	defer n.mu.Unlock()
	other := n.kind == vfs.KindFile && (e.Node != n.file.base || e.Size != n.file.size || e.Edit != n.edit)
	n.fill(e)
	if other {
		c := &n.file
		c.later, c.extents = nil, nil
	}
}

// give gives n the name of e in d.
func (f *FS) give(n, d *node, e *manifest.Entry) {
	nm := nameOf(d, n, e)
	n.names = append(n.names, nm)
	if identity(e) != n.id {
		// The listing alone would make another node of it.
		d.set(e.Name, nm)
	}
}

// internPlace returns the node of a directory of the new state, and those above it.
func (f *FS) internPlace(at *place) *node {
	if at.entry == nil {
		return f.root
	}
	if n := f.held(at); n != nil {
		return n
	}
	up := f.internPlace(at.up)
	n := newNode(at.id, vfs.KindDir)
	n.fill(at.entry)
	n.names = []*name{nameOf(up, n, at.entry)}
	f.adopt(n)
	return n
}

// applyLinks sees to it that each file with hard links has all its names, as loadLinks does for a whole tree.
func (p *plan) applyLinks() {
	f := p.f
	groups := map[bond]*node{}
	named := map[*node]bool{}
	for _, t := range p.links {
		n := f.holder(f.internPlace(t.dir), t.entry)
		if n == nil {
			continue
		}
		named[n] = true
		if g := groups[bondOf(t.entry)]; g == nil || g.writers == 0 && n.writers > 0 {
			groups[bondOf(t.entry)] = n
		}
	}
	first := map[*node]*manifest.Entry{}
	for _, t := range p.links {
		d := f.internPlace(t.dir)
		n, g := f.holder(d, t.entry), groups[bondOf(t.entry)]
		if g == nil {
			g = f.linkNode(t.entry, named)
			groups[bondOf(t.entry)], named[g] = g, true
		}
		if n != g && (n == nil || n.writers == 0) {
			if n != nil { // one that was a file of its own
				n.names = slices.DeleteFunc(n.names, func(nm *name) bool { return nm.parent == d && nm.name == t.entry.Name })
				delete(d.dir.over, t.entry.Name)
				d.dir.overSorted = nil
				if len(n.names) == 0 {
					f.gone(n)
				}
			}
			f.give(g, d, t.entry)
			n = g
		}
		f.linked[n.id] = n
		// Of several names that do not say the same of the file, the first counts.
		if first[n] == nil {
			first[n] = t.entry
		}
	}
	for n, e := range first {
		f.settle1(n, e)
		f.single(n)
		p.changed = append(p.changed, n)
	}
}

// linkNode returns the node for a file with hard links of which no name is known yet: the one that has its ID, if that is free.
func (f *FS) linkNode(e *manifest.Entry, named map[*node]bool) *node {
	id := identity(e)
	f.tableMu.Lock()
	n := f.table.Get(id).Value()
	f.tableMu.Unlock()
	if n != nil && n.kind == e.Kind && !named[n] && len(n.names) == 0 {
		return n
	}
	return f.apart(id, e)
}

// mark has all Views know that what they keep of the changed nodes is out of date, before anybody can see that. f.mu is held for writing.
func (p *plan) mark() {
	feeds := p.f.feeds.Load()
	if feeds == nil {
		return
	}
	for _, fd := range *feeds {
		for _, n := range p.changed {
			fd.mark(n)
		}
	}
}

// tell lets all Views know what changed.
func (p *plan) tell() {
	nobody := &View{f: p.f}
	for _, c := range p.changes {
		nobody.tell(c.dir, c.name)
	}
	for _, n := range p.changed {
		nobody.tell(n, "")
	}
}
