package service

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// copiesAtOnce is how many files one Copy copies at a time.
const copiesAtOnce = 4

// CopyPlaces copies from one place to another.
func (s *Service) CopyPlaces(ctx context.Context, q *sheafv1.PlacesCopyRequest, send func(*sheafv1.PlacesCopyResponse) error) error {
	ctx, from, release, err := s.useSpot(ctx, q.GetFrom())
	if err != nil {
		return err
	}
	defer release()
	it, err := from.look(ctx)
	if err != nil {
		return err
	}
	c := &copying{from: from, dry: q.GetDryRun(), send: send}
	if it.Kind == remote.Dir {
		c.to, err = s.spot(ctx, q.GetTo(), !q.GetDryRun())
	} else {
		c.to, err = s.spotAbove(ctx, q.GetTo(), !q.GetDryRun())
	}
	if errors.Is(err, fs.ErrNotExist) && q.GetDryRun() {
		c.to, err = spot{close: func() {}}, nil
	}
	if err != nil {
		return err
	}
	defer c.to.close()
	if it.Kind != remote.Dir {
		c.file(ctx, it, c.to.path, path.Base(it.Path))
	} else if err := c.all(ctx); err != nil {
		return err
	}
	return c.end()
}

// A copying is one Copy.
type copying struct {
	from, to spot // to.tree nil: nothing is there, and nothing is made
	dry      bool

	mu      sync.Mutex // one message at a time
	send    func(*sheafv1.PlacesCopyResponse) error
	total   sheafv1.PlacesCopyResponse
	sendErr error
}

func (c *copying) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sendErr != nil {
		return c.sendErr
	}
	return c.send(&sheafv1.PlacesCopyResponse{Bytes: c.total.Bytes, Copied: c.total.Copied, Skipped: c.total.Skipped, Failed: c.total.Failed})
}

// tell says what became of a file.
func (c *copying) tell(name string, bytes int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &sheafv1.PlacesCopyResponse{Path: wirepath.Encode(name), Bytes: bytes}
	if err != nil {
		c.total.Failed++
		m.Bytes, m.Error = 0, err.Error()
	} else {
		c.total.Copied++
		c.total.Bytes += bytes
	}
	if c.sendErr == nil {
		c.sendErr = c.send(m)
	}
}

// all copies what the directory holds.
func (c *copying) all(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(copiesAtOnce)
	if c.to.tree != nil && c.to.path != "" && !c.dry {
		if err := makeDirs(ctx, c.to.tree, c.to.path); err != nil {
			return err
		}
	}
	err := c.from.below(ctx, func(it remote.Item, name string) error {
		to := path.Join(c.to.path, name)
		if it.Kind != remote.Dir {
			group.Go(func() error {
				c.file(ctx, it, to, name)
				return ctx.Err()
			})
			return ctx.Err()
		}
		if c.dry || c.to.tree == nil {
			return nil
		}
		if _, err := c.to.tree.Mkdir(ctx, to, it.Mode); err != nil { // what is to lie in it says so, too
			c.tell(name, 0, err)
		}
		return ctx.Err()
	})
	return errors.Join(err, group.Wait())
}

// makeDirs makes a directory and those above it.
func makeDirs(ctx context.Context, t remote.Tree, p string) error {
	for i := range len(p) + 1 {
		if i == len(p) || p[i] == '/' {
			if _, err := t.Mkdir(ctx, p[:i], 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// file copies one file or link, unless it is there.
func (c *copying) file(ctx context.Context, it remote.Item, to, name string) {
	skipped, err := c.one(ctx, it, to)
	if skipped && err == nil {
		c.mu.Lock()
		c.total.Skipped++
		c.mu.Unlock()
		return
	}
	c.tell(name, it.Size, err)
}

func (c *copying) one(ctx context.Context, it remote.Item, to string) (skipped bool, err error) {
	if it.Kind == remote.Other {
		return false, fmt.Errorf("%q cannot be copied: it is neither a file nor a link: %w", it.Path, errors.ErrUnsupported)
	}
	known := remote.Version("")
	if c.to.tree != nil {
		have, err := c.to.tree.Stat(ctx, to)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return false, err
		case have.Kind == it.Kind && c.equal(it, have):
			return true, nil
		case have.Kind == remote.Dir:
			return false, fmt.Errorf("%q is a folder there: %w", to, fs.ErrExist)
		default:
			known = have.Version
		}
	}
	if c.dry {
		return false, nil
	}
	put := remote.Item{Path: to, Kind: it.Kind, Size: it.Size, MTime: it.MTime, Mode: it.Mode, Target: it.Target}
	if it.Kind == remote.Symlink {
		_, err := c.to.tree.Put(ctx, put, nil, known)
		return false, err
	}
	r, err := c.from.tree.Open(ctx, it.Path, 0, -1, it.Version)
	if err != nil {
		return false, err
	}
	_, err = c.to.tree.Put(ctx, put, r, known)
	return false, errors.Join(err, r.Close())
}

// equal reports whether a file is there already, as far as it can be told without reading: by a hash that both know, else by size and time.
func (c *copying) equal(a, b remote.Item) bool {
	if a.Kind == remote.Symlink {
		return a.Target == b.Target
	}
	if a.Size != b.Size {
		return false
	}
	if same, known := sameHash(a, b); known {
		return same
	}
	can, can2 := c.from.tree.Can(), c.to.tree.Can()
	if can.MTime == 0 || can2.MTime == 0 || a.MTime.IsZero() || b.MTime.IsZero() {
		return false
	}
	d := a.MTime.Sub(b.MTime)
	step := max(can.MTime, can2.MTime, time.Microsecond)
	return d < step && d > -step
}

// sameHash compares the hashes of two files, and reports whether they have one in common.
func sameHash(a, b remote.Item) (same, known bool) {
	for name, h := range a.Hashes {
		if h2 := b.Hashes[name]; h2 != "" && h != "" {
			return h == h2, true
		}
	}
	return false, false
}

// CheckPlaces compares two places.
func (s *Service) CheckPlaces(ctx context.Context, q *sheafv1.PlacesCheckRequest, send func(*sheafv1.PlacesCheckResponse) error) error {
	ctx, a, release, err := s.useSpot(ctx, q.GetA())
	if err != nil {
		return err
	}
	defer release()
	b, err := s.spot(ctx, q.GetB(), false)
	if err != nil {
		return err
	}
	defer b.close()
	for _, sp := range []*spot{&a, &b} {
		if it, err := sp.look(ctx); err != nil {
			return err
		} else if it.Kind != remote.Dir {
			return errorf(sheafv1.Code_CODE_WRONG_KIND, "", "%q is no folder", it.Path)
		}
	}
	c := &checking{a: a, b: b, read: q.GetRead(), send: send}
	if err := c.all(ctx); err != nil {
		return err
	}
	return send(&sheafv1.PlacesCheckResponse{Same: c.same, BySize: c.bySize, Differ: c.differ})
}

// A checking is one Check. It holds the listing of the second place in memory, in some 400 bytes a file.
type checking struct {
	a, b                 spot
	read                 bool
	send                 func(*sheafv1.PlacesCheckResponse) error
	same, bySize, differ int64
}

func (c *checking) tell(name string, d sheafv1.PlaceDifference) error {
	c.differ++
	return c.send(&sheafv1.PlacesCheckResponse{Path: wirepath.Encode(name), Difference: d})
}

func (c *checking) all(ctx context.Context) error {
	var order []string
	there := map[string]remote.Item{}
	if err := c.b.below(ctx, func(it remote.Item, name string) error {
		if it.Kind != remote.Dir {
			order = append(order, name)
			there[name] = it
		}
		return nil
	}); err != nil {
		return err
	}
	if err := c.a.below(ctx, func(it remote.Item, name string) error {
		if it.Kind == remote.Dir {
			return nil
		}
		other, ok := there[name]
		if !ok {
			return c.tell(name, sheafv1.PlaceDifference_PLACE_DIFFERENCE_ONLY_A)
		}
		delete(there, name)
		same, sure, err := c.equal(ctx, it, other)
		switch {
		case err != nil:
			return fmt.Errorf("compare %q: %w", name, err)
		case !same:
			return c.tell(name, sheafv1.PlaceDifference_PLACE_DIFFERENCE_DIFFERS)
		case !sure:
			c.bySize++
		}
		c.same++
		return nil
	}); err != nil {
		return err
	}
	for _, name := range order {
		if _, ok := there[name]; ok {
			if err := c.tell(name, sheafv1.PlaceDifference_PLACE_DIFFERENCE_ONLY_B); err != nil {
				return err
			}
		}
	}
	return nil
}

// equal reports whether two things are the same, and whether that is sure.
func (c *checking) equal(ctx context.Context, a, b remote.Item) (same, sure bool, err error) {
	switch {
	case a.Kind != b.Kind || a.Size != b.Size:
		return false, true, nil
	case a.Kind == remote.Symlink:
		return a.Target == b.Target, true, nil
	case a.Kind != remote.File:
		return true, false, nil
	}
	if same, known := sameHash(a, b); known {
		return same, true, nil
	}
	if !c.read {
		return true, false, nil
	}
	var sums [2][sha256.Size]byte
	for i, x := range []struct {
		t  remote.Tree
		it remote.Item
	}{{c.a.tree, a}, {c.b.tree, b}} {
		r, err := x.t.Open(ctx, x.it.Path, 0, -1, x.it.Version)
		if err != nil {
			return false, false, err
		}
		h := sha256.New()
		_, err = io.Copy(h, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return false, false, err
		}
		sums[i] = [sha256.Size]byte(h.Sum(nil))
	}
	return sums[0] == sums[1], true, nil
}
