// Package kdf derives keys from keys with BLAKE3, and is the one list of the
// contexts that keep the derived keys apart. It holds no key.
package kdf

import "github.com/zeebo/blake3"

// A Context says what a derived key is for. Each is used by one piece of code for
// one purpose; a test holds that no two are equal. The full string, as BLAKE3
// takes it, is "sheaf/v1/" and the Context.
type Context string

// Contexts of keys derived from the secret of a drive, as K(x) in docs/FORMAT.md.
const (
	ChunkIDOwn Context = "cid/own" // dedup IDs of the drive's own data
	FrameSIV   Context = "siv"     // synthetic IDs of encoded frames
	ChunkKey   Context = "chunk"   // the keys of chunks, from synthetic IDs
	PackDir    Context = "packdir" // directories and footers of packs
	Index      Context = "index"   // index blobs
	Head       Context = "head"    // heads
	HeadName   Context = "head-name"
	Members    Context = "members"
	Journal    Context = "journal"     // the journal of a device
	Local      Context = "local"       // the key-value database of a device
	Chunker    Context = "chunker"     // the seed of the chunker
	PastSecret Context = "past-secret" // boxes the secrets of the epochs before
	EpochSum   Context = "epoch-sum"   // says of a secret that it is that of an epoch, and nothing else of it
	Marks      Context = "marks"       // what a device remembers of chains it has seen
	Remotes    Context = "remotes"     // the book of remotes of a device, where a passphrase guards the drive
	OpenPGP    Context = "openpgp"     // the OpenPGP keys and the devices that one device knows
	Find       Context = "find"        // what the devices of a drive find each other by
)

// Contexts of keys derived from other secrets.
const (
	ChunkSplit   Context = "chunk-split"   // ek, iv and com from the key of a chunk
	SlotRecovery Context = "slot-recovery" // the wrapping key from the recovery code
	SlotPass     Context = "slot-passphrase"
	SlotDevice   Context = "slot-device"
	RootDrive    Context = "root-drive"   // wraps the secret of a drive under the account root
	RootOwner    Context = "root-owner"   // the owner's signing key
	RootRecord   Context = "root-record"  // seals the drive record
	RootDevice   Context = "root-device"  // seals a device's private keys on its own disk
	RootSlots    Context = "root-slots"   // marks slot records, so that damage is found without their secret
	DeviceWrap   Context = "device-wrap"  // info of HPKE wraps to devices
	Signature    Context = "signature"    // prefix of what device and owner keys sign
	LocalFile    Context = "local-file"   // one file of the key-value database, from its key and a salt
	DeviceText   Context = "device-text"  // check characters of a device ID as people read it
	RemotesFile  Context = "remotes-file" // the book of remotes, from the key file beside it
)

// All returns every Context.
func All() []Context {
	return []Context{
		ChunkIDOwn, FrameSIV, ChunkKey, PackDir, Index, Head, HeadName, Members, Journal, Local, Chunker, PastSecret, EpochSum, Marks, Remotes, OpenPGP, Find,
		ChunkSplit, SlotRecovery, SlotPass, SlotDevice, RootDrive, RootOwner, RootRecord, RootDevice, RootSlots,
		DeviceWrap, Signature, LocalFile, DeviceText, RemotesFile,
	}
}

// String returns the full context string.
func (c Context) String() string { return "sheaf/v1/" + string(c) }

// Derive fills out with BLAKE3's derive_key mode over the concatenation of material, which
// must be of fixed lengths, so that no two inputs run together alike.
func Derive(c Context, out []byte, material ...[]byte) {
	h := blake3.NewDeriveKey(c.String())
	for _, m := range material {
		_, _ = h.Write(m)
	}
	_, _ = h.Digest().Read(out)
}

// Key returns 32 bytes of Derive.
func Key(c Context, material ...[]byte) [32]byte {
	var k [32]byte
	Derive(c, k[:], material...)
	return k
}

// Keyed returns BLAKE3's keyed hash of the concatenation of parts.
func Keyed(key *[32]byte, parts ...[]byte) [32]byte {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("kdf: a key of 32 bytes was refused: " + err.Error())
	}
	for _, p := range parts {
		_, _ = h.Write(p)
	}
	var sum [32]byte
	_, _ = h.Digest().Read(sum[:])
	return sum
}

// A Mac computes Keyed under one key many times over, in memory of its own of some
// ten KiB that Keyed would have to clear each time. It is not safe for concurrent use.
type Mac struct{ h *blake3.Hasher }

// NewMac returns a Mac for the key.
func NewMac(key *[32]byte) *Mac {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("kdf: a key of 32 bytes was refused: " + err.Error())
	}
	return &Mac{h: h}
}

// Sum returns Keyed of the parts.
func (m *Mac) Sum(parts ...[]byte) [32]byte {
	m.h.Reset()
	for _, p := range parts {
		_, _ = m.h.Write(p)
	}
	var sum [32]byte
	m.h.Sum(sum[:0])
	return sum
}
