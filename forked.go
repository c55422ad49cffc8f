package sheaf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/sync/engine"
	"github.com/sheaf-drive/sheaf/sync/replica"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// A device whose folder was set back, as from a backup, or copied, may write before it meets a place that has what it wrote before: then two heads have
// one name, and two writes one dot. When it finds that it stops to write, and joins as a new device when it is opened again: see ADR 39. What it wrote is in the ground of its
// journal, from which the new one begins, once the writes since it was set back have another name. Its heads, which no place has taken, would hide those of the same name
// from the new one, and all the drive would look forked to it: they go.

// asLost marks the error of a device whose state was lost for the engine.
func asLost(err error) error {
	if errors.Is(err, refs.ErrStateLost) {
		return fmt.Errorf("%w: %w", engine.ErrLost, err)
	}
	return err
}

// forked takes a head that a place has under the name of another one in the own bucket, or one of this device's that is not there.
func (d *Drive) forked(ctx context.Context, name blob.Name, theirs []byte, same blob.Name) error {
	own := d.o.Replication.Own
	if !strings.HasPrefix(string(name), string(refs.Folder(d.account.Members(), d.device.ID()))+"/") {
		if _, err := keys.ReadBlob(ctx, own, name); errors.Is(err, fs.ErrNotExist) {
			return nil // of another device: whoever has the keys of both finds out what that means
		} else if err != nil {
			return err
		}
	}
	id, err := d.refs.Found(ctx, name, theirs, same)
	switch {
	case errors.Is(err, refs.ErrIncomplete):
		return err // it has an epoch that this device does not know: it may have lost that
	case !errors.Is(err, refs.ErrFork):
		if err != nil && ctx.Err() == nil {
			d.o.Log.Warn("a replica has a damaged head of this device", "blob", string(name), "err", err)
		}
		return ctx.Err()
	case id == d.device.ID():
		d.o.Log.Error("this device was set back or copied, and both have written: it writes no more until it is started again, and joins as a new one then", "err", err)
		return asLost(err)
	}
	lying, lerr := refs.Lying(ctx, d.account.Members(), own)
	if lerr == nil {
		lerr = d.dropHeads(ctx, id, lying[id])
	}
	if lerr == nil {
		lerr = d.refs.Forget(ctx, id)
	}
	return errors.Join(err, lerr)
}

// dropHeads removes from the own bucket the heads of a device that this one was.
func (d *Drive) dropHeads(ctx context.Context, id keys.DeviceID, names []blob.Name) error {
	d.o.Log.Warn("heads that this device has put under its old name are removed here, for other heads have these names elsewhere: what they say is carried on", "device", id, "heads", len(names))
	if err := d.o.Replication.Own.Remove(ctx, names...); err != nil {
		return fmt.Errorf("remove heads of the device that this one was: %w", err)
	}
	return nil
}

// dropForked removes from the own bucket the heads of devices that this one was and that others, by the places, know with other heads.
func (d *Drive) dropForked(ctx context.Context) error {
	r := d.o.Replication
	if r == nil {
		return nil
	}
	members := d.account.Members()
	lying, err := refs.Lying(ctx, members, r.Own)
	if err != nil {
		return err
	}
	found, err := refs.Forked(ctx, d.db)
	if err != nil {
		return err
	}
	delete(lying, d.device.ID())
	delete(found, d.device.ID())
	if len(lying) > 0 {
		// As it looks to one without any memory. What else is wrong is found when the heads are opened.
		if r, err := refs.Open(ctx, d.refsOptions(memkv.New())); err == nil {
			for id, fault := range r.Faults() {
				if _, ok := found[id]; !ok && len(lying[id]) > 0 && errors.Is(fault, refs.ErrFork) {
					found[id] = refs.Unknown
					if err := refs.Disown(ctx, d.db, id, refs.Unknown); err != nil {
						return err
					}
				}
			}
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for id := range found { // perhaps once more, after a crash
		if len(lying[id]) > 0 {
			if err := d.dropHeads(ctx, id, lying[id]); err != nil {
				return err
			}
		}
		if err := refs.Forget(ctx, d.db, id); err != nil {
			return err
		}
	}
	return nil
}

// ownHead returns what the newest head names that lies in the own bucket of a device that this one was; the zero Ref if there is none.
func (d *Drive) ownHead(ctx context.Context, id keys.DeviceID) (chunk.Ref, error) {
	r := d.o.Replication
	if r == nil {
		return chunk.Ref{}, nil
	}
	members := d.account.Members()
	lying, err := refs.Lying(ctx, members, r.Own)
	if err != nil {
		return chunk.Ref{}, err
	}
	for _, name := range slices.Backward(lying[id]) {
		h, err := refs.ReadOne(ctx, members, r.Own, id, name)
		if err == nil {
			return h.Root, nil
		}
		if ctx.Err() != nil {
			return chunk.Ref{}, ctx.Err()
		}
		d.o.Log.Warn("a head of this device is damaged", "blob", string(name), "err", err)
	}
	return chunk.Ref{}, nil
}

// disown returns the ground as a state of this device, when its journal lies on one of a device that it was: what that one wrote since it was set back becomes this one's work.
func (d *Drive) disown(ctx context.Context, old keys.DeviceID, ground chunk.Ref) (chunk.Ref, error) {
	if d.o.Replication == nil || ground.IsZero() {
		return ground, nil
	}
	common, due, err := d.lastCommon(ctx, old)
	if err != nil || !due {
		return ground, err
	}
	r := manifest.Reassignment{From: old.Short(), After: common.Context.Counter(old.Short()), To: d.device.ID().Short()}
	if s, err := d.snapshot(ctx, common.Root); err == nil { // else it was collected, and all its stamps are taken for later ones
		r.Lamport = s.Lamport
	}
	s, err := d.snapshot(ctx, ground)
	if err != nil {
		return ground, err
	}
	d.o.Log.Warn("what this device wrote since it was set back is taken for its own work under its new name", "old", old, "head", common.Seq)
	if s, err = manifest.Reassign(ctx, d.store, s, r); err != nil {
		return ground, err
	}
	if ground, err = manifest.PutSnapshot(ctx, d.store, s); err == nil {
		err = d.store.Flush(ctx)
	}
	if err == nil {
		err = refs.Disown(ctx, d.db, old, common.Seq)
	}
	if err != nil {
		return ground, fmt.Errorf("take over what a device wrote that was set back: %w", err)
	}
	return ground, nil
}

// askFor is how long a place is asked for the heads of a device.
const askFor = time.Minute

// lastCommon returns the newest head of the device that this one was that its own bucket and the others have alike; the zero Head if none is known. due says that the own bucket
// may have heads after it.
func (d *Drive) lastCommon(ctx context.Context, old keys.DeviceID) (common refs.Head, due bool, err error) {
	r, members := d.o.Replication, d.account.Members()
	lying, err := refs.Lying(ctx, members, r.Own)
	if err != nil || len(lying[old]) == 0 {
		return refs.Head{}, false, err
	}
	found, err := refs.Forked(ctx, d.db)
	if err != nil {
		return refs.Head{}, false, err
	}
	least, forked := found[old]
	if forked = forked && least != refs.Unknown; !forked {
		least = refs.Unknown
	}
	most := uint64(0)
	for _, p := range r.away() {
		same, fork, err := d.compareAt(ctx, p, old)
		if ctx.Err() != nil {
			return refs.Head{}, false, ctx.Err()
		}
		if err != nil {
			d.o.Log.Warn("a place could not be asked for the heads of this device", "place", p.At, "err", err)
			continue
		}
		if seq := refs.Number(same); fork && seq < least {
			least, forked = seq, true
		} else if !fork {
			most = max(most, seq)
		}
	}
	newest := refs.Number(lying[old][len(lying[old])-1])
	switch {
	case forked:
		most = least
	case most == newest:
		return refs.Head{}, false, nil // all of it is elsewhere
	default:
		// A database that was set back with the rest remembers what places had by then. Without one the device has not gone on since then: this is the first time that it is opened.
		knows, err := refs.Knows(ctx, d.db, old)
		if err != nil || !knows {
			return refs.Head{}, false, err
		}
	}
	tops, err := engine.Tops(ctx, d.db)
	if err != nil {
		return refs.Head{}, false, err
	}
	for _, name := range slices.Backward(lying[old]) {
		if forked && refs.Number(name) > most {
			continue
		}
		h, err := refs.ReadOne(ctx, members, r.Own, old, name)
		if err != nil {
			if ctx.Err() != nil {
				return refs.Head{}, false, ctx.Err()
			}
			continue
		}
		was := func(top []byte) bool { return bytes.Equal(top, h.Root.Append(nil)) }
		if h.Seq <= most || !forked && slices.ContainsFunc(tops, was) {
			return h, true, nil
		}
	}
	return refs.Head{}, true, nil
}

func (d *Drive) compareAt(ctx context.Context, p engine.Place, old keys.DeviceID) (same blob.Name, forked bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	b, err := p.Open(ctx)
	if err != nil {
		return "", false, err
	}
	defer func() {
		if c, ok := b.(io.Closer); ok {
			err = errors.Join(err, c.Close())
		}
	}()
	return replica.Compare(ctx, refs.Folder(d.account.Members(), old), b, d.o.Replication.Own)
}
