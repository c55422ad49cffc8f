package keys

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"

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
// where slots are.
func readSlots(ctx context.Context, bucket blob.Bucket) (slots []*slot, some bool, err error) {
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
		}
		if s, ok := parseSlot(b); ok && slotName(s.id) == info.Name && s.typ != DeviceSlot {
			if slots = append(slots, s); len(slots) == maxSlots {
				break
			}
		}
	}
	return slots, some, nil
}

// openSlots tries a secret on every slot of its type.
func openSlots(ctx context.Context, bucket blob.Bucket, s Secret, drive DriveID) (secret, DriveID, error) {
	typ, material, err := s.kind()
	if err != nil {
		return secret{}, DriveID{}, err
	}
	var slots []*slot
	if typ == DeviceSlot {
		if own, ok := parseSlot(s.Device.slot); ok && own.drive == s.Device.Drive {
			slots = append(slots, own)
		}
	} else {
		var some bool
		if slots, some, err = readSlots(ctx, bucket); err != nil {
			return secret{}, DriveID{}, err
		}
		if !some {
			if versions, err := recordVersions(ctx, bucket); err != nil || len(versions) == 0 {
				return secret{}, DriveID{}, errors.Join(err, ErrNoDrive)
			}
		}
	}
	tried := false
	for _, slot := range slots {
		if slot.typ != typ || !drive.IsZero() && slot.drive != drive {
			continue
		}
		if err := ctx.Err(); err != nil {
			return secret{}, DriveID{}, err
		}
		tried = true
		m := material(slot)
		if root, ok := slot.unwrap(&m); ok {
			return root, slot.drive, nil
		}
	}
	if !tried {
		// The same work, so that a slot that was not even tried takes as long as one that
		// did not open.
		dummy := &slot{typ: typ, argon: DefaultArgon}
		m := material(dummy)
		_, _ = dummy.unwrap(&m)
	}
	return secret{}, DriveID{}, ErrWrongSecret
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

// putSlot stores a slot and reads it back: before an old slot is removed, the new one
// must be known to open.
func (a *Account) putSlot(ctx context.Context, s *slot, material *[32]byte) error {
	if err := s.wrap((*[32]byte)(&a.root), material, a.entropy); err != nil {
		return err
	}
	b := s.bytes()
	if err := a.bucket.Put(ctx, slotName(s.id), bytes.NewReader(b), int64(len(b))); err != nil {
		return fmt.Errorf("put key slot: %w", err)
	}
	back, err := ReadBlob(ctx, a.bucket, slotName(s.id))
	if err != nil {
		return err
	}
	again, ok := parseSlot(back)
	if !ok {
		return fmt.Errorf("read key slot back: %w", ErrTampered)
	}
	if root, ok := again.unwrap(material); !ok || root != a.root {
		return fmt.Errorf("read key slot back: %w", ErrTampered)
	}
	return nil
}

func (a *Account) addPassphrase(ctx context.Context, passphrase []byte, cost Argon) (SlotID, error) {
	s, err := newSlot(a.Ring.drive, PassphraseSlot, cost, a.entropy)
	if err != nil {
		return SlotID{}, err
	}
	material := cost.stretch(passphrase, &s.salt)
	return s.id, a.putSlot(ctx, s, &material)
}

func (a *Account) addRecovery(ctx context.Context) (words string, err error) {
	_, words, err = a.newRecovery(ctx)
	return words, err
}

func (a *Account) newRecovery(ctx context.Context) (SlotID, string, error) {
	s, err := newSlot(a.Ring.drive, RecoverySlot, Argon{}, a.entropy)
	if err != nil {
		return SlotID{}, "", err
	}
	var code [32]byte
	if _, err := io.ReadFull(a.entropy, code[:]); err != nil {
		return SlotID{}, "", fmt.Errorf("draw recovery code: %w", err)
	}
	return s.id, Words(code), a.putSlot(ctx, s, &code)
}

// removeSlots removes the slots of a type but one. Only slots that this drive's owner wrote
// are touched; with what else lies there Verify deals.
func (a *Account) removeSlots(ctx context.Context, typ SlotType, but SlotID) error {
	slots, err := a.ownSlots(ctx)
	if err != nil {
		return err
	}
	var names []blob.Name
	for _, s := range slots {
		if s.typ == typ && s.id != but {
			names = append(names, slotName(s.id))
		}
	}
	if err := a.bucket.Remove(ctx, names...); err != nil {
		return fmt.Errorf("remove key slots: %w", err)
	}
	return nil
}

// ownSlots returns the slots that were written by whoever holds the root, unaltered.
func (a *Account) ownSlots(ctx context.Context) ([]*slot, error) {
	slots, _, err := readSlots(ctx, a.bucket)
	var own []*slot
	for _, s := range slots {
		if s.drive == a.Ring.drive && s.fits(&a.root) {
			own = append(own, s)
		}
	}
	return own, err
}

// SetPassphrase replaces the passphrase: a new slot is written and read back, then the
// old ones are removed, so there is no moment without one that opens. cost is the
// zero Argon for DefaultArgon. An empty passphrase removes all passphrase slots; if
// no recovery slot would be left that is refused with ErrLastSlot. Nothing
// else is written again. Whoever kept the old slot and knows the old passphrase
// has the root still; against him only new epochs help.
func (a *Account) SetPassphrase(ctx context.Context, passphrase []byte, cost Argon) error {
	if cost == (Argon{}) {
		cost = DefaultArgon
	}
	var id SlotID
	if len(passphrase) == 0 {
		slots, err := a.ownSlots(ctx)
		if err != nil {
			return fmt.Errorf("remove passphrase: %w", err)
		}
		words := false
		for _, s := range slots {
			words = words || s.typ == RecoverySlot
		}
		if !words {
			return fmt.Errorf("remove passphrase: %w", ErrLastSlot)
		}
	} else {
		var err error
		if id, err = a.addPassphrase(ctx, passphrase, cost); err != nil {
			return fmt.Errorf("set passphrase: %w", err)
		}
	}
	if err := a.removeSlots(ctx, PassphraseSlot, id); err != nil {
		return fmt.Errorf("set passphrase: %w", err)
	}
	return nil
}

// NewRecovery replaces the recovery words and returns the new ones. The old slots are
// removed once the new one is known to open. If the error comes after that, the new words are valid
// already, so they are returned with it and the caller shows them.
func (a *Account) NewRecovery(ctx context.Context) (words string, err error) {
	id, words, err := a.newRecovery(ctx)
	if err != nil {
		return "", fmt.Errorf("new recovery words: %w", err)
	}
	if err := a.removeSlots(ctx, RecoverySlot, id); err != nil {
		return words, fmt.Errorf("new recovery words: %w", err)
	}
	return words, nil
}
