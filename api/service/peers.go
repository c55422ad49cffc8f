package service

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"sync"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/peering"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/sync/invite"
)

// Peers is what this device has to do with the other devices of its drive directly.
type Peers interface {
	// Peering returns that of the open drive; nil: there is none in this process.
	Peering() *peering.Peering
	// Arrive makes this device one of the drive that it was let into, and opens it. listen is where it listens for peers from then on.
	Arrive(ctx context.Context, j *peering.Joining, listen string) (Drive, error)
}

// The bounds of invitations.
const (
	inviteFor     = 10 * time.Minute
	inviteForMost = 24 * time.Hour
	joinFor       = 5 * time.Minute
	peerListen    = ":7434"
)

// pairings are those of a Service that are under way.
type pairings struct {
	mu      sync.Mutex
	invited map[string]*peering.Invited
	joining map[string]*peering.Joining
}

// peering returns that of the open drive.
func (s *Service) peering() (*peering.Peering, error) {
	if s.o.Peers == nil {
		return nil, errorf(sheafv1.Code_CODE_UNSUPPORTED, "", "there are no peers here")
	}
	p := s.o.Peers.Peering()
	if p == nil {
		return nil, errorf(sheafv1.Code_CODE_NO_DAEMON, "sheaf up", "devices are reached by the daemon, and none runs")
	}
	return p, nil
}

// ListPeers says which devices there are.
func (s *Service) ListPeers(ctx context.Context, _ *sheafv1.ListPeersRequest) (*sheafv1.ListPeersResponse, error) {
	_, _, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	p, err := s.peering()
	if err != nil {
		return nil, err
	}
	r := &sheafv1.ListPeersResponse{Listen: p.Listening(), Lan: p.LAN()}
	servers, outside := p.Servers()
	r.Outside = outside
	for _, x := range servers {
		m := &sheafv1.MeetServer{Address: x.Address, Reached: x.Err == nil}
		if x.Err != nil {
			m.Error = x.Err.Error()
		}
		r.Servers = append(r.Servers, m)
	}
	for _, x := range p.Peers() {
		r.Peers = append(r.Peers, &sheafv1.Peer{
			Id: x.ID, Name: x.Name, At: x.At, By: x.By, Way: x.Way, Since: stamp(x.Since), Addresses: x.Addresses, Replica: x.Replica,
		})
	}
	return r, nil
}

// SetReach says how this device looks for the others.
func (s *Service) SetReach(ctx context.Context, r *sheafv1.SetReachRequest) (*sheafv1.SetReachResponse, error) {
	_, _, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	p, err := s.peering()
	if err != nil {
		return nil, err
	}
	if r.Servers != nil {
		if err := p.SetServers(r.GetServers().GetAddresses()); err != nil {
			return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf server rendezvous, on a machine that others reach, says its address", "%v", err)
		}
	}
	if r.Lan != nil {
		err = p.SetLAN(r.GetLan())
	}
	return &sheafv1.SetReachResponse{}, err
}

// host is a drive that lets devices in. *sheaf.Drive's comments are the specification.
type host interface{ peering.Host }

// Invite makes a code.
func (s *Service) Invite(ctx context.Context, r *sheafv1.InviteRequest) (*sheafv1.InviteResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	life := time.Duration(r.GetSeconds()) * time.Second
	switch {
	case life == 0:
		life = inviteFor
	case life < 0 || life > inviteForMost:
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "a code is good for a day at most")
	}
	p, err := s.peering()
	if err != nil {
		return nil, err
	}
	h, ok := d.(host)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	listen := r.GetListen()
	if listen == "" {
		listen = peerListen
	}
	if _, err := p.Listen(ctx, listen); err != nil && r.GetListen() == "" {
		_, err = p.Listen(ctx, ":0") // another drive of this machine has the usual port
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf invite --listen ADDRESS:PORT", "%v", err)
	}
	v, err := p.Invite(ctx, h, s.now().Add(life))
	if err != nil {
		return nil, err
	}
	s.pairs.mu.Lock()
	for id, old := range s.pairs.invited {
		go func() { _ = old.Close() }() // it waits for what is under way
		delete(s.pairs.invited, id)
	}
	id := newID()
	s.pairs.invited = map[string]*peering.Invited{id: v}
	s.pairs.mu.Unlock()
	return &sheafv1.InviteResponse{Id: id, Code: v.Code, Link: v.Link, Addresses: v.Addrs, Expires: stamp(v.Expires)}, nil
}

// newID names something of this process.
func newID() string { return rand.Text()[:12] }

// WaitInvite returns when a device has come.
func (s *Service) WaitInvite(ctx context.Context, r *sheafv1.WaitInviteRequest) (*sheafv1.WaitInviteResponse, error) {
	ctx, _, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	s.pairs.mu.Lock()
	v := s.pairs.invited[r.GetId()]
	s.pairs.mu.Unlock()
	if v == nil {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf invite", "no such invitation")
	}
	c, err := v.Wait(ctx)
	if err != nil {
		return nil, pairError(err)
	}
	return &sheafv1.WaitInviteResponse{Name: c.Name, Check: c.Check}, nil
}

func pairError(err error) error {
	switch {
	case errors.Is(err, invite.ErrCode), errors.Is(err, invite.ErrUsed), errors.Is(err, invite.ErrExpired):
		return errorf(sheafv1.Code_CODE_WRONG_SECRET, "sheaf invite, for a new code", "%v", err)
	case errors.Is(err, keys.ErrWords):
		return errorf(sheafv1.Code_CODE_USAGE, "the six words or the link that sheaf invite shows", "%v", err)
	}
	return err
}

// Join reaches the device that gave a code.
func (s *Service) Join(ctx context.Context, r *sheafv1.JoinRequest) (*sheafv1.JoinResponse, error) {
	ctx, _, release, err := s.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if s.o.Peers == nil {
		return nil, errorf(sheafv1.Code_CODE_UNSUPPORTED, "", "there are no peers here")
	}
	if s.o.Device.Exists() {
		return nil, sheaf.ErrExists
	}
	code, addrs, err := peering.ParseInvite(r.GetCode())
	if err != nil {
		return nil, pairError(err)
	}
	addrs = append(append([]string(nil), r.GetAt()...), addrs...)
	if len(addrs) == 0 {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "give the link that sheaf invite shows, or sheaf join CODE --at HOST:PORT", "it is not said where the inviting device is")
	}
	name := r.GetDeviceName()
	if name == "" {
		name, _ = os.Hostname()
	}
	j, err := peering.Join(ctx, code, addrs, name)
	if err != nil {
		return nil, pairError(err)
	}
	id := newID()
	s.pairs.mu.Lock()
	if s.pairs.joining == nil {
		s.pairs.joining = map[string]*peering.Joining{}
	}
	s.pairs.joining[id] = j
	s.pairs.mu.Unlock()
	time.AfterFunc(joinFor, func() {
		if j := s.takeJoining(id); j != nil {
			_ = j.Close()
		}
	})
	return &sheafv1.JoinResponse{Id: id, Name: j.Name, Device: j.ID, Check: j.Check}, nil
}

func (s *Service) takeJoining(id string) *peering.Joining {
	s.pairs.mu.Lock()
	defer s.pairs.mu.Unlock()
	j := s.pairs.joining[id]
	delete(s.pairs.joining, id)
	return j
}

// AcceptJoin makes this device one of the drive.
func (s *Service) AcceptJoin(ctx context.Context, r *sheafv1.AcceptJoinRequest) (*sheafv1.AcceptJoinResponse, error) {
	j := s.takeJoining(r.GetId())
	if j == nil {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf join CODE", "no such joining: it is good for five minutes")
	}
	if r.GetNo() {
		return &sheafv1.AcceptJoinResponse{}, j.Close()
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	err := s.mayOpen()
	if err == nil && s.o.Device.Exists() {
		err = sheaf.ErrExists
	}
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	d, err := s.o.Peers.Arrive(ctx, j, "")
	if err != nil {
		return nil, err
	}
	s.set(d)
	s.openDoors(ctx)
	s.openRules(ctx)
	i := d.Info()
	return &sheafv1.AcceptJoinResponse{Drive: i.Drive, Device: i.Device}, nil
}
