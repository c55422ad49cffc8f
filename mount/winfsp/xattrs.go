//go:build (windows && !cgo) || (cgofuse && cgo && (linux || darwin))

package winfsp

import (
	"errors"
	"strings"

	"github.com/winfsp/cgofuse/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// What Windows has and a tree has not is kept in extended attributes of these names. They are shown to nobody on Windows, and to everybody
// elsewhere, so that who copies a file with its attributes takes them along.
const (
	attrsXattr  = "user.sheaf.attributes" // as formatAttrs has it
	createXattr = "user.sheaf.created"    // as formatTime has it; without it, what the tree says
)

// userSpace is where an extended attribute of Windows is kept, which has no namespace.
const userSpace = "user."

// ownXattr reports whether an attribute is one of this package, or one that doors tell and nobody stores.
func ownXattr(name string) bool { return strings.HasPrefix(name, "user.sheaf.") }

func isNoXattr(err error) bool { return errors.Is(err, vfs.ErrNoXattr) }

// stored returns the name by which the tree keeps an extended attribute, or a code of cgofuse why it does not.
func (a *adapter) stored(name string) (string, int) {
	if a.windows {
		name = userSpace + name
		if ownXattr(name) {
			return "", -fuse.EACCES
		}
		return name, 0
	}
	if strings.HasPrefix(name, "system.posix_acl_") {
		return "", -fuse.EOPNOTSUPP // nobody would judge by it
	}
	return name, 0
}

// Setxattr sets an extended attribute.
func (a *adapter) Setxattr(path, name string, value []byte, flags int) (code int) {
	defer caught(a.log, &code)
	if a.readOnly {
		return -fuse.EROFS
	}
	a.hidden.begin("")
	ctx := background()
	name, code = a.stored(name)
	if code != 0 {
		return code
	}
	if len(value) > vfs.MaxXattrValue {
		return -fuse.E2BIG
	}
	var flag vfs.XattrFlag
	switch flags {
	case 0:
		flag = vfs.XattrAny
	case fuse.XATTR_CREATE:
		flag = vfs.XattrCreate
	case fuse.XATTR_REPLACE:
		flag = vfs.XattrReplace
	default:
		return -fuse.EINVAL
	}
	n, err := a.node(ctx, path)
	if err == nil {
		err = n.SetXattr(ctx, name, value, flag)
	}
	return a.code("setxattr", err)
}

// Getxattr returns an extended attribute.
func (a *adapter) Getxattr(path, name string) (code int, value []byte) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	ctx := background()
	name, code = a.stored(name)
	if code != 0 {
		return code, nil
	}
	n, err := a.node(ctx, path)
	if err == nil {
		value, err = n.Xattr(ctx, name)
	}
	return a.code("getxattr", err), value
}

// Removexattr removes an extended attribute.
func (a *adapter) Removexattr(path, name string) (code int) {
	defer caught(a.log, &code)
	if a.readOnly {
		return -fuse.EROFS
	}
	a.hidden.begin("")
	ctx := background()
	name, code = a.stored(name)
	if code != 0 {
		return code
	}
	n, err := a.node(ctx, path)
	if err == nil {
		err = n.RemoveXattr(ctx, name)
	}
	return a.code("removexattr", err)
}

// Listxattr lists the names of extended attributes.
func (a *adapter) Listxattr(path string, fill func(string) bool) (code int) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	ctx := background()
	n, err := a.node(ctx, path)
	var names []string
	if err == nil {
		names, err = n.ListXattr(ctx)
	}
	if err != nil {
		return a.code("listxattr", err)
	}
	for _, name := range names {
		if a.windows {
			rest, ok := strings.CutPrefix(name, userSpace)
			if !ok || ownXattr(name) {
				continue
			}
			name = rest
		}
		if !fill(name) {
			return -fuse.ERANGE
		}
	}
	return 0
}
