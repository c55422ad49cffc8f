package main

import (
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote/peer"
	"github.com/sheaf-drive/sheaf/sync/remote/timetable"
)

// A pace holds this process to the bandwidth that is set. Its zero value limits nothing.
type pace struct {
	far, near peer.Rate

	mu    sync.Mutex
	table timetable.Table // of remotes; that of other devices is in far
	timer *time.Timer     // until another limit may hold; nil: nothing is limited
}

// change says what holds from now on. Both were checked: what is no table is none.
func (p *pace) change(far, near string) {
	f, _ := timetable.Parse(far)
	n, _ := timetable.Parse(near)
	p.far.Set(f)
	p.near.Set(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.table = f
	p.hold()
}

// hold has remotes held to what holds now, and to what does later. p.mu is held.
func (p *pace) hold() {
	now := time.Now()
	limitRemotes(p.table.At(now))
	if p.table.String() == "off" {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(p.table.Next(now), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.timer == t {
			p.hold()
		}
	})
	p.timer = t
}
