package find

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/sync/find/meeting"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

// A Node makes the sessions. *peer.Node is one, and its comments are the specification.
type Node interface {
	Send(ctx context.Context, p []byte, to netip.AddrPort) error
	Better(ctx context.Context, key peer.Key, addrs ...string) error
	Over(ctx context.Context, key peer.Key, conn net.Conn, dialled bool) error
	Sessions() []peer.Met
}

// How devices meet by servers.
const (
	// MaxServers is how many servers a device names at most.
	MaxServers = 4

	bindEvery   = 20 * time.Second // so that routers keep the way open
	lookForAt   = time.Second      // it is looked who is to be called
	settleWait  = 2 * time.Second
	answerWait  = 5 * time.Second
	directWait  = 4 * time.Second
	directLater = time.Second      // after which the device that was called dials, too
	leastAgain  = 10 * time.Second // between two calls of one device
	mostAgain   = 5 * time.Minute
	betterEvery = time.Minute // a way that is not by a relay is looked for
	maxAtOnce   = 16          // calls, of either side
	maxSeen     = 1024        // cards that are remembered
)

// punches are the moments, after a call, at which a way is opened.
var punches = []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// meet is what a Finder has to do with servers.
type meet struct {
	f       *Finder
	servers []*server
	slots   chan struct{} // of calls under way

	mu      sync.Mutex
	seen    map[[nonceSize]byte]bool // the cards that came last, at most maxSeen
	before  map[[nonceSize]byte]bool // and as many before these
	waiting map[[16]byte]chan Card
	again   map[peer.Key]*again
	held    map[meeting.Claim]func(c *meeting.Client, text []byte)
}

// again is when a device is called next.
type again struct {
	at    time.Time
	pause time.Duration
	busy  bool
}

// server is one of them.
type server struct {
	c *meeting.Client

	mu      sync.Mutex
	asked   meeting.Transaction
	outside netip.AddrPort // of this device's socket
	at      time.Time
	up      time.Time // when it was reached; zero: it is not
}

// begin makes clients of the servers. It is called once.
func (m *meet) begin(servers []meeting.Server) {
	for _, s := range servers[:min(len(servers), MaxServers)] {
		x := &server{}
		x.c = meeting.NewClient(meeting.ClientOptions{
			Server: s, Claims: m.claims, Log: m.f.log, Changed: m.hurry, Said: func(slot Slot, text []byte) { m.said(x, slot, text) },
		})
		m.servers = append(m.servers, x)
	}
	if len(m.servers) > 0 {
		m.f.all.Go(m.run)
	}
}

// hurry calls all that are not connected soon: a server is reached, or no more.
func (m *meet) hurry() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.again {
		if a.pause = leastAgain; !a.busy {
			a.at = time.Time{}
		}
	}
}

func (m *meet) run() {
	look, bind := time.NewTicker(lookForAt), time.NewTicker(bindEvery)
	defer look.Stop()
	defer bind.Stop()
	now := hour(time.Now())
	var networks []string
	for {
		all := false
		select {
		case <-m.f.life.Done():
			for _, s := range m.servers {
				_ = s.c.Close()
			}
			return
		case <-bind.C:
			all = true
		case <-look.C:
		}
		if n := networkList(); !slices.Equal(n, networks) {
			networks, all = n, true
			m.hurry()
		}
		for _, s := range m.servers {
			if s.look() || all {
				m.ask(s)
			}
		}
		if h := hour(time.Now()); h != now {
			now = h
			m.renew()
		}
		m.callAll()
	}
}

// look reports whether a server is to be asked where this device is: it was just reached, and has not answered yet.
func (s *server) look() bool {
	up := s.c.Err() == nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if !up {
		s.up, s.outside = time.Time{}, netip.AddrPort{}
		return false
	}
	if s.up.IsZero() {
		s.up = time.Now()
	}
	return !s.outside.IsValid() && time.Since(s.up) < bindEvery
}

// settle waits until a server that was just reached has said where this device is, as far as it does: a card without that is of little use.
func (s *server) settle(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		known := s.outside.IsValid() || !s.up.IsZero() && time.Since(s.up) > settleWait
		s.mu.Unlock()
		if known || s.c.Err() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *meet) renew() {
	for _, s := range m.servers {
		s.c.Renew()
	}
}

// secrets are those under which this device is held.
func (m *meet) secrets() []Secret {
	all := m.f.o.Secrets()
	all = slices.Clone(all[:min(len(all), 1)])
	if m.f.o.Guests != nil {
		all = append(all, m.f.o.Guests()...)
	}
	return all
}

// claims is what is held at the servers.
func (m *meet) claims() []meeting.Claim {
	var all []meeting.Claim
	for _, s := range m.secrets() {
		all = append(all, claim(&s, m.f.o.Self, hour(time.Now())))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.held {
		all = append(all, c)
	}
	return all
}

// ask asks a server from where packets of this device come.
func (m *meet) ask(s *server) {
	to := s.c.UDP()
	if !to.IsValid() {
		return
	}
	var t meeting.Transaction
	_, _ = rand.Read(t[:]) // never fails
	s.mu.Lock()
	s.asked = t
	s.mu.Unlock()
	_ = m.f.o.Node.Send(m.f.life, meeting.BindingRequest(t), to) // without UDP there is no such address
}

// Packet takes what came to the socket of QUIC and is none: peer.Options.Packet.
func (f *Finder) Packet(p []byte, from netip.AddrPort) {
	t, at, ok := meeting.ParseBinding(p)
	if !ok || !usable(at) {
		return
	}
	for _, s := range f.meet.servers {
		s.mu.Lock()
		if s.asked == t && t != (meeting.Transaction{}) && s.c.UDP() == from {
			s.asked, s.outside, s.at = meeting.Transaction{}, at, time.Now()
		}
		s.mu.Unlock()
	}
}

// Outside returns the addresses from which packets of this device come, as servers see them.
func (f *Finder) Outside() []netip.AddrPort {
	var all []netip.AddrPort
	for _, s := range f.meet.servers {
		s.mu.Lock()
		if s.outside.IsValid() && time.Since(s.at) < 3*bindEvery && !slices.Contains(all, s.outside) {
			all = append(all, s.outside)
		}
		s.mu.Unlock()
	}
	return all
}

// A ServerState is how it is with a server.
type ServerState struct {
	Server meeting.Server
	Err    error // nil: it is reached
}

// Servers returns how it is with all of them.
func (f *Finder) Servers() []ServerState {
	var all []ServerState
	for _, s := range f.meet.servers {
		all = append(all, ServerState{s.c.Server(), s.c.Err()})
	}
	return all
}

// Hold is held at the servers besides, and f is told what comes for it. What it returns ends that.
func (f *Finder) Hold(c meeting.Claim, fn func(c *meeting.Client, text []byte)) (release func()) {
	m := f.meet
	m.mu.Lock()
	m.held[c] = fn
	m.mu.Unlock()
	m.renew()
	return func() {
		m.mu.Lock()
		delete(m.held, c)
		m.mu.Unlock()
		m.renew()
	}
}

// Renew asks for the secrets and members anew, at once.
func (f *Finder) Renew() {
	f.mu.Lock()
	f.index.at = time.Time{}
	f.mu.Unlock()
	f.meet.renew()
	f.meet.hurry()
}

// way returns how a device is connected: "", "relay", or any other.
func (m *meet) way(key peer.Key) string {
	for _, s := range m.f.o.Node.Sessions() {
		if s.Key == key {
			return s.By
		}
	}
	return ""
}

// callAll calls the devices that are not connected, or by a relay only, and are due.
func (m *meet) callAll() {
	for _, key := range m.f.o.Members() {
		if key == m.f.o.Self {
			continue
		}
		by := m.way(key)
		m.mu.Lock()
		a := m.again[key]
		if a == nil {
			a = &again{pause: leastAgain}
			m.again[key] = a
		}
		due := !a.busy && time.Now().After(a.at) && (by == "" || by == "relay")
		if by != "" && by != "relay" {
			a.at, a.pause = time.Time{}, leastAgain // when it goes it is called at once
		}
		if due {
			select {
			case m.slots <- struct{}{}:
				a.busy = true
			default:
				due = false
			}
		}
		m.mu.Unlock()
		if due {
			m.f.all.Go(func() {
				defer func() { <-m.slots }()
				err := m.call(key)
				m.mu.Lock()
				defer m.mu.Unlock()
				a.busy = false
				switch {
				case m.way(key) == "relay":
					a.at = time.Now().Add(betterEvery)
				default:
					a.at = time.Now().Add(a.pause)
					a.pause = min(2*a.pause, mostAgain)
				}
				if err != nil {
					m.f.log.Debug("a device is not met", "peer", fmt.Sprintf("%x", key[:4]), "err", err)
				}
			})
		}
	}
}

// card is one of this device, for one of the others.
func (m *meet) card(kind uint8, token [16]byte) *Card {
	return &Card{Kind: kind, From: m.f.o.Self, At: time.Now(), Addrs: append(m.f.Outside(), m.f.o.Addrs()...), Token: token}
}

// tell has a server pass a card on to a device, under one secret or all that may be.
func (m *meet) tell(ctx context.Context, s *server, secrets []Secret, key peer.Key, c *Card) (Secret, error) {
	err := meeting.ErrNobody
	for _, secret := range secrets {
		now := hour(time.Now())
		for _, h := range []int64{now, now - 1, now + 1} {
			slot := claim(&secret, key, h).Slot()
			sealed, e := c.seal(&secret, slot)
			if e != nil {
				return secret, e
			}
			if err = s.c.Tell(ctx, slot, sealed); !errors.Is(err, meeting.ErrNobody) {
				return secret, err
			}
		}
	}
	return Secret{}, err
}

// all are the secrets under which others may be held.
func (m *meet) allSecrets() []Secret {
	all := m.f.o.Secrets()
	all = slices.Clone(all[:min(len(all), maxSecrets)])
	if m.f.o.Guests != nil {
		all = append(all, m.f.o.Guests()...)
	}
	return all
}

// call looks for a device at each server in turn, until there is a session with it.
func (m *meet) call(key peer.Key) error {
	var errs []error
	for _, s := range m.servers {
		if s.c.Err() != nil {
			continue
		}
		if err := m.callBy(s, key); err != nil {
			errs = append(errs, fmt.Errorf("by %s: %w", s.c.Server().Addr, err))
			continue
		}
		return nil
	}
	return errors.Join(errs...)
}

func (m *meet) callBy(s *server, key peer.Key) error {
	ctx, cancel := context.WithTimeout(m.f.life, 30*time.Second)
	defer cancel()
	var token [16]byte
	_, _ = rand.Read(token[:]) // never fails
	answer := make(chan Card, 1)
	m.mu.Lock()
	m.waiting[token] = answer
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.waiting, token)
		m.mu.Unlock()
	}()
	s.settle(ctx)
	secret, err := m.tell(ctx, s, m.allSecrets(), key, m.card(kindCall, token))
	if err != nil {
		return err
	}
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	var c Card
	select {
	case c = <-answer:
	case <-timer.C:
		return errors.New("it was called, and does not answer")
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.From != key {
		return errCard
	}
	m.f.keep(&c, c.Addrs)
	if m.direct(ctx, key, c.Addrs) == nil || m.way(key) != "" {
		return nil
	}
	if err := m.send(ctx, s, secret, key, m.card(kindRelay, token)); err != nil {
		return err
	}
	conn, err := s.c.Relay(ctx, token)
	if err != nil {
		return err
	}
	return m.f.o.Node.Over(ctx, key, conn, true)
}

func (m *meet) send(ctx context.Context, s *server, secret Secret, key peer.Key, c *Card) error {
	_, err := m.tell(ctx, s, []Secret{secret}, key, c)
	return err
}

// direct dials a device while it opens the way from its side.
func (m *meet) direct(ctx context.Context, key peer.Key, addrs []netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, directWait)
	defer cancel()
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return m.f.o.Node.Better(ctx, key, all...)
}

// punch opens the way to a device that dials this one.
func (m *meet) punch(ctx context.Context, addrs []netip.AddrPort) {
	begun := time.Now()
	for _, at := range punches {
		t := time.NewTimer(time.Until(begun.Add(at)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		for _, a := range addrs {
			var t meeting.Transaction
			_, _ = rand.Read(t[:])                             // never fails
			_ = m.f.o.Node.Send(ctx, meeting.Indication(t), a) // what cannot be sent opens nothing
		}
	}
}

// said takes what a server passes on, of anybody.
func (m *meet) said(s *server, slot Slot, text []byte) {
	m.mu.Lock()
	for c, f := range m.held {
		if c.Slot() == slot {
			m.mu.Unlock()
			f(s.c, bytes.Clone(text))
			return
		}
	}
	m.mu.Unlock()
	c, secret, ok := m.opened(slot, text)
	if !ok || !slices.Contains(m.f.o.Members(), c.From) || c.From == m.f.o.Self {
		return
	}
	if c.Kind == kindAnswer {
		m.mu.Lock()
		if w := m.waiting[c.Token]; w != nil {
			delete(m.waiting, c.Token)
			w <- c
		}
		m.mu.Unlock()
		return
	}
	select {
	case m.slots <- struct{}{}:
	default:
		return // who means it calls again
	}
	m.f.all.Go(func() {
		defer func() { <-m.slots }()
		ctx, cancel := context.WithTimeout(m.f.life, 30*time.Second)
		defer cancel()
		switch c.Kind {
		case kindCall:
			m.called(ctx, s, secret, &c)
		case kindRelay:
			if conn, err := s.c.Relay(ctx, c.Token); err == nil {
				_ = m.f.o.Node.Over(ctx, c.From, conn, false) // the other side says why not
			}
		}
	})
}

// called answers a call: this device says where it is, opens the way, and dials a little later, for the other one may be the one that can be dialled.
func (m *meet) called(ctx context.Context, s *server, secret Secret, c *Card) {
	s.settle(ctx)
	if err := m.send(ctx, s, secret, c.From, m.card(kindAnswer, c.Token)); err != nil {
		return
	}
	m.f.keep(c, c.Addrs)
	var punching sync.WaitGroup
	punching.Go(func() { m.punch(ctx, c.Addrs) })
	defer punching.Wait()
	t := time.NewTimer(directLater)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return
	}
	if by := m.way(c.From); by == "" || by == "relay" {
		_ = m.direct(ctx, c.From, c.Addrs)
	}
}

// opened opens a card that was sent to this device, once.
func (m *meet) opened(slot Slot, text []byte) (Card, Secret, bool) {
	if len(text) != SealedSize {
		return Card{}, Secret{}, false
	}
	now := hour(time.Now())
	for _, s := range m.allSecrets() {
		for h := now - 1; h <= now+1; h++ {
			if claim(&s, m.f.o.Self, h).Slot() != slot {
				continue
			}
			c, err := open(&s, slot, text)
			if err != nil || !m.first([nonceSize]byte(text)) {
				return Card{}, Secret{}, false
			}
			return c, s, true
		}
	}
	return Card{}, Secret{}, false
}

// first reports whether a card comes for the first time, as far as is remembered.
func (m *meet) first(nonce [nonceSize]byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[nonce] || m.before[nonce] {
		return false
	}
	if len(m.seen) >= maxSeen {
		m.before, m.seen = m.seen, map[[nonceSize]byte]bool{}
	}
	m.seen[nonce] = true
	return true
}
