package peer

import (
	"context"
	"crypto/ed25519"
	crand "crypto/rand"
	"log/slog"
	"sync"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// roll is who is admitted: a stand-in for the members of a drive.
type roll struct {
	mu  sync.Mutex
	all map[Key]Grant
}

func (r *roll) admit(_ context.Context, k Key) (Grant, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.all[k]
	if !ok {
		return g, ErrStranger
	}
	return g, nil
}

func (r *roll) set(k Key, g Grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[Key]Grant{}
	}
	r.all[k] = g
}

func (r *roll) strike(k Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, k)
}

func signer(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newNode returns a Node, which ends with the test, of a new device that everybody on the roll admits.
func newNode(t testing.TB, r *roll, change func(*Options)) *Node {
	t.Helper()
	o := Options{
		Signer: signer(t), Admit: r.admit, Takes: true, Name: t.Name(),
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.set(n.Key(), Grant{Read: true, Write: true})
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func listen(t testing.TB, n *Node) string {
	t.Helper()
	at, err := n.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return at.String()
}

func at(addrs ...string) func() []string { return func() []string { return addrs } }

// over are the ways that two peers reach each other.
var over = map[string]func(*Options){
	"quic": func(o *Options) { o.NoTCP = true },
	"tcp":  func(o *Options) { o.NoUDP = true },
}

func TestBucket(t *testing.T) {
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			if testing.Short() && way == "tcp" {
				t.Skip("the same calls as over QUIC")
			}
			blobtest.Run(t, func(t *testing.T) blob.Bucket {
				var r roll
				far := newNode(t, &r, func(o *Options) { change(o); o.Bucket = mem.New() })
				near := newNode(t, &r, change)
				return near.Bucket(far.Key(), at(listen(t, far)))
			})
		})
	}
}

// A device that cannot be dialled is a bucket for the one that it has dialled.
func TestBucket_OfADeviceThatDialled(t *testing.T) {
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			var r roll
			hub := newNode(t, &r, func(o *Options) { change(o); o.Bucket = mem.New() })
			leaf := newNode(t, &r, func(o *Options) { change(o); o.Bucket = mem.New() })
			addr := listen(t, hub)
			if err := leaf.Meet(t.Context(), hub.Key(), addr); err != nil {
				t.Fatal(err)
			}
			b := hub.Bucket(leaf.Key(), nil)
			put(t, b, "a/b", []byte("from the hub"))
			if got := get(t, b, "a/b", 0, -1); string(got) != "from the hub" {
				t.Errorf("got %q", got)
			}
		})
	}
}
