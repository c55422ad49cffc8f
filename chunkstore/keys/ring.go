package keys

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"

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
type Ring struct {
	drive   DriveID
	secrets []secret // of epoch 1, 2, …
}

// Drive returns the ID of the drive.
func (r *Ring) Drive() DriveID { return r.drive }

// Epoch returns the newest epoch, which is the one to write under. The first is 1.
func (r *Ring) Epoch() uint32 { return uint32(len(r.secrets)) }

// Derive returns K(c) of the newest epoch.
func (r *Ring) Derive(c kdf.Context) [32]byte {
	k, _ := r.DeriveEpoch(c, r.Epoch())
	return k
}

// DeriveEpoch returns K(c) of an epoch:
//
//	derive_key("sheaf/v1/"+c, DS || drive ID || epoch as four bytes, big endian)
//
// where DS is the secret of the epoch. It reports false for an epoch that the Ring has
// not, which is one that lies in the future or is 0.
func (r *Ring) DeriveEpoch(c kdf.Context, epoch uint32) ([32]byte, bool) {
	if epoch == 0 || epoch > r.Epoch() {
		return [32]byte{}, false
	}
	return deriveFrom(c, &r.secrets[epoch-1], r.drive, epoch), true
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
