package peer

import (
	"bytes"
	"sync"
	"testing"
)

// What a device shows is seen before it is admitted, or refused, over QUIC and TCP, and by both sides; it is what it shows now, and one that is too long is not shown.
func TestCard_IsSeenInTheHandshake(t *testing.T) {
	for _, noUDP := range []bool{false, true} {
		r := new(roll)
		var mu sync.Mutex
		card := map[*Options][]byte{}
		seen := map[Key][]byte{}
		var all []*Options
		node := func() *Node {
			return newNode(t, r, func(o *Options) {
				o.NoUDP = noUDP
				all = append(all, o)
				o.Card = func() []byte {
					mu.Lock()
					defer mu.Unlock()
					return card[o]
				}
				o.Shown = func(k Key, c []byte) {
					mu.Lock()
					defer mu.Unlock()
					seen[k] = bytes.Clone(c)
				}
			})
		}
		a, b := node(), node()
		at, err := a.Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		show := func(i int, c []byte) {
			mu.Lock()
			defer mu.Unlock()
			card[all[i]] = c
			clear(seen)
		}
		saw := func(n *Node) []byte {
			mu.Lock()
			defer mu.Unlock()
			return seen[n.Key()]
		}
		long := bytes.Repeat([]byte("card"), MaxCard/4)
		show(0, []byte("of a"))
		show(1, long)
		r.strike(b.Key())
		if err := b.Meet(t.Context(), a.Key(), at.String()); err == nil {
			t.Error("one that is not admitted has got in")
		}
		if !bytes.Equal(saw(b), long) || string(saw(a)) != "of a" {
			t.Errorf("NoUDP %v: %d bytes were seen of who was refused, %q of who refused it", noUDP, len(saw(b)), saw(a))
		}
		r.set(b.Key(), Grant{Read: true})
		for _, c := range []struct{ shown, seen []byte }{{[]byte("another"), []byte("another")}, {append(long, 1), nil}, {nil, nil}} {
			show(1, c.shown)
			b.mu.Lock()
			delete(b.dials, a.Key()) // who was refused a moment ago waits for a while
			b.mu.Unlock()
			if err := b.Meet(t.Context(), a.Key(), at.String()); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(saw(b), c.seen) {
				t.Errorf("NoUDP %v: of %d bytes %d were seen", noUDP, len(c.shown), len(saw(b)))
			}
			for _, s := range b.Sessions() {
				b.mu.Lock()
				old := b.sessions[s.Key]
				b.mu.Unlock()
				for _, o := range old {
					o.close("the test ends it")
				}
			}
		}
	}
}
