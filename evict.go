package sheaf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// EvictOptions say what Evict is to do.
type EvictOptions struct {
	// Keep is how many bytes of packs that this device has put stay on it.
	Keep int64
	// Above is how many there may be before anything goes, if it is more than Keep.
	Above int64
	// Copies is how many replicas must have a pack before it goes; 0: two, or one where there is one. See engine.Engine.Evict for which of them count.
	Copies int
}

// EvictReport is what Evict did.
type EvictReport struct {
	Packs, Bytes int64    // that went
	Kept         int64    // bytes of packs that this device has put and that are on it
	Short        int64    // packs that would have gone, and of which too few replicas are seen to have what is here
	Away         []string // replicas that could not be asked, by name
}

// errNoReplica says that there is nobody to keep what goes.
var errNoReplica = errors.New("there are no replicas to keep what leaves this device")

// Evict removes packs from this device, until what it has put takes no more than o.Keep bytes here, given that replicas keep them: the oldest go
// first, and small ones last, for these are about to be merged. They stay this device's, are read from the replicas when they are needed, through the
// cache, and can be pinned like what others have put. What is pinned stays, as does what no replica has yet; so more than o.Keep may be left, which is no error.
func (d *Drive) Evict(ctx context.Context, o EvictOptions, p Progress) (EvictReport, error) {
	var r EvictReport
	if d.replicas == nil {
		return r, errNoReplica
	}
	if err := d.replicas.pinning.Acquire(ctx, 1); err != nil { // what is pinned now is seen
		return r, fmt.Errorf("evict packs: %w", err)
	}
	defer d.replicas.pinning.Release(1)
	var all []blob.Info
	for info, err := range d.o.Replication.Tier.Kept(ctx) {
		if err != nil {
			return r, fmt.Errorf("list packs of this device: %w", err)
		}
		all = append(all, info)
		r.Kept += info.Size
	}
	if r.Kept <= max(o.Keep, o.Above) {
		return r, nil
	}
	pinned, err := d.pinnedPacks(ctx)
	if err != nil {
		return r, fmt.Errorf("evict packs: find what is pinned: %w", err)
	}
	all = slices.DeleteFunc(all, func(info blob.Info) bool { return pinned[info.Name] })
	slices.SortFunc(all, func(a, b blob.Info) int {
		return cmp.Or(small(a)-small(b), a.ModTime.Compare(b.ModTime), strings.Compare(string(a.Name), string(b.Name)))
	})
	away := make(map[blob.Name]bool, len(all))
	for _, info := range all { // any of them may go: it is not known before which of them replicas have
		away[info.Name] = true
	}
	d.adoptMu.Lock()
	err = d.keepFirst(ctx, away)
	d.adoptMu.Unlock()
	if err != nil {
		return r, fmt.Errorf("keep what this device needs to open: %w", err)
	}
	ev, err := d.replicas.engine.Evict(ctx, all, r.Kept-o.Keep, o.Copies, p)
	r.Packs, r.Bytes, r.Short, r.Away = int64(ev.Packs), ev.Bytes, int64(ev.Short), ev.Away
	r.Kept -= ev.Bytes
	if err != nil {
		return r, fmt.Errorf("evict packs: %w", err)
	}
	return r, nil
}

// small is 1 for a pack that is merged with others when there are many of its kind.
func small(info blob.Info) int {
	if info.Size < pack.Size {
		return 1
	}
	return 0
}

// pinnedPacks returns the packs in which what is pinned lies. It needs the lock of pinning.
func (d *Drive) pinnedPacks(ctx context.Context) (map[blob.Name]bool, error) {
	pins, err := d.Pins(ctx)
	if err != nil || len(pins) == 0 {
		return nil, err
	}
	g, _, err := d.markPinned(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[blob.Name]bool, len(g.c.packs))
	for name := range g.c.packs {
		names[blob.Name(name.BlobName())] = true
	}
	return names, nil
}

// The pauses of keepBelow: after each look at least, and at most where it is of no use.
const (
	limitPause    = 5 * time.Second
	limitPauseMax = 10 * time.Minute
)

// keepBelow evicts what is beyond a limit when replicas have had turns, until ctx is done. So that it has not to look at each pack by itself it
// goes a tenth below.
func (d *Drive) keepBelow(ctx context.Context, limit int64) {
	pause := limitPause
	for {
		_, turned := d.replicas.engine.Held()
		r, err := d.Evict(ctx, EvictOptions{Keep: limit - limit/10, Above: limit}, nil)
		switch {
		case err != nil && ctx.Err() == nil:
			d.o.Log.Warn("this device keeps more than it is to", "err", err)
			pause = min(2*pause, limitPauseMax)
		case r.Packs == 0 && r.Kept > limit:
			d.o.Log.Info("this device keeps more than it is to, for replicas do not have it yet", "bytes", r.Kept, "limit", limit, "away", r.Away)
			pause = min(2*pause, limitPauseMax)
		default:
			pause = limitPause
		}
		select {
		case <-ctx.Done():
			return
		case <-turned:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
