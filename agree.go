package sheaf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/sync/engine"
)

// agreeing is what a drive knows of the collections of others while it is open.
type agreeing struct {
	// dooms are those of which it is known that nothing takes their packs for stored any more.
	dooms map[refs.Agreed]doom
	// told are the devices of which it was seen that they agree, and a head of this device says that it has seen so.
	told map[refs.Agreed]map[keys.DeviceID]bool
	// begin is when this device began, if it is new and may not be known at a place yet.
	begin engine.Mark
}

// A doom is what is between that packs are doomed and the word that they may go.
type doom struct {
	settled []<-chan struct{} // all closed once what was put before is reachable
	at      engine.Mark
}

// agree gives this device's word on the collections of others: that it makes nothing need their packs any more, and that it has seen which other
// devices agree. What it cannot agree to yet, because something is being written or a place had no turn since, it looks at again with the
// next turn. A collection that cannot be read keeps this device from agreeing to that one, and to no other. The caller has d.adoptMu.
func (d *Drive) agree(ctx context.Context) error {
	own, err := d.refs.Head(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a device that has put none yet gives its word by a later one
		return asDamage(err)
	}
	var errs []error
	var agreed []refs.Agreed // all that this device agrees to
	var heads []refs.Head
	fresh, later := false, false
	for h, err := range d.refs.Heads(ctx) {
		if err != nil {
			break // Poll has told of it
		}
		if h.Device == d.device.ID() {
			continue
		}
		heads = append(heads, h)
		if h.Collection == (refs.Collection{}) {
			continue
		}
		a := refs.Agreed{Device: h.Device, Number: h.Collection.Number}
		if !slices.Contains(own.Agreed, a) {
			err := d.doom(ctx, a, h.Collection)
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("collection of device %s: %w", h.Device, err))
				continue
			case !d.ripe(ctx, a):
				later = true
				continue
			}
			fresh = true
		}
		agreed = append(agreed, a)
	}
	if len(errs) == 0 {
		if err := d.introduced(ctx); err != nil {
			return err
		}
	}
	says := fresh || d.agreements.lags(own, heads, agreed)
	if d.replicas != nil && (later || d.agreements.begin != nil || says && own.Seq == 0) {
		d.replicas.engine.Again()
	}
	if !says || own.Seq == 0 {
		return errors.Join(errs...)
	}
	if fresh {
		if err := d.tree.Commit(ctx); err != nil {
			return err
		}
	}
	h, err := d.refs.Agree(ctx, agreed, time.Now())
	if err != nil {
		return asDamage(err)
	}
	d.agreements.note(h, heads)
	return errors.Join(errs...)
}

// doom sees to it that nothing is taken for stored because it is in the packs of a collection.
func (d *Drive) doom(ctx context.Context, a refs.Agreed, c refs.Collection) error {
	if _, ok := d.agreements.dooms[a]; ok {
		return nil
	}
	names, err := d.collected(ctx, c)
	if isAway(err) {
		if err := d.store.Refresh(ctx); err != nil {
			return err
		}
		names, err = d.collected(ctx, c)
	}
	if err != nil {
		return err
	}
	settled, err := d.store.Doom(ctx, names...)
	if err != nil {
		return err
	}
	if d.agreements.dooms == nil {
		d.agreements.dooms = map[refs.Agreed]doom{}
	}
	it := doom{settled: settled}
	if d.replicas != nil {
		it.at = d.replicas.engine.Spread()
	}
	d.agreements.dooms[a] = it
	return nil
}

// ripe reports whether this device may agree: what was put before the packs were doomed is reachable, and each place had a turn since then, so
// that who is new there has heard of it, or this device of who is new.
func (d *Drive) ripe(ctx context.Context, a refs.Agreed) bool {
	doom := d.agreements.dooms[a]
	for _, ended := range doom.settled {
		if d.replicas == nil { // there are no turns that it could be looked at again with
			select {
			case <-ended:
			case <-ctx.Done():
				return false
			}
			continue
		}
		select {
		case <-ended:
		default:
			return false
		}
	}
	return d.replicas == nil || d.replicas.engine.Since(doom.at)
}

// lags reports whether others wait for a head of this device that says what it has seen: a device agrees to a collection, and no
// head of this one tells that it has seen it; or one has put very many heads since.
func (s *agreeing) lags(own refs.Head, heads []refs.Head, agreed []refs.Agreed) bool {
	for _, a := range agreed {
		for _, h := range heads {
			if own.Sees(h.Device)+lagging < h.Seq {
				return true
			}
			if h.Device != a.Device && h.Agrees(a.Device, a.Number) && own.Sees(h.Device) < h.Seq && !s.told[a][h.Device] {
				return true
			}
		}
	}
	return false
}

// note keeps what the head h of this device tells of the others' newest heads.
func (s *agreeing) note(h refs.Head, heads []refs.Head) {
	s.told = map[refs.Agreed]map[keys.DeviceID]bool{}
	for _, a := range h.Agreed {
		s.told[a] = map[keys.DeviceID]bool{}
		for _, other := range heads {
			s.told[a][other.Device] = other.Agrees(a.Device, a.Number) && h.Sees(other.Device) >= other.Seq
		}
	}
	maps.DeleteFunc(s.dooms, func(a refs.Agreed, _ doom) bool { return slices.Contains(h.Agreed, a) })
}

// newKey is in the database of a device that is new on the drive, as long as a place may not know of it.
const newKey = "tree/new"

// arrive begins what introduced ends, if there is a Replication: a device that has no head yet, and perhaps is not known where others collect garbage, takes
// nothing that they have put for stored.
func (d *Drive) arrive(ctx context.Context) error {
	_, err := d.db.Get(ctx, []byte(newKey))
	if errors.Is(err, fs.ErrNotExist) {
		own, herr := d.head(ctx)
		if herr != nil || !own.IsZero() {
			return herr
		}
		err = d.db.Update(ctx, func(tx kv.Tx) error { return tx.Put([]byte(newKey), nil) })
		if err == nil {
			err = d.db.Sync(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("note that this device is new: %w", err)
	}
	d.agreements.begin = d.replicas.engine.Mark()
	d.store.Shy(true)
	d.replicas.engine.Again()
	return nil
}

// introduced ends that this device is new, once each place had a turn, and what that brought is heeded.
func (d *Drive) introduced(ctx context.Context) error {
	if d.agreements.begin == nil || !d.replicas.engine.Since(d.agreements.begin) {
		return nil
	}
	if err := d.db.Update(ctx, func(tx kv.Tx) error { return tx.Delete([]byte(newKey)) }); err != nil {
		return fmt.Errorf("note that this device is not new any more: %w", err)
	}
	d.agreements.begin = nil
	d.store.Shy(false)
	return nil
}
