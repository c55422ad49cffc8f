package peer

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// madeLink is a Link of streams over a pipe.
type madeLink struct{ s *yamux.Session }

func made(s *yamux.Stream, err error) (Stream, error) {
	if err != nil {
		return nil, err
	}
	return tcpStream{s}, nil
}

func (l madeLink) Open(context.Context) (Stream, error) { return made(l.s.OpenStream()) }
func (l madeLink) Accept(ctx context.Context) (Stream, error) {
	return made(l.s.AcceptStreamWithContext(ctx))
}
func (l madeLink) Done() <-chan struct{} { return l.s.CloseChan() }
func (l madeLink) Close()                { _ = l.s.Close() }
func (l madeLink) RemoteAddr() net.Addr  { return &net.UnixAddr{Name: "there", Net: "unix"} }

// newMadeLink returns both ends of a Link.
func newMadeLink(t testing.TB) (near, far madeLink) {
	t.Helper()
	a, b := net.Pipe()
	x, err := yamux.Client(a, yamuxConfig())
	if err != nil {
		t.Fatal(err)
	}
	y, err := yamux.Server(b, yamuxConfig())
	if err != nil {
		t.Fatal(err)
	}
	return madeLink{x}, madeLink{y}
}

// reaches returns a Dial by which *from reaches *to.
func reaches(t testing.TB, from, to **Node) func(context.Context, Key, string) (Link, error) {
	t.Helper()
	return func(context.Context, Key, string) (Link, error) {
		near, far := newMadeLink(t)
		(*to).Serve((*from).Key(), far)
		return near, nil
	}
}

// Over Links that others make a peer is a bucket as over QUIC and TCP.
func TestBucket_OverLinksThatAreGiven(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Bucket {
		var r roll
		var near, far *Node
		far = newNode(t, &r, func(o *Options) { o.Bucket = mem.New() })
		near = newNode(t, &r, func(o *Options) { o.Dial = reaches(t, &near, &far) })
		return near.Bucket(far.Key(), at("there"))
	})
}

// Whoever has dialled is reached by what it has dialled, and is cut off when it is admitted no more.
func TestServe_IsOfBothSides(t *testing.T) {
	var r roll
	var near, far *Node
	far = newNode(t, &r, func(o *Options) { o.Bucket = mem.New() })
	near = newNode(t, &r, func(o *Options) { o.Bucket, o.Dial = mem.New(), reaches(t, &near, &far) })
	if err := near.Meet(t.Context(), far.Key(), "there"); err != nil {
		t.Fatal(err)
	}
	back := far.Bucket(near.Key(), nil)
	put(t, back, "a", []byte("from the far side"))
	if got := get(t, back, "a", 0, -1); string(got) != "from the far side" {
		t.Errorf("got %q", got)
	}
	if all := far.Sessions(); len(all) != 1 || all[0].By != "given" || all[0].At != "there" {
		t.Errorf("sessions are %+v", all)
	}
	r.strike(near.Key())
	far.Recheck()
	if all := far.Sessions(); len(all) != 0 {
		t.Errorf("a device that is admitted no more has %+v", all)
	}
	if _, err := tryGet(t, near.Bucket(far.Key(), nil), "a", 0, -1); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a device that is admitted no more gets the answer %v", err)
	}
}

// Who is not admitted is not dialled, and not served.
func TestServe_NotWhoIsNotAdmitted(t *testing.T) {
	var r, none roll
	var near, far *Node
	dialled := false
	far = newNode(t, &none, func(o *Options) { o.Bucket = mem.New() })
	near = newNode(t, &r, func(o *Options) {
		o.Dial = func(context.Context, Key, string) (Link, error) { dialled = true; return nil, errCut }
	})
	if _, err := tryGet(t, near.Bucket(far.Key(), at("there")), "a", 0, -1); !errors.Is(err, blob.ErrTemporary) || dialled {
		t.Errorf("a stranger is dialled: %t, %v", dialled, err)
	}
	end, l := newMadeLink(t)
	far.Serve(near.Key(), l)
	select {
	case <-end.Done():
	case <-time.After(20 * time.Second):
		t.Error("a stranger is served")
	}
}

// Where no Link is to be had the device does not answer for now.
func TestDial_Fails(t *testing.T) {
	var r roll
	far := newNode(t, &r, nil)
	near := newNode(t, &r, func(o *Options) {
		o.Dial = func(context.Context, Key, string) (Link, error) { return nil, errCut }
	})
	if _, err := tryGet(t, near.Bucket(far.Key(), at("there")), "a", 0, -1); !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("got %v", err)
	}
}

// A call that has no time left does not wait for who is asking the far side who it is.
func TestBucket_ACallEndsWhileAnotherOneAsksWhoIsThere(t *testing.T) {
	var r roll
	near := newNode(t, &r, nil)
	end, l := newMadeLink(t)
	r.set(Key{1}, Grant{Read: true})
	near.Serve(Key{1}, l) // nobody answers at its other end
	far := near.Bucket(Key{1}, nil)
	first := make(chan error, 1)
	go func() { _, err := far.Takes(t.Context()); first <- err }()
	if _, err := end.Accept(t.Context()); err != nil { // it asks
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	second := make(chan error, 1)
	go func() { _, err := far.Takes(ctx); second <- err }()
	select {
	case err := <-second:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits")
	}
	end.Close()
	if err := <-first; err == nil {
		t.Error("nobody has answered")
	}
}

var errCut = errors.New("the wire is cut")
