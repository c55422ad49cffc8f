package seal

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// A block is an element of GF(2^128) in the bit order of GCM (NIST SP 800-38D,
// section 6.3).
type block struct{ hi, lo uint64 }

func toBlock(b []byte) block {
	var p [16]byte
	copy(p[:], b)
	return block{binary.BigEndian.Uint64(p[:]), binary.BigEndian.Uint64(p[8:])}
}

func (x block) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, x.hi), x.lo)
}

func (x block) add(y block) block { return block{x.hi ^ y.hi, x.lo ^ y.lo} }

func (x block) mul(y block) block {
	var z block
	for range 128 {
		if x.hi>>63 == 1 {
			z = z.add(y)
		}
		x = block{x.hi<<1 | x.lo>>63, x.lo << 1}
		carry := y.lo & 1
		y = block{y.hi >> 1, y.lo>>1 | y.hi<<63}
		if carry == 1 {
			y.hi ^= 0xe1 << 56
		}
	}
	return z
}

// inverse returns x to the power of 2^128 - 2.
func (x block) inverse() block {
	z, square := block{hi: 1 << 63}, x
	for range 127 {
		square = square.mul(square)
		z = z.mul(square)
	}
	return z
}

func ghash(h block, aad, ct []byte) block {
	var y block
	for _, part := range [][]byte{aad, ct} {
		for len(part) > 0 {
			n := min(16, len(part))
			y = y.add(toBlock(part[:n])).mul(h)
			part = part[n:]
		}
	}
	return y.add(block{8 * uint64(len(aad)), 8 * uint64(len(ct))}).mul(h)
}

// T-A22: AES-GCM does not commit to its key. Here is a ciphertext, constructed as
// anyone can, that opens under two keys to two plain texts, both tags being right. As
// a segment of a chunk it opens under the one key and is refused under the other,
// because the commitment is of one key alone.
func TestOpen_RefusesTheSecondKeyOfACiphertextOfTwo(t *testing.T) {
	const plain = 32
	o := NewOpener()
	refs := [2]chunk.Ref{
		{Key: chunk.Key{1}, Size: plain, Kind: chunk.Data},
		{Key: chunk.Key{2}, Size: plain, Kind: chunk.Data},
	}
	var boxes [2]*box
	var h, mask [2]block // of GHASH, and E(J0), which masks the tag
	var sums [2]block
	ct := make([]byte, plain)
	copy(ct, "the first block")
	for i := range refs {
		b, _, err := o.box(&refs[i], func(byte) Suite { return AESGCM })
		if err != nil {
			t.Fatal(err)
		}
		boxes[i] = b
		cipher, err := aes.NewCipher(o.keys[:32])
		if err != nil {
			t.Fatal(err)
		}
		var buf [16]byte
		cipher.Encrypt(buf[:], buf[:])
		h[i] = toBlock(buf[:])
		o.scratch.load(b, 1, true)
		j0 := append(bytes.Clone(o.scratch.nonce[:]), 0, 0, 0, 1)
		cipher.Encrypt(buf[:], j0)
		mask[i] = toBlock(buf[:])
		sums[i] = ghash(h[i], o.scratch.aad[:], ct).add(mask[i])
	}
	// The last block X of ct adds X·H² to each sum. Both must give one tag:
	// X = (sum₁ + sum₂) / (H₁² + H₂²).
	square := [2]block{h[0].mul(h[0]), h[1].mul(h[1])}
	x := sums[0].add(sums[1]).mul(square[0].add(square[1]).inverse())
	copy(ct[16:], x.bytes())
	tag := sums[0].add(x.mul(square[0]))
	if tag != sums[1].add(x.mul(square[1])) {
		t.Fatal("the equation was not solved")
	}
	collision := append(ct, tag.bytes()...)

	// Control: the AEAD alone takes it under both keys, for two plain texts.
	var texts [2][]byte
	for i, b := range boxes {
		size := uint32(HeaderSize(plain))
		l := Layout{box: b, plain: plain, ends: []uint32{size, size + plain + tagSize}}
		var err error
		if texts[i], err = o.OpenSegment(nil, l, 0, collision); err != nil {
			t.Fatalf("control: key %d does not open the collision: %v", i, err)
		}
	}
	if bytes.Equal(texts[0], texts[1]) {
		t.Fatal("control: both keys give one text")
	}

	// As a chunk of the first key it is sound.
	sealed, first := forge(t, refs[0], AESGCM, head(1, chunk.Data, codecRaw, plain, plain), texts[0])
	if !bytes.HasSuffix(sealed, collision) {
		t.Fatal("sealing the first text does not give the collision")
	}
	if got, err := o.Open(nil, first, sealed); err != nil || !bytes.Equal(got, texts[0]) {
		t.Fatalf("the first key: %v", err)
	}
	// The second key is refused on both paths, though the segment would open.
	mustRefuse(t, o, "the second key", refs[1], sealed)
	if _, err := o.Header(refs[1], sealed); !errors.Is(err, ErrTampered) {
		t.Fatalf("Header with the second key: got %v, want ErrTampered", err)
	}
	// It is the commitment that refuses: even the sound header of the second key
	// does not help behind the commitment to the first.
	second, _ := forge(t, refs[1], AESGCM, head(1, chunk.Data, codecRaw, plain, plain), texts[1])
	if !bytes.HasSuffix(second, collision) {
		t.Fatal("sealing the second text does not give the collision")
	}
	mixed := append(bytes.Clone(sealed[:comSize]), second[comSize:]...)
	mustRefuse(t, o, "commitment of the first before a chunk of the second", refs[1], mixed)
}
