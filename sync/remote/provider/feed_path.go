package provider

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// of reports whether it is a directory of the chain of which is told.
func (c told) of(l link) bool {
	if c.path != "" {
		return c.path == l.path
	}
	return c.id == l.id
}

// inside returns a path that is told as one from the root of the tree; false if it is not below that.
func (f *feed) inside(path string) (string, bool) {
	return strings.CutPrefix(path, f.at[len(f.at)-1].path+"/")
}

// elsewhere reports whether what is told of is, by its path, neither in the tree nor above it.
func (f *feed) elsewhere(c told) bool {
	if c.path == "" {
		return false
	}
	_, in := f.inside(c.path)
	return !in && !slices.ContainsFunc(f.at, c.of)
}

// toldPath takes note of a path of which is told, among all that was. A directory above it that is not in the index is one that has come or gone, and is told of, too, or lies below one that
// is. But which letters a place takes for one another is not known for certain, but for the English ones: if it may be one that is there under other letters, it is ErrCursor.
func (f *feed) toldPath(c told, all []told) error {
	p, in := f.inside(c.path)
	if !in {
		return nil
	}
	f.pend(c.path).path = p
	if n, missing := f.x.near(p); missing == "" {
		n.whole = false // when it was listed, another one may have had its path
	}
	for _, n := range f.nodes(c.id) {
		n.whole = false // it may be one under other letters
	}
	dir, _ := split(p)
	n, missing := f.x.near(dir)
	if missing == "" {
		return nil
	}
	like := false
	for name, k := range n.below {
		like = like || k.dir && !english(name)
	}
	if !like {
		return nil
	}
	at := strings.TrimSuffix(strings.TrimSuffix(c.path, p)+strings.ToLower(n.path()), "/") + "/" + missing
	if f.pending[at] != nil || slices.ContainsFunc(all, func(c told) bool { return c.path == at }) {
		return nil
	}
	return fmt.Errorf("it is not known what folder %q is: %w", at, remote.ErrCursor)
}

func english(name string) bool {
	return strings.IndexFunc(name, func(r rune) bool { return r > '~' }) < 0
}

// near returns the directory at a path, of which the case does not matter, or the nearest one above it, and the name in that of which nothing is known: "" if it is that at the path.
func (x *index) near(path string) (n *node, missing string) {
	n = x.root
	if path == "" {
		return n, ""
	}
	for name := range strings.SplitSeq(path, "/") {
		k := n.below[name]
		if k == nil {
			for other, o := range n.below {
				if strings.ToLower(other) == name {
					k = o
					break
				}
				if strings.EqualFold(other, name) {
					k = o
				}
			}
		}
		if k == nil || !k.dir {
			return n, name
		}
		n = k
	}
	return n, ""
}
