package tier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// ErrNotProven says that a pack stays in Local because not enough remotes are known to have it.
var ErrNotProven = errors.New("not enough remotes are known to have the pack")

// Pin keeps packs on this device: they are fetched whole, checked against their names, and never leave the cache until Unpin. That they are pinned is
// durable first, so after an error, or a crash, the same Pin goes on. A pack that is in Local is not fetched; Evict leaves it there.
func (t *Tier) Pin(ctx context.Context, names ...blob.Name) error {
	var hashes [][32]byte
	for _, name := range names {
		hash, ok := catalog.PackHash(name)
		if !ok {
			return fmt.Errorf("pin %q: it is no pack: %w", string(name), blob.ErrName)
		}
		hashes = append(hashes, hash)
	}
	if err := t.cache.pin(hashes...); err != nil {
		return err
	}
	for i, name := range names {
		there, err := t.inLocal(ctx, name)
		if err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
		if there {
			continue
		}
		if err := t.fetchWhole(ctx, name, hashes[i]); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	return nil
}

// fetchWhole fetches all of a pack into the cache. If its hash is wrong, it is fetched from other remotes.
func (t *Tier) fetchWhole(ctx context.Context, name blob.Name, hash [32]byte) error {
	sources, size := t.sources(name)
	if size <= 0 || size > maxPieces*Grid {
		return fmt.Errorf("%w: no remote is known to have it", fs.ErrNotExist)
	}
	for range len(sources) + 1 {
		p := pack{name, hash, size}
		h := blake3.New()
		for no := range p.pieces() {
			body, ok := t.cache.read(hash, size, no, 0, pieceLen(size, no))
			if !ok {
				var err error
				if body, err = t.fetch(ctx, p, no, maxAhead-1); err != nil {
					return err
				}
			}
			_, _ = h.Write(body) // never fails
		}
		if [32]byte(h.Sum(nil)) == hash {
			if want := uint32(1<<p.pieces() - 1); t.cache.has(hash, size) != want {
				return fmt.Errorf("the cache did not keep it: %w", blob.ErrNoSpace)
			}
			return nil
		}
		t.log.Warn("a remote gave a damaged pack", "blob", string(name))
		if err := t.Forget(ctx, name); err != nil {
			return err
		}
		if _, size = t.sources(name); size <= 0 || size > maxPieces*Grid {
			break
		}
	}
	return fmt.Errorf("%w: all remotes gave damaged bytes", blob.ErrTemporary)
}

// Unpin lets packs go: what is cached of them may be dropped.
func (t *Tier) Unpin(names ...blob.Name) error {
	var hashes [][32]byte
	for _, name := range names {
		if hash, ok := catalog.PackHash(name); ok {
			hashes = append(hashes, hash)
		}
	}
	return t.cache.unpin(hashes...)
}

// Pinned yields the packs that are pinned, in byte order, and whether each is here as a whole, in the cache or in Local.
func (t *Tier) Pinned(ctx context.Context) iter.Seq2[blob.Name, bool] {
	return func(yield func(blob.Name, bool) bool) {
		t.cache.mu.RLock()
		var names []blob.Name
		for hash := range t.cache.pinned {
			names = append(names, catalog.PackName(hash))
		}
		t.cache.mu.RUnlock()
		slices.Sort(names)
		for _, name := range names {
			hash, _ := catalog.PackHash(name)
			whole, err := t.inLocal(ctx, name)
			if _, size := t.sources(name); !whole && err == nil && size > 0 && size <= maxPieces*Grid {
				pieces := (size + Grid - 1) / Grid
				whole = t.cache.has(hash, size) == uint32(1<<pieces-1)
			}
			if !yield(name, whole) {
				return
			}
		}
	}
}

// Cached returns how many bytes the cache takes, without pinned packs. Shortly after Open it does not know of all yet.
func (t *Tier) Cached() int64 {
	t.cache.mu.RLock()
	defer t.cache.mu.RUnlock()
	return t.cache.used
}
