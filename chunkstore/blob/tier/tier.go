// Package tier is one bucket made of several: this device's own, a mirror of the small blobs of others, and remotes that
// have the packs of others, with a cache in front of them. So a store sees one place, and what is far away is read when it is needed.
// It is no replication: nothing gets to a remote through it (package sync/replica does that), and nothing is read before it is asked for,
// but for what is pinned.
//
//	Local    the own bucket. Put puts there, and nowhere else
//	Mirror   heads, members entries, drive records, key slots of others: filled by replica.Fetch, only read here
//	Remotes  packs and index blobs of others, in the order in which they are asked
//	catalog  which of these there are, and where: what Learn was told of each remote
//	cache    pieces of packs of remotes on this disk: sealed, as they were
//
// # How it is used
//
//	t, err := tier.Open(tier.Options{Local: own, Mirror: mirror, Dir: dir})
//	t.SetRemotes(tier.Remote{Name: "nas", Bucket: b})           // at any time, again and again
//	store, err := chunkstore.Open(… Bucket: t …)
//
//	news, err := replica.Fetch(ctx, b, mirror, replica.FetchOptions{Own: own, Packs: !t.Knows("nas"),
//		Learn: func(c *catalog.Table) error { return t.Learn("nas", c) }})
//	removed, err := t.Removed(ctx, "nas")
//	report, err := replica.Push(ctx, own, b, replica.PushOptions{Removed: removed})
//	err = t.RemovedDone("nas", append(report.Removed, report.Kept...)...)
//	err = t.Learn("nas", report.At)
//
// Fetch and Push of one remote come one after the other, or the catalog shows what is gone for a while.
//
// # Reading
//
// Get looks in Local, and then, for packs and index blobs, in the cache and at the remotes; for all else, in the Mirror. What is asked of a
// remote lies on a grid of 1 MiB (SECURITY.md 2.4): it tells nothing of where chunks begin. A piece of the grid that several readers want is
// asked for once. Of a pack that is read in order the next pieces are asked for ahead, one more each time, up to 8. A remote that fails,
// or does not have the blob, or sends less than the catalog says, gives way to the next, those first whose catalog has the
// blob. If no remote could give it the error wraps [fs.ErrNotExist] only if all remotes that are known said that it is not there, and else
// [blob.ErrTemporary].
//
// A remote has [Options].Patience for each piece. One that has used it up is not asked for twice as long as all remotes together may
// take, or until SetRemotes, or a Learn of it, says that it is well. So with all remotes gone, what is here is served at once, and all
// else fails within Patience for each remote, and at once from then on.
//
// What a remote sends is not verified here, for a piece of a pack has no hash that a bucket knows: whoever has the chunk's
// name finds out, calls Forget, and reads again, from another remote if there is one. Pin does verify, as it has the whole pack.
//
// # Removing
//
// Remove removes from Local, the Mirror and the cache, and notes the names, durably, for each remote that is known: Removed gives them to a Push.
// From then on the tier does not show them, whatever a remote lists. A name that is Put again is taken off the note.
//
// # Evicting
//
// Evict removes packs from Local that remotes keep, and notes that they are this device's all the same: Own is the bucket in which they are
// still, so that they are brought to places that lack them, and collected when nothing needs them.
//
// # What is kept in Dir
//
// The files catalog, removed, evicted and pins, and the folder packs with the cache. All but removed and evicted may be deleted while the tier is
// closed: the next Fetch and reads bring it back. Without evicted, what was evicted is nobody's: it is read, and never collected. Nothing is scanned when a tier is opened: the catalog is read when it is first needed, a cached
// pack is found when it is asked for, and what the cache takes is counted in the background.
// With Dir "" all of it is in memory, and lost with the process, so that the tier works in a browser, too.
//
// Memory: 36 bytes for each pack that a remote has, some 250 for each pack of which there is something in the cache, 1 MiB for each open reader, and
// at most 32 MiB of pieces on their way.
package tier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// Grid is what ranges are rounded to when they are asked of a remote, in bytes. It is also the piece of the cache.
const Grid = 1 << 20

// The bounds of what is under way.
const (
	maxAhead  = 8  // pieces in one request
	maxFlying = 32 // pieces on their way, or waiting to be written to the cache
)

// leastCache is the smallest cache, in bytes: two packs.
const leastCache = 64 << 20

// A Remote is a place where packs of others are, under a name by which the catalog knows it for good.
type Remote struct {
	Name   string // 1 to 255 bytes
	Bucket blob.Bucket
	// Near says that it is on this device: what it has is read from there, and not cached besides.
	Near bool
}

// Options say what a Tier is made of.
type Options struct {
	// Local is this device's own bucket. It must be fast, and List in order as the contract has it.
	Local blob.Bucket
	// Mirror has the small blobs of others; nil: none.
	Mirror blob.Bucket
	// Dir is a folder for what the tier keeps. It is made if it is not there. "": nothing is kept.
	Dir string
	// CacheBytes is how large the cache may get, pinned packs not counted: at least 64 MiB. 0 means 1 GiB in a Dir,
	// and 64 MiB in memory.
	CacheBytes int64
	// Patience is how long a remote may take for a piece of 1 MiB; 0 means 30 s.
	Patience time.Duration
	// Log takes what is odd and not an error; nil discards it.
	Log *slog.Logger
}

// A Tier is a [blob.Bucket]. It is safe for concurrent use.
type Tier struct {
	o     Options
	log   *slog.Logger
	life  context.Context // ends with Close
	end   context.CancelFunc
	wg    sync.WaitGroup
	space *semaphore.Weighted // of pieces on their way

	cache   *cache
	removed *removedLog
	evicted *removedLog // packs of this device that are at remotes only, under evictedKey
	known   *knowledge
	habits  habits

	mu      sync.Mutex
	remotes []Remote // replaced as a whole, never changed
	resting map[string]time.Time
	flights map[piece]*flight
	suspect map[[32]byte][]string // remotes that gave bytes of a pack which were wrong
	served  map[[32]byte][]string // remotes that gave bytes of a pack, since the process began
	mended  map[listed]int64      // what remotes have of packs that their catalogs have with another size; -1: nothing
}

var _ blob.Bucket = (*Tier)(nil)

// Open opens a tier. It reads no remote. The caller closes it; Local, Mirror and the remotes are not closed with it.
func Open(o Options) (*Tier, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Patience <= 0 {
		o.Patience = 30 * time.Second
	}
	switch {
	case o.CacheBytes == 0 && o.Dir != "":
		o.CacheBytes = 1 << 30
	case o.CacheBytes < leastCache:
		o.CacheBytes = leastCache
	}
	path := func(string) string { return "" }
	if o.Dir != "" {
		if err := durable.MkdirAll(o.Dir); err != nil {
			return nil, fmt.Errorf("make folder of tier: %w", err)
		}
		path = func(name string) string { return filepath.Join(o.Dir, name) }
	}
	t := &Tier{
		o: o, log: o.Log, space: semaphore.NewWeighted(maxFlying), known: newKnowledge(path("catalog"), o.Log),
		resting: map[string]time.Time{}, flights: map[piece]*flight{}, suspect: map[[32]byte][]string{}, served: map[[32]byte][]string{},
		mended: map[listed]int64{},
	}
	t.life, t.end = context.WithCancel(context.Background())
	var err error
	if t.removed, err = openRemoved(path("removed"), o.Log); err != nil {
		return nil, fmt.Errorf("open tier: %w", err)
	}
	if t.evicted, err = openRemoved(path("evicted"), o.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("open tier: %w", err), t.removed.close())
	}
	if t.cache, err = openCache(path("packs"), path("pins"), o.CacheBytes, o.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("open tier: %w", err), t.removed.close(), t.evicted.close())
	}
	if o.Dir != "" {
		t.wg.Go(func() { t.cache.scan(t.life) })
	}
	return t, nil
}

// Close waits until nothing is under way any more. Readers that are open give errors afterwards.
func (t *Tier) Close() error {
	t.mu.Lock() // nothing is started any more after this
	t.end()
	t.mu.Unlock()
	t.wg.Wait()
	return errors.Join(t.removed.close(), t.evicted.close())
}

// SetRemotes says which remotes there are from now on, in the order in which they are asked. What is under way goes on with those before. A
// remote that is not among them any more, but in the catalog, is one that cannot be reached now: see DropRemote.
func (t *Tier) SetRemotes(remotes ...Remote) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remotes = slices.Clone(remotes)
	clear(t.resting)
}

// DropRemote forgets a remote: its catalog and what was to be removed there.
func (t *Tier) DropRemote(name string) error {
	t.mu.Lock()
	t.remotes = slices.DeleteFunc(slices.Clone(t.remotes), func(r Remote) bool { return r.Name == name })
	t.mu.Unlock()
	return errors.Join(t.known.drop(name), t.removed.drop(name))
}

// names returns the names of all remotes, those that are set and those in the catalog.
func (t *Tier) names() []string {
	names := t.known.names()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.remotes {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// far reports whether a blob is of a kind that remotes are asked for.
func far(n blob.Name) bool {
	return strings.HasPrefix(string(n), string(catalog.Packs)) || strings.HasPrefix(string(n), string(catalog.Index))
}

// Put implements [blob.Bucket]: it puts into Local.
func (t *Tier) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if err := t.o.Local.Put(ctx, name, r, size); err != nil {
		return err
	}
	if err := t.removed.again(name); err != nil {
		// It is in Local: Removed leaves it out.
		t.log.Warn("a blob that was removed before could not be taken off the note", "blob", string(name), "err", err)
	}
	return nil
}

// Get implements [blob.Bucket].
func (t *Tier) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	r, err := t.o.Local.Get(ctx, name, off, n)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	switch {
	case t.removed.has(name):
		return nil, err
	case far(name):
		return t.getFar(ctx, name, off, n)
	case t.o.Mirror != nil:
		return t.o.Mirror.Get(ctx, name, off, n)
	}
	return nil, err
}

// Remove implements [blob.Bucket]. The names are noted for each remote that is known, durably, before they are removed here; where
// the disk is full, after.
func (t *Tier) Remove(ctx context.Context, names ...blob.Name) error {
	for _, name := range names {
		if err := name.Check(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("remove blobs: %w", err)
	}
	if len(names) == 0 {
		return nil
	}
	remotes := t.names()
	noted := t.removed.note(remotes, names)
	if noted != nil && !errors.Is(noted, blob.ErrNoSpace) {
		return fmt.Errorf("note removed blobs: %w", noted)
	}
	// Those that were evicted are none of this device's any more. It is said before they are gone here, or one that a crash leaves here would count as evicted.
	left := t.evicted.done(evictedKey, names)
	if left != nil && !errors.Is(left, blob.ErrNoSpace) {
		return fmt.Errorf("note removed blobs: %w", left)
	}
	if err := t.o.Local.Remove(ctx, names...); err != nil {
		return err
	}
	var small []blob.Name
	for _, name := range names {
		if hash, ok := catalog.PackHash(name); ok {
			t.cache.forget(hash)
			if err := t.cache.unpin(hash); err != nil {
				t.log.Warn("a removed pack is pinned still", "blob", string(name), "err", err)
			}
		} else if !far(name) {
			small = append(small, name)
		}
	}
	if t.o.Mirror != nil && len(small) > 0 {
		if err := t.o.Mirror.Remove(ctx, small...); err != nil {
			return err
		}
	}
	if noted != nil {
		noted = t.removed.note(remotes, names)
	}
	if left != nil {
		left = t.evicted.done(evictedKey, names)
	}
	if err := errors.Join(noted, left); err != nil {
		return fmt.Errorf("note removed blobs: %w", err)
	}
	return nil
}

// Removed returns the names that are to be removed at a remote, in byte order, without those that are in Local again.
func (t *Tier) Removed(ctx context.Context, remote string) ([]blob.Name, error) {
	var names []blob.Name
	for _, name := range t.removed.of(remote) {
		there, err := t.inLocal(ctx, name)
		if err != nil {
			return nil, err
		}
		if !there {
			names = append(names, name)
		}
	}
	return names, nil
}

// RemovedDone says that names are removed at a remote, or need not be. It is durable when it returns.
func (t *Tier) RemovedDone(remote string, names ...blob.Name) error {
	if err := t.removed.done(remote, names); err != nil {
		return fmt.Errorf("note what a remote has removed: %w", err)
	}
	return nil
}

func (t *Tier) inLocal(ctx context.Context, name blob.Name) (bool, error) {
	r, err := t.o.Local.Get(ctx, name, 0, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.Close()
}

// Forget drops what is cached of a pack, because it was found to be damaged, and asks remotes that gave it only when no other
// can. Of any other blob it drops the copy in the Mirror. A pack that is pinned stays so: the next Pin fetches it anew.
func (t *Tier) Forget(ctx context.Context, name blob.Name) error {
	hash, ok := catalog.PackHash(name)
	if !ok {
		if err := name.Check(); err != nil || t.o.Mirror == nil || far(name) {
			return err
		}
		return t.o.Mirror.Remove(ctx, name)
	}
	t.cache.forget(hash)
	sources, size := t.sources(name)
	t.mu.Lock()
	gave := t.served[hash]
	delete(t.served, hash)
	t.mu.Unlock()
	// Where remotes list different sizes, the bytes may be damaged because it was the wrong one: then those that say so are not believed,
	// and not those that gave what they were asked for.
	disputed := slices.ContainsFunc(sources, func(s source) bool { return s.size >= 0 && s.size != size })
	for _, s := range sources {
		if disputed && s.size == size || !disputed && slices.Contains(gave, s.Name) {
			t.suspects(hash, s.Name)
		}
	}
	return nil
}

// suspects notes that a remote gave wrong bytes of a pack, or a wrong size.
func (t *Tier) suspects(hash [32]byte, remote string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.suspect) >= maxSuspects {
		clear(t.suspect)
	}
	others := slices.DeleteFunc(slices.Clone(t.suspect[hash]), func(r string) bool { return r == remote })
	t.suspect[hash] = append(others, remote) // it comes last now
}

// maxSuspects is of how many packs it is remembered who gave them.
const maxSuspects = 4096
