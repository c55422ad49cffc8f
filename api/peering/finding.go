package peering

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/sync/find"
	"github.com/sheaf-drive/sheaf/sync/find/meeting"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

// dialFor is how long it is tried to reach a device that was found.
const dialFor = 20 * time.Second

// look begins to look for the other devices, if it is known which they are, and this device can be dialled. p.mu is held.
func (p *Peering) look() {
	if p.finder != nil || p.drive == nil && p.inviter == nil || p.listen == "" || p.life.Err() != nil {
		return
	}
	d := p.drive
	at, _ := netip.ParseAddrPort(p.listen) // a zero one is every address
	secrets := func() []find.Secret { return nil }
	var members func() []peer.Key
	if d != nil {
		secrets = d.FindSecrets
		members = func() []peer.Key {
			var all []peer.Key
			for _, m := range d.Peers() {
				all = append(all, m.Key)
			}
			return all
		}
	} else {
		inviter := *p.inviter
		members = func() []peer.Key { return []peer.Key{inviter} }
	}
	var servers []meeting.Server
	for _, text := range p.book.Meet {
		s, err := meeting.ParseServer(text)
		if err != nil {
			p.o.Log.Warn("a rendezvous is left out", "err", err)
			continue
		}
		servers = append(servers, s)
	}
	p.finder = find.New(find.Options{
		Servers: servers, Node: p.node,
		Self: p.node.Key(), Secrets: secrets, Members: members, Guests: p.guestSecrets, Host: at.Addr(), NoLAN: p.o.NoLAN || p.book.NoLAN, Log: p.o.Log, Found: p.foundDevice,
		Addrs: func() []netip.AddrPort {
			var all []netip.AddrPort
			for _, a := range p.Addresses() {
				if x, err := netip.ParseAddrPort(a); err == nil {
					all = append(all, netip.AddrPortFrom(x.Addr().WithZone(""), x.Port()))
				}
			}
			return all
		},
	})
}

// stopLooking ends that.
func (p *Peering) stopLooking() {
	p.mu.Lock()
	f := p.finder
	p.finder = nil
	p.mu.Unlock()
	if f != nil {
		_ = f.Close() // what it calls takes p.mu
	}
}

// packet takes what comes to the socket of QUIC and is none.
func (p *Peering) packet(b []byte, from netip.AddrPort) {
	p.mu.Lock()
	f := p.finder
	p.mu.Unlock()
	if f != nil {
		f.Packet(b, from)
	}
}

// A MeetServer is a server at which this device is met.
type MeetServer struct {
	Address string
	Err     error // nil: it is reached
}

// Servers returns those at which this device is met, and where it is from their sight.
func (p *Peering) Servers() (all []MeetServer, outside []string) {
	p.mu.Lock()
	f, wanted := p.finder, slices.Clone(p.book.Meet)
	p.mu.Unlock()
	state := map[string]error{}
	if f != nil {
		for _, s := range f.Servers() {
			state[s.Server.String()] = s.Err
		}
		for _, a := range f.Outside() {
			outside = append(outside, a.String())
		}
	}
	for _, w := range wanted {
		err, ok := state[w]
		if !ok {
			err = errors.New("this device does not listen for others yet")
		}
		all = append(all, MeetServer{w, err})
	}
	return all, outside
}

// SetServers says at which servers this device is met, now and when it is started again.
func (p *Peering) SetServers(all []string) error {
	if len(all) > find.MaxServers {
		return fmt.Errorf("%d servers are too many: at most %d", len(all), find.MaxServers)
	}
	var clean []string
	for _, text := range all {
		s, err := meeting.ParseServer(text)
		if err != nil {
			return err
		}
		if !slices.Contains(clean, s.String()) {
			clean = append(clean, s.String())
		}
	}
	return p.setBook(func(b *book) { b.Meet = clean })
}

// LAN reports whether this device announces itself on its networks.
func (p *Peering) LAN() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.o.NoLAN && !p.book.NoLAN
}

// SetLAN says whether it does, now and when it is started again.
func (p *Peering) SetLAN(on bool) error { return p.setBook(func(b *book) { b.NoLAN = !on }) }

// setBook changes how this device looks for others, and begins anew to look.
func (p *Peering) setBook(change func(*book)) error {
	p.mu.Lock()
	change(&p.book)
	err := p.save()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	p.stopLooking()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
	return nil
}

// foundDevice dials a device that was found, unless there is a session with it.
func (p *Peering) foundDevice(key peer.Key, fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialing[key] || p.life.Err() != nil || p.finder == nil {
		return
	}
	if !fresh && slices.ContainsFunc(p.node.Sessions(), func(m peer.Met) bool { return m.Key == key && m.By != "relay" }) {
		return
	}
	p.dialing[key] = true
	addrs := p.finder.Where(key)
	p.all.Go(func() {
		ctx, cancel := context.WithTimeout(p.life, dialFor)
		defer cancel()
		err := p.node.Better(ctx, key, addrs...)
		if err != nil {
			p.o.Log.Debug("a device that was found is not reached", "peer", fmt.Sprintf("%x", key[:4]), "err", err)
		}
		p.mu.Lock()
		delete(p.dialing, key)
		p.mu.Unlock()
	})
}

// kept returns the addresses of a device that are in the book.
func (p *Peering) kept(key peer.Key) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.book.Peers[hex.EncodeToString(key[:])])
}

// way says how a device is connected.
func way(m peer.Met) string {
	switch m.By {
	case "":
		return ""
	case "relay":
		return "relay"
	}
	at, err := netip.ParseAddrPort(m.At)
	if err != nil {
		return "direct"
	}
	ip := at.Addr().Unmap()
	if ip.IsLoopback() || ip.IsLinkLocalUnicast() {
		return "lan"
	}
	addrs, _ := net.InterfaceAddrs() // without them nothing is near
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ones, bits := n.Mask.Size(); ones < bits && n.Contains(ip.WithZone("").AsSlice()) {
			return "lan"
		}
	}
	return "direct"
}
