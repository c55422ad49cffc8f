package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
)

// evictStep is how many packs are looked at before they go together.
const evictStep = 8

// An Eviction says what Evict did.
type Eviction struct {
	Packs int   // that went
	Bytes int64 // their sizes
	// Short counts packs that stayed, because too few replicas are seen to have them.
	Short int
	// Away are the replicas that could not be asked.
	Away []string
}

// Evict removes packs from this device that replicas keep, in the order in which they are given, until they were want bytes, and reports how far it is. They must be
// packs of the Tier's Local. A pack goes only if copies replicas, or both where copies is 0 and there are two, or the one that there is, have it: it has been
// found in a listing that was made for this call, in its size, and a piece of it at random, asked for just now, is the same there and here. What counts is a replica
// to which all is brought, away from this device, and that is no other device: these evict what they have, too.
//
// No replica can be dropped while what it keeps is evicted, and one that was dropped before does not count.
func (e *Engine) Evict(ctx context.Context, packs []blob.Info, want int64, copies int, progress func(done, total int64)) (ev Eviction, err error) {
	k := &keepers{e: e}
	if err := k.list(ctx); err != nil {
		return ev, err
	}
	ev.Away = k.away
	if copies <= 0 {
		copies = min(2, k.all)
	}
	if copies == 0 || len(k.places) < copies {
		ev.Short = len(packs)
		return ev, nil
	}
	for len(packs) > 0 && ev.Bytes < want {
		some, size := 0, int64(0)
		for ; some < min(len(packs), evictStep) && ev.Bytes+size < want; some++ {
			size += packs[some].Size
		}
		n, freed, err := k.evict(ctx, packs[:some], copies)
		ev.Packs += n
		ev.Bytes += freed
		if err != nil {
			return ev, err
		}
		ev.Short += some - n
		packs = packs[some:]
		if progress != nil {
			progress(ev.Bytes, want)
		}
	}
	return ev, nil
}

// keeps reports whether a replica counts as one that keeps what is brought there. e.mu is held.
func (p *place) keeps() bool { return !p.Place.Here && !p.Place.Direct && !p.Gives }

// Keepers returns how many replicas count for Evict, be they within reach or not.
func (e *Engine) Keepers() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.places {
		if p.keeps() {
			n++
		}
	}
	return n
}

// keepers are the replicas that count.
type keepers struct {
	e      *Engine
	all    int // how many there are that count if they can be asked
	places []*keeper
	away   []string
}

// keeper is one of them, and what it lists now.
type keeper struct {
	*place
	lists *catalog.Table
}

// list asks all of them what they have.
func (k *keepers) list(ctx context.Context) error {
	k.e.mu.Lock()
	var all []*place
	for _, p := range k.e.places {
		if p.keeps() {
			all = append(all, p)
		}
	}
	k.e.mu.Unlock()
	k.all = len(all)
	found := make([]*keeper, len(all))
	var asking errgroup.Group
	asking.SetLimit(max(k.e.o.Parallel, 1))
	for i, p := range all {
		asking.Go(func() error {
			lists, err := catalog.List(p.at.List(ctx, catalog.Packs))
			if err == nil {
				found[i] = &keeper{p, lists}
			} else if ctx.Err() == nil {
				k.e.o.Log.Info("a replica cannot be asked what it keeps", "replica", p.Place.Name, "err", err)
			}
			return nil
		})
	}
	_ = asking.Wait() // none gives an error
	for i, p := range all {
		if found[i] == nil {
			k.away = append(k.away, p.Place.Name)
		} else {
			k.places = append(k.places, found[i])
		}
	}
	return ctx.Err()
}

// evict removes those packs that enough replicas show to have, and returns how many went, and their bytes. None of the replicas is dropped meanwhile.
func (k *keepers) evict(ctx context.Context, packs []blob.Info, copies int) (n int, freed int64, err error) {
	k.e.keeping.Lock()
	defer k.e.keeping.Unlock()
	var mu sync.Mutex
	looking, each := errgroup.WithContext(ctx)
	looking.SetLimit(max(k.e.o.Parallel, 1))
	for _, info := range packs {
		looking.Go(func() error {
			size, err := k.e.o.Tier.Evict(each, copies, k.proof, info.Name)
			if errors.Is(err, tier.ErrNotProven) {
				k.e.o.Log.Debug("a pack stays on this device", "err", err)
				return nil
			}
			if err == nil && size > 0 {
				mu.Lock()
				defer mu.Unlock()
				n++
				freed += size
			}
			return err
		})
	}
	err = looking.Wait()
	return n, freed, err
}

// proof is a tier.Proof: it compares one piece of a pack, any one, with what is here. Asked for it is only if the listing had the pack.
func (k *keepers) proof(ctx context.Context, r tier.Remote, name blob.Name, size int64) error {
	i := slices.IndexFunc(k.places, func(p *keeper) bool { return p.Place.Name == r.Name })
	if i < 0 {
		return errNotListed
	}
	if listed, ok := k.places[i].lists.Size(name); !ok || listed != size {
		return errNotListed
	}
	off := rand.Int64N((size+tier.Grid-1)/tier.Grid) * tier.Grid //nolint:gosec // a sample
	here, err := piece(ctx, k.e.o.Tier.Own(), name, off)
	if err != nil {
		return fmt.Errorf("read a pack of this device: %w", err)
	}
	there, err := piece(ctx, r.Bucket, name, off)
	if err == nil && !bytes.Equal(here, there) {
		err = errOther
	}
	if err != nil && ctx.Err() == nil {
		k.e.o.Log.Warn("a replica that lists a pack does not give the bytes that are here: it does not count as a copy", "replica", r.Name, "blob", string(name), "offset", off, "err", err)
	}
	return err
}

// Why a replica does not count.
var (
	errNotListed = errors.New("it does not list the pack, or is none that keeps what is brought there")
	errOther     = errors.New("it gives other bytes than are here")
)

// part returns one piece of the grid.
func piece(ctx context.Context, b blob.Bucket, name blob.Name, off int64) ([]byte, error) {
	r, err := b.Get(ctx, name, off, tier.Grid)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(io.LimitReader(r, tier.Grid))
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return p, err
}
