package trust

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
)

// The bounds of a record.
const (
	maxName = 255  // bytes
	maxKEM  = 4096 // bytes
)

// The notation of the signature on a record: without it, a signature on whatever bytes would be one.
const (
	notation = "device-record@sheaf-drive"
	purpose  = "1"
)

// The errors of records.
var (
	ErrRecord  = errors.New("it is no device record")
	ErrExpired = errors.New("the device record has expired")
)

// A Record says that a device is its owner's. It is bound to one drive.
type Record struct {
	Drive   [16]byte
	Sign    [32]byte // the device's public Ed25519 key
	KEM     []byte   // its public key of the key exchange
	Name    string
	Created time.Time // to the second
	Expires time.Time // to the second; zero: never
}

// Encode returns the record's bytes, which are canonical: a map of CBOR, {1: version 1, 2: drive, 3: Sign, 4: KEM, 5: name, 6: created, 7: expires}, times in seconds since 1970, 0 for never.
func (r Record) Encode() ([]byte, error) {
	if r.Name == "" || len(r.Name) > maxName || !utf8.ValidString(r.Name) || len(r.KEM) > maxKEM || r.Created.Unix() < 0 {
		return nil, fmt.Errorf("%w: a name of 1 to %d bytes is needed", ErrRecord, maxName)
	}
	var until uint64
	if !r.Expires.IsZero() {
		if !r.Expires.After(r.Created) {
			return nil, fmt.Errorf("%w: it ends before it begins", ErrRecord)
		}
		until = uint64(r.Expires.Unix())
	}
	b := cbor.AppendMap(nil, 7)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), 1)
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), r.Drive[:])
	b = cbor.AppendBytes(cbor.AppendUint(b, 3), r.Sign[:])
	b = cbor.AppendBytes(cbor.AppendUint(b, 4), r.KEM)
	b = cbor.AppendText(cbor.AppendUint(b, 5), r.Name)
	b = cbor.AppendUint(cbor.AppendUint(b, 6), uint64(r.Created.Unix()))
	return cbor.AppendUint(cbor.AppendUint(b, 7), until), nil
}

// maxTime bounds times in records: the end of the year 9999.
const maxTime = 253402300799

// Decode is the inverse of Encode. It takes nothing else. The error wraps ErrRecord.
func Decode(b []byte) (Record, error) {
	var rec Record
	r := cbor.NewReader(b)
	if r.Map() != 7 {
		r.Fail("it has not seven fields")
	}
	last := int64(-1)
	field := func(n uint64) {
		if r.Key(&last) != n {
			r.Fail("field %d is missing", n)
		}
	}
	field(1)
	if r.Uint() != 1 {
		r.Fail("its version is another")
	}
	field(2)
	r.Fixed(rec.Drive[:])
	field(3)
	r.Fixed(rec.Sign[:])
	field(4)
	rec.KEM = r.BytesMax(maxKEM)
	field(5)
	if rec.Name = r.Text(); rec.Name == "" || len(rec.Name) > maxName {
		r.Fail("its name is empty or too long")
	}
	field(6)
	created := int64(r.UintMax(maxTime))
	field(7)
	until := int64(r.UintMax(maxTime))
	if until != 0 && until <= created {
		r.Fail("it ends before it begins")
	}
	if err := r.Close(); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	rec.Created = time.Unix(created, 0).UTC()
	if until != 0 {
		rec.Expires = time.Unix(until, 0).UTC()
	}
	return rec, nil
}

// A Certified is a record and the detached OpenPGP signature on its bytes: gpg --verify takes the two as files.
type Certified struct {
	Record    []byte
	Signature []byte
}

// Certify signs the record of a device as its owner.
func Certify(owner *pgp.Secret, r Record, now time.Time) (Certified, error) {
	b, err := r.Encode()
	if err != nil {
		return Certified{}, err
	}
	sig, err := owner.Sign(b, notation, purpose, now)
	if err != nil {
		return Certified{}, fmt.Errorf("certify device: %w", err)
	}
	return Certified{Record: b, Signature: sig}, nil
}

// Check returns the record, if owner has signed it and it is good at a time. What owner's key is worth is another question. The error wraps pgp.ErrSignature, ErrRecord or ErrExpired.
func (c Certified) Check(owner *pgp.Certificate, now time.Time) (Record, error) {
	if _, err := owner.Verify(c.Record, c.Signature, notation, purpose); err != nil {
		return Record{}, err
	}
	r, err := Decode(c.Record)
	if err != nil {
		return Record{}, err
	}
	if !r.Expires.IsZero() && !now.Before(r.Expires) {
		return Record{}, fmt.Errorf("%w: on %s", ErrExpired, r.Expires.Format(time.DateOnly))
	}
	return r, nil
}
