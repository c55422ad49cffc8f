package peering

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/find"
	"github.com/sheaf-drive/sheaf/sync/find/meeting"
	"github.com/sheaf-drive/sheaf/sync/invite"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

// How invitations go by servers.
const (
	maxPlaces  = 2 // servers that a link names: it has to fit a code that a camera reads
	guestFor   = 15 * time.Minute
	meetWait   = 40 * time.Second
	directWait = 5 * time.Second
	maxCallers = 3 // at a time, for one invitation
)

// idText writes the claim of an invitation.
var idText = base32.StdEncoding.WithPadding(base32.NoPadding)

// A guest is a secret that is shared with a device that was just let in, and has no other yet.
type guest struct {
	secret find.Secret
	until  time.Time
}

// guestSecrets are those that hold.
func (p *Peering) guestSecrets() []find.Secret {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guests = slices.DeleteFunc(p.guests, func(g guest) bool { return time.Now().After(g.until) })
	var all []find.Secret
	for _, g := range p.guests {
		all = append(all, g.secret)
	}
	return all
}

// expect lets a device that was just let in meet this one.
func (p *Peering) expect(s find.Secret) {
	p.mu.Lock()
	p.guests = append(p.guests, guest{s, time.Now().Add(guestFor)})
	p.guests = p.guests[max(0, len(p.guests)-2):]
	f := p.finder
	p.mu.Unlock()
	if f != nil {
		f.Renew()
	}
}

// meetingPlaces returns where an invitation is met, as a link has it: HOST:PORT~HASH~ID. What the new device needs besides is put into the offer.
func (p *Peering) meetingPlaces(mine *offer) (all []string, id meeting.Claim, err error) {
	if _, err := rand.Read(id[:]); err != nil {
		return nil, id, err
	}
	p.mu.Lock()
	f := p.finder
	p.mu.Unlock()
	if f == nil {
		return nil, id, nil
	}
	for _, s := range f.Servers() {
		mine.servers = append(mine.servers, s.Server.String())
		if s.Err != nil || len(all) == maxPlaces {
			continue
		}
		text := s.Server.String()
		if s.Server.Pin == nil {
			text += "~"
		}
		all = append(all, text+"~"+strings.ToLower(idText.EncodeToString(id[:])))
	}
	if _, err := rand.Read(mine.secret[:]); err != nil {
		return nil, id, err
	}
	return all, id, nil
}

// holdInvitation lets devices come to an invitation by the servers. What it returns ends that, and may be called more than once.
func (p *Peering) holdInvitation(inv *invite.Invitation, id meeting.Claim) (release func()) {
	p.mu.Lock()
	f := p.finder
	p.mu.Unlock()
	if f == nil {
		return func() {}
	}
	slots := make(chan struct{}, maxCallers)
	return f.Hold(id, func(c *meeting.Client, text []byte) {
		if len(text) != len(meeting.Token{}) || p.life.Err() != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			return
		}
		p.all.Go(func() {
			defer func() { <-slots }()
			conn, err := c.Relay(p.life, meeting.Token(text))
			if err != nil {
				p.o.Log.Debug("a device that comes by a code is not reached", "err", err)
				return
			}
			inv.Serve(conn)
		})
	})
}

// parsePlace takes a meeting place apart.
func parsePlace(text string) (s meeting.Server, id meeting.Claim, err error) {
	i := strings.LastIndex(text, "~")
	raw, err := idText.DecodeString(strings.ToUpper(text[i+1:]))
	if i < 0 || err != nil || len(raw) != len(id) {
		return s, id, fmt.Errorf("%q is no meeting place of an invitation", text)
	}
	s, err = meeting.ParseServer(strings.TrimSuffix(text[:i], "~"))
	return s, meeting.Claim(raw), err
}

// joinWait is how long one address of an invitation is tried.
func joinWait(all []string, addr string) time.Duration {
	switch {
	case strings.Contains(addr, "~"):
		return meetWait
	case slices.ContainsFunc(all, func(a string) bool { return strings.Contains(a, "~") }):
		return 4 * time.Second // there is another way
	}
	return 10 * time.Second
}

// joinBy reaches an invitation by a server.
func joinBy(ctx context.Context, place string, code []byte, o invite.Offer) (*invite.Joining, error) {
	s, id, err := parsePlace(place)
	if err != nil {
		return nil, err
	}
	up := make(chan struct{}, 8)
	c := meeting.NewClient(meeting.ClientOptions{Server: s, Changed: func() {
		select {
		case up <- struct{}{}:
		default:
		}
	}})
	defer func() { _ = c.Close() }()
	select {
	case <-up:
	case <-ctx.Done():
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	var token meeting.Token
	if _, err := rand.Read(token[:]); err != nil {
		return nil, err
	}
	if err := c.Tell(ctx, id.Slot(), token[:]); err != nil {
		return nil, fmt.Errorf("reach the inviting device: %w", err)
	}
	conn, err := c.Relay(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("reach the inviting device: %w", err)
	}
	return invite.JoinOver(ctx, conn, code, o)
}

// Await returns when the device that let this one in is reached, directly or where both are met. The Peering listens, trusts it and knows its addresses. Nothing is done where it is met nowhere: then
// its addresses have to do.
func (p *Peering) Await(ctx context.Context, a *Arrival) error {
	if len(a.Servers) == 0 {
		return nil
	}
	key := peer.Key(a.Inviter.Key)
	p.mu.Lock()
	p.inviter, p.guests = &key, []guest{{a.Secret, time.Now().Add(guestFor)}}
	if len(p.book.Meet) == 0 {
		p.book.Meet = a.Servers
	}
	err := p.save()
	p.look()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	dctx, cancel := context.WithTimeout(ctx, directWait)
	err = p.node.Meet(dctx, key, p.kept(key)...)
	cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(meetWait); ; {
		if slices.ContainsFunc(p.node.Sessions(), func(m peer.Met) bool { return m.Key == key }) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("reach the inviting device: %w: %w", blob.ErrTemporary, errors.Join(err, errors.New("it is not met at the servers either")))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
