//go:build (windows && !cgo) || (cgofuse && cgo && (linux || darwin))

package winfsp

import (
	"context"
	"io/fs"
	"runtime"
	"time"

	"github.com/winfsp/cgofuse/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// kinds are the types of nodes as a mode has them.
var kinds = map[vfs.Kind]uint32{
	vfs.KindFile: fuse.S_IFREG, vfs.KindDir: fuse.S_IFDIR, vfs.KindLink: fuse.S_IFLNK, vfs.KindFIFO: fuse.S_IFIFO,
	vfs.KindSocket: fuse.S_IFSOCK, vfs.KindChar: fuse.S_IFCHR, vfs.KindBlock: fuse.S_IFBLK,
}

func stamp(t time.Time) fuse.Timespec {
	if t.IsZero() {
		return fuse.Timespec{}
	}
	return fuse.NewTimespec(t)
}

func fill(out *fuse.Stat_t, at *vfs.Attr) {
	*out = fuse.Stat_t{
		Ino: at.Ino, Mode: kinds[at.Kind] | uint32(at.Mode), Nlink: at.Nlink, Uid: at.UID, Gid: at.GID,
		Rdev: uint64(at.Rdev), Size: at.Size, Blksize: blockSize, Blocks: (max(at.Bytes, 0) + 511) / 512,
		Atim: stamp(at.ATime), Mtim: stamp(at.MTime), Ctim: stamp(at.CTime), Birthtim: stamp(at.BTime),
	}
}

// stat fills out with what is known of a node.
func (a *adapter) stat(ctx context.Context, n vfs.Node, out *fuse.Stat_t) error {
	at, err := n.Attr(ctx)
	if err != nil {
		return err
	}
	if a.hidden.doomed(n) && at.Nlink > 0 {
		at.Nlink--
	}
	fill(out, &at)
	if a.windows || runtime.GOOS == "darwin" {
		a.extend(ctx, n, out)
	}
	return nil
}

// extend adds what is kept in extended attributes. What cannot be read is as if it were not there.
func (a *adapter) extend(ctx context.Context, n vfs.Node, out *fuse.Stat_t) {
	if b, err := n.Xattr(ctx, attrsXattr); err == nil {
		out.Flags = uint32(parseAttrs(b))
	}
	if b, err := n.Xattr(ctx, createXattr); err == nil {
		if t, ok := parseTime(b); ok {
			out.Birthtim = stamp(t)
		}
	}
}

// Getattr tells what is known of a node.
func (a *adapter) Getattr(path string, out *fuse.Stat_t, fh uint64) (code int) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	ctx := background()
	n, err := a.at(ctx, path, fh)
	if err == nil {
		err = a.stat(ctx, n, out)
	}
	return a.code("getattr", err)
}

// set changes attributes of what path leads to.
func (a *adapter) set(op, path string, c vfs.AttrChange) (code int) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	ctx := background()
	if a.readOnly {
		return -fuse.EROFS
	}
	n, err := a.node(ctx, path)
	if err == nil && c.Set != 0 {
		_, err = n.SetAttr(ctx, c)
	}
	return a.code(op, err)
}

// Chmod changes a mode. On Windows it is made of an access control list, and means nothing elsewhere. What that answers to ENOSYS is that
// it is not supported; to any other error it would fail to make files.
func (a *adapter) Chmod(path string, mode uint32) int {
	if a.windows {
		return -fuse.ENOSYS
	}
	return a.set("chmod", path, vfs.AttrChange{Set: vfs.SetMode, Mode: vfs.Mode(mode) & vfs.ModeMask})
}

// Chown gives a node away. For Windows see Chmod.
func (a *adapter) Chown(path string, uid, gid uint32) int {
	const keep = ^uint32(0)
	if a.windows {
		return -fuse.ENOSYS
	}
	c := vfs.AttrChange{UID: uid, GID: gid}
	if uid != keep {
		c.Set |= vfs.SetUID
	}
	if gid != keep {
		c.Set |= vfs.SetGID
	}
	return a.set("chown", path, c)
}

// Utimens sets the times of access and change. A time that is to stay says so in its nanoseconds.
func (a *adapter) Utimens(path string, ts []fuse.Timespec) int {
	var c vfs.AttrChange
	if len(ts) != 2 {
		ts = []fuse.Timespec{fuse.Now(), fuse.Now()}
	}
	times := [2]time.Time{}
	for i, bit := range []vfs.AttrSet{vfs.SetATime, vfs.SetMTime} {
		switch ts[i].Nsec {
		case fuse.UTIME_OMIT:
		case fuse.UTIME_NOW:
			c.Set |= bit
			times[i] = vfs.Now()
		default:
			c.Set |= bit
			times[i] = ts[i].Time()
		}
	}
	c.ATime, c.MTime = times[0], times[1]
	return a.set("utimens", path, c)
}

// Setchgtime sets the time of the last change of anything (Windows, macOS).
func (a *adapter) Setchgtime(path string, ts fuse.Timespec) int {
	return a.set("setchgtime", path, vfs.AttrChange{Set: vfs.SetCTime, CTime: ts.Time()})
}

// Setcrtime sets the time of creation (Windows, macOS). A tree has one that cannot be set.
func (a *adapter) Setcrtime(path string, ts fuse.Timespec) (code int) {
	defer caught(a.log, &code)
	if a.readOnly {
		return -fuse.EROFS
	}
	ctx := background()
	n, err := a.node(ctx, path)
	if err != nil {
		return a.code("setcrtime", err)
	}
	at, err := n.Attr(ctx)
	if err == nil {
		err = keep(ctx, n, createXattr, formatTime(ts.Time()), at.BTime.Equal(ts.Time()))
	}
	return a.code("setcrtime", err)
}

// Chflags sets the attributes of Windows: hidden, read-only, system, archive.
func (a *adapter) Chflags(path string, flags uint32) (code int) {
	defer caught(a.log, &code)
	if a.readOnly {
		return -fuse.EROFS
	}
	ctx := background()
	n, err := a.node(ctx, path)
	if err == nil {
		f := attrs(flags) & keptAttrs
		err = keep(ctx, n, attrsXattr, formatAttrs(f), f == 0)
	}
	return a.code("chflags", err)
}

// keep stores an extended attribute; if it says no more than there would be without it, it is removed.
func keep(ctx context.Context, n vfs.Node, name string, value []byte, plain bool) error {
	if !plain {
		return n.SetXattr(ctx, name, value, vfs.XattrAny)
	}
	if _, err := n.Xattr(ctx, name); isNoXattr(err) {
		return nil
	}
	return n.RemoveXattr(ctx, name)
}

// Truncate makes a file as long as it is told.
func (a *adapter) Truncate(path string, size int64, fh uint64) (code int) {
	defer caught(a.log, &code)
	if a.readOnly {
		return -fuse.EROFS
	}
	a.hidden.begin("")
	ctx := background()
	if o := a.opens.get(fh); o != nil && o.h != nil {
		err := o.h.Truncate(ctx, size)
		return a.code("truncate", err)
	}
	n, err := a.node(ctx, path)
	if err == nil {
		_, err = n.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetSize, Size: size})
	}
	return a.code("truncate", err)
}

// kindOf returns the kind that a mode says. Without a type it is a file.
func kindOf(mode uint32) (vfs.Kind, error) {
	if mode&fuse.S_IFMT == 0 {
		return vfs.KindFile, nil
	}
	for k, bits := range kinds {
		if bits == mode&fuse.S_IFMT {
			return k, nil
		}
	}
	return 0, fs.ErrInvalid
}
