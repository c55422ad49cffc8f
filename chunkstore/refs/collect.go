package refs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

// Collect puts a head which says that this device is about to remove the packs of c, or, with the zero Collection, that it is not any more.
// The snapshot stays as it is. The error wraps [io/fs.ErrNotExist] if this device has no head yet, and is else as that of Move.
func (r *Refs) Collect(ctx context.Context, c Collection, now time.Time) (Head, error) {
	h, err := r.say(ctx, now, func(h *Head) { h.Collection = c })
	if err != nil {
		return Head{}, fmt.Errorf("announce collection: %w", err)
	}
	return h, nil
}

// Agree puts a head which agrees to these collections and to no other, and which has seen what this device has. The snapshot stays as it
// is. The errors are as those of Collect.
func (r *Refs) Agree(ctx context.Context, agreed []Agreed, now time.Time) (Head, error) {
	agreed = slices.Clone(agreed)
	slices.SortFunc(agreed, func(a, b Agreed) int { return slices.Compare(a.Device[:], b.Device[:]) })
	h, err := r.say(ctx, now, func(h *Head) { h.Agreed = agreed })
	if err != nil {
		return Head{}, fmt.Errorf("agree to collections: %w", err)
	}
	return h, nil
}

func (r *Refs) say(ctx context.Context, now time.Time, what func(*Head)) (Head, error) {
	if err := r.take(ctx); err != nil {
		return Head{}, err
	}
	defer r.give()
	if err := r.settle(ctx); err != nil {
		return Head{}, err
	}
	own := r.own()
	if own.Seq == 0 {
		return Head{}, fmt.Errorf("no head: %w", fs.ErrNotExist)
	}
	return r.move(ctx, own.Root, own.Root, own.Context, now, what)
}

// Since returns the heads of a device from seq to the newest that is known, in their order. The error wraps [io/fs.ErrNotExist] if one of them is
// not there, as when it was pruned, and ErrFork if one is not what the heads after it say.
func (r *Refs) Since(ctx context.Context, id keys.DeviceID, seq uint64) ([]Head, error) {
	if err := r.take(ctx); err != nil {
		return nil, err
	}
	defer r.give()
	heads, err := r.since(ctx, id, seq)
	if err != nil {
		return nil, fmt.Errorf("read heads of %s: %w", id, err)
	}
	return heads, nil
}

// Lasting returns the heads of a device that were not pruned yet, to the newest that is known, in their order. Errors are as with Since, but for heads that are not there.
func (r *Refs) Lasting(ctx context.Context, id keys.DeviceID) ([]Head, error) {
	if err := r.take(ctx); err != nil {
		return nil, err
	}
	defer r.give()
	heads, err := r.since(ctx, id, 1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read heads of %s: %w", id, err)
	}
	return heads, nil
}

// since is Since under the turn. With an error it returns those that it has read.
func (r *Refs) since(ctx context.Context, id keys.DeviceID, seq uint64) (heads []Head, err error) {
	r.mu.Lock()
	newest, fault := r.known[id].Head, r.faults[id]
	r.mu.Unlock()
	if fault != nil {
		return nil, fault
	}
	if seq == 0 || seq > newest.Seq {
		return nil, fmt.Errorf("no head %d: %w", seq, fs.ErrNotExist)
	}
	heads = []Head{newest}
	defer func() { slices.Reverse(heads) }()
	for after := newest; after.Seq > seq; {
		h, _, err := r.read(ctx, id, after.Seq-1)
		if err != nil {
			return heads, err
		}
		if h.hash != after.Prev {
			return heads, fmt.Errorf("%w: head %d is another one now", ErrFork, h.Seq)
		}
		heads, after = append(heads, h), h
	}
	return heads, nil
}

// PruneSeen is Prune, but for heads that another device may not have seen yet: those from oldest on. It leaves no more than most.
func (r *Refs) PruneSeen(ctx context.Context, keep int, oldest uint64, most int) error {
	if newest := r.own().Seq; newest > oldest {
		keep = max(keep, int(min(newest-oldest+1, uint64(most))))
	}
	return r.Prune(ctx, keep)
}
