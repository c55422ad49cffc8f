package sheaf

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// pinPrefix begins the keys of the database under which it is kept what is pinned on this device.
const pinPrefix = "pin/"

// A Pin is a path whose content stays on this device. What is moved to that path, or written below it, is pinned from then on, and what
// is moved away is not any more.
type Pin struct {
	Path string
	// Paused says that fetching was cancelled: what is here stays, and no more is fetched until it is pinned again.
	Paused bool
}

// storedPin is a Pin in the database: a path may be no text.
type storedPin struct {
	Path   []byte `json:"path"`
	Paused bool   `json:"paused,omitempty"`
}

// Pins returns what is pinned on this device, in the byte order of the paths.
func (d *Drive) Pins(ctx context.Context) ([]Pin, error) {
	var all []Pin
	for p, err := range d.db.Scan(ctx, []byte(pinPrefix), []byte("pin0")) {
		var s storedPin
		if err == nil {
			if err = json.Unmarshal(p.Value, &s); err != nil {
				err = fmt.Errorf("%w: %w", kv.ErrDamaged, err)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read what is pinned: %w", err)
		}
		all = append(all, Pin{string(s.Path), s.Paused})
	}
	slices.SortFunc(all, func(a, b Pin) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// setPins changes what is pinned, durably.
func (d *Drive) setPins(ctx context.Context, change func(tx kv.Tx) error) error {
	err := d.db.Update(ctx, change)
	if err == nil {
		err = d.db.Sync(ctx)
	}
	if err != nil {
		return fmt.Errorf("keep what is pinned: %w", err)
	}
	return nil
}

// pinKey returns the key of a pin: a path may be longer than a key.
func pinKey(path string) []byte {
	sum := blake3.Sum256([]byte(path))
	return []byte(pinPrefix + hex.EncodeToString(sum[:]))
}

func putPins(paths []string, paused bool) func(tx kv.Tx) error {
	return func(tx kv.Tx) error {
		for _, p := range paths {
			b, err := json.Marshal(storedPin{[]byte(p), paused})
			if err == nil {
				err = tx.Put(pinKey(p), b)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// Pin keeps what is at the paths, and all below, on this device: it notes that, durably, and fetches what is not here, checked. After an error, or a
// crash, the open drive goes on with it, and the same Pin does. With a replica it also fetches what is written there later. progress, if
// not nil, is told how many bytes of those that are to be fetched are here.
func (d *Drive) Pin(ctx context.Context, paths []string, progress Progress) error {
	for _, p := range paths {
		if _, err := vfs.Walk(ctx, d.FS(), p); err != nil {
			return fmt.Errorf("pin %q: %w", p, err)
		}
	}
	if err := d.setPins(ctx, putPins(paths, false)); err != nil {
		return err
	}
	if d.Pending() > 0 { // what is in the journal only is found in the tree that is committed
		if err := d.Commit(ctx); err != nil {
			return err
		}
	}
	return d.keepPinned(ctx, progress)
}

// PausePin notes that no more is to be fetched of what is pinned by the paths, until they are pinned again. What is here stays.
func (d *Drive) PausePin(ctx context.Context, paths ...string) error {
	return d.setPins(ctx, putPins(paths, true))
}

// Unpin lets go what is pinned by the paths, and returns how many bytes need not stay any more. A path that is none of Pins is an error that
// wraps fs.ErrNotExist; then nothing is changed.
func (d *Drive) Unpin(ctx context.Context, paths ...string) (released int64, err error) {
	all, err := d.Pins(ctx)
	if err != nil {
		return 0, err
	}
	for _, p := range paths {
		if !slices.ContainsFunc(all, func(pin Pin) bool { return pin.Path == p }) {
			return 0, fmt.Errorf("unpin %q: it is not pinned: %w", p, fs.ErrNotExist)
		}
	}
	err = d.setPins(ctx, func(tx kv.Tx) error {
		for _, p := range paths {
			if err := tx.Delete(pinKey(p)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || d.replicas == nil {
		return 0, err
	}
	if err := d.replicas.pinning.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	defer d.replicas.pinning.Release(1)
	_, released, err = d.markPinned(ctx)
	if isAway(err) { // of another pin something is not here yet: what may go is found out when it is
		return 0, nil
	}
	return released, err
}

// keepPinned fetches what is pinned and not here.
func (d *Drive) keepPinned(ctx context.Context, progress Progress) error {
	if d.replicas == nil {
		return nil // all is here
	}
	if err := d.replicas.pinning.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("fetch what is pinned: %w", err)
	}
	defer d.replicas.pinning.Release(1)
	g, _, err := d.markPinned(ctx)
	if err == nil && g.unlisted { // what the replicas have was forgotten: then nothing of it would stay in the cache
		if err = d.replicas.engine.Look(ctx); err == nil {
			g, _, err = d.markPinned(ctx)
		}
	}
	if err == nil {
		err = d.fetchChunks(ctx, g.missing, progress)
	}
	if err != nil {
		return fmt.Errorf("fetch what is pinned: %w", err)
	}
	return nil
}

// markPinned has the cache keep the packs in which what is pinned lies, and no others, and returns what of it is to be fetched. It
// needs the lock of pinning.
func (d *Drive) markPinned(ctx context.Context) (g *gathering, released int64, err error) {
	pins, err := d.Pins(ctx)
	if err != nil {
		return nil, 0, err
	}
	c := &Custodian{d: d, packs: map[pack.Name]tier.Holding{}}
	g = &gathering{c: c, met: map[chunk.ID]struct{}{}}
	if len(pins) > 0 {
		head, err := d.head(ctx)
		if err != nil {
			return nil, 0, err
		}
		s, err := d.snapshot(ctx, head)
		if err != nil {
			return nil, 0, err
		}
		slices.SortStableFunc(pins, func(a, b Pin) int { // what lies below two pins is fetched if one of them is not paused
			switch {
			case a.Paused == b.Paused:
				return 0
			case b.Paused:
				return -1
			}
			return 1
		})
		for _, p := range pins {
			g.idle = p.Paused
			if err := g.pin(ctx, s.Root, p.Path); err != nil {
				return nil, 0, err
			}
		}
	}
	var keep []blob.Name
	for name, h := range c.packs {
		if !h.Own {
			keep = append(keep, blob.Name(name.BlobName()))
		}
	}
	released, err = d.o.Replication.Tier.Keep(keep...)
	return g, released, err
}

// located is a chunk that is not here, and where it lies.
type located struct {
	ref chunk.Ref
	at  chunkstore.Place
}

// gathering collects the chunks of what is pinned.
type gathering struct {
	c       *Custodian
	met     map[chunk.ID]struct{}
	idle    bool // what is met is kept, but not fetched
	missing []located
	// unlisted says that some of it is not known to be at any replica.
	unlisted bool
}

// pin gathers what is at a path, all below, and the directories that lead there. A path that is not there has nothing.
func (g *gathering) pin(ctx context.Context, root chunk.Ref, path string) error {
	e := &manifest.Entry{Kind: vfs.KindDir, Node: root}
	if path != "" {
		for name := range strings.SplitSeq(path, "/") {
			if e.Kind != vfs.KindDir || e.Node.IsZero() {
				return nil
			}
			for _, err := range manifest.Entries(ctx, g, e.Node, "") {
				if err != nil {
					return err
				}
			}
			sub, ok, err := manifest.Lookup(ctx, g, e.Node, name)
			if err != nil || !ok {
				return err
			}
			e = &sub
		}
	}
	if e.Node.IsZero() {
		return nil
	}
	var failed error
	seen := func(ref chunk.Ref) bool {
		if err := g.note(ctx, ref); err != nil && failed == nil {
			failed = err
		}
		return failed != nil || ref.Kind == chunk.Data || g.idle && !g.here(ctx, ref)
	}
	if !seen(e.Node) {
		if err := manifest.Walk(ctx, g, e.Node, seen, func(chunk.Ref) error { return failed }); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// Get implements manifest.Source: it notes what it is asked for, and reads it from where it is.
func (g *gathering) Get(ctx context.Context, dst []byte, ref chunk.Ref) ([]byte, error) {
	if err := g.note(ctx, ref); err != nil {
		return dst, err
	}
	return g.c.d.store.Get(ctx, dst, ref)
}

// note notes a chunk.
func (g *gathering) note(ctx context.Context, ref chunk.Ref) error {
	if _, ok := g.met[ref.ID]; ok {
		return nil
	}
	at, h, err := g.c.find(ctx, ref)
	if errors.Is(err, errElsewhere) {
		return fmt.Errorf("%w: %s", chunkstore.ErrMissing, ref)
	}
	if err != nil {
		return err
	}
	g.met[ref.ID] = struct{}{}
	if !at.Open && !h.Here(at.Off, at.Len) && !g.idle {
		g.missing = append(g.missing, located{ref, at})
		g.unlisted = g.unlisted || h.Size < 0
	}
	return nil
}

func (g *gathering) here(ctx context.Context, ref chunk.Ref) bool {
	at, h, err := g.c.find(ctx, ref)
	return err == nil && (at.Open || h.Here(at.Off, at.Len))
}
