package pair

import (
	"context"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// A group has what several steps note at one time go to the database in one transaction: each transaction is synced, and that takes longer than most small files do.
// Nothing is noted later for it: who comes while one is under way goes with the next. It is safe for concurrent use.
type group struct {
	db kv.DB

	mu      sync.Mutex
	busy    bool
	waiting []*noted
}

// A noted is what one caller writes.
type noted struct {
	fn    func(kv.Tx) error
	alone bool
	lead  chan bool // true: it is the one to write what waits; false: it was written
	err   error
}

// update stores what fn writes, as kv.DB.Update does, with what others write at that time: it is durable when update returns nil. If the fn of one of them fails, each is
// stored by itself, so fn may be run more than once and has to begin anew each time; two are never run at a time. What the database refuses fails for all of them.
// alone says that fn reads the database, and not only its transaction. A ctx that is done keeps back what has not begun.
func (g *group) update(ctx context.Context, alone bool, fn func(kv.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &noted{fn: fn, alone: alone, lead: make(chan bool, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	lead := !g.busy
	g.busy = true
	g.mu.Unlock()
	if !lead && !<-w.lead {
		return w.err
	}
	g.mu.Lock()
	all := g.waiting
	g.waiting = nil
	g.mu.Unlock()
	g.store(context.WithoutCancel(ctx), all) // others are among them
	g.mu.Lock()
	if g.busy = len(g.waiting) > 0; g.busy {
		g.waiting[0].lead <- true
	}
	g.mu.Unlock()
	for _, o := range all {
		if o != w {
			o.lead <- false
		}
	}
	return w.err
}

// store writes all, and sets their errors.
func (g *group) store(ctx context.Context, all []*noted) {
	var together []*noted
	for _, w := range all {
		if !w.alone {
			together = append(together, w)
		}
	}
	apart := len(together) < 2
	if !apart {
		err := g.db.Update(ctx, func(tx kv.Tx) error {
			for _, w := range together {
				if err := w.fn(tx); err != nil {
					apart = true
					return err
				}
			}
			return nil
		})
		for _, w := range together {
			w.err = err // of the database, which may yet hold all of it after a crash: it is not written a second time
		}
	}
	for _, w := range all {
		if w.alone || apart {
			w.err = g.db.Update(ctx, w.fn)
		}
	}
}
