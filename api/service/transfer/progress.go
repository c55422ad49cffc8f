package transfer

import (
	"sync"

	"github.com/sheaf-drive/sheaf/vfs"
)

// The most failures and actions that a Progress keeps; all are counted.
const (
	MaxFailures = 100
	MaxActions  = 1000
)

// Failure is an item that could not be copied.
type Failure struct {
	Path string
	Err  error
}

// Count is how far a copy is.
type Count struct {
	Items, ItemsTotal int64
	Bytes, BytesTotal int64
	Counted           bool // the totals are final
	Skipped           int64
	Failed            int64
	Renamed           int64
}

// Progress gathers how far a copy is. The zero Progress is ready; it is safe for
// concurrent use.
type Progress struct {
	mu       sync.Mutex
	n        Count
	failures []Failure
	actions  []string
}

// Count returns how far the copy is.
func (p *Progress) Count() Count {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// Failures returns the first failures.
func (p *Progress) Failures() []Failure {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Failure(nil), p.failures...)
}

// Actions returns what was done first, in words.
func (p *Progress) Actions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.actions...)
}

func (p *Progress) change(f func(n *Count)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.n)
}

// add counts it into the totals.
func (n *Count) add(it Item) {
	n.ItemsTotal++
	if it.Kind == vfs.KindFile {
		n.BytesTotal += it.Size
	}
}

func (p *Progress) total(it Item) { p.change(func(n *Count) { n.add(it) }) }

// totals sets the totals to those of t, which are final.
func (p *Progress) totals(t Count) {
	p.change(func(n *Count) { n.ItemsTotal, n.BytesTotal, n.Counted = t.ItemsTotal, t.BytesTotal, true })
}

func (p *Progress) counted()      { p.change(func(n *Count) { n.Counted = true }) }
func (p *Progress) done()         { p.change(func(n *Count) { n.Items++ }) }
func (p *Progress) skip()         { p.change(func(n *Count) { n.Skipped++ }) }
func (p *Progress) bytes(k int64) { p.change(func(n *Count) { n.Bytes += k }) }

func (p *Progress) fail(path string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n.Items++
	p.n.Failed++
	if len(p.failures) < MaxFailures {
		p.failures = append(p.failures, Failure{path, err})
	}
}

func (p *Progress) act(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.actions) < MaxActions {
		p.actions = append(p.actions, what)
	}
}

func (p *Progress) rename(from, to string) {
	p.act("keep " + from + " as " + to)
	p.change(func(n *Count) { n.Renamed++ })
}
