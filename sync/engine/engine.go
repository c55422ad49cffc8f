package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// The errors of an Engine.
var (
	ErrExists = errors.New("a replica of that name is there already")
	// ErrLost is for Adopt and Forked: the state of this device was set back or lost, so that what it has put is not what lies under those names elsewhere. No
	// replica counts as one that has it, and nothing is put any more.
	ErrLost     = errors.New("what this device puts is not what others have under those names")
	ErrNotFound = errors.New("no such replica")
	// ErrTooFew says that there are fewer replicas than copies were asked for.
	ErrTooFew = errors.New("there are not so many replicas")
)

// The times of an Engine.
const (
	defaultPoll = 30 * time.Second
	firstPause  = time.Second
	maxPause    = 2 * time.Minute
)

// A Place is where a replica is.
type Place struct {
	// Name is how people call it, and how the Tier knows it.
	Name string
	// At is where it is, for people.
	At string
	// Open reaches it. The Bucket is closed, if it is an io.Closer, when the place is dropped and when the Engine is closed.
	Open func(ctx context.Context) (blob.Bucket, error)
	// Here says that the place is on this device, and that others put there: nothing is brought to it, and it is no copy of what this device has
	// put. What this device has removed is removed there, too.
	Here bool
	// Passing says that nobody has asked for it by name: it comes and goes with what it is. It is for who lists places only.
	Passing bool
	// Direct says that it is a device, which has what is brought to it at once, and shows it. It is for who is asked by [Engine.Reaches] only.
	Direct bool
	// Takes, if not nil, is asked in each turn whether the place takes blobs. From one that does not, they are only fetched, and it is no copy.
	Takes func(ctx context.Context) (bool, error)
	// Offer, if not nil, asks the place which packs it wants, as replica.Options has it.
	Offer func(ctx context.Context, packs []blob.Name, room int, rank replica.Rank) ([]replica.Answer, error)
}

// Options are what an Engine works with. Tier, Own and Mirror are needed.
type Options struct {
	// Tier is the bucket of the drive: what this device has put, and what it knows of others. The Engine gives it the replicas
	// to read from.
	Tier *tier.Tier
	// Own is what this device has put, also what was evicted: the Own of the Tier. Mirror takes the small blobs of others.
	Own, Mirror blob.Bucket
	// Adopt is called, one call at a time, when there are new heads of others; nil: nobody wants to know. An error keeps
	// nothing from going on.
	Adopt func(ctx context.Context) error
	// Folder is where heads of this device lie, heads/<pseudonym>: before anything is put, those that replicas have are compared with those in Own. Empty: they are not.
	Folder blob.Name
	// Last returns the last heads that count of devices that were revoked, by their folders: see replica.FetchOptions. Nil: there are none.
	Last func() map[blob.Name]uint64
	// Check is asked about each small blob of others before it gets into Mirror: see replica.Options. Nil: all get there.
	Check func(ctx context.Context, name blob.Name, body []byte) error
	// Forked is told of a head of which a replica has another one: see replica.Options.Differs. Nil: nobody wants to know.
	Forked func(ctx context.Context, name blob.Name, theirs []byte, same blob.Name) error
	// Bridge is asked whether heads in the folder heads/<pseudonym> may go to a replica that has only older ones, some of which nobody has any more, of which first is the lowest:
	// see replica.Options. Nil: they may not.
	Bridge func(folder blob.Name, first uint64) bool
	// Index is asked about each index blob before it is brought to a replica: see replica.Options. Nil: none is refused.
	Index func(name blob.Name, body []byte) error
	// Lacking is asked about packs that others have put, that are listed somewhere, and that no place gives whole: see
	// replica.Options. Nil: nothing goes where such packs are missing.
	Lacking func(ctx context.Context, packs []blob.Name) error
	// Top tells, in bytes that mean something to the caller only, what the newest state of this device is: see Held. Nil: nobody wants
	// to know.
	Top func(ctx context.Context) ([]byte, error)
	// Memory keeps, under keys with the prefix "replica/", when replicas were pushed to; nil: nothing is kept.
	Memory kv.DB
	// Poll is how long a replica is left alone while nothing happens here. Zero: 30 s. It varies by a tenth.
	Poll time.Duration
	// Parallel is how many blobs are under way at once to one replica. Zero: 4.
	Parallel int
	// Now tells the time for Status; nil: time.Now. No decision rests on it.
	Now func() time.Time
	// Log takes what there is to say; nil discards it.
	Log *slog.Logger
}

// Status is how a replica stands.
type Status struct {
	Name, At  string
	Online    bool      // the last turn reached it
	Busy      bool      // a turn is under way
	Known     bool      // it had a good turn once, so that Lag says something
	LagBlobs  int       // of this device that it lacks; 0 only if it has the newest state of this device, too
	LagBytes  int64     // of these, without heads
	Pushed    time.Time // when it last had all that this device had; zero: never
	Fetched   time.Time // when others' work was last looked for there; zero: never
	Verified  time.Time // when its packs were last read and found in order; zero: never
	Packs     int       // that it has
	Bytes     int64     // of these
	Turn      uint64    // counts the turns that began
	TurnBytes int64     // that the turn under way has copied
	TurnTotal int64     // that it has to, as far as is known
	Here      bool      // it is on this device, and others put there
	Passing   bool      // as Place has it
	Gives     bool      // by the last turn, it takes nothing: it is no copy
	Err       error     // of the last turn
}

// An Engine is safe for concurrent use. New makes one, Run works.
type Engine struct {
	o        Options
	adopting sync.Mutex
	keeping  sync.Mutex // held to evict what replicas keep, and to drop one of them; before mu
	meeting  sync.Mutex

	mu      sync.Mutex // guards the rest
	places  []*place
	change  uint64 // counts what this device put, as Nudge tells
	foreign uint64 // counts what came from others; 0: nothing ever did
	running bool   // Run is at work
	looked  bool   // a look brought heads into the Mirror, which no turn has counted yet
	retry   bool   // the last Adopt failed
	lost    error  // why nothing is put any more: it wraps ErrLost
	sending sending
	added   chan struct{} // closed and made anew when places changes
	moved   chan struct{} // the same when a place had a turn
}

// place is a replica.
type place struct {
	Place
	wake   chan struct{} // asks for a turn soon
	urgent chan struct{} // asks for one at once, also where the last one failed
	turn   sync.Mutex    // held by a turn
	at     *lazy
	stop   context.CancelFunc
	gone   chan struct{} // closed when its goroutine has ended; nil: there is none

	// Guarded by Engine.mu.
	Status
	table   *catalog.Table // what it has, as last seen
	dropped bool
	hurry   bool        // the next turn does not wait
	done    uint64      // Engine.change that the last good turn covers
	bridged uint64      // Engine.foreign that it has
	same    []blob.Name // heads in Own that are the same there
	asked   bool        // others were put something at after this one was asked for heads of this device; guarded by meeting
	met     bool        // its heads of this device were compared
	top     []byte      // Options.Top at the begin of the last turn with a good push
	turns   uint64      // that ended, well or not
	begun   uint64      // that began
	good    uint64      // begun of the last turn that did all it had to
}

// New returns an Engine without replicas.
func New(o Options) *Engine {
	if o.Poll == 0 {
		o.Poll = defaultPoll
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{o: o, change: 1, added: make(chan struct{}), moved: make(chan struct{})}
}

// Add takes a place among the replicas. With Run at work it gets its first turn at once.
func (e *Engine) Add(p Place) error {
	r, err := e.recall(context.Background(), p.Name)
	if err != nil {
		e.o.Log.Warn("what is known of a replica is lost", "err", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.find(p.Name) != nil {
		return fmt.Errorf("add replica %s: %w", p.Name, ErrExists)
	}
	e.places = append(e.places, &place{
		Place: p, at: &lazy{open: p.Open}, top: r.Top,
		Status: Status{Name: p.Name, At: p.At, Here: p.Here, Passing: p.Passing, Gives: p.Here, Known: !r.Pushed.IsZero(), Pushed: r.Pushed, Fetched: r.Fetched, Verified: r.Verified},
		wake:   make(chan struct{}, 1), urgent: make(chan struct{}, 1), hurry: true,
	})
	close(e.added)
	e.added = make(chan struct{})
	e.show()
	return nil
}

// show tells the Tier which replicas can be read from. e.mu is held.
func (e *Engine) show() {
	all := make([]tier.Remote, 0, len(e.places))
	for _, p := range e.places {
		r := tier.Remote{Name: p.Place.Name, Bucket: p.at, Near: p.Place.Here}
		if r.Near { // what is on this device is read there
			all = slices.Insert(all, 0, r)
		} else {
			all = append(all, r)
		}
	}
	e.o.Tier.SetRemotes(all...)
}

// Close drops all places, without looking at them once more. Run must have ended.
func (e *Engine) Close() error {
	e.mu.Lock()
	all := e.places
	e.places = nil
	e.show()
	e.mu.Unlock()
	var errs []error
	for _, p := range all {
		errs = append(errs, p.at.Close())
	}
	return errors.Join(errs...)
}

// find returns the place of that name, or nil. e.mu is held.
func (e *Engine) find(name string) *place {
	i := slices.IndexFunc(e.places, func(p *place) bool { return p.Place.Name == name })
	if i < 0 {
		return nil
	}
	return e.places[i]
}

// Drop takes a place from the replicas and returns when its turn, if one was under way, has ended. What lies there stays.
func (e *Engine) Drop(name string) error {
	e.keeping.Lock() // what is evicted now may be nowhere else
	defer e.keeping.Unlock()
	return e.drop(name)
}

// DropSpare is Drop, if there is no pack that is there and, as far as is known, nowhere else: only counts these. If there are, nothing is changed.
func (e *Engine) DropSpare(ctx context.Context, name string) (only int, err error) {
	e.keeping.Lock() // what is counted here could be evicted before it is dropped
	defer e.keeping.Unlock()
	if only, err = e.OnlyAt(ctx, name); err != nil || only > 0 {
		return only, err
	}
	return 0, e.drop(name)
}

// drop is Drop under the lock of keeping.
func (e *Engine) drop(name string) error {
	e.mu.Lock()
	p := e.find(name)
	if p == nil {
		e.mu.Unlock()
		return fmt.Errorf("drop replica %s: %w", name, ErrNotFound)
	}
	e.places = slices.DeleteFunc(e.places, func(o *place) bool { return o == p })
	p.dropped = true
	stop, gone := p.stop, p.gone
	e.broadcast()
	e.show()
	e.mu.Unlock()
	if stop != nil {
		stop()
		<-gone
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	e.forget(context.Background(), name)
	if err := e.o.Tier.Unlearn(name); err != nil { // or it would count as a copy
		e.o.Log.Warn("what a former replica has is still taken for a copy", "replica", name, "err", err)
	}
	if err := p.at.Close(); err != nil {
		e.o.Log.Debug("replica was not closed cleanly", "replica", name, "err", err)
	}
	return nil
}

// broadcast wakes all that wait for a turn. e.mu is held.
func (e *Engine) broadcast() {
	close(e.moved)
	e.moved = make(chan struct{})
}

// List returns how all replicas stand, in the order in which they were added.
func (e *Engine) List() []Status {
	e.mu.Lock()
	all := slices.Clone(e.places)
	e.mu.Unlock()
	top := e.topNow(context.Background())
	list := make([]Status, 0, len(all))
	for _, p := range all {
		blobs, size, err := e.o.Tier.Missing(context.Background(), p.Place.Name)
		if err != nil {
			e.o.Log.Warn("what a replica lacks is not known", "replica", p.Place.Name, "err", err)
		}
		e.mu.Lock()
		s := p.Status
		s.Turn = p.begun
		if s.Gives { // it is to have none of it
			blobs, size = 0, 0
		} else if blobs == 0 && top != nil && !bytes.Equal(p.top, top) {
			blobs = 1 // all that it names is there, and the head itself is not
		}
		e.mu.Unlock()
		if s.Packs == 0 { // it had no turn yet since the Engine was made
			t := e.o.Tier.Catalog(p.Place.Name)
			s.Packs, s.Bytes = t.Len(), t.Bytes()
		}
		s.LagBlobs, s.LagBytes = blobs, size
		list = append(list, s)
	}
	return list
}

// Reaches says whether anything is brought elsewhere, and whether to devices, where somebody may wait for it.
func (e *Engine) Reaches() (others, devices bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.places {
		others = others || !p.Place.Here
		devices = devices || p.Place.Direct
	}
	return others, devices
}

// Takers returns how many replicas take what this device has put: those that Wait counts.
func (e *Engine) Takers() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.places {
		if !p.Gives {
			n++
		}
	}
	return n
}

// Nudge says that this device put something: all replicas get a turn soon.
func (e *Engine) Nudge() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.change++
	for _, p := range e.places {
		p.nudge()
	}
}

// Hurry gives one replica a turn at once, also if its last one failed: it has said that it has news, or that it can be reached again. A name that is none
// changes nothing.
func (e *Engine) Hurry(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.find(name)
	if p == nil {
		return
	}
	p.hurry = true
	select {
	case p.urgent <- struct{}{}:
	default:
	}
}

func (p *place) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run gives turns until ctx is done, and returns when none is under way any more. Only one Run may be at work.
func (e *Engine) Run(ctx context.Context) {
	e.mu.Lock()
	e.running = true
	e.mu.Unlock()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		e.mu.Lock()
		for _, p := range e.places {
			if p.gone != nil {
				continue
			}
			life, stop := context.WithCancel(ctx)
			p.stop, p.gone = stop, make(chan struct{})
			all.Go(func() {
				defer close(p.gone)
				defer stop()
				e.turns(life, p)
			})
		}
		added := e.added
		e.mu.Unlock()
		select {
		case <-ctx.Done():
			e.mu.Lock()
			e.running = false
			e.mu.Unlock()
			return
		case <-added:
		}
	}
}

// turns gives p its turns.
func (e *Engine) turns(ctx context.Context, p *place) {
	pause := firstPause
	for {
		e.mu.Lock()
		wait, wake := e.o.Poll, p.wake
		switch {
		case p.hurry:
			wait = 0
		case p.Err != nil:
			wait, wake = pause, nil // what fails is not tried more often because there is more to do
		case p.done < e.change:
			wait = 0
		}
		e.mu.Unlock()
		if wait > 0 {
			timer := time.NewTimer(wait - wait/20 + rand.N(wait/10+1)) //nolint:gosec // it spreads the load, and guards nothing
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-wake:
			case <-p.urgent:
			}
			timer.Stop()
		}
		if ctx.Err() != nil {
			return
		}
		if err := e.takeTurn(ctx, p); err != nil {
			pause = min(2*pause, maxPause)
		} else {
			pause = firstPause
		}
	}
}
