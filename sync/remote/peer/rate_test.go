package peer

import (
	"bytes"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/sync/remote/timetable"
)

func table(t testing.TB, s string) timetable.Table {
	t.Helper()
	all, err := timetable.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A limit by the hour is held to, in both directions, and one of zero is none.
func TestRate_IsThatOfTheHour(t *testing.T) {
	var rate Rate
	rate.Set(table(t, "03:00,100kB:50kB 04:00,off"))
	clock := time.Date(2026, 1, 1, 3, 0, 0, 0, time.Local)
	rate.now = func() time.Time { return clock }
	for want, wait := range map[time.Duration]func() time.Duration{
		10 * time.Second: func() time.Duration { return rate.out.wait(rate.clock(), rate.limit().Up, 10_000) },
		20 * time.Second: func() time.Duration { return rate.in.wait(rate.clock(), rate.limit().Down, 10_000) },
	} {
		began := clock
		for range 100 {
			clock = clock.Add(wait())
		}
		if took := clock.Sub(began); took < want-time.Second || took > want+time.Second {
			t.Errorf("1,000,000 bytes took %v, want %v", took, want)
		}
		clock = began
	}
	if n := rate.part(maxData); n != 25_000 {
		t.Errorf("%d bytes at a time", n)
	}
	clock = clock.Add(2 * time.Hour)
	if n := rate.part(maxData); n != maxData {
		t.Errorf("without a limit %d bytes at a time", n)
	}
	began := time.Now()
	for range 100 {
		if err := rate.send(t.Context(), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("without a limit it took %v", took)
	}
}

// What many calls send and receive at a time is together as fast as is set and no faster, they all go on, and a call that carries nothing
// does not wait for them.
func TestRate_HoldsManyCalls(t *testing.T) {
	for way, change := range over {
		for _, c := range []struct {
			name      string
			put       bool
			near, far string // what holds here and there
		}{
			{"sent", true, "256KiB:off", ""},
			{"taken", true, "", "off:256KiB"},
			{"fetched", false, "off:256KiB", ""},
			{"given", false, "", "256KiB:off"},
		} {
			t.Run(way+" "+c.name, func(t *testing.T) {
				t.Parallel()
				var r roll
				var here, there Rate
				here.Set(table(t, c.near))
				there.Set(table(t, c.far))
				m := mem.New()
				far := newNode(t, &r, func(o *Options) { change(o); o.Bucket, o.Near = m, &there })
				near := newNode(t, &r, func(o *Options) { change(o); o.Near = &here })
				b := near.Bucket(far.Key(), at(listen(t, far)))
				put(t, m, "small", []byte("x"))
				get(t, b, "small", 0, -1)
				rnd := rand.New(rand.NewPCG(1, 2))
				const calls, size = 16, 64 << 10 // a MiB, which takes 4 s
				began := time.Now()
				var all sync.WaitGroup
				var ended atomic.Int32
				for i := range calls {
					name, body := newPack(rnd, size)
					if !c.put {
						put(t, m, name, body)
					}
					all.Go(func() {
						defer ended.Add(1)
						if c.put {
							if err := b.Put(t.Context(), name, bytes.NewReader(body), size); err != nil {
								t.Errorf("call %d: %v", i, err)
							}
						} else if got, err := tryGet(t, b, name, 0, -1); err != nil || len(got) != size {
							t.Errorf("call %d got %d bytes, %v", i, len(got), err)
						}
					})
				}
				time.Sleep(500 * time.Millisecond) // they are all under way
				asked := time.Now()
				for info, err := range b.List(t.Context(), "small") {
					if err != nil || info.Name != "small" {
						t.Errorf("listed %v, %v", info, err)
					}
				}
				if took, n := time.Since(asked), ended.Load(); took > 2*time.Second || n == calls {
					t.Errorf("a listing took %v, and %d of %d calls had ended by then", took, n, calls)
				}
				all.Wait()
				if took := time.Since(began); took < 3*time.Second || took > 8*time.Second {
					t.Errorf("a MiB at 256 KiB a second took %v", took)
				}
			})
		}
	}
}

// Devices in the networks of this machine have a limit of their own; those that are reached over a relay, or elsewhere, have not.
func TestRate_OfLinks(t *testing.T) {
	n := &Node{o: Options{Rate: new(Rate), Near: new(Rate)}}
	for addr, want := range map[string]*Rate{
		"192.168.1.7:1": n.o.Near, "10.0.0.1:1": n.o.Near, "127.0.0.1:1": n.o.Near, "[fe80::1%eth0]:1": n.o.Near, "[fd00::1]:1": n.o.Near, "[::ffff:10.1.2.3]:1": n.o.Near,
		"203.0.113.1:1": n.o.Rate, "[2001:db8::1]:1": n.o.Rate, "nowhere": n.o.Rate,
	} {
		if got := n.rateOf(linkTo{addr: fakeAddr(addr)}); got != want {
			t.Errorf("%s has the limit of the others", addr)
		}
		if got := n.rateOf(relayLink{linkTo{addr: fakeAddr(addr)}}); got != n.o.Rate {
			t.Errorf("%s over a relay has the limit of near ones", addr)
		}
	}
	if got := n.rateOf(linkTo{}); got != n.o.Rate {
		t.Error("a link to nowhere has the limit of near ones")
	}
}

type linkTo struct {
	link
	addr net.Addr
}

func (l linkTo) remote() net.Addr { return l.addr }
func (linkTo) kind() string       { return "quic" }

type fakeAddr string

func (fakeAddr) Network() string  { return "udp" }
func (a fakeAddr) String() string { return string(a) }
