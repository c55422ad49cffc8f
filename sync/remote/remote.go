// Package remote says what a remote is: a place away from here of some kind, with
// options and secrets. It opens none: each kind does, in a package of its own, and
// package kinds has the list.
package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// The errors of remotes, besides those of package blob.
var (
	ErrKind    = errors.New("no such kind of remote")
	ErrName    = errors.New("illegal name of a remote")
	ErrSyntax  = errors.New("not the name of a place")
	ErrOption  = errors.New("an option is wrong")
	ErrMissing = errors.New("an option is missing")
	ErrSignIn  = fmt.Errorf("sign in again: %w", blob.ErrUnauthorized)
)

// A Kind knows how to open remotes of one sort. It is a value: what it can do and what it
// wants to know is data, so that a person, a form or a program can ask for it. Nothing
// registers itself.
type Kind struct {
	Name    string // "s3", "webdav", …: lower-case letters and digits
	Title   string // for people, in a few words
	Options []Option
	OAuth   *OAuth // how one signs in with a browser; nil: not so
	Can     Capabilities

	// Bucket opens the remote for sealed blobs. The caller closes it if it is an io.Closer. It is nil where
	// a kind has no such face. An error wraps fs.ErrNotExist if the place is not there and Config.Make is not
	// set: a place that is gone is never taken for an empty one.
	Bucket func(ctx context.Context, c Config) (blob.Bucket, error)
	// Tree opens the remote for plain files, in the same way. It is nil where a kind has no such face.
	Tree func(ctx context.Context, c Config) (Tree, error)
}

// An Option is one thing that a Kind wants to know.
type Option struct {
	Name     string // lower-case letters, digits and _
	Help     string // the first line says it in short
	Required bool   // a remote cannot be opened without it
	Secret   bool   // kept where secrets are, never shown
	Obscured bool   // in an rclone.conf it is obscured
	Advanced bool   // nobody is asked for it
	Only     string // the option is for these values of "provider" only, separated by commas; "!" before: for all others; "" for all
	Default  string
	Examples []Example
}

// An Example is a value that an Option may have.
type Example struct{ Value, Help, Only string }

// OAuth is how one signs in to a Kind with a browser. Options of the remote of the same names, in lower case and
// with _ (client_id, auth_url, …), go before.
type OAuth struct {
	AuthURL, TokenURL string
	DeviceURL         string // "" if there is no device code
	Scopes            []string
	Basic             bool              // the secret of the client goes into a header, and not among the parameters
	Params            map[string]string // added to the request for a sign-in
	// Instead are the options with one of which nobody needs to sign in.
	Instead []string
}

// Capabilities are what a Kind can do, as far as it does not depend on the server.
type Capabilities struct {
	Hashes     []string // by which it vouches for what it has; empty: what is put is read back
	ChangeFeed bool     // tells what changed without a listing
	AtomicPut  bool     // a blob is seen whole or not at all; false: it is put under another name and moved
	Move       bool     // on its own side
	Ranges     bool     // can be read from the middle
	Containers bool     // its root holds containers, such as buckets, and blobs lie in these only
	Rate       Rate
}

// Rate says how many calls a Kind bears.
type Rate int

// The rates, from the one that bears most.
const (
	Fast   Rate = iota // hundreds a second: what bills by the call, or is a disk
	Steady             // tens a second: a server of one's own
	Slow               // a few a second, and bans who asks for more
)

// String returns the name of the rate.
func (r Rate) String() string {
	switch r {
	case Fast:
		return "fast"
	case Steady:
		return "steady"
	case Slow:
		return "slow"
	}
	return fmt.Sprintf("Rate(%d)", int(r))
}

// Option returns the option of that name, or nil.
func (k *Kind) Option(name string) *Option {
	for i := range k.Options {
		if k.Options[i].Name == name {
			return &k.Options[i]
		}
	}
	return nil
}

// Config is one remote as it is to be opened.
type Config struct {
	Name    string // for people; "" for one that has none
	Path    string // below the remote's own root
	Options map[string]string
	Secrets Secrets // never nil
	Make    bool    // the place is made if it is not there
}

// Get returns an option or a secret, "" if it is not set.
func (c *Config) Get(ctx context.Context, name string) (string, error) {
	if v, ok := c.Options[name]; ok {
		return v, nil
	}
	return c.Secrets.Get(ctx, name)
}

// Secrets are those of one remote. They are safe for concurrent use.
type Secrets interface {
	// Get returns the secret of that name, "" if there is none.
	Get(ctx context.Context, name string) (string, error)
	// Set keeps a secret, such as a token that the place has given in exchange for the one before. When it
	// returns nil the secret is durable, and only then may it be used: the place may take the old one no more.
	Set(ctx context.Context, name, value string) error
	// Lock waits until nobody else renews secrets of this remote, and returns what lets the next one do so. Get and Set
	// take no part in it.
	Lock(ctx context.Context) (unlock func(), err error)
}

// A Turn lets one renew secrets at a time. Its zero value is free.
type Turn struct {
	once sync.Once
	free chan struct{}
}

// Lock is as in Secrets.
func (t *Turn) Lock(ctx context.Context) (unlock func(), err error) {
	t.once.Do(func() { t.free = make(chan struct{}, 1) })
	select {
	case t.free <- struct{}{}:
		return func() { <-t.free }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Check returns an error that wraps ErrOption or ErrMissing if the remote cannot be opened as it is: an option is not
// known or one that is needed is not there.
func (k *Kind) Check(ctx context.Context, c Config) error {
	for name := range c.Options {
		switch o := k.Option(name); {
		case o == nil:
			return fmt.Errorf("%w: %s has no option %q", ErrOption, k.Name, name)
		case o.Secret:
			return fmt.Errorf("%w: %s is a secret, and lies among what is no secret", ErrOption, name)
		}
	}
	provider, err := c.Get(ctx, "provider")
	if err != nil {
		return err
	}
	for _, o := range k.Options {
		if !o.Required || o.Default != "" || !o.For(provider) {
			continue
		}
		if v, err := c.Get(ctx, o.Name); err != nil {
			return err
		} else if v == "" {
			return fmt.Errorf("%w: %s needs %s", ErrMissing, k.Name, o.Name)
		}
	}
	return nil
}

// For reports whether the option is one for this value of "provider".
func (o *Option) For(provider string) bool { return only(o.Only, provider) }

// For reports whether the example is one for this value of "provider".
func (e *Example) For(provider string) bool { return only(e.Only, provider) }

// Split parts values into options and secrets. Names that the kind does not know stay among the options, where
// Check finds them.
func (k *Kind) Split(values map[string]string) (options, secrets map[string]string) {
	options, secrets = map[string]string{}, map[string]string{}
	for name, v := range values {
		if o := k.Option(name); o != nil && o.Secret {
			secrets[name] = v
		} else {
			options[name] = v
		}
	}
	return options, secrets
}
