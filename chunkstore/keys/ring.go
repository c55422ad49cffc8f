package keys

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// DriveID names a drive: 16 random bytes, drawn when it is made.
type DriveID [16]byte

// String returns the ID in hexadecimal.
func (id DriveID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the zero ID, which names no drive.
func (id DriveID) IsZero() bool { return id == DriveID{} }

// secret is 32 bytes that must never be shown: the account root, the secret of an
// epoch. It prints as "[key]", whatever the verb.
type secret [32]byte

// Format prints "[key]" for every verb.
func (secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[key]")) }

// LogValue logs "[key]".
func (secret) LogValue() slog.Value { return slog.StringValue("[key]") }

// MarshalText returns "[key]", so that no encoder that asks for text leaks it.
func (secret) MarshalText() ([]byte, error) { return []byte("[key]"), nil }

// A Ring holds the secrets of an unlocked drive, one for each epoch, and derives from
// them every key that the drive uses. It does not change and is safe for concurrent
// use. It prints as "[key]".
//
// Two devices that begin an epoch at the same time give it the same number, so a number may
// have several secrets. What was sealed under any of them opens.
type Ring struct {
	drive  DriveID
	epochs []epoch // by number, then by entry
	newest int     // the one to write under
}

// An epoch is a secret and where it comes from.
type epoch struct {
	number uint32
	entry  [32]byte // which began it; zero: the drive record
	secret secret
}

func (e epoch) compare(o epoch) int {
	if e.number != o.number {
		return int(e.number) - int(o.number)
	}
	return slices.Compare(e.entry[:], o.entry[:])
}

// with returns a Ring that has e too.
func (r *Ring) with(e epoch) *Ring {
	i, ok := slices.BinarySearchFunc(r.epochs, e, epoch.compare)
	if ok {
		return r
	}
	return &Ring{drive: r.drive, epochs: slices.Insert(slices.Clone(r.epochs), i, e), newest: r.newest}
}

// writing returns a Ring that writes under the epoch that entry has begun.
func (r *Ring) writing(entry [32]byte) *Ring {
	i := slices.IndexFunc(r.epochs, func(e epoch) bool { return e.entry == entry })
	return &Ring{drive: r.drive, epochs: r.epochs, newest: i}
}

// of returns the epoch that entry has begun.
func (r *Ring) of(entry [32]byte) (epoch, bool) {
	i := slices.IndexFunc(r.epochs, func(e epoch) bool { return e.entry == entry })
	if i < 0 {
		return epoch{}, false
	}
	return r.epochs[i], true
}

// Drive returns the ID of the drive.
func (r *Ring) Drive() DriveID { return r.drive }

// Epoch returns the number of the epoch to write under. The first is 1.
func (r *Ring) Epoch() uint32 { return r.epochs[r.newest].number }

// Derive returns K(c) of the epoch to write under.
func (r *Ring) Derive(c kdf.Context) [32]byte { return r.derive(c, r.newest) }

// DeriveEpoch returns K(c) of an epoch:
//
//	derive_key("sheaf/v1/"+c, DS || drive ID || epoch as four bytes, big endian)
//
// where DS is the secret of the epoch. Of several with one number it takes the one to write
// under, or else the first. It reports false for an epoch that the Ring has not.
func (r *Ring) DeriveEpoch(c kdf.Context, number uint32) ([32]byte, bool) {
	if number == r.Epoch() {
		return r.Derive(c), true
	}
	for i, e := range r.epochs {
		if e.number == number {
			return r.derive(c, i), true
		}
	}
	return [32]byte{}, false
}

// DeriveAll returns K(c) of every epoch: first the one to write under, then from the newest to the first.
func (r *Ring) DeriveAll(c kdf.Context) [][32]byte {
	all := [][32]byte{r.Derive(c)}
	for i := len(r.epochs) - 1; i >= 0; i-- {
		if i != r.newest {
			all = append(all, r.derive(c, i))
		}
	}
	return all
}

func (r *Ring) derive(c kdf.Context, i int) [32]byte {
	e := &r.epochs[i]
	return deriveFrom(c, &e.secret, r.drive, e.number)
}

// OpenBlob opens a sealed blob with K(c) of the epoch that its header says. The error wraps
// ErrTampered; if it is an epoch that the Ring has not, ErrIncomplete too.
func (r *Ring) OpenBlob(c kdf.Context, name blob.Name, b []byte) (plain []byte, number uint32, err error) {
	if number, err = BlobEpoch(b); err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", name, err)
	}
	err = fmt.Errorf("open %s: %w, or %w: epoch %d is not known", name, ErrTampered, ErrIncomplete, number)
	for i, e := range r.epochs {
		if e.number != number {
			continue
		}
		key := r.derive(c, i)
		if plain, err = OpenBlob(&key, c, name, b); err == nil {
			return plain, number, nil
		}
	}
	return nil, 0, err
}

func deriveFrom(c kdf.Context, ds *secret, drive DriveID, epoch uint32) [32]byte {
	return kdf.Key(c, ds[:], drive[:], binary.BigEndian.AppendUint32(nil, epoch))
}

// Format prints "[key]" for every verb.
func (Ring) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[key]")) }

// LogValue logs "[key]".
func (Ring) LogValue() slog.Value { return slog.StringValue("[key]") }

// MarshalText returns "[key]".
func (Ring) MarshalText() ([]byte, error) { return []byte("[key]"), nil }
