package service

import (
	"context"
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

const (
	keepEvents   = 1 << 15     // events that are kept for those who come back
	replicaEvery = time.Second // how often it is looked how replicas stand
)

// events is what happened, as far as it is kept.
type events struct {
	epoch string // of this process: cursors of another mean nothing

	mu    sync.Mutex // guards the rest
	ring  [keepEvents]*sheafv1.Event
	last  uint64        // how many there were; the n-th lies at n-1 modulo keepEvents
	moved chan struct{} // closed when there is one more
}

func newEvents() *events {
	return &events{epoch: strings.ToLower(rand.Text()[:10]), moved: make(chan struct{})}
}

func (v *events) cursor(n uint64) string { return v.epoch + "-" + strconv.FormatUint(n, 10) }

// add tells of an event, which the caller does not change any more.
func (v *events) add(e *sheafv1.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ring[v.last%keepEvents] = e
	v.last++
	e.Cursor, e.Time = v.cursor(v.last), stamp(time.Now())
	close(v.moved)
	v.moved = make(chan struct{})
}

// after returns the events behind the n-th, at most some; lost says that they are not all there any more.
func (v *events) after(n uint64) (some []*sheafv1.Event, moved <-chan struct{}, lost bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n+keepEvents < v.last {
		return nil, nil, true
	}
	for ; n < v.last && len(some) < listBatch; n++ {
		some = append(some, v.ring[n%keepEvents])
	}
	return some, v.moved, false
}

// position returns how many events there were at a cursor, and whether what came since is known.
func (v *events) position(cursor string) (n uint64, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	epoch, text, _ := strings.Cut(cursor, "-")
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || epoch != v.epoch || n > v.last || n+keepEvents < v.last {
		return v.last, false
	}
	return n, true
}

// WatchEvents sends what happens.
func (s *Service) WatchEvents(ctx context.Context, r *sheafv1.EventsWatchRequest, send func(*sheafv1.Event) error) error {
	ctx, _, release, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer release()
	s.mu.Lock()
	s.watched = true
	s.mu.Unlock()
	s.observe() // before it is said from where on all is told
	n, known := s.events.position(r.GetAfter())
	if !known {
		first := &sheafv1.Event{Kind: sheafv1.EventKind_EVENT_KIND_RESET, Cursor: s.events.cursor(n), Time: stamp(time.Now())}
		if r.GetAfter() == "" {
			first.Kind = sheafv1.EventKind_EVENT_KIND_BEGIN
		}
		if err := send(first); err != nil {
			return err
		}
	}
	grant := access.Of(ctx)
	for {
		some, moved, lost := s.events.after(n)
		if lost {
			return errorf(sheafv1.Code_CODE_TEMPORARY, "begin anew, from the last cursor", "too slow: what happened since is not kept any more")
		}
		for _, e := range some {
			if seesEvent(grant, e) {
				if err := send(e); err != nil {
					return err
				}
			}
		}
		if n += uint64(len(some)); len(some) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}

// seesEvent reports whether a caller may hear of an event: one of a folder hears of what is in it only.
func seesEvent(g *access.Grant, e *sheafv1.Event) bool {
	if e.GetKind() == sheafv1.EventKind_EVENT_KIND_RULE {
		return g.IsLocal()
	}
	if g == nil || g.Folder == "" {
		return true
	}
	switch e.GetKind() {
	case sheafv1.EventKind_EVENT_KIND_CREATED, sheafv1.EventKind_EVENT_KIND_CHANGED, sheafv1.EventKind_EVENT_KIND_REMOVED:
		return g.Sees(e.GetPath())
	}
	return false
}

// observe tells what happens in the drive, once it is open and somebody has asked, until the Service closes: two states are compared after each commit,
// which is not for those whom nobody listens to. What is committed after it returns is told.
func (s *Service) observe() {
	s.observing.Lock()
	defer s.observing.Unlock()
	s.mu.Lock()
	d := s.drive
	if s.observed || !s.watched || d == nil || s.closed {
		s.mu.Unlock()
		return
	}
	s.observed = true
	ctx, release := s.admit(s.life)
	s.mu.Unlock()
	moved := d.Moved()
	at := d.State()
	go func() {
		defer release()
		stood := map[string]*sheafv1.Event{}
		tick := time.NewTicker(replicaEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.observeReplicas(d, stood)
				continue
			case <-moved:
			}
			moved = d.Moved()
			now := d.State()
			if err := s.observeTree(ctx, d, at, now); err != nil {
				if ctx.Err() != nil {
					return
				}
				s.o.Log.Warn("what changed is not known", "error", err)
				s.events.add(&sheafv1.Event{Kind: sheafv1.EventKind_EVENT_KIND_RESET})
			}
			at = now
		}
	}()
}

// observeTree tells how two states of the tree differ.
func (s *Service) observeTree(ctx context.Context, d Drive, from, to manifest.Kept) error {
	for diff, err := range d.Diff(ctx, from, to) {
		if err != nil {
			return err
		}
		e := &sheafv1.Event{Kind: sheafv1.EventKind_EVENT_KIND_CHANGED, Path: wirepath.Encode(diff.Path)}
		is, by := diff.New, causal.Device(0)
		switch {
		case diff.Old == nil:
			e.Kind, by = sheafv1.EventKind_EVENT_KIND_CREATED, diff.New.Dot.Device
		case diff.New == nil:
			e.Kind, is = sheafv1.EventKind_EVENT_KIND_REMOVED, diff.Old // who removed it is in no record
		case diff.New.Kind == vfs.KindDir && diff.Old.Kind == vfs.KindDir && diff.New.Attr == diff.Old.Attr:
			continue // only what is in it changed, which is told by itself
		default:
			by = diff.New.Dot.Device
		}
		e.Type, e.Size = sheafv1.Kind(is.Kind), is.Size
		if by != 0 {
			e.Device, e.DeviceName = d.DeviceOf(by)
		}
		s.events.add(e)
	}
	return nil
}

// observeReplicas tells how replicas stand, if that is not as they stood.
func (s *Service) observeReplicas(d Drive, stood map[string]*sheafv1.Event) {
	for _, r := range replicasOf(d) {
		was := stood[r.GetName()]
		complete := r.GetKnown() && r.GetLagBlobs() == 0
		if was != nil && was.GetOnline() == r.GetOnline() && was.GetComplete() == complete {
			continue
		}
		e := &sheafv1.Event{Kind: sheafv1.EventKind_EVENT_KIND_REPLICA, Replica: r.GetName(), Online: r.GetOnline(), Complete: complete}
		stood[r.GetName()] = e
		s.events.add(e)
	}
}
