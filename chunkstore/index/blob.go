package index

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// ErrBlob is wrapped by every error for an index blob that is damaged, forged
// or misplaced. It is never fatal: the packs tell all that index blobs tell.
var ErrBlob = errors.New("index blob is damaged or was tampered with")

// The format of index blobs is docs/FORMAT.md.
const (
	blobMagic   = "SHEAFIX1"
	blobHead    = len(blobMagic) + chacha20poly1305.NonceSizeX
	blobFloor   = 4 << 10  // bytes of the smallest index blob
	blobMax     = 64 << 20 // bytes that a reader takes at most
	blobContext = "sheaf/v1/index"
	rootVersion = 2
	maxBits     = 8 // so at most 256 shards
	entrySize   = 32 + 32 + 32 + 4 + 4 + 4 + 4 + 1
	packItem    = 1 + 34 + 1 + 1 + 1 + 1 + 17 // the least bytes of a pack in a root

	roleRoot  = byte(0)
	roleShard = byte(1)
)

// A generation names one writing of all index blobs: a number, larger than all
// before, and eight random bytes, so that two writers never share a name.
type generation [16]byte

func (g generation) number() uint64 { return binary.BigEndian.Uint64(g[:8]) }

func (g generation) rootName() blob.Name {
	return blob.Name("index/" + hex.EncodeToString(g[:]) + "/root")
}

func (g generation) shardName(i int) blob.Name {
	return blob.Name(fmt.Sprintf("index/%x/%02x", g[:], i))
}

// parseBlobName takes the name of an index blob apart. shard is -1 for a root.
func parseBlobName(n blob.Name) (g generation, shard int, ok bool) {
	s := string(n)
	if len(s) < 6+32+1+2 || s[:6] != "index/" || s[38] != '/' {
		return g, 0, false
	}
	if _, err := hex.Decode(g[:], []byte(s[6:38])); err != nil {
		return g, 0, false
	}
	if s[39:] == "root" {
		return g, -1, g.rootName() == n
	}
	var b [1]byte
	if len(s) != 39+2 {
		return g, 0, false
	}
	if _, err := hex.Decode(b[:], []byte(s[39:])); err != nil {
		return g, 0, false
	}
	return g, int(b[0]), g.shardName(int(b[0])) == n
}

func blobAEAD(key *[32]byte) cipher.AEAD {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic("index: a key of 32 bytes was refused: " + err.Error())
	}
	return aead
}

func blobAAD(g generation, role byte, shard int) []byte {
	b := append([]byte(blobContext), role)
	b = append(b, g[:]...)
	return append(b, byte(shard))
}

// BlobSize reports whether an index blob may have n bytes.
func BlobSize(n int64) bool { return n >= blobFloor && n <= blobMax && padme(n) == n }

// padme rounds n >= 2 up to the next length of PADMÉ, as pack does.
func padme(n int64) int64 {
	e := bits.Len64(uint64(n)) - 1
	mask := int64(1)<<(e-bits.Len64(uint64(e))) - 1
	return (n + mask) &^ mask
}

// blobLen returns the length of a blob with n bytes of content.
func blobLen(n int64) int64 {
	return padme(max(int64(blobHead)+4+n+chacha20poly1305.Overhead, blobFloor))
}

// A grid is what the sizes of a generation's blobs follow from: not how many chunks there are, but a bound of that from
// the packs it covers, which a bucket sees anyway. That is one chunk for each 32 KiB of packs up to 512 MiB, and for each MiB
// from 16 GiB on. Where the mean chunk is smaller the bound is four times as high, or sixteen times, and so on: what a
// bucket can learn of the mean size of chunks are these steps.
type grid struct {
	bits  int   // there are 1<<bits shards
	shard int64 // least bytes of each
	root  int64 // least bytes of the root
}

// gridFor returns the grid of a generation that covers so many packs, of that many bytes together, with about so many chunks.
func gridFor(packs int, bytes int64, chunks int) grid {
	bound := max(bytes>>20, min(bytes>>15, 1<<14), 1)
	for bound < int64(chunks) {
		bound *= 4
	}
	var g grid
	for g.bits < maxBits && bound*entrySize > shardTarget<<g.bits {
		g.bits++
	}
	// IDs are random, so that the shards are not all as large as the mean; six deviations are enough.
	mean := (bound + 1<<g.bits - 1) >> g.bits
	g.shard = min(blobLen((mean+int64(6*math.Sqrt(float64(mean))))*entrySize), blobMax)
	const pack, shard, rest = 1 + 34 + 3*5 + 1 + 17, 1 + 5 + 5 + 34, 64 // bytes in the root, at most
	g.root = min(blobLen(int64(packs)*pack+shard<<g.bits+rest), blobMax)
	return g
}

// sealBlob returns the blob with that content, which has least bytes or more: magic, nonce, and the sealed
// length (4 bytes), content and zeros.
func sealBlob(key *[32]byte, g generation, role byte, shard int, content []byte, least int64, entropy io.Reader) ([]byte, error) {
	size := max(blobLen(int64(len(content))), least)
	if size > blobMax {
		return nil, fmt.Errorf("index blob of %d bytes is too large", size)
	}
	b := make([]byte, size)
	copy(b, blobMagic)
	nonce := b[len(blobMagic):blobHead]
	if _, err := io.ReadFull(entropy, nonce); err != nil {
		return nil, fmt.Errorf("draw nonce: %w", err)
	}
	plain := b[blobHead : size-chacha20poly1305.Overhead]
	binary.BigEndian.PutUint32(plain, uint32(len(content)))
	copy(plain[4:], content)
	blobAEAD(key).Seal(plain[:0], nonce, plain, blobAAD(g, role, shard))
	return b, nil
}

// openBlob returns the content of a blob. It may decrypt in place.
func openBlob(key *[32]byte, g generation, role byte, shard int, b []byte) ([]byte, error) {
	if len(b) < blobHead+4+chacha20poly1305.Overhead || string(b[:len(blobMagic)]) != blobMagic {
		return nil, ErrBlob
	}
	sealed := b[blobHead:]
	plain, err := blobAEAD(key).Open(sealed[:0], b[len(blobMagic):blobHead], sealed, blobAAD(g, role, shard))
	if err != nil {
		return nil, ErrBlob
	}
	n := binary.BigEndian.Uint32(plain)
	if uint64(n) > uint64(len(plain)-4) {
		return nil, ErrBlob
	}
	return plain[4 : 4+n], nil
}

// A root is the table of contents of one generation.
type root struct {
	gen    generation
	bits   int // there are 1<<bits shards
	packs  []Pack
	shards []shardInfo
}

type shardInfo struct {
	count uint32 // of entries
	size  int64  // of the blob
	hash  [32]byte
}

// appendRoot encodes a root in canonical CBOR.
func appendRoot(b []byte, r root) []byte {
	b = cbor.AppendMap(b, 5)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), rootVersion)
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), r.gen[:])
	b = cbor.AppendUint(cbor.AppendUint(b, 3), uint64(r.bits))
	b = cbor.AppendArray(cbor.AppendUint(b, 4), len(r.packs))
	for _, p := range r.packs {
		b = cbor.AppendArray(b, 6)
		b = cbor.AppendBytes(b, p.Name[:])
		b = cbor.AppendUint(b, uint64(p.Size))
		b = cbor.AppendUint(b, uint64(p.Body))
		b = cbor.AppendUint(b, uint64(p.Count))
		b = cbor.AppendBool(b, p.Doubles)
		b = cbor.AppendBytes(b, p.Mark[:])
	}
	b = cbor.AppendArray(cbor.AppendUint(b, 5), len(r.shards))
	for _, s := range r.shards {
		b = cbor.AppendArray(b, 3)
		b = cbor.AppendUint(b, uint64(s.count))
		b = cbor.AppendUint(b, uint64(s.size))
		b = cbor.AppendBytes(b, s.hash[:])
	}
	return b
}

// parseRoot is the inverse of appendRoot.
func parseRoot(b []byte) (root, error) {
	var out root
	r := cbor.NewReader(b)
	last := int64(-1)
	key := func(want uint64) {
		if got := r.Key(&last); r.Err() == nil && got != want {
			r.Fail("key %d where %d was due", got, want)
		}
	}
	if n := r.Map(); n != 5 {
		r.Fail("map of %d", n)
	}
	key(1)
	if v := r.Uint(); v != rootVersion {
		r.Fail("version %d", v)
	}
	key(2)
	r.Fixed(out.gen[:])
	key(3)
	out.bits = int(r.UintMax(maxBits))
	key(4)
	n := r.Array()
	if n > r.Len()/packItem {
		r.Fail("%d packs in %d bytes", n, r.Len())
		n = 0
	}
	out.packs = make([]Pack, 0, n)
	for range n {
		r.ArrayOf(6)
		var p Pack
		r.Fixed(p.Name[:])
		p.Size = int64(r.UintMax(pack.Size))
		p.Body = int64(r.UintMax(pack.Size))
		p.Count = uint32(r.UintMax(pack.Size))
		p.Doubles = r.Bool()
		r.Fixed(p.Mark[:])
		if r.Err() != nil {
			break
		}
		out.packs = append(out.packs, p)
	}
	key(5)
	r.ArrayOf(1 << out.bits)
	for range 1 << out.bits {
		r.ArrayOf(3)
		var s shardInfo
		s.count = uint32(r.UintMax(blobMax / entrySize))
		s.size = int64(r.UintMax(blobMax))
		r.Fixed(s.hash[:])
		if r.Err() != nil {
			break
		}
		out.shards = append(out.shards, s)
	}
	if err := r.Close(); err != nil {
		return root{}, fmt.Errorf("%w: %w", ErrBlob, err)
	}
	return out, nil
}

// appendShardEntry encodes one chunk of a shard; no is the number of its pack in the root.
func appendShardEntry(b []byte, id chunk.ID, no uint32, l Location) []byte {
	b = append(b, id[:]...)
	b = append(b, l.CID[:]...)
	b = append(b, l.SIV[:]...)
	b = binary.BigEndian.AppendUint32(b, no)
	b = binary.BigEndian.AppendUint32(b, l.Off)
	b = binary.BigEndian.AppendUint32(b, l.Len)
	b = binary.BigEndian.AppendUint32(b, l.Plain)
	return append(b, byte(l.Kind))
}

// shardEntry is one chunk of a shard.
type shardEntry struct {
	pack  uint32 // in the root
	entry pack.Entry
}

// parseShard reads the content of shard no of r, each entry within its bounds, the
// IDs in ascending order and of this shard.
func parseShard(r root, no int, b []byte) ([]shardEntry, error) {
	if len(b)%entrySize != 0 || no < 0 || no >= 1<<r.bits {
		return nil, fmt.Errorf("%w: shard of %d bytes", ErrBlob, len(b))
	}
	entries := make([]shardEntry, 0, len(b)/entrySize)
	var last []byte
	for ; len(b) > 0; b = b[entrySize:] {
		e := shardEntry{pack: binary.BigEndian.Uint32(b[96:])}
		copy(e.entry.ID[:], b)
		copy(e.entry.CID[:], b[32:])
		copy(e.entry.SIV[:], b[64:])
		e.entry.Off = binary.BigEndian.Uint32(b[100:])
		e.entry.Len = binary.BigEndian.Uint32(b[104:])
		e.entry.Plain = binary.BigEndian.Uint32(b[108:])
		e.entry.Kind = chunk.Kind(b[112])
		switch {
		case uint64(e.pack) >= uint64(len(r.packs)),
			int64(e.entry.Off)+int64(e.entry.Len) > r.packs[e.pack].Size,
			e.entry.Plain > chunk.MaxSize,
			!e.entry.Kind.Valid(),
			shardOf(e.entry.ID, r.bits) != no:
			return nil, fmt.Errorf("%w: entry out of bounds", ErrBlob)
		case last != nil && bytes.Compare(last, b[:32]) >= 0:
			return nil, fmt.Errorf("%w: entries out of order", ErrBlob)
		}
		last = b[:32]
		entries = append(entries, e)
	}
	return entries, nil
}

// shardOf returns the shard of a chunk among 1<<bits: the first bits of its ID.
func shardOf(id chunk.ID, bits int) int { return int(id[0]) >> (maxBits - bits) }

func hashOf(b []byte) [32]byte { return blake3.Sum256(b) }
