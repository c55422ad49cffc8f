package keys

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// MaxBlob is the longest sealed blob in bytes. Nothing longer is read.
const MaxBlob = 1 << 20

// minBlob is the floor of the padding: no blob of this package is shorter.
const minBlob = 1 << 10

// A sealed blob is a header, a nonce and a ciphertext. The header is clear and
// authenticated: four bytes "SHB" and the format, then the epoch.
const (
	blobFormat   = 1
	headerSize   = 8
	blobOverhead = headerSize + boxOverhead
	lengthSize   = 4
)

// boxOverhead is what a box is longer than its content: nonce and tag.
const boxOverhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// padded returns the PADMÉ size for n bytes (Nikitin et al., "Reducing Metadata
// Leakage from Encrypted Files and Communication with PURBs", 2019), and
// never less than floor. The size then says of n no more than its magnitude: the
// waste is under 12 % and falls with the size.
func padded(n, floor int) int {
	if n <= floor {
		return floor
	}
	e := bits.Len(uint(n)) - 1
	s := bits.Len(uint(e))
	mask := 1<<(e-s) - 1
	return (n + mask) &^ mask
}

// box seals plain under key with XChaCha20-Poly1305 and a random nonce, which goes
// in front. aad is bound to it.
func box(key *[32]byte, aad, plain []byte, entropy io.Reader) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, fmt.Errorf("set up cipher: %w", err)
	}
	out := make([]byte, chacha20poly1305.NonceSizeX, len(plain)+boxOverhead)
	if _, err := io.ReadFull(entropy, out); err != nil {
		return nil, fmt.Errorf("draw nonce: %w", err)
	}
	return aead.Seal(out, out, plain, aad), nil
}

// unbox is the inverse of box. It reports false for whatever does not open.
func unbox(key *[32]byte, aad, sealed []byte) ([]byte, bool) {
	if len(sealed) < boxOverhead {
		return nil, false
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, false
	}
	n := chacha20poly1305.NonceSizeX
	plain, err := aead.Open(nil, sealed[:n], sealed[n:], aad)
	return plain, err == nil
}

func blobAAD(header []byte, c kdf.Context, name blob.Name) []byte {
	aad := append([]byte(nil), header...)
	aad = append(aad, c.String()...)
	aad = append(aad, 0)
	return append(aad, name...)
}

// SealBlob seals plain as the blob called name. The key must be one that c
// names; c and name are bound to the blob, so it opens under no other name and is
// never taken for a record of another kind. epoch is written in clear and says which
// secret the key came from; records that hang on the root alone use 0. The size is
// padded to PADMÉ with at least floor bytes (1 KiB if floor is less), so that it says little. entropy
// gives the nonce. It fails if the blob would be longer than MaxBlob.
func SealBlob(key *[32]byte, c kdf.Context, epoch uint32, name blob.Name, plain []byte, floor int, entropy io.Reader) ([]byte, error) {
	need := blobOverhead + lengthSize + len(plain)
	size := padded(need, max(floor, minBlob))
	if size > MaxBlob {
		return nil, fmt.Errorf("seal %s: %d bytes are too many", name, len(plain))
	}
	header := make([]byte, headerSize, size)
	copy(header, "SHB")
	header[3] = blobFormat
	binary.BigEndian.PutUint32(header[4:], epoch)
	body := make([]byte, size-blobOverhead)
	binary.BigEndian.PutUint32(body, uint32(len(plain)))
	copy(body[lengthSize:], plain)
	sealed, err := box(key, blobAAD(header, c, name), body, entropy)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	return append(header, sealed...), nil
}

// BlobEpoch returns the epoch in the clear header of a sealed blob. It is
// authentic only once OpenBlob has returned without an error. The error wraps ErrTampered.
func BlobEpoch(b []byte) (uint32, error) {
	if len(b) < minBlob || len(b) > MaxBlob || string(b[:3]) != "SHB" || b[3] != blobFormat {
		return 0, fmt.Errorf("%w: no sealed blob of format %d", ErrTampered, blobFormat)
	}
	return binary.BigEndian.Uint32(b[4:]), nil
}

// OpenBlob is the inverse of SealBlob. The slice is new memory. Whatever does not fit,
// down to one bit of the padding, is an error that wraps ErrTampered and names the blob.
func OpenBlob(key *[32]byte, c kdf.Context, name blob.Name, b []byte) ([]byte, error) {
	if _, err := BlobEpoch(b); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	body, ok := unbox(key, blobAAD(b[:headerSize], c, name), b[headerSize:])
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, ErrTampered)
	}
	n := binary.BigEndian.Uint32(body)
	if uint64(n) > uint64(len(body)-lengthSize) || !allZero(body[lengthSize+n:]) {
		return nil, fmt.Errorf("open %s: %w: padding", name, ErrTampered)
	}
	return body[lengthSize : lengthSize+n : lengthSize+n], nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// spare returns the name of the second copy of a blob without which a drive would
// not open. The copies are equal byte for byte and are sealed under the first name.
func spare(name blob.Name) blob.Name { return name + ".2" }

// firstName is the inverse of spare, and returns any other name as it is.
func firstName(name blob.Name) blob.Name {
	return blob.Name(strings.TrimSuffix(string(name), ".2"))
}

// putTwice puts b under name and under its spare name. The first name is put last, for
// it is the one by which others find the blob.
func putTwice(ctx context.Context, bucket blob.Bucket, name blob.Name, b []byte) error {
	for _, n := range []blob.Name{spare(name), name} {
		if err := bucket.Put(ctx, n, bytes.NewReader(b), int64(len(b))); err != nil {
			return fmt.Errorf("put %s: %w", n, err)
		}
	}
	return nil
}

// listFirst lists the blobs with a prefix by their first names, each once: a spare without its first copy counts. Names that ok
// refuses are left to Verify.
func listFirst(ctx context.Context, bucket blob.Bucket, prefix blob.Name, ok func(blob.Name) bool) ([]blob.Name, error) {
	var names []blob.Name
	for info, err := range bucket.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		name := firstName(info.Name)
		if ok(name) && (len(names) == 0 || names[len(names)-1] != name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// getEither reads name and hands it to check; if the blob is missing or check refuses
// it, it tries the spare. The error is that of the first; if that is missing, which is what ErrIncomplete says, and the spare is not, it wraps that of
// the spare as well: what is sealed under a key that is not known yet may open later.
func getEither(ctx context.Context, bucket blob.Bucket, name blob.Name, check func([]byte) error) error {
	first := readChecked(ctx, bucket, name, check)
	if first == nil || ctx.Err() != nil {
		return first
	}
	second := readChecked(ctx, bucket, spare(name), check)
	switch {
	case second == nil:
		return nil
	case !errors.Is(first, fs.ErrNotExist):
		return first
	case errors.Is(second, ErrTampered):
		return fmt.Errorf("%w: %w: %w", ErrIncomplete, first, second)
	}
	return fmt.Errorf("%w: %w", ErrIncomplete, first)
}

// missingOrBad reports whether ReadBlob has found that there is no such blob, or none that sheaf put.
func missingOrBad(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrTampered)
}

func readChecked(ctx context.Context, bucket blob.Bucket, name blob.Name, check func([]byte) error) error {
	b, err := ReadBlob(ctx, bucket, name)
	if err != nil {
		return err
	}
	return check(b)
}

// ReadBlob reads a whole blob. The error wraps ErrTampered if it is longer than MaxBlob, for then it was
// not made by SealBlob, and [io/fs.ErrNotExist] if there is none.
func ReadBlob(ctx context.Context, bucket blob.Bucket, name blob.Name) ([]byte, error) {
	r, err := bucket.Get(ctx, name, 0, MaxBlob+1)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(io.LimitReader(r, MaxBlob+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > MaxBlob {
		return nil, fmt.Errorf("read %s: %w: longer than %d bytes", name, ErrTampered, MaxBlob)
	}
	return b, nil
}
