package tier

import (
	"context"
	"fmt"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// A Holding says where a pack is, as far as is known without asking anybody.
type Holding struct {
	Own     bool     // it is in Local
	Evicted bool     // it was, and is this device's still
	Size    int64    // in bytes; -1: not known
	Pieces  uint32   // which pieces of 1 MiB are in the cache, the first in the lowest bit
	Remotes []string // whose catalogs have it in that size, in the order of their names
}

// Here reports whether n bytes from off are on this device.
func (h Holding) Here(off, n int64) bool { return h.Own || h.Absent(off, n) == 0 }

// Absent returns which pieces that hold one of n bytes from off are not in the cache, the first of the pack in the lowest bit. What lies
// beyond the longest pack that is cached is taken for its last piece.
func (h Holding) Absent(off, n int64) uint32 { return span(off, n) &^ h.Pieces }

// span returns the pieces that n bytes from off touch.
func span(off, n int64) uint32 {
	var m uint32
	for no := off / Grid; n > 0 && no <= (off+n-1)/Grid; no++ {
		m |= 1 << min(no, maxPieces-1)
	}
	return m
}

// Holding returns where a pack is. It asks no remote, and changes nothing in the cache.
func (t *Tier) Holding(ctx context.Context, name blob.Name) (Holding, error) {
	h := Holding{Size: -1}
	hash, ok := catalog.PackHash(name)
	if !ok {
		return h, fmt.Errorf("find holders of %q: it is no pack: %w", string(name), blob.ErrName)
	}
	for info, err := range t.o.Local.List(ctx, name) {
		if err != nil {
			return h, fmt.Errorf("find holders of %s: %w", name, err)
		}
		if info.Name == name {
			h.Own, h.Size = true, info.Size
		}
	}
	if !h.Own {
		h.Evicted = t.Evicted(name)
		sources, size := t.sources(name)
		if h.Size = size; h.Size > 0 && h.Size <= maxPieces*Grid {
			h.Pieces = t.cache.has(hash, h.Size)
			if sources != nil && sources[0].Near && sources[0].size == size {
				h.Pieces = span(0, size)
			}
		}
	}
	for _, remote := range t.known.names() {
		table, _ := t.known.of(remote)
		if size, ok := table.Size(name); ok && size == h.Size {
			h.Remotes = append(h.Remotes, remote)
		}
	}
	return h, nil
}

// Unlearn forgets what a remote has, because it is none any more: it counts as no copy from then on. What was to be removed there is still
// noted, for the case that it comes back.
func (t *Tier) Unlearn(remote string) error { return t.known.drop(remote) }
