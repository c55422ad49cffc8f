package remote

import (
	"context"
	"strings"
	"sync"
)

// Variable returns the variable of the environment that goes before an option of a remote:
// SHEAF_REMOTE_<NAME>_<KEY> in upper case, with _ for all but ASCII letters and digits.
func Variable(name, option string) string {
	return "SHEAF_REMOTE_" + EnvName(name) + "_" + EnvName(option)
}

// EnvName returns s as it stands in a Variable. Two remotes of which it is the same would answer to the same variables.
func EnvName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

// FromEnv lets the environment answer for options and secrets of a named remote: what its Variables say goes before what
// the Config has. A secret that is set anew, as a token is, goes where secrets are kept, and before the
// environment from then on, until the program ends.
func (k *Kind) FromEnv(c Config, getenv func(string) string) Config {
	if c.Name == "" {
		return c
	}
	options, secrets := map[string]string{}, map[string]string{}
	for n, v := range c.Options {
		options[n] = v
	}
	for _, o := range k.Options {
		v := getenv(Variable(c.Name, o.Name))
		switch {
		case v == "":
		case o.Secret:
			secrets[o.Name] = v
		default:
			options[o.Name] = v
		}
	}
	c.Options = options
	if len(secrets) > 0 {
		c.Secrets = &override{inner: c.Secrets, first: secrets}
	}
	return c
}

// override are secrets of which some go before the others.
type override struct {
	inner Secrets
	mu    sync.Mutex
	first map[string]string
}

func (o *override) Get(ctx context.Context, name string) (string, error) {
	o.mu.Lock()
	v, ok := o.first[name]
	o.mu.Unlock()
	if ok {
		return v, nil
	}
	return o.inner.Get(ctx, name)
}

func (o *override) Set(ctx context.Context, name, value string) error {
	if err := o.inner.Set(ctx, name, value); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.first, name)
	return nil
}

func (o *override) Lock(ctx context.Context) (func(), error) { return o.inner.Lock(ctx) }

// Passing are secrets that this process keeps in memory: those of a remote described on the spot.
type Passing struct {
	Turn
	mu  sync.Mutex
	all map[string]string
}

// NewPassing returns secrets in memory. It keeps the map.
func NewPassing(all map[string]string) *Passing {
	if all == nil {
		all = map[string]string{}
	}
	return &Passing{all: all}
}

// Get implements Secrets.
func (p *Passing) Get(_ context.Context, name string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[name], nil
}

// Set implements Secrets. It lasts as long as the process does.
func (p *Passing) Set(_ context.Context, name, value string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[name] = value
	return nil
}
