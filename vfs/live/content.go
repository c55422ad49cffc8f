package live

import (
	"context"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// A Content is what the bytes of a file are made of at one moment.
type Content struct {
	Path     string      // of one of its names, from the root
	Named    bool        // it has a name
	Size     int64       // in bytes
	Base     chunk.Ref   // what was committed last; zero: nothing, or holes only
	Shared   []chunk.Ref // that copies laid over it and that are not committed
	Journal  int64       // bytes that are in the journal only
	Changed  bool        // it is not what was committed
	ReadOnly bool        // it is of a tree of the past
}

// ContentOf returns what a node of an FS is made of; ok is false for what is none, or no file. It reads nothing that is stored.
func ContentOf(of vfs.Node) (c Content, ok bool) {
	file, ok := of.(fileNode)
	if !ok {
		return Content{}, false
	}
	f, n := file.v.f, file.n
	f.mu.RLock()
	defer f.mu.RUnlock()
	n.mu.RLock()
	defer n.mu.RUnlock()
	c = Content{
		Size: n.file.size, Base: n.file.base, ReadOnly: f.jr == nil,
		Changed: n.dirty || !n.file.over().empty() || n.file.length() != n.file.size || n.file.limit() < n.file.size,
	}
	c.Path, c.Named = n.path(f.root)
	n.file.over().each(0, noLimit, func(p piece) bool {
		switch p.from {
		case inJournal:
			c.Journal += p.n
		case inChunk:
			c.Shared = append(c.Shared, *p.ref)
		}
		return true
	})
	return c, true
}

// PathOf returns the path of one name of a node of an FS, from its root; ok is false if it has none, or is of no FS.
func PathOf(of vfs.Node) (path string, ok bool) {
	p, ok := plainOf(of)
	if !ok {
		return "", false
	}
	p.v.f.mu.RLock()
	defer p.v.f.mu.RUnlock()
	return p.n.path(p.v.f.root)
}

// path returns the path of the first name of n. FS.mu is held.
func (n *node) path(root *node) (string, bool) {
	var up []string
	for ; n != root; n = n.names[0].parent {
		if len(n.names) == 0 {
			return "", false
		}
		up = append(up, n.names[0].name)
	}
	var b strings.Builder
	for i := len(up) - 1; i >= 0; i-- {
		b.WriteString(up[i])
		if i > 0 {
			b.WriteByte('/')
		}
	}
	return b.String(), true
}

var _ vfs.Stating = (*View)(nil)

// State implements vfs.Stating.
func (v *View) State(ctx context.Context, n vfs.Node) (string, error) {
	if v.f.o.State == nil {
		return "", nil
	}
	s, err := v.f.o.State(ctx, n)
	return s, translate(err)
}
