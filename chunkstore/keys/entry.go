package keys

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// MaxDevices is the most devices that a drive can ever have had.
const MaxDevices = 512

// MaxDeviceName is the longest name of a device in bytes.
const MaxDeviceName = 255

// Op says what an Entry of the members log does.
type Op uint8

// The operations of format 1.
const (
	OpAdd    Op = 1 // a device becomes a member
	OpRevoke Op = 2 // a device is one no more, and never will be again; a new epoch begins
	OpEpoch  Op = 3 // a new epoch begins; its secret is wrapped to each member
	OpSlots  Op = 4 // key slots begin to count, or end
)

// Roles is what a member may do, a set of bits. Every member may read.
type Roles uint8

// The roles of format 1.
const (
	Writer Roles = 1 << iota // its heads count
	Admin                    // it may add devices
)

const (
	entryFormat  = 1
	entryPairs   = 17
	maxTips      = 256
	memberPrefix = blob.Name("members/")
)

// A Wrap is the secret of an epoch, sealed to one device.
type Wrap struct {
	Device DeviceID
	Sealed []byte
}

// An Entry is one record of the members log. It names the entries that its writer knew as the
// newest, so the log is a graph, and two who write at the same time do not get into each other's way.
// An entry is signed by the owner or by a device, sealed with K(members), and never changed.
type Entry struct {
	Drive   DriveID
	Epoch   uint32 // under which it is sealed: the newest that its writer knew
	Parents Tips   // none in the first
	Op      Op
	Device  DeviceID     // who is added or revoked; else zero
	Public  DevicePublic // of who is added
	Name    string       // how people call who is added
	Roles   Roles        // of who is added
	By      DeviceID     // who signed; zero is the owner
	Wraps   []Wrap       // made by By: of the secret of Next, or else of Epoch
	Last    Mark         // of who is revoked: the last head that counts
	Time    time.Time    // information only
	Next    *NextEpoch   // of OpRevoke and OpEpoch
	Slots   [][]byte     // key slot records that count from now on, by their IDs
	Gone    []SlotID     // slots that count no more, and never will again
}

// NextEpoch begins an epoch.
type NextEpoch struct {
	Number uint32
	Sum    [32]byte // says which secret it is, so that all whom it is wrapped to have the same
	Box    []byte   // the secret under the account root
	Past   []Past   // secrets that this one opens, by number and entry
}

// Past is the secret of an earlier epoch, boxed under that of a later one.
type Past struct {
	Number uint32
	Entry  [32]byte // which began it; zero: the drive record
	Box    []byte
}

// Tips are the newest entries of the members log as somebody knows it: those that no other
// entry comes after. They are in ascending order. With all that they come after they are the log.
type Tips [][32]byte

// Equal reports whether t and u are the same.
func (t Tips) Equal(u Tips) bool { return slices.Equal(t, u) }

// AppendTips appends Tips as CBOR: an array of the hashes.
func AppendTips(b []byte, t Tips) []byte {
	b = cbor.AppendArray(b, len(t))
	for _, h := range t {
		b = cbor.AppendBytes(b, h[:])
	}
	return b
}

// ReadTips reads what AppendTips wrote.
func ReadTips(r *cbor.Reader) (t Tips) {
	n := r.Array()
	if n > maxTips {
		r.Fail("%d entries", n)
	}
	for i := 0; i < n && r.Err() == nil; i++ {
		var h [32]byte
		r.Fixed(h[:])
		if i > 0 && string(t[i-1][:]) >= string(h[:]) {
			r.Fail("entries out of order")
		}
		t = append(t, h)
	}
	return t
}

func (e *Entry) encode() []byte {
	var signKey []byte
	if e.Op == OpAdd {
		signKey = e.Public.Sign[:]
	}
	b := cbor.AppendMap(nil, entryPairs)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), entryFormat)
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), e.Drive[:])
	b = cbor.AppendUint(cbor.AppendUint(b, 3), uint64(e.Epoch))
	b = AppendTips(cbor.AppendUint(b, 4), e.Parents)
	b = cbor.AppendUint(cbor.AppendUint(b, 5), uint64(e.Op))
	b = cbor.AppendBytes(cbor.AppendUint(b, 6), e.Device[:])
	b = cbor.AppendBytes(cbor.AppendUint(b, 7), signKey)
	b = cbor.AppendBytes(cbor.AppendUint(b, 8), e.Public.KEM)
	b = cbor.AppendText(cbor.AppendUint(b, 9), e.Name)
	b = cbor.AppendUint(cbor.AppendUint(b, 10), uint64(e.Roles))
	b = cbor.AppendBytes(cbor.AppendUint(b, 11), e.By[:])
	b = cbor.AppendArray(cbor.AppendUint(b, 12), len(e.Wraps))
	for _, w := range e.Wraps {
		b = cbor.AppendArray(b, 2)
		b = cbor.AppendBytes(b, w.Device[:])
		b = cbor.AppendBytes(b, w.Sealed)
	}
	b = AppendMark(cbor.AppendUint(b, 13), e.Last)
	b = cbor.AppendInt(cbor.AppendUint(b, 14), nanos(e.Time))
	b = e.Next.append(cbor.AppendUint(b, 15))
	b = cbor.AppendArray(cbor.AppendUint(b, 16), len(e.Slots))
	for _, s := range e.Slots {
		b = cbor.AppendBytes(b, s)
	}
	b = cbor.AppendArray(cbor.AppendUint(b, 17), len(e.Gone))
	for _, id := range e.Gone {
		b = cbor.AppendBytes(b, id[:])
	}
	return b
}

func (n *NextEpoch) append(b []byte) []byte {
	if n == nil {
		return cbor.AppendArray(b, 0)
	}
	b = cbor.AppendArray(b, 4)
	b = cbor.AppendUint(b, uint64(n.Number))
	b = cbor.AppendBytes(b, n.Sum[:])
	b = cbor.AppendBytes(b, n.Box)
	b = cbor.AppendArray(b, len(n.Past))
	for _, p := range n.Past {
		b = cbor.AppendArray(b, 3)
		b = cbor.AppendUint(b, uint64(p.Number))
		b = cbor.AppendBytes(b, p.Entry[:])
		b = cbor.AppendBytes(b, p.Box)
	}
	return b
}

func readNext(r *cbor.Reader) *NextEpoch {
	switch n := r.Array(); {
	case n == 0 || r.Err() != nil:
		return nil
	case n != 4:
		r.Fail("an epoch of %d parts", n)
		return nil
	}
	n := &NextEpoch{Number: uint32(r.UintMax(maxEpochs))}
	r.Fixed(n.Sum[:])
	n.Box = fixedBytes(r, secretBox)
	past := r.Array()
	if past > maxEpochs {
		r.Fail("%d past epochs", past)
	}
	for i := 0; i < past && r.Err() == nil; i++ {
		r.ArrayOf(3)
		p := Past{Number: uint32(r.UintMax(maxEpochs))}
		r.Fixed(p.Entry[:])
		p.Box = fixedBytes(r, secretBox)
		if i > 0 && (epoch{number: n.Past[i-1].Number, entry: n.Past[i-1].Entry}).compare(epoch{number: p.Number, entry: p.Entry}) >= 0 {
			r.Fail("past epochs out of order")
		}
		n.Past = append(n.Past, p)
	}
	return n
}

// AppendMark appends a Mark as CBOR: an array of the sequence number and the hash.
func AppendMark(b []byte, m Mark) []byte {
	b = cbor.AppendArray(b, 2)
	b = cbor.AppendUint(b, m.Seq)
	return cbor.AppendBytes(b, m.Hash[:])
}

// ReadMark reads what AppendMark wrote.
func ReadMark(r *cbor.Reader) (m Mark) {
	r.ArrayOf(2)
	m.Seq = r.Uint()
	r.Fixed(m.Hash[:])
	return m
}

func parseEntry(body []byte) (*Entry, error) {
	r := cbor.NewReader(body)
	last := int64(-1)
	pairs, err := readFormat(r, &last, entryFormat)
	if err != nil {
		return nil, err
	}
	if pairs != entryPairs {
		r.Fail("%d pairs", pairs)
	}
	e := new(Entry)
	readKey(r, &last, 2)
	r.Fixed(e.Drive[:])
	readKey(r, &last, 3)
	e.Epoch = uint32(r.UintMax(maxEpochs))
	readKey(r, &last, 4)
	e.Parents = ReadTips(r)
	readKey(r, &last, 5)
	e.Op = Op(r.UintMax(uint64(OpSlots)))
	readKey(r, &last, 6)
	r.Fixed(e.Device[:])
	readKey(r, &last, 7)
	signKey := r.BytesMax(ed25519.PublicKeySize)
	copy(e.Public.Sign[:], signKey)
	readKey(r, &last, 8)
	e.Public.KEM = append([]byte(nil), r.BytesMax(kemPublicSize)...)
	readKey(r, &last, 9)
	e.Name = r.Text()
	readKey(r, &last, 10)
	e.Roles = Roles(r.UintMax(uint64(Writer | Admin)))
	readKey(r, &last, 11)
	r.Fixed(e.By[:])
	readKey(r, &last, 12)
	e.Wraps = readWraps(r)
	readKey(r, &last, 13)
	e.Last = ReadMark(r)
	readKey(r, &last, 14)
	e.Time = time.Unix(0, r.Int())
	readKey(r, &last, 15)
	e.Next = readNext(r)
	readKey(r, &last, 16)
	e.Slots, e.Gone = readSlotChange(r, &last)
	if r.Err() == nil {
		if reason := e.shape(len(signKey)); reason != "" {
			r.Fail("%s", reason)
		}
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return e, nil
}

func readWraps(r *cbor.Reader) []Wrap {
	n := r.Array()
	if n > MaxDevices {
		r.Fail("%d wraps", n)
	}
	var wraps []Wrap
	for i := 0; i < n && r.Err() == nil; i++ {
		var w Wrap
		r.ArrayOf(2)
		r.Fixed(w.Device[:])
		w.Sealed = fixedBytes(r, wrapSize)
		if i > 0 && string(wraps[i-1].Device[:]) >= string(w.Device[:]) {
			r.Fail("wraps out of order")
		}
		wraps = append(wraps, w)
	}
	return wraps
}

// readSlotChange reads keys 16 and 17.
func readSlotChange(r *cbor.Reader, last *int64) (slots [][]byte, gone []SlotID) {
	n := r.Array()
	if n > maxSlots {
		r.Fail("%d slots", n)
	}
	var before SlotID
	for i := 0; i < n && r.Err() == nil; i++ {
		b := append([]byte(nil), r.BytesMax(maxSlot)...)
		s, ok := parseSlot(b)
		if r.Err() == nil && (!ok || s.typ == DeviceSlot || i > 0 && string(before[:]) >= string(s.id[:])) {
			r.Fail("no key slot, or out of order")
		}
		if r.Err() == nil {
			before = s.id
		}
		slots = append(slots, b)
	}
	readKey(r, last, 17)
	if n = r.Array(); n > maxEntries {
		r.Fail("%d slots", n)
	}
	for i := 0; i < n && r.Err() == nil; i++ {
		var id SlotID
		r.Fixed(id[:])
		if i > 0 && string(gone[i-1][:]) >= string(id[:]) {
			r.Fail("slots out of order")
		}
		gone = append(gone, id)
	}
	return slots, gone
}

// shape checks what an Entry must be by itself, and returns what is wrong.
func (e *Entry) shape(signKey int) string {
	if e.Epoch == 0 || len(e.Name) > MaxDeviceName || !utf8.ValidString(e.Name) {
		return "epoch or name out of range"
	}
	add, first := e.Op == OpAdd, len(e.Parents) == 0
	switch {
	case first && (!add || e.By != DeviceID{}):
		return "the first entry is the owner's and adds a device"
	case !add && (signKey != 0 || len(e.Public.KEM) != 0 || e.Name != "" || e.Roles != 0):
		return "keys where none belong"
	case e.Op != OpRevoke && e.Last != Mark{}:
		return "last head where none belongs"
	case (e.Op == OpRevoke || e.Op == OpEpoch) != (e.Next != nil):
		return "a new epoch where none belongs, or none where one does"
	case e.Next != nil && e.Next.Number <= e.Epoch:
		return "the epoch does not rise"
	case e.Op != OpSlots && !first && len(e.Slots)+len(e.Gone) > 0:
		return "key slots where none belong"
	case (e.Op == OpEpoch || e.Op == OpSlots) && e.Device != DeviceID{}:
		return "device where none belongs"
	}
	switch e.Op {
	case OpAdd:
		if signKey != ed25519.PublicKeySize || len(e.Public.KEM) != kemPublicSize || e.Device != e.Public.ID() {
			return "keys do not fit the device"
		}
		if _, err := kem().NewPublicKey(e.Public.KEM); err != nil {
			return "not a public key"
		}
		if len(e.Wraps) != 1 || e.Wraps[0].Device != e.Device {
			return "no wrap for the device"
		}
	case OpSlots:
		if len(e.Wraps) != 0 {
			return "wrap where none belongs"
		}
	case OpRevoke, OpEpoch:
	default:
		return "operation is not known"
	}
	return ""
}

// entryName is the name of an entry's blob: the beginning of its hash, which tells nothing of it.
func entryName(hash [32]byte) blob.Name {
	return memberPrefix + blob.Name(hex.EncodeToString(hash[:16]))
}

// isEntryName reports whether an entry may have this name.
func isEntryName(name blob.Name) bool {
	if len(name) != len(memberPrefix)+32 || name[:len(memberPrefix)] != memberPrefix {
		return false
	}
	b, err := hex.DecodeString(string(name[len(memberPrefix):]))
	return err == nil && name == memberPrefix+blob.Name(hex.EncodeToString(b))
}

// openEntry opens the blob of an entry and checks all but its signature and its place in the log.
func openEntry(ring *Ring, name blob.Name, b []byte) (*Entry, Signed, error) {
	plain, number, err := ring.OpenBlob(kdf.Members, name, b)
	if err != nil {
		return nil, Signed{}, err
	}
	s, err := ParseSigned(plain)
	if err != nil {
		return nil, Signed{}, fmt.Errorf("open %s: %w", name, err)
	}
	e, err := parseEntry(s.Body)
	if err != nil {
		return nil, Signed{}, fmt.Errorf("open %s: %w", name, err)
	}
	if e.Drive != ring.drive || e.Epoch != number || entryName(s.Hash()) != name {
		return nil, Signed{}, fmt.Errorf("open %s: %w: it is another entry", name, ErrTampered)
	}
	return e, s, nil
}
