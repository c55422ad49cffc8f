//go:build linux || darwin

package fuse

import (
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// The kernel interrupts a request for any signal that its caller handles: a timer, a
// child that ended, the Go runtime's own. Programs do not expect that open(2) or
// rename(2) of a file fail for that (EINTR); on a local disk they never do. So a
// request that was given up because of an interrupt is begun again, and goes
// on unless its caller is being killed or patience runs out.
const (
	// patience is how long an interrupted request may go on for a caller that lives.
	patience = 10 * time.Second
	// deathWatch is how often is looked whether the caller is being killed.
	deathWatch = 50 * time.Millisecond
)

// A patient answers requests as server does, but that none fails for a signal that its
// caller survives.
type patient struct{ *server }

// again begins a request again that was given up, if it was for an interrupt and the
// caller with that thread ID lives. Nothing was changed by then, says the contract of vfs.FS.
func (p patient) again(interrupted <-chan struct{}, tid uint32, request func(cancel <-chan struct{}) gofuse.Status) gofuse.Status {
	select {
	case <-interrupted:
	default:
		return gofuse.EINTR // the tree's own
	}
	if beingKilled(tid) {
		return gofuse.EINTR
	}
	cancel, answered, watched := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		end := time.NewTimer(patience)
		defer end.Stop()
		look := time.NewTicker(deathWatch)
		defer look.Stop()
		for {
			select {
			case <-answered:
				return
			case <-end.C:
				close(cancel)
				return
			case <-look.C:
				if beingKilled(tid) {
					close(cancel)
					return
				}
			}
		}
	}()
	st := request(cancel)
	close(answered)
	<-watched
	return st
}

// What follows is each method of server that a tree may give up. Where there is a second
// result, the second try is a function of its own, so that the first allocates nothing.

func (p patient) Lookup(cancel <-chan struct{}, in *gofuse.InHeader, name string, out *gofuse.EntryOut) gofuse.Status {
	st := p.server.Lookup(cancel, in, name, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Lookup(c, in, name, out) })
}

func (p patient) GetAttr(cancel <-chan struct{}, in *gofuse.GetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	st := p.server.GetAttr(cancel, in, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.GetAttr(c, in, out) })
}

func (p patient) SetAttr(cancel <-chan struct{}, in *gofuse.SetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	st := p.server.SetAttr(cancel, in, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.SetAttr(c, in, out) })
}

func (p patient) Mknod(cancel <-chan struct{}, in *gofuse.MknodIn, name string, out *gofuse.EntryOut) gofuse.Status {
	st := p.server.Mknod(cancel, in, name, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Mknod(c, in, name, out) })
}

func (p patient) Mkdir(cancel <-chan struct{}, in *gofuse.MkdirIn, name string, out *gofuse.EntryOut) gofuse.Status {
	st := p.server.Mkdir(cancel, in, name, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Mkdir(c, in, name, out) })
}

func (p patient) Symlink(cancel <-chan struct{}, in *gofuse.InHeader, target, name string, out *gofuse.EntryOut) gofuse.Status {
	st := p.server.Symlink(cancel, in, target, name, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Symlink(c, in, target, name, out) })
}

func (p patient) Unlink(cancel <-chan struct{}, in *gofuse.InHeader, name string) gofuse.Status {
	st := p.server.Unlink(cancel, in, name)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Unlink(c, in, name) })
}

func (p patient) Rmdir(cancel <-chan struct{}, in *gofuse.InHeader, name string) gofuse.Status {
	st := p.server.Rmdir(cancel, in, name)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Rmdir(c, in, name) })
}

func (p patient) Rename(cancel <-chan struct{}, in *gofuse.RenameIn, oldName, newName string) gofuse.Status {
	st := p.server.Rename(cancel, in, oldName, newName)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Rename(c, in, oldName, newName) })
}

func (p patient) Link(cancel <-chan struct{}, in *gofuse.LinkIn, name string, out *gofuse.EntryOut) gofuse.Status {
	st := p.server.Link(cancel, in, name, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Link(c, in, name, out) })
}

func (p patient) SetXAttr(cancel <-chan struct{}, in *gofuse.SetXAttrIn, name string, value []byte) gofuse.Status {
	st := p.server.SetXAttr(cancel, in, name, value)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.SetXAttr(c, in, name, value) })
}

func (p patient) RemoveXAttr(cancel <-chan struct{}, in *gofuse.InHeader, name string) gofuse.Status {
	st := p.server.RemoveXAttr(cancel, in, name)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.RemoveXAttr(c, in, name) })
}

func (p patient) Create(cancel <-chan struct{}, in *gofuse.CreateIn, name string, out *gofuse.CreateOut) gofuse.Status {
	st := p.server.Create(cancel, in, name, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Create(c, in, name, out) })
}

func (p patient) Open(cancel <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	st := p.server.Open(cancel, in, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Open(c, in, out) })
}

func (p patient) Fsync(cancel <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	st := p.server.Fsync(cancel, in)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Fsync(c, in) })
}

func (p patient) Fallocate(cancel <-chan struct{}, in *gofuse.FallocateIn) gofuse.Status {
	st := p.server.Fallocate(cancel, in)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Fallocate(c, in) })
}

func (p patient) Lseek(cancel <-chan struct{}, in *gofuse.LseekIn, out *gofuse.LseekOut) gofuse.Status {
	st := p.server.Lseek(cancel, in, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.Lseek(c, in, out) })
}

func (p patient) ReadDir(cancel <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	st := p.server.ReadDir(cancel, in, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.ReadDir(c, in, out) })
}

func (p patient) ReadDirPlus(cancel <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	st := p.server.ReadDirPlus(cancel, in, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.ReadDirPlus(c, in, out) })
}

func (p patient) FsyncDir(cancel <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	st := p.server.FsyncDir(cancel, in)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.FsyncDir(c, in) })
}

func (p patient) StatFs(cancel <-chan struct{}, in *gofuse.InHeader, out *gofuse.StatfsOut) gofuse.Status {
	st := p.server.StatFs(cancel, in, out)
	if st != gofuse.EINTR {
		return st
	}
	return p.again(cancel, in.Pid, func(c <-chan struct{}) gofuse.Status { return p.server.StatFs(c, in, out) })
}

func (p patient) Readlink(cancel <-chan struct{}, in *gofuse.InHeader) (got []byte, st gofuse.Status) {
	if got, st = p.server.Readlink(cancel, in); st != gofuse.EINTR {
		return got, st
	}
	return p.readlinkAgain(cancel, in)
}

func (p patient) readlinkAgain(cancel <-chan struct{}, in *gofuse.InHeader) (got []byte, st gofuse.Status) {
	st = p.again(cancel, in.Pid, func(c <-chan struct{}) (st gofuse.Status) {
		got, st = p.server.Readlink(c, in)
		return st
	})
	return got, st
}

func (p patient) GetXAttr(cancel <-chan struct{}, in *gofuse.InHeader, name string, dest []byte) (got uint32, st gofuse.Status) {
	if got, st = p.server.GetXAttr(cancel, in, name, dest); st != gofuse.EINTR {
		return got, st
	}
	return p.getXAttrAgain(cancel, in, name, dest)
}

func (p patient) getXAttrAgain(cancel <-chan struct{}, in *gofuse.InHeader, name string, dest []byte) (got uint32, st gofuse.Status) {
	st = p.again(cancel, in.Pid, func(c <-chan struct{}) (st gofuse.Status) {
		got, st = p.server.GetXAttr(c, in, name, dest)
		return st
	})
	return got, st
}

func (p patient) ListXAttr(cancel <-chan struct{}, in *gofuse.InHeader, dest []byte) (got uint32, st gofuse.Status) {
	if got, st = p.server.ListXAttr(cancel, in, dest); st != gofuse.EINTR {
		return got, st
	}
	return p.listXAttrAgain(cancel, in, dest)
}

func (p patient) listXAttrAgain(cancel <-chan struct{}, in *gofuse.InHeader, dest []byte) (got uint32, st gofuse.Status) {
	st = p.again(cancel, in.Pid, func(c <-chan struct{}) (st gofuse.Status) {
		got, st = p.server.ListXAttr(c, in, dest)
		return st
	})
	return got, st
}

func (p patient) Read(cancel <-chan struct{}, in *gofuse.ReadIn, buf []byte) (got gofuse.ReadResult, st gofuse.Status) {
	if got, st = p.server.Read(cancel, in, buf); st != gofuse.EINTR {
		return got, st
	}
	return p.readAgain(cancel, in, buf)
}

func (p patient) readAgain(cancel <-chan struct{}, in *gofuse.ReadIn, buf []byte) (got gofuse.ReadResult, st gofuse.Status) {
	st = p.again(cancel, in.Pid, func(c <-chan struct{}) (st gofuse.Status) {
		got, st = p.server.Read(c, in, buf)
		return st
	})
	return got, st
}

func (p patient) Writev(cancel <-chan struct{}, in *gofuse.WriteIn, data [][]byte) (got uint32, st gofuse.Status) {
	if got, st = p.server.Writev(cancel, in, data); st != gofuse.EINTR {
		return got, st
	}
	return p.writevAgain(cancel, in, data)
}

func (p patient) writevAgain(cancel <-chan struct{}, in *gofuse.WriteIn, data [][]byte) (got uint32, st gofuse.Status) {
	st = p.again(cancel, in.Pid, func(c <-chan struct{}) (st gofuse.Status) {
		got, st = p.server.Writev(c, in, data)
		return st
	})
	return got, st
}

func (p patient) CopyFileRange(cancel <-chan struct{}, in *gofuse.CopyFileRangeIn) (got uint32, st gofuse.Status) {
	if got, st = p.server.CopyFileRange(cancel, in); st != gofuse.EINTR {
		return got, st
	}
	return p.copyFileRangeAgain(cancel, in)
}

func (p patient) copyFileRangeAgain(cancel <-chan struct{}, in *gofuse.CopyFileRangeIn) (got uint32, st gofuse.Status) {
	st = p.again(cancel, in.Pid, func(c <-chan struct{}) (st gofuse.Status) {
		got, st = p.server.CopyFileRange(c, in)
		return st
	})
	return got, st
}
