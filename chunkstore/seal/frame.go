package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// Sizes in the format. See docs/FORMAT.md, "Chunks".
const (
	version   = 1
	codecRaw  = byte(0)
	codecZstd = byte(1)

	fixedHead = 1 + 1 + 1 + 4 // of a frame: version, kind, codec, plain length
	comSize   = 32            // of the commitment to the key
	tagSize   = 16            // of each AEAD
	nonceSize = 12
	splitSize = 32 + nonceSize + comSize + 1 // what the key of a chunk is split into

	aadContext = "sheaf/v1/chunk"
	aadCom     = len(aadContext) + 2         // where com begins
	aadFinal   = aadCom + comSize + 4        // where the final mark stands
	aadSize    = aadFinal + 1                // of a whole AAD
	headStart  = comSize + 1                 // where the sealed header begins in the ciphertext
	maxTable   = chunk.MaxSize / SegmentSize // entries of the largest segment table
)

// A Suite is the AEAD of a chunk.
type Suite uint8

// The suites of format 1.
const (
	AESGCM Suite = 1 // AES-256-GCM, for processors that have AES
	ChaCha Suite = 2 // ChaCha20-Poly1305, for those that have not
)

func (s Suite) valid() bool { return s == AESGCM || s == ChaCha }

// String names the suite.
func (s Suite) String() string {
	switch s {
	case AESGCM:
		return "aes-256-gcm"
	case ChaCha:
		return "chacha20-poly1305"
	}
	return fmt.Sprintf("suite(%d)", uint8(s))
}

func (s Suite) aead(key []byte) (cipher.AEAD, error) {
	switch s {
	case AESGCM:
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	case ChaCha:
		return chacha20poly1305.New(key)
	}
	return nil, fmt.Errorf("%w: %s", ErrArgument, s)
}

// segments returns how many segments a chunk of that plain size has.
func segments(plain uint32) int { return int((uint64(plain) + SegmentSize - 1) / SegmentSize) }

// frameHead returns the length of a frame before its n segments.
func frameHead(n int) int { return fixedHead + 3*n }

// HeaderSize returns how many bytes at the front of a sealed chunk Header
// needs: all up to the first segment. It follows from the plain size alone.
func HeaderSize(plain uint32) int { return headStart + frameHead(segments(plain)) + tagSize }

// MaxSealed returns the largest length of a sealed chunk of that plain size,
// which is its length if nothing of it could be compressed.
func MaxSealed(plain uint32) int {
	return HeaderSize(plain) + int(plain) + tagSize*segments(plain)
}

// MinSealed returns a length that no sealed chunk of that plain size goes below.
func MinSealed(plain uint32) int { return HeaderSize(plain) + (1+tagSize)*segments(plain) }

func putUint24(b []byte, n int) { b[0], b[1], b[2] = byte(n>>16), byte(n>>8), byte(n) }

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

func putFixedHead(b []byte, kind chunk.Kind, codec byte, plain uint32) {
	b[0], b[1], b[2] = version, byte(kind), codec
	binary.BigEndian.PutUint32(b[3:], plain)
}

// A box is the AEAD of one chunk with what it binds. It is not changed once made,
// so any number of goroutines may use it, each with its own scratch.
type box struct {
	aead cipher.AEAD
	iv   [nonceSize]byte
	aad  [aadSize]byte // with the final mark 0
}

func (b *box) com() []byte { return b.aad[aadCom : aadCom+comSize] }

// scratch is the memory that a nonce and an AAD pass through on their way into an
// AEAD, so that no segment costs an allocation.
type scratch struct {
	nonce [nonceSize]byte
	aad   [aadSize]byte
}

// load fills in nonce and AAD of part i: 0 is the header, segments begin at 1.
func (s *scratch) load(b *box, i int, final bool) {
	s.nonce, s.aad = b.iv, b.aad
	tail := s.nonce[nonceSize-4:]
	binary.BigEndian.PutUint32(tail, binary.BigEndian.Uint32(tail)^uint32(i))
	if final {
		s.aad[aadFinal] = 1
	}
}

func (s *scratch) seal(dst []byte, b *box, i int, final bool, plain []byte) []byte {
	s.load(b, i, final)
	return b.aead.Seal(dst, s.nonce[:], plain, s.aad[:])
}

func (s *scratch) open(dst []byte, b *box, i int, final bool, sealed []byte) ([]byte, error) {
	s.load(b, i, final)
	p, err := b.aead.Open(dst, s.nonce[:], sealed, s.aad[:])
	if err != nil {
		return nil, ErrTampered
	}
	return p, nil
}
