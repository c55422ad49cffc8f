package sim

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// A fault is what is wrong with a place, as one device sees it.
type fault int

const (
	well    fault = iota
	away          // nothing is answered
	flaky         // a fourth of the calls fail, and do nothing
	deaf          // a third of the writes are done and answered by an error
	cut           // after some writes, nothing is answered
	stale         // listings are as they were when the fault began
	partial       // listings leave out a third of the names, and say nothing of it
	broken        // listings end with an error halfway
	page          // listings end halfway, and say nothing of it
	empty         // listings are empty
	hidden        // a third of the blobs are neither listed nor given
	late          // what is put is acknowledged, and seen by nobody until the fault ends
	torn          // a fourth of the bodies end early
	rotten        // in a fourth of the bodies a bit is another one
	doubled       // listings name everything twice, and with other sizes
	faults
)

// lossy acknowledges half of what is put, and keeps it nowhere: a disk that is full behind a server that does not say so. It is none of those that any schedule has: it takes
// the part of late in one of four.
const lossy = faults

func (f fault) String() string {
	return [...]string{
		"well", "away", "flaky", "deaf", "cut", "stale", "partial", "broken", "page", "empty", "hidden", "late", "torn", "rotten", "doubled", "lossy",
	}[f]
}

// A place is where packs and heads of all devices lie.
type place struct {
	name  string
	inner *mem.Bucket

	mu   sync.Mutex
	late map[blob.Name][]byte // that are acknowledged, and not seen yet
	puts int                  // that changed something
}

func newPlace(name string) *place {
	return &place{name: name, inner: mem.New(), late: map[blob.Name][]byte{}}
}

// arrive makes seen what was acknowledged.
func (p *place) arrive(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(p.late)) {
		b := p.late[name]
		_ = p.inner.Put(ctx, name, bytes.NewReader(b), int64(len(b))) // a bucket in memory takes it
	}
	clear(p.late)
}

// A link is a place as one device sees it. What it does follows from its seed and from what was asked for how often, and not from the
// order in which that was asked: some of it is asked by several goroutines.
type link struct {
	*place
	p *power

	mu    sync.Mutex
	fault fault
	seed  uint64
	asked map[string]int
	left  int // writes until a cut
	then  []blob.Info
	nth   map[blob.Name]int // of the packs that were put since the fault began, the how manieth each is
	told  int               // how often it did what it should not
}

// set begins or ends a fault.
func (l *link) set(ctx context.Context, f fault, seed uint64) {
	var then []blob.Info
	for info, err := range l.inner.List(ctx, "") {
		if err == nil {
			then = append(then, info)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault, l.seed, l.asked, l.left, l.then, l.nth = f, seed, map[string]int{}, int(seed%12), then, map[blob.Name]int{}
}

// chance reports whether it happens to this call: one in n.
func (l *link) chance(op string, name blob.Name, n uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := op + string(name)
	l.asked[key]++
	if l.roll(fmt.Sprint(key, l.asked[key]))%n != 0 {
		return false
	}
	l.told++
	return true
}

// always is chance that is the same for all calls about one name.
func (l *link) always(name blob.Name, n uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.roll(string(name))%n != 0 {
		return false
	}
	l.told++
	return true
}

// loses is always for what is put, one in two. The name of a pack hangs on the order in which goroutines take of the schedule's chance, so a pack goes by how many
// others were put before it: else a turn fails in one run of a schedule, and goes well in the next.
func (l *link) loses(name blob.Name) bool {
	if !strings.HasPrefix(string(name), "packs/") {
		return l.always(name, 2)
	}
	l.mu.Lock()
	n, ok := l.nth[name]
	if !ok {
		n = len(l.nth)
		l.nth[name] = n
	}
	l.mu.Unlock()
	return l.always(blob.Name(fmt.Sprint("packs/", n)), 2)
}

func (l *link) roll(s string) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s", l.seed, s)
	return h.Sum64() >> 7
}

func (l *link) now() fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// reach returns why a call is not answered, if so.
func (l *link) reach(op string, name blob.Name) error {
	if err := l.p.read(); err != nil {
		return err
	}
	f := l.now()
	gone := f == away
	if f == cut {
		l.mu.Lock()
		gone = l.left <= 0
		l.mu.Unlock()
	}
	if gone || f == flaky && l.chance(op, name, 4) {
		l.mu.Lock()
		l.told++
		l.mu.Unlock()
		return fmt.Errorf("%s %s at %s: %w", op, name, l.name, blob.ErrTemporary)
	}
	return nil
}

// write is reach for a write, and asks the power. done says what is to be answered when it is done.
func (l *link) write(op string, name blob.Name) (done error, err error) {
	if err := l.reach(op, name); err != nil {
		return nil, err
	}
	do, err := l.p.write()
	if !do {
		return nil, err
	}
	done = err
	switch l.now() {
	case deaf:
		if l.chance(op, name, 3) {
			done = fmt.Errorf("%s %s at %s: %w", op, name, l.name, blob.ErrTemporary)
		}
	case cut:
		l.mu.Lock()
		l.left--
		l.mu.Unlock()
	}
	return done, nil
}

func (l *link) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	done, err := l.write("put", name)
	if err != nil {
		return err
	}
	if f := l.now(); (f == late || f == lossy) && l.loses(name) {
		b, err := io.ReadAll(blob.Body(ctx, r, size))
		if err == nil && f == late {
			l.place.mu.Lock()
			l.late[name] = b
			l.place.mu.Unlock()
		}
		return err
	}
	err = l.inner.Put(ctx, name, r, size)
	l.place.mu.Lock()
	l.puts++
	l.place.mu.Unlock()
	if err != nil {
		return err
	}
	return done
}

func (l *link) Remove(ctx context.Context, names ...blob.Name) error {
	done, err := l.write("remove", names[0])
	if err != nil {
		return err
	}
	l.place.mu.Lock()
	for _, name := range names {
		delete(l.late, name)
	}
	l.place.mu.Unlock()
	if err := l.inner.Remove(ctx, names...); err != nil {
		return err
	}
	return done
}

func (l *link) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if err := l.reach("get", name); err != nil {
		return nil, err
	}
	f := l.now()
	if f == hidden && l.always(name, 3) {
		return nil, fmt.Errorf("get %s at %s: %w", name, l.name, fs.ErrNotExist)
	}
	r, err := l.inner.Get(ctx, name, off, n)
	if err != nil || f != torn && f != rotten || !l.chance("body", name, 4) {
		return r, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	b = bytes.Clone(b)
	if at := l.roll("at " + string(name)); len(b) > 0 && f == torn {
		b = b[:at%uint64(len(b))]
	} else if len(b) > 0 {
		b[at/8%uint64(len(b))] ^= 1 << (at % 8)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (l *link) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		if err := l.reach("list", prefix); err != nil {
			yield(blob.Info{}, err)
			return
		}
		all, end := l.listing(ctx, prefix)
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
		if end != nil {
			yield(blob.Info{}, end)
		}
	}
}

// listing returns what a listing shows, and the error that it ends with.
func (l *link) listing(ctx context.Context, prefix blob.Name) (all []blob.Info, end error) {
	for info, err := range l.inner.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	f, was := l.now(), len(all)
	switch f {
	case stale:
		all = all[:0]
		for _, info := range l.then {
			if strings.HasPrefix(string(info.Name), string(prefix)) {
				all = append(all, info)
			}
		}
	case partial, hidden:
		all = slices.DeleteFunc(all, func(i blob.Info) bool { return l.always(i.Name, 3) })
	case broken:
		all, end = all[:len(all)/2], fmt.Errorf("list %s at %s: %w", prefix, l.name, blob.ErrTemporary)
	case page:
		all = all[:len(all)/2]
	case empty:
		all = nil
	case doubled:
		for _, info := range slices.Clone(all) {
			info.Size += int64(l.roll(string(info.Name)) % 3)
			all = append(all, info)
		}
	default:
		return all, nil
	}
	if len(all) != was || end != nil {
		l.mu.Lock()
		l.told++
		l.mu.Unlock()
	}
	return all, end
}
