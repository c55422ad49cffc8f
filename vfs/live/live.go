// Package live is the writable tree of a drive: a snapshot that is loaded on demand,
// and over it what was changed since. Every change is in the journal before the call
// that makes it returns; now and then a commit puts what was changed into chunks and
// moves the head. It knows neither buckets nor keys, nor who looks at the tree.
//
// Locks, in the order in which they may be taken: FS.commitMu, FS.copyMu, FS.gate, FS.mu, node.mu (of two
// nodes, the one with the smaller inode number first), and below these, never two
// at once, FS.tableMu, FS.dirtyMu, FS.viewMu and the journal's own. FS.mu is held for reading by
// all that reads or writes a file or its attributes, and for writing by all that changes
// names; nothing waits for the Store while it is held for writing, but for Adopt. FS.gate is held for reading by
// all that changes anything, and for writing by Adopt, which nobody may change anything under.
package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"weak"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/cdc"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
	"github.com/sheaf-drive/sheaf/vfs/table"
)

// A Store is where chunks lie. *chunkstore.Store is one.
type Store interface {
	manifest.Store
	// ReadAt fills p with the plain bytes of ref from off on.
	ReadAt(ctx context.Context, ref chunk.Ref, p []byte, off int64) (int, error)
	// Flush returns when all that was Put is durable.
	Flush(ctx context.Context) error
	// Hold begins a span in which what is Put is kept though nothing refers to it yet.
	Hold() (release func())
}

// Publish makes new the newest state of this device, durably. old is the state it
// follows, or zero. It is called by one commit at a time.
type Publish func(ctx context.Context, old, new chunk.Ref, s manifest.Snapshot) error

// Options say what a tree begins from and where it goes. Store, Entropy, and for a
// writable tree Device, Chunker, Journal and Publish are needed.
type Options struct {
	Store   Store
	Base    manifest.Snapshot // the state to begin from; zero: an empty tree
	BaseRef chunk.Ref         // of Base; zero: it is nowhere yet
	Owner   [2]uint32         // user and group of the root of an empty tree
	Device  causal.Device
	Chunker cdc.Params
	Journal journal.Options
	Publish Publish
	// Adopting is told, before Publish, what Adopt is about to publish: it returns when that is kept. If a crash
	// comes, or an error, it may be the newest state, with a journal that still lies on the one before. nil: nobody needs to know.
	Adopting func(ctx context.Context, new chunk.Ref) error
	Entropy  io.Reader
	// State says where the content of a node is, as vfs.Stating has it; nil: nothing is said.
	State func(ctx context.Context, n vfs.Node) (string, error)
	// ReadOnly shows Base and nothing else; there is no journal then.
	ReadOnly bool
	// Usage reports the room where the Store puts what it gets; nil: unknown. LocalUsage is the
	// same for the disk of the journal. What is written is refused with vfs.ErrNoSpace before one of them is full.
	Usage, LocalUsage func(context.Context) (vfs.Usage, error)
	// Rule says which snapshots are kept; the zero Rule is manifest.DefaultRule.
	Rule manifest.Rule
	Now  func() time.Time // stamps what happens; nil: vfs.Now
	Log  *slog.Logger     // nil: discarded

	// A commit is begun when the tree was left alone for Idle, or MaxAge after the
	// first change, or when MaxDirty bytes are not committed and the writers pause, or when
	// MaxStream bytes are not committed, for a commit takes the processors from
	// those who write, or when MaxNames names are not, each of which takes some 4 KiB of memory until then.
	// Zero: 3 s, 60 s, 256 MiB, 1 GiB, 32,768. Idle below zero: only by Commit, MaxStream and MaxNames.
	Idle, MaxAge time.Duration
	// Pace, if not nil, is asked for Idle and MaxAge whenever they are needed. Those that it gives as zero are the Options'.
	Pace                func() (idle, maxAge time.Duration)
	MaxDirty, MaxStream int64
	MaxNames            int
	// MaxJournal is how many bytes the journal may take before writers wait for a
	// commit. Zero: 4 GiB.
	MaxJournal int64
}

// An FS is the tree. Its doors see it through Views.
type FS struct {
	o    Options
	jr   *journal.Journal // nil: read-only
	self weak.Pointer[FS]

	gate    sync.RWMutex
	mu      sync.RWMutex
	root    *node
	orphans map[*node]struct{}        // without a name, but open: gc must know what they hold
	linked  map[manifest.NodeID]*node // with several names: each listing knows of one only
	gen     atomic.Uint64             // of changes; raised when a commit begins
	files   atomic.Int64              // entries in the tree, for statistics
	bytes   atomic.Int64              // of its files

	tableMu sync.Mutex
	table   table.Map[manifest.NodeID, weak.Pointer[node]]
	recent  recent

	dirtyMu    sync.Mutex
	dirty      map[*node]map[string]*name // per directory the names to write again; nil: removed
	dirtyNames int                        // how many these are
	firstDirty int64                      // by uptime
	dirtyBytes atomic.Int64
	lastChange atomic.Int64 // by uptime

	commitMu sync.Mutex
	base     manifest.Snapshot // guarded by commitMu
	kept     []manifest.Kept   // guarded by commitMu
	keptNow  atomic.Pointer[[]manifest.Kept]
	baseRef  chunk.Ref // written with commitMu and mu
	frozen   *frozen   // of a commit under way; guarded by mu

	copyMu sync.RWMutex // held for reading while refs go from one file to another

	viewMu sync.Mutex // of who changes feeds
	feeds  atomic.Pointer[[]*feed]

	space space

	closed  atomic.Bool
	nudge   chan struct{}
	stir    chan struct{} // holds one if there is something to commit that was not
	stop    context.CancelFunc
	done    chan struct{}
	roomMu  sync.Mutex
	room    chan struct{} // closed and replaced after each commit
	lastErr error         // of the last commit; guarded by roomMu
}

// Open opens the tree and replays what the journal holds beyond Base.
func Open(ctx context.Context, o Options) (*FS, error) {
	setDefaults(&o)
	f := &FS{
		o: o, base: o.Base, baseRef: o.BaseRef,
		orphans: map[*node]struct{}{}, linked: map[manifest.NodeID]*node{},
		dirty: map[*node]map[string]*name{},
		nudge: make(chan struct{}, 1), stir: make(chan struct{}, 1), done: make(chan struct{}), room: make(chan struct{}),
	}
	f.self = weak.Make(f)
	f.gen.Store(1)
	f.recent.limit = recentEntries
	f.root = f.newRoot()
	if o.Base.Below&manifest.BelowLink != 0 {
		if err := f.loadLinks(ctx); err != nil {
			return nil, fmt.Errorf("load hard links: %w", err)
		}
	}
	if o.ReadOnly {
		close(f.done)
		return f, nil
	}
	for k, err := range manifest.Kepts(ctx, o.Store, o.Base.History) {
		if err != nil {
			return nil, fmt.Errorf("load history: %w", err)
		}
		f.kept = append(f.kept, k)
	}
	kept := f.kept
	f.keptNow.Store(&kept)
	f.files.Store(int64(o.Base.Files))
	f.bytes.Store(int64(o.Base.Bytes))
	r := replayer{f: f, bound: map[manifest.NodeID]*node{f.root.id: f.root}}
	jr, err := journal.Open(ctx, o.Journal, o.Base.Mark, func(rec journal.Replayed) error { return r.apply(ctx, rec) })
	if err != nil {
		return nil, err
	}
	f.jr = jr
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	go func() {
		defer close(f.done)
		f.turns(loop)
	}()
	return f, nil
}

func setDefaults(o *Options) {
	if o.Now == nil {
		o.Now = vfs.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rule == (manifest.Rule{}) {
		o.Rule = manifest.DefaultRule
	}
	if o.Idle == 0 {
		o.Idle = 3 * time.Second
	}
	if o.MaxAge == 0 {
		o.MaxAge = time.Minute
	}
	if o.MaxDirty == 0 {
		o.MaxDirty = 256 << 20
	}
	if o.MaxNames == 0 {
		o.MaxNames = 1 << 15
	}
	if o.MaxJournal == 0 {
		o.MaxJournal = 4 << 30
	}
	if o.MaxStream == 0 {
		o.MaxStream = max(1<<30, o.MaxDirty)
	}
	// A commit begins long before the journal is full, or writers would wait for all of it.
	o.MaxStream = min(o.MaxStream, max(o.MaxJournal/4, 1))
}

// Close commits, unless ctx is done, and closes. What is not committed stays in the journal. The
// Store stays open.
func (f *FS) Close(ctx context.Context) error {
	if f.closed.Swap(true) || f.jr == nil {
		return nil
	}
	f.stop()
	<-f.done
	var err error
	if ctx.Err() == nil {
		err = f.commit(ctx, nil)
	}
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(err, f.jr.Close())
}

// Sync returns when all that was done before the call is durable.
func (f *FS) Sync(context.Context) error {
	if f.jr == nil {
		return nil
	}
	return translate(f.jr.Sync(f.jr.Last()))
}

// Pending returns how many bytes of files are in the journal only.
func (f *FS) Pending() int64 { return f.dirtyBytes.Load() }

// JournalSize returns the bytes that the journal takes.
func (f *FS) JournalSize() int64 {
	if f.jr == nil {
		return 0
	}
	return f.jr.Size()
}

// Base returns the state that was committed last.
func (f *FS) Base() manifest.Snapshot {
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	return f.base
}

// usable returns why nothing can be changed, if so.
func (f *FS) usable() error {
	if f.jr == nil {
		return vfs.ErrReadOnly
	}
	if f.closed.Load() {
		return fs.ErrClosed
	}
	return nil
}

// log puts records into the journal. f.mu is held, for reading at least.
func (f *FS) log(recs []journal.Record, pos []journal.Pos) (journal.LSN, error) {
	lsn, err := f.jr.Append(recs, pos)
	if err != nil {
		return 0, translate(err)
	}
	f.logged()
	return lsn, nil
}

// logged notes that the journal has a new record.
func (f *FS) logged() { f.lastChange.Store(uptime()) }

var started = time.Now()

// uptime is a time in ns that goes on evenly, also when somebody sets the clock.
func uptime() int64 { return int64(time.Since(started)) }

// translate gives errors of the system below their names in vfs.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: %w", vfs.ErrNoSpace, err)
	case errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", vfs.ErrQuota, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", vfs.ErrReadOnly, err)
	case errors.Is(err, journal.ErrDamaged), errors.Is(err, manifest.ErrMalformed):
		return fmt.Errorf("%w: %w", vfs.ErrCorrupt, err)
	case errors.Is(err, journal.ErrClosed):
		return fmt.Errorf("%w: %w", fs.ErrClosed, err)
	}
	return err
}

// mark notes that n must be written again by the next commit: its entry under each of its names, and
// the directories above. f.mu is held, for reading at least.
func (f *FS) mark(n *node) {
	g := f.gen.Load()
	if n.marked.Load() == g {
		return
	}
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	if n == f.root {
		f.markDir(n)
	}
	for _, nm := range n.names {
		f.markName(nm.parent, nm.name, nm)
	}
	n.marked.Store(g)
}

// markName notes that a name of dir changed; a nil nm says that it was removed. f.dirtyMu is held.
func (f *FS) markName(dir *node, as string, nm *name) {
	edits := f.markDir(dir)
	before := len(edits)
	edits[as] = nm
	f.dirtyNames += len(edits) - before
}

// markDir notes that something in dir changed. f.dirtyMu is held.
func (f *FS) markDir(dir *node) map[string]*name {
	edits := f.dirty[dir]
	if edits != nil {
		return edits
	}
	if len(f.dirty) == 0 {
		f.firstDirty = uptime()
		select {
		case f.stir <- struct{}{}:
		default:
		}
	}
	edits = map[string]*name{}
	f.dirty[dir] = edits
	for _, up := range dir.names {
		f.markName(up.parent, up.name, up)
	}
	return edits
}

// throttle makes writers wait while the journal has no room for more.
func (f *FS) throttle(ctx context.Context) error {
	for f.jr.Size() > f.o.MaxJournal {
		f.roomMu.Lock()
		room, last := f.room, f.lastErr
		f.roomMu.Unlock()
		if last != nil {
			return fmt.Errorf("journal is full and cannot be committed: %w", last)
		}
		f.Nudge()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-f.done:
			return fs.ErrClosed
		}
	}
	return nil
}

// Nudge asks for a commit soon.
func (f *FS) Nudge() {
	select {
	case f.nudge <- struct{}{}:
	default:
	}
}

// turns commits in due time, until ctx is done.
func (f *FS) turns(ctx context.Context) {
	const rest = 500 * time.Millisecond
	tick := time.NewTimer(rest)
	defer tick.Stop()
	var after time.Time // not before, after a failure
	pause := time.Second
	for {
		nudged := false
		select {
		case <-ctx.Done():
			return
		case <-f.nudge:
			nudged = true
		case <-f.stir:
		case <-tick.C:
		}
		// As long as there is something to commit it is looked at often enough that Idle is not much longer than it says.
		wait := rest
		if idle, _ := f.pace(); idle > 0 && f.stirred() {
			wait = min(rest, max(idle/8, 10*time.Millisecond))
		}
		tick.Reset(wait)
		if time.Now().Before(after) || !nudged && !f.due(uptime()) {
			continue
		}
		err := f.commit(ctx, nil)
		f.roomMu.Lock()
		f.lastErr = err
		close(f.room)
		f.room = make(chan struct{})
		f.roomMu.Unlock()
		if err == nil {
			after, pause = time.Time{}, time.Second
			continue
		}
		if ctx.Err() != nil {
			return
		}
		f.o.Log.Error("commit failed; what was written stays in the journal", "err", err, "next_try", pause)
		after, pause = time.Now().Add(pause), min(2*pause, time.Minute)
	}
}

// calm is how long nothing was written when writers are said to pause.
const calm = 300 * time.Millisecond

// pace returns how soon a commit begins: Idle and MaxAge as they are now.
func (f *FS) pace() (idle, age time.Duration) {
	if f.o.Pace != nil {
		idle, age = f.o.Pace()
	}
	return cmp.Or(idle, f.o.Idle), cmp.Or(age, f.o.MaxAge)
}

// stirred reports whether there is anything to commit.
func (f *FS) stirred() bool {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	return len(f.dirty) > 0
}

// due reports whether a commit should begin, when the uptime is now.
func (f *FS) due(now int64) bool {
	dirty, still := f.dirtyBytes.Load(), now-f.lastChange.Load()
	if dirty > f.o.MaxStream || dirty > f.o.MaxDirty && still > int64(calm) {
		return true
	}
	f.dirtyMu.Lock()
	n, names, first := len(f.dirty), f.dirtyNames, f.firstDirty
	f.dirtyMu.Unlock()
	if names > f.o.MaxNames {
		return true
	}
	idle, age := f.pace()
	if n == 0 || idle < 0 {
		return false
	}
	return now-first > int64(age) || still > int64(idle)
}

const noLimit = math.MaxInt64
