package refs

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

// A head that says where chunks are has format 3, else one that says nothing about garbage collection has format 1.
const (
	headFormat = 3
	nearPairs  = 14
	headPairs  = 13
	plainPairs = 11
	headFloor  = 4 << 10   // no head's blob is shorter
	maxHead    = 128 << 10 // nor longer, with MaxDevices in all its lists
	prefix     = blob.Name("heads/")
)

// MaxNear is of how many chunks a head says where they are, at most.
const MaxNear = 32

// A Head says where one device's state of the drive is. Heads of one device are a
// chain, numbered from 1, each signed and naming the one before. A Head is a
// value; its slices must not be changed.
type Head struct {
	Device  keys.DeviceID
	Seq     uint64
	Prev    [32]byte // hash of head Seq-1, zero for the first
	Epoch   uint32
	Root    chunk.Ref      // a manifest.Snapshot
	Context causal.Context // what that snapshot has seen
	Members keys.Tips      // the members log as the device knew it
	Seen    []Seen         // the newest heads of others as the device knew them, by device
	Time    time.Time      // information only

	Collection Collection // what the device is about to remove
	Agreed     []Agreed   // what of others it needs no more, by device
	Near       []Near     // where what is read first of Root was when the device wrote it, by ID

	hash [32]byte
}

// A Collection is a list of packs that a device has put and is about to remove. It is the zero Collection if there are none.
type Collection struct {
	Number uint64    // no two of a device have the same
	Packs  chunk.Ref // their names
}

// Agreed is a device's word that it makes nothing need the packs of another one's Collection any more. What its head with this word, and
// each after it, does not reach, it does not need.
type Agreed struct {
	Device keys.DeviceID
	Number uint64
}

// Near says where a chunk was. Nobody may rely on it: the chunk may have been moved since. It spares a device that knows nothing yet to look for
// what it needs first.
type Near struct {
	ID       chunk.ID
	Pack     [32]byte
	Off, Len uint32 // bytes
}

// Agrees reports whether h has the device's word on that collection.
func (h Head) Agrees(of keys.DeviceID, number uint64) bool {
	return slices.Contains(h.Agreed, Agreed{of, number})
}

// Sees returns the sequence number of the newest head of a device that h's device knew, 0 for none.
func (h Head) Sees(id keys.DeviceID) uint64 {
	for _, s := range h.Seen {
		if s.Device == id {
			return s.Mark.Seq
		}
	}
	return 0
}

// Seen is one device's word on another one's newest head.
type Seen struct {
	Device keys.DeviceID
	Mark   keys.Mark
}

// Mark returns the place of h in its chain.
func (h Head) Mark() keys.Mark { return keys.Mark{Seq: h.Seq, Hash: h.hash} }

func (h Head) encode(drive keys.DriveID) []byte {
	format, pairs := uint64(headFormat), nearPairs
	switch {
	case len(h.Near) > 0:
	case h.Collection == (Collection{}) && len(h.Agreed) == 0:
		format, pairs = 1, plainPairs
	default:
		format, pairs = 2, headPairs
	}
	b := cbor.AppendMap(nil, pairs)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), format)
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), drive[:])
	b = cbor.AppendUint(cbor.AppendUint(b, 3), uint64(h.Epoch))
	b = cbor.AppendBytes(cbor.AppendUint(b, 4), h.Device[:])
	b = cbor.AppendUint(cbor.AppendUint(b, 5), h.Seq)
	b = cbor.AppendBytes(cbor.AppendUint(b, 6), h.Prev[:])
	b = cbor.AppendBytes(cbor.AppendUint(b, 7), h.Root.Append(nil))
	b = cbor.AppendArray(cbor.AppendUint(b, 8), len(h.Context))
	for _, s := range h.Context {
		b = cbor.AppendArray(b, 2)
		b = cbor.AppendUint(b, uint64(s.Device))
		b = cbor.AppendUint(b, s.Counter)
	}
	b = keys.AppendTips(cbor.AppendUint(b, 9), h.Members)
	b = cbor.AppendArray(cbor.AppendUint(b, 10), len(h.Seen))
	for _, s := range h.Seen {
		b = cbor.AppendArray(b, 2)
		b = cbor.AppendBytes(b, s.Device[:])
		b = keys.AppendMark(b, s.Mark)
	}
	var at int64
	if !h.Time.IsZero() {
		at = h.Time.UnixNano()
	}
	b = cbor.AppendInt(cbor.AppendUint(b, 11), at)
	if format == 1 {
		return b
	}
	if b = cbor.AppendUint(b, 12); h.Collection == (Collection{}) {
		b = cbor.AppendArray(b, 0)
	} else {
		b = cbor.AppendUint(cbor.AppendArray(b, 2), h.Collection.Number)
		b = cbor.AppendBytes(b, h.Collection.Packs.Append(nil))
	}
	b = cbor.AppendArray(cbor.AppendUint(b, 13), len(h.Agreed))
	for _, a := range h.Agreed {
		b = cbor.AppendBytes(cbor.AppendArray(b, 2), a.Device[:])
		b = cbor.AppendUint(b, a.Number)
	}
	if format == 2 {
		return b
	}
	b = cbor.AppendArray(cbor.AppendUint(b, 14), len(h.Near))
	for _, n := range h.Near {
		b = cbor.AppendBytes(cbor.AppendArray(b, 4), n.ID[:])
		b = cbor.AppendBytes(b, n.Pack[:])
		b = cbor.AppendUint(b, uint64(n.Off))
		b = cbor.AppendUint(b, uint64(n.Len))
	}
	return b
}

// parseHead is the inverse of encode. It accepts nothing that encode would not have
// written. The error wraps ErrTampered, or ErrFormat for a newer format.
func parseHead(body []byte) (h Head, drive keys.DriveID, err error) {
	r := cbor.NewReader(body)
	last := int64(-1)
	key := func(want uint64) {
		if got := r.Key(&last); r.Err() == nil && got != want {
			r.Fail("key %d where %d was due", got, want)
		}
	}
	pairs := r.Map()
	key(1)
	format := r.Uint()
	if r.Err() == nil && format > headFormat {
		return Head{}, drive, fmt.Errorf("%w: head of format %d", ErrFormat, format)
	}
	if want := map[uint64]int{1: plainPairs, 2: headPairs, 3: nearPairs}[format]; pairs != want {
		r.Fail("format %d, %d pairs", format, pairs)
	}
	key(2)
	r.Fixed(drive[:])
	key(3)
	h.Epoch = uint32(r.UintMax(1<<32 - 1))
	key(4)
	r.Fixed(h.Device[:])
	key(5)
	h.Seq = r.Uint()
	key(6)
	r.Fixed(h.Prev[:])
	key(7)
	ref := r.BytesMax(chunk.RefSize)
	if r.Err() == nil {
		if h.Root, err = chunk.ParseRef(ref); err != nil {
			r.Fail("%v", err)
		}
	}
	key(8)
	h.Context = readContext(r)
	key(9)
	h.Members = keys.ReadTips(r)
	key(10)
	h.Seen = readSeen(r)
	key(11)
	if at := r.Int(); at != 0 {
		h.Time = time.Unix(0, at)
	}
	if format >= 2 {
		key(12)
		h.Collection = readCollection(r)
		key(13)
		h.Agreed = readAgreed(r)
		if r.Err() == nil && format == 2 && h.Collection == (Collection{}) && len(h.Agreed) == 0 {
			r.Fail("format 2 for a head of format 1")
		}
	}
	if format == 3 {
		key(14)
		h.Near = readNear(r)
	}
	if r.Err() == nil && (h.Seq == 0 || h.Root.Kind != chunk.Snapshot || len(h.Members) == 0 || (h.Seq == 1) != (h.Prev == [32]byte{})) {
		r.Fail("sequence number, root or link out of range")
	}
	if err := r.Close(); err != nil {
		return Head{}, drive, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return h, drive, nil
}

func readContext(r *cbor.Reader) causal.Context {
	n := r.Array()
	if n > keys.MaxDevices {
		r.Fail("context of %d devices", n)
	}
	var c causal.Context
	for i := 0; i < n && r.Err() == nil; i++ {
		r.ArrayOf(2)
		c = append(c, causal.Seen{Device: causal.Device(r.Uint()), Counter: r.Uint()})
	}
	if r.Err() == nil && !c.Valid() {
		r.Fail("context out of order")
	}
	return c
}

func readSeen(r *cbor.Reader) []Seen {
	n := r.Array()
	if n > keys.MaxDevices {
		r.Fail("%d heads seen", n)
	}
	var seen []Seen
	for i := 0; i < n && r.Err() == nil; i++ {
		var s Seen
		r.ArrayOf(2)
		r.Fixed(s.Device[:])
		s.Mark = keys.ReadMark(r)
		if s.Mark.Seq == 0 || i > 0 && string(seen[i-1].Device[:]) >= string(s.Device[:]) {
			r.Fail("heads seen out of order")
		}
		seen = append(seen, s)
	}
	return seen
}

func readCollection(r *cbor.Reader) (c Collection) {
	switch n := r.Array(); n {
	case 0:
		return c
	case 2:
	default:
		r.Fail("a collection of %d parts", n)
		return c
	}
	c.Number = r.Uint()
	ref := r.BytesMax(chunk.RefSize)
	if r.Err() != nil {
		return c
	}
	var err error
	if c.Packs, err = chunk.ParseRef(ref); err != nil || c.Number == 0 || c.Packs.Kind != chunk.Data {
		r.Fail("collection out of range")
	}
	return c
}

func readAgreed(r *cbor.Reader) []Agreed {
	n := r.Array()
	if n > keys.MaxDevices {
		r.Fail("%d collections agreed to", n)
	}
	var agreed []Agreed
	for i := 0; i < n && r.Err() == nil; i++ {
		var a Agreed
		r.ArrayOf(2)
		r.Fixed(a.Device[:])
		a.Number = r.Uint()
		if a.Number == 0 || i > 0 && string(agreed[i-1].Device[:]) >= string(a.Device[:]) {
			r.Fail("collections agreed to out of order")
		}
		agreed = append(agreed, a)
	}
	return agreed
}

func readNear(r *cbor.Reader) []Near {
	n := r.Array()
	if n == 0 || n > MaxNear {
		r.Fail("%d chunks are near", n)
	}
	var near []Near
	for i := 0; i < n && r.Err() == nil; i++ {
		var a Near
		r.ArrayOf(4)
		r.Fixed(a.ID[:])
		r.Fixed(a.Pack[:])
		a.Off = uint32(r.UintMax(1<<32 - 1))
		a.Len = uint32(r.UintMax(1<<32 - 1))
		if i > 0 && string(near[i-1].ID[:]) >= string(a.ID[:]) {
			r.Fail("what is near is out of order")
		}
		near = append(near, a)
	}
	return near
}

// folder returns where the heads of a device lie. It is a pseudonym: a keyed hash of the
// device ID under a key of the first epoch, which every member has, so it never changes.
func folder(ring *keys.Ring, id keys.DeviceID) blob.Name {
	key, _ := ring.DeriveEpoch(kdf.HeadName, 1)
	sum := kdf.Keyed(&key, id[:])
	return prefix + blob.Name(fmt.Sprintf("%x/", sum[:16]))
}

func headName(dir blob.Name, seq uint64) blob.Name {
	return dir + blob.Name(fmt.Sprintf("%016x", seq))
}

// splitName is the inverse of headName. It is strict: one head has one name.
func splitName(name blob.Name) (dir blob.Name, seq uint64, ok bool) {
	i := strings.LastIndexByte(string(name), '/') + 1
	dir = name[:i]
	seq, err := strconv.ParseUint(string(name[i:]), 16, 64)
	if err != nil || len(dir) != len(prefix)+33 || seq == 0 || headName(dir, seq) != name {
		return "", 0, false
	}
	return dir, seq, true
}

// seal signs and seals h as a device's, under the epoch to write under, and fills in both and its hash.
func seal(ring *keys.Ring, by *keys.Device, entropy io.Reader, h Head) (Head, []byte, error) {
	h.Epoch = ring.Epoch()
	s := by.Sign(keys.SignHead, h.encode(ring.Drive()))
	h.hash = s.Hash()
	key := ring.Derive(kdf.Head)
	name := headName(folder(ring, h.Device), h.Seq)
	b, err := keys.SealBlob(&key, kdf.Head, h.Epoch, name, s.Encode(), headFloor, entropy)
	return h, b, err
}

// open opens a head's blob and checks everything about it that does not depend on other
// heads or on the state of the members log: that it is sealed with a key of this
// drive, lies under its own name, and is signed by pub. The error wraps ErrTampered.
func open(ring *keys.Ring, id keys.DeviceID, pub [32]byte, name blob.Name, b []byte) (Head, error) {
	plain, epoch, err := ring.OpenBlob(kdf.Head, name, b)
	if err != nil {
		return Head{}, fmt.Errorf("open head: %w", err)
	}
	s, err := keys.ParseSigned(plain)
	if err != nil {
		return Head{}, fmt.Errorf("open head %s: %w", name, err)
	}
	if err := s.Check(pub, keys.SignHead); err != nil {
		return Head{}, fmt.Errorf("open head %s: %w", name, err)
	}
	h, drive, err := parseHead(s.Body)
	if err != nil {
		return Head{}, fmt.Errorf("open head %s: %w", name, err)
	}
	if drive != ring.Drive() || h.Device != id || h.Epoch != epoch || headName(folder(ring, id), h.Seq) != name {
		return Head{}, fmt.Errorf("open head %s: %w: it is another head", name, ErrTampered)
	}
	h.hash = s.Hash()
	return h, nil
}
