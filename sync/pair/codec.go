package pair

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// What is stored: a version byte, then fields as varints, and strings with their length before them. A record that cannot be read ends the turn, for
// nothing may follow from its absence; of what a place still has, a look in full writes it anew.

const codecVersion = 1

// kindSkip is set in the kind of an item that a filter left out by size or age when it was noted.
const kindSkip = 0x80

// flagOwn marks an item that this package has put there, and that nobody has seen there since.
const flagOwn = 1

var errCodec = errors.New("a record is damaged")

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendItem(b []byte, it *merge.Item) []byte {
	b = appendString(b, it.Path)
	kind := byte(it.Kind)
	if it.Skip {
		kind |= kindSkip
	}
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(it.Mode))
	b = binary.AppendVarint(b, it.Size)
	b = binary.AppendVarint(b, it.MTime)
	for _, s := range [...]string{it.Target, it.ID, it.Version, it.Sums} {
		b = appendString(b, s)
	}
	return b
}

func encodeItem(it *merge.Item, flags byte) []byte {
	return appendItem([]byte{codecVersion, flags}, it)
}

func encodePair(p *merge.Pair) []byte {
	b := binary.BigEndian.AppendUint64([]byte{codecVersion}, p.N)
	return appendItem(appendItem(b, &p.Item[0]), &p.Item[1])
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) item() (it merge.Item) {
	it.Path = d.string()
	kind := d.byte()
	it.Kind, it.Skip = merge.Kind(kind&^kindSkip), kind&kindSkip != 0
	it.Mode = uint32(d.uint())
	it.Size, it.MTime = d.int(), d.int()
	it.Target, it.ID, it.Version, it.Sums = d.string(), d.string(), d.string(), d.string()
	return it
}

func decodeItem(b []byte) (it merge.Item, flags byte, err error) {
	d := decoder{b: b}
	if d.byte() != codecVersion {
		return it, 0, errCodec
	}
	flags = d.byte()
	if it = d.item(); d.bad || len(d.b) > 0 {
		return it, 0, errCodec
	}
	return it, flags, nil
}

func decodePair(b []byte) (p merge.Pair, err error) {
	d := decoder{b: b}
	if d.byte() != codecVersion || len(d.b) < 8 {
		return p, errCodec
	}
	p.N = binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	p.Item[0] = d.item()
	if p.Item[1] = d.item(); d.bad || len(d.b) > 0 {
		return p, errCodec
	}
	return p, nil
}

// pairKind returns the kind of the left item of a pair, and that of a directory if it cannot be read: whoever reads it then says so.
func pairKind(b []byte) merge.Kind {
	d := decoder{b: b[min(len(b), 9):]}
	n := d.uint()
	if d.bad || n >= uint64(len(d.b)) {
		return merge.Dir
	}
	return merge.Kind(d.b[n] &^ kindSkip)
}

// seen is what a place shows, as package merge wants it.
func seen(it remote.Item) merge.Item {
	m := merge.Item{
		Path: it.Path, Kind: merge.Kind(it.Kind), Mode: uint32(it.Mode.Perm()), Size: it.Size, Target: it.Target, ID: it.ID, Version: string(it.Version),
		Sums: merge.Sums(it.Hashes),
	}
	if !it.MTime.IsZero() {
		m.MTime = it.MTime.UnixNano()
	}
	if it.Kind != remote.File {
		m.Size, m.Sums = 0, ""
	}
	if it.Kind == remote.Dir {
		m.MTime, m.Version = 0, ""
	}
	return m
}

func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
