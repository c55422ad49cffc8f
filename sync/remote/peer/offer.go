package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// An Answer is what a device says to a pack that it is offered.
type Answer uint8

// The answers.
const (
	Wanted Answer = iota // it is to be put now
	Held                 // it is there
	Later                // it comes from another device, or others are to bring it: it may be offered again
)

// A Rank says how much a device wants to be the one that brings a pack.
type Rank uint8

// The ranks.
const (
	Mine   Rank = iota // it has the pack, and knows of nobody else who is about to bring it
	Spare              // it has the pack, and so has another device that it gave it to just now
	Detour             // it would have to fetch the pack first
)

// MaxOffer is how many packs are offered at a time.
const MaxOffer = maxNames

// The times and bounds of offers.
const (
	offerWait = time.Second // for an answer that is not Later of all
	claimFor  = 10 * time.Second
	maxClaims = 64 // packs that are wanted from one device at a time
	aheadOf   = 3 * time.Second
)

// Offer asks the device which of some packs it wants now, at most MaxOffer of them, and wants at most room of them at a time. Those that it wants it keeps
// free for this device for some seconds. If it wants none and has none, it answers after a second, or as soon as that changes. Where several
// devices bring the same drive, each pack so comes from one of them.
func (b *Bucket) Offer(ctx context.Context, packs []blob.Name, room int, rank Rank) ([]Answer, error) {
	if len(packs) == 0 || len(packs) > MaxOffer || room < 1 {
		return nil, fmt.Errorf("offer %d packs: %w", len(packs), errors.ErrUnsupported)
	}
	p, err := b.ask(ctx, call{op: opOffer, n: int64(room), off: int64(rank), names: packs}, frameAnswer)
	if err != nil {
		return nil, fmt.Errorf("offer packs: %w", err)
	}
	if len(p) != len(packs) {
		return nil, fmt.Errorf("offer packs: %d answers to %d: %w: %w", len(p), len(packs), blob.ErrTemporary, ErrProtocol)
	}
	all := make([]Answer, len(p))
	for i, a := range p {
		if all[i] = Answer(a); all[i] > Later {
			return nil, fmt.Errorf("offer packs: an answer %d: %w: %w", a, blob.ErrTemporary, ErrProtocol)
		}
	}
	return all, nil
}

// offer answers one.
func (a *answering) offer(c call) error {
	if c.off > int64(Detour) || c.n < 1 || len(c.names) == 0 {
		return fmt.Errorf("%w: an offer of %d packs", ErrProtocol, len(c.names))
	}
	have := make([]bool, len(c.names))
	look := func() error {
		for i, name := range c.names {
			if have[i] {
				continue
			}
			r, err := a.s.n.o.Bucket.Get(a.ctx, name, 0, 0)
			switch {
			case err == nil:
				have[i] = true
				_ = r.Close()
			case !errors.Is(err, fs.ErrNotExist):
				return err
			}
		}
		return nil
	}
	for _, name := range c.names {
		if _, ok := catalog.PackHash(name); !ok {
			return fmt.Errorf("%q is no pack: %w", string(name), blob.ErrName)
		}
	}
	until := time.Now().Add(offerWait)
	for {
		moved := a.s.n.arrivals.moves()
		if err := look(); err != nil {
			return err
		}
		all, some := a.s.n.arrivals.answer(time.Now(), a.s.key, c.names, have, int(min(c.n, maxClaims)), Rank(c.off))
		if wait := time.Until(until); !some && wait > 0 {
			t := time.NewTimer(min(wait, offerWait/4)) // claims end by themselves
			select {
			case <-moved:
			case <-t.C:
			case <-a.ctx.Done():
			}
			t.Stop()
			if a.ctx.Err() == nil {
				continue
			}
		}
		return a.send(frameAnswer, all)
	}
}

// arrivals are the packs that come to this device from others. The zero value is none.
type arrivals struct {
	mu     sync.Mutex
	coming map[blob.Name]*arrival
	last   map[Key]time.Time       // when a device put a pack last
	hurry  map[blob.Name]int       // packs that somebody here waits for
	spare  map[blob.Name]time.Time // since when packs are offered that others could bring
	moved  chan struct{}           // closed and made anew when something has come, or comes no more
}

// arrival is a pack that was promised to a device, or comes from it.
type arrival struct {
	key   Key
	until time.Time // that the promise holds; zero: it is on its way
}

func (a *arrivals) moves() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.movesLocked()
}

func (a *arrivals) movesLocked() <-chan struct{} {
	if a.moved == nil {
		a.moved = make(chan struct{})
	}
	return a.moved
}

// live returns what of a pack is coming, and forgets a promise that is over. a.mu is held.
func (a *arrivals) live(now time.Time, name blob.Name) *arrival {
	c := a.coming[name]
	if c != nil && !c.until.IsZero() && now.After(c.until) {
		delete(a.coming, name)
		return nil
	}
	return c
}

// busy reports whether packs come from a device other than key, or did within some time. a.mu is held.
func (a *arrivals) busy(now time.Time, key Key, within time.Duration) bool {
	for name, c := range a.coming {
		if c.key != key && a.live(now, name) != nil {
			return true
		}
	}
	for k, at := range a.last {
		if k != key && now.Sub(at) < within {
			return true
		}
	}
	return false
}

// answer says what is to become of packs that are offered; some is false if all are Later. What somebody here waits for goes first.
func (a *arrivals) answer(now time.Time, key Key, names []blob.Name, have []bool, room int, rank Rank) (all []byte, some bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.coming == nil {
		a.coming, a.last, a.hurry = map[blob.Name]*arrival{}, map[Key]time.Time{}, map[blob.Name]int{}
	}
	promised := 0
	for name, c := range a.coming {
		if c.key == key && a.live(now, name) != nil && !slices.Contains(names, name) {
			promised++
		}
	}
	room = min(room, maxClaims-promised)
	ahead := time.Duration(rank) * aheadOf // who would rather bring it has so long to say so
	if rank > Mine && a.busy(now, key, ahead) {
		room = 0
	}
	all = make([]byte, len(names))
	for _, first := range []bool{true, false} {
		for i, name := range names {
			switch c := a.live(now, name); {
			case (a.hurry[name] > 0) != first:
				continue
			case have[i]:
				all[i] = byte(Held)
			case c != nil && (c.key != key || c.until.IsZero()), room <= 0, a.early(now, name, ahead):
				all[i] = byte(Later)
				continue
			default:
				all[i] = byte(Wanted)
				a.coming[name] = &arrival{key, now.Add(claimFor)}
				room--
			}
			some = true
		}
	}
	return all, some
}

// maxSpare is of how many packs it is kept since when they are offered.
const maxSpare = 4096

// early reports whether a pack that others could bring is offered for less than some time. a.mu is held.
func (a *arrivals) early(now time.Time, name blob.Name, ahead time.Duration) bool {
	if ahead == 0 {
		return false
	}
	since, ok := a.spare[name]
	if !ok || now.Sub(since) > time.Minute { // of another time
		if a.spare == nil || len(a.spare) >= maxSpare {
			a.spare = map[blob.Name]time.Time{}
		}
		a.spare[name], since = now, now
	}
	return now.Sub(since) < ahead
}

// begin says that a pack comes from a device. The caller calls what it returns when it has come, or will not.
func (a *arrivals) begin(key Key, name blob.Name) (end func()) {
	if _, ok := catalog.PackHash(name); !ok {
		return func() {}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.coming == nil {
		a.coming, a.last, a.hurry = map[blob.Name]*arrival{}, map[Key]time.Time{}, map[blob.Name]int{}
	}
	mine := &arrival{key: key}
	if c := a.live(time.Now(), name); c == nil || c.key == key {
		a.coming[name] = mine
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.coming[name] == mine {
			delete(a.coming, name)
		}
		if len(a.last) >= maxSessions {
			clear(a.last)
		}
		a.last[key] = time.Now()
		if a.moved != nil {
			close(a.moved)
			a.moved = nil
		}
	}
}

// Await waits until a pack has come that a device is bringing, or is about to bring, for at most so long. It reports whether it might have come: whoever waited looks.
// If packs come from nobody, it returns false at once.
func (n *Node) Await(ctx context.Context, name blob.Name, most time.Duration) bool {
	if _, ok := catalog.PackHash(name); !ok {
		return false
	}
	a := &n.arrivals
	t := time.NewTimer(most)
	defer t.Stop()
	a.mu.Lock()
	if len(a.coming) == 0 {
		a.mu.Unlock()
		return false
	}
	a.hurry[name]++
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.hurry[name]--; a.hurry[name] <= 0 {
			delete(a.hurry, name)
		}
	}()
	came := false // it was on its way while this waited
	for {
		c := a.live(time.Now(), name)
		switch {
		case c == nil && (came || !a.busy(time.Now(), n.key, aheadOf)):
			a.mu.Unlock()
			return came
		case c != nil:
			came = true
		}
		moved := a.movesLocked()
		a.mu.Unlock()
		select {
		case <-moved:
		case <-t.C:
			return false
		case <-ctx.Done():
			return false
		}
		a.mu.Lock()
	}
}
