package keys

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// maxSlots is the most slots that are looked at, so that a store cannot make us
// stretch a passphrase for ever.
const maxSlots = 16

// SlotInfo is what can be said of a slot without its secret.
type SlotInfo struct {
	ID    SlotID
	Type  SlotType
	Argon Argon // of a passphrase slot
}

// Slots lists the slots in a Bucket that are well-formed. No secret is needed, and
// nothing in the answer is authentic.
func Slots(ctx context.Context, bucket blob.Bucket) ([]SlotInfo, error) {
	slots, _, err := readSlots(ctx, bucket)
	var infos []SlotInfo
	for _, s := range slots {
		infos = append(infos, SlotInfo{ID: s.id, Type: s.typ, Argon: s.argon})
	}
	return infos, err
}

// HasPassphrase reports whether the Bucket has a passphrase slot.
func HasPassphrase(ctx context.Context, bucket blob.Bucket) (bool, error) {
	slots, _, err := readSlots(ctx, bucket)
	for _, s := range slots {
		if s.typ == PassphraseSlot {
			return true, err
		}
	}
	return false, err
}

// readSlots returns the first maxSlots well-formed slots, and whether there was any blob
// where slots are. Where the copies of a slot differ each counts as one.
func readSlots(ctx context.Context, bucket blob.Bucket) (slots []*slot, some bool, err error) {
	var last []byte
	for info, err := range bucket.List(ctx, slotPrefix) {
		if err != nil {
			return nil, false, fmt.Errorf("list key slots: %w", err)
		}
		some = true
		if info.Size != maxSlot {
			continue
		}
		b, err := ReadBlob(ctx, bucket, info.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrTampered):
			continue
		case err != nil:
			return nil, false, err
		case bytes.Equal(b, last):
			continue
		}
		if s, ok := parseSlot(b); ok && slotName(s.id) == firstName(info.Name) && s.typ != DeviceSlot {
			if slots, last = append(slots, s), b; len(slots) == maxSlots {
				break
			}
		}
	}
	return slots, some, nil
}

// openedSlot is a slot and the root that was in it.
type openedSlot struct {
	slot *slot
	root secret
}

// openSlots tries a secret on every slot of its type, and yields those that it opens. If there is none, it yields one error.
func openSlots(ctx context.Context, bucket blob.Bucket, s Secret, drive DriveID) iter.Seq2[openedSlot, error] {
	return func(yield func(openedSlot, error) bool) {
		typ, material, err := s.kind()
		var slots []*slot
		if err == nil {
			slots, err = s.slots(ctx, bucket, typ)
		}
		if err != nil {
			yield(openedSlot{}, err)
			return
		}
		tried := false
		for _, slot := range slots {
			if slot.typ != typ || !drive.IsZero() && slot.drive != drive {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(openedSlot{}, err)
				return
			}
			tried = true
			m := material(slot)
			if root, ok := slot.unwrap(&m); ok && !yield(openedSlot{slot, root}, nil) {
				return
			}
		}
		if !tried {
			// The same work, so that a slot that was not even tried takes as long as one that
			// did not open.
			dummy := &slot{typ: typ, argon: DefaultArgon}
			m := material(dummy)
			_, _ = dummy.unwrap(&m)
		}
	}
}

// slots returns those that s may open.
func (s Secret) slots(ctx context.Context, bucket blob.Bucket, typ SlotType) ([]*slot, error) {
	if typ == DeviceSlot {
		if own, ok := parseSlot(s.Device.slot); ok && own.drive == s.Device.Drive {
			return []*slot{own}, nil
		}
		return nil, nil
	}
	slots, some, err := readSlots(ctx, bucket)
	if err == nil && !some {
		if versions, err := recordVersions(ctx, bucket); err != nil || len(versions) == 0 {
			return nil, errors.Join(err, ErrNoDrive)
		}
	}
	return slots, err
}

// kind returns which slots s may open, and how the material that opens one comes from s.
func (s Secret) kind() (SlotType, func(*slot) [32]byte, error) {
	switch {
	case len(s.Passphrase) > 0 && s.Recovery == "" && s.Device == nil:
		return PassphraseSlot, func(k *slot) [32]byte { return k.argon.stretch(s.Passphrase, &k.salt) }, nil
	case len(s.Passphrase) == 0 && s.Recovery != "" && s.Device == nil:
		code, err := ParseWords(s.Recovery)
		return RecoverySlot, func(*slot) [32]byte { return code }, err
	case len(s.Passphrase) == 0 && s.Recovery == "" && s.Device != nil:
		var key [32]byte
		if s.Device.key != nil {
			key = *s.Device.key
		} else if _, err := rand.Read(key[:]); err != nil {
			return 0, nil, fmt.Errorf("draw key: %w", err)
		}
		return DeviceSlot, func(*slot) [32]byte { return key }, nil
	}
	return 0, nil, errors.New("unlock: exactly one secret is needed")
}

// putSlot stores a slot and reads it back: before it counts, and an old one counts no more, it must be known to be there.
func (a *Account) putSlot(ctx context.Context, s *slot) error {
	name, b := slotName(s.id), s.bytes()
	if err := putTwice(ctx, a.bucket, name, b); err != nil {
		return err
	}
	for _, n := range []blob.Name{name, spare(name)} {
		back, err := ReadBlob(ctx, a.bucket, n)
		if err != nil {
			return err
		}
		if !bytes.Equal(back, b) {
			return fmt.Errorf("read key slot back: %w", ErrTampered)
		}
	}
	return nil
}

// newPassphrase makes a slot, and checks that it opens. It stores nothing.
func (a *Account) newPassphrase(passphrase []byte, cost Argon) (*slot, error) {
	s, err := newSlot(a.Ring.drive, PassphraseSlot, cost, a.entropy)
	if err != nil {
		return nil, err
	}
	material := cost.stretch(passphrase, &s.salt)
	return s, a.wrapInto(s, &material)
}

func (a *Account) newRecovery() (*slot, string, error) {
	s, err := newSlot(a.Ring.drive, RecoverySlot, Argon{}, a.entropy)
	if err != nil {
		return nil, "", err
	}
	var code [32]byte
	if _, err := io.ReadFull(a.entropy, code[:]); err != nil {
		return nil, "", fmt.Errorf("draw recovery code: %w", err)
	}
	return s, Words(code), a.wrapInto(s, &code)
}

func (a *Account) wrapInto(s *slot, material *[32]byte) error {
	if err := s.wrap((*[32]byte)(&a.root), material, a.entropy); err != nil {
		return err
	}
	if root, ok := s.unwrap(material); !ok || root != a.root {
		return fmt.Errorf("a new key slot does not open: %w", ErrTampered)
	}
	return nil
}

func slotBytes(slots []*slot) [][]byte {
	slices.SortFunc(slots, func(a, b *slot) int { return slices.Compare(a.id[:], b.id[:]) })
	var all [][]byte
	for _, s := range slots {
		all = append(all, s.bytes())
	}
	return all
}

// counts reports whether a slot is one that counts, unaltered.
func (m *Members) counts(s *slot) bool {
	b, ok := m.slots[s.id]
	return ok && bytes.Equal(b, s.bytes())
}

// slotsOf returns the slots of a type that count, in the order in which they came to.
func (m *Members) slotsOf(typ SlotType) []*slot {
	var slots []*slot
	for _, n := range m.order {
		for _, b := range n.e.Slots {
			if s, ok := parseSlot(b); ok && n.void == "" && s.typ == typ && m.counts(s) {
				slots = append(slots, s)
			}
		}
	}
	return slots
}

// changeSlots makes a slot count, if it is not nil, and all those end that end returns. The change is one entry of the members log: it
// happens as a whole or not at all, whatever is in keys/. What is left there of slots that ended counts no more, and is removed as far as it can
// be, now or by a later Unlock.
func (a *Account) changeSlots(ctx context.Context, add *slot, end func(*Members) ([]*slot, error)) error {
	var slots []*slot
	if add != nil {
		if err := a.putSlot(ctx, add); err != nil {
			return err
		}
		slots = append(slots, add)
	}
	err := a.appendEntry(ctx, nil, func(m *Members) (Entry, error) {
		ended, err := end(m)
		var gone []SlotID
		for _, s := range ended {
			gone = append(gone, s.id)
		}
		slices.SortFunc(gone, func(a, b SlotID) int { return slices.Compare(a[:], b[:]) })
		return Entry{Op: OpSlots, Slots: slotBytes(slots), Gone: gone}, err
	})
	if err == nil {
		a.clearBegun(ctx)
		a.clearSlots(ctx)
	}
	return err
}

// began reports whether a slot is one that a change was to make count and did not: it was cut off, or has not come to its end.
func (a *Account) began(m *Members, s *slot) bool {
	return s.typ != DeviceSlot && s.drive == m.from.drive && s.fits(&a.root) && m.slots[s.id] == nil && !m.gone[s.id]
}

// clearBegun removes slots that a change has left that was cut off. If another device is in the middle of one, its slot comes back by its
// entry, when a drive is opened next.
func (a *Account) clearBegun(ctx context.Context) {
	slots, _, err := readSlots(ctx, a.bucket)
	var names []blob.Name
	for _, s := range slots {
		if a.began(a.Members(), s) {
			names = append(names, slotName(s.id), spare(slotName(s.id)))
		}
	}
	if err == nil && len(names) > 0 {
		err = a.bucket.Remove(ctx, names...)
	}
	if err != nil {
		a.log.Warn("key slots of a change that was cut off could not be removed", "err", err)
	}
}

// clearSlots removes the blobs of slots that count no more.
func (a *Account) clearSlots(ctx context.Context) {
	names, err := listFirst(ctx, a.bucket, slotPrefix, func(blob.Name) bool { return true })
	var ended []blob.Name
	for id := range a.Members().gone {
		if slices.Contains(names, slotName(id)) {
			ended = append(ended, slotName(id), spare(slotName(id)))
		}
	}
	if err == nil && len(ended) > 0 {
		err = a.bucket.Remove(ctx, ended...)
	}
	if err != nil {
		a.log.Warn("key slots that open nothing any more could not be removed", "err", err)
	}
}

// SetPassphrase replaces the passphrase: a new slot is written and read back, then one entry of the members log
// makes it count and the old ones end, so there is no moment without one that opens, or with
// both. cost is the zero Argon for DefaultArgon. An empty passphrase ends all passphrase slots; if
// there are no recovery words that is refused with ErrLastSlot. Nothing else is written again.
//
// A slot that has ended opens nothing any more for whoever sees the entry, also if the Bucket puts it back. What this cannot help against:
// a Bucket that shows a new device, which remembers nothing, the drive as it was before; and whoever kept the old slot, knows the old
// passphrase, and does not ask sheaf: he has the root.
func (a *Account) SetPassphrase(ctx context.Context, passphrase []byte, cost Argon) error {
	if cost == (Argon{}) {
		cost = DefaultArgon
	}
	var s *slot
	if len(passphrase) > 0 {
		var err error
		if s, err = a.newPassphrase(passphrase, cost); err != nil {
			return fmt.Errorf("set passphrase: %w", err)
		}
	}
	err := a.changeSlots(ctx, s, func(m *Members) ([]*slot, error) {
		if s == nil && len(m.slotsOf(RecoverySlot)) == 0 {
			return nil, ErrLastSlot
		}
		return m.slotsOf(PassphraseSlot), nil
	})
	if err != nil {
		return fmt.Errorf("set passphrase: %w", err)
	}
	return nil
}

// maxRecovery is the most recovery words that count at a time.
const maxRecovery = 6

// NewRecovery makes new recovery words and returns them. The old ones still count, until RetireRecovery is told the new ones: so at no time do
// only words count that nobody has seen. If words come with an error they may count already.
//
// Of new words that were never given to RetireRecovery the last few count.
func (a *Account) NewRecovery(ctx context.Context) (words string, err error) {
	s, words, err := a.newRecovery()
	if err != nil {
		return "", fmt.Errorf("new recovery words: %w", err)
	}
	err = a.changeSlots(ctx, s, func(m *Members) ([]*slot, error) {
		old := m.slotsOf(RecoverySlot)
		if len(old) < maxRecovery {
			return nil, nil
		}
		return old[1 : 2+len(old)-maxRecovery], nil // the first is the one that was retired for last, or the drive was made with
	})
	if err != nil {
		return words, fmt.Errorf("new recovery words: %w", err)
	}
	return words, nil
}

// RetireRecovery ends all recovery words but those that it is told, which the person has: whoever calls it has shown them to
// him. If they are none that count, the error is ErrWrongSecret, or wraps ErrWords, and nothing changes.
func (a *Account) RetireRecovery(ctx context.Context, words string) error {
	code, err := ParseWords(words)
	if err != nil {
		return fmt.Errorf("retire recovery words: %w", err)
	}
	err = a.changeSlots(ctx, nil, func(m *Members) ([]*slot, error) {
		all := m.slotsOf(RecoverySlot)
		i := slices.IndexFunc(all, func(s *slot) bool { root, ok := s.unwrap(&code); return ok && root == a.root })
		if i < 0 {
			return nil, ErrWrongSecret
		}
		return slices.Delete(all, i, i+1), nil
	})
	if err != nil {
		return fmt.Errorf("retire recovery words: %w", err)
	}
	return nil
}
