package sheaf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/sync/replica"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// Progress is told how far a long work is: of total units, done are done. total is 0 while unknown.
type Progress func(done, total int64)

// Finding is one damaged or missing thing that Verify found.
type Finding struct {
	Blob   string // the blob or file, if it is one
	Path   string // the path in the tree, if it is known
	Reason string
	Err    error
}

// VerifyReport is what Verify did.
type VerifyReport struct {
	Packs, Chunks, Bytes int64
	Findings             []Finding
}

// maxFindings bounds a report. More findings than that are counted, not kept.
const maxFindings = 10_000

func (r *VerifyReport) add(f Finding) {
	if f.Reason == "" && f.Err != nil {
		f.Reason = f.Err.Error()
	}
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, f)
	}
}

// Verify reads and checks all that the store holds: every blob, every chunk, and that
// all that any head or kept snapshot names is there. Packs that no place gives now are left out if nothing needs them: a device that never comes back may have been
// the last one with garbage. If something does, all else is checked before the error, which wraps [blob.ErrTemporary]: nothing is known of these.
func (d *Drive) Verify(ctx context.Context, p Progress) (VerifyReport, error) {
	var r VerifyReport
	if err := d.catchUp(ctx); err != nil {
		return r, err
	}
	d.keysMu.Lock()
	for name, err := range d.account.Verify(ctx) {
		if err != nil {
			r.add(Finding{Blob: string(name), Err: err})
		}
	}
	d.keysMu.Unlock()
	if err := ctx.Err(); err != nil {
		return r, err
	}
	for name, err := range d.refs.Verify(ctx) {
		if err != nil {
			r.add(Finding{Blob: string(name), Err: err})
		}
	}
	u := unread{}
	for f, err := range d.store.Verify(ctx, p) {
		if err != nil {
			return r, err
		}
		if errors.Is(f.Err, blob.ErrTemporary) {
			u[f.Blob] = f.Err
			continue
		}
		r.add(Finding{Blob: string(f.Blob), Err: f.Err, Reason: f.String()})
	}
	if err := d.strays(ctx, &r); err != nil {
		return r, err
	}
	stats, err := d.store.Stats(ctx)
	if err != nil {
		return r, err
	}
	r.Packs, r.Chunks, r.Bytes = stats.Packs, stats.Chunks, stats.PackBytes
	return r, d.reachable(ctx, &r, u)
}

// unread are packs that were not to be had when the store was verified, and why.
type unread map[blob.Name]error

// has returns the pack among them in which a chunk lies, or "".
func (u unread) has(ctx context.Context, s treeStore, id chunk.ID) (blob.Name, error) {
	if len(u) == 0 {
		return "", nil
	}
	at, err := s.Where(ctx, id)
	if err != nil || at.Open {
		return "", err
	}
	name := blob.Name(at.Pack.BlobName())
	if u[name] == nil {
		return "", nil
	}
	return name, nil
}

// Expected returns the packs that a place should have because the drive needs them. It commits first. A place that has not been brought the
// newest state of every device, as far as this one knows them, is still to be brought what it lacks: then there are none.
func (d *Drive) Expected(ctx context.Context, place blob.Bucket) ([]blob.Name, error) {
	if err := d.catchUp(ctx); err != nil {
		return nil, err
	}
	need := d.store.Packs() // those that are put from here on may go there while it is looked at
	if err := d.Commit(ctx); err != nil {
		return nil, err
	}
	if behind, err := replica.Behind(ctx, d.o.Bucket, place); err != nil || behind {
		return nil, err
	}
	names := make([]blob.Name, 0, len(need))
	for _, p := range need {
		names = append(names, blob.Name(p.BlobName()))
	}
	return names, nil
}

// catchUp makes what other devices have put known, so that it is not taken for what nobody knows of. What is wrong with
// it, Verify finds.
func (d *Drive) catchUp(ctx context.Context) error {
	if d.replicas == nil {
		return nil
	}
	if err := d.hear(ctx); err != nil {
		return err
	}
	if err := d.rekey(d.refs.Members().Ring()); err != nil {
		return err
	}
	return d.store.Refresh(ctx)
}

// strays finds blobs that belong to nothing.
func (d *Drive) strays(ctx context.Context, r *VerifyReport) error {
	known := []string{"packs/", "index/", "heads/", "keys/", "drive/", "members/"}
	for info, err := range d.o.Bucket.List(ctx, "") {
		if err != nil {
			return fmt.Errorf("list bucket: %w", err)
		}
		mine := false
		for _, k := range known {
			mine = mine || strings.HasPrefix(string(info.Name), k)
		}
		if !mine {
			r.add(Finding{Blob: string(info.Name), Reason: "belongs to no part of the drive"})
		}
	}
	return nil
}

// reachable checks that all that is named is there. It reads the manifests; the bytes of files were
// read with their packs, but for those that u says. The error is that of a pack of these which is needed.
func (d *Drive) reachable(ctx context.Context, r *VerifyReport, u unread) error {
	seen, missing := nodes{}, map[chunk.ID]struct{}{}
	var away error
	for root, err := range d.roots(ctx) {
		if err == nil {
			err = manifest.Walk(ctx, d.store, root.ref, seen.met, func(ref chunk.Ref) error {
				if _, told := missing[ref.ID]; told {
					return nil
				}
				ok, err := d.store.Has(ctx, ref.ID)
				if err == nil && !ok {
					if len(missing) < maxFindings {
						missing[ref.ID] = struct{}{}
					}
					r.add(Finding{Reason: fmt.Sprintf("%s of %s is missing", ref, root.name), Err: chunkstore.ErrMissing})
				}
				if err != nil || !ok {
					return err
				}
				name, err := u.has(ctx, d.store, ref.ID)
				if err == nil && name != "" && away == nil {
					away = fmt.Errorf("%s of %s: %w", ref, root.name, u[name])
				}
				return err
			})
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, blob.ErrTemporary): // it is read from where it is not to be had now: that says nothing of it
			if away == nil {
				away = fmt.Errorf("%s: %w", root.name, err)
			}
		case err != nil:
			r.add(Finding{Reason: fmt.Sprintf("%s: %v", root.name, err), Err: err})
		}
	}
	if away != nil {
		return fmt.Errorf("verify: %d packs are not to be had now, and the drive needs what is in them: %w", len(u), away)
	}
	for name, err := range u {
		d.o.Log.Warn("a pack is not to be had, and nothing needs it", "blob", string(name), "err", err)
	}
	return nil
}

// nodes are the manifest nodes that a walk has met. Chunks of data, of which there are a hundred times as
// many, are not among them: they lead nowhere, so to meet one again costs less than to know it. That
// a node which others share is met once bounds how often.
type nodes map[chunk.ID]struct{}

// met reports whether ref is a node that was met before, and notes that it is now.
func (n nodes) met(ref chunk.Ref) bool {
	if ref.Kind == chunk.Data {
		return false
	}
	_, ok := n[ref.ID]
	n[ref.ID] = struct{}{}
	return ok
}

type root struct {
	name string
	ref  chunk.Ref
}

// roots yields all that keeps chunks alive: the newest head of each device with its history, and the
// trees of the past that are in use. What cannot be read is yielded with its error.
func (d *Drive) roots(ctx context.Context) func(yield func(root, error) bool) {
	return func(yield func(root, error) bool) {
		for h, err := range d.refs.Heads(ctx) {
			if err != nil {
				if !yield(root{name: "heads"}, err) {
					return
				}
				continue
			}
			for r, err := range d.rootsOf(ctx, h) {
				if !yield(r, err) {
					return
				}
			}
		}
		for _, ref := range d.inUse() {
			if !yield(root{name: "snapshot in use", ref: ref}, nil) {
				return
			}
		}
	}
}

// rootsOf yields what a head keeps alive.
func (d *Drive) rootsOf(ctx context.Context, h refs.Head) func(yield func(root, error) bool) {
	return func(yield func(root, error) bool) {
		if !yield(root{name: "head of " + h.Device.String(), ref: h.Root}, nil) {
			return
		}
		if c := h.Collection.Packs; !c.IsZero() && !yield(root{name: "collection of " + h.Device.String(), ref: c}, nil) {
			return
		}
		s, err := manifest.GetSnapshot(ctx, d.store, h.Root)
		if err != nil {
			yield(root{name: "snapshot of " + h.Device.String()}, err)
			return
		}
		for k, err := range manifest.Kepts(ctx, d.store, s.History) {
			if !yield(root{name: "kept snapshot " + k.Dot.String(), ref: k.Root}, err) {
				return
			}
		}
	}
}

// inUse returns the roots of the trees of the past that are in use.
func (d *Drive) inUse() (past []chunk.Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ref := range d.past {
		past = append(past, ref)
	}
	return past
}

// Stats is what the store holds.
type Stats struct {
	Packs, PackBytes   int64 // as they lie in the bucket
	Chunks, ChunkBytes int64 // sealed
	PlainBytes         int64 // before compression, after deduplication
	JournalBytes       int64
	Snapshots          int64
}

// Stats returns what the store holds.
func (d *Drive) Stats(ctx context.Context) (Stats, error) {
	s, err := d.store.Stats(ctx)
	return Stats{
		Packs: s.Packs, PackBytes: s.PackBytes, Chunks: s.Chunks, ChunkBytes: s.ChunkBytes, PlainBytes: s.PlainBytes,
		JournalBytes: d.tree.JournalSize(), Snapshots: int64(len(d.tree.Kept())),
	}, err
}

// Unique returns the bytes of files under path, as last committed: all; each chunk counted once; and
// these as they are stored.
func (d *Drive) Unique(ctx context.Context, path string) (logical, unique, stored int64, err error) {
	names, err := vfs.SplitPath(path)
	if err != nil {
		return 0, 0, 0, err
	}
	if err := d.tree.Commit(ctx); err != nil {
		return 0, 0, 0, err
	}
	h, err := d.refs.Head(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	s, err := manifest.GetSnapshot(ctx, d.store, h.Root)
	if err != nil {
		return 0, 0, 0, err
	}
	e, err := entryAt(ctx, d.store, s.Root, names)
	if err != nil {
		return 0, 0, 0, err
	}
	if e == nil {
		return 0, 0, 0, fmt.Errorf("measure %s: %w", path, fs.ErrNotExist)
	}
	if e.Kind == vfs.KindDir {
		for sub, err := range manifest.WalkTree(ctx, d.store, e.Node) {
			if err != nil {
				return 0, 0, 0, err
			}
			if sub.Entry.Kind == vfs.KindFile {
				logical += sub.Entry.Size
			}
		}
	} else {
		logical = e.Size
	}
	seen := map[chunk.ID]struct{}{}
	err = manifest.Walk(ctx, d.store, e.Node, func(ref chunk.Ref) bool {
		_, ok := seen[ref.ID]
		seen[ref.ID] = struct{}{}
		return ok
	}, func(ref chunk.Ref) error {
		if ref.Kind == chunk.Data {
			unique += int64(ref.Size)
		}
		n, err := d.store.SealedSize(ctx, ref.ID)
		stored += n
		return err
	})
	return logical, unique, stored, err
}

// SetPassphrase replaces the passphrase (an empty one removes it and keeps a
// key on this device instead). Nothing but the slot is written again.
func (d *Drive) SetPassphrase(ctx context.Context, passphrase []byte) error {
	d.keysMu.Lock()
	defer d.keysMu.Unlock()
	defer d.tellRemotes() // also if it failed in the midst: they follow what is so
	if len(passphrase) == 0 {
		// First the key, so that there is no moment in which nothing opens the drive here.
		if err := d.account.SaveDevice(d.o.Dir, d.device, true); err != nil {
			return err
		}
		return d.account.SetPassphrase(ctx, nil, d.o.Argon)
	}
	if err := d.account.SetPassphrase(ctx, passphrase, d.o.Argon); err != nil {
		return err
	}
	return d.account.SaveDevice(d.o.Dir, d.device, false)
}

// NewRecovery makes new recovery words and returns them. The old ones open the drive until RetireRecovery is told
// the new ones. If words come with an error, they may open the drive already.
func (d *Drive) NewRecovery(ctx context.Context) (string, error) {
	d.keysMu.Lock()
	defer d.keysMu.Unlock()
	return d.account.NewRecovery(ctx)
}

// RetireRecovery ends all recovery words but those that it is told: the new ones, once a person has seen them. If they are none
// that open the drive, the error is ErrPassphrase and nothing changes.
func (d *Drive) RetireRecovery(ctx context.Context, words string) error {
	d.keysMu.Lock()
	defer d.keysMu.Unlock()
	err := d.account.RetireRecovery(ctx, words)
	if errors.Is(err, keys.ErrWrongSecret) || errors.Is(err, keys.ErrWords) {
		return fmt.Errorf("%w: %w", ErrPassphrase, err)
	}
	return err
}
