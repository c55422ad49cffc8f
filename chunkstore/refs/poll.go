package refs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

// Poll reads the members log and the heads that others have put, and holds them
// against the rules R1 to R5 and what this device remembers. Heads that pass become
// known, durably. The error joins what is wrong with each device; it wraps ErrFork, ErrRollback,
// ErrTampered or ErrIncomplete and names the blob. A device with a fault keeps the head that
// was known of it, but Heads does not yield it until a later Poll finds it well. After an
// ErrFork anywhere, or if this device's own heads are not as it knows them, Move refuses
// to write.
func (r *Refs) Poll(ctx context.Context) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	r.mu.Lock()
	frozen := r.frozen
	r.mu.Unlock()
	if errors.Is(frozen, ErrStateLost) {
		return fmt.Errorf("poll heads: %w", frozen)
	}
	if err := r.settle(ctx); err != nil {
		return fmt.Errorf("poll heads: %w", err)
	}
	if err := r.checkOwn(ctx); err != nil {
		for _, fatal := range []error{ErrFork, ErrRollback, ErrStateLost} {
			if errors.Is(err, fatal) {
				return r.freeze(fmt.Errorf("poll heads: %w", err))
			}
		}
		return fmt.Errorf("poll heads: %w", err)
	}
	if err := r.poll(ctx); err != nil {
		return fmt.Errorf("poll heads: %w", err)
	}
	return nil
}

// poll looks at the heads of others. The caller has the turn. What is wrong with single
// devices is in faults afterwards, and in the error.
func (r *Refs) poll(ctx context.Context) error {
	// Heads are listed before the members log is read: whoever writes a head has put the
	// log that it names before.
	listed, err := r.listAll(ctx)
	if err != nil {
		return err
	}
	if err := r.refreshMembers(ctx); err != nil {
		if errors.Is(err, ErrFork) {
			_ = r.freeze(err)
		}
		return err
	}
	next := map[keys.DeviceID]known{}
	faults := map[keys.DeviceID]error{}
	for id, m := range r.members.All() {
		dir := folder(r.members.Ring(), id)
		seqs := listed[dir]
		delete(listed, dir)
		if id == r.id {
			continue
		}
		if err := r.look(ctx, id, m, seqs, next, faults); err != nil {
			return err
		}
	}
	for id := range r.known {
		if _, ok := r.members.Member(id); !ok {
			next[id] = known{} // it was added by an entry that does not count any more
		}
	}
	for dir, seqs := range listed {
		r.o.Log.Warn("heads of nobody are left alone", "folder", string(dir), "heads", len(seqs))
	}
	if err := r.compare(ctx, next, faults); err != nil {
		return err
	}
	for id := range faults {
		delete(next, id)
		if errors.Is(faults[id], ErrFork) {
			_ = r.freeze(faults[id])
		}
	}
	for id, k := range next {
		if k.hash == r.known[id].hash {
			delete(next, id)
		}
	}
	if err := r.saveOthers(ctx, next); err != nil {
		return err
	}
	r.mu.Lock()
	mended := len(r.faults) > 0
	r.faults = faults
	r.mu.Unlock()
	if len(next) > 0 || mended {
		r.publish(next)
	}
	return joined(faults)
}

// joined makes one error of faults, in the order of the devices.
func joined(faults map[keys.DeviceID]error) error {
	ids := make([]keys.DeviceID, 0, len(faults))
	for id := range faults {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b keys.DeviceID) int { return slices.Compare(a[:], b[:]) })
	var errs []error
	for _, id := range ids {
		errs = append(errs, fmt.Errorf("device %s: %w", id, faults[id]))
	}
	return errors.Join(errs...)
}

func (r *Refs) ownFault() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.faults[r.id]
}

func (r *Refs) onlyFaults() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.faults) > 0
}

func (r *Refs) refreshMembers(ctx context.Context) error {
	m, err := r.members.Reload(ctx, r.o.Bucket)
	if err != nil {
		return err
	}
	if err := m.Follows(r.members.Tips()); err != nil {
		return err
	}
	if err := r.followMembers(ctx, m); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = m
	return nil
}

// look reads one device's heads into next, or what is wrong with them into faults. Where
// a head is missing it lists once more: the device may have pruned meanwhile, or put more.
// It returns an error only if the Bucket itself fails.
func (r *Refs) look(ctx context.Context, id keys.DeviceID, m keys.Member, seqs []uint64, next map[keys.DeviceID]known, faults map[keys.DeviceID]error) error {
	k, err := r.chain(ctx, id, m, seqs)
	if errors.Is(err, ErrIncomplete) || errors.Is(err, ErrRollback) || errors.Is(err, fs.ErrNotExist) {
		if seqs, err = r.list(ctx, folder(r.members.Ring(), id)); err == nil {
			k, err = r.chain(ctx, id, m, seqs)
		}
	}
	switch {
	case err == nil:
		delete(faults, id)
		next[id] = k
	case errors.Is(err, fs.ErrNotExist):
		faults[id] = fmt.Errorf("%w: %w", ErrIncomplete, err)
	case isFault(err):
		faults[id] = err
	default:
		return err
	}
	return nil
}

func isFault(err error) bool {
	for _, f := range []error{ErrFork, ErrRollback, ErrTampered, ErrIncomplete, ErrFormat} {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}

// chain verifies a device's heads from the one remembered, or else the oldest that is
// there, to the newest that counts, which it returns; a zero one if there is none.
func (r *Refs) chain(ctx context.Context, id keys.DeviceID, m keys.Member, seqs []uint64) (known, error) {
	before := r.known[id]
	dir := folder(r.members.Ring(), id)
	if m.Roles&keys.Writer == 0 {
		return known{}, nil // R1: its heads are void
	}
	if m.Revoked {
		// R1: what comes after its last head is void, also if it was accepted before.
		i, _ := slices.BinarySearch(seqs, m.Last.Seq+1)
		seqs = seqs[:i]
		if before.Seq > m.Last.Seq {
			before = known{}
		}
		if n := len(seqs); m.Last.Seq > 0 && (n == 0 || seqs[n-1] != m.Last.Seq) {
			return known{}, fmt.Errorf("%w: head %s is missing", ErrIncomplete, headName(dir, m.Last.Seq))
		}
	}
	n := len(seqs)
	switch {
	case n == 0 && before.Seq == 0:
		return known{}, nil
	case n == 0 || seqs[n-1] < before.Seq: // R4
		return known{}, fmt.Errorf("%w: head %s is missing", ErrRollback, headName(dir, before.Seq))
	}
	i, _ := slices.BinarySearch(seqs, before.Seq)
	seqs = seqs[i:]
	k := known{}
	if before.Seq+1 == seqs[0] {
		k = before
	}
	for _, seq := range seqs {
		h, b, err := r.read(ctx, id, seq)
		if err != nil {
			return known{}, err
		}
		if err := r.follows(k.Head, h); err != nil {
			return known{}, fmt.Errorf("head %s: %w", headName(dir, seq), err)
		}
		if h.Seq == before.Seq && h.hash != before.hash {
			return known{}, fmt.Errorf("%w: head %s is another one now", ErrFork, headName(dir, seq)) // R3
		}
		k = known{h, b}
	}
	if m.Revoked && m.Last != k.Mark() {
		return known{}, fmt.Errorf("%w: head %s is not the one that its revocation names", ErrFork, headName(dir, k.Seq))
	}
	return k, nil
}

// follows checks R1 and R2 for h, which comes after before; a zero before is unknown.
func (r *Refs) follows(before, h Head) error {
	if before.Seq > 0 {
		switch {
		case h.Seq != before.Seq+1:
			return fmt.Errorf("%w: head %d is missing", ErrIncomplete, before.Seq+1)
		case h.Prev != before.hash:
			return fmt.Errorf("%w: it does not follow the head before", ErrFork)
		case h.Epoch < before.Epoch:
			return fmt.Errorf("%w: its epoch is older than that of the head before", ErrTampered)
		}
	}
	switch {
	case r.members.Follows(h.Members) != nil:
		return fmt.Errorf("%w: entries of the members log are withheld that it names", ErrIncomplete)
	case !r.members.WasMember(h.Members, h.Device):
		return fmt.Errorf("%w: its device was no member then", ErrTampered)
	case h.Epoch < r.members.LeastEpoch(h.Members):
		return fmt.Errorf("%w: its epoch is one that a revoked device has, by the log that it names", ErrTampered)
	case before.Seq > 0 && !r.members.Includes(h.Members, before.Members):
		return fmt.Errorf("%w: it knows less than the head before", ErrTampered)
	}
	return nil
}

// compare holds what devices say of each other's heads against what is there (R5). next has the
// heads that this poll has read. If one seems to be withheld it looks for it once more, for it may
// have been put after the listing.
func (r *Refs) compare(ctx context.Context, next map[keys.DeviceID]known, faults map[keys.DeviceID]error) error {
	newest := func(id keys.DeviceID) known {
		if k, ok := next[id]; ok {
			return k
		}
		return r.known[id]
	}
	for _, k := range sortedHeads(next, r.known) {
		if k.Device == r.id {
			continue // its own word is from r.known itself
		}
		for _, s := range k.Seen {
			m, ok := r.members.Member(s.Device)
			switch {
			case !ok && r.members.Named(s.Device):
				continue // it was one for who did not know all yet
			case !ok:
				faults[k.Device] = fmt.Errorf("%w: it has seen a head of %s, who is nobody", ErrTampered, s.Device)
				continue
			case m.Revoked && s.Mark.Seq > m.Last.Seq:
				continue
			}
			if newest(s.Device).Seq < s.Mark.Seq && s.Device != r.id && faults[s.Device] == nil {
				seqs, err := r.list(ctx, folder(r.members.Ring(), s.Device))
				if err != nil {
					return err
				}
				if err := r.look(ctx, s.Device, m, seqs, next, faults); err != nil {
					return err
				}
			}
			if err := r.agree(ctx, k.Head, s, newest(s.Device)); err != nil {
				if !isFault(err) {
					return err
				}
				if faults[s.Device] == nil {
					faults[s.Device] = err
				}
			}
		}
	}
	if err := faults[r.id]; err != nil {
		_ = r.freeze(err)
	}
	return nil
}

// agree compares one device's word s, in its head by, with the newest head of the device that it speaks of.
func (r *Refs) agree(ctx context.Context, by Head, s Seen, k known) error {
	name := headName(folder(r.members.Ring(), s.Device), s.Mark.Seq)
	switch {
	case k.Seq < s.Mark.Seq && s.Device == r.id:
		return fmt.Errorf("%w: %w: %s has seen its head %d", ErrStateLost, ErrRollback, by.Device, s.Mark.Seq)
	case k.Seq < s.Mark.Seq:
		return fmt.Errorf("%w: %s has seen %s, which is not shown", ErrIncomplete, by.Device, name)
	case k.Seq == s.Mark.Seq && k.hash != s.Mark.Hash:
		return fmt.Errorf("%w: %s has seen another %s", ErrFork, by.Device, name)
	case k.Seq == s.Mark.Seq:
		return nil
	}
	word := [2]keys.DeviceID{by.Device, s.Device}
	if r.agreed[word] == s.Mark {
		return nil
	}
	h, _, err := r.read(ctx, s.Device, s.Mark.Seq)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist): // one that is not there was pruned
		return err
	case err == nil && h.hash != s.Mark.Hash:
		return fmt.Errorf("%w: %s has seen another %s", ErrFork, by.Device, name)
	}
	r.agreed[word] = s.Mark
	return nil
}

// sortedHeads returns the newest head of every device: from next, or else from known.
func sortedHeads(next, old map[keys.DeviceID]known) []known {
	var heads []known
	for _, k := range next {
		if k.Seq > 0 {
			heads = append(heads, k)
		}
	}
	for id, k := range old {
		if _, ok := next[id]; !ok && k.Seq > 0 {
			heads = append(heads, k)
		}
	}
	slices.SortFunc(heads, func(a, b known) int { return slices.Compare(a.Device[:], b.Device[:]) })
	return heads
}

// read reads and opens one head. The error wraps [io/fs.ErrNotExist] if there is none.
func (r *Refs) read(ctx context.Context, id keys.DeviceID, seq uint64) (Head, []byte, error) {
	m, ok := r.members.Member(id)
	if !ok {
		return Head{}, nil, fmt.Errorf("read head: %w: %s", keys.ErrNotMember, id)
	}
	name := headName(folder(r.members.Ring(), id), seq)
	b, err := keys.ReadBlob(ctx, r.o.Bucket, name)
	if err == nil && len(b) > maxHead {
		err = fmt.Errorf("%w: longer than %d bytes", ErrTampered, maxHead)
	}
	if err != nil {
		return Head{}, nil, fmt.Errorf("read head %s: %w", name, err)
	}
	if k := r.known[id]; k.Seq == seq && bytes.Equal(k.blob, b) {
		return k.Head, b, nil // the same bytes were verified before
	}
	h, err := open(r.members.Ring(), id, m.Public.Sign, name, b)
	return h, b, err
}

// list returns the sequence numbers of the heads in a folder, ascending.
func (r *Refs) list(ctx context.Context, dir blob.Name) ([]uint64, error) {
	all, err := r.listUnder(ctx, dir)
	return all[dir], err
}

func (r *Refs) listAll(ctx context.Context) (map[blob.Name][]uint64, error) {
	return r.listUnder(ctx, prefix)
}

func (r *Refs) listUnder(ctx context.Context, under blob.Name) (map[blob.Name][]uint64, error) {
	all := map[blob.Name][]uint64{}
	for info, err := range r.o.Bucket.List(ctx, under) {
		if err != nil {
			return nil, fmt.Errorf("list heads: %w", err)
		}
		dir, seq, ok := splitName(info.Name)
		if !ok {
			r.o.Log.Warn("a blob that is no head is left alone", "blob", string(info.Name))
			continue
		}
		all[dir] = append(all[dir], seq)
	}
	return all, nil
}
