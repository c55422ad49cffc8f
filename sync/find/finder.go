package find

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sheaf-drive/sheaf/sync/find/meeting"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

// Options say for whom a Finder finds whom. Secrets, Members, Addrs and Found are needed; all functions are called by several goroutines, and have to be quick.
type Options struct {
	Self peer.Key
	// Secrets returns what the devices share, the newest first. It may be empty for now.
	Secrets func() []Secret
	// Members returns the other devices.
	Members func() []peer.Key
	// Addrs returns where this device listens: addresses of its own networks.
	Addrs func() []netip.AddrPort
	// Found is told that a device was found on a network: see Where. fresh says that it is news, and not what was known.
	Found func(key peer.Key, fresh bool)
	// Host is the address that this device listens at; the zero Addr and 0.0.0.0 are all.
	Host netip.Addr
	// NoLAN does without multicast.
	NoLAN bool
	// Servers are where devices are met that are elsewhere; at most MaxServers. Node is needed for them.
	Servers []meeting.Server
	Node    Node
	// Guests returns secrets that are shared with a device that has no other yet; nil: there is none.
	Guests func() []Secret
	// Log takes what there is to say; nil discards it.
	Log *slog.Logger

	lanPort int // 0: that which all use
}

// How often things are done.
const (
	announceEvery = 30 * time.Second // and up to a quarter more, by chance
	announcePause = time.Second      // at least, between two
	lookEvery     = 2 * time.Second  // at the networks of this machine
	indexFor      = 2 * time.Second  // then the members are asked for anew
	foundFor      = 10 * time.Minute // an address that nobody has said again is forgotten
)

// A Finder finds the devices of a drive. It is safe for concurrent use. New makes one; the caller closes it.
type Finder struct {
	o    Options
	log  *slog.Logger
	life context.Context
	end  context.CancelFunc
	all  sync.WaitGroup
	lan  *lan
	meet *meet
	soon chan struct{} // holds one if an announcement is due

	mu    sync.Mutex
	index index
	found map[peer.Key]*whereabouts
}

// index says who is meant by the pseudonyms of now.
type index struct {
	at   time.Time
	hour int64
	lan  map[Slot]who
}

type who struct {
	key    peer.Key
	secret Secret
}

// whereabouts are those of one device.
type whereabouts struct {
	newest time.Time // of its cards, by its clock
	heard  time.Time
	addrs  []netip.AddrPort
}

// New returns a Finder that looks, and is looked for, until it is closed.
func New(o Options) *Finder {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.lanPort == 0 {
		o.lanPort = lanPort
	}
	f := &Finder{o: o, log: o.Log, soon: make(chan struct{}, 1), found: map[peer.Key]*whereabouts{}}
	f.life, f.end = context.WithCancel(context.Background())
	f.meet = &meet{
		f: f, slots: make(chan struct{}, maxAtOnce), seen: map[[nonceSize]byte]bool{}, waiting: map[[16]byte]chan Card{}, again: map[peer.Key]*again{},
		held: map[meeting.Claim]func(*meeting.Client, []byte){},
	}
	f.meet.begin(o.Servers)
	if !o.NoLAN {
		f.lan = &lan{port: o.lanPort, interfaces: interfacesFor(o.Host), heard: f.heard, rate: rate.NewLimiter(lanRate, lanRate)}
		f.all.Go(f.announce)
	}
	return f
}

// Close returns when nothing is under way any more.
func (f *Finder) Close() error {
	f.end()
	if f.lan != nil {
		f.lan.close()
	}
	f.all.Wait()
	return nil
}

// Where returns where a device may be dialled, as far as was found; the best guess first.
func (f *Finder) Where(key peer.Key) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.found[key]
	if w == nil || time.Since(w.heard) > foundFor {
		return nil
	}
	var all []string
	for _, a := range w.addrs {
		all = append(all, a.String())
	}
	return all
}

// announce says now and then, and at once where the networks of this machine have changed or somebody new is heard, where this device is.
func (f *Finder) announce() {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var next, last time.Time // last: when it was said
	var networks []string
	var said string // the last error
	for {
		if now := time.Now(); !now.Before(next) && now.Sub(last) >= announcePause {
			fresh, err := f.say(now)
			last, next = now, now.Add(announceEvery+rand.N(announceEvery/4))
			if fresh { // a group that was just joined may take a moment: say it once more
				next = now.Add(announcePause)
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != said {
				f.log.Info("announcements to the networks of this machine", "err", text)
			}
			said = text
		}
		wait := time.NewTimer(max(time.Until(next), announcePause-time.Since(last)))
		select {
		case <-f.life.Done():
			wait.Stop()
			return
		case <-f.soon:
			next = time.Now()
		case <-look.C:
			if now := networkList(); !slices.Equal(now, networks) {
				networks, next = now, time.Now()
			}
		case <-wait.C:
		}
		wait.Stop()
	}
}

// networkList is what there is to be compared of the networks of this machine.
func networkList() []string {
	addrs, _ := net.InterfaceAddrs() // without them there are none
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	slices.Sort(all)
	return all
}

// say sends one announcement.
func (f *Finder) say(now time.Time) (fresh bool, err error) {
	secrets := f.o.Secrets()
	if len(secrets) == 0 {
		return false, nil
	}
	slot := lanSlot(&secrets[0], f.o.Self, hour(now))
	sealed, err := (&Card{Kind: kindHere, From: f.o.Self, At: now, Addrs: f.o.Addrs()}).seal(&secrets[0], slot)
	if err != nil {
		return false, err
	}
	return f.lan.send(f.life, appendAnnouncement(nil, slot, sealed))
}

// heard takes an announcement, of anybody.
func (f *Finder) heard(p []byte, from netip.AddrPort) {
	slot, sealed, ok := parseAnnouncement(p)
	if !ok {
		return
	}
	w, ok := f.meant(slot)
	if !ok {
		return
	}
	c, err := open(&w.secret, slot, sealed)
	if err != nil || c.Kind != kindHere || c.From != w.key {
		return
	}
	var addrs []netip.AddrPort
	src := from.Addr().Unmap()
	for _, a := range c.Addrs { // its ports at the address that it comes from are the best guess
		if at := netip.AddrPortFrom(src, a.Port()); usable(at) && !slices.Contains(addrs, at) {
			addrs = append(addrs, at)
		}
	}
	if fresh, ok := f.keep(&c, addrs); ok {
		f.log.Debug("a device is on this network", "peer", fmt.Sprintf("%x", c.From[:4]), "at", from.Addr().String(), "fresh", fresh)
		if fresh {
			select { // it hears of this one at once
			case f.soon <- struct{}{}:
			default:
			}
		}
		f.o.Found(c.From, fresh)
	}
}

// keep takes the addresses of a card. ok says whether the card is newer than what came of its device before, fresh whether an address of first is new: one by which it was not found so far.
func (f *Finder) keep(c *Card, first []netip.AddrPort) (fresh, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.found[c.From]
	if w == nil || time.Since(w.heard) > foundFor {
		w = &whereabouts{}
		f.found[c.From] = w
	}
	if !c.At.After(w.newest) {
		return false, false
	}
	for _, a := range first {
		fresh = fresh || !slices.Contains(w.addrs, a)
	}
	all := slices.Clone(first[:min(len(first), maxAddrs)])
	// On another network of both, or by the other family, it was heard a moment ago: that holds, too.
	older := c.Addrs
	if time.Since(w.heard) < announceEvery {
		older = append(slices.Clone(w.addrs), older...)
	}
	for _, a := range older {
		if !slices.Contains(all, a) && len(all) < maxAddrs {
			all = append(all, a)
		}
	}
	w.newest, w.heard, w.addrs = c.At, time.Now(), all
	return fresh, true
}

// meant says who is meant by a pseudonym on a network.
func (f *Finder) meant(slot Slot) (who, bool) {
	f.mu.Lock()
	stale := time.Since(f.index.at) > indexFor || f.index.hour != hour(time.Now())
	f.mu.Unlock()
	if stale {
		i := f.newIndex(time.Now())
		f.mu.Lock()
		f.index = i
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w, ok := f.index.lan[slot]
	return w, ok
}

func (f *Finder) newIndex(now time.Time) index {
	i := index{at: now, hour: hour(now), lan: map[Slot]who{}}
	secrets, members := f.o.Secrets(), f.o.Members()
	for _, s := range secrets[:min(len(secrets), maxSecrets)] {
		for _, key := range members {
			if key == f.o.Self {
				continue
			}
			for h := i.hour - 1; h <= i.hour+1; h++ {
				i.lan[lanSlot(&s, key, h)] = who{key, s}
			}
		}
	}
	return i
}
