package sheaf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/sync/engine"
	"github.com/sheaf-drive/sheaf/sync/replica"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// ErrOtherDrive says that a place holds another drive.
var ErrOtherDrive = errors.New("another drive is there")

// Replication makes a drive one of many places. The Bucket of the Options is the Tier then.
type Replication struct {
	// Tier is the bucket of the drive, Own its bucket for what this device puts: the Local of the Tier.
	Tier *tier.Tier
	Own  blob.Bucket
	// Mirror is the bucket of the Tier for the small blobs of others.
	Mirror blob.Bucket
	// Places are the replicas to begin with.
	Places []engine.Place
	// Poll is as engine.Options have it; below zero: replicas have turns only by Engine.Sync and Engine.Wait.
	Poll time.Duration
	// Parallel is as engine.Options have it.
	Parallel int
	// Limit is how many bytes of packs may be in Own. What is more goes, the oldest first, when replicas keep it: see Drive.Evict. 0: there is no limit.
	Limit int64
}

// replicating is the work of an open drive on its replicas.
type replicating struct {
	engine *engine.Engine
	stop   context.CancelFunc
	all    sync.WaitGroup
	// pinning is held while what is pinned is looked through or fetched.
	pinning *semaphore.Weighted
}

// Replicas returns what keeps the replicas of the drive alike, or nil if it has only its Bucket.
func (d *Drive) Replicas() *engine.Engine {
	if d.replicas == nil {
		return nil
	}
	return d.replicas.engine
}

// Heads yields each head that becomes the newest of its device after the call, until ctx is done: see refs.Watch.
func (d *Drive) Heads(ctx context.Context) iter.Seq[refs.Head] { return d.refs.Watch(ctx) }

// pace is how soon what is written is committed: as others wait for it, and they come and go.
func (r *replicating) pace() (idle, age time.Duration) {
	switch others, devices := r.engine.Reaches(); {
	case devices: // people look at what another one does
		return 200 * time.Millisecond, 2 * time.Second
	case others:
		return time.Second, 10 * time.Second
	}
	return 0, 0
}

// look lists the replicas anew, or only those that are on this device.
func (r *replicating) look(ctx context.Context, here bool) error {
	if here {
		return r.engine.LookHere(ctx)
	}
	return r.engine.Look(ctx)
}

// reach makes the replicas readable, if there is a Replication.
func (d *Drive) reach() error {
	r := d.o.Replication
	if r == nil {
		return nil
	}
	e := engine.New(engine.Options{
		Tier: r.Tier, Own: r.Tier.Own(), Mirror: r.Mirror, Poll: max(r.Poll, 0), Parallel: r.Parallel, Memory: d.db, Log: d.o.Log, Top: d.top,
		Check: (&vetter{account: d.account, bucket: d.o.Bucket}).check, Lacking: d.lacking,
		Index: func(name blob.Name, body []byte) error { return d.store.CheckIndex(name, body) },
		Adopt: func(ctx context.Context) error {
			_, err := d.Adopt(ctx)
			return asLost(err)
		},
		Last:   func() map[blob.Name]uint64 { return refs.Last(d.account.Members()) },
		Folder: refs.Folder(d.account.Members(), d.device.ID()),
		Forked: d.forked,
		Bridge: func(folder blob.Name, first uint64) bool { return d.refs.Verified(folder) >= first },
	})
	for _, p := range r.Places {
		if err := e.Add(p); err != nil {
			return errors.Join(err, e.Close())
		}
	}
	d.replicas = &replicating{engine: e, stop: func() {}, pinning: semaphore.NewWeighted(1)}
	return nil
}

// replicate begins to give the replicas their turns.
func (d *Drive) replicate() {
	r := d.replicas
	if r == nil || d.o.Replication.Poll < 0 {
		return
	}
	life, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.all.Go(func() { r.engine.Run(life) })
	moves := d.Heads(life)
	moved := make(chan struct{}, 1)
	r.all.Go(func() {
		for range moves {
			r.engine.Nudge()
			select {
			case moved <- struct{}{}:
			default:
			}
		}
	})
	r.all.Go(func() { d.followPins(life, moved) })
	if d.o.Replication.Limit > 0 {
		r.all.Go(func() { d.keepBelow(life, d.o.Replication.Limit) })
	}
}

// end stops the turns and closes the places.
func (r *replicating) end() error {
	r.stop()
	r.all.Wait()
	return r.engine.Close()
}

// Fetch brings the small blobs of a drive from its places, so that it can be opened, and notes which packs are there. It returns an
// error if no place could be reached. What is wrong with single blobs is only logged: who has the keys finds out what that means.
func (r *Replication) Fetch(ctx context.Context, log *slog.Logger) error {
	var errs []error
	away := r.away()
	for _, p := range away {
		err := r.fetch(ctx, p)
		if replica.OnlyFaults(err) {
			log.Warn("a place has blobs that are not as they should be", "place", p.At, "err", err)
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.At, err))
		}
	}
	if len(errs) < len(away) {
		return nil
	}
	return errors.Join(errs...)
}

// away returns the places that are not on this device.
func (r *Replication) away() []engine.Place {
	return slices.DeleteFunc(slices.Clone(r.Places), func(p engine.Place) bool { return p.Here })
}

// unlockAt is unlock for a device that joins: by what is at its places, if there is a Replication. What it fetches without keys nobody has checked,
// and a blob that is in the mirror is not fetched again. So if the drive does not open by what all places have given, now and when this was tried
// before, it is tried by what each of them has by itself.
func unlockAt(ctx context.Context, o Options) (*keys.Account, error) {
	r := o.Replication
	if r == nil {
		return unlock(ctx, o, nil)
	}
	if err := r.Fetch(ctx, o.Log); err != nil {
		return nil, fmt.Errorf("join drive: %w", err)
	}
	account, err := unlock(ctx, o, nil)
	for _, p := range r.away() {
		if err == nil || ctx.Err() != nil {
			break
		}
		o.Log.Warn("the drive does not open by what its places have given: they are asked again, one at a time", "place", p.At, "err", err)
		one := *r
		one.Places = []engine.Place{p}
		if eerr := empty(ctx, r.Mirror); eerr != nil {
			return nil, fmt.Errorf("join drive: %w", eerr)
		}
		if one.Fetch(ctx, o.Log) != nil {
			continue // it cannot be reached, and err says more
		}
		if account, err = unlock(ctx, o, nil); err == nil {
			err = r.Fetch(ctx, o.Log) // what the others have
		}
	}
	if err != nil {
		return nil, err
	}
	if err := r.purge(ctx, account, o.Log); err != nil {
		return nil, fmt.Errorf("join drive: %w", err)
	}
	return account, nil
}

// empty removes all blobs.
func empty(ctx context.Context, b blob.Bucket) error {
	var all []blob.Name
	for info, err := range b.List(ctx, "") {
		if err != nil {
			return fmt.Errorf("empty the mirror: %w", err)
		}
		all = append(all, info.Name)
	}
	if len(all) == 0 {
		return nil
	}
	return b.Remove(ctx, all...)
}

func (r *Replication) fetch(ctx context.Context, p engine.Place) error {
	return at(ctx, p, func(b blob.Bucket) error {
		_, err := replica.Fetch(ctx, b, r.Mirror, replica.FetchOptions{Own: r.Own, Packs: true, Learn: func(c *catalog.Table) error { return r.Tier.Learn(p.Name, c) }})
		return err
	})
}

// at lets do have a place, which is open as long as that takes.
func at(ctx context.Context, p engine.Place, do func(blob.Bucket) error) (err error) {
	b, err := p.Open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if c, ok := b.(interface{ Close() error }); ok {
			err = errors.Join(err, c.Close())
		}
	}()
	return do(b)
}

// mine lists the packs that this device has put.
func (r *Replication) mine(ctx context.Context) (map[pack.Name]struct{}, error) {
	mine := map[pack.Name]struct{}{}
	for info, err := range r.Tier.Own().List(ctx, pack.Prefix) { // what was evicted is this device's still
		if err != nil {
			return nil, err
		}
		if name, err := pack.ParseBlobName(string(info.Name)); err == nil {
			mine[name] = struct{}{}
		}
	}
	return mine, nil
}

// Bucket returns where the sealed packs lie: with replicas, all that this device has and knows of them.
func (d *Drive) Bucket() blob.Bucket { return d.o.Bucket }

// Own returns the bucket of what this device has put itself, without what was evicted.
func (d *Drive) Own() blob.Bucket {
	if d.o.Replication == nil {
		return d.o.Bucket
	}
	return d.o.Replication.Own
}

// errNeeded says that a pack which is not to be had has what the newest head of this device needs.
var errNeeded = errors.New("it is not to be had whole from any place, and the drive needs what is in it")

// lacking reports whether the newest head of this device can do without packs that others have put and no place gives: all that
// it needs is located elsewhere. A place that lists packs which are gone, or which it has damaged, would else keep everything from
// getting to all other places.
func (d *Drive) lacking(ctx context.Context, packs []blob.Name) error {
	names := make([]pack.Name, 0, len(packs))
	for _, p := range packs {
		name, err := pack.ParseBlobName(string(p))
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	stuck, err := d.store.Relocate(ctx, names...)
	if err != nil || len(stuck) == 0 {
		return err
	}
	needed, err := d.needed(ctx, stuck)
	if err != nil || len(needed) == 0 {
		return err
	}
	// Whoever put the packs may have moved what is live to others, and removed them, since the places were looked at.
	if err := d.replicas.engine.Look(ctx); err != nil && ctx.Err() == nil {
		d.o.Log.Warn("not all places could be looked at for what packs have that are not to be had", "err", err)
	}
	if err := d.store.Refresh(ctx); err != nil {
		return err
	}
	if stuck, err = d.store.Relocate(ctx, names...); err != nil {
		return err
	}
	for _, ref := range needed {
		_, lost := stuck[ref.ID]
		if !lost { // it is in none of these packs, which is not to say that it is elsewhere
			has, err := d.store.Has(ctx, ref.ID)
			if err != nil {
				return err
			}
			lost = !has
		}
		if lost {
			return fmt.Errorf("%w: %s", errNeeded, ref)
		}
	}
	return nil
}

// needed returns which of the chunks the newest head of this device reaches, each once, and takes these out of the set.
func (d *Drive) needed(ctx context.Context, of map[chunk.ID]struct{}) (refs []chunk.Ref, err error) {
	h, err := d.refs.Head(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = manifest.Walk(ctx, d.store, h.Root, nodes{}.met, func(ref chunk.Ref) error {
		if _, ok := of[ref.ID]; ok {
			refs = append(refs, ref)
			delete(of, ref.ID)
		}
		return nil
	})
	return refs, err
}

// SameDrive returns nil if a place is empty or has the drive of another one, ErrOtherDrive if it has one of its own, or the error of
// looking. It needs no key: the first record of a drive is in every place the same.
func SameDrive(ctx context.Context, here, there blob.Bucket) error {
	const first, limit = "drive/00000001", 1 << 20
	theirs, err := blob.ReadAll(ctx, there, first, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ours, err := blob.ReadAll(ctx, here, first, limit)
	if err != nil {
		return err
	}
	if string(ours) != string(theirs) {
		return ErrOtherDrive
	}
	return nil
}
