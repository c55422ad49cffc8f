package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/limit"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/retry"
)

// Kinds is a list of kinds.
type Kinds []Kind

// Find returns the kind of that name. The error wraps ErrKind.
func (k Kinds) Find(name string) (*Kind, error) {
	for i := range k {
		if k[i].Name == name {
			return &k[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrKind, name)
}

// Options say how a place is opened. The zero value works.
type Options struct {
	Make bool // the place is made if it is not there
	// Getenv lets the environment answer for options of named remotes; nil: it does not.
	Getenv func(string) string
	Limit  limit.Options // AtOnce 0: as many as the kind bears
	Retry  retry.Options
}

// Names know the remotes that have a name. The error wraps fs.ErrNotExist if there is none of that name.
type Names interface {
	Config(name, path string) (kind string, c Config, err error)
}

// atOnce is how many calls a kind bears at a time, by its rate.
var atOnce = map[Rate]int{Fast: 16, Steady: 8, Slow: 4}

// Resolve returns the kind and the Config of a place. The drive itself is no place of this sort: the error wraps ErrName then.
func (k Kinds) Resolve(p Place, names Names, o Options) (*Kind, Config, error) {
	if p.Name == Self {
		return nil, Config{}, fmt.Errorf("%w: %s is the drive itself", ErrName, p)
	}
	var c Config
	name := p.Kind
	switch {
	case p.Local:
		name, c = Local, Config{Path: p.Path}
	case p.Name != "":
		var err error
		if name, c, err = names.Config(p.Name, p.Path); err != nil {
			return nil, Config{}, err
		}
	default:
		c.Path = p.Path
	}
	kind, err := k.Find(name)
	if err != nil {
		return nil, Config{}, err
	}
	if c.Secrets == nil {
		c.Secrets = NewPassing(nil)
	}
	if o.Getenv != nil {
		c = kind.FromEnv(c, o.Getenv)
	}
	options, secrets := kind.Split(p.Options)
	for n, v := range options {
		if c.Options == nil {
			c.Options = map[string]string{}
		}
		c.Options[n] = v
	}
	if len(secrets) > 0 {
		c.Secrets = &override{inner: c.Secrets, first: secrets}
	}
	c.Make = o.Make
	return kind, c, nil
}

// kindOf returns the kind of a place, or nil if it is not known.
func (k Kinds) kindOf(p Place, names Names) *Kind {
	name := p.Kind
	if p.Name != "" {
		var err error
		if name, _, err = names.Config(p.Name, ""); err != nil {
			return nil
		}
	}
	kind, err := k.Find(name)
	if err != nil {
		return nil
	}
	return kind
}

// Hide returns the place as it may be shown: a secret among its options, or what may be one, is "***".
func (k Kinds) Hide(p Place, names Names) Place {
	if len(p.Options) == 0 {
		return p
	}
	kind := k.kindOf(p, names)
	options := map[string]string{}
	for n, v := range p.Options {
		if kind == nil || kind.Option(n) == nil || kind.Option(n).Secret {
			v = "***"
		}
		options[n] = v
	}
	p.Options = options
	return p
}

// CheckPlain returns an error that wraps ErrOption if a secret is among the options of a place: it may be used, and not written down.
func (k Kinds) CheckPlain(p Place, names Names) error {
	if len(p.Options) == 0 {
		return nil
	}
	kind := k.kindOf(p, names)
	for n := range p.Options {
		if kind != nil && kind.Option(n) != nil && kind.Option(n).Secret {
			return fmt.Errorf("%w: %s is a secret, and the name of a place is written down", ErrOption, n)
		}
	}
	return nil
}

// Local is the name of the kind that is a folder of this machine.
const Local = "local"

// An Opened is a Bucket of a place: what did not succeed is tried again, and no more is asked of the place than it bears.
type Opened struct {
	blob.Bucket
	Kind  *Kind
	inner blob.Bucket
}

// Close ends it.
func (o *Opened) Close() error {
	if c, ok := o.inner.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Open opens a place for sealed blobs. The caller closes it.
func (k Kinds) Open(ctx context.Context, p Place, names Names, o Options) (*Opened, error) {
	kind, c, err := k.Resolve(p, names, o)
	if err != nil {
		return nil, err
	}
	if kind.Bucket == nil {
		return nil, fmt.Errorf("open %s: a %s holds no blobs: %w", p, kind.Name, errors.ErrUnsupported)
	}
	b, err := kind.Bucket(ctx, c)
	if err != nil {
		return nil, err
	}
	if o.Limit.AtOnce == 0 {
		o.Limit.AtOnce = atOnce[kind.Can.Rate]
	}
	return &Opened{Bucket: retry.New(limit.New(b, o.Limit), o.Retry), Kind: kind, inner: b}, nil
}

// An OpenedTree is a Tree of a place.
type OpenedTree struct {
	Tree Tree // as the kind gave it: what it can do besides is found by a type assertion, as its Can says
	Kind *Kind
}

// Close ends it.
func (o *OpenedTree) Close() error {
	if c, ok := o.Tree.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// OpenTree opens a place of plain files. The caller closes it.
func (k Kinds) OpenTree(ctx context.Context, p Place, names Names, o Options) (*OpenedTree, error) {
	kind, c, err := k.Resolve(p, names, o)
	if err != nil {
		return nil, err
	}
	if kind.Tree == nil {
		return nil, fmt.Errorf("open %s: a %s holds no plain files: %w", p, kind.Name, errors.ErrUnsupported)
	}
	t, err := kind.Tree(ctx, c)
	if err != nil {
		return nil, err
	}
	return &OpenedTree{Tree: t, Kind: kind}, nil
}
