package keys

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// kemPublicSize is the length of a public key of ML-KEM-768 with X25519.
const kemPublicSize = 1184 + 32

// kemSeedSize is the length of its private key, which is a seed.
const kemSeedSize = 32

func kem() hpke.KEM { return hpke.MLKEM768X25519() }

// DeviceID names a device: the first 16 bytes of its Fingerprint. The zero ID is no
// device; in the members log it stands for the owner.
type DeviceID [16]byte

// String returns the ID in hexadecimal.
func (id DeviceID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the name of the device in dots: the first eight bytes, big endian.
func (id DeviceID) Short() causal.Device { return causal.Device(binary.BigEndian.Uint64(id[:8])) }

// Fingerprint is the BLAKE3 hash of a device's two public keys. People compare it by
// its text.
type Fingerprint [32]byte

// ID returns the device ID.
func (f Fingerprint) ID() DeviceID { return DeviceID(f[:16]) }

const (
	deviceText  = "SHF"
	checkBytes  = 3
	groupLength = 7
)

// String returns the fingerprint as people read it: "SHF" and eight groups of seven
// base32 characters (RFC 4648), joined by dashes. They hold the 32 bytes and 24 bits of
// a check sum, so all but one in 16 million typing errors are found.
func (f Fingerprint) String() string {
	sum := f.check()
	text := base32.StdEncoding.EncodeToString(append(f[:len(f):len(f)], sum[:]...))
	var b strings.Builder
	b.WriteString(deviceText)
	for ; len(text) > 0; text = text[groupLength:] {
		b.WriteByte('-')
		b.WriteString(text[:groupLength])
	}
	return b.String()
}

func (f Fingerprint) check() (sum [checkBytes]byte) {
	kdf.Derive(kdf.DeviceText, sum[:], f[:])
	return sum
}

// ParseFingerprint reads what String wrote. Case, dashes and blanks do not matter, and the
// digits 0, 1 and 8, which base32 has not, are read as O, I and B. The error wraps
// ErrDeviceText.
func ParseFingerprint(text string) (Fingerprint, error) {
	var f Fingerprint
	if len(text) > 256 {
		return f, fmt.Errorf("%w: the text is too long", ErrDeviceText)
	}
	text = strings.ToUpper(strings.TrimSpace(text))
	rest, ok := strings.CutPrefix(text, deviceText)
	if !ok {
		return f, fmt.Errorf("%w: it begins with %s", ErrDeviceText, deviceText)
	}
	rest = strings.NewReplacer("-", "", " ", "", "0", "O", "1", "I", "8", "B").Replace(rest)
	// The decoder would skip these.
	if strings.ContainsAny(rest, "\r\n") {
		return f, fmt.Errorf("%w: line break", ErrDeviceText)
	}
	b, err := base32.StdEncoding.DecodeString(rest)
	if err != nil || len(b) != len(f)+checkBytes {
		return f, fmt.Errorf("%w: 56 letters and digits from 2 to 7 are due", ErrDeviceText)
	}
	copy(f[:], b)
	if sum := f.check(); !bytes.Equal(sum[:], b[len(f):]) {
		return Fingerprint{}, fmt.Errorf("%w: there is a typing error in it", ErrDeviceText)
	}
	return f, nil
}

// DevicePublic is the public half of a device's identity.
type DevicePublic struct {
	Sign [ed25519.PublicKeySize]byte
	KEM  []byte // HPKE, ML-KEM-768 with X25519
}

// Fingerprint returns the BLAKE3 hash of both keys.
func (p DevicePublic) Fingerprint() Fingerprint {
	h := blake3.New()
	_, _ = h.Write(p.Sign[:])
	_, _ = h.Write(p.KEM)
	var f Fingerprint
	_, _ = h.Digest().Read(f[:])
	return f
}

// ID returns the device ID.
func (p DevicePublic) ID() DeviceID { return p.Fingerprint().ID() }

// A Device is the identity of this device, with its private keys. It prints as
// "[key]". It does not change and is safe for concurrent use.
type Device struct {
	public DevicePublic
	print  Fingerprint
	sign   ed25519.PrivateKey
	kem    hpke.PrivateKey
}

// newDevice draws an identity. One whose short name is zero is drawn again.
func newDevice(entropy io.Reader) (*Device, error) {
	for {
		var seeds [ed25519.SeedSize + kemSeedSize]byte
		if _, err := io.ReadFull(entropy, seeds[:]); err != nil {
			return nil, fmt.Errorf("draw device keys: %w", err)
		}
		d, err := deviceFromSeeds(seeds[:])
		if err != nil || d.ID().Short() != 0 {
			return d, err
		}
	}
}

func deviceFromSeeds(seeds []byte) (*Device, error) {
	private, err := kem().NewPrivateKey(seeds[ed25519.SeedSize:])
	if err != nil {
		return nil, fmt.Errorf("device keys: %w", err)
	}
	d := &Device{sign: ed25519.NewKeyFromSeed(seeds[:ed25519.SeedSize]), kem: private}
	d.public = DevicePublic{Sign: publicKey(d.sign), KEM: private.PublicKey().Bytes()}
	d.print = d.public.Fingerprint()
	return d, nil
}

// Public returns the public half.
func (d *Device) Public() DevicePublic { return d.public }

// Fingerprint returns what people know the device by.
func (d *Device) Fingerprint() Fingerprint { return d.print }

// ID returns the device ID.
func (d *Device) ID() DeviceID { return d.print.ID() }

// id is ID, and the zero ID, which is the owner, of nobody.
func (d *Device) id() DeviceID {
	if d == nil {
		return DeviceID{}
	}
	return d.ID()
}

// Sign signs a record for a purpose.
func (d *Device) Sign(p Purpose, body []byte) Signed { return sign(d.sign, p, body) }

// Signer signs as TLS does, for the certificates by which devices know each other. What TLS signs begins with 64 blanks (RFC 8446, 4.4.3), and
// no record for a Purpose does, so neither can be taken for the other.
func (d *Device) Signer() crypto.Signer { return d.sign }

// Format prints "[key]" for every verb.
func (Device) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[key]")) }

// wrapInfo is what an HPKE wrap of an epoch's secret is bound to: drive, epoch, who it is for
// and who wrapped it (the zero ID is the owner).
func wrapInfo(drive DriveID, epoch uint32, to Fingerprint, by DeviceID) []byte {
	b := append([]byte(kdf.DeviceWrap.String()), 0)
	b = append(b, drive[:]...)
	b = binary.BigEndian.AppendUint32(b, epoch)
	b = append(b, to[:]...)
	return append(b, by[:]...)
}

// wrapSecret seals the secret of an epoch to a device (HPKE base mode, RFC 9180, with
// HKDF-SHA256 and AES-256-GCM). It says nothing of who wrapped it: the signature
// of the members entry does. The randomness is HPKE's own.
func wrapSecret(ds *secret, drive DriveID, epoch uint32, to DevicePublic, by DeviceID) ([]byte, error) {
	pub, err := kem().NewPublicKey(to.KEM)
	if err != nil {
		return nil, fmt.Errorf("wrap secret: %w", err)
	}
	info := wrapInfo(drive, epoch, to.Fingerprint(), by)
	b, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), info, ds[:])
	if err != nil {
		return nil, fmt.Errorf("wrap secret: %w", err)
	}
	return b, nil
}

// wrapSize is the length of what wrapSecret returns: the encapsulated key, then the
// secret and its tag.
const wrapSize = 1088 + 32 + 32 + 16

func (d *Device) unwrapSecret(wrapped []byte, drive DriveID, epoch uint32, by DeviceID) (secret, bool) {
	info := wrapInfo(drive, epoch, d.print, by)
	plain, err := hpke.Open(d.kem, hpke.HKDFSHA256(), hpke.AES256GCM(), info, wrapped)
	if err != nil || len(plain) != 32 {
		return secret{}, false
	}
	return secret(plain), true
}
