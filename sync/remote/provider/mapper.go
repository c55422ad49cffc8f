package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	rclone "github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config/configmap"
	"github.com/rclone/rclone/fs/config/obscure"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/signin"
)

// A mapper is the configuration that a backend sees: options and secrets of one remote, then rclone's defaults. What a
// backend sets, as it does with a token, goes to the secrets if it is one, durably; all else it is told again until the remote is closed.
type mapper struct {
	ctx  context.Context // of the Bucket
	k    *remote.Kind
	info *rclone.RegInfo
	c    remote.Config

	token *signin.Source // nil: there is no token, or it is renewed by the backend

	mu      sync.Mutex
	set     map[string]string // by the backend
	noToken error             // why the last one was not to be had; nil: it was
	unread  error             // why an option was not to be had: what was opened without it is not what is meant
}

var _ configmap.Mapper = (*mapper)(nil)

func newMapper(ctx context.Context, k *remote.Kind, info *rclone.RegInfo, c remote.Config) (*mapper, error) {
	m := &mapper{ctx: ctx, k: k, info: info, c: c, set: map[string]string{}}
	if k.OAuth == nil {
		return m, nil
	}
	id, err := c.Get(ctx, "client_id")
	if err == nil && id != "" {
		m.token = signin.NewSource(k, c, signin.Options{})
	}
	return m, err
}

// renewed returns the token of the remote, without that by which it is renewed: a backend would do that without asking who else does, and
// what some of them know of where to do so is one variable for all remotes.
func (m *mapper) renewed() (string, bool) {
	token, err := m.token.Token(m.ctx)
	if err == nil && token != "" {
		all := map[string]any{}
		if err = json.Unmarshal([]byte(token), &all); err == nil {
			delete(all, "refresh_token")
			var p []byte
			p, err = json.Marshal(all)
			token = string(p)
		}
	}
	m.mu.Lock()
	m.noToken = err
	m.mu.Unlock()
	return token, err == nil && token != ""
}

// refused returns why there is no token, or not all of the options; nil if there are, or none is needed.
func (m *mapper) refused() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Join(m.noToken, m.unread)
}

// fail takes note of an option that could not be read: a backend has no way to be told.
func (m *mapper) fail(key string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unread = errors.Join(m.unread, fmt.Errorf("read option %s: %w", key, err))
}

// Get implements configmap.Getter.
func (m *mapper) Get(key string) (string, bool) {
	if key == signin.TokenOption && m.token != nil {
		return m.renewed()
	}
	m.mu.Lock()
	v, ok := m.set[key]
	m.mu.Unlock()
	if ok {
		return v, true
	}
	o := m.info.Options.Get(key)
	v, err := m.c.Get(m.ctx, key)
	if err != nil {
		m.fail(key, err)
	}
	if v == "" {
		if _, ok := m.c.Options[key]; ok {
			return "", true
		}
		if o == nil {
			return "", false
		}
		if d := m.k.Option(key); d != nil {
			return d.Default, true
		}
		return o.String(), true
	}
	if o != nil && o.IsPassword {
		hidden, err := obscure.Obscure(v)
		if err != nil {
			m.fail(key, err)
			return "", false
		}
		return hidden, true
	}
	return v, true
}

// Set implements configmap.Setter.
func (m *mapper) Set(key, value string) {
	if key == signin.TokenOption && m.token != nil {
		return // it is kept already
	}
	o := m.info.Options.Get(key)
	if o == nil || !isSecret(o) {
		m.mu.Lock()
		m.set[key] = value
		m.mu.Unlock()
		return
	}
	if o.IsPassword {
		if plain, err := obscure.Reveal(value); err == nil {
			value = plain
		}
	}
	if err := m.keep(key, value); err != nil {
		rclone.Errorf(m.c.Name, "keep the new %s: %v", key, err)
		// It is good as long as this process lives, and the next one is told to sign in again.
		m.mu.Lock()
		m.set[key] = value
		m.mu.Unlock()
	}
}

func (m *mapper) keep(key, value string) error {
	unlock, err := m.c.Secrets.Lock(m.ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return m.c.Secrets.Set(m.ctx, key, value)
}
