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

// meet looks at all replicas for heads of this device before anything is put at one of them: once at those that answer, and at p in any case. Were the folder of this
// device an old one, as of a backup, and p a place that knows less of it than another, what it puts there would take the names of what it has lost, and whoever sees
// both places would see two worlds.
func (e *Engine) meet(ctx context.Context, p *place) error {
	e.mu.Lock()
	met, lost := p.met, e.lost
	e.mu.Unlock()
	if met || lost != nil {
		return lost
	}
	e.meetOthers(ctx, p)
	if err := e.compare(ctx, p); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lost
}

func (e *Engine) meetOthers(ctx context.Context, p *place) {
	e.meeting.Lock()
	defer e.meeting.Unlock()
	e.mu.Lock()
	others := slices.DeleteFunc(slices.Clone(e.places), func(o *place) bool { return o == p || o.met || o.asked })
	e.mu.Unlock()
	for _, o := range others {
		soon, cancel := context.WithTimeout(ctx, meetFor)
		err := e.compare(soon, o)
		cancel()
		if ctx.Err() != nil {
			return
		}
		o.asked = true
		if err != nil {
			e.o.Log.Debug("something is put without a look at all replicas", "at", p.Place.Name, "err", err)
		}
	}
}

// compare compares the heads of this device at a replica with its own.
func (e *Engine) compare(ctx context.Context, p *place) error {
	if e.o.Folder != "" {
		o := replica.Options{Log: e.o.Log, Differs: e.differs(ctx)}
		err := replica.Own(ctx, p.at, e.o.Own, e.o.Folder, o)
		if errors.Is(err, replica.ErrForked) && !errors.Is(err, ErrLost) {
			// It may be that the keys to tell are there, too.
			if err := e.look(ctx, []*place{p}); err != nil {
				e.o.Log.Debug("a head under the name of this device is looked at again", "replica", p.Place.Name, "err", err)
			}
			err = replica.Own(ctx, p.at, e.o.Own, e.o.Folder, o)
		}
		if err != nil {
			e.isLost(err)
			return fmt.Errorf("look at replica %s: %w", p.Place.Name, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p.met = true
	return nil
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
