package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/sync/replica"
)

// meetFor is how long a replica is waited for before others are given something.
const meetFor = 20 * time.Second

// meet looks at all replicas before anything is put at one of them, those that answer, and at p in any case. Were the folder of this device an old one, as of a backup, and p
// a place that knows less of it than another, what it puts there would take the names of what it has lost, and whoever sees both places would see two worlds.
func (e *Engine) meet(ctx context.Context, p *place) error {
	e.meeting.Lock()
	defer e.meeting.Unlock()
	e.mu.Lock()
	all := slices.Clone(e.places)
	e.mu.Unlock()
	some := false
	for _, o := range all {
		if o.met || o.asked && o != p {
			continue
		}
		o.asked, some = true, true
		err := e.lookSoon(ctx, o)
		o.met = err == nil || replica.OnlyFaults(err) // what is wrong with single blobs is said by the turn
		switch {
		case e.isLost(err), o.met:
		case o == p:
			return err
		default:
			e.o.Log.Debug("something is put without a look at all replicas", "at", p.Place.Name, "err", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if some && e.o.Sure != nil {
		if err := e.o.Sure(ctx); err != nil {
			e.isLost(err)
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lost
}

func (e *Engine) lookSoon(ctx context.Context, p *place) error {
	ctx, cancel := context.WithTimeout(ctx, meetFor)
	defer cancel()
	return e.look(ctx, []*place{p}, false)
}

// isLost notes that nothing is to be put any more, if err says so.
func (e *Engine) isLost(err error) bool {
	if !errors.Is(err, ErrLost) {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lost == nil {
		e.lost = fmt.Errorf("nothing is put any more: %w", err)
	}
	return true
}
