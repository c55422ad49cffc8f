package refs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// What a device remembers, in its KV. Heads are kept as they lie in the Bucket, sealed
// and signed, so that the memory of a head is evidence and shows nothing to whoever reads the disk.
//
//	refs/head/<device ID>   the newest verified head of a device
//	refs/next               this device's head that is about to be put, if its sequence number is one more
//	refs/forked/<device ID> of this device, or one that it was: the number of the newest head that is the same elsewhere, and one that it did not write, if it was seen
//	refs/mark/members       the newest entries of the members log, sealed with K(marks)
//	refs/mark/record        the newest drive record, likewise
const (
	keyHead    = "refs/head/"
	keyHeadEnd = "refs/head0"
	keyNext    = "refs/next"
	keyForked  = "refs/forked/"
	keyForkEnd = "refs/forked0"

	markMembers = blob.Name("refs/mark/members")
	markRecord  = blob.Name("refs/mark/record")
)

func headKey(id keys.DeviceID) []byte { return append([]byte(keyHead), id[:]...) }

// remember loads the memory and holds the members log and the drive record against it.
func (r *Refs) remember(ctx context.Context) error {
	if r.o.Record.Seq == 0 {
		return r.rememberRest(ctx)
	}
	err := r.follow(ctx, r.o.Members.Ring(), markRecord, keys.AppendMark(nil, r.o.Record), func(cr *cbor.Reader) error {
		seen := keys.ReadMark(cr)
		if err := cr.Err(); err != nil {
			return fmt.Errorf("%w: %w", ErrTampered, err)
		}
		switch {
		case r.o.Record.Seq < seen.Seq:
			return fmt.Errorf("%w: the drive record is version %d, and %d was seen", ErrRollback, r.o.Record.Seq, seen.Seq)
		case r.o.Record.Seq == seen.Seq && r.o.Record.Hash != seen.Hash:
			return fmt.Errorf("%w: the drive record is another one now", ErrFork)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.rememberRest(ctx)
}

// rememberRest is remember without the drive record.
func (r *Refs) rememberRest(ctx context.Context) error {
	if err := r.followMembers(ctx, r.o.Members); err != nil {
		return err
	}
	for pair, err := range r.o.KV.Scan(ctx, []byte(keyHead), []byte(keyHeadEnd)) {
		if err != nil {
			return fmt.Errorf("load heads: %w", err)
		}
		if len(pair.Key) != len(keyHead)+len(keys.DeviceID{}) {
			return fmt.Errorf("load heads: %w: strange key", ErrTampered)
		}
		id := keys.DeviceID(pair.Key[len(keyHead):])
		if _, ok := r.members.Member(id); !ok && r.members.Named(id) {
			continue // it was added by an entry that does not count any more
		}
		k, err := r.openKept(id, pair.Value)
		if err != nil {
			return fmt.Errorf("load heads: %w", err)
		}
		r.known[id] = k
	}
	b, err := r.o.KV.Get(ctx, []byte(keyNext))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("load heads: %w", err)
	}
	next, err := r.openKept(r.id, b)
	if err != nil {
		return fmt.Errorf("load heads: %w", err)
	}
	if next.Seq == r.known[r.id].Seq+1 {
		r.next = &next
	}
	return nil
}

// openKept opens a head from the memory. Its own name is part of its seal and is not kept
// beside it, so it is told by the value's first eight bytes, the sequence number.
func (r *Refs) openKept(id keys.DeviceID, v []byte) (known, error) {
	m, ok := r.members.Member(id)
	if !ok || len(v) < 8 {
		return known{}, fmt.Errorf("%w: memory of the heads of %s", ErrTampered, id)
	}
	var seq uint64
	for _, c := range v[:8] {
		seq = seq<<8 | uint64(c)
	}
	ring := r.members.Ring()
	h, err := open(ring, id, m.Public.Sign, headName(folder(ring, id), seq), v[8:])
	if err != nil {
		return known{}, fmt.Errorf("memory of the heads of %s: %w", id, err)
	}
	return known{h, v[8:]}, nil
}

func keep(k known) []byte {
	b := make([]byte, 0, 8+len(k.blob))
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(k.Seq>>shift))
	}
	return append(b, k.blob...)
}

// saveNext keeps the head that is about to be put, durably.
func (r *Refs) saveNext(ctx context.Context, k known) error {
	return r.update(ctx, func(tx kv.Tx) error { return tx.Put([]byte(keyNext), keep(k)) })
}

// saveOwn keeps this device's newest head, durably. It is in the Bucket already.
func (r *Refs) saveOwn(ctx context.Context, k known) error {
	return r.update(ctx, func(tx kv.Tx) error {
		return errors.Join(tx.Put(headKey(r.id), keep(k)), tx.Delete([]byte(keyNext)))
	})
}

// saveOthers keeps the newest heads of other devices, durably.
func (r *Refs) saveOthers(ctx context.Context, heads map[keys.DeviceID]known) error {
	if len(heads) == 0 {
		return nil
	}
	return r.update(ctx, func(tx kv.Tx) error {
		for id, k := range heads {
			var err error
			if k.Seq == 0 { // its heads are void
				err = tx.Delete(headKey(id))
			} else {
				err = tx.Put(headKey(id), keep(k))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *Refs) update(ctx context.Context, fn func(kv.Tx) error) error {
	return remember(ctx, r.o.KV, fn)
}

// remember changes the memory, durably.
func remember(ctx context.Context, db kv.DB, fn func(kv.Tx) error) error {
	if err := db.Update(ctx, fn); err != nil {
		return fmt.Errorf("remember heads: %w", err)
	}
	if err := db.Sync(ctx); err != nil {
		return fmt.Errorf("remember heads: %w", err)
	}
	return nil
}

// followMembers holds the members log against what is remembered of it.
func (r *Refs) followMembers(ctx context.Context, m *keys.Members) error {
	return r.follow(ctx, m.Ring(), markMembers, keys.AppendTips(nil, m.Tips()), func(cr *cbor.Reader) error {
		return m.Follows(keys.ReadTips(cr))
	})
}

// Check holds the members log against what a device remembers of it in a database, as Open does, and writes nothing. It is for
// who would add to the log before Open.
func Check(ctx context.Context, db kv.DB, m *keys.Members) error {
	mark, err := loadMark(ctx, db, m.Ring(), markMembers)
	if err != nil || mark == nil {
		return err
	}
	cr := cbor.NewReader(mark)
	if err := m.Follows(keys.ReadTips(cr)); err != nil {
		return err
	}
	return closeMark(cr)
}

// follow loads the mark of a chain, holds it against the chain by check, and then remembers
// now, the newest place of the chain.
func (r *Refs) follow(ctx context.Context, ring *keys.Ring, name blob.Name, now []byte, check func(seen *cbor.Reader) error) error {
	seen, err := loadMark(ctx, r.o.KV, ring, name)
	if err != nil {
		return err
	}
	if seen != nil {
		cr := cbor.NewReader(seen)
		if err := check(cr); err != nil {
			return err
		}
		if err := closeMark(cr); err != nil {
			return err
		}
	}
	if bytes.Equal(seen, now) {
		return nil
	}
	key := ring.Derive(kdf.Marks)
	b, err := keys.SealBlob(&key, kdf.Marks, ring.Epoch(), name, now, 0, r.o.Entropy)
	if err != nil {
		return err
	}
	return r.update(ctx, func(tx kv.Tx) error { return tx.Put([]byte(name), b) })
}

func closeMark(cr *cbor.Reader) error {
	if err := cr.Close(); err != nil {
		return fmt.Errorf("load mark: %w: %w", ErrTampered, err)
	}
	return nil
}

// loadMark returns nil if there is none.
func loadMark(ctx context.Context, db kv.DB, ring *keys.Ring, name blob.Name) ([]byte, error) {
	b, err := db.Get(ctx, []byte(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load mark: %w", err)
	}
	plain, number, err := ring.OpenBlob(kdf.Marks, name, b)
	if errors.Is(err, ErrIncomplete) {
		// The epoch was seen, for the mark was sealed in it; and now the members log has not got it.
		err = fmt.Errorf("%w: epoch %d is gone", ErrRollback, number)
	}
	if err != nil {
		return nil, fmt.Errorf("load mark: %w", err)
	}
	return plain, nil
}
