//go:build linux || darwin

package fuse

import (
	"context"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// What changed behind the mount is dropped from the kernel's cache here. A notice to
// the kernel may wait for a lock that a running request holds, and may make the
// kernel write; so it is never given while this package holds a lock, and (but for
// Lseek and dropAttr, which say why) never by a goroutine that answers a request.

// follow tells the kernel of every change behind the mount, until ctx is done.
func (s *server) follow(ctx context.Context) {
	for c := range s.fsys.Changes(ctx) {
		s.changed.Store(s.clock())
		switch {
		case c.Node == nil:
			s.dropAll()
		case c.Name != "":
			s.dropName(c.Node, c.Name)
		default:
			s.drop(c.Node)
		}
	}
}

// dropLater makes the kernel forget what it keeps of a node, soon.
func (s *server) dropLater(node vfs.Node) {
	s.later.Lock()
	s.later.nodes = append(s.later.nodes, node)
	s.later.Unlock()
	select {
	case s.later.wake <- struct{}{}:
	default: // it is awake
	}
}

// dropQueued does what dropLater asked for, until ctx is done.
func (s *server) dropQueued(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.later.wake:
		}
		s.later.Lock()
		nodes := s.later.nodes
		s.later.nodes = nil
		s.later.Unlock()
		for _, node := range nodes {
			s.drop(node)
		}
	}
}

// drop makes the kernel forget the attributes and the content of a node.
func (s *server) drop(node vfs.Node) {
	n := s.nodes.known(node)
	if n == nil {
		return
	}
	n.forget()
	n.noCaps.unknown()
	n.noACL.unknown()
	if !s.writeback || n.kind != vfs.KindFile {
		s.told("inode", s.kernel.InodeNotify(n.id, 0, 0))
		return
	}
	// With the write-back cache the kernel keeps the length and times it knows, so
	// the file gets a new number. First the old one's unwritten pages come in.
	old, places := s.nodes.supersede(node)
	if old == nil {
		return
	}
	s.told("inode", s.kernel.InodeNotify(old.id, 0, 0))
	for _, p := range places {
		s.told("entry", s.kernel.EntryNotify(p.parent.id, p.name))
	}
}

// dropAttr makes the kernel forget the attributes of n. Without a range this notice
// takes no lock and makes nothing be written, so a request may give it.
func (s *server) dropAttr(n *inode) {
	n.forget()
	s.told("attributes", s.kernel.InodeNotify(n.id, -1, 0))
}

// dropName makes the kernel forget one name of a directory, and the directory's times.
func (s *server) dropName(dir vfs.Node, name string) {
	n := s.nodes.known(dir)
	if n == nil {
		return
	}
	s.told("entry", s.kernel.EntryNotify(n.id, name))
	s.told("inode", s.kernel.InodeNotify(n.id, 0, 0))
}

// dropAll makes the kernel forget everything it was told. Names that are not there go
// away with their directory, those of the root by rootAbsence.
func (s *server) dropAll() {
	for _, node := range s.nodes.nodes() {
		n := s.nodes.known(node)
		if n == nil {
			continue
		}
		if n.kind == vfs.KindFile && s.writeback {
			s.drop(node)
			continue
		}
		n.noCaps.unknown()
		n.noACL.unknown()
		s.told("inode", s.kernel.InodeNotify(n.id, 0, 0))
		for _, p := range s.nodes.placesOf(n) {
			s.told("entry", s.kernel.EntryNotify(p.parent.id, p.name))
		}
	}
}

// told looks at what the kernel says to a notice. That it does not have what it is
// to forget, or is about to go, is as good.
func (s *server) told(what string, st gofuse.Status) {
	switch st {
	case gofuse.OK, gofuse.ENOENT, gofuse.ENODEV, gofuse.EBADF, gofuse.Status(syscall.ENOTCONN):
	default:
		s.log.Warn("kernel did not take a notice", "notice", what, "status", st.String())
	}
}
