package manifest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// A list (of entries, extents or kept snapshots) is stored as leaf nodes, with as many levels of
// inner nodes above as it takes to come to one. Where a node ends is decided only by
// what is in it: by the hash of its last item's name, within the bounds of a limits.
// So equal lists are equal chunks whatever was done to come there, and a change moves
// no boundary but near itself.

// maxLevel is the highest level of an inner node. Leaves have level 0.
const maxLevel = 31

// leafBytes ends a leaf early when its items are unusually long.
const leafBytes = 1 << 20

// limits says how many items a node holds. An item ends its node if its hash is below
// odds of 2^64, once there are least; most end it in any case. From long items on the odds are eight times as
// high: a change writes the nodes that it falls into anew, and falls into a long one more often than into a short
// one, so few are to be longer than the mean.
type limits struct {
	least, long, most int
	odds              uint64
}

var (
	dirLeaf   = limits{least: 32, long: 160, most: 512, odds: math.MaxUint64 / 128}
	fileLeaf  = limits{least: 64, long: 320, most: 1024, odds: math.MaxUint64 / 256}
	keptLeaf  = limits{least: 8, long: 40, most: 1024, odds: math.MaxUint64 / 32} // each commit writes the last one anew
	inner     = limits{least: 16, long: 80, most: 256, odds: math.MaxUint64 / 64}
	innerLess = 2 // items that an inner node has at least, if it is the root
)

func leafLimits(kind chunk.Kind) limits {
	switch kind {
	case chunk.Dir:
		return dirLeaf
	case chunk.History:
		return keptLeaf
	}
	return fileLeaf
}

// ends reports whether the n-th item of a node, which has that hash, ends it.
func (l *limits) ends(n int, hash uint64) bool {
	switch {
	case n < l.least:
		return false
	case n < l.long:
		return hash < l.odds
	}
	return n >= l.most || hash < 8*l.odds
}

// A child is what an inner node says of a node below it.
type child struct {
	first string // Dir: the first name
	ref   chunk.Ref
	count uint64 // Dir and History: items below; File: bytes
	below Below  // Dir: the Flags of all entries below, together
}

// hash decides where an inner node ends.
func (c *child) hash(kind chunk.Kind) uint64 {
	if kind == chunk.Dir {
		return xxhash.Sum64String("/" + c.first)
	}
	return binary.BigEndian.Uint64(c.ref.ID[8:])
}

func (c *child) append(b []byte, kind chunk.Kind) []byte {
	if kind != chunk.Dir {
		b = cbor.AppendArray(b, 2)
		return cbor.AppendUint(appendRef(b, c.ref), c.count)
	}
	b = cbor.AppendArray(b, 4)
	b = cbor.AppendBytes(b, []byte(c.first))
	b = cbor.AppendUint(appendRef(b, c.ref), c.count)
	return cbor.AppendUint(b, uint64(c.below))
}

// A level gathers the items of the node that is being filled on one level.
type level struct {
	items   []byte // encoded
	n       int
	sum     child // first name, count and flags of the items so far
	last    child // of an inner level: the item added last
	emitted bool  // a node of this level was finished
}

// A cutter turns a sequence of items into nodes.
type cutter struct {
	ctx    context.Context //nolint:containedctx // lives for one call of an exported function
	sink   Sink
	kind   chunk.Kind
	levels []*level
	buf    []byte
}

func newCutter(ctx context.Context, sink Sink, kind chunk.Kind) *cutter {
	return &cutter{ctx: ctx, sink: sink, kind: kind, levels: []*level{{}}}
}

// clean reports whether no node of level n or below is half filled.
func (c *cutter) clean(n int) bool {
	for i, l := range c.levels {
		if i <= n && l.n > 0 {
			return false
		}
	}
	return true
}

// leaf adds an item of a leaf: its encoding, its hash, and its share of the sum.
func (c *cutter) leaf(enc []byte, hash uint64, share child) error {
	lim := leafLimits(c.kind)
	l := c.levels[0]
	l.items = append(l.items, enc...)
	return c.added(0, share, lim, hash, len(l.items) >= leafBytes)
}

// inner adds a finished node of level n-1 to level n.
func (c *cutter) inner(n int, ch child) error {
	if n > maxLevel {
		return fmt.Errorf("%w: tree of nodes is too deep", ErrMalformed)
	}
	for len(c.levels) <= n {
		c.levels = append(c.levels, &level{})
	}
	l := c.levels[n]
	l.items = ch.append(l.items, c.kind)
	l.last = ch
	return c.added(n, ch, inner, ch.hash(c.kind), false)
}

func (c *cutter) added(n int, share child, lim limits, hash uint64, full bool) error {
	l := c.levels[n]
	if l.n == 0 {
		l.sum = child{first: share.first}
	}
	l.n++
	l.sum.count += share.count
	l.sum.below |= share.below
	if full || lim.ends(l.n, hash) {
		return c.flush(n)
	}
	return nil
}

// flush stores what level n has as a node.
func (c *cutter) flush(n int) error {
	l := c.levels[n]
	c.buf = appendNodeHead(c.buf[:0], n, l.n)
	c.buf = append(c.buf, l.items...)
	if len(c.buf) > chunk.MaxSize {
		return fmt.Errorf("%w: one entry is too long to store", ErrMalformed)
	}
	ref, err := c.sink.Put(c.ctx, c.kind, c.buf)
	if err != nil {
		return fmt.Errorf("put %s node: %w", c.kind, err)
	}
	ch := l.sum
	ch.ref = ref
	*l = level{items: l.items[:0], emitted: true}
	return c.inner(n+1, ch)
}

// finish stores what is left and returns the node at the top and its level, or a zero child
// if there were no items.
func (c *cutter) finish() (child, int, error) {
	for n := 0; n < len(c.levels); n++ {
		l := c.levels[n]
		top := n == len(c.levels)-1
		switch {
		case top && l.n == 0 && n == 0:
			return child{}, 0, nil
		case top && n > 0 && l.n == 1 && !l.emitted:
			return l.last, n - 1, nil
		case l.n > 0:
			if err := c.flush(n); err != nil {
				return child{}, 0, err
			}
		}
	}
	return child{}, 0, fmt.Errorf("%w: tree of nodes is too deep", ErrMalformed)
}

func appendNodeHead(b []byte, lvl, n int) []byte {
	b = cbor.AppendMap(b, 2)
	b = cbor.AppendUint(b, 1)
	b = cbor.AppendUint(b, uint64(lvl))
	b = cbor.AppendUint(b, 2)
	return cbor.AppendArray(b, n)
}

// A node is a decoded node: of an inner one the children, of a leaf the items of its kind.
type node struct {
	level    int
	children []child
	entries  []Entry
	raw      [][]byte // the encoding of each of entries
	extents  []Extent
	kepts    []Kept
	sum      child // as its parent should have it, but for ref
}

// readNode reads ref, which must be of kind. Unless want is nil, the node must be what it
// says and be of the level below lvl.
func readNode(ctx context.Context, src Source, kind chunk.Kind, ref chunk.Ref, lvl int, want *child) (*node, error) {
	if ref.Kind != kind {
		return nil, fmt.Errorf("%w: chunk of kind %s where %s was due", ErrMalformed, ref.Kind, kind)
	}
	plain, err := src.Get(ctx, make([]byte, 0, ref.Size), ref)
	if err != nil {
		return nil, fmt.Errorf("get %s node: %w", kind, err)
	}
	n, err := parseNode(kind, plain)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", ref, err)
	}
	if want != nil {
		if n.level != lvl-1 || n.sum.first != want.first || n.sum.count != want.count || n.sum.below != want.below {
			return nil, fmt.Errorf("%w: node %s is not what its parent says", ErrMalformed, ref)
		}
	} else if n.level > 0 && len(n.children) < innerLess {
		return nil, fmt.Errorf("%w: node %s has one child only", ErrMalformed, ref)
	}
	return n, nil
}

// parseNode decodes a node of kind Dir, File or History.
func parseNode(kind chunk.Kind, plain []byte) (*node, error) {
	r := &entryReader{b: plain, Reader: cbor.NewReader(plain)}
	last := int64(-1)
	if r.Map() != 2 || r.Key(&last) != 1 {
		r.Fail("not the head of a node")
	}
	n := &node{level: int(r.UintMax(maxLevel))}
	if r.Key(&last) != 2 {
		r.Fail("not the head of a node")
	}
	count := r.Array()
	most := leafLimits(kind).most
	if n.level > 0 {
		most = inner.most
	}
	if r.Err() == nil && (count == 0 || count > most) {
		r.Fail("%d items in a node", count)
	}
	if r.Err() == nil && n.level == 0 && kind == chunk.Dir {
		n.entries, n.raw = make([]Entry, 0, count), make([][]byte, 0, count)
	}
	for i := 0; i < count && r.Err() == nil; i++ {
		switch {
		case n.level > 0:
			n.child(r, kind)
		case kind == chunk.Dir:
			n.entry(r)
		case kind == chunk.File:
			n.extent(r)
		default:
			n.kept(r)
		}
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return n, nil
}

func (n *node) child(r *entryReader, kind chunk.Kind) {
	var c child
	if kind == chunk.Dir {
		r.ArrayOf(4)
		c.first = string(r.BytesMax(255))
		if len(n.children) > 0 && n.children[len(n.children)-1].first >= c.first || c.first == "" {
			r.Fail("children out of order")
		}
	} else {
		r.ArrayOf(2)
	}
	c.ref, c.count = readRef(r.Reader), r.UintMax(math.MaxInt64)
	if kind == chunk.Dir {
		c.below = Below(r.UintMax(uint64(belowAll)))
	}
	if r.Err() == nil && (c.ref.Kind != kind || c.count == 0) {
		r.Fail("child is empty or of the wrong kind")
	}
	n.grow(r, c)
	n.children = append(n.children, c)
}

// grow adds the share of one item to the sum.
func (n *node) grow(r *entryReader, share child) {
	if n.sum.count == 0 {
		n.sum.first = share.first
	}
	if share.count > math.MaxInt64-n.sum.count {
		r.Fail("sum out of range")
		return
	}
	n.sum.count += share.count
	n.sum.below |= share.below
}

func (n *node) entry(r *entryReader) {
	from := r.pos()
	e := r.entry()
	if r.Err() != nil {
		return
	}
	if k := len(n.entries); k > 0 && n.entries[k-1].Name >= e.Name {
		r.Fail("names out of order")
	}
	n.grow(r, child{first: e.Name, count: 1, below: e.Flags()})
	n.raw = append(n.raw, r.b[from:r.pos()])
	n.entries = append(n.entries, e)
}
