// Package cdc cuts a stream of bytes into chunks, at places that the bytes
// choose, so that an insertion changes the chunks around it and no others. It
// reads nothing, hashes no chunk and keeps no bytes.
//
// Neither the polynomial nor the key of a chunker is a secret (SECURITY.md
// 2.4): from the lengths of known chunks it can be worked out. Lengths do not
// show because packs hide them. The choice of the default, with measurements, is
// docs/adr/0003-chunker.md; the record is docs/FORMAT.md, "Chunker".
package cdc

import (
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/restic/chunker"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// The algorithms. A drive names its own in the drive record and never changes it,
// for another would find none of the chunks that are there.
const (
	Rabin   = "rabin"   // Rabin fingerprints as restic's chunker has them
	FastCDC = "fastcdc" // FastCDC over the keyed Gear table of go-cdc-chunkers
	Fixed   = "fixed"   // pieces of one size, where bytes never shift
)

// Default is the algorithm of a new drive. ADR 0003 has the measurements.
const Default = FastCDC

// Sizes of chunks in bytes that NewParams gives.
const (
	defaultMin = 256 << 10
	defaultAvg = 1 << 20
	defaultMax = 4 << 20
)

// leastMin is the smallest Min that Check allows, in bytes.
const leastMin = 4 << 10

// ErrParams is wrapped by the errors of Check, ParseParams and New.
var ErrParams = errors.New("unsound chunker parameters")

// Params say how to cut. Equal Params cut equal bytes alike, for good: the tests
// pin the cuts. The zero Params are not sound.
type Params struct {
	Algorithm     string
	Min, Avg, Max uint32   // bytes; Avg is what most chunks are aimed at
	Seed          [32]byte // FastCDC: key of the Gear table; else zero
	Poly          uint64   // Rabin: an irreducible polynomial of degree 53; else zero
}

// NewParams returns Params of the algorithm with the usual sizes: at least 256
// KiB, aimed at 1 MiB, at most 4 MiB; for Fixed, 1 MiB always. The polynomial or
// key is drawn from entropy, which should be a cryptographic source.
func NewParams(algorithm string, entropy io.Reader) (Params, error) {
	p := Params{Algorithm: algorithm, Min: defaultMin, Avg: defaultAvg, Max: defaultMax}
	switch algorithm {
	case Rabin:
		poly, err := chunker.DerivePolynomial(entropy)
		if err != nil {
			return Params{}, fmt.Errorf("draw polynomial: %w", err)
		}
		p.Poly = uint64(poly)
	case FastCDC:
		if _, err := io.ReadFull(entropy, p.Seed[:]); err != nil {
			return Params{}, fmt.Errorf("draw key of the chunker: %w", err)
		}
	case Fixed:
		p.Min, p.Max = defaultAvg, defaultAvg
	}
	if err := p.Check(); err != nil {
		return Params{}, err
	}
	return p, nil
}

// Check returns ErrParams if a Chunker cannot be made of p: an unknown
// algorithm; sizes out of order, below 4 KiB or above chunk.MaxSize; Avg no
// power of two; a polynomial that is reducible or not of degree 53; a field that
// the algorithm does not use and that is not zero.
func (p Params) Check() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrParams, what) }
	if p.Min < leastMin || p.Max > chunk.MaxSize || bits.OnesCount32(p.Avg) != 1 {
		return bad("sizes out of range")
	}
	if p.Algorithm != Rabin && p.Poly != 0 || p.Algorithm != FastCDC && p.Seed != [32]byte{} {
		return bad("a field that the algorithm does not use")
	}
	switch p.Algorithm {
	case Fixed:
		if p.Min != p.Avg || p.Max != p.Avg {
			return bad("fixed size that is none")
		}
		return nil
	case Rabin:
		if pol := chunker.Pol(p.Poly); pol.Deg() != 53 || !pol.Irreducible() {
			return bad("polynomial")
		}
	case FastCDC:
	default:
		return bad("unknown algorithm")
	}
	if p.Min >= p.Avg || p.Avg >= p.Max {
		return bad("sizes out of order")
	}
	return nil
}

// Keys of the record. See docs/FORMAT.md, "Chunker".
const (
	keyAlgorithm = 1
	keyMin       = 2
	keyAvg       = 3
	keyMax       = 4
	keySeed      = 5
	keyPoly      = 6
)

// Append appends the record of p to b. p must be sound.
func (p Params) Append(b []byte) []byte {
	n := 4
	if p.Algorithm != Fixed {
		n = 5
	}
	b = cbor.AppendMap(b, n)
	b = cbor.AppendText(cbor.AppendUint(b, keyAlgorithm), p.Algorithm)
	b = cbor.AppendUint(cbor.AppendUint(b, keyMin), uint64(p.Min))
	b = cbor.AppendUint(cbor.AppendUint(b, keyAvg), uint64(p.Avg))
	b = cbor.AppendUint(cbor.AppendUint(b, keyMax), uint64(p.Max))
	switch p.Algorithm {
	case FastCDC:
		b = cbor.AppendBytes(cbor.AppendUint(b, keySeed), p.Seed[:])
	case Rabin:
		b = cbor.AppendUint(cbor.AppendUint(b, keyPoly), p.Poly)
	}
	return b
}

// ParseParams is the inverse of Append. It accepts only sound Params in the one
// form that Append writes; the error is ErrParams or cbor.ErrMalformed.
func ParseParams(b []byte) (Params, error) {
	var p Params
	r := cbor.NewReader(b)
	n, last := r.Map(), int64(-1)
	for range n {
		switch key := r.Key(&last); key {
		case keyAlgorithm:
			p.Algorithm = r.Text()
		case keyMin:
			p.Min = uint32(r.UintMax(chunk.MaxSize))
		case keyAvg:
			p.Avg = uint32(r.UintMax(chunk.MaxSize))
		case keyMax:
			p.Max = uint32(r.UintMax(chunk.MaxSize))
		case keySeed:
			r.Fixed(p.Seed[:])
		case keyPoly:
			p.Poly = r.Uint()
		default:
			r.Fail("unknown key %d", key)
		}
	}
	if err := r.Close(); err != nil {
		return Params{}, fmt.Errorf("parse chunker: %w", err)
	}
	if err := p.Check(); err != nil {
		return Params{}, fmt.Errorf("parse chunker: %w", err)
	}
	// A key that stands there with a zero value passes Check, and is not what
	// Append writes.
	if string(p.Append(nil)) != string(b) {
		return Params{}, fmt.Errorf("parse chunker: %w: not in canonical form", ErrParams)
	}
	return p, nil
}
