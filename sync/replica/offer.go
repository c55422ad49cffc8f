package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// An Answer is what a far side says to a pack that it is offered.
type Answer uint8

// The answers.
const (
	Wanted Answer = iota // it is to be put now
	Held                 // it is there
	Later                // somebody else brings it, or is to: it is offered again
)

// A Rank says who else could bring a pack; the lower, the sooner it is offered.
type Rank uint8

// The ranks.
const (
	Mine   Rank = iota // nobody else is known to be about to
	Spare              // somebody else has it from this device
	Detour             // it would have to be fetched first
	ranks
	NotNow = ranks // it is on its way from this device to somebody who can give it on: it is not offered yet
)

// maxOffer is how many packs are offered at a time.
const maxOffer = 64

// maxPromised is how many packs one who offers brings at a time: what is promised to one, others do not bring meanwhile.
const maxPromised = 2

// offerFrom is from how many bytes on packs are offered: what is less is put at once.
const offerFrom = 4 << 20

// offerPause is how soon packs that are not to be offered now are looked at again.
const offerPause = 100 * time.Millisecond

// offerPatience is how long a far side may say Later to all that is left.
const offerPatience = 10 * time.Minute

// outcome is what became of packs that were to be put.
type outcome struct {
	done              []blob.Info
	vanished, lacking []blob.Name
}

// send puts one pack, and notes what came of it.
func (r *run) send(ctx context.Context, info blob.Info, out *outcome) error {
	err := r.copyPack(ctx, info, r.progress.of(info.Name))
	if r.o.Sent != nil {
		r.o.Sent(info.Name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var damage *Fault
	var near *nearError
	switch {
	case r.o.Lacking != nil && ctx.Err() == nil && (errors.As(err, &damage) || errors.As(err, &near)):
		r.o.Log.Warn("a pack is not to be had", "blob", string(info.Name), "err", err)
		out.lacking = append(out.lacking, info.Name)
	case err == nil:
		out.done = append(out.done, info)
	case errors.Is(err, errVanished):
		out.vanished = append(out.vanished, info.Name)
	case errors.As(err, &damage):
		if r.faults = append(r.faults, damage); len(r.faults) >= maxFaults {
			return errors.Join(r.faults...)
		}
	default:
		return err
	}
	return nil
}

// sendAll puts packs.
func (r *run) sendAll(ctx context.Context, missing []blob.Info) (out outcome, err error) {
	size := int64(0)
	for _, info := range missing {
		size += info.Size
	}
	g, gctx := errgroup.WithContext(ctx)
	if r.o.Offer != nil && size >= offerFrom {
		g.SetLimit(r.o.Parallel + 1)
		g.Go(func() error { return r.offerAll(gctx, g, missing, &out) })
		err = g.Wait() // before out is looked at
		return out, errors.Join(err, ctx.Err())
	}
	g.SetLimit(r.o.Parallel)
	for _, info := range missing {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return r.send(gctx, info, &out) })
	}
	err = g.Wait()
	return out, errors.Join(err, ctx.Err())
}

// offerAll offers packs and puts those that are wanted, until none is left.
func (r *run) offerAll(ctx context.Context, g *errgroup.Group, left []blob.Info, out *outcome) error {
	left = slices.Clone(left)
	slots := make(chan struct{}, min(r.o.Parallel, maxPromised))
	moved := time.Now()
	for len(left) > 0 {
		select { // a place to put at, before anything is promised
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		some, rank := r.next(left)
		if len(some) == 0 {
			<-slots
			select {
			case <-time.After(offerPause):
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		names := make([]blob.Name, len(some))
		for i, no := range some {
			names[i] = left[no].Name
		}
		answers, err := r.o.Offer(ctx, names, cap(slots)-len(slots)+1, rank)
		if err == nil && len(answers) != len(names) {
			err = fmt.Errorf("offer packs: %d answers to %d", len(answers), len(names))
		}
		if err != nil {
			return err
		}
		taken, held := map[int]bool{}, true // held: the place that this goroutine has in slots
		for i, answer := range answers {
			info := left[some[i]]
			switch answer {
			case Held:
				r.progress.of(info.Name).read(info.Size)
				r.mu.Lock()
				out.done = append(out.done, info)
				r.mu.Unlock()
			case Wanted:
				if !held {
					slots <- struct{}{}
				}
				held = false
				g.Go(func() error {
					defer func() { <-slots }()
					return r.send(ctx, info, out)
				})
			default:
				continue
			}
			taken[some[i]] = true
		}
		if held {
			<-slots
		}
		switch {
		case len(taken) > 0:
			moved = time.Now()
		case time.Since(moved) > offerPatience:
			return fmt.Errorf("the place wants none of %d packs that it lacks: %w", len(left), blob.ErrTemporary)
		}
		rest := left[:0]
		for i, info := range left {
			if !taken[i] {
				rest = append(rest, info)
			}
		}
		left = rest
	}
	return nil
}

// next returns which packs are offered next: some of the lowest rank, from anywhere, so that of several who bring the same each begins elsewhere.
func (r *run) next(left []blob.Info) (some []int, rank Rank) {
	var by [ranks][]int
	begin := rand.IntN(len(left)) //nolint:gosec // it spreads, and guards nothing
	for i := range left {
		no := (begin + i) % len(left)
		rank := Mine
		if r.o.Rank != nil {
			rank = r.o.Rank(left[no].Name)
		}
		if rank >= ranks {
			continue
		}
		if by[rank] = append(by[rank], no); rank == Mine && len(by[Mine]) == maxOffer {
			break
		}
	}
	for rank, some := range by {
		if len(some) > 0 {
			return some[:min(len(some), maxOffer)], Rank(rank)
		}
	}
	return nil, Mine
}
