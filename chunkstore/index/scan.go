package index

import (
	"context"
	"fmt"
	"iter"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// An Item is one chunk of the index.
type Item struct {
	ID chunk.ID
	Location
	// Orphan says that no known pack holds the chunk; Location.Pack is zero then.
	Orphan bool

	num uint32 // of the pack
}

// All yields every chunk, in the order of their IDs, as they were when it
// began. Packs are named as they are known now: a chunk whose pack was forgotten
// meanwhile comes as an orphan, though it may have moved.
func (x *Index) All(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for p, err := range x.db.Scan(ctx, []byte(prefixLocation), after(prefixLocation)) {
			if err != nil {
				yield(Item{}, fmt.Errorf("scan index: %w", err))
				return
			}
			id, ok := idOfKey(p.Key)
			num, loc, err := decodeLocation(p.Value)
			if !ok || err != nil {
				yield(Item{}, fmt.Errorf("scan index: %w", errRecord))
				return
			}
			name, known := x.nameOf(num)
			loc.Pack = name
			if !yield(Item{ID: id, Location: loc, Orphan: !known, num: num}, nil) {
				return
			}
		}
	}
}

// Condemned yields the condemned chunks, in the order of their IDs, as they were
// when it began.
func (x *Index) Condemned(ctx context.Context) iter.Seq2[Condemned, error] {
	return func(yield func(Condemned, error) bool) {
		for p, err := range x.db.Scan(ctx, []byte(prefixCondemned), after(prefixCondemned)) {
			if err != nil {
				yield(Condemned{}, fmt.Errorf("scan condemned chunks: %w", err))
				return
			}
			c, err := decodeCondemned(p.Key, p.Value)
			if err != nil {
				yield(Condemned{}, fmt.Errorf("scan condemned chunks: %w", err))
				return
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

// FillFilter reads all CIDs once, so that ByCID answers for most new bytes from
// memory. It may run beside everything else; without it ByCID is only slower. While another fill is under way it does nothing.
func (x *Index) FillFilter(ctx context.Context) error {
	// A change adds to the filter before it is in the DB: none that the scan does not see may have done so before the fill began.
	x.write.Lock()
	fill := x.filter.begin()
	x.write.Unlock()
	if fill == nil {
		return nil
	}
	all := false
	defer func() { x.filter.finish(fill, all) }()
	for p, err := range x.db.Scan(ctx, []byte(prefixCID), after(prefixCID)) {
		if err != nil {
			return fmt.Errorf("read known plain bytes: %w", err)
		}
		if len(p.Key) != 2+cidPrefix {
			return fmt.Errorf("read known plain bytes: %w", errRecord)
		}
		var cid seal.CID
		copy(cid[:], p.Key[2:]) // the Set looks at its first 8 bytes only
		if !x.filter.met(fill, cid) {
			return nil
		}
	}
	all = true
	return nil
}

// FilterStale reports whether FillFilter would make the filter much smaller, or possible again: it keeps the
// CIDs of chunks that were removed. It costs nothing to ask.
func (x *Index) FilterStale() bool { return x.filter.stale(x.Chunks()) }
