package keys

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

const (
	recordFormat = 1
	recordPairs  = 9
	maxChunker   = 4 << 10
	maxEpochs    = 1 << 10
	secretBox    = 32 + boxOverhead

	recordPrefix blob.Name = "drive/"
)

// A Record is the drive record: what a drive is, signed by its owner and sealed under the
// account root. It is never overwritten; a change is a new version, and the highest counts. What changes
// while people use a drive is in the members log instead, for two devices may change it at the same time.
type Record struct {
	Drive   DriveID
	Version uint32 // 1, 2, …; the name of the blob says the same
	Prev    [32]byte
	Suite   uint8  // the cipher of new chunks; this package does not look at it
	Chunker []byte // the parameters of the chunker; this package does not look at them
	Created time.Time
	Owner   [ed25519.PublicKeySize]byte

	first []byte // the secret of epoch 1, boxed under the root
}

func recordName(version uint32) blob.Name {
	return recordPrefix + blob.Name(fmt.Sprintf("%08x", version))
}

// recordVersion is the inverse of recordName. It is strict: one version has one name.
func recordVersion(name blob.Name) (uint32, bool) {
	if len(name) != len(recordPrefix)+8 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(name[len(recordPrefix):]), 16, 32)
	return uint32(n), err == nil && n > 0 && recordName(uint32(n)) == name
}

func (d *Record) encode() []byte {
	b := cbor.AppendMap(nil, recordPairs)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), recordFormat)
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), d.Drive[:])
	b = cbor.AppendUint(cbor.AppendUint(b, 3), uint64(d.Version))
	b = cbor.AppendBytes(cbor.AppendUint(b, 4), d.Prev[:])
	b = cbor.AppendUint(cbor.AppendUint(b, 5), uint64(d.Suite))
	b = cbor.AppendBytes(cbor.AppendUint(b, 6), d.Chunker)
	b = cbor.AppendInt(cbor.AppendUint(b, 7), nanos(d.Created))
	b = cbor.AppendBytes(cbor.AppendUint(b, 8), d.Owner[:])
	return cbor.AppendBytes(cbor.AppendUint(b, 9), d.first)
}

// readKey reads a map key that must be want.
func readKey(r *cbor.Reader, last *int64, want uint64) {
	if got := r.Key(last); r.Err() == nil && got != want {
		r.Fail("key %d where %d was due", got, want)
	}
}

// readFormat reads the beginning of a map and its key 1, the format. An authentic record of a
// higher format is told apart from a malformed one.
func readFormat(r *cbor.Reader, last *int64, known uint64) (pairs int, err error) {
	pairs = r.Map()
	readKey(r, last, 1)
	format := r.Uint()
	if r.Err() != nil {
		return 0, fmt.Errorf("%w: %w", ErrTampered, r.Err())
	}
	if format > known {
		return 0, fmt.Errorf("%w: format %d", ErrFormat, format)
	}
	if format != known {
		return 0, fmt.Errorf("%w: format %d", ErrTampered, format)
	}
	return pairs, nil
}

func parseRecord(body []byte) (*Record, error) {
	r := cbor.NewReader(body)
	last := int64(-1)
	pairs, err := readFormat(r, &last, recordFormat)
	if err != nil {
		return nil, err
	}
	if pairs != recordPairs {
		r.Fail("%d pairs", pairs)
	}
	d := new(Record)
	readKey(r, &last, 2)
	r.Fixed(d.Drive[:])
	readKey(r, &last, 3)
	d.Version = uint32(r.UintMax(1<<32 - 1))
	readKey(r, &last, 4)
	r.Fixed(d.Prev[:])
	readKey(r, &last, 5)
	d.Suite = uint8(r.UintMax(255))
	readKey(r, &last, 6)
	d.Chunker = append([]byte{}, r.BytesMax(maxChunker)...)
	readKey(r, &last, 7)
	d.Created = time.Unix(0, r.Int())
	readKey(r, &last, 8)
	r.Fixed(d.Owner[:])
	readKey(r, &last, 9)
	d.first = fixedBytes(r, secretBox)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return d, nil
}

func fixedBytes(r *cbor.Reader, n int) []byte {
	b := make([]byte, n)
	r.Fixed(b)
	return b
}

// ownerKey is the owner's signing key, which follows from the root alone.
func ownerKey(root *secret) ed25519.PrivateKey {
	seed := kdf.Key(kdf.RootOwner, root[:])
	return ed25519.NewKeyFromSeed(seed[:])
}

func publicKey(key ed25519.PrivateKey) (pub [ed25519.PublicKeySize]byte) {
	copy(pub[:], key[ed25519.SeedSize:])
	return pub
}

// recordKey seals drive records, and driveKey boxes the secrets of epochs.
func recordKey(root *secret, drive DriveID) [32]byte {
	return kdf.Key(kdf.RootRecord, root[:], drive[:])
}

func driveKey(root *secret, drive DriveID) [32]byte {
	return kdf.Key(kdf.RootDrive, root[:], drive[:])
}

// secretAAD binds the box of an epoch's secret to its drive and epoch.
func secretAAD(drive DriveID, number uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(nil), drive[:]...), number)
}

// boxSecret boxes the secret of an epoch under the root, and unboxSecret is its inverse.
func boxSecret(root *secret, drive DriveID, number uint32, ds *secret, entropy io.Reader) ([]byte, error) {
	key := driveKey(root, drive)
	return box(&key, secretAAD(drive, number), ds[:], entropy)
}

func unboxSecret(root *secret, drive DriveID, number uint32, sealed []byte) (secret, bool) {
	key := driveKey(root, drive)
	plain, ok := unbox(&key, secretAAD(drive, number), sealed)
	if !ok || len(plain) != len(secret{}) {
		return secret{}, false
	}
	return secret(plain), true
}

// ring opens the secret of the first epoch. Those of later ones are in the members log.
func (d *Record) ring(root *secret) (*Ring, error) {
	ds, ok := unboxSecret(root, d.Drive, 1, d.first)
	if !ok {
		return nil, fmt.Errorf("%w: secret of epoch 1", ErrTampered)
	}
	return &Ring{drive: d.Drive, epochs: []epoch{{number: 1, secret: ds}}}, nil
}

// seal signs and seals the record, and returns its blob and its place in the chain.
func (d *Record) seal(root *secret, entropy io.Reader) ([]byte, Mark, error) {
	s := sign(ownerKey(root), SignDrive, d.encode())
	key := recordKey(root, d.Drive)
	b, err := SealBlob(&key, kdf.RootRecord, 0, recordName(d.Version), s.Encode(), 0, entropy)
	return b, Mark{Seq: uint64(d.Version), Hash: s.Hash()}, err
}

// openRecord opens and checks the blob of one version.
func openRecord(root *secret, drive DriveID, version uint32, b []byte) (*Record, Mark, error) {
	name := recordName(version)
	key := recordKey(root, drive)
	plain, err := OpenBlob(&key, kdf.RootRecord, name, b)
	if err != nil {
		return nil, Mark{}, err
	}
	s, err := ParseSigned(plain)
	if err != nil {
		return nil, Mark{}, fmt.Errorf("open %s: %w", name, err)
	}
	owner := publicKey(ownerKey(root))
	if err := s.Check(owner, SignDrive); err != nil {
		return nil, Mark{}, fmt.Errorf("open %s: %w", name, err)
	}
	d, err := parseRecord(s.Body)
	if err != nil {
		return nil, Mark{}, fmt.Errorf("open %s: %w", name, err)
	}
	if d.Drive != drive || d.Version != version || d.Owner != owner {
		return nil, Mark{}, fmt.Errorf("open %s: %w: it is another record", name, ErrTampered)
	}
	return d, Mark{Seq: uint64(version), Hash: s.Hash()}, nil
}

// recordVersions lists the versions that the Bucket has, ascending. A spare without its
// first copy counts; names that are no version are left to Verify.
func recordVersions(ctx context.Context, bucket blob.Bucket) ([]uint32, error) {
	var versions []uint32
	for info, err := range bucket.List(ctx, recordPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list drive records: %w", err)
		}
		v, ok := recordVersion(firstName(info.Name))
		if ok && (len(versions) == 0 || versions[len(versions)-1] != v) {
			versions = append(versions, v)
		}
	}
	return versions, nil
}

// readRecord reads one version, from either copy.
func readRecord(ctx context.Context, bucket blob.Bucket, root *secret, drive DriveID, version uint32) (*Record, Mark, error) {
	var d *Record
	var m Mark
	err := getEither(ctx, bucket, recordName(version), func(b []byte) (err error) {
		d, m, err = openRecord(root, drive, version, b)
		return err
	})
	return d, m, err
}

// nanos is how a time stands in a record: nanoseconds since 1970, and 0 for none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
