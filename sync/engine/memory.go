package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// memoryPrefix begins the keys of the database that are the Engine's.
const (
	memoryPrefix = "replica/"
	memoryEnd    = "replica0"
)

// remembered is what is kept of a replica. It is information: without it a replica is not known until its next turn.
type remembered struct {
	Pushed   time.Time `json:"pushed"`
	Fetched  time.Time `json:"fetched"`
	Verified time.Time `json:"verified"`
	Top      []byte    `json:"top"`
}

// recall reads what is kept of a replica.
func (e *Engine) recall(ctx context.Context, name string) (remembered, error) {
	var r remembered
	if e.o.Memory == nil {
		return r, nil
	}
	b, err := e.o.Memory.Get(ctx, []byte(memoryPrefix+name))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return remembered{}, fmt.Errorf("recall replica %s: %w", name, err)
	}
	return r, nil
}

// Tops returns what Options.Top said when replicas had their last good turns, as a database has it.
func Tops(ctx context.Context, db kv.DB) (tops [][]byte, err error) {
	for pair, err := range db.Scan(ctx, []byte(memoryPrefix), []byte(memoryEnd)) {
		if err != nil {
			return nil, fmt.Errorf("recall replicas: %w", err)
		}
		var r remembered
		if err := json.Unmarshal(pair.Value, &r); err == nil && len(r.Top) > 0 {
			tops = append(tops, r.Top)
		}
	}
	return tops, nil
}

// keep keeps what is known of a replica.
func (e *Engine) keep(ctx context.Context, name string, r remembered) {
	if e.o.Memory == nil {
		return
	}
	b, err := json.Marshal(r)
	if err == nil {
		err = e.o.Memory.Update(ctx, func(tx kv.Tx) error { return tx.Put([]byte(memoryPrefix+name), b) })
	}
	if err != nil {
		e.o.Log.Warn("what is known of a replica was not kept", "replica", name, "err", err)
	}
}

// Verified notes that the packs of a replica were found in order just now.
func (e *Engine) Verified(ctx context.Context, name string) {
	e.mu.Lock()
	p := e.find(name)
	var r remembered
	if p != nil {
		p.Status.Verified = e.o.Now()
		r = p.remembered()
	}
	e.mu.Unlock()
	if p != nil {
		e.keep(ctx, name, r)
	}
}

// remembered is what is to be kept of p. Engine.mu is held.
func (p *place) remembered() remembered {
	return remembered{Pushed: p.Pushed, Fetched: p.Fetched, Verified: p.Status.Verified, Top: p.top}
}

// forget drops what is kept of a replica.
func (e *Engine) forget(ctx context.Context, name string) {
	if e.o.Memory == nil {
		return
	}
	err := e.o.Memory.Update(ctx, func(tx kv.Tx) error { return tx.Delete([]byte(memoryPrefix + name)) })
	if err != nil {
		e.o.Log.Warn("what is known of a former replica was not dropped", "replica", name, "err", err)
	}
}
