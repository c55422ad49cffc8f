package engine

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// Several devices that bring the same drive to one share the work, and a device that brings it to several gives each pack to one of them first: so each pack leaves
// this device once, as long as those that it is given to reach each other. The far side decides, by what it says to offers; here is only who would better bring a pack.
//
// sending is which packs were given to whom by the turns that are under way at this time.
type sending struct {
	turns int
	to    map[blob.Name]given
}

// given is to whom a pack was given first.
type given struct {
	to    *place
	since time.Time // zero: it is there
}

// givenMost is how long a pack that is on its way to one place is not offered to others at most: a slow one is not to hold up the rest.
const givenMost = 10 * time.Second

// offers gives the push of a turn what it needs to offer packs. The caller calls end when the push is over.
func (e *Engine) offers(ctx context.Context, p *place, o *replica.PushOptions) (end func()) {
	if p.Offer == nil {
		return func() {}
	}
	e.mu.Lock()
	if e.sending.turns++; e.sending.to == nil {
		e.sending.to = map[blob.Name]given{}
	}
	var near []blob.Bucket
	for _, other := range e.places {
		if other.Place.Here {
			near = append(near, other.at)
		}
	}
	e.mu.Unlock()
	near = append([]blob.Bucket{e.o.Own}, near...)
	o.Offer = func(ctx context.Context, packs []blob.Name, room int, rank replica.Rank) ([]replica.Answer, error) {
		answers, err := p.Offer(ctx, packs, room, rank)
		if err == nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			for i, a := range answers[:min(len(answers), len(packs))] {
				if _, other := e.sending.to[packs[i]]; a == replica.Wanted && !other {
					e.sending.to[packs[i]] = given{p, time.Now()}
				}
			}
		}
		return answers, err
	}
	o.Sent = func(name blob.Name) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if g := e.sending.to[name]; g.to == p {
			e.sending.to[name] = given{to: p}
		}
	}
	o.Rank = func(name blob.Name) replica.Rank {
		e.mu.Lock()
		g := e.sending.to[name]
		e.mu.Unlock()
		switch {
		case g.to == nil || g.to == p:
		case !g.since.IsZero() && time.Since(g.since) < givenMost:
			return replica.NotNow
		default:
			return replica.Spare
		}
		for _, b := range near {
			r, err := b.Get(ctx, name, 0, 0)
			if err == nil {
				_ = r.Close()
				return replica.Mine
			}
			if !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		return replica.Detour
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.sending.turns--; e.sending.turns == 0 {
			e.sending.to = nil
		}
	}
}
