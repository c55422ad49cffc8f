package signin

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// early is how long before its end a token is renewed. It is more than the ten seconds before which rclone would do so itself.
const early = time.Minute

// A Source has the token of one remote, and renews it. It is safe for concurrent use, and so are several Sources
// of one remote: who renews does so under remote.Secrets.Lock.
type Source struct {
	kind *remote.Kind
	c    remote.Config
	o    Options

	mu    sync.Mutex
	saved *owed // a token that could not be kept; it is tried again
}

// owed is a token that the provider gave, and that is not durable yet.
type owed struct{ old, token string }

// NewSource returns the Source of a remote. It asks nobody yet.
func NewSource(k *remote.Kind, c remote.Config, o Options) *Source {
	return &Source{kind: k, c: c, o: o}
}

// Token returns a token in the form in which rclone keeps it, one that is good for a minute or more as far as is known. A new one that
// comes with that is durable before it is returned. Where nobody brought a client id, the token is returned as it is.
//
// The error wraps remote.ErrSignIn if somebody has to sign in, and blob.ErrTemporary if the provider does not answer.
func (s *Source) Token(ctx context.Context) (string, error) {
	text, _, err := s.current(ctx)
	if err != nil || text != "" {
		return text, err
	}
	unlock, err := s.c.Secrets.Lock(ctx)
	if err != nil {
		return "", fmt.Errorf("renew token of %s: %w", s.name(), err)
	}
	defer unlock()
	// Who had the lock before may have renewed it.
	text, old, err := s.current(ctx)
	if err != nil || text != "" {
		return text, err
	}
	text, err = s.renew(ctx, old)
	if err != nil {
		return "", fmt.Errorf("renew token: %w", err)
	}
	return text, nil
}

func (s *Source) name() string {
	if s.c.Name == "" {
		return "the " + s.kind.Name + " remote"
	}
	return s.c.Name
}

// current returns the token that is kept if it is good, or else "" and what is kept.
func (s *Source) current(ctx context.Context) (good, kept string, err error) {
	kept, err = s.c.Get(ctx, TokenOption)
	if err != nil {
		return "", "", err
	}
	if kept == "" {
		return "", "", fmt.Errorf("%s: %w: nobody has signed in yet", s.name(), remote.ErrSignIn)
	}
	t, err := decode(kept)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", s.name(), err)
	}
	if t.AccessToken != "" && (t.Expiry.IsZero() || time.Until(t.Expiry) > early) {
		return kept, kept, nil
	}
	if id, err := s.c.Get(ctx, "client_id"); err != nil || id == "" {
		return kept, kept, err // whose client it is renews it
	}
	return "", kept, nil
}

// renew exchanges the token that is kept for a new one. The lock is held.
func (s *Source) renew(ctx context.Context, kept string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.saved != nil && s.saved.old == kept {
		return s.keep(ctx)
	}
	s.saved = nil
	e, err := endpointsOf(ctx, s.kind, s.c)
	if err != nil {
		return "", err
	}
	old, err := decode(kept)
	if err != nil {
		return "", err
	}
	if old.RefreshToken == "" {
		return "", fmt.Errorf("%s: %w: the token has come to its end, and nothing came with it to renew it", s.name(), remote.ErrSignIn)
	}
	// When the provider has been asked, its answer is waited for and kept, whoever still wants it: it may take the old token no more.
	ctx = context.WithoutCancel(ctx)
	// Without an access token there is nothing that the library could take for still good.
	fresh, err := e.TokenSource(s.o.client(ctx), &oauth2.Token{RefreshToken: old.RefreshToken}).Token()
	if err != nil {
		return "", explain(s.name(), err)
	}
	if fresh.RefreshToken == "" {
		fresh.RefreshToken = old.RefreshToken
	}
	text, err := encode(fresh)
	if err != nil {
		return "", err
	}
	s.saved = &owed{old: kept, token: text}
	return s.keep(ctx)
}

// keep makes the token that is owed durable. s.mu is held.
func (s *Source) keep(ctx context.Context) (string, error) {
	if err := s.c.Secrets.Set(context.WithoutCancel(ctx), TokenOption, s.saved.token); err != nil {
		return "", fmt.Errorf("%s: keep the new token: %w", s.name(), err)
	}
	text := s.saved.token
	s.saved = nil
	return text, nil
}
