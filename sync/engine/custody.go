package engine

import (
	"bytes"
	"context"
)

// A Held says of a replica what was there at the end of its last turn in which a push went well.
type Held struct {
	Name string
	// Top is what Options.Top said at the begin of that turn: the state of this device that is there as a whole. Nil: not known.
	Top []byte
}

// Held returns that of all replicas that are not on this device, in the order in which they were added. It asks none of them. Who is to wait for a change gets a
// channel that is closed at the end of the next turn of any, or when the replicas change.
func (e *Engine) Held() (all []Held, changed <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.places {
		if !p.Place.Here {
			all = append(all, Held{p.Place.Name, p.top})
		}
	}
	return all, e.moved
}

// topNow asks what the state of this device is.
func (e *Engine) topNow(ctx context.Context) []byte {
	if e.o.Top == nil {
		return nil
	}
	top, err := e.o.Top(ctx)
	if err != nil {
		e.o.Log.Debug("the state of this device is not known now", "err", err)
		return nil
	}
	return bytes.Clone(top)
}

// Running reports whether Run is at work, so that replicas have turns by themselves.
func (e *Engine) Running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running
}
