package seal

import (
	"crypto/subtle"
	"encoding/binary"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// An Opener opens chunks. It needs no secret but the Ref of each. It is not safe
// for concurrent use: give each goroutine its own, for it keeps a decoder and
// scratch memory.
type Opener struct {
	dec     *zstd.Decoder
	hash    *blake3.Hasher // plain BLAKE3, for IDs
	split   *blake3.Hasher // kdf.ChunkSplit
	keys    [splitSize]byte
	sum     [32]byte
	scratch scratch
	packed  []byte // a segment, decrypted and still compressed
	head    []byte
	layout  Layout // of the chunk that open works on
}

// NewOpener returns an Opener.
func NewOpener() *Opener {
	// The output of a segment is bounded by the capacity that DecodeAll is handed,
	// and memory and window by what a segment can need at most.
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(SegmentSize), zstd.WithDecoderMaxWindow(SegmentSize),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("seal: fixed options of the decoder were refused: " + err.Error())
	}
	return &Opener{dec: dec, hash: blake3.New(), split: blake3.NewDeriveKey(kdf.ChunkSplit.String())}
}

// id returns the ID of sealed bytes.
func (o *Opener) id(sealed []byte) chunk.ID {
	o.hash.Reset()
	_, _ = o.hash.Write(sealed)
	o.hash.Sum(o.sum[:0])
	return o.sum
}

// box derives the keys of ref's chunk and returns its AEAD, with the byte that
// masks the suite. suite says which, told the mask.
func (o *Opener) box(ref *chunk.Ref, suite func(mask byte) Suite) (*box, byte, error) {
	o.split.Reset()
	_, _ = o.split.Write(ref.Key[:])
	_, _ = o.split.Digest().Read(o.keys[:])
	ek, iv, com, mask := o.keys[:32], o.keys[32:44], o.keys[44:76], o.keys[76]

	s := suite(mask)
	aead, err := s.aead(ek)
	if err != nil {
		return nil, 0, err
	}
	b := &box{aead: aead, iv: [nonceSize]byte(iv)}
	n := copy(b.aad[:], aadContext)
	b.aad[n], b.aad[n+1] = byte(s), byte(ref.Kind)
	copy(b.com(), com)
	binary.BigEndian.PutUint32(b.aad[aadCom+comSize:], ref.Size)
	return b, mask, nil
}

// Open appends the plain bytes of the chunk that ref names to dst and returns
// the extended slice. sealed must be the whole chunk and must not overlap dst. It
// checks, in this order, the ID, the commitment, the AEADs, version, kind and
// length, and decompresses into no more than ref.Size bytes. Every failure is
// ErrTampered and returns no bytes, though memory beyond len(dst) may have
// changed.
func (o *Opener) Open(dst []byte, ref chunk.Ref, sealed []byte) ([]byte, error) {
	if !plausible(ref) || len(sealed) < MinSealed(ref.Size) || len(sealed) > MaxSealed(ref.Size) {
		return nil, ErrTampered
	}
	if o.id(sealed) != ref.ID {
		return nil, ErrTampered
	}
	return o.open(dst, ref, sealed)
}

// open is Open without the check of the ID.
func (o *Opener) open(dst []byte, ref chunk.Ref, sealed []byte) ([]byte, error) {
	if err := o.header(&o.layout, ref, sealed); err != nil {
		return nil, err
	}
	l := &o.layout
	if l.Len() != int64(len(sealed)) {
		return nil, ErrTampered
	}
	dst = slices.Grow(dst, int(ref.Size))
	for i := range l.Segments() {
		var err error
		if dst, err = o.OpenSegment(dst, *l, i, sealed[l.ends[i]:l.ends[i+1]]); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func plausible(ref chunk.Ref) bool { return ref.Kind.Valid() && ref.Size <= chunk.MaxSize }

// A Layout says where the segments of one sealed chunk lie, and opens them by an
// Opener. It is a value that many goroutines may use at once, each with its own
// Opener. It holds the key of the chunk.
type Layout struct {
	box   *box
	plain uint32
	codec byte
	ends  []uint32 // ends[i] is where segment i begins, ends[i+1] where it ends
}

// Segments returns how many segments the chunk has, 0 for an empty one.
func (l Layout) Segments() int { return segments(l.plain) }

// Len returns the length of the whole sealed chunk in bytes.
func (l Layout) Len() int64 { return int64(l.ends[len(l.ends)-1]) }

// Segment returns where segment i, 0 <= i < Segments, lies in the sealed chunk,
// n bytes from off, and how many plain bytes it holds.
func (l Layout) Segment(i int) (off, n int64, plain int) {
	return int64(l.ends[i]), int64(l.ends[i+1] - l.ends[i]), l.plainOf(i)
}

func (l *Layout) plainOf(i int) int { return min(SegmentSize, int(l.plain)-i*SegmentSize) }

// Header opens the header of the chunk that ref names, for reads of single
// segments. prefix must hold at least the first HeaderSize(ref.Size) bytes of
// the sealed chunk. The commitment and the AEAD are checked, the ID cannot be:
// so a stranger can forge nothing, but one who made this very chunk could show
// other bytes here than Open does. Read whole chunks where that matters.
func (o *Opener) Header(ref chunk.Ref, prefix []byte) (Layout, error) {
	var l Layout
	if !plausible(ref) {
		return Layout{}, ErrTampered
	}
	if err := o.header(&l, ref, prefix); err != nil {
		return Layout{}, err
	}
	return l, nil
}

// header fills in l, reusing its memory.
func (o *Opener) header(l *Layout, ref chunk.Ref, prefix []byte) error {
	size := HeaderSize(ref.Size)
	if len(prefix) < size {
		return ErrTampered
	}
	b, _, err := o.box(&ref, func(mask byte) Suite { return Suite(prefix[comSize] ^ mask) })
	if err != nil || subtle.ConstantTimeCompare(b.com(), prefix[:comSize]) != 1 {
		return ErrTampered
	}
	n := segments(ref.Size)
	head, err := o.scratch.open(o.head[:0], b, 0, n == 0, prefix[headStart:size])
	if err != nil {
		return err
	}
	o.head = head
	*l = Layout{box: b, plain: ref.Size, codec: head[2], ends: append(l.ends[:0], uint32(size))}
	if head[0] != version || head[1] != byte(ref.Kind) || binary.BigEndian.Uint32(head[3:]) != ref.Size {
		return ErrTampered
	}
	if l.codec != codecRaw && l.codec != codecZstd {
		return ErrTampered
	}
	for i := range n {
		stored := uint24(head[fixedHead+3*i:])
		plain := l.plainOf(i)
		if stored < 1 || stored > plain || l.codec == codecRaw && stored != plain {
			return ErrTampered
		}
		l.ends = append(l.ends, l.ends[i]+uint32(stored)+tagSize)
	}
	return nil
}

// OpenSegment appends the plain bytes of segment i of l to dst and returns the
// extended slice. stored must be exactly the bytes that l.Segment(i) tells of, and
// must not overlap dst. Every failure is ErrTampered and returns no bytes.
func (o *Opener) OpenSegment(dst []byte, l Layout, i int, stored []byte) ([]byte, error) {
	if i < 0 || i >= l.Segments() || int64(len(stored)) != int64(l.ends[i+1]-l.ends[i]) {
		return nil, ErrTampered
	}
	plain, final := l.plainOf(i), i == l.Segments()-1
	if len(stored)-tagSize == plain {
		return o.scratch.open(dst, l.box, i+1, final, stored)
	}
	packed, err := o.scratch.open(o.packed[:0], l.box, i+1, final, stored)
	if err != nil {
		return nil, err
	}
	o.packed = packed
	start := len(dst)
	dst = slices.Grow(dst, plain)[:start+plain]
	room := dst[start : start : start+plain]
	out, err := o.dec.DecodeAll(packed, room)
	if err != nil || len(out) != plain {
		return nil, ErrTampered
	}
	if &out[0] != &dst[start] { // the decoder has never been seen to move, but may
		copy(dst[start:], out)
	}
	return dst, nil
}
