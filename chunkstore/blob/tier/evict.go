package tier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// evictedKey is under which the log of what was evicted has its names: there is one place of which it tells, this device.
const evictedKey = "own"

// A Proof shows that a remote has a pack, for example by reading it back and comparing its hash with its name; nil if it
// does. Nothing less than a Proof lets a pack go from where it was written.
type Proof func(ctx context.Context, remote Remote, name blob.Name, size int64) error

// Evict removes packs from Local, to make room, each only if at least copies (1 or more) remotes that are set have it: by the
// catalog, and by a proof for each of them, now. It is not removed anywhere else, and can be read from the remotes as before. A pack that
// is pinned, or not proven, stays; the error joins an ErrNotProven for each of these. It returns how many bytes are free now.
//
// What is evicted stays this device's: Own goes on to list it, and reads it from the remotes, so that it is brought to places that lack it, and collected
// when nothing needs it. That is noted, durably, before it goes. Evict is safe for concurrent use; that no remote which counts is given up meanwhile is for the caller.
func (t *Tier) Evict(ctx context.Context, copies int, proof Proof, names ...blob.Name) (freed int64, err error) {
	if copies < 1 || proof == nil {
		return 0, fmt.Errorf("evict packs: at least one copy and a proof are needed: %w", fs.ErrInvalid)
	}
	var errs []error
	for _, name := range names {
		n, err := t.evict(ctx, copies, proof, name)
		if ctx.Err() != nil {
			return freed, fmt.Errorf("evict packs: %w", ctx.Err())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("evict %s: %w", name, err))
		}
		freed += n
	}
	return freed, errors.Join(errs...)
}

func (t *Tier) evict(ctx context.Context, copies int, proof Proof, name blob.Name) (int64, error) {
	hash, ok := catalog.PackHash(name)
	if !ok {
		return 0, fmt.Errorf("it is no pack: %w", blob.ErrName)
	}
	if t.cache.isPinned(hash) {
		return 0, fmt.Errorf("%w: it is pinned", ErrNotProven)
	}
	size := int64(-1)
	for info, err := range t.o.Local.List(ctx, name) {
		if err != nil {
			return 0, err
		}
		if info.Name == name {
			size = info.Size
		}
	}
	if size < 0 {
		return 0, nil
	}
	t.mu.Lock()
	remotes := t.remotes
	t.mu.Unlock()
	proven := map[string]bool{}
	var errs []error
	for _, r := range remotes {
		table, _ := t.known.of(r.Name)
		if have, ok := table.Size(name); !ok || have != size || proven[r.Name] {
			continue
		}
		if err := proof(ctx, r, name, size); err != nil {
			errs = append(errs, fmt.Errorf("remote %s: %w", r.Name, err))
			continue
		}
		if proven[r.Name] = true; len(proven) == copies {
			if err := t.evicted.note([]string{evictedKey}, []blob.Name{name}); err != nil {
				return 0, fmt.Errorf("note it: %w", err)
			}
			return size, t.o.Local.Remove(ctx, name)
		}
	}
	return 0, errors.Join(append([]error{fmt.Errorf("%w: %d of %d", ErrNotProven, len(proven), copies)}, errs...)...)
}

// Kept yields the packs that are in Local, in the order of their names: not those that were evicted.
func (t *Tier) Kept(ctx context.Context) iter.Seq2[blob.Info, error] {
	return t.o.Local.List(ctx, catalog.Packs)
}

// Evicted reports whether a pack of this device was evicted, and is not to be removed. It may be in Local again: who wants to know looks there first.
func (t *Tier) Evicted(name blob.Name) bool { return t.evicted.has(name) && !t.removed.has(name) }

// Evicts reports whether any pack was evicted.
func (t *Tier) Evicts() bool { return t.evicted.any() }

// Own returns Local, with the packs that were evicted as if they were there: who brings all that this device has put elsewhere, or asks which
// packs are its own, goes by it. What was evicted is read from the remotes, through the cache.
func (t *Tier) Own() blob.Bucket { return own{t} }

// own is what Own returns.
type own struct{ t *Tier }

func (o own) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	return o.t.Put(ctx, name, r, size)
}

func (o own) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	r, err := o.t.o.Local.Get(ctx, name, off, n)
	if err != nil && errors.Is(err, fs.ErrNotExist) && o.t.Evicted(name) {
		return o.t.getFar(ctx, name, off, n)
	}
	return r, err
}

func (o own) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		var m merge
		defer m.stop()
		m.add(o.t.o.Local.List(ctx, prefix))
		m.add(o.t.away(prefix))
		for {
			info, err, ok := m.next()
			if !ok || !yield(info, err) || err != nil {
				return
			}
		}
	}
}

func (o own) Remove(ctx context.Context, names ...blob.Name) error {
	if err := o.t.evicted.done(evictedKey, names); err != nil {
		return fmt.Errorf("note removed blobs: %w", err)
	}
	return o.t.o.Local.Remove(ctx, names...)
}

// away yields what was evicted, in order. What no catalog has, as when these were deleted, is shown again when they were learned.
func (t *Tier) away(prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for _, name := range t.evicted.under(evictedKey, prefix) {
			if t.removed.has(name) {
				continue
			}
			if _, size := t.sources(name); size >= 0 && !yield(blob.Info{Name: name, Size: size}, nil) {
				return
			}
		}
	}
}
