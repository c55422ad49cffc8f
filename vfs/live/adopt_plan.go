package live

import (
	"context"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// A plan is what has to be done with the nodes in memory to make them what another state says. It compares those
// directories only that are in memory: what is not is read from the new state anyway. But a node that leaves one of
// them may have gone to one that is not, which is looked for then.
type plan struct {
	f      *FS
	locked bool // f.mu is held for writing: nothing is searched
	seen   search

	changes []*nameChange
	targets map[manifest.NodeID][]*target // by the ID of their entries
	dirs    map[*node]*place              // in memory and changed; nil: gone
	moved   []*place                      // directories in memory that come to another place, perhaps
	cold    []coldDir
	links   []*target // all names of files with hard links
	touch   []*node   // files that are open for writing, whose bytes nobody would have any more
	unknown bool      // a node was not searched for

	changed []*node // for tell
}

// A search is what is known of the places of nodes that left the directories in memory.
type search struct {
	found map[manifest.NodeID]*target
	gone  map[manifest.NodeID]bool
}

// A place is a directory of the new state.
type place struct {
	id    manifest.NodeID
	entry *manifest.Entry // nil: the root
	up    *place
}

// A target is an entry of the new state.
type target struct {
	dir   *place
	entry *manifest.Entry
	taken bool
}

// A nameChange is a name of a directory in memory that differs.
type nameChange struct {
	dir      *node
	name     string
	node     *node // that has it in memory; nil: none
	old, new *manifest.Entry
	at       *target // of new
	to       *target // where node goes; nil: nowhere
}

// A coldDir is a directory that is not in memory and differs.
type coldDir struct {
	at       *place
	old, new chunk.Ref
}

// make compares what is committed with next.
func (p *plan) make(ctx context.Context, base, next manifest.Snapshot) error {
	p.targets, p.dirs = map[manifest.NodeID][]*target{}, map[*node]*place{}
	root := &place{id: manifest.RootID}
	p.dirs[p.f.root] = root
	if err := p.compare(ctx, p.f.root, root, base.Root, next.Root); err != nil {
		return err
	}
	for {
		p.match()
		more, err := p.follow(ctx, false)
		if err == nil && !more {
			more, err = p.search(ctx)
		}
		if err == nil && !more {
			more, err = p.follow(ctx, true)
		}
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	for _, c := range p.changes {
		if c.node != nil && c.to == nil && !p.locked {
			p.seen.gone[c.old.ID] = true
		}
	}
	if (base.Below|next.Below)&manifest.BelowLink != 0 {
		if err := p.findLinks(ctx, root, next.Root, next.Below); err != nil {
			return err
		}
	}
	p.findTouched()
	return nil
}

// follow compares the directories whose place is known only now; with gone, those that have none. It reports
// whether there was one.
func (p *plan) follow(ctx context.Context, gone bool) (some bool, err error) {
	moved := p.moved
	p.moved = nil
	for _, at := range moved {
		if n := p.inMemory(at.id); n != nil {
			ok, err := p.enter(ctx, n, at)
			if err != nil {
				return false, err
			}
			some = some || ok
		}
	}
	for _, c := range slices.Clone(p.changes) {
		if c.node == nil || c.node.kind != vfs.KindDir || (c.to == nil) != gone {
			continue
		}
		var at *place
		if c.to != nil {
			at = &place{id: c.node.id, entry: c.to.entry, up: c.to.dir}
		}
		ok, err := p.enter(ctx, c.node, at)
		if err != nil {
			return false, err
		}
		some = some || ok
	}
	return some, nil
}

// enter compares a directory in memory with what it is at another place; at nil: with nothing, for it is gone.
func (p *plan) enter(ctx context.Context, n *node, at *place) (bool, error) {
	if _, done := p.dirs[n]; done {
		return false, nil
	}
	p.dirs[n] = at
	var next chunk.Ref
	if at != nil {
		next = at.entry.Node
	}
	unlock := p.rlock()
	ref := n.dir.ref
	unlock()
	return true, p.compare(ctx, n, at, ref, next)
}

func (p *plan) rlock() func() {
	if p.locked {
		return func() {}
	}
	p.f.mu.RLock()
	return p.f.mu.RUnlock
}

// inMemory returns the directory of that ID if it is in memory.
func (p *plan) inMemory(id manifest.NodeID) *node {
	if id == manifest.RootID {
		return p.f.root
	}
	p.f.tableMu.Lock()
	defer p.f.tableMu.Unlock()
	if n := p.f.table.Get(id).Value(); n != nil && n.kind == vfs.KindDir {
		return n
	}
	return nil
}

// compare notes how the directory d, which is in memory, differs.
func (p *plan) compare(ctx context.Context, d *node, at *place, old, next chunk.Ref) error {
	for diff, err := range manifest.DiffDir(ctx, p.f.o.Store, old, next) {
		if err != nil {
			return translate(err)
		}
		p.note(d, at, diff)
		was, is := diff.Old, diff.New
		if is == nil || is.Kind != vfs.KindDir {
			continue
		}
		sub := &place{id: is.ID, entry: is, up: at}
		same := was != nil && was.ID == is.ID
		n := p.inMemory(is.ID)
		switch {
		case n != nil && same:
			if _, err := p.enter(ctx, n, sub); err != nil {
				return err
			}
		case n != nil:
			p.moved = append(p.moved, sub)
		case same:
			p.cold = append(p.cold, coldDir{sub, was.Node, is.Node})
		default:
			p.cold = append(p.cold, coldDir{at: sub, new: is.Node})
		}
	}
	return nil
}

// note notes one name that differs.
func (p *plan) note(d *node, at *place, diff manifest.Difference) {
	c := &nameChange{dir: d, name: strings.Clone(diff.Path), old: diff.Old, new: diff.New}
	if c.old != nil {
		unlock := p.rlock()
		c.node = p.f.holder(d, c.old)
		unlock()
	}
	if c.new != nil {
		c.at = &target{dir: at, entry: c.new}
		p.targets[c.new.ID] = append(p.targets[c.new.ID], c.at)
	}
	p.changes = append(p.changes, c)
}

// match finds for each node whose name differs where it goes.
func (p *plan) match() {
	for _, ts := range p.targets {
		for _, t := range ts {
			t.taken = false
		}
	}
	wishes := []func(c *nameChange, t *target) bool{
		// With its bytes, in its place if it can be: where there are several values, each file keeps its own.
		func(c *nameChange, t *target) bool { return t == c.at && t.entry.Edit == c.old.Edit },
		func(c *nameChange, t *target) bool { return t.entry.Edit == c.old.Edit },
		// With other bytes.
		func(c *nameChange, t *target) bool { return t == c.at },
		func(*nameChange, *target) bool { return true },
	}
	for _, c := range p.changes {
		c.to = nil
	}
	for _, wish := range wishes {
		for _, c := range p.changes {
			if c.node == nil || c.to != nil {
				continue
			}
			for _, t := range p.targets[c.old.ID] {
				if !t.taken && fits(c, t.entry) && wish(c, t) {
					c.to, t.taken = t, true
					break
				}
			}
		}
	}
	for _, c := range p.changes {
		if t := p.seen.found[keyOf(c)]; c.to == nil && t != nil && fits(c, t.entry) {
			c.to = t
		}
	}
}

func keyOf(c *nameChange) manifest.NodeID {
	if c.node == nil {
		return manifest.RootID // of which nothing is found
	}
	return c.old.ID
}

// fits reports whether e may be what the node of c is.
func fits(c *nameChange, e *manifest.Entry) bool { return e.ID == c.old.ID && e.Kind == c.node.kind }

// search looks for the nodes without a place in what is not in memory. It reads all that differs there, and
// reports whether it found one.
func (p *plan) search(ctx context.Context) (some bool, err error) {
	missing := map[manifest.NodeID]*nameChange{}
	for _, c := range p.changes {
		if c.node != nil && c.to == nil && !p.seen.gone[c.old.ID] {
			missing[c.old.ID] = c
		}
	}
	if len(missing) == 0 {
		return false, nil
	}
	if p.locked {
		p.unknown = p.unknown || len(p.cold) > 0
		return false, nil
	}
	for cold := slices.Clone(p.cold); len(cold) > 0; {
		d := cold[len(cold)-1]
		cold = cold[:len(cold)-1]
		for diff, err := range manifest.DiffDir(ctx, p.f.o.Store, d.old, d.new) {
			if err != nil {
				return false, translate(err)
			}
			e := diff.New
			if e == nil {
				continue
			}
			if c := missing[e.ID]; c != nil && fits(c, e) {
				if t := p.seen.found[e.ID]; t == nil || e.Edit == c.old.Edit {
					p.seen.found[e.ID] = &target{dir: d.at, entry: e}
					some = some || t == nil
				}
			}
			if e.Kind != vfs.KindDir {
				continue
			}
			sub := coldDir{at: &place{id: e.ID, entry: e, up: d.at}, new: e.Node}
			if diff.Old != nil && diff.Old.ID == e.ID {
				sub.old = diff.Old.Node
			}
			if sub.old != sub.new {
				cold = append(cold, sub)
			}
		}
	}
	return some, nil
}

// findLinks notes all names of files with hard links in the new state.
func (p *plan) findLinks(ctx context.Context, at *place, ref chunk.Ref, below manifest.Below) error {
	if below&manifest.BelowLink == 0 || ref.IsZero() {
		return nil
	}
	for e, err := range manifest.Entries(ctx, p.f.o.Store, ref, "") {
		if err != nil {
			return translate(err)
		}
		switch {
		case e.Kind == vfs.KindDir:
			if err := p.findLinks(ctx, &place{id: e.ID, entry: &e, up: at}, e.Node, e.Below); err != nil {
				return err
			}
		case e.Link != (manifest.NodeID{}):
			p.links = append(p.links, &target{dir: at, entry: &e})
		}
	}
	return nil
}

// findTouched notes the files that somebody has open for writing and whose bytes nobody would have any more.
func (p *plan) findTouched() {
	defer p.rlock()()
	for _, c := range p.changes {
		n := c.node
		if n == nil || n.kind != vfs.KindFile || c.to != nil && c.to.entry.Edit == c.old.Edit || slices.Contains(p.touch, n) {
			continue
		}
		n.mu.RLock()
		written := n.writers > 0 && len(n.names) > 0
		n.mu.RUnlock()
		stays := func(t *target) bool { return t.entry.Edit == c.old.Edit && t.entry.Link == c.old.Link }
		if written && !slices.ContainsFunc(p.links, stays) {
			p.touch = append(p.touch, n)
		}
	}
}

// holder returns the node that has the name of the committed entry e of d, if it is in memory. f.mu is held.
func (f *FS) holder(d *node, e *manifest.Entry) *node {
	if nm, ok := d.dir.over[e.Name]; ok {
		if nm == nil {
			return nil
		}
		return nm.bears
	}
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	n, _ := f.known(d, e)
	return n
}

// known returns the node of the entry e of d if it is in memory, or else the ID that it is to have. f.tableMu is held.
func (f *FS) known(d *node, e *manifest.Entry) (n *node, id manifest.NodeID) {
	// Another thing may have the ID: a name that one device linked and another one wrote at the same time is no
	// link any more, but has the ID that the links go by; and one of several values may have kept the ID of all. What
	// made way for it is found also when that is gone.
	several := e.Conflict || e.Link != (manifest.NodeID{})
	at, some := identity(e), false
	for step := byte(0); ; step++ {
		n := f.table.Get(at).Value()
		if n != nil && n.has(d, e.Name) {
			return n, at
		}
		if n == nil && !some {
			id, some = at, true
		}
		if n == nil && (!several || step > 2) {
			return nil, id
		}
		at = mixed(at, e.Edit, 0x77+step)
	}
}
