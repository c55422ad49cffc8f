//go:build linux || darwin

package fuse

import (
	"context"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// The names of the access control lists.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// labelXattr holds the label of SELinux, which sheaf keeps if it is given one and which no
// kernel asks a FUSE file system for. Where there is none, the answer is that labels are not
// supported: ls(1) then asks for one file, and not for each.
const labelXattr = "security.selinux"

// stateXattr is an attribute that no file has and every file answers to: where its content is, if the tree knows (vfs.Stating). As with other
// file systems that say something of a file in this way, it is not listed, so that who copies a file with its attributes does not
// take it along; and it cannot be set or removed.
const stateXattr = "user.sheaf.state"

// The flags of setxattr(2).
const (
	xattrCreate  = 1
	xattrReplace = 2
)

// GetXAttr returns a value, or how long it is if dest is empty.
func (s *server) GetXAttr(cancel <-chan struct{}, in *gofuse.InHeader, name string, dest []byte) (uint32, gofuse.Status) {
	n, st := s.node(in.NodeId)
	if st != gofuse.OK {
		return 0, st
	}
	ctx := opContext(cancel)
	if states, ok := s.fsys.(vfs.Stating); ok && name == stateXattr {
		return s.state(ctx, states, n, dest)
	}
	if n.kind == vfs.KindDir && name == aclDefault {
		if _, absent := n.noACL.seen(); absent {
			return 0, gofuse.ENODATA
		}
	}
	v, err := n.node.Xattr(ctx, name)
	if err == nil && name == aclAccess {
		v, err = s.shownACL(ctx, n, v)
	}
	if err != nil {
		if name == labelXattr && isNoXattr(err) {
			return 0, gofuse.Status(syscall.EOPNOTSUPP)
		}
		return 0, s.status("getxattr", err)
	}
	return fit(dest, v)
}

// state returns where the content of a node is.
func (s *server) state(ctx context.Context, of vfs.Stating, n *inode, dest []byte) (uint32, gofuse.Status) {
	text, err := of.State(ctx, n.node)
	if err == nil && text == "" {
		err = vfs.ErrNoXattr
	}
	if err != nil {
		return 0, s.status("getxattr", err)
	}
	return fit(dest, []byte(text))
}

// isState reports whether an attribute is told by the tree and stored nowhere.
func (s *server) isState(name string) bool {
	_, ok := s.fsys.(vfs.Stating)
	return ok && name == stateXattr
}

// fit copies v to dest. Without room for it, it returns the room that v needs.
func fit(dest, v []byte) (uint32, gofuse.Status) {
	if len(dest) == 0 {
		return uint32(len(v)), gofuse.OK
	}
	if len(v) > len(dest) {
		return uint32(len(v)), gofuse.ERANGE
	}
	return uint32(copy(dest, v)), gofuse.OK
}

// ListXAttr returns the names, each ended by a NUL, or how long that is if dest is empty.
func (s *server) ListXAttr(cancel <-chan struct{}, in *gofuse.InHeader, dest []byte) (uint32, gofuse.Status) {
	n, st := s.node(in.NodeId)
	if st != gofuse.OK {
		return 0, st
	}
	names, err := n.node.ListXattr(opContext(cancel))
	if err != nil {
		return 0, s.status("listxattr", err)
	}
	var list []byte
	for _, name := range names {
		if s.isState(name) { // it was stored by what is no mount
			continue
		}
		list = append(append(list, name...), 0)
	}
	return fit(dest, list)
}

// SetXAttr sets a value.
func (s *server) SetXAttr(cancel <-chan struct{}, in *gofuse.SetXAttrIn, name string, value []byte) gofuse.Status {
	n, st := s.node(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	if s.isState(name) {
		return gofuse.Status(syscall.EOPNOTSUPP)
	}
	var flag vfs.XattrFlag
	switch in.Flags {
	case 0:
		flag = vfs.XattrAny
	case xattrCreate:
		flag = vfs.XattrCreate
	case xattrReplace:
		flag = vfs.XattrReplace
	default:
		return gofuse.EINVAL
	}
	if len(value) > vfs.MaxXattrValue {
		return gofuse.Status(syscall.E2BIG)
	}
	ctx := opContext(cancel)
	defer n.forget()
	switch name {
	case aclAccess:
		return s.status("setxattr", s.setACL(ctx, n, value, killsSetGID(in)))
	case aclDefault:
		return s.status("setxattr", s.setDefaultACL(ctx, n, value))
	}
	err := n.node.SetXattr(ctx, name, value, flag)
	if name == capsXattr {
		n.noCaps.unknown()
	}
	return s.status("setxattr", err)
}

// RemoveXAttr removes a value.
func (s *server) RemoveXAttr(cancel <-chan struct{}, in *gofuse.InHeader, name string) gofuse.Status {
	n, st := s.node(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	if s.isState(name) {
		return gofuse.Status(syscall.EOPNOTSUPP)
	}
	defer n.forget()
	return s.status("removexattr", s.removeXattr(opContext(cancel), n, name))
}

func (s *server) removeXattr(ctx context.Context, n *inode, name string) error {
	err := n.node.RemoveXattr(ctx, name)
	if isNoXattr(err) && (name == aclAccess || name == aclDefault) {
		return nil // a list that says no more than the mode is not stored
	}
	return err
}
