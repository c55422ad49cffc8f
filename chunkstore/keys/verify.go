package keys

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Verify reads every blob under keys/, drive/ and members/ and yields its name with what is
// wrong with it, or nil. A flipped bit anywhere in them is found, also in a passphrase slot
// whose passphrase is not at hand. A blob that is missing is yielded by the name of what
// should be there. An error of the Bucket itself ends the sequence. The errors wrap
// ErrTampered, ErrIncomplete or ErrFork.
func (a *Account) Verify(ctx context.Context) iter.Seq2[blob.Name, error] {
	return func(yield func(blob.Name, error) bool) {
		_ = a.verifySlots(ctx, yield) && a.verifyRecords(ctx, yield) && a.verifyMembers(ctx, yield)
	}
}

// verifyEach reads each blob with a prefix and yields what check says of it.
func (a *Account) verifyEach(ctx context.Context, prefix blob.Name, yield func(blob.Name, error) bool, check func(blob.Name, []byte) error) bool {
	for info, err := range a.bucket.List(ctx, prefix) {
		if err != nil {
			yield(prefix, fmt.Errorf("list %s: %w", prefix, err))
			return false
		}
		b, err := ReadBlob(ctx, a.bucket, info.Name)
		if ctx.Err() != nil {
			yield(info.Name, err)
			return false
		}
		if err == nil {
			err = check(info.Name, b)
		}
		if !yield(info.Name, err) {
			return false
		}
	}
	return true
}

// verifySlots checks that there are the slots that count by the members log, each twice and unaltered, and no other, but for what a change
// that was cut off has left.
func (a *Account) verifySlots(ctx context.Context, yield func(blob.Name, error) bool) bool {
	m := a.Members()
	seen := map[blob.Name]bool{}
	more := a.verifyEach(ctx, slotPrefix, yield, func(name blob.Name, b []byte) error {
		seen[name] = true
		s, ok := parseSlot(b)
		if !ok || slotName(s.id) != firstName(name) || !m.counts(s) && !a.began(m, s) {
			return fmt.Errorf("key slot %s: %w, or counts no more", name, ErrTampered)
		}
		return nil
	})
	for id := range m.slots {
		for _, name := range []blob.Name{slotName(id), spare(slotName(id))} {
			if more && !seen[name] && !a.exists(ctx, name) {
				more = yield(name, fmt.Errorf("key slot %s: %w", name, ErrIncomplete))
			}
		}
	}
	if more && len(m.slotsOf(RecoverySlot)) == 0 {
		return yield(slotPrefix, fmt.Errorf("key slots: %w: no recovery slot", ErrIncomplete))
	}
	return more
}

// verifyRecords checks every version of the drive record and that they are one chain, of which
// each link names the one before.
func (a *Account) verifyRecords(ctx context.Context, yield func(blob.Name, error) bool) bool {
	seen := map[blob.Name]bool{}
	marks := map[uint32]Mark{}
	prev := map[uint32][32]byte{}
	more := a.verifyEach(ctx, recordPrefix, yield, func(name blob.Name, b []byte) error {
		version, ok := recordVersion(firstName(name))
		if !ok {
			return fmt.Errorf("drive record %s: %w: strange name", name, ErrTampered)
		}
		d, mark, err := openRecord(&a.root, a.Ring.drive, version, b)
		if err != nil {
			return err
		}
		if _, err := d.ring(&a.root); err != nil {
			return fmt.Errorf("drive record %s: %w", name, err)
		}
		if m, ok := marks[version]; ok && m != mark {
			return fmt.Errorf("drive record %s: %w: the copies differ", name, ErrFork)
		}
		seen[name], marks[version], prev[version] = true, mark, d.Prev
		return nil
	})
	for v := uint32(1); more && v <= a.Record.Version; v++ {
		for _, name := range []blob.Name{recordName(v), spare(recordName(v))} {
			if more && !seen[name] && !a.exists(ctx, name) {
				more = yield(name, fmt.Errorf("drive record %s: %w", name, ErrIncomplete))
			}
		}
		if _, ok := marks[v]; more && ok && prev[v] != marks[v-1].Hash {
			more = yield(recordName(v), fmt.Errorf("drive record %s: %w: it does not follow the one before", recordName(v), ErrFork))
		}
	}
	return more
}

// verifyMembers checks both copies of every entry, and all that resolve says of them. An entry that a revocation made void is
// as it should be; one that never counted is not.
func (a *Account) verifyMembers(ctx context.Context, yield func(blob.Name, error) bool) bool {
	m, problem := a.Members().Reload(ctx, a.bucket)
	if problem == nil {
		problem = m.Follows(a.Members().Tips())
	} else {
		m = a.Members()
	}
	nodes := map[blob.Name]*node{}
	for _, n := range m.order {
		nodes[entryName(n.hash)] = n
	}
	seen := map[blob.Name]bool{}
	more := a.verifyEach(ctx, memberPrefix, yield, func(name blob.Name, b []byte) error {
		first := firstName(name)
		if !isEntryName(first) {
			return fmt.Errorf("members entry %s: %w: strange name", name, ErrTampered)
		}
		seen[name] = true
		if _, _, err := openEntry(m.ring, first, b); err != nil {
			return err
		}
		n := nodes[first]
		if n != nil && n.foul {
			return fmt.Errorf("members entry %s: %w: it does not count: %s", name, ErrTampered, n.void)
		}
		if n != nil && m.epochFaults(n) != nil {
			return fmt.Errorf("members entry %s: %w", name, m.epochFaults(n))
		}
		return nil
	})
	for first := range nodes {
		for _, name := range []blob.Name{first, spare(first)} {
			if more && !seen[name] && !a.exists(ctx, name) {
				more = yield(name, fmt.Errorf("members entry %s: %w: a copy is missing", name, ErrIncomplete))
			}
		}
	}
	if more && problem != nil {
		return yield(memberPrefix, fmt.Errorf("members log: %w", problem))
	}
	return more
}

func (a *Account) exists(ctx context.Context, name blob.Name) bool {
	for info, err := range a.bucket.List(ctx, name) {
		if err != nil || !strings.HasPrefix(string(info.Name), string(name)) {
			return false
		}
		if info.Name == name {
			return true
		}
	}
	return false
}
