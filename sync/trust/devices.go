package trust

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// Need is package wot's.
type Need = wot.Need

// Answer is package wot's.
type Answer = wot.Answer

// Verdict is package wot's.
type Verdict = wot.Verdict

// The values of Answer, as package wot has them.
const (
	AnswerNone = wot.AnswerNone
	AnswerYes  = wot.AnswerYes
	AnswerNo   = wot.AnswerNo
)

// NeedMember is what a Ring begins with: the log of members decides alone.
const NeedMember = wot.NeedMember

// A Limit is the most that a device may do here, whatever the drive gives it.
type Limit uint8

// The values of Limit.
const (
	LimitNone     Limit = iota
	LimitReadOnly       // it puts nothing here
)

// A Device is what is kept of one device of the drive, by its public Ed25519 key.
type Device struct {
	Name   string // how the user calls it; "": as the members log does
	Answer Answer
	Limit  Limit
	// Certified is its record, Owner whose key has signed it, Shown whether the device itself has shown it; without a record they are zero.
	Certified Certified
	Owner     wot.Fingerprint
	Shown     bool
}

// The bounds of what others tell of devices.
const (
	// MaxCard is the longest Card, in bytes.
	MaxCard = 12 << 10
	// MaxCards is the longest text of several, in bytes.
	MaxCards = 8 << 20

	maxKept     = 128 << 10 // of one key, as far as it is others who let it grow
	maxRecord   = 8 << 10
	maxSigned   = 8 << 10
	verdictsFor = 30 * time.Second // after that long, what expires is looked at anew
)

// Device returns what is kept of a device.
func (r *Ring) Device(key [32]byte) Device {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.devices[key]
}

// SetDevice changes what is kept of a device.
func (r *Ring) SetDevice(key [32]byte, change func(*Device)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.devices[key]
	change(&d)
	if len(d.Name) > maxName {
		return fmt.Errorf("a name has at most %d bytes", maxName)
	}
	next := r.clone()
	next.devices[key] = d
	return r.save(next)
}

// Need returns what members need for this device to accept them.
func (r *Ring) Need() Need {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.need
}

// SetNeed says what they need.
func (r *Ring) SetNeed(n Need) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.clone()
	next.need = n
	return r.save(next)
}

// Accept says whether a device is accepted at a time, and how far it is limited here. member is whether the drive's log has it. It is quick: a verdict holds until something of the Ring changes, or for half a minute.
func (r *Ring) Accept(key [32]byte, drive [16]byte, member bool, now time.Time) (Verdict, Limit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.devices[key]
	c := wot.Claim{Member: member, Answer: d.Answer}
	if !member || d.Answer == wot.AnswerNo || len(d.Certified.Record) == 0 {
		return wot.Accept(nil, c, r.need), d.Limit
	}
	if since := now.Sub(r.decided); r.verdicts == nil || r.drive != drive || since < 0 || since > verdictsFor {
		r.verdicts, r.drive, r.decided, r.web = map[[32]byte]Verdict{}, drive, now, r.compute(now)
	}
	v, ok := r.verdicts[key]
	if !ok {
		if e, known := r.all[d.Owner]; known {
			if rec, err := d.Certified.Check(e.cert, now); err == nil && rec.Sign == key && rec.Drive == drive {
				c.Owner = d.Owner
			}
		}
		v = wot.Accept(r.web, c, r.need)
		r.verdicts[key] = v
	}
	return v, d.Limit
}

// A Card is what is told of a device: its record, and the public key of who signed that.
//
// As bytes it is canonical CBOR, {1: record, 2: signature, 3: key}, and several are an array of such byte strings.
type Card struct {
	Certified
	Key []byte
}

func (c Card) encode() []byte {
	b := cbor.AppendBytes(cbor.AppendUint(cbor.AppendMap(nil, 3), 1), c.Record)
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), c.Signature)
	return cbor.AppendBytes(cbor.AppendUint(b, 3), c.Key)
}

// readCard reads a Card. Nothing of it is checked but its shape.
func readCard(b []byte) (c Card, err error) {
	if len(b) > MaxCard {
		return c, fmt.Errorf("%w: a card of %d bytes", ErrRecord, len(b))
	}
	r := cbor.NewReader(b)
	last := int64(-1)
	if r.Map() != 3 || r.Key(&last) != 1 {
		r.Fail("not a card")
	}
	c.Record = bytes.Clone(r.BytesMax(maxRecord))
	if r.Key(&last) != 2 {
		r.Fail("no signature")
	}
	c.Signature = bytes.Clone(r.BytesMax(maxSigned))
	if r.Key(&last) != 3 {
		r.Fail("no key")
	}
	c.Key = bytes.Clone(r.BytesMax(MaxCard))
	if err := r.Close(); err != nil {
		return Card{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return c, nil
}

// Card returns what this device tells of a device, as bytes; nil: there is no record of it, or the key of its owner is not known any more.
func (r *Ring) Card(key [32]byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.card(key)
}

func (r *Ring) card(key [32]byte) []byte {
	d := r.devices[key]
	e, ok := r.all[d.Owner]
	if len(d.Certified.Record) == 0 || !ok {
		return nil
	}
	short, err := e.cert.Trim(MaxCard - len(d.Certified.Record) - len(d.Certified.Signature) - 64)
	if err != nil {
		return nil
	}
	var b bytes.Buffer
	if err := short.Write(&b); err != nil {
		return nil
	}
	return Card{d.Certified, b.Bytes()}.encode()
}

// Cards returns what this device tells of all devices that it knows of, as bytes.
func (r *Ring) Cards() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all [][]byte
	size := 16
	for _, key := range slices.SortedFunc(maps.Keys(r.devices), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }) {
		if c := r.card(key); c != nil && size+len(c)+8 <= MaxCards {
			all, size = append(all, c), size+len(c)+8
		}
	}
	b := cbor.AppendArray(nil, len(all))
	for _, c := range all {
		b = cbor.AppendBytes(b, c)
	}
	return b
}

// Shown takes the card that a device has shown of itself, having proven that it has the key. Whoever calls it has seen that the device is a member of the drive: of others nothing is kept. It is quick if nothing is new.
// The error wraps ErrRecord or pgp.ErrSignature if the card is not good, and nothing is taken then.
func (r *Ring) Shown(key [32]byte, drive [16]byte, card []byte, now time.Time) error {
	c, err := readCard(card)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.clone()
	changed, err := r.introduce(&next, c, drive, now, func(k [32]byte) bool { return k == key }, true)
	if err != nil || !changed {
		return err
	}
	return r.save(next)
}

// Told takes the cards that another device has told of devices. member says of which anything is to be kept. What is not good in it is left out. What a device has shown of itself no other one changes. It reports whether
// anything is new.
func (r *Ring) Told(cards []byte, drive [16]byte, now time.Time, member func(key [32]byte) bool) (fresh bool, err error) {
	if len(cards) > MaxCards {
		return false, fmt.Errorf("%w: %d bytes of cards", ErrRecord, len(cards))
	}
	cr := cbor.NewReader(cards)
	var all []Card
	for n := cr.Array(); n > 0 && cr.Err() == nil; n-- {
		if len(all) >= maxDevices {
			cr.Fail("too many cards")
		}
		if c, err := readCard(cr.BytesMax(MaxCard)); err == nil {
			all = append(all, c)
		}
	}
	if err := cr.Close(); err != nil {
		return false, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.clone()
	for _, c := range all {
		changed, err := r.introduce(&next, c, drive, now, member, false)
		fresh = fresh || err == nil && changed
	}
	if !fresh {
		return false, nil
	}
	return true, r.save(next)
}

// introduce takes one card into a state, and reports whether anything is new. r.mu is held.
func (r *Ring) introduce(next *state, c Card, drive [16]byte, now time.Time, member func([32]byte) bool, shown bool) (changed bool, err error) {
	rec, err := Decode(c.Record)
	if err != nil {
		return false, err
	}
	if rec.Drive != drive || !member(rec.Sign) {
		return false, fmt.Errorf("%w: it is of another device", ErrRecord)
	}
	all, err := pgp.Read(bytes.NewReader(c.Key))
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if len(all) != 1 {
		return false, fmt.Errorf("%w: it has %d keys", ErrRecord, len(all))
	}
	owner := all[0]
	if _, err := c.Check(owner, now); err != nil {
		return false, err
	}
	grown, err := grow(next, owner)
	if err != nil {
		return false, err
	}
	d := next.devices[rec.Sign]
	if same := bytes.Equal(d.Certified.Record, c.Record) && d.Owner == owner.Fingerprint(); same && (d.Shown || !shown) {
		return grown, nil
	}
	if old, err := Decode(d.Certified.Record); err == nil && !shown && (d.Shown || !rec.Created.After(old.Created)) {
		return grown, nil
	}
	d.Certified, d.Owner, d.Shown = c.Certified, owner.Fingerprint(), shown
	next.devices[rec.Sign] = d
	return true, nil
}

// grow takes a key that others have told, or what is new on it. Others cannot let it grow without end, but a revocation is always taken.
func grow(next *state, c *pgp.Certificate) (changed bool, err error) {
	e, ok := next.all[c.Fingerprint()]
	if !ok {
		next.all[c.Fingerprint()] = entry{cert: c}
		return true, nil
	}
	merged, err := pgp.Merge(e.cert, c)
	if err == nil && merged.Size() > max(maxKept, e.cert.Size()) {
		err = pgp.ErrTooLarge
	}
	if errors.Is(err, pgp.ErrTooLarge) {
		revoked := c.Revocation()
		if revoked == nil || e.cert.Revocation() != nil {
			return false, nil
		}
		merged, err = pgp.Merge(e.cert, revoked)
	}
	if err != nil {
		return false, err
	}
	if merged.Size() == e.cert.Size() { // merging only adds
		return false, nil
	}
	e.cert = merged
	next.all[c.Fingerprint()] = e
	return true, nil
}

// Claim signs a record as the user's own, and keeps it. The error wraps ErrNoKey if the user has no key.
func (r *Ring) Claim(rec Record, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == nil {
		return fmt.Errorf("%w: there is none of the user's own", ErrNoKey)
	}
	c, err := Certify(r.own, rec, now)
	if err != nil {
		return err
	}
	next := r.clone()
	d := next.devices[rec.Sign]
	d.Certified, d.Owner, d.Shown = c, r.own.Certificate().Fingerprint(), true
	next.devices[rec.Sign] = d
	return r.save(next)
}

func appendDevices(b []byte, s state) []byte {
	keys := slices.SortedFunc(maps.Keys(s.devices), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	b = cbor.AppendArray(cbor.AppendUint(b, 3), len(keys))
	for _, k := range keys {
		d := s.devices[k]
		b = cbor.AppendBytes(cbor.AppendUint(cbor.AppendMap(b, 8), 1), k[:])
		b = cbor.AppendText(cbor.AppendUint(b, 2), d.Name)
		b = cbor.AppendUint(cbor.AppendUint(b, 3), uint64(d.Answer))
		b = cbor.AppendUint(cbor.AppendUint(b, 4), uint64(d.Limit))
		b = cbor.AppendBytes(cbor.AppendUint(b, 5), d.Certified.Record)
		b = cbor.AppendBytes(cbor.AppendUint(b, 6), d.Certified.Signature)
		b = cbor.AppendBytes(cbor.AppendUint(b, 7), []byte(d.Owner))
		b = cbor.AppendBool(cbor.AppendUint(b, 8), d.Shown)
	}
	return cbor.AppendUint(cbor.AppendUint(b, 4), uint64(s.need))
}

func readDevices(r *cbor.Reader, last *int64, s *state) {
	if r.Key(last) != 3 {
		r.Fail("no devices")
	}
	for n := r.Array(); n > 0 && r.Err() == nil; n-- {
		var key [32]byte
		var d Device
		at := int64(-1)
		if r.Map() != 8 {
			r.Fail("not a device")
		}
		for k := uint64(1); k <= 8; k++ {
			if r.Key(&at) != k {
				r.Fail("field %d of a device is missing", k)
			}
			switch k {
			case 1:
				r.Fixed(key[:])
			case 2:
				d.Name = r.Text()
			case 3:
				d.Answer = Answer(r.UintMax(uint64(wot.AnswerNo)))
			case 4:
				d.Limit = Limit(r.UintMax(uint64(LimitReadOnly)))
			case 5:
				d.Certified.Record = bytes.Clone(r.BytesMax(maxRecord))
			case 6:
				d.Certified.Signature = bytes.Clone(r.BytesMax(maxSigned))
			case 7:
				d.Owner = wot.Fingerprint(r.BytesMax(32))
			case 8:
				d.Shown = r.Bool()
			}
		}
		s.devices[key] = d
	}
	if r.Key(last) != 4 {
		r.Fail("not said what members need")
	}
	s.need = Need(r.UintMax(uint64(wot.NeedFull)))
}
