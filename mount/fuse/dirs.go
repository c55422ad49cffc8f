//go:build linux || darwin

package fuse

import (
	"context"
	"slices"
	"sync"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// batchLen is how many entries are fetched from the tree at a time.
const batchLen = 512

// maxRewound is how many names keep their cookies when a stream is rewound. POSIX lets them all mean nothing then, but the
// kernel does not tell rewinddir(3) from seekdir(3) to the beginning. Without a bound, a stream that is rewound over and over
// and never closed would remember all names that there ever were.
const maxRewound = 1 << 18

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
	names []byte            // all fetched names, one after the other
	ends  []uint32          // where each ends in names
	index map[string]uint32 // of a name in ends, from when a batch was first fetched again; nil before
	batch []vfs.Entry       // fetched last
	nums  []uint32          // index in ends of each entry of batch
	next  int               // index in batch of the entry to hand out next
	after string            // the name after which to fetch once batch is handed out
	done  bool              // nothing follows batch
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
	case cookie == cookieStart: // opened just now, rewound, or back at where telldir(3) was asked first
		if len(d.ends) == 0 || len(d.ends) > maxRewound {
			d.names, d.ends, d.index = d.names[:0], d.ends[:0], nil
			d.refetch("")
		} else {
			d.fetchAgain("")
		}
		return true
	case cookie <= cookieDotDot:
		switch {
		case len(d.nums) == 0:
		case d.nums[0] == 0 && d.index == nil: // the first batch is still there
			d.next = 0
		default:
			d.fetchAgain("")
		}
		return true
	}
	if cookie-cookieFirst >= uint64(len(d.ends)) {
		return false
	}
	i := uint32(cookie - cookieFirst)
	if d.next > 0 && d.nums[d.next-1] == i { // as it is nearly always
		return true
	}
	if k := slices.Index(d.nums, i); k >= 0 {
		d.next = k + 1
		return true
	}
	d.fetchAgain(d.name(int(i)))
	return true
}

// refetch makes the next entry be fetched from the tree, as the one after that name.
func (d *openDir) refetch(after string) {
	d.batch, d.nums, d.next, d.after, d.done = d.batch[:0], d.nums[:0], 0, after, false
}

// fetchAgain is refetch for names that were given out before: they keep their cookies.
func (d *openDir) fetchAgain(after string) {
	if d.index == nil {
		d.index = make(map[string]uint32, len(d.ends))
		for i := range d.ends {
			d.index[d.name(i)] = uint32(i)
		}
	}
	d.refetch(after)
}

// remember returns the index of a fetched name in ends.
func (d *openDir) remember(name string) uint32 {
	if i, ok := d.index[name]; ok {
		return i
	}
	i := uint32(len(d.ends))
	d.names = append(d.names, name...)
	d.ends = append(d.ends, uint32(len(d.names)))
	if d.index != nil {
		d.index[name] = i
	}
	return i
}

// peek returns the next entry and its cookie, without moving on. At the end it returns
// no cookie.
func (d *openDir) peek(ctx context.Context) (e vfs.Entry, cookie uint64, err error) {
	if d.next == len(d.batch) && !d.done {
		if err := d.fetch(ctx); err != nil {
			return vfs.Entry{}, 0, err
		}
	}
	if d.next == len(d.batch) {
		return vfs.Entry{}, 0, nil
	}
	return d.batch[d.next], cookieFirst + uint64(d.nums[d.next]), nil
}

// fetch replaces the batch by the entries that follow it.
func (d *openDir) fetch(ctx context.Context) error {
	fresh := make([]vfs.Entry, 0, batchLen)
	d.done = true
	for e, err := range d.dir.List(ctx, d.after) {
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
	d.batch, d.nums, d.next, d.after = fresh, d.nums[:0], 0, fresh[len(fresh)-1].Name
	for _, e := range fresh {
		d.nums = append(d.nums, d.remember(e.Name))
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
	now := s.clock()
	d.n.forget() // the kernel does not believe its time of access any more
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
		} else if !s.addNode(ctx, d, out, e, cookie, now) {
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
// is gone by now is left out. now is a moment before e was looked at.
func (s *server) addNode(ctx context.Context, d *openDir, out *gofuse.DirEntryList, e vfs.Entry, cookie uint64, now int64) bool {
	node, err := d.dir.Lookup(ctx, e.Name)
	if err == nil && s.keeps(node, d.n, e.Name, now) {
		return addEntry(out, e, cookie, true)
	}
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
	s.entry(entry, node, &a, d.n, e.Name).listed.at.Store(now)
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
