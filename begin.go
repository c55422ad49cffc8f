package sheaf

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// How a tree begins. The records of a journal were made on one state, and mean something on that state only: on
// another one "make a" may meet an a that is there. So at each moment the journal of a device lies on
//
//   - the head of this device, if it has one; but for one that took over the work of others when
//     it is not known whether that came to an end: then what was there before, which is the ground that was kept;
//   - else, if it is a device that took the place of one that lost its state, on the ground
//     that was kept when that happened;
//   - else on the empty tree.
//
// To keep it so, what other devices did is joined in a fixed order: the journal is replayed on its own ground and
// committed; the join with the others is put as a head of this device; and only then the tree is there for
// changes.

// groundKey is where the ground is kept in the database: the Ref of the last snapshot that was published from
// here. It tells a copied device, or one from a backup, what its journal lies on, when the heads in the bucket are
// another one's.
const groundKey = "tree/ground"

// emptyGround is kept for the empty tree: a database that was lost has nothing in its place.
const emptyGround = "empty"

// ground returns the kept ground, the zero Ref for the empty tree. known is false if none was kept.
func (d *Drive) ground(ctx context.Context) (ref chunk.Ref, known bool, err error) {
	b, err := d.db.Get(ctx, []byte(groundKey))
	if errors.Is(err, fs.ErrNotExist) {
		return chunk.Ref{}, false, nil
	}
	if err != nil {
		return chunk.Ref{}, false, fmt.Errorf("read ground of the journal: %w", err)
	}
	if string(b) == emptyGround {
		return chunk.Ref{}, true, nil
	}
	if ref, err = chunk.ParseRef(b); err != nil {
		return chunk.Ref{}, false, fmt.Errorf("read ground of the journal: %w: %w", kv.ErrDamaged, err)
	}
	return ref, true, nil
}

// keepGround keeps the ground, durably.
func (d *Drive) keepGround(ctx context.Context, ref chunk.Ref) error {
	b := []byte(emptyGround)
	if !ref.IsZero() {
		b = ref.Append(nil)
	}
	err := d.db.Update(ctx, func(tx kv.Tx) error { return tx.Put([]byte(groundKey), b) })
	if err == nil {
		err = d.db.Sync(ctx)
	}
	if err != nil {
		return fmt.Errorf("keep ground of the journal: %w", err)
	}
	return nil
}

// openRefs opens the heads. If the state of this device was lost, or it was copied, it becomes a new device.
func (d *Drive) openRefs(ctx context.Context) (err error) {
	if err := d.dropForked(ctx); err != nil {
		return err
	}
	d.refs, err = refs.Open(ctx, d.refsOptions(d.db))
	err = asDamage(err) // a head that is listed and not there, for one
	if err == nil {
		return errors.Join(d.beginGround(ctx), d.mendMirror(ctx))
	}
	if !errors.Is(err, refs.ErrStateLost) {
		return err
	}
	d.o.Log.Warn("the local state is lost, older than the drive or a copy: this device joins as a new one", "err", err)
	file, err := keys.ReadDevice(d.o.Dir)
	if err != nil {
		return fmt.Errorf("read device: %w", err)
	}
	old := d.device.ID()
	o := d.o
	o.Dir = "" // its file is written when the ground is kept: a crash before that begins anew
	if d.device, err = enroll(ctx, d.account, o, false); err != nil {
		return err
	}
	ground, known, err := d.ground(ctx)
	if err != nil {
		return err
	}
	fits := false
	if known {
		if fits, err = d.journalFits(ctx, ground); err != nil {
			return err
		}
	}
	if !fits {
		// The database is gone, or older than the journal. Nothing tells a copy now, so the journal is taken for
		// the one that goes with the newest head that this device has put, as it has it or else as all have it.
		if ground, err = d.ownHead(ctx, old); err != nil {
			return err
		}
		if !ground.IsZero() {
			if fits, err = d.journalFits(ctx, ground); err != nil {
				return err
			}
		}
		if !fits {
			if ground, err = d.lastHead(ctx, old); err != nil {
				return err
			}
		}
	}
	if ground, err = d.disown(ctx, old, ground); err != nil {
		return err
	}
	if err := d.keepGround(ctx, ground); err != nil {
		return err
	}
	if err := d.account.SaveDevice(d.o.Dir, d.device, file.HasKey()); err != nil {
		return err
	}
	if err := d.dropForked(ctx); err != nil {
		return err
	}
	if d.refs, err = refs.Open(ctx, d.refsOptions(d.db)); err != nil {
		return asDamage(err)
	}
	return d.mendMirror(ctx)
}

// beginGround keeps that the journal of a device without a head lies on the empty tree, so that this is known if the device is set back to it.
func (d *Drive) beginGround(ctx context.Context) error {
	own, err := d.head(ctx)
	if err != nil || !own.IsZero() {
		return err
	}
	_, known, err := d.ground(ctx)
	if err != nil || known {
		return err
	}
	return d.keepGround(ctx, chunk.Ref{})
}

// journalFits reports whether the journal can lie on ground: that it goes on where that ends.
func (d *Drive) journalFits(ctx context.Context, ground chunk.Ref) (bool, error) {
	s, err := d.snapshot(ctx, ground)
	if errors.Is(err, vfs.ErrCorrupt) {
		return false, nil // collected since then, most likely
	}
	if err != nil {
		return false, err
	}
	some := false
	j, err := journal.Open(ctx, d.journalOptions(), s.Mark, func(journal.Replayed) error { some = true; return nil })
	if errors.Is(err, journal.ErrDamaged) && !some {
		return false, nil // it begins later
	}
	if err != nil {
		return false, err
	}
	return true, j.Close()
}

// journalOptions are those of this device's journal.
func (d *Drive) journalOptions() journal.Options {
	o := d.o.Tree.Journal
	if o.Dir == nil {
		o.Dir = journal.OSDir(filepath.Join(d.o.Dir, "journal"))
	}
	o.Key, _ = d.account.Ring.DeriveEpoch(kdf.Journal, 1)
	o.Entropy = rand.Reader
	return o
}

// refsOptions are those of the heads, with what is remembered of them in a database.
func (d *Drive) refsOptions(db kv.DB) refs.Options {
	return refs.Options{
		Bucket: d.o.Bucket, KV: db, Device: d.device, Members: d.account.Members(),
		Record: d.account.RecordMark, Settle: d.settle, Log: d.o.Log,
	}
}

// settle begins a new epoch if a revoked device has the secret of the newest one.
func (d *Drive) settle(ctx context.Context) error {
	d.keysMu.Lock()
	defer d.keysMu.Unlock()
	if err := d.account.Settle(ctx); err != nil {
		return err
	}
	if d.store.Store == nil { // it is about to be opened with these keys
		return nil
	}
	return d.rekey(d.account.Members().Ring())
}

// lastHead returns what the newest head of another device names, as it looks to one without any memory.
func (d *Drive) lastHead(ctx context.Context, id keys.DeviceID) (chunk.Ref, error) {
	r, err := refs.Open(ctx, d.refsOptions(memkv.New()))
	if err != nil {
		return chunk.Ref{}, err
	}
	for h, err := range r.Heads(ctx) {
		if err != nil {
			return chunk.Ref{}, fmt.Errorf("read heads: %w", err)
		}
		if h.Device == id {
			return h.Root, nil
		}
	}
	return chunk.Ref{}, nil
}

// isAway reports whether err says that chunks cannot be had now, which another device may have moved, or a place that cannot
// be reached has.
func isAway(err error) bool {
	return errors.Is(err, chunkstore.ErrMissing) || errors.Is(err, blob.ErrTemporary)
}

// mayCome reports whether err says that something of other devices is missing which a place may show later: the drive has to be open for
// that.
func (d *Drive) mayCome(err error) bool {
	return d.replicas != nil && errors.Is(err, refs.ErrIncomplete)
}

// groundOf returns what the journal lies on, when own is what the head names. Where that is own it is kept, durably: a crash may have come between the two, and the journal is trimmed
// to own as soon as the tree is open. If the head moved on then, to what others did, and a crash came again, the journal would be looked for on what it was trimmed away from.
func (d *Drive) groundOf(ctx context.Context, own chunk.Ref) (chunk.Ref, error) {
	ground, known, err := d.ground(ctx)
	if err != nil || own.IsZero() {
		return ground, err
	}
	if known && ground == own {
		return own, nil
	}
	if known {
		if adopting, err := d.wasAdopting(ctx, own); err != nil || adopting {
			return ground, err
		}
	}
	return own, d.keepGround(ctx, own)
}

// later has the next turn of a replica take over what could not be taken over now: the heads are here, so that none comes with it.
func (d *Drive) later() {
	if d.replicas != nil {
		d.replicas.engine.Again()
	}
}

// openTree opens the tree, in the order that the top of this file tells.
func (d *Drive) openTree(ctx context.Context, o live.Options) error {
	own, err := d.head(ctx)
	if err != nil {
		return err
	}
	ground, err := d.groundOf(ctx, own)
	if err != nil {
		return err
	}
	base, err := d.snapshot(ctx, ground)
	if err != nil {
		return err
	}
	news, err := d.news(ctx, base)
	if err != nil && (own.IsZero() && ground.IsZero() || !isAway(err) && !d.mayCome(err)) {
		return err
	}
	if err != nil {
		// What this device has is shown all the same.
		d.o.Log.Warn("what other devices did is not read yet", "err", err)
		news = nil
		d.later()
	}
	o.Base, o.BaseRef = base, own
	if d.tree, err = live.Open(ctx, o); err != nil || len(news) == 0 && ground == own {
		return err
	}
	o.Base, err = d.join(ctx, base, news)
	if err != nil && (own.IsZero() || ctx.Err() != nil) {
		return fmt.Errorf("begin as a new device: %w", err)
	}
	if err != nil {
		// The bucket may be full or read-only. What this device has is shown all the same.
		d.o.Log.Warn("what other devices did is not joined yet", "err", err)
		d.later()
		return nil
	}
	if own, err = d.head(ctx); err != nil {
		return err
	}
	if o.BaseRef, err = manifest.PutSnapshot(ctx, d.store, o.Base); err != nil {
		return fmt.Errorf("join states of devices: %w", err)
	}
	if err := d.store.Flush(ctx); err != nil {
		return fmt.Errorf("join states of devices: %w", err)
	}
	if err := d.publish(ctx, own, o.BaseRef, o.Base); errors.Is(err, refs.ErrStateLost) {
		// It goes on as a new device when it is opened again. What is written until then is in the journal.
		d.o.Log.Error("the local state is older than the drive, or a copy: nothing is put any more", "err", err)
		return nil
	} else if err != nil {
		return fmt.Errorf("join states of devices: %w", err)
	}
	if err := d.tree.Close(ctx); err != nil { // it has nothing left to commit
		return err
	}
	d.tree, err = live.Open(ctx, o)
	return err
}

// news returns the states of devices that base has not seen. Devices whose heads have faults are an error.
func (d *Drive) news(ctx context.Context, base manifest.Snapshot) ([]manifest.Snapshot, error) {
	var news []manifest.Snapshot
	for h, err := range d.refs.Heads(ctx) {
		if err != nil {
			return nil, fmt.Errorf("read heads: %w", err)
		}
		if base.Context.Includes(h.Context) {
			continue
		}
		s, err := d.snapshot(ctx, h.Root)
		if err != nil {
			return nil, err
		}
		news = append(news, s)
	}
	return news, nil
}

// join commits what the journal has, on base, and returns the state that this and the news come to together.
func (d *Drive) join(ctx context.Context, base manifest.Snapshot, news []manifest.Snapshot) (manifest.Snapshot, error) {
	if err := d.tree.Commit(ctx); err != nil {
		return base, err
	}
	own, err := d.head(ctx)
	if err != nil {
		return base, err
	}
	if !own.IsZero() {
		if base, err = d.snapshot(ctx, own); err != nil {
			return base, err
		}
	}
	return d.joined(ctx, base, news)
}

// joined returns the state that base and the news come to.
func (d *Drive) joined(ctx context.Context, base manifest.Snapshot, news []manifest.Snapshot) (_ manifest.Snapshot, err error) {
	mark := base.Mark // it speaks of the journal of this device only
	for _, s := range news {
		if s.Context.Includes(base.Context) {
			base = s
		} else if base, err = manifest.Join(ctx, d.store, base, s); err != nil {
			return base, fmt.Errorf("join states of devices: %w", err)
		}
	}
	base.Mark, base.Device, base.Time = mark, d.device.ID().Short(), time.Now()
	return base, nil
}

// publish moves this device's head.
func (d *Drive) publish(ctx context.Context, old, new chunk.Ref, s manifest.Snapshot) error {
	near := d.near(ctx, d.first(ctx, new, s, 2, refs.MaxNear))
	_, err := d.refs.Move(ctx, old, new, s.Context, s.Time, near...)
	if errors.Is(err, refs.ErrMoved) {
		// An earlier move failed after its head had been put. What it named is in s too.
		if h, herr := d.refs.Head(ctx); herr == nil && d.wasTried(h.Root) {
			_, err = d.refs.Move(ctx, h.Root, new, s.Context, s.Time, near...)
		}
	}
	if err != nil {
		err = asDamage(err)
	} else {
		err = d.keepGround(ctx, new) // fails after the head has moved: the next commit has to know that
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.tried = append(d.tried, new)
	} else {
		d.tried = nil
		d.tellMoved()
	}
	return err
}

// first returns the chunks that are read first of a snapshot, at most so many; some of them if not all are known.
func (d *Drive) first(ctx context.Context, ref chunk.Ref, s manifest.Snapshot, levels, most int) []chunk.ID {
	ids := []chunk.ID{ref.ID}
	all, err := manifest.First(ctx, d.store, s, levels, most-1)
	if err != nil {
		d.o.Log.Warn("where the root of the tree lies is not known", "err", err) // a hint is missing, nothing else
	}
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	return ids
}

// near returns where these chunks are, as far as that is known.
func (d *Drive) near(ctx context.Context, first []chunk.ID) (near []refs.Near) {
	at, err := d.store.Nearby(ctx, first...)
	if err != nil {
		d.o.Log.Warn("where the root of the tree lies is not known", "err", err) // a hint is missing, nothing else
	}
	for id, p := range at {
		near = append(near, refs.Near{ID: id, Pack: p.Pack, Off: uint32(p.Off), Len: uint32(p.Len)})
	}
	return near
}

// keepFirst keeps on this device what is read first of its newest state, where that lies at other places only: without it the drive
// would not open while these cannot be reached. It may have to ask them, so no commit waits for it; what a commit changes is here anyhow.
//
// Of the packs in away it is to take none for being here.
func (d *Drive) keepFirst(ctx context.Context, away map[blob.Name]bool) error {
	ref, err := d.head(ctx)
	if err != nil || ref.IsZero() {
		return err
	}
	s, err := d.snapshot(ctx, ref)
	if err != nil {
		return err
	}
	first := d.first(ctx, ref, s, 8, chunkstore.MaxAtHand)
	linked, err := manifest.Linked(ctx, d.store, s, chunkstore.MaxAtHand-len(first))
	if err != nil {
		return err
	}
	for _, r := range linked {
		if !slices.Contains(first, r.ID) {
			first = append(first, r.ID)
		}
	}
	own := map[pack.Name]bool{}
	return d.store.KeepAtHand(ctx, func(name pack.Name) bool {
		is, known := own[name]
		if known {
			return is
		}
		for info, err := range d.o.Replication.Own.List(ctx, blob.Name(name.BlobName())) {
			is = is || err == nil && info.Name == blob.Name(name.BlobName()) && !away[info.Name]
		}
		own[name] = is
		return is
	}, first...)
}

// beNear tells the store where the heads have what is read first.
func (d *Drive) beNear(ctx context.Context) {
	near := map[chunk.ID]chunkstore.Place{}
	for h, err := range d.refs.Heads(ctx) {
		if err != nil {
			break // it comes last, and who needs that head finds out
		}
		for _, n := range h.Near {
			near[n.ID] = chunkstore.Place{Pack: n.Pack, Off: int64(n.Off), Len: int64(n.Len)}
		}
	}
	d.store.Near(near)
}

func (d *Drive) wasTried(ref chunk.Ref) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.tried, ref)
}

// head returns what this device's newest head names, or the zero Ref.
func (d *Drive) head(ctx context.Context) (chunk.Ref, error) {
	h, err := d.refs.Head(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return chunk.Ref{}, nil
	}
	return h.Root, asDamage(err)
}

// snapshot reads a snapshot; the zero Ref is an empty tree.
func (d *Drive) snapshot(ctx context.Context, ref chunk.Ref) (manifest.Snapshot, error) {
	if ref.IsZero() {
		return manifest.Snapshot{}, nil
	}
	s, err := manifest.GetSnapshot(ctx, d.store, ref)
	if err != nil {
		return s, fmt.Errorf("read snapshot: %w", err)
	}
	return s, nil
}
