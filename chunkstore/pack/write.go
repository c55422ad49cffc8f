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

// Sizes in the format. See docs/FORMAT.md, "Packs".
const (
	magic     = "SHEAFPK1"
	nonceSize = chacha20poly1305.NonceSizeX
	sealSize  = nonceSize + chacha20poly1305.Overhead // what sealing adds

	entrySize  = 32 + 32 + 32 + 1 + 4 + 4
	footerSize = 128
	footerHead = 4 + 4 + 4 + 4 + 32 // of the plain footer, before its zeros

	dirContext    = "sheaf/v1/pack-directory"
	footerContext = "sheaf/v1/pack-footer"
)

// overhead returns how many bytes of a pack of n chunks are no chunks, if it has
// no padding.
func overhead(n int) int { return len(magic) + n*entrySize + sealSize + footerSize }

// A Writer fills one pack in memory. It is not safe for concurrent use, but
// what View returned may be read while chunks are added.
type Writer struct {
	buf     []byte // as long as the pack may get; [:end] is written
	end     int
	entries []Entry
	ids     map[chunk.ID]struct{}
}

// NewWriter returns a Writer that fills buf, whose capacity, of at least MinSize, else NewWriter
// panics, and Size bound the pack. The Writer owns buf until Finish, whose result lies in it too.
func NewWriter(buf []byte) *Writer {
	if cap(buf) < MinSize {
		panic("pack: NewWriter needs a buffer of at least pack.MinSize bytes")
	}
	n := min(cap(buf), Size)
	w := &Writer{buf: buf[:n:n], ids: map[chunk.ID]struct{}{}}
	w.end = copy(w.buf, magic)
	return w
}

// Fits reports whether a sealed chunk of n bytes still fits. A chunk of
// seal.MaxSealed(chunk.MaxSize) bytes fits into every empty pack whose buffer is of Size bytes.
func (w *Writer) Fits(n int) bool {
	return n >= 0 && n <= Size && w.end-len(magic)+n+overhead(len(w.entries)+1) <= len(w.buf)
}

// Cost returns what the chunks in the pack cost together.
func (w *Writer) Cost() int64 { return int64(w.end - len(magic) + len(w.entries)*entrySize) }

// Add copies a sealed chunk into the pack and returns where it begins. Off and
// Len of e are not read. The error is ErrFull if it does not fit, and ErrEntry if
// e is not sound or its ID is in the pack already; then nothing was added. That
// sealed has the ID is the caller's word: Add does not hash it.
func (w *Writer) Add(e Entry, sealed []byte) (off uint32, err error) {
	if !w.Fits(len(sealed)) {
		return 0, fmt.Errorf("add chunk %s: %w", e.ID, ErrFull)
	}
	e.Off, e.Len = uint32(w.end), uint32(len(sealed))
	if _, double := w.ids[e.ID]; double || !e.sound() {
		return 0, fmt.Errorf("add chunk %s: %w", e.ID, ErrEntry)
	}
	w.end += copy(w.buf[w.end:], sealed)
	w.entries = append(w.entries, e)
	w.ids[e.ID] = struct{}{}
	return e.Off, nil
}

// Len returns how many bytes the pack has so far, without directory, footer and
// padding.
func (w *Writer) Len() int { return w.end }

// Entries returns what was added, in order. The slice is the Writer's: it must
// not be changed, and a later Add may or may not show in it.
func (w *Writer) Entries() []Entry { return w.entries }

// View returns the n bytes at off of an open pack, or nil if not all of them are
// written. They are the Writer's memory and hold until Finish's result is given up.
func (w *Writer) View(off, n uint32) []byte {
	if int64(off)+int64(n) > int64(w.end) {
		return nil
	}
	return w.buf[off : off+n : off+n]
}

// Retain removes the chunks for which keep, given their number in Entries, is false. Those that stay
// close up in their order, so that views of the pack, and the slice of Entries, do not hold any more.
func (w *Writer) Retain(keep func(i int) bool) {
	end, kept := len(magic), 0
	for i, e := range w.entries {
		if !keep(i) {
			delete(w.ids, e.ID)
			continue
		}
		if int(e.Off) != end {
			copy(w.buf[end:], w.buf[e.Off:e.Off+e.Len])
			e.Off = uint32(end)
		}
		end += int(e.Len)
		w.entries[kept] = e
		kept++
	}
	w.end, w.entries = end, w.entries[:kept]
}

// Finish completes the pack and returns it, in the Writer's buffer, with its
// name. It is padded to size, or to the next allowed size if that is 0; a size that is not allowed, or
// that the pack does not fit in, is ErrFull. key is the drive's kdf.PackDir key. entropy gives two nonces and
// the key of the padding, 80 bytes; it must be a cryptographic source. Finish
// must be called once, and no Add after it. A pack without chunks is ErrEntry.
func (w *Writer) Finish(key *[32]byte, size int64, entropy io.Reader) (file []byte, name Name, err error) {
	if len(w.entries) == 0 {
		return nil, Name{}, fmt.Errorf("finish pack: %w: no chunks", ErrEntry)
	}
	need := w.Cost() + int64(frame)
	if size == 0 {
		size = max(MinSize, padme(need))
	}
	if !AllowedSize(size) || size < need || size > int64(len(w.buf)) {
		return nil, Name{}, fmt.Errorf("finish pack: %w: %d bytes in %d", ErrFull, need, size)
	}
	var random [32 + 2*nonceSize]byte
	if _, err := io.ReadFull(entropy, random[:]); err != nil {
		return nil, Name{}, fmt.Errorf("finish pack: read entropy: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, Name{}, fmt.Errorf("finish pack: %w", err)
	}

	dirLen := len(w.entries)*entrySize + sealSize
	dirOff := int(size) - footerSize - dirLen
	if err := pad(w.buf[w.end:dirOff], random[:32]); err != nil {
		return nil, Name{}, fmt.Errorf("finish pack: %w", err)
	}

	plain := make([]byte, 0, len(w.entries)*entrySize)
	for i := range w.entries {
		plain = appendEntry(plain, &w.entries[i])
	}
	dir := append(w.buf[:dirOff], random[32:32+nonceSize]...)
	dir = aead.Seal(dir, dir[dirOff:], plain, aad(dirContext, size))[dirOff:]

	footer := make([]byte, footerSize-sealSize)
	for i, n := range []int{len(w.entries), w.end, dirOff, dirLen} {
		binary.BigEndian.PutUint32(footer[4*i:], uint32(n))
	}
	sum := blake3.Sum256(dir)
	copy(footer[16:], sum[:])
	file = append(w.buf[:dirOff+dirLen], random[32+nonceSize:]...)
	file = aead.Seal(file, file[dirOff+dirLen:], footer, aad(footerContext, size))
	return file, blake3.Sum256(file), nil
}

// pad fills b with the output of BLAKE3 under a key that nobody keeps, which
// nobody can tell from ciphertext.
func pad(b, key []byte) error {
	h, err := blake3.NewKeyed(key)
	if err != nil {
		return err
	}
	_, err = h.Digest().Read(b)
	return err
}

// aad binds directory and footer to what they are and to the length of the pack.
func aad(context string, size int64) []byte {
	var b bytes.Buffer
	b.WriteString(context)
	b.WriteString(magic)
	_ = binary.Write(&b, binary.BigEndian, size)
	return b.Bytes()
}

func appendEntry(b []byte, e *Entry) []byte {
	b = append(b, e.ID[:]...)
	b = append(b, e.CID[:]...)
	b = append(b, e.SIV[:]...)
	b = append(b, byte(e.Kind))
	b = binary.BigEndian.AppendUint32(b, e.Plain)
	return binary.BigEndian.AppendUint32(b, e.Len)
}
