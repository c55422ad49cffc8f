package find

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/time/rate"
)

// Where announcements go: to an address of the block for use within a site (RFC 2365), and to a transient one of the link (RFC 4291, 2.7).
var (
	lanGroup4 = net.IPv4(239, 255, 83, 72)
	lanGroup6 = net.ParseIP("ff12::5368:6561:6600")
)

// lanPort is the UDP port of announcements.
const lanPort = 7437

// lanMagic begins an announcement.
var lanMagic = [4]byte{'s', 'h', 'f', 1}

// lanSize is that of each announcement, in bytes.
const lanSize = len(lanMagic) + len(Slot{}) + SealedSize

// The bounds of what is heard.
const (
	lanRate       = 200 // announcements in a second that are looked at; the rest is dropped
	maxInterfaces = 16
)

// appendAnnouncement is what is sent.
func appendAnnouncement(b []byte, slot Slot, sealed []byte) []byte {
	return append(append(append(b, lanMagic[:]...), slot[:]...), sealed...)
}

// parseAnnouncement takes one apart. It shares its bytes.
func parseAnnouncement(p []byte) (slot Slot, sealed []byte, ok bool) {
	if len(p) != lanSize || [4]byte(p) != lanMagic {
		return slot, nil, false
	}
	return Slot(p[len(lanMagic):]), p[len(lanMagic)+len(slot):], true
}

// lan hears and sends on the networks of this machine. Its methods are called by one goroutine, but for close.
type lan struct {
	port       int
	interfaces func() ([]net.Interface, error)
	heard      func(p []byte, from netip.AddrPort) // called by several goroutines

	mu     sync.Mutex
	closed bool
	in     map[lanSocket]*net.UDPConn
	out    *net.UDPConn // IPv4; nil: there is none
	out6   *net.UDPConn
	all    sync.WaitGroup
	rate   *rate.Limiter // of what is heard
}

// lanSocket is where one hears: on an interface, by a family.
type lanSocket struct {
	index int
	six   bool
}

// interfacesFor returns the interfaces on which a device is announced that listens at an address: all that are up and not a link to one other machine, or only that which has the address. The loopback is
// among them: other devices of this machine hear it.
func interfacesFor(host netip.Addr) func() ([]net.Interface, error) {
	return func() ([]net.Interface, error) {
		all, err := net.Interfaces()
		if err != nil {
			return nil, fmt.Errorf("list the networks of this machine: %w", err)
		}
		var found []net.Interface
		for _, i := range all {
			if i.Flags&net.FlagUp == 0 || i.Flags&(net.FlagMulticast|net.FlagLoopback) == 0 || len(found) == maxInterfaces {
				continue
			}
			if !host.IsValid() || host.IsUnspecified() || has(i, host) {
				found = append(found, i)
			}
		}
		return found, nil
	}
}

func has(i net.Interface, ip netip.Addr) bool {
	addrs, _ := i.Addrs() // one that has gone has none
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if x, ok := netip.AddrFromSlice(n.IP); ok && x.Unmap() == ip.Unmap().WithZone("") {
				return true
			}
		}
	}
	return false
}

// send sends p on each network that there is now, and begins to hear on those that are new. It reports whether there are new ones. The error says that nothing was sent at all, and why.
func (l *lan) send(ctx context.Context, p []byte) (fresh bool, err error) {
	all, err := l.interfaces()
	if err != nil {
		return false, err
	}
	fresh, err = l.join(all)
	errs := []error{err}
	sent := 0
	for _, i := range all {
		for _, six := range []bool{false, true} {
			if err := l.sendOn(ctx, i, six, p); err != nil {
				errs = append(errs, fmt.Errorf("announce on %s: %w", i.Name, err))
				continue
			}
			sent++
		}
	}
	if sent > 0 {
		return fresh, nil
	}
	return fresh, errors.Join(errs...)
}

func (l *lan) sendOn(ctx context.Context, i net.Interface, six bool, p []byte) error {
	network, slot, to := "udp4", &l.out, &net.UDPAddr{IP: lanGroup4, Port: l.port}
	if six {
		network, slot, to = "udp6", &l.out6, &net.UDPAddr{IP: lanGroup6, Port: l.port, Zone: i.Name}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	if *slot == nil {
		var lc net.ListenConfig
		c, err := lc.ListenPacket(ctx, network, ":0")
		if err != nil {
			return err
		}
		*slot = c.(*net.UDPConn) //nolint:forcetypeassert // what "udp" gives
	}
	if !six {
		c := ipv4.NewPacketConn(*slot)
		if err := c.SetMulticastInterface(&i); err != nil {
			return err
		}
		_ = c.SetMulticastLoopback(true) // it is so on most systems
	}
	_ = (*slot).SetWriteDeadline(time.Now().Add(time.Second))
	_, err := (*slot).WriteToUDP(p, to)
	return err
}

// join begins to hear on interfaces that are new, and ends it on those that have gone.
func (l *lan) join(all []net.Interface) (fresh bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, net.ErrClosed
	}
	now := map[lanSocket]bool{}
	var errs []error
	for _, i := range all {
		for _, six := range []bool{false, true} {
			key := lanSocket{i.Index, six}
			now[key] = true
			if l.in[key] != nil {
				continue
			}
			network, group := "udp4", lanGroup4
			if six {
				network, group = "udp6", lanGroup6
			}
			c, err := net.ListenMulticastUDP(network, &i, &net.UDPAddr{IP: group, Port: l.port})
			if err != nil {
				errs = append(errs, fmt.Errorf("hear on %s: %w", i.Name, err))
				continue
			}
			if l.in == nil {
				l.in = map[lanSocket]*net.UDPConn{}
			}
			l.in[key], fresh = c, true
			l.all.Go(func() { l.hear(c) })
		}
	}
	for key, c := range l.in {
		if !now[key] {
			_ = c.Close()
			delete(l.in, key)
		}
	}
	return fresh, errors.Join(errs...)
}

func (l *lan) hear(c *net.UDPConn) {
	p := make([]byte, lanSize+1) // what is longer is cut, and so of the wrong size
	for {
		n, from, err := c.ReadFromUDPAddrPort(p)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // on Windows, also that it was longer
			time.Sleep(time.Millisecond)
			continue
		}
		if l.rate.Allow() {
			l.heard(p[:n], from)
		}
	}
}

func (l *lan) close() {
	l.mu.Lock()
	l.closed = true
	for _, c := range l.in {
		_ = c.Close()
	}
	for _, c := range []*net.UDPConn{l.out, l.out6} {
		if c != nil {
			_ = c.Close()
		}
	}
	l.mu.Unlock()
	l.all.Wait()
}
