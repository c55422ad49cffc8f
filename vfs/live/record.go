package live

import (
	"fmt"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// The records of the journal. Each is an array in canonical CBOR, in the order of the fields of
// its change; write has the bytes behind it.
const (
	recBind        journal.Type = 1  // id, dir, name, entry: what the journal is about to speak of lies here
	recMake        journal.Type = 2  // dir, name, id, New, time
	recLink        journal.Type = 3  // id, dir, name, entry, time
	recRemove      journal.Type = 4  // dir, name, time
	recRename      journal.Type = 5  // dir, name, dir2, name2, flag, time
	recSetAttr     journal.Type = 6  // id, AttrChange
	recSetXattr    journal.Type = 7  // id, name, value, time
	recRemoveXattr journal.Type = 8  // id, name, time
	recWrite       journal.Type = 9  // id, off, time; data
	recHole        journal.Type = 10 // id, off, n, size, time
	recChunks      journal.Type = 11 // id, size, time, then off, skip, n, ref for each run
	recOrphan      journal.Type = 12 // bytes of a file without a name; replay passes it over
)

// A change is what a record says. Each type uses some of the fields.
type change struct {
	id, dir, dir2 manifest.NodeID
	name, name2   string
	entry         manifest.NodeID
	flag          uint64
	made          vfs.New
	attr          vfs.AttrChange
	value         []byte
	off, n, size  int64
	time          time.Time
	runs          []piece
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return cbor.AppendArray(b, 0)
	}
	b = cbor.AppendArray(b, 2)
	b = cbor.AppendInt(b, t.Unix())
	return cbor.AppendUint(b, uint64(t.Nanosecond()))
}

func readTime(r *cbor.Reader) time.Time {
	if r.Array() == 0 {
		return time.Time{}
	}
	sec := r.Int()
	return time.Unix(sec, int64(r.UintMax(999_999_999)))
}

// encode returns the meta of a record.
func (c *change) encode(t journal.Type) []byte {
	b := make([]byte, 0, 96+len(c.name)+len(c.name2)+len(c.value)+96*len(c.runs))
	id := func(ids ...manifest.NodeID) {
		for _, i := range ids {
			b = cbor.AppendBytes(b, i[:])
		}
	}
	switch t {
	case recBind:
		id(c.id, c.dir)
		b = cbor.AppendBytes(b, []byte(c.name))
		id(c.entry)
	case recMake:
		id(c.dir)
		b = cbor.AppendBytes(b, []byte(c.name))
		id(c.id)
		for _, v := range []uint64{uint64(c.made.Kind), uint64(c.made.Mode), uint64(c.made.UID), uint64(c.made.GID), uint64(c.made.Rdev)} {
			b = cbor.AppendUint(b, v)
		}
		b = appendTime(cbor.AppendBytes(b, []byte(c.made.Target)), c.time)
	case recLink:
		id(c.id, c.dir)
		b = cbor.AppendBytes(b, []byte(c.name))
		id(c.entry)
		b = appendTime(b, c.time)
	case recRemove:
		id(c.dir)
		b = appendTime(cbor.AppendBytes(b, []byte(c.name)), c.time)
	case recRename:
		id(c.dir)
		b = cbor.AppendBytes(b, []byte(c.name))
		id(c.dir2)
		b = cbor.AppendUint(cbor.AppendBytes(b, []byte(c.name2)), c.flag)
		b = appendTime(b, c.time)
	case recSetAttr:
		id(c.id)
		a := c.attr
		for _, v := range []uint64{uint64(a.Set), uint64(a.Mode), uint64(a.UID), uint64(a.GID), uint64(a.Size)} {
			b = cbor.AppendUint(b, v)
		}
		b = appendTime(appendTime(appendTime(b, a.ATime), a.MTime), a.CTime)
	case recSetXattr:
		id(c.id)
		b = appendTime(cbor.AppendBytes(cbor.AppendBytes(b, []byte(c.name)), c.value), c.time)
	case recRemoveXattr:
		id(c.id)
		b = appendTime(cbor.AppendBytes(b, []byte(c.name)), c.time)
	case recWrite, recOrphan:
		id(c.id)
		b = appendTime(cbor.AppendUint(b, uint64(c.off)), c.time)
	case recHole:
		id(c.id)
		for _, v := range []int64{c.off, c.n, c.size} {
			b = cbor.AppendUint(b, uint64(v))
		}
		b = appendTime(b, c.time)
	case recChunks:
		id(c.id)
		b = appendTime(cbor.AppendUint(b, uint64(c.size)), c.time)
		b = cbor.AppendArray(b, len(c.runs))
		for _, p := range c.runs {
			var ref chunk.Ref
			if p.ref != nil {
				ref = *p.ref
			}
			for _, v := range []int64{p.off, p.skip, p.n} {
				b = cbor.AppendUint(b, uint64(v))
			}
			b = cbor.AppendBytes(b, ref.Append(nil))
		}
	}
	return b
}

// decode reads the meta of a record. What comes from a journal was authenticated, but is
// checked all the same.
func decode(t journal.Type, meta []byte) (c change, err error) {
	r := cbor.NewReader(meta)
	size := func() int64 { return int64(r.UintMax(1<<63 - 1)) }
	text := func() string { return string(r.Bytes()) }
	switch t {
	case recBind:
		r.Fixed(c.id[:])
		r.Fixed(c.dir[:])
		c.name = text()
		r.Fixed(c.entry[:])
	case recMake:
		r.Fixed(c.dir[:])
		c.name = text()
		r.Fixed(c.id[:])
		c.made = vfs.New{
			Kind: vfs.Kind(r.UintMax(255)), Mode: vfs.Mode(r.UintMax(uint64(vfs.ModeMask))),
			UID: uint32(r.UintMax(1<<32 - 1)), GID: uint32(r.UintMax(1<<32 - 1)), Rdev: uint32(r.UintMax(1<<32 - 1)),
			Target: text(),
		}
		c.time = readTime(r)
	case recLink:
		r.Fixed(c.id[:])
		r.Fixed(c.dir[:])
		c.name = text()
		r.Fixed(c.entry[:])
		c.time = readTime(r)
	case recRemove:
		r.Fixed(c.dir[:])
		c.name = text()
		c.time = readTime(r)
	case recRename:
		r.Fixed(c.dir[:])
		c.name = text()
		r.Fixed(c.dir2[:])
		c.name2 = text()
		c.flag = r.UintMax(uint64(vfs.RenameExchange))
		c.time = readTime(r)
	case recSetAttr:
		r.Fixed(c.id[:])
		c.attr = vfs.AttrChange{
			Set: vfs.AttrSet(r.UintMax(1<<16 - 1)), Mode: vfs.Mode(r.UintMax(uint64(vfs.ModeMask))),
			UID: uint32(r.UintMax(1<<32 - 1)), GID: uint32(r.UintMax(1<<32 - 1)), Size: size(),
		}
		c.attr.ATime, c.attr.MTime, c.attr.CTime = readTime(r), readTime(r), readTime(r)
	case recSetXattr:
		r.Fixed(c.id[:])
		c.name = text()
		c.value = append([]byte{}, r.Bytes()...)
		c.time = readTime(r)
	case recRemoveXattr:
		r.Fixed(c.id[:])
		c.name = text()
		c.time = readTime(r)
	case recWrite, recOrphan:
		r.Fixed(c.id[:])
		c.off = size()
		c.time = readTime(r)
	case recHole:
		r.Fixed(c.id[:])
		c.off, c.n, c.size = size(), size(), size()
		c.time = readTime(r)
	case recChunks:
		r.Fixed(c.id[:])
		c.size = size()
		c.time = readTime(r)
		for range r.Array() {
			p := piece{off: size(), skip: size(), n: size(), from: inChunk}
			ref, err := chunk.ParseRef(r.Bytes())
			if err != nil {
				r.Fail("run of chunks: %v", err)
			}
			if p.n <= 0 || p.off > c.size-p.n || !ref.IsZero() && p.skip > int64(ref.Size)-p.n {
				r.Fail("run of chunks out of range")
				break
			}
			if p.ref = &ref; ref.IsZero() {
				p.from, p.ref = isHole, nil
			}
			c.runs = append(c.runs, p)
		}
	default:
		r.Fail("record of unknown type %d", t)
	}
	if err := r.Close(); err != nil {
		return change{}, fmt.Errorf("%w: %w", journal.ErrDamaged, err)
	}
	return c, nil
}

func (c *change) record(t journal.Type) journal.Record {
	return journal.Record{Type: t, Meta: c.encode(t)}
}

// bind appends to recs the records that tell where n lies, as far as the journal does not know
// it since the last commit began, and returns the nodes that they tell of, for setBound. f.mu
// is held, for reading at least.
func (f *FS) bind(recs []journal.Record, n *node) ([]journal.Record, []*node) {
	g := f.gen.Load()
	var told []*node
	for n != f.root && n.bound.Load() != g {
		told = append(told, n)
		n = n.names[0].parent
	}
	for i := len(told) - 1; i >= 0; i-- {
		nm := told[i].names[0]
		c := change{id: told[i].id, dir: nm.parent.id, name: nm.name, entry: nm.id}
		recs = append(recs, c.record(recBind))
	}
	return recs, told
}

// setBound notes that the journal has the records of bind. Two callers may have written them
// twice, which harms nothing; noting it before they are written would.
func (f *FS) setBound(told []*node) {
	g := f.gen.Load()
	for _, n := range told {
		n.bound.Store(g)
	}
}
