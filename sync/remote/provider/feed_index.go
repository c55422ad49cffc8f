package provider

import (
	"hash/maphash"
	"path"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// An index is what a tree was last told to hold: a feed names things by their IDs, and says of what is gone or has moved not where it was. It takes some 300 bytes for
// each thing. It is not safe for concurrent use.
type index struct {
	root *node
	ids  map[string][]*node // a thing may be seen in two places when it moves while all is listed
	// reads counts how often the feed was read since the index was made.
	reads uint64
}

// A node is one thing in an index.
type node struct {
	name, id string
	dir      bool
	// whole says of a directory that all it holds is in the index: a listing that failed leaves it false, and it is listed anew.
	whole  bool
	listed uint64 // the count of reads when what it holds was listed
	sum    uint64 // of all that was told of it
	up     *node  // nil: the root, or what is no longer in the index
	below  map[string]*node
}

func newIndex(root string) *index {
	x := &index{root: &node{id: root, dir: true, whole: true}, ids: map[string][]*node{}}
	x.ids[root] = []*node{x.root}
	return x
}

var sumSeed = maphash.MakeSeed()

// sumOf changes when anything does that is told of a thing.
func sumOf(it *remote.Item) uint64 {
	var h maphash.Hash
	h.SetSeed(sumSeed)
	_, _ = h.WriteString(it.ID) // never fails, as those below
	_ = h.WriteByte(byte(it.Kind))
	_, _ = h.WriteString(string(it.Version))
	if it.Kind == remote.Other {
		_, _ = h.WriteString(it.MTime.UTC().String())
	}
	return h.Sum64()
}

// path is that of a node from the root.
func (n *node) path() string {
	if n.up == nil {
		return ""
	}
	return path.Join(n.up.path(), n.name)
}

// in reports whether a node is still part of the index.
func (x *index) in(n *node) bool {
	for ; n.up != nil; n = n.up {
		if n.up.below[n.name] != n {
			return false
		}
	}
	return n == x.root
}

// find returns the node at a path, nil if there is none.
func (x *index) find(p string) *node {
	n := x.root
	if p == "" {
		return n
	}
	for name := range strings.SplitSeq(p, "/") {
		if n = n.below[name]; n == nil {
			return nil
		}
	}
	return n
}

// add puts what a listing has told of, and the feed calls id, into the directory up, where nothing has its name.
func (x *index) add(up *node, it *remote.Item, id string) *node {
	n := &node{name: path.Base(it.Path), id: id, dir: it.Kind == remote.Dir, sum: sumOf(it), up: up}
	if up.below == nil {
		up.below = map[string]*node{}
	}
	up.below[n.name] = n
	x.ids[n.id] = append(x.ids[n.id], n)
	return n
}

// put adds what a listing of all has told of, whose directory was told before. It returns false if that was not so.
func (x *index) put(it *remote.Item, id string) bool {
	dir, name := split(it.Path)
	up := x.find(dir)
	if up == nil || !up.dir || up.below[name] != nil {
		return false
	}
	x.add(up, it, id).whole = true
	return true
}

// cut takes a node and all below it out, and calls gone for the path of each, a directory after what it held.
func (x *index) cut(n *node, gone func(p string)) {
	for _, name := range sortedNames(n.below) {
		x.cut(n.below[name], gone)
	}
	gone(n.path())
	x.ids[n.id] = slices.DeleteFunc(x.ids[n.id], func(o *node) bool { return o == n })
	if len(x.ids[n.id]) == 0 {
		delete(x.ids, n.id)
	}
	delete(n.up.below, n.name)
}

func sortedNames(m map[string]*node) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// differ calls f for each path below a and b at which the two are not the same.
func differ(a, b *node, at string, f func(p string)) {
	for name, n := range a.below {
		p := path.Join(at, name)
		o := b.below[name]
		if o == nil {
			o = &node{}
		}
		if n.sum != o.sum || n.id != o.id {
			f(p)
		}
		differ(n, o, p, f)
	}
	for name, o := range b.below {
		if a.below[name] == nil {
			p := path.Join(at, name)
			f(p)
			differ(&node{}, o, p, f)
		}
	}
}
