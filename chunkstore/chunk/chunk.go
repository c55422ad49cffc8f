// Package chunk names chunks: an ID says which sealed chunk, a Key opens it, a
// Ref is both. It holds no bytes of any chunk and knows no cipher.
package chunk

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
)

// MaxSize is the largest plain size of one chunk, in bytes. A decoder refuses
// a larger declared size before it allocates.
const MaxSize = 16 << 20

// RefSize is the length of an encoded Ref in bytes: ID, Key, Size (4 bytes,
// big endian) and Kind (1 byte). See docs/FORMAT.md.
const RefSize = 32 + 32 + 4 + 1

// ID names a sealed chunk: the BLAKE3-256 hash of its ciphertext. Whoever holds
// a chunk can check it against its ID without being able to read it.
type ID [32]byte

// String returns the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the zero ID, which names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// Key opens one chunk and no other. It prints as "[key]", whatever the verb.
type Key [32]byte

// Format prints "[key]" for every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[key]")) }

// String returns "[key]".
func (Key) String() string { return "[key]" }

// GoString returns "[key]".
func (Key) GoString() string { return "[key]" }

// LogValue logs "[key]".
func (Key) LogValue() slog.Value { return slog.StringValue("[key]") }

// MarshalText returns "[key]", so that no encoder that asks for text leaks it.
func (Key) MarshalText() ([]byte, error) { return []byte("[key]"), nil }

// Kind says what a chunk is. It is bound into the chunk's encryption, so that
// the bytes of one kind are never taken for another (attack A17).
type Kind uint8

// The kinds of chunks of format 1. The zero Kind is no kind.
const (
	Data     Kind = 1 // bytes of a file
	Dir      Kind = 2 // a leaf or inner node of a directory
	File     Kind = 3 // a leaf or inner node of a file's list of extents
	Snapshot Kind = 4 // a state of a drive
	History  Kind = 5 // a leaf or inner node of the list of kept snapshots
)

// Valid reports whether k is a kind of format 1.
func (k Kind) Valid() bool { return k >= Data && k <= History }

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case Dir:
		return "dir"
	case File:
		return "file"
	case Snapshot:
		return "snapshot"
	case History:
		return "history"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// A Ref is the right to read one chunk: its name and its key, its plain size
// and kind. A manifest is itself a chunk and holds the Refs of what lies below
// it, so the Ref of a manifest is the right to read that whole subtree, and
// nothing else. It is what a share hands over. The zero Ref names nothing; where a
// manifest allows it, it means "empty" or "a hole".
type Ref struct {
	ID   ID
	Key  Key
	Size uint32 // plain bytes, 0 to MaxSize
	Kind Kind
}

// IsZero reports whether r is the zero Ref.
func (r Ref) IsZero() bool { return r == Ref{} }

// String names the chunk and its kind, never its key.
func (r Ref) String() string {
	if r.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%s:%x…", r.Kind, r.ID[:6])
}

// ErrRef is returned for bytes that are no encoded Ref.
var ErrRef = errors.New("malformed chunk ref")

// Append appends the RefSize bytes of r to b.
func (r Ref) Append(b []byte) []byte {
	b = append(b, r.ID[:]...)
	b = append(b, r.Key[:]...)
	return append(b, byte(r.Size>>24), byte(r.Size>>16), byte(r.Size>>8), byte(r.Size), byte(r.Kind))
}

// ParseRef is the inverse of Append. It accepts exactly RefSize bytes with a
// valid kind and a size of at most MaxSize, or RefSize zero bytes.
func ParseRef(b []byte) (Ref, error) {
	var r Ref
	if len(b) != RefSize {
		return Ref{}, fmt.Errorf("%w: %d bytes", ErrRef, len(b))
	}
	copy(r.ID[:], b)
	copy(r.Key[:], b[32:])
	r.Size = uint32(b[64])<<24 | uint32(b[65])<<16 | uint32(b[66])<<8 | uint32(b[67])
	r.Kind = Kind(b[68])
	if r.IsZero() {
		return r, nil
	}
	if !r.Kind.Valid() || r.Size > MaxSize {
		return Ref{}, fmt.Errorf("%w: kind %d, size %d", ErrRef, r.Kind, r.Size)
	}
	return r, nil
}
