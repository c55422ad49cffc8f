//go:build linux || darwin

package fuse

import (
	"sync/atomic"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// A listing with attributes (READDIRPLUS) tells the kernel of every node in it, and each
// time the kernel forgets the access control list that it keeps of the node: whoever then
// looks at the files of a folder asks for each list again. So a node that the
// kernel was told of lately, and of which it still keeps all that it was told, is
// listed by its name alone, as the protocol allows. That is a matter of speed only: what
// the kernel does not keep after all it asks for.

// A listed says when a listing told the kernel of a node: in nanoseconds of
// server.clock, or 0 if since then the kernel has learnt by itself that some
// of it is not so any more. It is safe for concurrent use.
type listed struct{ at atomic.Int64 }

// forget notes that the kernel does not believe any more all that it was told of n.
func (n *inode) forget() { n.listed.at.Store(0) }

// clock is the time since the mount was made; never 0.
func (s *server) clock() int64 { return max(int64(time.Since(s.born)), 1) }

// keeps reports whether the kernel has the node under that name, with its attributes, from a
// listing and for some time to come. What changed behind the mount since then, anywhere, makes
// that a no.
func (s *server) keeps(node vfs.Node, parent *inode, name string, now int64) bool {
	n := s.nodes.at(node, place{parent, name})
	if n == nil || n.writers.Load() > 0 {
		return false
	}
	at := n.listed.at.Load()
	return at > s.changed.Load() && now-at < int64(validity/2)
}
