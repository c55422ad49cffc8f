package refs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

// Verify reads every blob under heads/ and yields its name with what is wrong with it, or
// nil: that it opens, was signed by the member in whose folder it lies, that each follows the one
// before, without gaps above the oldest, and that the newest are those that this device knows.
// A missing head is yielded by the name it should have. A flipped bit anywhere is found. An error of the
// Bucket itself ends the sequence. The members log is taken as the last Poll left it.
func (r *Refs) Verify(ctx context.Context) iter.Seq2[blob.Name, error] {
	return func(yield func(blob.Name, error) bool) {
		if err := r.take(ctx); err != nil {
			yield(prefix, err)
			return
		}
		defer r.give()
		owners := map[blob.Name]keys.DeviceID{}
		for id := range r.members.All() {
			owners[folder(r.members.Ring(), id)] = id
		}
		last := map[keys.DeviceID]Head{}
		for info, err := range r.o.Bucket.List(ctx, prefix) {
			if err != nil {
				yield(prefix, fmt.Errorf("list heads: %w", err))
				return
			}
			dir, seq, ok := splitName(info.Name)
			id, member := owners[dir]
			if !ok || !member {
				if !yield(info.Name, fmt.Errorf("%w: %s is nobody's head", ErrTampered, info.Name)) {
					return
				}
				continue
			}
			h, err := r.verify(ctx, id, seq, last[id])
			if err == nil || h.Seq != 0 {
				last[id] = h
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue // pruned since it was listed
			}
			if !yield(info.Name, err) || ctx.Err() != nil {
				return
			}
		}
		for id, k := range r.known {
			if h := last[id]; h.Seq < k.Seq {
				name := headName(folder(r.members.Ring(), id), k.Seq)
				if !yield(name, fmt.Errorf("%w: head %s is missing", ErrRollback, name)) {
					return
				}
			}
		}
	}
}

// verify reads one head and holds it against the one before. If that is all that is wrong it
// returns the head too.
func (r *Refs) verify(ctx context.Context, id keys.DeviceID, seq uint64, before Head) (Head, error) {
	h, _, err := r.read(ctx, id, seq)
	if err != nil {
		return Head{Seq: seq}, err
	}
	m, _ := r.members.Member(id)
	void := m.Revoked && seq > m.Last.Seq || m.Roles&keys.Writer == 0
	// The head before is left out if it did not open: it was reported.
	if before.hash == [32]byte{} && before.Seq+1 == seq {
		before = Head{}
	}
	if !void {
		if err := r.follows(before, h); err != nil {
			return h, err
		}
	}
	if k := r.known[id]; k.Seq == seq && k.hash != h.hash {
		return h, fmt.Errorf("%w: head %s is another one now", ErrFork, headName(folder(r.members.Ring(), id), seq))
	}
	return h, nil
}
