package pack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// ReadDirectory returns the entries of a pack of size bytes, in the order of
// their offsets, by reading from r its footer and its directory, which is
// its end, and nothing else. key is the drive's kdf.PackDir key. The entries neither overlap
// nor leave gaps, lie within the pack, and name no chunk twice.
//
// It is ErrTampered if size is not allowed or what was read is not what a Writer
// wrote under the key. Errors of r are returned as they are. The name of the
// pack is not checked, nor the chunks: see Verify.
func ReadDirectory(key *[32]byte, size int64, r io.ReaderAt) ([]Entry, error) {
	if !AllowedSize(size) {
		return nil, fmt.Errorf("read pack: %w: %d bytes", ErrTampered, size)
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, fmt.Errorf("read pack: %w", err)
	}
	var tail [footerSize]byte
	if err := readAt(r, tail[:], size-footerSize); err != nil {
		return nil, err
	}
	footer, err := aead.Open(nil, tail[:nonceSize], tail[nonceSize:], aad(footerContext, size))
	if err != nil {
		return nil, fmt.Errorf("read pack: %w", ErrTampered)
	}
	count, end, dirOff, dirLen := footerField(footer, 0), footerField(footer, 1), footerField(footer, 2), footerField(footer, 3)
	if !zero(footer[footerHead:]) || count < 1 || dirLen != count*entrySize+sealSize ||
		dirOff+dirLen != size-footerSize || end > dirOff {
		return nil, fmt.Errorf("read pack: %w", ErrTampered)
	}

	dir := make([]byte, dirLen) // at most size, for it ends where the footer begins
	if err := readAt(r, dir, dirOff); err != nil {
		return nil, err
	}
	if sum := blake3.Sum256(dir); !bytes.Equal(sum[:], footer[16:footerHead]) {
		return nil, fmt.Errorf("read pack: %w", ErrTampered)
	}
	plain, err := aead.Open(dir[nonceSize:nonceSize], dir[:nonceSize], dir[nonceSize:], aad(dirContext, size))
	if err != nil {
		return nil, fmt.Errorf("read pack: %w", ErrTampered)
	}
	return parseDirectory(plain, end)
}

// parseDirectory reads entries that must fill the pack from the magic to end.
func parseDirectory(plain []byte, end int64) ([]Entry, error) {
	n := len(plain) / entrySize
	if n*entrySize != len(plain) {
		return nil, fmt.Errorf("read pack: %w", ErrTampered)
	}
	entries := make([]Entry, n)
	seen := make(map[chunk.ID]struct{}, n)
	at := int64(len(magic))
	for i := range entries {
		e := &entries[i]
		b := plain[i*entrySize : (i+1)*entrySize]
		copy(e.ID[:], b)
		copy(e.CID[:], b[32:])
		copy(e.SIV[:], b[64:])
		e.Kind = chunk.Kind(b[96])
		e.Plain = binary.BigEndian.Uint32(b[97:])
		e.Off, e.Len = uint32(at), binary.BigEndian.Uint32(b[101:])
		at += int64(e.Len)
		if _, double := seen[e.ID]; double || !e.sound() || at > end {
			return nil, fmt.Errorf("read pack: %w", ErrTampered)
		}
		seen[e.ID] = struct{}{}
	}
	if at != end {
		return nil, fmt.Errorf("read pack: %w", ErrTampered)
	}
	return entries, nil
}

// Verify checks a whole pack: its length and name, its directory, and that each
// sealed chunk has its ID. It calls each, if that is not nil, with every chunk that
// proved right, in order; sealed is a part of file. An error of each ends the
// walk and is returned as it is; all others are ErrTampered. Any changed bit of
// file is found, the padding's too, for name is a hash over all of it.
func Verify(key *[32]byte, name Name, file []byte, each func(e Entry, sealed []byte) error) error {
	if blake3.Sum256(file) != name || !bytes.HasPrefix(file, []byte(magic)) {
		return fmt.Errorf("verify pack %s: %w", name, ErrTampered)
	}
	entries, err := ReadDirectory(key, int64(len(file)), bytes.NewReader(file))
	if err != nil {
		return fmt.Errorf("verify pack %s: %w", name, err)
	}
	for _, e := range entries {
		sealed := file[e.Off : e.Off+e.Len : e.Off+e.Len]
		if blake3.Sum256(sealed) != [32]byte(e.ID) {
			return fmt.Errorf("verify pack %s: chunk %s: %w", name, e.ID, ErrTampered)
		}
		if each == nil {
			continue
		}
		if err := each(e, sealed); err != nil {
			return err
		}
	}
	return nil
}

// readAt fills b. That a reader ends before the size it was said to have is an
// error of the reader, not of the pack: it may be a file that is still copied.
func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read pack: %w", err)
}

func footerField(footer []byte, i int) int64 { return int64(binary.BigEndian.Uint32(footer[4*i:])) }

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
