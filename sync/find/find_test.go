package find

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

var secretOfAll = Secret{1, 2, 3}

// world is who the devices of a test are.
type world struct {
	mu      sync.Mutex
	members []peer.Key
}

func (w *world) all() []peer.Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]peer.Key(nil), w.members...)
}

// newFinder returns a Finder on the loopback alone, and where it is told of devices.
func newFinder(t testing.TB, w *world, self byte, port int, change func(*Options)) (*Finder, chan peer.Key) {
	t.Helper()
	key := peer.Key{self}
	w.mu.Lock()
	w.members = append(w.members, key)
	w.mu.Unlock()
	found := make(chan peer.Key, 1000)
	o := Options{
		Self: key, Secrets: func() []Secret { return []Secret{secretOfAll} }, Members: w.all, Host: netip.MustParseAddr("127.0.0.1"), lanPort: port,
		Addrs: func() []netip.AddrPort {
			return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("10.1.1.1"), 1000+uint16(self))}
		},
		Found: func(k peer.Key, fresh bool) {
			if fresh {
				found <- k
			}
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	f := New(o)
	t.Cleanup(func() { _ = f.Close() })
	return f, found
}

// awaitFound waits until somebody is found.
func awaitFound(t *testing.T, found chan peer.Key, want byte) {
	t.Helper()
	for {
		select {
		case k := <-found:
			if k == (peer.Key{want}) {
				return
			}
		case <-time.After(15 * time.Second):
			t.Fatalf("device %d was not found", want)
		}
	}
}

func lanTestPort(t *testing.T) int {
	t.Helper()
	return 20000 + int(testkit.Seed(t)%20000)
}

func TestLAN_TwoDevicesFindEachOther(t *testing.T) {
	var w world
	port := lanTestPort(t)
	a, foundA := newFinder(t, &w, 1, port, nil)
	b, foundB := newFinder(t, &w, 2, port, nil)
	awaitFound(t, foundA, 2)
	awaitFound(t, foundB, 1)
	if got := a.Where(peer.Key{2}); !slices.Contains(got, "10.1.1.1:1002") || !strings.HasSuffix(got[0], ":1002") {
		t.Errorf("a finds b at %v", got)
	}
	if got := b.Where(peer.Key{1}); !slices.Contains(got, "10.1.1.1:1001") || !strings.HasSuffix(got[0], ":1001") {
		t.Errorf("b finds a at %v", got)
	}
}

// A device of another drive, and one that was revoked and so lacks the newest secret, is not found, and finds nobody that has heard of it.
func TestLAN_StrangersFindNobody(t *testing.T) {
	var w world
	port := lanTestPort(t)
	a, foundA := newFinder(t, &w, 1, port, nil)
	_, foundB := newFinder(t, &w, 2, port, nil)
	stranger, foundS := newFinder(t, &w, 3, port, func(o *Options) { o.Secrets = func() []Secret { return []Secret{{9}} } })
	awaitFound(t, foundA, 2)
	awaitFound(t, foundB, 1)
	stranger.soon <- struct{}{}
	time.Sleep(3 * announcePause) // in which it says it once more at least
	if got := a.Where(peer.Key{3}); got != nil {
		t.Errorf("a finds a stranger at %v", got)
	}
	if len(foundS) != 0 {
		t.Errorf("a stranger finds %d devices", len(foundS))
	}
}

// What an outsider hears: nothing in an announcement of one hour is in that of another, but the four bytes of its beginning.
func TestLAN_AnAnnouncementShowsAPseudonymAlone(t *testing.T) {
	key := peer.Key(bytes.Repeat([]byte{0xAB}, 32))
	at := netip.MustParseAddrPort("192.0.2.77:7434")
	now := time.Unix(1_800_000_000, 0)
	var all [][]byte
	for _, when := range []time.Time{now, now.Add(time.Hour), now.Add(time.Minute)} {
		slot := lanSlot(&secretOfAll, key, hour(when))
		sealed, err := (&Card{Kind: kindHere, From: key, At: when, Addrs: []netip.AddrPort{at}}).seal(&secretOfAll, slot)
		if err != nil {
			t.Fatal(err)
		}
		p := appendAnnouncement(nil, slot, sealed)
		if len(p) != lanSize {
			t.Errorf("an announcement has %d bytes, want %d", len(p), lanSize)
		}
		ip := at.Addr().As4()
		for what, secret := range map[string][]byte{"its key": key[:8], "its address": ip[:], "the secret": secretOfAll[:8]} {
			if bytes.Contains(p, secret) {
				t.Errorf("an announcement has %s in it", what)
			}
		}
		for i, o := range all {
			if common := longestCommon(o[len(lanMagic):], p[len(lanMagic):]); i == 0 && when.Sub(now) >= time.Hour && common > 4 {
				t.Errorf("announcements of two hours have %d bytes in common", common)
			}
		}
		all = append(all, p)
	}
	if lanSlot(&secretOfAll, key, hour(now)) == claim(&secretOfAll, key, hour(now)).Slot() || lanSlot(&secretOfAll, key, 1) == Slot(claim(&secretOfAll, key, 1)) {
		t.Error("the pseudonym on a network is that at a server")
	}
}

func longestCommon(a, b []byte) (most int) {
	for n := 1; n < len(a); n++ {
		ok := false
		for i := 0; i+n <= len(a) && !ok; i++ {
			ok = bytes.Contains(b, a[i:i+n])
		}
		if !ok {
			return n - 1
		}
	}
	return len(a)
}

// A card that is sent once more, one that is older, one of another hour, one with a bit that is not the same, and one under another pseudonym come to nothing.
func TestHeard_WhatIsReplayedOrForgedComesToNothing(t *testing.T) {
	var w world
	f, found := newFinder(t, &w, 1, 0, func(o *Options) { o.NoLAN = true })
	w.members = append(w.members, peer.Key{2}, peer.Key{3})
	now := time.Now()
	make := func(from byte, slotOf byte, at time.Time, hourAt time.Time) []byte {
		slot := lanSlot(&secretOfAll, peer.Key{slotOf}, hour(hourAt))
		sealed, err := (&Card{Kind: kindHere, From: peer.Key{from}, At: at, Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7")}}).seal(&secretOfAll, slot)
		if err != nil {
			t.Fatal(err)
		}
		return appendAnnouncement(nil, slot, sealed)
	}
	from := netip.MustParseAddrPort("192.0.2.9:1")
	good := make(2, 2, now, now)
	for what, p := range map[string][]byte{
		"of another hour": make(2, 2, now, now.Add(-3*time.Hour)), "of one who says to be another": make(2, 3, now, now), "of this device itself": make(1, 1, now, now),
		"cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "empty": nil,
	} {
		if f.heard(p, from); len(found) != 0 {
			t.Errorf("an announcement that is %s was taken", what)
		}
	}
	for i := range good {
		p := bytes.Clone(good)
		p[i] ^= 1
		if f.heard(p, from); len(found) != 0 {
			t.Fatalf("an announcement with another byte %d was taken", i)
		}
	}
	f.heard(good, from)
	if len(found) != 1 {
		t.Fatalf("a good announcement was taken %d times", len(found))
	}
	elsewhere := netip.MustParseAddrPort("198.51.100.1:1")
	f.heard(good, elsewhere)
	f.heard(make(2, 2, now.Add(-time.Second), now), elsewhere)
	if got := f.Where(peer.Key{2}); len(got) != 2 || got[0] != "192.0.2.9:7" {
		t.Errorf("after what was replayed the device is at %v", got)
	}
}

// Whoever floods the networks has no more looked at than the limit.
func TestLAN_AFloodIsDropped(t *testing.T) {
	var heard atomic.Int64
	l := &lan{heard: func([]byte, netip.AddrPort) { heard.Add(1) }, rate: rate.NewLimiter(lanRate, lanRate)}
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.DialUDP("udp4", nil, in.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); l.hear(in) }()
	begun := time.Now()
	sent := 0
	for ; sent < 20*lanRate || heard.Load() < lanRate && time.Since(begun) < 30*time.Second; sent++ { // the system drops some
		if _, err := out.Write(make([]byte, lanSize)); err != nil {
			t.Fatal(err)
		}
	}
	_ = errors.Join(out.Close(), in.Close())
	<-done
	most := lanRate + int64(time.Since(begun).Seconds()*lanRate) + 1
	if n := heard.Load(); n < lanRate || n > most {
		t.Errorf("of a flood of %d %d were heard, want %d to %d", sent, n, lanRate, most)
	}
}

func FuzzAnnouncement(f *testing.F) {
	slot := lanSlot(&secretOfAll, peer.Key{2}, 1)
	sealed, err := (&Card{Kind: kindHere, From: peer.Key{2}, At: time.Unix(1_800_000_000, 0)}).seal(&secretOfAll, slot)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(appendAnnouncement(nil, slot, sealed))
	f.Add([]byte("shf\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if slot, sealed, ok := parseAnnouncement(p); ok {
			_, _ = open(&secretOfAll, slot, sealed)
		}
	})
}

// What is in a card may come of a member that is evil.
func FuzzCard(f *testing.F) {
	f.Add([]byte{0, 1, 0xA0})
	f.Add(bytes.Repeat([]byte{0}, plainSize))
	f.Fuzz(func(t *testing.T, p []byte) {
		c, err := decodeCard(p)
		if err != nil {
			return
		}
		if len(c.Addrs) > maxAddrs {
			t.Errorf("%d addresses", len(c.Addrs))
		}
		for _, a := range c.Addrs {
			if !usable(a) {
				t.Errorf("the address %v", a)
			}
		}
		if _, err := c.seal(&secretOfAll, Slot{}); err != nil {
			t.Errorf("what was read is not written: %v", err)
		}
	})
}
