package sheaf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// adoptingKey is where it is kept in the database which state of this and other devices was about to be made the newest of
// this one. When the head names it, and the ground of the journal is still another, it is not known what came of
// that: what was written since then lies on the ground.
const adoptingKey = "tree/adopting"

// Adopt looks for what other devices did since this one looked last, and takes it over, while the tree is in
// use: see live.FS.Adopt. It reports whether the tree changed. What is wrong with the heads of one device, see refs.Poll, or that what its
// newest head names is not to be had, keeps nobody from the work of the others, and is in the error.
//
// Besides, it agrees to what other devices are about to remove: see GC.
func (d *Drive) Adopt(ctx context.Context) (changed bool, err error) {
	d.adoptMu.Lock()
	defer d.adoptMu.Unlock()
	changed, err = d.adoptNews(ctx)
	if ctx.Err() == nil {
		err = errors.Join(err, d.agree(ctx))
	}
	if d.o.Replication != nil && (changed || !d.firstKept) && ctx.Err() == nil {
		kerr := d.keepFirst(ctx, nil)
		if d.firstKept = kerr == nil; kerr != nil && ctx.Err() == nil {
			d.o.Log.Warn("this device may not open while its places cannot be reached", "err", kerr)
		}
	}
	return changed, err
}

// adoptNews is Adopt without the agreement.
func (d *Drive) adoptNews(ctx context.Context) (changed bool, err error) {
	pollErr := asDamage(d.refs.Poll(ctx))
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := d.rekey(d.refs.Members().Ring()); err != nil { // a device may have been revoked
		return false, errors.Join(pollErr, err)
	}
	base := d.tree.Base()
	var news []keys.DeviceID
	for h, err := range d.refs.Heads(ctx) {
		if err != nil {
			break // it comes last, and Poll has told of it
		}
		if !base.Context.Includes(h.Context) {
			news = append(news, h.Device)
		}
	}
	if err := ctx.Err(); err != nil || len(news) == 0 {
		return false, errors.Join(pollErr, err)
	}
	// The chunks that the heads name are in packs that the Store may not know yet.
	if err := d.store.Refresh(ctx); err != nil {
		return false, errors.Join(pollErr, err)
	}
	changed, err = d.adopt(ctx, news)
	if err == nil || len(news) == 1 || ctx.Err() != nil {
		return changed, errors.Join(pollErr, err)
	}
	errs := []error{pollErr}
	for _, id := range news {
		one, err := d.adopt(ctx, []keys.DeviceID{id})
		changed = changed || one
		if err != nil {
			errs = append(errs, fmt.Errorf("device %s: %w", id, err))
		}
	}
	return changed, errors.Join(errs...)
}

// adopt takes over the states that the newest heads of devices name, or none of them. No head of this device may say that it has
// seen a newer one than that from which it takes over afterwards: whoever collects garbage goes by it. So they are looked up when no commit can
// come between that and the head which takes them over, and the caller has d.adoptMu, so that nothing else puts a head.
func (d *Drive) adopt(ctx context.Context, of []keys.DeviceID) (changed bool, err error) {
	return d.tree.Adopt(ctx, func(ctx context.Context, base manifest.Snapshot) (manifest.Snapshot, bool, error) {
		var news []manifest.Snapshot
		for h, err := range d.refs.Heads(ctx) {
			if err != nil {
				break
			}
			if !slices.Contains(of, h.Device) || base.Context.Includes(h.Context) {
				continue
			}
			s, err := d.snapshot(ctx, h.Root)
			if err != nil {
				return base, false, err
			}
			news = append(news, s)
		}
		if len(news) == 0 {
			return base, false, nil
		}
		base, err := d.joined(ctx, base, news)
		return base, err == nil, err
	})
}

// noteAdopting keeps, durably, what is about to be published as the state of this and other devices.
func (d *Drive) noteAdopting(ctx context.Context, ref chunk.Ref) error {
	err := d.db.Update(ctx, func(tx kv.Tx) error { return tx.Put([]byte(adoptingKey), ref.Append(nil)) })
	if err == nil {
		err = d.db.Sync(ctx)
	}
	if err != nil {
		return fmt.Errorf("note the state to be adopted: %w", err)
	}
	return nil
}

// wasAdopting reports whether ref is what noteAdopting was told last.
func (d *Drive) wasAdopting(ctx context.Context, ref chunk.Ref) (bool, error) {
	b, err := d.db.Get(ctx, []byte(adoptingKey))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the state to be adopted: %w", err)
	}
	was, err := chunk.ParseRef(b)
	if err != nil {
		return false, fmt.Errorf("read the state to be adopted: %w: %w", kv.ErrDamaged, err)
	}
	return was == ref, nil
}
