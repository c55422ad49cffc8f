// Package pack puts sealed chunks into files of sizes that tell nothing, and
// takes them out again. It cannot open a chunk, and it does no I/O.
//
// A pack is a magic number, the chunks back to back, padding, a sealed
// directory and a sealed footer that says where the directory lies:
//
//	"SHEAFPK1" | chunk | chunk | … | padding | directory | footer
//
// A full pack is exactly Size bytes. Any other is padded to one of the lengths
// of PADMÉ (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
// Communication with PURBs", 2019). All but the magic looks random to one
// without the key: neither the lengths nor the number of chunks can be seen,
// which is what protects the boundaries that the chunker made. The format is
// docs/FORMAT.md, "Packs".
package pack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// Size is the length of a full pack in bytes.
const Size = 32 << 20

// MinSize is the length of the smallest pack in bytes.
const MinSize = 32 << 10

// Errors of this package.
var (
	// ErrTampered says that bytes are not a pack that was written under the key,
	// or not the pack of the name. It is seal.ErrTampered.
	ErrTampered = seal.ErrTampered
	// ErrFull says that a chunk does not fit; ask Fits before.
	ErrFull = errors.New("pack is full")
	// ErrEntry says that an entry contradicts itself, its chunk or another entry.
	ErrEntry = errors.New("entry of a pack is not sound")
	// ErrName is returned for bytes that are no name of a pack.
	ErrName = errors.New("not the name of a pack")
)

// A Name is the BLAKE3-256 hash of a whole pack. Whoever holds a pack can check
// it against its Name without any key.
type Name [32]byte

// Compare orders names by their bytes.
func (n Name) Compare(other Name) int { return bytes.Compare(n[:], other[:]) }

// String returns the name in hexadecimal.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// Prefix begins the names of all blobs that are packs.
const Prefix = "packs/"

// BlobName returns where the pack lies in a bucket: "packs/", the first two
// digits of the name, "/", and the name.
func (n Name) BlobName() string {
	s := n.String()
	return Prefix + s[:2] + "/" + s
}

// ParseBlobName is the inverse of BlobName. It accepts nothing that BlobName
// would not return; the error is ErrName.
func ParseBlobName(blob string) (Name, error) {
	var n Name
	digits := blob[strings.LastIndexByte(blob, '/')+1:]
	if len(digits) != 64 {
		return Name{}, fmt.Errorf("parse blob name: %w", ErrName)
	}
	if _, err := hex.Decode(n[:], []byte(digits)); err != nil || n.BlobName() != blob {
		return Name{}, fmt.Errorf("parse blob name: %w", ErrName)
	}
	return n, nil
}

// An Entry tells of one chunk in a pack.
type Entry struct {
	ID    chunk.ID
	CID   seal.CID
	SIV   seal.SIV
	Kind  chunk.Kind
	Plain uint32 // bytes of the plain chunk
	Off   uint32 // where the sealed chunk begins in the pack
	Len   uint32 // bytes of the sealed chunk
}

// sound reports whether e could tell of any chunk at all.
func (e *Entry) sound() bool {
	return e.Kind.Valid() && e.Plain <= chunk.MaxSize &&
		int64(e.Len) >= int64(seal.MinSealed(e.Plain)) && int64(e.Len) <= int64(seal.MaxSealed(e.Plain))
}

// AllowedSize reports whether a pack may have a length of n bytes. No pack of
// another length ever leaves.
func AllowedSize(n int64) bool { return n >= MinSize && n <= Size && padme(n) == n }

// padme rounds n up so that of its binary digits only as many are significant as
// are needed to write down their number. n must be at least 2.
func padme(n int64) int64 {
	mask := grain(n) - 1
	return (n + mask) &^ mask
}
