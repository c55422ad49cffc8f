package keys

import (
	"crypto/ed25519"
	"fmt"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// A Purpose says what a signature is for. It is part of what is signed, so that
// a signature on one kind of record is none on another.
type Purpose string

// The purposes of format 1.
const (
	SignDrive  Purpose = "drive-record"
	SignMember Purpose = "member"
	SignHead   Purpose = "head"
)

// Signed is a record and the signature on it, as they stand in a sealed blob: a
// CBOR array of two byte strings.
type Signed struct {
	Body []byte
	Sig  [ed25519.SignatureSize]byte
}

// A Mark is one place in a chain of signed records and what stood there. Whoever keeps
// the highest one he has seen finds out when a chain is rolled back or forked.
type Mark struct {
	Seq  uint64   // the first record of a chain has 1; 0 is before all
	Hash [32]byte // BLAKE3 of the signed record
}

func signedMessage(p Purpose, body []byte) []byte {
	m := append([]byte(kdf.Signature.String()), 0)
	m = append(m, p...)
	m = append(m, 0)
	return append(m, body...)
}

func sign(key ed25519.PrivateKey, p Purpose, body []byte) Signed {
	s := Signed{Body: body}
	copy(s.Sig[:], ed25519.Sign(key, signedMessage(p, body)))
	return s
}

// Encode returns the bytes that go into a sealed blob.
func (s Signed) Encode() []byte {
	b := cbor.AppendArray(nil, 2)
	b = cbor.AppendBytes(b, s.Body)
	return cbor.AppendBytes(b, s.Sig[:])
}

// ParseSigned is the inverse of Encode. It does not check the signature. The
// result shares memory with b. The error wraps ErrTampered.
func ParseSigned(b []byte) (Signed, error) {
	var s Signed
	r := cbor.NewReader(b)
	r.ArrayOf(2)
	s.Body = r.BytesMax(MaxBlob)
	r.Fixed(s.Sig[:])
	if err := r.Close(); err != nil {
		return Signed{}, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return s, nil
}

// Check returns an error that wraps ErrTampered unless the signature is that of pub
// for the purpose.
func (s Signed) Check(pub [ed25519.PublicKeySize]byte, p Purpose) error {
	if !ed25519.Verify(pub[:], signedMessage(p, s.Body), s.Sig[:]) {
		return fmt.Errorf("%w: signature of a %s", ErrTampered, string(p))
	}
	return nil
}

// Hash returns the BLAKE3 hash of the signed record, by which the next one of its chain
// names it.
func (s Signed) Hash() [32]byte { return blake3.Sum256(s.Encode()) }
