package tier

import (
	"fmt"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// Keep says which packs are pinned, in place of those that were, durably: what the cache has of them, or gets, stays there until another Keep
// leaves them out. It fetches nothing: whoever needs a pack, or parts of it, reads these. It returns how many bytes the cache may drop now
// that it had to keep before.
func (t *Tier) Keep(names ...blob.Name) (released int64, err error) {
	keep := map[[32]byte]bool{}
	for _, name := range names {
		hash, ok := catalog.PackHash(name)
		if !ok {
			return 0, fmt.Errorf("keep %q: it is no pack: %w", string(name), blob.ErrName)
		}
		keep[hash] = true
	}
	err = t.cache.setPins(func(pinned map[[32]byte]bool) {
		for hash := range pinned {
			if keep[hash] {
				continue
			}
			e := t.cache.packs[hash]
			if e == nil {
				e = t.cache.load(hash)
			}
			if e != nil {
				released += e.bytes()
			}
			delete(pinned, hash)
		}
		for hash := range keep {
			pinned[hash] = true
		}
	})
	if err != nil {
		return 0, err
	}
	return released, nil
}
