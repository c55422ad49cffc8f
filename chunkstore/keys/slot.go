package keys

import (
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"

	"golang.org/x/crypto/argon2"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// SlotID names a key slot: 16 random bytes.
type SlotID [16]byte

// String returns the ID in hexadecimal.
func (id SlotID) String() string { return hex.EncodeToString(id[:]) }

// SlotType says what kind of secret opens a slot.
type SlotType uint8

// The types of slots of format 1.
const (
	PassphraseSlot SlotType = 1 // a passphrase, stretched by Argon2id
	RecoverySlot   SlotType = 2 // the 24 recovery words
	DeviceSlot     SlotType = 3 // a key file on one device; its record lies there too, never in the Bucket
)

// context returns the context of the wrapping key, "" for an unknown type.
func (t SlotType) context() kdf.Context {
	switch t {
	case PassphraseSlot:
		return kdf.SlotPass
	case RecoverySlot:
		return kdf.SlotRecovery
	case DeviceSlot:
		return kdf.SlotDevice
	}
	return ""
}

// String names the type.
func (t SlotType) String() string {
	switch t {
	case PassphraseSlot:
		return "passphrase"
	case RecoverySlot:
		return "recovery"
	case DeviceSlot:
		return "device"
	}
	return fmt.Sprintf("slot type(%d)", uint8(t))
}

// Argon is the cost of a passphrase: the parameters of Argon2id (RFC 9106).
type Argon struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

// DefaultArgon is the cost of a new passphrase slot.
var DefaultArgon = Argon{Memory: 256 << 10, Time: 3, Threads: 4}

// The limits of Argon. The floor holds against a store that offers a weaker slot (attack
// A8), the ceiling against one that would have us run out of memory.
const (
	minArgonMemory  = 64 << 10
	maxArgonMemory  = 4 << 20
	maxArgonMemory3 = 1 << 20 // where an address has 32 bits
	minArgonTime    = 3
	maxArgonTime    = 64
	maxArgonThreads = 64
)

// Check returns an error that wraps ErrCost unless a is within the limits: 64 MiB to 4
// GiB (1 GiB where an address has 32 bits), 3 to 64 passes, 1 to 64 threads.
func (a Argon) Check() error {
	limit := uint32(maxArgonMemory)
	if strconv.IntSize == 32 {
		limit = maxArgonMemory3
	}
	if a.Memory < minArgonMemory || a.Memory > limit || a.Time < minArgonTime || a.Time > maxArgonTime ||
		a.Threads < 1 || a.Threads > maxArgonThreads {
		return fmt.Errorf("%w: %d KiB, %d passes, %d threads", ErrCost, a.Memory, a.Time, a.Threads)
	}
	return nil
}

// argonID is the number of Argon2id in a slot record.
const argonID = 1

const (
	slotMagic  = "SHEAFKEY"
	slotFormat = 1
	slotHead   = len(slotMagic) + 4
	slotBox    = 32 + boxOverhead
	maxSlot    = 1 << 10 // every slot record is this long
)

// A slot is one key slot record: the account root, sealed under a key that comes from
// one secret, and what is needed to try that secret. All but the root is clear.
type slot struct {
	drive DriveID
	id    SlotID
	typ   SlotType
	argon Argon // of a passphrase
	salt  [32]byte
	box   [slotBox]byte
	mac   [32]byte // by a key from the root, over all the rest
}

// The parts of a slot record, from the front.
const (
	slotClear = iota // what the box is bound to
	slotBoxed        // what the mac is over
	slotWhole
)

func (s *slot) encode(part int) []byte {
	n := 5 + part
	if s.typ == PassphraseSlot {
		n++
	}
	b := cbor.AppendMap(nil, n)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), slotFormat)
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), s.drive[:])
	b = cbor.AppendBytes(cbor.AppendUint(b, 3), s.id[:])
	b = cbor.AppendUint(cbor.AppendUint(b, 4), uint64(s.typ))
	if s.typ == PassphraseSlot {
		b = cbor.AppendArray(cbor.AppendUint(b, 5), 4)
		b = cbor.AppendUint(b, argonID)
		b = cbor.AppendUint(b, uint64(s.argon.Memory))
		b = cbor.AppendUint(b, uint64(s.argon.Time))
		b = cbor.AppendUint(b, uint64(s.argon.Threads))
	}
	b = cbor.AppendBytes(cbor.AppendUint(b, 6), s.salt[:])
	if part >= slotBoxed {
		b = cbor.AppendBytes(cbor.AppendUint(b, 7), s.box[:])
	}
	if part >= slotWhole {
		b = cbor.AppendBytes(cbor.AppendUint(b, 8), s.mac[:])
	}
	return b
}

// bytes returns the record as it is stored: magic, length, CBOR, zeros.
func (s *slot) bytes() []byte {
	body := s.encode(slotWhole)
	b := make([]byte, maxSlot)
	copy(b, slotMagic)
	binary.BigEndian.PutUint32(b[len(slotMagic):], uint32(len(body)))
	copy(b[slotHead:], body)
	return b
}

// parseSlot is the inverse of bytes. It refuses every cost outside of the limits.
// Nothing that it returns is authentic before unwrap has opened it. It reports false
// for all that it refuses, and does not say why.
func parseSlot(b []byte) (*slot, bool) {
	if len(b) != maxSlot || string(b[:len(slotMagic)]) != slotMagic {
		return nil, false
	}
	n := binary.BigEndian.Uint32(b[len(slotMagic):])
	if n > maxSlot-uint32(slotHead) || !allZero(b[slotHead+int(n):]) {
		return nil, false
	}
	r := cbor.NewReader(b[slotHead : slotHead+int(n)])
	s := new(slot)
	pairs := r.Map()
	last := int64(-1)
	for range pairs {
		switch key := r.Key(&last); key {
		case 1:
			if r.Uint() != slotFormat {
				r.Fail("format")
			}
		case 2:
			r.Fixed(s.drive[:])
		case 3:
			r.Fixed(s.id[:])
		case 4:
			s.typ = SlotType(r.UintMax(255))
		case 5:
			s.argon = readArgon(r)
		case 6:
			r.Fixed(s.salt[:])
		case 7:
			r.Fixed(s.box[:])
		case 8:
			r.Fixed(s.mac[:])
		default:
			r.Fail("key %d", key)
		}
	}
	if r.Close() != nil || s.typ.context() == "" {
		return nil, false
	}
	if s.typ == PassphraseSlot && s.argon.Check() != nil {
		return nil, false
	}
	// A record with a part missing or one too many is encoded otherwise.
	return s, string(s.bytes()) == string(b)
}

func readArgon(r *cbor.Reader) Argon {
	r.ArrayOf(4)
	if r.Uint() != argonID {
		r.Fail("not Argon2id")
	}
	return Argon{
		Memory:  uint32(r.UintMax(1<<32 - 1)),
		Time:    uint32(r.UintMax(1<<32 - 1)),
		Threads: uint8(r.UintMax(255)),
	}
}

// stretch turns a passphrase into the 32 bytes that wrap goes by.
func (a Argon) stretch(passphrase []byte, salt *[32]byte) [32]byte {
	var out [32]byte
	copy(out[:], argon2.IDKey(passphrase, salt[:], a.Time, a.Memory, a.Threads, 32))
	return out
}

// wrappingKey returns the key of the box. material is the stretched passphrase, the
// recovery code or the device key.
func (s *slot) wrappingKey(material *[32]byte) [32]byte {
	return kdf.Key(s.typ.context(), material[:], s.salt[:], s.drive[:])
}

func (s *slot) sum(root *secret) [32]byte {
	key := kdf.Key(kdf.RootSlots, root[:])
	return kdf.Keyed(&key, s.encode(slotBoxed))
}

// newSlot draws a slot's ID and salt. wrap fills in the rest.
func newSlot(drive DriveID, typ SlotType, a Argon, entropy io.Reader) (*slot, error) {
	s := &slot{drive: drive, typ: typ}
	if typ == PassphraseSlot {
		if err := a.Check(); err != nil {
			return nil, err
		}
		s.argon = a
	}
	for _, p := range [][]byte{s.id[:], s.salt[:]} {
		if _, err := io.ReadFull(entropy, p); err != nil {
			return nil, fmt.Errorf("draw slot: %w", err)
		}
	}
	return s, nil
}

func (s *slot) wrap(root, material *[32]byte, entropy io.Reader) error {
	key := s.wrappingKey(material)
	sealed, err := box(&key, s.encode(slotClear), root[:], entropy)
	if err != nil {
		return fmt.Errorf("wrap root: %w", err)
	}
	copy(s.box[:], sealed)
	s.mac = s.sum((*secret)(root))
	return nil
}

// unwrap returns the root if material is the right secret and no bit of the record
// was altered. The mac also commits the box to its key: a box that opens under two keys
// gives two roots, and the mac fits one.
func (s *slot) unwrap(material *[32]byte) (root secret, ok bool) {
	key := s.wrappingKey(material)
	plain, ok := unbox(&key, s.encode(slotClear), s.box[:])
	if !ok || len(plain) != len(root) {
		return secret{}, false
	}
	copy(root[:], plain)
	if !s.fits(&root) {
		return secret{}, false
	}
	return root, true
}

// fits reports whether the record is one that the holder of root wrote, without the secret
// of the slot.
func (s *slot) fits(root *secret) bool {
	sum := s.sum(root)
	return subtle.ConstantTimeCompare(sum[:], s.mac[:]) == 1
}

const slotPrefix blob.Name = "keys/"

func slotName(id SlotID) blob.Name { return slotPrefix + blob.Name(id.String()) }
