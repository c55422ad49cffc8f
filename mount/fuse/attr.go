//go:build linux || darwin

package fuse

import (
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// blockSize is what stat(2) and statfs(2) tell programs, and the kernel's page.
const blockSize = 4096

// typeBits returns the type part of a mode.
func typeBits(k vfs.Kind) uint32 {
	switch k {
	case vfs.KindDir:
		return syscall.S_IFDIR
	case vfs.KindLink:
		return syscall.S_IFLNK
	case vfs.KindFIFO:
		return syscall.S_IFIFO
	case vfs.KindSocket:
		return syscall.S_IFSOCK
	case vfs.KindChar:
		return syscall.S_IFCHR
	case vfs.KindBlock:
		return syscall.S_IFBLK
	default:
		return syscall.S_IFREG
	}
}

// kindOf is the way back from typeBits. mknod(2) without a type makes a file.
func kindOf(mode uint32) (vfs.Kind, bool) {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG, 0:
		return vfs.KindFile, true
	case syscall.S_IFDIR:
		return vfs.KindDir, true
	case syscall.S_IFLNK:
		return vfs.KindLink, true
	case syscall.S_IFIFO:
		return vfs.KindFIFO, true
	case syscall.S_IFSOCK:
		return vfs.KindSocket, true
	case syscall.S_IFCHR:
		return vfs.KindChar, true
	case syscall.S_IFBLK:
		return vfs.KindBlock, true
	default:
		return 0, false
	}
}

// blocks returns the 512-byte blocks that n bytes take.
func blocks(n int64) uint64 { return (uint64(max(n, 0)) + 511) / 512 }

// stamp splits a time as the protocol has it. The zero time is the epoch.
func stamp(t time.Time) (sec uint64, nsec uint32) {
	if t.IsZero() {
		return 0, 0
	}
	return uint64(t.Unix()), uint32(t.Nanosecond())
}

func fillAttr(out *gofuse.Attr, a *vfs.Attr) {
	out.Ino = a.Ino
	out.Size = uint64(a.Size)
	out.Blocks = blocks(a.Bytes)
	out.Atime, out.Atimensec = stamp(a.ATime)
	out.Mtime, out.Mtimensec = stamp(a.MTime)
	out.Ctime, out.Ctimensec = stamp(a.CTime)
	out.Mode = typeBits(a.Kind) | uint32(a.Mode)
	out.Nlink = a.Nlink
	out.Uid, out.Gid = a.UID, a.GID
	out.Rdev = a.Rdev
	out.Blksize = blockSize
}

// change reads what a SETATTR asks for.
func change(in *gofuse.SetAttrIn) vfs.AttrChange {
	var c vfs.AttrChange
	if m, ok := in.GetMode(); ok {
		c.Set |= vfs.SetMode
		c.Mode = vfs.Mode(m) & vfs.ModeMask
	}
	if u, ok := in.GetUID(); ok {
		c.Set |= vfs.SetUID
		c.UID = u
	}
	if g, ok := in.GetGID(); ok {
		c.Set |= vfs.SetGID
		c.GID = g
	}
	if s, ok := in.GetSize(); ok {
		c.Set |= vfs.SetSize
		c.Size = int64(s)
	}
	if t, ok := in.GetATime(); ok {
		c.Set |= vfs.SetATime
		c.ATime = t
	}
	if t, ok := in.GetMTime(); ok {
		c.Set |= vfs.SetMTime
		c.MTime = t
	}
	if t, ok := in.GetCTime(); ok {
		c.Set |= vfs.SetCTime
		c.CTime = t
	}
	return c
}
