// Package seal turns one chunk of plain bytes into ciphertext and back:
// compress, derive the key, encrypt, name, check. It knows nothing of packs,
// stores or drives, and keeps no state but scratch memory.
//
// The format is docs/FORMAT.md, "Chunks". In short: plain bytes are cut in
// segments of SegmentSize, each compressed by itself; header and segments are
// the frame. The key of a chunk follows from the hash of its frame, so one key
// never meets two frames, whoever seals them, at whatever level, on however
// many clones of a device (attack A18). A commitment to the key stands in front
// of the ciphertext (A22), kind, length and a final mark are bound to every
// part of it (A7, A17), and the ID is the hash of all of it.
package seal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// SegmentSize is the number of plain bytes in every segment of a chunk but the
// last, which may have fewer. A segment is the least that can be read.
const SegmentSize = 128 << 10

// Errors of this package. A caller tells them apart by errors.Is.
var (
	// ErrTampered says that bytes are not the chunk that the Ref names. It is the
	// one error of Open, Header and OpenSegment, without a reason, so that
	// nobody learns from it how far a forgery came.
	ErrTampered = errors.New("data is damaged or was tampered with")
	// ErrSelfCheck says that a chunk, decrypted and decompressed right after it
	// was sealed, was not what went in: broken memory or a broken encoder. The
	// sealed bytes must not be stored.
	ErrSelfCheck = errors.New("sealed chunk does not open to what was sealed")
	// ErrArgument says that a chunk is too large or of no valid kind, or that a
	// suite or level is none of the known.
	ErrArgument = errors.New("cannot be sealed")
)

// A CID is the dedup ID of a plain chunk: equal bytes of one kind have one CID
// in a drive. It is as telling as the plain bytes' hash to whoever holds the
// CID key, so it is kept only in encrypted places.
type CID [32]byte

// A SIV is the synthetic ID of a frame, a keyed hash of the encoded bytes. It
// gives the Key of the chunk to whoever holds the Secrets, and to nobody else.
type SIV [32]byte

// Secrets are the three keys of a drive that sealing needs, derived by the
// caller: CID by kdf.ChunkIDOwn (or the context of another dedup domain), SIV by
// kdf.FrameSIV, Chunk by kdf.ChunkKey. They print as "[key]".
type Secrets struct{ CID, SIV, Chunk [32]byte }

// Format prints "[key]" for every verb.
func (Secrets) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[key]")) }

// MarshalText returns "[key]", so that no encoder and no logger leaks a key.
func (Secrets) MarshalText() ([]byte, error) { return []byte("[key]"), nil }

// KeyOf returns the key of the chunk whose frame has the SIV. With the ID, size
// and kind, which an index knows, it makes up the Ref.
func (s Secrets) KeyOf(siv SIV) chunk.Key { return kdf.Keyed(&s.Chunk, siv[:]) }

// A Level says how hard to compress. It is bound to nothing: chunks of all
// levels live in one drive, and the level may change at any time.
type Level uint8

// The levels. Raw does not compress; the others are those of zstd in Go.
const (
	Raw Level = iota
	Fastest
	Default
	Better
	Best
)

// String names the level.
func (l Level) String() string {
	if l > Best {
		return fmt.Sprintf("level(%d)", uint8(l))
	}
	return [...]string{"raw", "fastest", "default", "better", "best"}[l]
}

func (l Level) encoder() (*zstd.Encoder, error) {
	if l > Best {
		return nil, fmt.Errorf("make encoder: %w: %s", ErrArgument, l)
	}
	if l == Raw {
		return nil, nil
	}
	speed := [...]zstd.EncoderLevel{
		Fastest: zstd.SpeedFastest, Default: zstd.SpeedDefault,
		Better: zstd.SpeedBetterCompression, Best: zstd.SpeedBestCompression,
	}[l]
	// No checksum: every segment is authenticated, and checked once more after encoding.
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(SegmentSize), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true))
}

// A Sealer seals chunks under one drive's Secrets. It is not safe for
// concurrent use: give each goroutine its own, from a pool above, for it keeps an
// encoder, a decoder and scratch memory of up to the largest chunk it met and a segment.
type Sealer struct {
	suite          Suite
	enc            *zstd.Encoder // nil at Raw
	cid, siv, keys *blake3.Hasher
	opener         *Opener
	frame, check   []byte
	sum            [32]byte
}

// NewSealer returns a Sealer, or ErrArgument for an unknown suite or level.
func NewSealer(s Secrets, suite Suite, level Level) (*Sealer, error) {
	if !suite.valid() {
		return nil, fmt.Errorf("make sealer: %w: %s", ErrArgument, suite)
	}
	enc, err := level.encoder()
	if err != nil {
		return nil, fmt.Errorf("make sealer: %w", err)
	}
	return &Sealer{
		suite: suite, enc: enc, opener: NewOpener(),
		cid: keyed(&s.CID), siv: keyed(&s.SIV), keys: keyed(&s.Chunk),
	}, nil
}

// keyed returns a hasher for kdf.Keyed's function that can be used again and again.
func keyed(key *[32]byte) *blake3.Hasher {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("seal: a key of 32 bytes was refused: " + err.Error())
	}
	return h
}

// CID returns the dedup ID of plain: the hash, keyed by Secrets.CID, of the
// kind's byte and the bytes.
func (s *Sealer) CID(kind chunk.Kind, plain []byte) CID {
	s.cid.Reset()
	s.sum[0] = byte(kind)
	_, _ = s.cid.Write(s.sum[:1])
	_, _ = s.cid.Write(plain)
	s.cid.Sum(s.sum[:0])
	return s.sum
}

// Seal appends the ciphertext of plain to dst, which must not overlap it, and
// returns the extended slice, the Ref that opens what was appended, and the SIV
// that gives the Ref's key back.
//
// What it returns was decrypted, decompressed and compared with plain before it
// returns; ErrSelfCheck tells that this went wrong. ErrArgument tells that plain
// is larger than chunk.MaxSize or kind is none. On an error nothing must be
// stored and dst is returned as it was.
//
// The same frame always gives the same ciphertext; there is no randomness.
func (s *Sealer) Seal(dst []byte, kind chunk.Kind, plain []byte) ([]byte, chunk.Ref, SIV, error) {
	if !kind.Valid() || len(plain) > chunk.MaxSize {
		return dst, chunk.Ref{}, SIV{}, fmt.Errorf("seal chunk: %w: %s of %d bytes", ErrArgument, kind, len(plain))
	}
	frame := s.encode(kind, plain)
	s.siv.Reset()
	_, _ = s.siv.Write(frame)
	siv := SIV(s.siv.Sum(s.sum[:0]))
	s.keys.Reset()
	_, _ = s.keys.Write(siv[:])
	ref := chunk.Ref{Key: chunk.Key(s.keys.Sum(s.sum[:0])), Size: uint32(len(plain)), Kind: kind}

	start := len(dst)
	out, err := s.encrypt(dst, &ref, frame)
	if err != nil {
		return dst, chunk.Ref{}, SIV{}, fmt.Errorf("seal chunk: %w", err)
	}
	ref.ID = s.opener.id(out[start:])
	if err := s.selfCheck(ref, out[start:], plain); err != nil {
		return dst, chunk.Ref{}, SIV{}, fmt.Errorf("seal chunk: %w", err)
	}
	return out, ref, siv, nil
}

// encode returns the frame of plain, in memory that the next call reuses.
func (s *Sealer) encode(kind chunk.Kind, plain []byte) []byte {
	n := segments(uint32(len(plain)))
	// Room for the worst segment: an encoder may write a little more than it read.
	f := slices.Grow(s.frame[:0], frameHead(n)+len(plain)+SegmentSize/8)
	f = f[:frameHead(n)]
	clear(f)
	codec := codecRaw
	for i := range n {
		segment := plain[i*SegmentSize : min((i+1)*SegmentSize, len(plain))]
		before := len(f)
		// The first segment decides whether the others are tried: bytes that do
		// not shrink are most often alike to their end.
		if s.enc != nil && (i == 0 || codec == codecZstd) {
			f = s.enc.EncodeAll(segment, f)
		}
		if stored := len(f) - before; stored > 0 && stored*100 <= len(segment)*97 {
			codec = codecZstd
		} else {
			f = append(f[:before], segment...)
		}
		putUint24(f[fixedHead+3*i:], len(f)-before)
	}
	putFixedHead(f, kind, codec, uint32(len(plain)))
	s.frame = f
	return f
}

// encrypt appends the ciphertext of frame to dst.
func (s *Sealer) encrypt(dst []byte, ref *chunk.Ref, frame []byte) ([]byte, error) {
	b, mask, err := s.opener.box(ref, func(byte) Suite { return s.suite })
	if err != nil {
		return dst, err
	}
	n := segments(ref.Size)
	head := frame[:frameHead(n)]
	dst = slices.Grow(dst, len(frame)+comSize+1+tagSize*(n+1))
	dst = append(dst, b.com()...)
	dst = append(dst, byte(s.suite)^mask)
	dst = s.opener.scratch.seal(dst, b, 0, n == 0, head)
	frame = frame[len(head):]
	for i := range n {
		stored := uint24(head[fixedHead+3*i:])
		dst = s.opener.scratch.seal(dst, b, i+1, i == n-1, frame[:stored])
		frame = frame[stored:]
	}
	return dst, nil
}

// selfCheck opens sealed by the path of a reader and compares it with plain, segment by segment, so that what is
// compared is still in the cache of the CPU. The hash of sealed is left out, for it was made of these very bytes.
func (s *Sealer) selfCheck(ref chunk.Ref, sealed, plain []byte) error {
	l := &s.opener.layout
	if s.opener.header(l, ref, sealed) != nil || l.Len() != int64(len(sealed)) {
		return ErrSelfCheck
	}
	for i := range l.Segments() {
		got, err := s.opener.OpenSegment(s.check[:0], *l, i, sealed[l.ends[i]:l.ends[i+1]])
		if err != nil || len(got) > len(plain) || !bytes.Equal(got, plain[:len(got)]) {
			return ErrSelfCheck
		}
		s.check, plain = got, plain[len(got):]
	}
	if len(plain) > 0 {
		return ErrSelfCheck
	}
	return nil
}
