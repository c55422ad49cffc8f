package sheaf

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// pinReaders is how many chunks that are pinned are on their way at once.
const pinReaders = 4

// fetchChunks reads chunks, so that they are in the cache, and checked.
func (d *Drive) fetchChunks(ctx context.Context, all []located, progress Progress) error {
	slices.SortFunc(all, func(a, b located) int {
		return cmp.Or(bytes.Compare(a.at.Pack[:], b.at.Pack[:]), cmp.Compare(a.at.Off, b.at.Off))
	})
	var total, done atomic.Int64
	for _, l := range all {
		total.Add(l.at.Len)
	}
	tell := func(n int64) {
		if at := done.Add(n); progress != nil {
			progress(at, total.Load())
		}
	}
	tell(0)
	work, each := errgroup.WithContext(ctx)
	work.SetLimit(pinReaders)
	for _, l := range all {
		if each.Err() != nil {
			break
		}
		work.Go(func() error {
			// The store may have it in memory, and then not read it from where the cache keeps it.
			if err := d.draw(each, l.at); err != nil {
				return err
			}
			if _, err := d.store.Get(each, make([]byte, 0, l.ref.Size), l.ref); err != nil {
				return err
			}
			tell(l.at.Len)
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil && done.Load() < total.Load() {
		return err
	}
	// A disk that is full keeps nothing, and no read tells of it.
	c := &Custodian{d: d, packs: map[pack.Name]tier.Holding{}}
	for _, l := range all {
		at, h, err := c.find(ctx, l.ref)
		if err != nil {
			return err
		}
		if !at.Open && at.Pack == l.at.Pack && !h.Here(at.Off, at.Len) {
			return fmt.Errorf("the cache did not keep %s: %w", l.ref, blob.ErrNoSpace)
		}
	}
	return nil
}

// draw reads the sealed bytes of a chunk from the Bucket, so that the cache has them.
func (d *Drive) draw(ctx context.Context, at chunkstore.Place) error {
	r, err := d.o.Bucket.Get(ctx, blob.Name(at.Pack.BlobName()), at.Off, at.Len)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was compacted away meanwhile: the store knows where it is now
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// How long followPins waits after a change, for more of them, and after an error at most.
const (
	pinDelay = time.Second
	pinRetry = time.Minute
)

// followPins fetches what is written or comes below what is pinned, until ctx is done. moved gets something when the tree has changed.
func (d *Drive) followPins(ctx context.Context, moved <-chan struct{}) {
	for {
		_, turned := d.replicas.engine.Held()
		pins, err := d.Pins(ctx)
		if err == nil && len(pins) > 0 {
			err = d.keepPinned(ctx, nil)
		}
		if err != nil && ctx.Err() == nil {
			d.o.Log.Warn("what is pinned is not here as a whole yet", "err", err)
		}
		var again <-chan time.Time
		if err == nil {
			turned = nil
		} else { // a replica may be back
			again = time.After(pinRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-moved:
		case <-turned:
		case <-again:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pinDelay):
		}
	}
}
