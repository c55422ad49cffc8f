package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// A hearing is a device of a drive that hears who is unknown to it.
type hearing struct {
	*Node
	known roll // whom it admits
	heard atomic.Int32
}

func newHearing(t *testing.T, change func(*Options), shows func(ctx context.Context, h *hearing, key Key, b blob.Bucket) error) *hearing {
	h := &hearing{}
	h.Node = newNode(t, &roll{}, func(o *Options) {
		change(o)
		o.Bucket, o.Admit = mem.New(), h.known.admit
		o.Introduced = func(ctx context.Context, key Key, b blob.Bucket) error {
			h.heard.Add(1)
			return shows(ctx, h, key, b)
		}
	})
	return h
}

// believes takes a device for a member that has the blob "members/1".
func believes(ctx context.Context, h *hearing, key Key, b blob.Bucket) error {
	r, err := b.Get(ctx, "members/1", 0, -1)
	if err != nil {
		return err
	}
	h.known.set(key, Grant{Read: true})
	return r.Close()
}

// Who is unknown is heard, and let in if what it shows is enough: in the call that it makes, with nothing else to be done.
func TestGuest_IsLetInByWhatItShows(t *testing.T) {
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			far := newHearing(t, change, believes)
			put(t, far.o.Bucket.(*mem.Bucket), "a", []byte("a"))
			var r roll
			near := newNode(t, &r, func(o *Options) { change(o); o.Bucket = mem.New() })
			r.set(far.Key(), Grant{Read: true})
			b := near.Bucket(far.Key(), at(listen(t, far.Node)))
			if got, err := tryGet(t, b, "a", 0, -1); !errors.Is(err, blob.ErrUnauthorized) {
				t.Fatalf("who shows nothing got %q, %v", got, err)
			}
			put(t, near.o.Bucket.(*mem.Bucket), "members/1", []byte("m"))
			time.Sleep(dialPause) // it has just been told no
			if got := get(t, b, "a", 0, -1); string(got) != "a" {
				t.Errorf("got %q", got)
			}
			if n := far.heard.Load(); n != 2 {
				t.Errorf("it was heard %d times", n)
			}
			if len(far.Sessions()) != 1 {
				t.Errorf("sessions are %v", far.Sessions())
			}
		})
	}
}

// Over a link that others have made it is the same, in the first call.
func TestGuest_OverALinkThatWasGiven(t *testing.T) {
	var near, far *Node
	far = newHearing(t, func(*Options) {}, believes).Node
	put(t, far.o.Bucket.(*mem.Bucket), "a", []byte("a"))
	var r roll
	near = newNode(t, &r, func(o *Options) { o.Bucket, o.Dial = mem.New(), reaches(t, &near, &far) })
	r.set(far.Key(), Grant{Read: true})
	put(t, near.o.Bucket.(*mem.Bucket), "members/1", []byte("m"))
	if got := get(t, near.Bucket(far.Key(), at("there")), "a", 0, -1); string(got) != "a" {
		t.Errorf("got %q", got)
	}
}

// As long as it is heard, and when it was not believed, it gets nothing, it is no device that is connected, and it is gone soon.
func TestGuest_HasNothingBefore(t *testing.T) {
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			asked, goOn := make(chan struct{}), make(chan error)
			far := newHearing(t, change, func(context.Context, *hearing, Key, blob.Bucket) error {
				asked <- struct{}{}
				return <-goOn
			})
			put(t, far.o.Bucket.(*mem.Bucket), "a", []byte("a"))
			var r roll
			near := newNode(t, &r, change)
			r.set(far.Key(), Grant{Read: true})
			addr := listen(t, far.Node)
			results, meets := make(chan error, 2), make(chan error, 1)
			go func() { meets <- near.Meet(t.Context(), far.Key(), addr) }()
			<-asked
			var s *session
			for s == nil { // over TCP the caller may see a moment later that it is through
				near.mu.Lock()
				for _, one := range near.sessions[far.Key()] {
					s = one
				}
				near.mu.Unlock()
				time.Sleep(time.Millisecond)
			}
			for _, c := range []call{{op: opGet, name: "a", n: -1}, {op: opPut, name: "b", n: -1, size: 1}} {
				go func() {
					k, err := s.begin(t.Context(), c)
					if err == nil {
						_, _, err = k.next()
						err = k.end(err)
					}
					results <- err
				}()
			}
			if all := far.Sessions(); len(all) != 0 {
				t.Errorf("it counts as connected: %v", all)
			}
			far.Nudge()
			far.Recheck()
			goOn <- nil
			if err := <-meets; !errors.Is(err, blob.ErrUnauthorized) {
				t.Errorf("it is told %v", err)
			}
			for range 2 {
				if err := <-results; err == nil {
					t.Error("a call was answered")
				}
			}
			if _, err := far.o.Bucket.Get(t.Context(), "b", 0, -1); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it has put something: %v", err)
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				far.mu.Lock()
				n := len(far.sessions)
				far.mu.Unlock()
				if n == 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatal("its session is left")
				}
			}
		})
	}
}

// Who was revoked is not heard, whatever it has, nor is anybody where nobody wants to hear.
func TestGuest_NotWhoIsRefused(t *testing.T) {
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			far := newHearing(t, change, believes)
			far.o.Admit = func(context.Context, Key) (Grant, error) {
				return Grant{}, fmt.Errorf("%w: %w: it was revoked", ErrStranger, ErrRefused)
			}
			var r roll
			near := newNode(t, &r, func(o *Options) { change(o); o.Bucket = mem.New() })
			r.set(far.Key(), Grant{Read: true})
			put(t, near.o.Bucket.(*mem.Bucket), "members/1", []byte("m"))
			if got, err := tryGet(t, near.Bucket(far.Key(), at(listen(t, far.Node))), "a", 0, -1); !errors.Is(err, blob.ErrUnauthorized) {
				t.Errorf("got %q, %v", got, err)
			}
			if n := far.heard.Load(); n != 0 {
				t.Errorf("it was heard %d times", n)
			}
		})
	}
}

// Those who never come to an end of what they show keep nobody else out for long, and take no more than there is for all of them.
func TestGuest_NobodyIsHeardForever(t *testing.T) {
	var now, most atomic.Int32
	far := newHearing(t, func(o *Options) {}, func(ctx context.Context, _ *hearing, _ Key, _ blob.Bucket) error {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
		return errors.New("no")
	})
	addr := listen(t, far.Node)
	done := make(chan error, maxSeats)
	for range cap(done) {
		var r roll
		near := newNode(t, &r, nil)
		r.set(far.Key(), Grant{Read: true})
		go func() { done <- near.Meet(t.Context(), far.Key(), addr) }()
	}
	for range cap(done) {
		if err := <-done; !errors.Is(err, blob.ErrUnauthorized) {
			t.Errorf("got %v", err)
		}
	}
	if n := most.Load(); n != maxGuests {
		t.Errorf("%d were heard at a time, want %d", n, maxGuests)
	}
}

// However many strangers come to be heard, they take no room from members, who are let in meanwhile.
func TestGuest_StrangersTakeNoRoom(t *testing.T) {
	goOn := make(chan struct{})
	far := newHearing(t, func(*Options) {}, func(ctx context.Context, _ *hearing, _ Key, _ blob.Bucket) error {
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return errors.New("no")
	})
	addr := listen(t, far.Node)
	const strangers = 3 * maxSeats
	done := make(chan error, strangers)
	for range strangers {
		var r roll
		near := newNode(t, &r, nil)
		r.set(far.Key(), Grant{Read: true})
		go func() { done <- near.Meet(t.Context(), far.Key(), addr) }()
	}
	for range strangers - maxSeats { // all for whom there is no seat hear that at once
		if err := <-done; err == nil {
			t.Error("a stranger was let in")
		}
	}
	far.mu.Lock()
	n := len(far.sessions)
	far.mu.Unlock()
	if n > maxSeats {
		t.Errorf("strangers have %d sessions", n)
	}
	var r roll
	member := newNode(t, &r, nil)
	r.set(far.Key(), Grant{Read: true})
	far.known.set(member.Key(), Grant{Read: true})
	if err := member.Meet(t.Context(), far.Key(), addr); err != nil {
		t.Errorf("a member is not let in: %v", err)
	}
	close(goOn)
	for range maxSeats {
		if err := <-done; !errors.Is(err, blob.ErrUnauthorized) {
			t.Errorf("who was heard is told %v", err)
		}
	}
}
