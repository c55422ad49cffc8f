package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// takeTurn gives p a turn and notes what came of it.
func (e *Engine) takeTurn(ctx context.Context, p *place) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	e.mu.Lock()
	upTo := e.change
	p.hurry = false
	p.begun++
	p.Busy, p.TurnBytes, p.TurnTotal = true, 0, 0
	e.mu.Unlock()
	top := e.topNow(ctx)
	pushed, news, err := e.doTurn(ctx, p)
	now := e.o.Now()
	defer func() {
		e.mu.Lock()
		r := p.remembered()
		e.mu.Unlock()
		e.keep(context.WithoutCancel(ctx), p.Place.Name, r)
	}()
	e.mu.Lock()
	defer e.mu.Unlock()
	p.Busy, p.Online, p.Err = false, err == nil, err
	p.turns++
	if pushed {
		p.done = max(p.done, upTo)
	}
	if pushed && !p.Gives {
		p.Pushed, p.Known, p.top = now, true, top
	}
	if err == nil {
		p.Fetched = now
	}
	if news { // what others did goes to all
		e.change++
		e.foreign++
		for _, o := range e.places {
			o.nudge()
		}
	}
	e.broadcast()
	return err
}

// doTurn does what the package comment says.
func (e *Engine) doTurn(ctx context.Context, p *place) (pushed, news bool, err error) {
	name := p.Place.Name
	var before, last replica.Progress // of the Push, while there is the Fetch: a turn has one count
	o := replica.Options{Parallel: e.o.Parallel, Log: e.o.Log, Differs: e.differs(ctx), Progress: func(r replica.Progress) {
		e.mu.Lock()
		defer e.mu.Unlock()
		last = r
		p.TurnBytes, p.TurnTotal = before.Bytes+r.Bytes, before.OfBytes+r.OfBytes
	}}
	if err := e.meet(ctx, p); err != nil {
		return false, false, err
	}
	takes, err := e.takes(ctx, p)
	if err != nil {
		return false, false, err
	}
	removed, err := e.o.Tier.Removed(ctx, name)
	if err != nil {
		return false, false, fmt.Errorf("read what was removed: %w", err)
	}
	if !takes {
		if err := e.removeHere(ctx, p, removed); err != nil {
			return false, false, err
		}
		return e.fetchFrom(ctx, p, o, false)
	}
	from, bridged, err := e.source(ctx, p)
	if err != nil {
		return false, false, err
	}
	push := replica.PushOptions{Options: o, Removed: removed}
	push.Index = e.o.Index
	if e.o.Bridge != nil {
		push.Bridge = func(g replica.Gap) bool { return e.o.Bridge(g.Folder, g.First) }
	}
	if from != e.o.Own || e.o.Tier.Evicts() {
		push.Forget, push.Lacking = e.o.Tier.Forget, e.o.Lacking
	}
	end := e.offers(ctx, p, &push)
	r, err := replica.Push(ctx, from, p.at, push)
	end()
	if done := append(r.Removed, r.Kept...); len(done) > 0 {
		err = errors.Join(err, e.o.Tier.RemovedDone(name, done...))
	}
	err = errors.Join(err, e.learn(ctx, p, r.At))
	if err != nil {
		e.isLost(err)
		return false, false, fmt.Errorf("push: %w", err)
	}
	e.mu.Lock()
	if len(r.Spared) == 0 { // else the next turn tries again: Lacking knows nothing of what it could never read
		p.bridged = bridged
	}
	before = last
	e.mu.Unlock()
	return e.fetchFrom(ctx, p, o, true)
}

// takes reports whether blobs are brought to p, and notes it.
func (e *Engine) takes(ctx context.Context, p *place) (takes bool, err error) {
	takes = !p.Place.Here
	if takes && p.Takes != nil {
		if takes, err = p.Takes(ctx); err != nil {
			return false, err
		}
	}
	e.mu.Lock()
	p.Gives = !takes
	e.mu.Unlock()
	return takes, nil
}

// removeHere removes from a place to which nothing is brought what this device has removed: if it is on this device. Whoever else takes nothing has nothing of it to
// remove, or has put it himself.
func (e *Engine) removeHere(ctx context.Context, p *place, removed []blob.Name) error {
	if len(removed) == 0 {
		return nil
	}
	if p.Place.Here {
		if err := p.at.Remove(ctx, removed...); err != nil {
			return fmt.Errorf("remove: %w", err)
		}
	}
	return e.o.Tier.RemovedDone(p.Place.Name, removed...)
}

// fetchFrom is the second half of a turn. brought says that the first half has brought all there that this device has put: what is not listed of that tells that the listing
// is not whole, and who has put what nobody sees may need what is about to be collected.
func (e *Engine) fetchFrom(ctx context.Context, p *place, o replica.Options, brought bool) (pushed, news bool, err error) {
	name := p.Place.Name
	o.Check = e.check(ctx)
	got, err := e.fetch(ctx, p, replica.FetchOptions{Options: o, Packs: p.Gives || !e.o.Tier.Knows(name)})
	switch {
	case err != nil:
	case brought && len(got.Unlisted) > 0:
		e.o.Log.Warn("a replica does not list what it has: others may have put there what is not seen", "replica", name, "blobs", len(got.Unlisted), "first", string(got.Unlisted[0]))
	default:
		e.mu.Lock()
		p.good = p.begun
		e.mu.Unlock()
	}
	// What came besides heads counts, too: a head of this device may name the entry of one that has none yet, and where that is not
	// known nobody can take over either.
	news, lost := e.adopt(ctx, len(got.Heads) > 0 || got.Small > 0)
	if err != nil {
		// Where another head lies under the name of one of this device, what it put is not there.
		e.isLost(err)
		return !lost && !errors.Is(err, replica.ErrForked), news, fmt.Errorf("fetch: %w", err)
	}
	return !lost, news, nil
}

// fetch is replica.Fetch from p. All but Options and Packs of o is filled in. What others put on this device is only what they did not find there elsewhere.
func (e *Engine) fetch(ctx context.Context, p *place, o replica.FetchOptions) (replica.News, error) {
	e.mu.Lock()
	o.Same = p.same
	e.mu.Unlock()
	if e.o.Last != nil {
		o.Last = e.o.Last()
	}
	o.Own, o.Part, o.Learn = e.o.Own, p.Place.Here, func(t *catalog.Table) error { return e.learn(ctx, p, t) }
	got, err := replica.Fetch(ctx, p.at, e.o.Mirror, o)
	if err == nil {
		e.mu.Lock()
		p.same = got.Same
		e.mu.Unlock()
	}
	return got, err
}

// A Mark is a moment in the turns of an Engine.
type Mark map[*place]uint64

// alone reports whether there is no place but those on this device: then nobody can have put anything there. e.mu is held.
func (e *Engine) alone() bool {
	return !slices.ContainsFunc(e.places, func(p *place) bool { return !p.Place.Here })
}

// Mark returns the moment of now. It is empty if there is no replica away from here.
func (e *Engine) Mark() Mark {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := Mark{}
	if e.alone() {
		return m
	}
	for _, p := range e.places {
		m[p] = p.begun
	}
	return m
}

// Spread is Mark, and sees to it that the turns which begin from now on bring not only what this device has put, but all that is known here: what
// was looked up a moment ago no turn has counted yet as the work of others. All replicas get a turn soon.
func (e *Engine) Spread() Mark {
	e.mu.Lock()
	e.foreign++
	e.mu.Unlock()
	e.Nudge()
	return e.Mark()
}

// Since reports whether each replica had a turn that began after m, did all it had to, and looked for what others have put there. An
// Adopt that is called by such a turn finds it so.
func (e *Engine) Since(m Mark) bool { return len(e.Late(m)) == 0 }

// Late returns the replicas that had no turn as Since wants it.
func (e *Engine) Late(m Mark) (names []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.places {
		if p.good <= m[p] && !e.alone() {
			names = append(names, p.Place.Name)
		}
	}
	return names
}

// Again has the next turn call Adopt, whether something came or not. An Adopt may call it.
func (e *Engine) Again() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.retry = true
}

// adopt calls Adopt if there are heads that nobody adopted: those that came just now, those that a look brought, and those of an Adopt
// that failed. It reports whether some are news: what is tried again is none, or places would give each other turns for ever; and whether Adopt says ErrLost.
func (e *Engine) adopt(ctx context.Context, came bool) (news, lost bool) {
	e.mu.Lock()
	news = came || e.looked
	due := news || e.retry
	e.looked, e.retry = false, false
	e.mu.Unlock()
	if !due || e.o.Adopt == nil {
		return news, false
	}
	e.adopting.Lock()
	err := e.o.Adopt(ctx)
	e.adopting.Unlock()
	if err == nil {
		return news, false
	}
	lost = e.isLost(err)
	e.mu.Lock()
	e.retry = true
	e.mu.Unlock()
	if ctx.Err() == nil {
		e.o.Log.Warn("what other devices did was not taken over", "err", err)
	}
	return news, lost
}

// check returns what a Fetch is to ask about small blobs; nil if nobody wants to know.
func (e *Engine) check(ctx context.Context) func(blob.Name, []byte) error {
	if e.o.Check == nil {
		return nil
	}
	return func(name blob.Name, body []byte) error { return e.o.Check(ctx, name, body) }
}

// differs returns what is to be told of heads that differ; nil if nobody wants to know.
func (e *Engine) differs(ctx context.Context) func(blob.Name, []byte, blob.Name) error {
	if e.o.Forked == nil {
		return nil
	}
	return func(name blob.Name, theirs []byte, same blob.Name) error { return e.o.Forked(ctx, name, theirs, same) }
}

// source returns what is to be pushed to p: what this device has put; or, when others' work came by another
// replica since it was brought to p last, all that is known of, for p may have no other way to it.
func (e *Engine) source(ctx context.Context, p *place) (from blob.Bucket, bridged uint64, err error) {
	if err := e.findForeign(ctx); err != nil {
		return nil, 0, err
	}
	e.mu.Lock()
	bridged = e.foreign
	due := p.bridged < bridged && len(e.places) > 1
	others := slices.DeleteFunc(slices.Clone(e.places), func(o *place) bool { return o == p })
	e.mu.Unlock()
	if !due {
		return e.o.Own, bridged, nil
	}
	// What others have removed since then is not to be looked for. A replica that cannot be reached now may have nothing
	// that p lacks; if it does, no head that needs it is put.
	if err := e.look(ctx, others); err != nil && ctx.Err() == nil {
		e.o.Log.Debug("bridge without a look at all replicas", "to", p.Place.Name, "err", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// bridged is with what the look has found.
	return e.o.Tier, e.foreign, errors.Join(ctx.Err(), e.lost)
}

// findForeign finds out once whether others' work came here before this Engine was made.
func (e *Engine) findForeign(ctx context.Context) error {
	e.mu.Lock()
	known := e.foreign > 0
	e.mu.Unlock()
	if known {
		return nil
	}
	some := uint64(0)
	for _, err := range e.o.Mirror.List(ctx, "") { // a drive that nobody has written to has no heads, and keys all the same
		if err != nil {
			return fmt.Errorf("look for what others have put: %w", err)
		}
		some = 1
		break
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.foreign = max(e.foreign, some)
	return nil
}

// look lists places anew.
func (e *Engine) look(ctx context.Context, places []*place) error {
	var errs []error
	for _, p := range places {
		got, err := e.fetch(ctx, p, replica.FetchOptions{Options: replica.Options{Log: e.o.Log, Check: e.check(ctx), Differs: e.differs(ctx)}, Packs: true})
		if len(got.Heads) > 0 || got.Small > 0 { // the next turn adopts them: whoever looks may be in the middle of that
			e.mu.Lock()
			e.looked = true
			p.nudge()
			e.mu.Unlock()
		}
		if err != nil {
			e.isLost(err)
			errs = append(errs, fmt.Errorf("look at replica %s: %w", p.Place.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Look lists all replicas anew: what other devices have moved is found where it is now. It takes no turn and adopts nothing.
func (e *Engine) Look(ctx context.Context) error {
	e.mu.Lock()
	all := slices.Clone(e.places)
	e.mu.Unlock()
	return e.look(ctx, all)
}

// LookHere is Look at the places that are on this device.
func (e *Engine) LookHere(ctx context.Context) error {
	e.mu.Lock()
	here := slices.DeleteFunc(slices.Clone(e.places), func(p *place) bool { return !p.Place.Here })
	e.mu.Unlock()
	return e.look(ctx, here)
}

// learn notes what a replica has; nil: it is not known.
func (e *Engine) learn(ctx context.Context, p *place, at *catalog.Table) error {
	if at == nil {
		return nil
	}
	news, err := e.shows(context.WithoutCancel(ctx), p, at) // it asks nobody but this device
	if err == nil {
		err = e.o.Tier.Learn(p.Place.Name, at)
	}
	e.mu.Lock()
	if err == nil { // else it is news still
		p.table, p.Packs, p.Bytes = at, at.Len(), at.Bytes()
	}
	if news && err == nil {
		e.foreign++
	}
	dropped := p.dropped && e.find(p.Place.Name) == nil
	e.mu.Unlock()
	if dropped { // a look at it was still under way
		err = errors.Join(err, e.o.Tier.Unlearn(p.Place.Name))
	}
	return err
}

// shows reports whether a replica has a pack that was known nowhere. Heads that need it may have come, and been brought to others, when a listing
// lacked it: it is to be brought there, too, though nothing else is new.
func (e *Engine) shows(ctx context.Context, p *place, at *catalog.Table) (bool, error) {
	e.mu.Lock()
	was := p.table
	e.mu.Unlock()
	for info := range at.All(catalog.Packs) {
		if _, ok := was.Size(info.Name); ok || e.o.Tier.Copies(info.Name) > 0 || e.o.Tier.Evicted(info.Name) {
			continue
		}
		r, err := e.o.Own.Get(ctx, info.Name, 0, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("look for a pack that a replica shows: %w", err)
		}
		_ = r.Close()
	}
	return false, nil
}

// Sync gives each replica a turn that begins after the call, and returns when all had one: the error joins those of the turns.
// It works also where Run is not at work.
func (e *Engine) Sync(ctx context.Context) error {
	e.mu.Lock()
	all := append([]*place(nil), e.places...)
	running := e.running
	wanted := make([]uint64, len(all))
	for i, p := range all {
		wanted[i] = p.begun + 1
		p.hurry = true
		select {
		case p.urgent <- struct{}{}:
		default:
		}
	}
	e.mu.Unlock()
	var errs []error
	for i, p := range all {
		var err error
		if running {
			err = e.await(ctx, func() bool { return p.dropped || p.turns >= wanted[i] })
			if err == nil {
				e.mu.Lock()
				err = p.Err
				e.mu.Unlock()
			}
		} else {
			err = e.takeTurn(ctx, p)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("replica %s: %w", p.Place.Name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// await waits until what is asked for is so; e.mu is held while it asks.
func (e *Engine) await(ctx context.Context, so func() bool) error {
	for {
		e.mu.Lock()
		ok, moved := so(), e.moved
		e.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}

// Wait returns when at least n replicas have all that this device had put when it was called. If there are not so many replicas the
// error wraps ErrTooFew. It needs Run, or it gives the turns itself.
func (e *Engine) Wait(ctx context.Context, n int) error {
	e.mu.Lock()
	e.change++
	target, running, some := e.change, e.running, 0
	for _, p := range e.places {
		if p.nudge(); !p.Gives {
			some++
		}
	}
	e.mu.Unlock()
	if some < n {
		return fmt.Errorf("wait for %d replicas, there are %d: %w", n, some, ErrTooFew)
	}
	have := func() bool {
		k := 0
		for _, p := range e.places {
			if p.done >= target && !p.Gives {
				k++
			}
		}
		return k >= n
	}
	if running || n == 0 {
		return e.await(ctx, have)
	}
	err := e.Sync(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if have() {
		return nil
	}
	return err
}

// Bucket returns a replica for a work of its own, beside the turns. It is closed with the replica.
func (e *Engine) Bucket(name string) (blob.Bucket, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.find(name)
	if p == nil {
		return nil, fmt.Errorf("replica %s: %w", name, ErrNotFound)
	}
	return p.at, nil
}

// OnlyAt returns how many packs are at a replica and, as far as is known, nowhere else. One of which nothing is known is asked.
func (e *Engine) OnlyAt(ctx context.Context, name string) (int, error) {
	table := func() (*place, *catalog.Table) {
		e.mu.Lock()
		defer e.mu.Unlock()
		p := e.find(name)
		switch {
		case p == nil:
			return nil, nil
		case p.table != nil:
			return p, p.table
		}
		return p, e.o.Tier.Catalog(name) // it had no turn yet since this Engine was made
	}
	p, at := table()
	if p == nil {
		return 0, fmt.Errorf("replica %s: %w", name, ErrNotFound)
	}
	if at == nil {
		if err := e.look(ctx, []*place{p}); err != nil {
			return 0, fmt.Errorf("find out what replica %s has: %w", name, err)
		}
		_, at = table()
	}
	here := map[blob.Name]struct{}{}
	for info, err := range e.o.Tier.Kept(ctx) { // what was evicted is not here
		if err != nil {
			return 0, fmt.Errorf("list packs of this device: %w", err)
		}
		here[info.Name] = struct{}{}
	}
	n := 0
	for info := range at.All(catalog.Packs) {
		if _, own := here[info.Name]; !own && e.o.Tier.Copies(info.Name) < 2 {
			n++
		}
	}
	return n, nil
}
