package pair

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// The times of a Loop.
const (
	settleTime = 2 * time.Second // after a hint, for changes come in crowds
	firstPause = time.Second
	maxPause   = 10 * time.Minute
)

// LoopOptions say when a pair gets its turns.
type LoopOptions struct {
	// Every is the time between turns; 0 means 5 minutes. Places that tell when it is worth to look ([remote.Watcher]) get turns besides.
	Every time.Duration
	// Begin, if not nil, is called before each turn, and Done after it.
	Begin func()
	Done  func(Report, error)
}

// A Loop gives a pair its turns until it is closed. A turn that fails is followed by the next after a second at first and ten minutes at last.
type Loop struct {
	p      *Pair
	o      LoopOptions
	cancel context.CancelFunc
	all    sync.WaitGroup
	hints  chan struct{}
}

// Start begins the turns of the pair.
func (p *Pair) Start(ctx context.Context, o LoopOptions) *Loop {
	if o.Every <= 0 {
		o.Every = 5 * time.Minute
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Loop{p: p, o: o, cancel: cancel, hints: make(chan struct{}, 1)}
	for s := range merge.Side(2) {
		if w, ok := p.o.Tree[s].(remote.Watcher); ok && p.o.Tree[s].Can().Watch {
			l.all.Go(func() { l.watch(ctx, s, w) })
		}
	}
	l.all.Go(func() { l.run(ctx) })
	return l
}

// Close ends the turns. It waits for the one that is under way, which is cut off between two steps.
func (l *Loop) Close() {
	l.cancel()
	l.all.Wait()
}

func (l *Loop) watch(ctx context.Context, s merge.Side, w remote.Watcher) {
	for path, err := range w.Watch(ctx) {
		if err != nil {
			if ctx.Err() == nil { // from here on the clock alone gives turns
				l.p.o.Log.Warn("a place tells no more when it changes", "side", s.String(), "err", err)
			}
			return
		}
		if !InHistory(path) {
			select {
			case l.hints <- struct{}{}:
			default: // there is one already
			}
		}
	}
}

func (l *Loop) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		wait := l.o.Every
		if l.o.Begin != nil {
			l.o.Begin()
		}
		rep, err := l.p.Run(ctx, RunOptions{})
		if l.o.Done != nil {
			l.o.Done(rep, err)
		}
		switch {
		case err == nil:
			pause = firstPause
		case errors.Is(err, ErrBraked), errors.Is(err, ErrSwapped): // a person is asked, and asking more often does not help
		default:
			wait = min(wait, pause)
			pause = min(2*pause, maxPause)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-l.hints:
			quiet := time.NewTimer(settleTime)
			select {
			case <-ctx.Done():
			case <-quiet.C:
			}
			quiet.Stop()
			select { // what came meanwhile is seen by the same turn
			case <-l.hints:
			default:
			}
		}
		t.Stop()
	}
}
