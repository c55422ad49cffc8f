//go:build linux || darwin

package fuse

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// Access control lists after POSIX 1003.1e draft 17, as Linux has them: the kernel judges by
// them, and this file keeps them. A list is stored as the extended attribute that
// the kernel sends. Where it says the same as the mode (the owner, the mask
// or else the group, the others) the mode is right: so chmod(2) needs to change
// no list, and a list and a mode never contradict each other.

// The layout of a list: a version, then entries, all little-endian (linux/posix_acl_xattr.h).
const (
	aclVersion  = 2
	aclHeadLen  = 4
	aclEntryLen = 8 // tag, permissions: 16 bits each; user or group: 32 bits
)

// The tags of entries (linux/posix_acl.h).
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

// An aclEntry is one line of a list.
type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// parseACL reads a list. It must have one owner, one group and one others, and a mask
// if it names anybody.
func parseACL(b []byte) ([]aclEntry, error) {
	if len(b) < aclHeadLen || (len(b)-aclHeadLen)%aclEntryLen != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, fmt.Errorf("access control list of %d bytes: %w", len(b), fs.ErrInvalid)
	}
	list := make([]aclEntry, 0, (len(b)-aclHeadLen)/aclEntryLen)
	var owners, groups, others, masks, named int
	for b = b[aclHeadLen:]; len(b) > 0; b = b[aclEntryLen:] {
		e := aclEntry{
			tag:  binary.LittleEndian.Uint16(b),
			perm: binary.LittleEndian.Uint16(b[2:]),
			id:   binary.LittleEndian.Uint32(b[4:]),
		}
		switch e.tag {
		case aclUserObj:
			owners++
		case aclGroupObj:
			groups++
		case aclOther:
			others++
		case aclMask:
			masks++
		case aclUser, aclGroup:
			named++
		default:
			owners = 2 // no such tag
		}
		if e.perm > 7 {
			owners = 2
		}
		list = append(list, e)
	}
	if owners != 1 || groups != 1 || others != 1 || masks > 1 || named > 0 && masks == 0 {
		return nil, fmt.Errorf("access control list with wrong entries: %w", fs.ErrInvalid)
	}
	return list, nil
}

// formatACL is the way back.
func formatACL(list []aclEntry) []byte {
	b := make([]byte, 0, aclHeadLen+len(list)*aclEntryLen)
	b = binary.LittleEndian.AppendUint32(b, aclVersion)
	for _, e := range list {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// perms returns the entries that the mode shows: owner, mask or else group, others.
func perms(list []aclEntry) (owner, group, other *aclEntry) {
	for i := range list {
		switch e := &list[i]; e.tag {
		case aclUserObj:
			owner = e
		case aclMask:
			group = e
		case aclGroupObj:
			if group == nil {
				group = e
			}
		case aclOther:
			other = e
		}
	}
	return owner, group, other
}

// modeOf returns the mode bits that a list stands for.
func modeOf(list []aclEntry) vfs.Mode {
	owner, group, other := perms(list)
	return vfs.Mode(owner.perm)<<6 | vfs.Mode(group.perm)<<3 | vfs.Mode(other.perm)
}

// groupObj returns the permissions of the owning group, which a mask limits.
func groupObj(list []aclEntry) vfs.Mode {
	for _, e := range list {
		if e.tag == aclGroupObj {
			return vfs.Mode(e.perm)
		}
	}
	return 0
}

// says more than the mode does: it names somebody or has a mask.
func extended(list []aclEntry) bool { return len(list) > 3 }

// shownACL returns the list that is stored as v, as it is under n's mode.
func (s *server) shownACL(ctx context.Context, n *inode, v []byte) ([]byte, error) {
	list, err := parseACL(v)
	if err != nil {
		return v, nil //nolint:nilerr // whoever stored it past this package may have it back
	}
	a, err := n.node.Attr(ctx)
	if err != nil {
		return nil, err
	}
	owner, group, other := perms(list)
	owner.perm = uint16(a.Mode >> 6 & 7)
	group.perm = uint16(a.Mode >> 3 & 7)
	other.perm = uint16(a.Mode & 7)
	return formatACL(list), nil
}

// setACL gives n a list. The mode follows it. If the steps are cut short, nobody has got
// more than he had before or has now.
func (s *server) setACL(ctx context.Context, n *inode, v []byte, dropSetGID bool) error {
	if !s.acl {
		return errACLUnsupported
	}
	list, err := parseACL(v)
	if err != nil {
		return err
	}
	a, err := n.node.Attr(ctx)
	if err != nil {
		return err
	}
	mode := a.Mode&^0o777 | modeOf(list)
	if dropSetGID {
		mode &^= setGID
	}
	bg := context.Background() // from here on it is made whole
	if !extended(list) {
		if err := s.removeXattr(bg, n, aclAccess); err != nil {
			return err
		}
		_, err := n.node.SetAttr(bg, vfs.AttrChange{Set: vfs.SetMode, Mode: mode})
		return err
	}
	narrow := a.Mode & (mode&^0o070 | mode&(groupObj(list)<<3) | ^vfs.Mode(0o777))
	if narrow != a.Mode {
		if _, err := n.node.SetAttr(bg, vfs.AttrChange{Set: vfs.SetMode, Mode: narrow}); err != nil {
			return err
		}
	}
	if err := n.node.SetXattr(bg, aclAccess, formatACL(list), vfs.XattrAny); err != nil {
		return err
	}
	_, err = n.node.SetAttr(bg, vfs.AttrChange{Set: vfs.SetMode, Mode: mode})
	return err
}

// setDefaultACL gives a directory the list that what is made in it starts with.
func (s *server) setDefaultACL(ctx context.Context, n *inode, v []byte) error {
	if !s.acl {
		return errACLUnsupported
	}
	if n.kind != vfs.KindDir {
		return fs.ErrPermission
	}
	list, err := parseACL(v)
	if err != nil {
		return err
	}
	err = n.node.SetXattr(ctx, aclDefault, formatACL(list), vfs.XattrAny)
	n.noACL.unknown()
	return err
}

// An heir is what a new node gets from the default list of its directory. The zero
// heir gets nothing.
type heir struct {
	access, dflt []byte   // lists to store; nil: none
	mode         vfs.Mode // the mode to end with, if access is not nil
}

// inherit works out what a new node in n gets, and sets the mode that it is to be made
// with: without a default list the umask applies, with one the list in its place.
func (s *server) inherit(ctx context.Context, n *inode, what *vfs.New, umask uint32) (heir, error) {
	if what.Kind == vfs.KindLink {
		return heir{}, nil
	}
	masked := what.Mode &^ vfs.Mode(umask&0o777)
	mark, absent := n.noACL.seen()
	if absent || !s.acl {
		what.Mode = masked
		return heir{}, nil
	}
	v, err := n.node.Xattr(ctx, aclDefault)
	if isNoXattr(err) {
		n.noACL.learn(mark)
		what.Mode = masked
		return heir{}, nil
	}
	if err != nil {
		return heir{}, err
	}
	list, err := parseACL(v)
	if err != nil {
		what.Mode = masked
		return heir{}, nil //nolint:nilerr // stored past this package: it cannot be followed
	}
	var h heir
	if what.Kind == vfs.KindDir {
		h.dflt = v
	}
	owner, group, other := perms(list)
	owner.perm &= uint16(what.Mode >> 6 & 7)
	group.perm &= uint16(what.Mode >> 3 & 7)
	other.perm &= uint16(what.Mode & 7)
	h.mode = what.Mode&^0o777 | modeOf(list)
	what.Mode = h.mode
	if extended(list) {
		h.access = formatACL(list)
		// Until the list is stored, the group bits are those of the group, not the mask.
		what.Mode = h.mode&^0o070 | h.mode&(groupObj(list)<<3)
	}
	return h, nil
}

// apply gives the new node its lists.
func (h heir) apply(ctx context.Context, node vfs.Node) error {
	if h.dflt != nil {
		if err := node.SetXattr(ctx, aclDefault, h.dflt, vfs.XattrAny); err != nil {
			return err
		}
	}
	if h.access == nil {
		return nil
	}
	if err := node.SetXattr(ctx, aclAccess, h.access, vfs.XattrAny); err != nil {
		return err
	}
	a, err := node.Attr(ctx)
	if err != nil {
		return err
	}
	if m := a.Mode&^0o777 | h.mode&0o777; m != a.Mode {
		_, err = node.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetMode, Mode: m})
	}
	return err
}

// errACLUnsupported is what a system gets whose lists are of another kind.
var errACLUnsupported = fmt.Errorf("set access control list: %w", errUnsupported)

// killsSetGID reports whether a list is set by somebody who may not keep the setgid bit.
func killsSetGID(in *gofuse.SetXAttrIn) bool { return setXattrFlags(in)&setXattrKillSGID != 0 }
