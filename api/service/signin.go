package service

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/signin"
)

// A sign-in that nobody finishes ends after this time, and so many may be under way.
const (
	signInTime = 15 * time.Minute
	maxSignIns = 16
)

// signIns are the sign-ins under way, by id. Its zero value has none.
type signIns struct {
	mu     sync.Mutex
	all    map[string]*signIn
	closed bool
}

type signIn struct {
	flow   *signin.Flow
	remote string
	end    *time.Timer
}

// add takes a sign-in in and returns its id.
func (l *signIns) add(remote string, f *signin.Flow) (id string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.all) >= maxSignIns {
		return "", errorf(sheafv1.Code_CODE_LIMIT, "finish one, or wait", "%d sign-ins are under way", len(l.all))
	}
	if l.all == nil {
		l.all = map[string]*signIn{}
	}
	id = rand.Text()
	l.all[id] = &signIn{flow: f, remote: remote, end: time.AfterFunc(signInTime, func() { l.drop(id) })}
	return id, nil
}

func (l *signIns) get(id string) *signIn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[id]
}

// drop ends a sign-in.
func (l *signIns) drop(id string) {
	l.mu.Lock()
	f := l.all[id]
	delete(l.all, id)
	l.mu.Unlock()
	if f != nil {
		f.end.Stop()
		_ = f.flow.Close() // it only listened
	}
}

// close ends all.
func (l *signIns) close() {
	l.mu.Lock()
	l.closed = true
	all := l.all
	l.all = nil
	l.mu.Unlock()
	for _, f := range all {
		f.end.Stop()
		_ = f.flow.Close() // it only listened
	}
}

// ways are the ways of the contract.
var ways = map[sheafv1.StartSignInRequest_Way]signin.Way{
	sheafv1.StartSignInRequest_WAY_UNSPECIFIED: signin.Browser, sheafv1.StartSignInRequest_WAY_PASTE: signin.Paste,
	sheafv1.StartSignInRequest_WAY_DEVICE: signin.Device,
}

// StartSignIn begins a sign-in to a remote.
func (s *Service) StartSignIn(ctx context.Context, q *sheafv1.StartSignInRequest) (*sheafv1.StartSignInResponse, error) {
	r, err := s.remotes()
	if err != nil {
		return nil, err
	}
	ctx, _, release, err := s.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := r.get(q.GetName()); err != nil {
		return nil, err
	}
	kind, c, err := r.Kinds.Resolve(remote.Place{Name: q.GetName()}, r.Book, remote.Options{Getenv: r.Getenv})
	if err != nil {
		return nil, err
	}
	way, ok := ways[q.GetWay()]
	if !ok {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "no such way of signing in: %d", q.GetWay())
	}
	f, err := signin.Begin(ctx, way, kind, c, signin.Options{Redirect: q.GetRedirect()})
	if errors.Is(err, remote.ErrMissing) {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf remote edit "+q.GetName()+" client_id=… client_secret=…", "%w", err)
	}
	if err != nil {
		return nil, err
	}
	id, err := s.signIns.add(q.GetName(), f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &sheafv1.StartSignInResponse{Id: id, Url: f.URL(), Code: f.Code(), Expires: stamp(f.Expires())}, nil
}

// FinishSignIn waits until the person has signed in.
func (s *Service) FinishSignIn(ctx context.Context, q *sheafv1.FinishSignInRequest) (*sheafv1.Remote, error) {
	ctx, _, release, err := s.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	f := s.signIns.get(q.GetId())
	if f == nil {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf remote auth NAME", "no such sign-in is under way")
	}
	err = f.flow.Finish(ctx, q.GetPasted())
	if !errors.Is(err, remote.ErrSyntax) {
		s.signIns.drop(q.GetId())
	}
	if err != nil {
		return nil, err
	}
	if err := s.renewReplicas(f.remote); err != nil {
		return nil, err
	}
	return s.GetRemote(ctx, &sheafv1.RemotesGetRequest{Name: f.remote})
}
