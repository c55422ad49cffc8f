//go:build linux || darwin

package fuse

import (
	"context"
	"sync"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// batchLen is how many entries are fetched from the tree at a time.
const batchLen = 512

// The cookies of a directory stream: the kernel reads on after the entry whose
// cookie it names.
const (
	cookieStart  = 0
	cookieDot    = 1
	cookieDotDot = 2
	cookieFirst  = 3 // the first entry; the i-th name that was fetched has cookieFirst+i
)

// An openDir is an open directory of the kernel. It remembers every name that it
// fetched, so that a cookie means "after this name" for as long as it is open,
// whatever is made or removed meanwhile.
type openDir struct {
	n   *inode
	dir vfs.Dir

	mu    sync.Mutex
	names []byte      // all fetched names, one after the other
	ends  []uint32    // where each ends in names
	batch []vfs.Entry // fetched last
	base  int         // index in ends of the first entry of batch
	next  int         // index in batch of the entry to hand out next
	done  bool        // nothing follows batch
}

// name returns the i-th fetched name.
func (d *openDir) name(i int) string {
	start := uint32(0)
	if i > 0 {
		start = d.ends[i-1]
	}
	return string(d.names[start:d.ends[i]])
}

// seek makes the entry after cookie the next one, and reports whether the cookie is one
// that this stream gave out.
func (d *openDir) seek(cookie uint64) bool {
	switch {
	case cookie == cookieStart: // opened just now, or rewound: old cookies mean nothing any more
		d.names, d.ends, d.batch = d.names[:0], d.ends[:0], d.batch[:0]
		d.base, d.next, d.done = 0, 0, false
		return true
	case cookie <= cookieDotDot:
		if d.base+d.next > 0 {
			d.batch, d.base, d.next, d.done = d.batch[:0], len(d.ends), 0, false
		}
		return true
	}
	if cookie-cookieFirst >= uint64(len(d.ends)) {
		return false
	}
	i := int(cookie - cookieFirst)
	if k := i + 1 - d.base; k >= 0 && k <= len(d.batch) {
		d.next = k
		return true
	}
	// The names that follow are fetched again and get new cookies: those that were
	// given out keep their meaning.
	d.batch = append(d.batch[:0], vfs.Entry{Name: d.name(i)})
	d.base, d.next, d.done = len(d.ends), 1, false
	d.remember(d.batch[0].Name)
	return true
}

func (d *openDir) remember(name string) {
	d.names = append(d.names, name...)
	d.ends = append(d.ends, uint32(len(d.names)))
}

// peek returns the next entry and its cookie, without moving on. At the end it returns
// no cookie.
func (d *openDir) peek(ctx context.Context) (e vfs.Entry, cookie uint64, err error) {
	if d.next == len(d.batch) && !d.done {
		after := ""
		if len(d.batch) > 0 {
			after = d.batch[len(d.batch)-1].Name
		}
		if err := d.fetch(ctx, after); err != nil {
			return vfs.Entry{}, 0, err
		}
	}
	if d.next == len(d.batch) {
		return vfs.Entry{}, 0, nil
	}
	return d.batch[d.next], cookieFirst + uint64(d.base+d.next), nil
}

// fetch replaces the batch by the entries after that name.
func (d *openDir) fetch(ctx context.Context, after string) error {
	fresh := make([]vfs.Entry, 0, batchLen)
	d.done = true
	for e, err := range d.dir.List(ctx, after) {
		if err != nil {
			d.done = false
			return err
		}
		if len(fresh) == batchLen {
			d.done = false
			break
		}
		fresh = append(fresh, e)
	}
	if len(fresh) == 0 {
		return nil // the old batch stays: its last name is where a later seek may stand
	}
	d.batch, d.base, d.next = fresh, len(d.ends), 0
	for _, e := range fresh {
		d.remember(e.Name)
	}
	return nil
}

// OpenDir opens a directory. The kernel is not asked to keep its listing (FOPEN_CACHE_DIR):
// it would hand the cookies of one open directory to another.
func (s *server) OpenDir(_ <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	n, d, st := s.dir(in.NodeId)
	if st != gofuse.OK {
		return st
	}
	out.Fh = s.dirs.put(&openDir{n: n, dir: d})
	return gofuse.OK
}

// ReadDir lists names.
func (s *server) ReadDir(cancel <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	return s.list(cancel, in, out, false)
}

// ReadDirPlus lists names and tells the kernel of the nodes besides.
func (s *server) ReadDirPlus(cancel <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	return s.list(cancel, in, out, true)
}

func (s *server) list(cancel <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList, plus bool) gofuse.Status {
	d := s.dirs.get(in.Fh)
	if d == nil {
		return gofuse.EBADF
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.seek(in.Offset) {
		return gofuse.EINVAL
	}
	ctx := opContext(cancel)
	if in.Offset < cookieDot && !addEntry(out, vfs.Entry{Name: ".", Ino: d.n.ino, Kind: vfs.KindDir}, cookieDot, plus) {
		return gofuse.OK
	}
	if in.Offset < cookieDotDot && !addEntry(out, vfs.Entry{Name: "..", Ino: s.nodes.parentIno(d.n), Kind: vfs.KindDir}, cookieDotDot, plus) {
		return gofuse.OK
	}
	for {
		e, cookie, err := d.peek(ctx)
		if err != nil {
			if len(out.Bytes()) > 0 {
				return gofuse.OK // the next request meets it again
			}
			return s.status("readdir", err)
		}
		if cookie == 0 {
			return gofuse.OK
		}
		if !plus {
			if !addEntry(out, e, cookie, false) {
				return gofuse.OK
			}
		} else if !s.addNode(ctx, d, out, e, cookie) {
			return gofuse.OK
		}
		d.next++
	}
}

// addEntry adds a name, and reports whether there was room.
func addEntry(out *gofuse.DirEntryList, e vfs.Entry, cookie uint64, plus bool) bool {
	de := gofuse.DirEntry{Mode: typeBits(e.Kind), Name: e.Name, Ino: e.Ino, Off: cookie}
	if plus {
		return out.AddDirLookupEntry(de) != nil // without a node number: no node is told of
	}
	return out.AddDirEntry(de)
}

// addNode adds a name with its node, and reports whether there was room. A name that
// is gone by now is left out.
func (s *server) addNode(ctx context.Context, d *openDir, out *gofuse.DirEntryList, e vfs.Entry, cookie uint64) bool {
	node, err := d.dir.Lookup(ctx, e.Name)
	var a vfs.Attr
	if err == nil {
		a, err = node.Attr(ctx)
	}
	if err != nil {
		if isNotExist(err) {
			return true
		}
		return addEntry(out, e, cookie, true) // the kernel asks for the node when it needs it
	}
	entry := out.AddDirLookupEntry(gofuse.DirEntry{Mode: typeBits(a.Kind), Name: e.Name, Ino: a.Ino, Off: cookie})
	if entry == nil {
		return false
	}
	s.entry(entry, node, &a, d.n, e.Name)
	return true
}

// ReleaseDir closes a directory.
func (s *server) ReleaseDir(in *gofuse.ReleaseIn) { s.dirs.drop(in.Fh) }

// FsyncDir returns when the names of a directory are durable on this machine.
func (s *server) FsyncDir(cancel <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	d := s.dirs.get(in.Fh)
	if d == nil {
		return gofuse.EBADF
	}
	return s.status("fsyncdir", d.dir.Sync(opContext(cancel)))
}
