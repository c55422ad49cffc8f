package keys

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"strconv"
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
	OpRevoke Op = 2 // a device is one no more, and never will be again
	OpEpoch  Op = 3 // a new epoch begins; its secret is wrapped to each member
)

// Roles is what a member may do, a set of bits. Every member may read.
type Roles uint8

// The roles of format 1.
const (
	Writer Roles = 1 << iota // its heads count
	Admin                    // it may sign entries of the members log
)

const (
	entryFormat  = 1
	entryPairs   = 15
	maxSequence  = 1<<32 - 1
	memberPrefix = blob.Name("members/")
)

// A Wrap is the secret of an epoch, sealed to one device.
type Wrap struct {
	Device DeviceID
	Sealed []byte
}

// An Entry is one record of the members log. The log is a chain from sequence number 1,
// each entry naming the hash of the one before. Every entry is signed by the owner or
// by a device that was an Admin before it, and sealed with K(members).
type Entry struct {
	Drive  DriveID
	Epoch  uint32 // the one that began with this entry or was the newest then
	Seq    uint64
	Prev   [32]byte // zero in the first
	Op     Op
	Device DeviceID     // who is added or revoked; zero for OpEpoch
	Public DevicePublic // of who is added
	Name   string       // how people call who is added
	Roles  Roles        // of who is added
	By     DeviceID     // who signed; zero is the owner
	Wraps  []Wrap       // of the secret of Epoch, made by By
	Last   Mark         // of who is revoked: the last head that counts
	Time   time.Time    // information only
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
	b = cbor.AppendUint(cbor.AppendUint(b, 4), e.Seq)
	b = cbor.AppendBytes(cbor.AppendUint(b, 5), e.Prev[:])
	b = cbor.AppendUint(cbor.AppendUint(b, 6), uint64(e.Op))
	b = cbor.AppendBytes(cbor.AppendUint(b, 7), e.Device[:])
	b = cbor.AppendBytes(cbor.AppendUint(b, 8), signKey)
	b = cbor.AppendBytes(cbor.AppendUint(b, 9), e.Public.KEM)
	b = cbor.AppendText(cbor.AppendUint(b, 10), e.Name)
	b = cbor.AppendUint(cbor.AppendUint(b, 11), uint64(e.Roles))
	b = cbor.AppendBytes(cbor.AppendUint(b, 12), e.By[:])
	b = cbor.AppendArray(cbor.AppendUint(b, 13), len(e.Wraps))
	for _, w := range e.Wraps {
		b = cbor.AppendArray(b, 2)
		b = cbor.AppendBytes(b, w.Device[:])
		b = cbor.AppendBytes(b, w.Sealed)
	}
	b = AppendMark(cbor.AppendUint(b, 14), e.Last)
	return cbor.AppendInt(cbor.AppendUint(b, 15), nanos(e.Time))
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
	e.Seq = r.UintMax(maxSequence)
	readKey(r, &last, 5)
	r.Fixed(e.Prev[:])
	readKey(r, &last, 6)
	e.Op = Op(r.UintMax(uint64(OpEpoch)))
	readKey(r, &last, 7)
	r.Fixed(e.Device[:])
	readKey(r, &last, 8)
	signKey := r.BytesMax(ed25519.PublicKeySize)
	copy(e.Public.Sign[:], signKey)
	readKey(r, &last, 9)
	e.Public.KEM = append([]byte(nil), r.BytesMax(kemPublicSize)...)
	readKey(r, &last, 10)
	e.Name = r.Text()
	readKey(r, &last, 11)
	e.Roles = Roles(r.UintMax(uint64(Writer | Admin)))
	readKey(r, &last, 12)
	r.Fixed(e.By[:])
	readKey(r, &last, 13)
	e.Wraps = readWraps(r)
	readKey(r, &last, 14)
	e.Last = ReadMark(r)
	readKey(r, &last, 15)
	e.Time = time.Unix(0, r.Int())
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

// shape checks what an Entry must be by itself, and returns what is wrong.
func (e *Entry) shape(signKey int) string {
	if e.Epoch == 0 || e.Seq == 0 || len(e.Name) > MaxDeviceName || !utf8.ValidString(e.Name) {
		return "epoch, sequence number or name out of range"
	}
	add := e.Op == OpAdd
	switch {
	case !add && (signKey != 0 || len(e.Public.KEM) != 0 || e.Name != "" || e.Roles != 0):
		return "keys where none belong"
	case e.Op != OpRevoke && e.Last != Mark{}:
		return "last head where none belongs"
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
	case OpRevoke:
		if len(e.Wraps) != 0 {
			return "wrap where none belongs"
		}
	case OpEpoch:
		if e.Device != (DeviceID{}) {
			return "device where none belongs"
		}
	default:
		return "operation is not known"
	}
	return ""
}

// entryName is the name of an entry's blob: its sequence number and the beginning of its hash.
func entryName(m Mark) blob.Name {
	return memberPrefix + blob.Name(fmt.Sprintf("%08x-%x", m.Seq, m.Hash[:8]))
}

// entrySeq reads the sequence number in a name. It is strict: there is one way to write it.
func entrySeq(name blob.Name) (uint64, bool) {
	if len(name) != len(memberPrefix)+8+1+16 || name[:len(memberPrefix)] != memberPrefix {
		return 0, false
	}
	rest := string(name[len(memberPrefix):])
	n, err := strconv.ParseUint(rest[:8], 16, 32)
	prefix, err2 := hex.DecodeString(rest[9:])
	return n, err == nil && err2 == nil && n > 0 && rest == fmt.Sprintf("%08x-%x", n, prefix)
}

// openEntry opens the blob of an entry and checks all but its signature and its place in the chain.
func openEntry(ring *Ring, name blob.Name, b []byte) (*Entry, Signed, error) {
	epoch, err := BlobEpoch(b)
	if err != nil {
		return nil, Signed{}, fmt.Errorf("open %s: %w", name, err)
	}
	key, ok := ring.DeriveEpoch(kdf.Members, epoch)
	if !ok {
		return nil, Signed{}, fmt.Errorf("open %s: %w: epoch %d", name, ErrTampered, epoch)
	}
	plain, err := OpenBlob(&key, kdf.Members, name, b)
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
	if e.Drive != ring.drive || e.Epoch != epoch || entryName(Mark{e.Seq, s.Hash()}) != name {
		return nil, Signed{}, fmt.Errorf("open %s: %w: it is another entry", name, ErrTampered)
	}
	return e, s, nil
}
