// Package catalog is what a listing of a place says of packs and index blobs, in little memory: for each its
// name and its size. It reads no place, and it knows no key.
//
// A pack takes 36 bytes, an index blob 24. Everything else that a place may list has no room here. A Builder takes
// at most [Limit] blobs, so that a place which lists without end takes no more memory than 144 MiB.
package catalog

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Limit is how many blobs a Table has at most: with packs of 32 MiB these are 128 TiB.
const Limit = 4 << 20

// The prefixes of the names that a Table holds.
const (
	Packs blob.Name = "packs/"
	Index blob.Name = "index/"
)

// Errors of this package.
var (
	ErrFull    = errors.New("a place lists more blobs than a drive may have")
	ErrDamaged = errors.New("a stored catalog is damaged")
)

// PackHash returns the BLAKE3 hash that a pack has by its name; ok is false for a name that no pack has.
func PackHash(n blob.Name) (hash [32]byte, ok bool) {
	const dir = len(Packs)
	if len(n) != dir+3+64 || n[:dir] != Packs || n[dir+2] != '/' || n[dir:dir+2] != n[dir+3:dir+5] || !lowerHex(n[dir+3:]) {
		return hash, false
	}
	_, err := hex.Decode(hash[:], []byte(n[dir+3:]))
	return hash, err == nil
}

// PackName is the inverse of PackHash.
func PackName(hash [32]byte) blob.Name {
	s := hex.EncodeToString(hash[:])
	return Packs + blob.Name(s[:2]+"/"+s)
}

// rootShard is the number that a root has among the shards of its generation: the last, as in the order of the names.
const rootShard = 256

// Generation takes the name of an index blob apart. root says that it is the root of its generation, which is put after
// all else of it.
func Generation(n blob.Name) (gen [16]byte, root, ok bool) {
	e, ok := parseIndex(n)
	return e.gen, e.shard == rootShard, ok
}

func parseIndex(n blob.Name) (e indexBlob, ok bool) {
	const dir = len(Index)
	if len(n) < dir+32+1+2 || n[:dir] != Index || n[dir+32] != '/' || !lowerHex(n[dir:dir+32]) {
		return e, false
	}
	if _, err := hex.Decode(e.gen[:], []byte(n[dir:dir+32])); err != nil {
		return e, false
	}
	switch shard := n[dir+33:]; {
	case shard == "root":
		e.shard = rootShard
		return e, true
	case len(shard) == 2 && lowerHex(shard):
		var b [1]byte
		_, err := hex.Decode(b[:], []byte(shard))
		e.shard = uint16(b[0])
		return e, err == nil
	}
	return e, false
}

func lowerHex(s blob.Name) bool {
	return strings.IndexFunc(string(s), func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') }) < 0
}

type packBlob struct {
	hash [32]byte
	size uint32
}

type indexBlob struct {
	gen   [16]byte
	shard uint16
	size  uint32
}

func (e *indexBlob) name() blob.Name {
	if e.shard == rootShard {
		return blob.Name(fmt.Sprintf("%s%x/root", Index, e.gen))
	}
	return blob.Name(fmt.Sprintf("%s%x/%02x", Index, e.gen, e.shard))
}

func comparePacks(a, b packBlob) int { return bytes.Compare(a.hash[:], b.hash[:]) }

func compareIndex(a, b indexBlob) int {
	return cmp.Or(bytes.Compare(a.gen[:], b.gen[:]), cmp.Compare(a.shard, b.shard))
}

// A Table has the names and sizes of the packs and index blobs of one place. It never changes, so it is safe for concurrent
// use. Its zero value, and a nil Table, are empty.
type Table struct {
	packs []packBlob  // in order, none twice
	index []indexBlob // the same
	bytes int64
}

// Len returns the number of blobs.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return len(t.packs) + len(t.index)
}

// Bytes returns the sum of the sizes.
func (t *Table) Bytes() int64 {
	if t == nil {
		return 0
	}
	return t.bytes
}

// Size returns the size of a blob in bytes, and whether the Table has it. Sizes of 4 GiB and more, which no blob of a drive
// has, are shown as 4 GiB - 1.
func (t *Table) Size(n blob.Name) (int64, bool) {
	if t == nil {
		return 0, false
	}
	if hash, ok := PackHash(n); ok {
		if i, ok := slices.BinarySearchFunc(t.packs, packBlob{hash: hash}, comparePacks); ok {
			return int64(t.packs[i].size), true
		}
	}
	if e, ok := parseIndex(n); ok {
		if i, ok := slices.BinarySearchFunc(t.index, e, compareIndex); ok {
			return int64(t.index[i].size), true
		}
	}
	return 0, false
}

// All yields the blobs whose names begin with prefix, in the byte order of their names.
func (t *Table) All(prefix blob.Name) iter.Seq[blob.Info] {
	return func(yield func(blob.Info) bool) {
		if t == nil {
			return
		}
		if related(prefix, Index) {
			for i := range t.index {
				n := t.index[i].name()
				if strings.HasPrefix(string(n), string(prefix)) && !yield(blob.Info{Name: n, Size: int64(t.index[i].size)}) {
					return
				}
			}
		}
		if !related(prefix, Packs) {
			return
		}
		for _, p := range t.packs[t.firstPack(prefix):] {
			n := PackName(p.hash)
			if !strings.HasPrefix(string(n), string(prefix)) {
				if n > prefix {
					return
				}
				continue
			}
			if !yield(blob.Info{Name: n, Size: int64(p.size)}) {
				return
			}
		}
	}
}

// related reports whether names below dir may begin with prefix.
func related(prefix, dir blob.Name) bool {
	return strings.HasPrefix(string(prefix), string(dir)) || strings.HasPrefix(string(dir), string(prefix))
}

// firstPack returns the number of a pack before which none has a name that begins with prefix.
func (t *Table) firstPack(prefix blob.Name) int {
	i, _ := slices.BinarySearchFunc(t.packs, prefix, func(p packBlob, prefix blob.Name) int {
		return cmp.Compare(PackName(p.hash), prefix)
	})
	return i
}

// Missing returns how many blobs t has that other lacks or has with another size, and their bytes.
func (t *Table) Missing(other *Table) (blobs int, size int64) {
	for info := range t.All("") {
		if n, ok := other.Size(info.Name); !ok || n != info.Size {
			blobs++
			size += info.Size
		}
	}
	return blobs, size
}

// A Builder makes a Table of blobs in any order, also of some that come twice: the last size counts. Its zero value is ready.
// It is not safe for concurrent use.
type Builder struct {
	packs []packBlob
	index []indexBlob
}

// Add takes a blob. It passes over what is neither a pack nor an index blob by its name, and returns false for these. The
// error is [ErrFull] after [Limit] blobs. Of those that come twice each counts, until half of all are such.
func (b *Builder) Add(info blob.Info) (bool, error) {
	size := uint32(max(0, min(info.Size, math.MaxUint32)))
	if hash, ok := PackHash(info.Name); ok {
		if len(b.packs)+len(b.index) >= Limit && b.tidy() > Limit/2 {
			return false, ErrFull
		}
		b.packs = append(b.packs, packBlob{hash, size})
		return true, nil
	}
	e, ok := parseIndex(info.Name)
	if !ok {
		return false, nil
	}
	if len(b.packs)+len(b.index) >= Limit && b.tidy() > Limit/2 {
		return false, ErrFull
	}
	e.size = size
	b.index = append(b.index, e)
	return true, nil
}

// tidy sorts what there is, drops what is there twice and returns how many are left.
func (b *Builder) tidy() int {
	b.packs = sorted(b.packs, comparePacks)
	b.index = sorted(b.index, compareIndex)
	return len(b.packs) + len(b.index)
}

// sorted sorts s and keeps the last of those that are equal.
func sorted[T any](s []T, compare func(a, b T) int) []T {
	if !slices.IsSortedFunc(s, func(a, b T) int { return cmp.Or(compare(a, b), 1) }) { // also if two are equal
		slices.SortStableFunc(s, compare)
		slices.Reverse(s)
		s = slices.CompactFunc(s, func(a, b T) bool { return compare(a, b) == 0 })
		slices.Reverse(s)
	}
	return s
}

// Table returns the Table of what was added. The Builder must not be used any more.
func (b *Builder) Table() *Table {
	b.tidy()
	t := &Table{packs: slices.Clip(b.packs), index: slices.Clip(b.index)}
	for i := range t.packs {
		t.bytes += int64(t.packs[i].size)
	}
	for i := range t.index {
		t.bytes += int64(t.index[i].size)
	}
	return t
}

// List makes a Table of the packs and index blobs that a place lists. What the place lists besides is passed over.
func List(seq iter.Seq2[blob.Info, error]) (*Table, error) {
	var b Builder
	for info, err := range seq {
		if err == nil {
			_, err = b.Add(info)
		}
		if err != nil {
			return nil, err
		}
	}
	return b.Table(), nil
}

// With returns a Table of what t has, without those that gone says, and of what is added.
func (t *Table) With(added iter.Seq[blob.Info], gone func(blob.Name) bool) (*Table, error) {
	var b Builder
	for info := range t.All("") {
		if gone != nil && gone(info.Name) {
			continue
		}
		if _, err := b.Add(info); err != nil {
			return nil, err
		}
	}
	for info := range added {
		if _, err := b.Add(info); err != nil {
			return nil, err
		}
	}
	return b.Table(), nil
}

// The stored form: magic, number of packs and of index blobs (4 bytes each, big endian), the packs (hash, size), the index blobs
// (generation, shard, size), and the BLAKE3 hash of all that.
const (
	magic     = "SHEAFCT1"
	packSize  = 32 + 4
	indexSize = 16 + 2 + 4
	ends      = len(magic) + 8 + 32
)

// Append appends the stored form of t to dst.
func (t *Table) Append(dst []byte) []byte {
	if t == nil {
		t = &Table{}
	}
	from := len(dst)
	dst = slices.Grow(dst, ends+len(t.packs)*packSize+len(t.index)*indexSize)
	dst = append(dst, magic...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(t.packs)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(t.index)))
	for i := range t.packs {
		dst = append(dst, t.packs[i].hash[:]...)
		dst = binary.BigEndian.AppendUint32(dst, t.packs[i].size)
	}
	for i := range t.index {
		dst = append(dst, t.index[i].gen[:]...)
		dst = binary.BigEndian.AppendUint16(dst, t.index[i].shard)
		dst = binary.BigEndian.AppendUint32(dst, t.index[i].size)
	}
	sum := blake3.Sum256(dst[from:])
	return append(dst, sum[:]...)
}

// Parse is the inverse of Append. It takes nothing that Append does not write; the error wraps [ErrDamaged].
func Parse(p []byte) (*Table, error) {
	if len(p) < ends || string(p[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, len(p))
	}
	body, sum := p[:len(p)-32], p[len(p)-32:]
	packs := int64(binary.BigEndian.Uint32(body[8:]))
	index := int64(binary.BigEndian.Uint32(body[12:]))
	if want := blake3.Sum256(body); !bytes.Equal(want[:], sum) ||
		packs+index > Limit || packs*packSize+index*indexSize != int64(len(p)-ends) {
		return nil, fmt.Errorf("%w: its sum or its length is wrong", ErrDamaged)
	}
	b := Builder{packs: make([]packBlob, packs), index: make([]indexBlob, index)}
	rest := body[16:]
	for i := range b.packs {
		copy(b.packs[i].hash[:], rest)
		b.packs[i].size = binary.BigEndian.Uint32(rest[32:])
		rest = rest[packSize:]
	}
	for i := range b.index {
		copy(b.index[i].gen[:], rest)
		b.index[i].shard = binary.BigEndian.Uint16(rest[16:])
		b.index[i].size = binary.BigEndian.Uint32(rest[18:])
		if b.index[i].shard > rootShard {
			return nil, fmt.Errorf("%w: a shard out of bounds", ErrDamaged)
		}
		rest = rest[indexSize:]
	}
	t := b.Table()
	if int64(len(t.packs)) != packs || int64(len(t.index)) != index || !bytes.Equal(t.Append(nil), p) {
		return nil, fmt.Errorf("%w: it is not in order", ErrDamaged)
	}
	return t, nil
}
