package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/book"
	"github.com/sheaf-drive/sheaf/sync/remote/signin"
)

// Remotes are the remotes of this device, and what kinds of them there are.
type Remotes struct {
	Kinds remote.Kinds
	Book  *book.Book
	// Getenv is the environment, of which variables go before options; nil: none does.
	Getenv func(string) string
}

// ParsePlace reads the name of a place as a person of this system writes it.
func ParsePlace(at string) (remote.Place, error) { return remote.Parse(at, runtime.GOOS == "windows") }

// shown returns the name of a place without secrets.
func (s *Service) shown(at string) string {
	p, err := ParsePlace(at)
	if err != nil || s.o.Remotes == nil {
		return "the place"
	}
	return s.o.Remotes.Kinds.Hide(p, s.o.Remotes.Book).String()
}

// hintAt puts the name of the remote of a place into a hint that has NAME in its stead.
func hintAt(hint, at string) string {
	if p, err := ParsePlace(at); err == nil && p.Name != "" {
		return strings.NewReplacer("remote auth NAME", "remote auth "+p.Name, "remote edit NAME", "remote edit "+p.Name).Replace(hint)
	}
	return hint
}

// remotes returns those of this device.
func (s *Service) remotes() (*Remotes, error) {
	if s.o.Remotes == nil {
		return nil, errorf(sheafv1.Code_CODE_UNSUPPORTED, "", "this service has no remotes")
	}
	return s.o.Remotes, nil
}

// kind returns the kind of that name.
func (r *Remotes) kind(name string) (*remote.Kind, error) {
	k, err := r.Kinds.Find(name)
	if err != nil {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf remote kinds", "%w", err)
	}
	return k, nil
}

// RemoteKinds has all kinds.
func (s *Service) RemoteKinds(_ context.Context, q *sheafv1.KindsRequest) (*sheafv1.KindsResponse, error) {
	r, err := s.remotes()
	if err != nil {
		return nil, err
	}
	if q.GetName() != "" {
		k, err := r.kind(q.GetName())
		if err != nil {
			return nil, err
		}
		return &sheafv1.KindsResponse{Kinds: []*sheafv1.RemoteKind{kindOf(k)}}, nil
	}
	var resp sheafv1.KindsResponse
	for i := range r.Kinds {
		resp.Kinds = append(resp.Kinds, kindOf(&r.Kinds[i]))
	}
	slices.SortFunc(resp.Kinds, func(a, b *sheafv1.RemoteKind) int { return strings.Compare(a.GetName(), b.GetName()) })
	return &resp, nil
}

func kindOf(k *remote.Kind) *sheafv1.RemoteKind {
	m := &sheafv1.RemoteKind{
		Name: k.Name, Title: k.Title, SignIn: k.OAuth != nil, DeviceCode: k.OAuth != nil && k.OAuth.DeviceURL != "", Replica: k.Bucket != nil,
	}
	for i := range k.Options {
		o := &k.Options[i]
		mo := &sheafv1.KindOption{
			Name: o.Name, Help: o.Help, Required: o.Required, Secret: o.Secret, Advanced: o.Advanced, Default: o.Default, Only: o.Only,
		}
		for _, e := range o.Examples {
			mo.Examples = append(mo.Examples, &sheafv1.OptionExample{Value: e.Value, Help: e.Help, Only: e.Only})
		}
		m.Options = append(m.Options, mo)
	}
	return m
}

// replicasAt returns the names of the replicas at each remote.
func (s *Service) replicasAt() (map[string][]string, error) {
	all, err := s.o.Reach.Replicas()
	if err != nil {
		return nil, err
	}
	at := map[string][]string{}
	for _, x := range all {
		if p, err := ParsePlace(x.At); err == nil && p.Name != "" {
			at[p.Name] = append(at[p.Name], x.Name)
		}
	}
	return at, nil
}

// remoteOf returns a remote for the wire, without its secrets.
func (s *Service) remoteOf(ctx context.Context, r *Remotes, e book.Remote) (*sheafv1.Remote, error) {
	at, err := s.replicasAt()
	if err != nil {
		return nil, err
	}
	m := &sheafv1.Remote{Name: e.Name, Kind: e.Kind, Replicas: at[e.Name]}
	set := map[string]*sheafv1.RemoteOption{}
	for n, v := range e.Options {
		set[n] = &sheafv1.RemoteOption{Name: n, Value: v}
	}
	for n := range e.Secrets {
		set[n] = &sheafv1.RemoteOption{Name: n, Secret: true}
	}
	if k, err := r.Kinds.Find(e.Kind); err == nil {
		for _, o := range k.Options {
			if v := r.getenv(remote.Variable(e.Name, o.Name)); v != "" {
				if o.Secret {
					v = ""
				}
				set[o.Name] = &sheafv1.RemoteOption{Name: o.Name, Value: v, Secret: o.Secret, Environment: true}
			}
		}
		c := remote.Config{Name: e.Name, Options: e.Options, Secrets: remote.NewPassing(maps.Clone(e.Secrets))}
		if m.NeedsSignIn, err = signin.Needed(ctx, k, k.FromEnv(c, r.getenv)); err != nil {
			return nil, err
		}
	}
	for _, n := range slices.Sorted(maps.Keys(set)) {
		m.Options = append(m.Options, set[n])
	}
	return m, nil
}

func (r *Remotes) getenv(name string) string {
	if r.Getenv == nil {
		return ""
	}
	return r.Getenv(name)
}

// ListRemotes has all remotes.
func (s *Service) ListRemotes(ctx context.Context, _ *sheafv1.RemotesListRequest) (*sheafv1.RemotesListResponse, error) {
	r, err := s.remotes()
	if err != nil {
		return nil, err
	}
	all, err := r.Book.List()
	if err != nil {
		return nil, err
	}
	var resp sheafv1.RemotesListResponse
	for _, e := range all {
		m, err := s.remoteOf(ctx, r, e)
		if err != nil {
			return nil, err
		}
		resp.Remotes = append(resp.Remotes, m)
	}
	return &resp, nil
}

// GetRemote has one remote.
func (s *Service) GetRemote(ctx context.Context, q *sheafv1.RemotesGetRequest) (*sheafv1.Remote, error) {
	r, err := s.remotes()
	if err != nil {
		return nil, err
	}
	e, err := r.get(q.GetName())
	if err != nil {
		return nil, err
	}
	return s.remoteOf(ctx, r, e)
}

func (r *Remotes) get(name string) (book.Remote, error) {
	e, err := r.Book.Get(name)
	if errors.Is(err, fs.ErrNotExist) {
		return e, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf remote list", "no remote %q", name)
	}
	return e, err
}

// check returns an error if the remote cannot be opened as it is, with what the environment says of it.
func (r *Remotes) check(ctx context.Context, k *remote.Kind, e book.Remote) error {
	c := remote.Config{Name: e.Name, Options: e.Options, Secrets: remote.NewPassing(maps.Clone(e.Secrets))}
	if err := k.Check(ctx, k.FromEnv(c, r.getenv)); err != nil {
		return errorf(sheafv1.Code_CODE_USAGE, "sheaf remote kinds "+k.Name, "%w", err)
	}
	return nil
}

// put sets values of a remote; an empty one is taken away.
func put(k *remote.Kind, e *book.Remote, values []*sheafv1.OptionValue) {
	for _, v := range values {
		to := e.Options
		if o := k.Option(v.GetName()); o != nil && o.Secret {
			to = e.Secrets
		}
		if v.GetValue() == "" {
			delete(to, v.GetName())
		} else {
			to[v.GetName()] = v.GetValue()
		}
	}
}

// AddRemote adds a remote.
func (s *Service) AddRemote(ctx context.Context, q *sheafv1.RemotesAddRequest) (*sheafv1.Remote, error) {
	r, err := s.remotes()
	if err != nil {
		return nil, err
	}
	k, err := r.kind(q.GetKind())
	if err != nil {
		return nil, err
	}
	if err := remote.CheckName(q.GetName()); err != nil {
		return nil, err
	}
	e := book.Remote{Name: q.GetName(), Kind: k.Name, Options: map[string]string{}, Secrets: book.Secrets{}}
	put(k, &e, q.GetOptions())
	if err := r.check(ctx, k, e); err != nil {
		return nil, err
	}
	if err := r.Book.Add(e); errors.Is(err, fs.ErrExist) {
		return nil, errorf(sheafv1.Code_CODE_EXISTS, "choose another name, or change it: sheaf remote edit", "%w", err)
	} else if err != nil {
		return nil, err
	}
	return s.remoteOf(ctx, r, e)
}

// EditRemote changes options of a remote.
func (s *Service) EditRemote(ctx context.Context, q *sheafv1.RemotesEditRequest) (*sheafv1.Remote, error) {
	r, err := s.remotes()
	if err != nil {
		return nil, err
	}
	e, err := r.get(q.GetName())
	if err != nil {
		return nil, err
	}
	k, err := r.kind(e.Kind)
	if err != nil {
		return nil, err
	}
	err = r.Book.Edit(e.Name, func(now book.Remote) (book.Remote, error) {
		put(k, &now, q.GetOptions())
		e = now
		return now, r.check(ctx, k, now)
	})
	if err != nil {
		return nil, err
	}
	if err := s.renewReplicas(e.Name); err != nil {
		return nil, err
	}
	return s.remoteOf(ctx, r, e)
}

// renewReplicas has the replicas at a remote reached anew.
func (s *Service) renewReplicas(name string) error {
	at, err := s.replicasAt()
	if err != nil {
		return err
	}
	s.mu.Lock()
	d := s.drive
	s.mu.Unlock()
	if d == nil || d.Replicas() == nil {
		return nil
	}
	for _, replica := range at[name] {
		if err := d.Replicas().Renew(replica); err != nil {
			return replicaError(err)
		}
	}
	return nil
}

// RemoveRemote forgets a remote.
func (s *Service) RemoveRemote(_ context.Context, q *sheafv1.RemotesRemoveRequest) (*sheafv1.RemotesRemoveResponse, error) {
	r, err := s.remotes()
	if err != nil {
		return nil, err
	}
	s.replicas.Lock() // none is added meanwhile
	defer s.replicas.Unlock()
	if _, err := r.get(q.GetName()); err != nil {
		return nil, err
	}
	at, err := s.replicasAt()
	if err != nil {
		return nil, err
	}
	if used := at[q.GetName()]; len(used) > 0 {
		return nil, errorf(sheafv1.Code_CODE_DECISION, "sheaf replica rm "+used[0], "remote %s: the replica %s is there", q.GetName(), used[0])
	}
	if err := r.Book.Remove(q.GetName()); err != nil {
		return nil, err
	}
	return &sheafv1.RemotesRemoveResponse{}, nil
}

// keepable returns an error if a place cannot be kept as a replica: the drive itself, or one with secrets in its name.
func (s *Service) keepable(at string) error {
	p, err := ParsePlace(at)
	if err != nil {
		return err
	}
	if p.Name == remote.Self {
		return fmt.Errorf("%w: %s is the drive itself", remote.ErrName, at)
	}
	if s.o.Remotes == nil {
		return nil
	}
	if err := s.o.Remotes.Kinds.CheckPlain(p, s.o.Remotes.Book); err != nil {
		return errorf(sheafv1.Code_CODE_USAGE, "sheaf remote add NAME KIND key=value …, and then NAME:path", "%w", err)
	}
	return nil
}
