package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// A device may be a member of the drive and not be known as one by another that it calls: who has let it in is away, or gone, and there is no place where its entry of the members
// log lies. Such a device is refused in the handshake, and calls again to be heard. The one that is called reads the log at the caller's side then, as it reads at any place that it does
// not trust, and answers none of its calls before it knows that it is a member. The caller needs nothing for that but what peers have anyway: it admits whom it has called.

// The bounds of what is heard.
const (
	maxGuests = 2 // devices at a time
	maxSeats  = 8 // with those that wait. Anybody can make keys, so all others are sent away: members are to find room
	guestWait = 15 * time.Second
)

// maybe reports whether a device that is not admitted, for the reason err, is to be heard.
func (n *Node) maybe(err error) bool {
	return n.o.Introduced != nil && errors.Is(err, ErrStranger) && !errors.Is(err, ErrRefused)
}

// hears returns, for a device that has called to be heard, what shows its card once more: who is unknown has shown it to nobody. It is nil for all others.
func (n *Node) hears(cs tls.ConnectionState) func() {
	if cs.NegotiatedProtocol != guestALPN {
		return nil
	}
	return func() {
		if key, err := keyOf(cs); err == nil {
			n.seeCard(key, cs.PeerCertificates[0])
		}
	}
}

// seat takes a seat for one that is to be heard; false: there is none.
func (n *Node) seat() bool {
	select {
	case n.seats <- struct{}{}:
		return true
	default:
		return false
	}
}

// hear has it read what a device shows, and makes its session one of a member, or ends it. It gives its seat back.
func (n *Node) hear(s *session, shows func()) {
	defer func() { <-n.seats }()
	ctx, cancel := context.WithTimeout(s.life, guestWait)
	defer cancel()
	var err error
	select {
	case n.guests <- struct{}{}:
		err = n.o.Introduced(ctx, s.key, &Bucket{n: n, key: s.key, only: s})
		<-n.guests
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		shows()
		_, err = n.admit(s.life, s.key)
	}
	if err == nil {
		s.guest.Store(false)
		if _, err := n.admit(s.life, s.key); err != nil { // it was revoked before a Recheck could see it
			s.close("not admitted any more")
		}
		close(s.heard)
		n.log.Info("a device has shown that it is a member", "peer", fmt.Sprintf("%x", s.key[:4]), "at", s.l.remote().String(), "by", s.l.kind())
		n.changed()
		return
	}
	n.log.Debug("a device was not let in", "peer", fmt.Sprintf("%x", s.key[:4]), "from", s.l.remote().String(), "err", err)
	close(s.heard) // what it has called is refused
	select {
	case <-s.l.done():
	case <-s.life.Done():
	case <-time.After(lingerWait):
	}
	s.close("not admitted")
}
