package journal

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/cpu"

	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// A Suite is the AEAD of the records of a segment. Any journal reads both.
type Suite byte

// The suites. Each is the last byte of the magic of its segments, from '1' on.
const (
	XChaCha Suite = 1 // XChaCha20-Poly1305, where the processor has no AES
	// AESGCM is AES-256-GCM. Its random nonces of 12 bytes are enough here: a key lives as long as its segment, which
	// has room for less than 2^25 records, so that two of them meet with a chance below 2^-47 (the bound
	// of NIST SP 800-38D, 8.3, for random nonces is 2^-32, at 2^32 records). They are random and not counted, so that
	// two copies of a running machine do not use one twice.
	AESGCM Suite = 2
)

const (
	magic    = "SHEAFJL" // and the suite
	overhead = 16        // of each suite
)

// fastest is the suite for this processor: XChaCha20-Poly1305 takes more than twice the time of AES-256-GCM where
// there are instructions for that, and is much faster, and free of timing leaks, where there are none.
func fastest() Suite {
	if cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || cpu.S390X.HasAESGCM {
		return AESGCM
	}
	return XChaCha
}

func (s Suite) magic() string { return magic + string('0'+rune(s)) }

// suiteOf reads the magic of a segment.
func suiteOf(h []byte) (Suite, bool) {
	s := Suite(h[len(magic)] - '0')
	return s, string(h[:len(magic)]) == magic && (s == XChaCha || s == AESGCM)
}

func (s *segment) setKeys(key *[32]byte, suite Suite, salt []byte) error {
	var out [64]byte
	material := [][]byte{key[:], salt}
	if suite != XChaCha {
		material = append(material, []byte(suite.magic())) // a header that was changed opens nothing
	}
	kdf.Derive(kdf.Journal, out[:], material...)
	copy(s.macKey[:], out[32:])
	var err error
	switch suite {
	case XChaCha:
		s.aead, err = chacha20poly1305.NewX(out[:32])
	case AESGCM:
		var block cipher.Block
		if block, err = aes.NewCipher(out[:32]); err == nil {
			s.aead, err = cipher.NewGCM(block)
		}
	default:
		err = fmt.Errorf("unknown suite %d of a journal", suite)
	}
	return err
}
