package refs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// Found is for a blob that lies elsewhere under the name of a head of this device, or of one that it was, with other bytes than the Bucket has there. If it is a head of that
// device, too, the state of this one was set back or copied, and has written since: the error wraps ErrFork then, and that is kept, durably: see Forked. If it is this device's, Open says
// so, too, and Move refuses to write from now on; the error wraps ErrStateLost, too. It wraps ErrTampered if b is no head, and ErrIncomplete if it may be one
// of an epoch that is not known here; it is nil if the Bucket has the same one, or
// none of that name: unless it is newer than all that this device has put.
//
// same is the name of the newest head of that device that is known to be the same there and here, "" if none is.
func (r *Refs) Found(ctx context.Context, name blob.Name, b []byte, same blob.Name) (keys.DeviceID, error) {
	if err := r.take(ctx); err != nil {
		return keys.DeviceID{}, err
	}
	defer r.give()
	dir, seq, _ := splitName(name)
	id, m, ok := memberOf(r.members, dir)
	if !ok {
		return id, fmt.Errorf("found %s: %w: it is nobody's", name, ErrTampered)
	}
	h, err := open(r.members.Ring(), id, m.Public.Sign, name, b)
	if errors.Is(err, ErrIncomplete) { // of an epoch that may have come since the last Poll
		if err := r.refreshMembers(ctx); err != nil {
			return id, fmt.Errorf("found: %w", err)
		}
		h, err = open(r.members.Ring(), id, m.Public.Sign, name, b)
	}
	if err != nil {
		return id, fmt.Errorf("found: %w", err)
	}
	here, _, err := r.read(ctx, id, seq)
	_, last, _ := splitName(same)
	switch {
	case errors.Is(err, fs.ErrNotExist) && id == r.id && seq > r.own().Seq:
		return id, r.lose(ctx, known{h, b}, last)
	case errors.Is(err, fs.ErrNotExist) || err == nil && here.hash == h.hash:
		return id, nil
	case err != nil:
		return id, fmt.Errorf("found %s: %w", name, err)
	}
	if id == r.id {
		return id, r.lose(ctx, known{h, b}, last)
	}
	return id, errors.Join(forkedAt(name), r.keepForked(ctx, known{h, b}, last))
}

// lose notes that k is a head of this device that it did not write, while it has another one in its place, or was about to put one. common is the number of the newest that is the same.
func (r *Refs) lose(ctx context.Context, k known, common uint64) error {
	err := r.freeze(fmt.Errorf("%w: %w", ErrStateLost, forkedAt(headName(r.dir, k.Seq))))
	return errors.Join(err, r.keepForked(ctx, k, common))
}

func (r *Refs) keepForked(ctx context.Context, k known, common uint64) error {
	v := append(binary.BigEndian.AppendUint64(nil, common), keep(k)...)
	return r.update(ctx, func(tx kv.Tx) error { return tx.Put(forkedKey(k.Device), v) })
}

// Forget forgets all of a device that this one was: what Found has kept of it, and which head was its newest. So what others have of it counts from now on.
func (r *Refs) Forget(ctx context.Context, id keys.DeviceID) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	if id == r.id {
		return errors.New("forget heads: that is this device")
	}
	if err := Forget(ctx, r.o.KV, id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, id)
	delete(r.faults, id)
	return nil
}

func memberOf(m *keys.Members, dir blob.Name) (keys.DeviceID, keys.Member, bool) {
	for id, member := range m.All() {
		if folder(m.Ring(), id) == dir {
			return id, member, true
		}
	}
	return keys.DeviceID{}, keys.Member{}, false
}

func forkedKey(id keys.DeviceID) []byte { return append([]byte(keyForked), id[:]...) }

func forkedAt(name blob.Name) error {
	return fmt.Errorf("%w: there are two heads %s: one was written by a copy of this device", ErrFork, name)
}

// checkForked returns what Found has kept of this device.
func (r *Refs) checkForked(ctx context.Context) error {
	b, err := r.o.KV.Get(ctx, forkedKey(r.id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load heads: %w", err)
	}
	if len(b) == 8 { // by Disown
		return fmt.Errorf("%w: %w", ErrStateLost, ErrFork)
	}
	k, err := r.openKept(r.id, b[min(len(b), 8):])
	if err != nil {
		return fmt.Errorf("load heads: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrStateLost, forkedAt(headName(r.dir, k.Seq)))
}

// Unknown is the number of the newest head that is the same where nobody knows.
const Unknown = math.MaxUint64

// Forked returns the devices of which it is kept in a database that there are two heads of a name, with the number of the newest one that is the same: 0 for none, or Unknown.
func Forked(ctx context.Context, db kv.DB) (map[keys.DeviceID]uint64, error) {
	all := map[keys.DeviceID]uint64{}
	for pair, err := range db.Scan(ctx, []byte(keyForked), []byte(keyForkEnd)) {
		if err != nil {
			return nil, fmt.Errorf("load heads: %w", err)
		}
		id, ok := bytes.CutPrefix(pair.Key, []byte(keyForked))
		if ok && len(id) == len(keys.DeviceID{}) && len(pair.Value) >= 8 {
			all[keys.DeviceID(id)] = binary.BigEndian.Uint64(pair.Value)
		}
	}
	return all, nil
}

// Disown keeps, durably, that there are two heads of a name of a device that this one was, as Found does, but not what the other head is. common is as Forked returns it.
func Disown(ctx context.Context, db kv.DB, id keys.DeviceID, common uint64) error {
	return remember(ctx, db, func(tx kv.Tx) error { return tx.Put(forkedKey(id), binary.BigEndian.AppendUint64(nil, common)) })
}

// Knows reports whether a database has a head of that device.
func Knows(ctx context.Context, db kv.DB, id keys.DeviceID) (bool, error) {
	_, err := db.Get(ctx, headKey(id))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("load heads: %w", err)
	}
	return true, nil
}

// Folder returns where the heads of a device lie: heads/<pseudonym>, without a slash at its end.
func Folder(m *keys.Members, id keys.DeviceID) blob.Name {
	dir := folder(m.Ring(), id)
	return dir[:len(dir)-1]
}

// Last returns the last heads that count of the devices that were revoked, by their folders, as Folder names them.
func Last(m *keys.Members) map[blob.Name]uint64 {
	all := map[blob.Name]uint64{}
	for id, x := range m.All() {
		if x.Revoked && x.Last.Seq > 0 {
			all[Folder(m, id)] = x.Last.Seq
		}
	}
	return all
}

// Forget is the Forget of Refs for a database of which none is open.
func Forget(ctx context.Context, db kv.DB, id keys.DeviceID) error {
	return remember(ctx, db, func(tx kv.Tx) error { return errors.Join(tx.Delete(forkedKey(id)), tx.Delete(headKey(id))) })
}

// Lying returns the names of the heads that a bucket has of each device that m knows, ascending, whether they are good or not.
func Lying(ctx context.Context, m *keys.Members, b blob.Bucket) (map[keys.DeviceID][]blob.Name, error) {
	folders := map[blob.Name]keys.DeviceID{}
	for id := range m.All() {
		folders[folder(m.Ring(), id)] = id
	}
	all := map[keys.DeviceID][]blob.Name{}
	for info, err := range b.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list heads: %w", err)
		}
		dir, _, ok := splitName(info.Name)
		if id, known := folders[dir]; ok && known {
			all[id] = append(all[id], info.Name)
		}
	}
	return all, nil
}

// Number returns the sequence number that the name of a head has, 0 if it is none.
func Number(name blob.Name) uint64 {
	_, seq, _ := splitName(name)
	return seq
}

// ReadOne returns the head of a device that lies in a bucket, verified only in itself, as Vet does it. The error wraps [io/fs.ErrNotExist] if there is none.
func ReadOne(ctx context.Context, m *keys.Members, b blob.Bucket, id keys.DeviceID, name blob.Name) (Head, error) {
	member, ok := m.Member(id)
	if !ok {
		return Head{}, fmt.Errorf("read head: %w: %s", keys.ErrNotMember, id)
	}
	body, err := keys.ReadBlob(ctx, b, name)
	if err != nil {
		return Head{}, fmt.Errorf("read head %s: %w", name, err)
	}
	return open(m.Ring(), id, member.Public.Sign, name, body)
}
