package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/home"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/book"
)

// reach is the service.Reach of a Home.
type reach struct {
	home    home.Home
	remotes *service.Remotes
}

// openBook returns the remotes of a Home. A passphrase guards its drive if no key beside it opens that.
func openBook(h home.Home) *book.Book {
	return book.Open(book.Options{Dir: h.Data, Guarded: func() (bool, error) {
		f, err := keys.ReadDevice(h.Data)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return !f.HasKey(), nil
	}})
}

// Open implements service.Reach.
func (r reach) Open(ctx context.Context, at string, create bool) (blob.Bucket, error) {
	p, err := service.ParsePlace(at)
	if err != nil {
		return nil, err
	}
	if p.Name != "" && p.Name != remote.Self {
		if _, err := r.remotes.Book.Get(p.Name); errors.Is(err, fs.ErrNotExist) {
			return nil, coded(sheafv1.Code_CODE_NOT_FOUND, "sheaf remote list", "no remote %q", p.Name)
		} else if err != nil {
			return nil, err
		}
	}
	b, err := r.remotes.Kinds.Open(ctx, p, r.remotes.Book, remote.Options{Make: create, Getenv: r.remotes.Getenv})
	if errors.Is(err, fs.ErrNotExist) {
		// It may be a disk that is not plugged in.
		return nil, fmt.Errorf("%w: %v", blob.ErrTemporary, err) //nolint:errorlint // it is away, not known to be gone
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Replicas implements service.Reach.
func (r reach) Replicas() ([]service.Replica, error) {
	c, err := r.home.ReadConfig()
	if err != nil {
		return nil, err
	}
	var all []service.Replica
	for _, x := range c.Replicas {
		all = append(all, service.Replica{Name: x.Name, At: x.At})
	}
	return all, nil
}

// Keep implements service.Reach.
func (r reach) Keep(all []service.Replica) error {
	return r.home.Change(func(c *home.Config) error {
		c.Replicas = nil
		for _, x := range all {
			c.Replicas = append(c.Replicas, home.Replica{Name: x.Name, At: x.At})
		}
		return nil
	})
}
