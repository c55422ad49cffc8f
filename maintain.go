package sheaf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/gc"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
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
// all that any head or kept snapshot names is there.
func (d *Drive) Verify(ctx context.Context, p Progress) (VerifyReport, error) {
	var r VerifyReport
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
	for f, err := range d.store.Verify(ctx, p) {
		if err != nil {
			return r, err
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
	return r, d.reachable(ctx, &r)
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
// read with their packs.
func (d *Drive) reachable(ctx context.Context, r *VerifyReport) error {
	seen, missing := nodes{}, map[chunk.ID]struct{}{}
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
				return err
			})
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.add(Finding{Reason: fmt.Sprintf("%s: %v", root.name, err), Err: err})
		}
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
			if !yield(root{name: "head of " + h.Device.String(), ref: h.Root}, err) {
				return
			}
			if err != nil {
				continue
			}
			s, err := manifest.GetSnapshot(ctx, d.store, h.Root)
			if err != nil {
				if !yield(root{name: "snapshot of " + h.Device.String()}, err) {
					return
				}
				continue
			}
			for k, err := range manifest.Kepts(ctx, d.store, s.History) {
				if !yield(root{name: "kept snapshot " + k.Dot.String(), ref: k.Root}, err) {
					return
				}
			}
		}
		d.mu.Lock()
		var past []chunk.Ref
		for ref := range d.past {
			past = append(past, ref)
		}
		d.mu.Unlock()
		for _, ref := range past {
			if !yield(root{name: "snapshot in use", ref: ref}, nil) {
				return
			}
		}
	}
}

// GCReport is what GC did, in bytes of packs.
type GCReport struct {
	Live, Freed, Kept int64 // bytes of live chunks; of packs that are gone; of dead chunks that stay for now
	Condemned         int64 // chunks that were found dead and wait for the second phase
	Packs             int64 // packs removed
}

// keepHeads is how many of its own heads a device leaves in the Bucket.
const keepHeads = 64

// GC frees what nothing reaches, while the drive is in use, in two phases. In the
// first, what is not reached is condemned. In the second, what is condemned and still is not
// reached goes; with other devices on the drive, that is days later, when they had the time to tell of what
// they wrote meanwhile.
func (d *Drive) GC(ctx context.Context, p Progress) (GCReport, error) {
	var report GCReport
	if err := d.tree.Commit(ctx); err != nil {
		return report, err
	}
	for phase := range 2 {
		grace := gc.DefaultGrace
		alone, err := d.alone(ctx)
		if err != nil {
			return report, fmt.Errorf("look for other devices: %w", err)
		}
		if alone {
			grace = 0
		}
		r, err := d.sweep(ctx, gc.Options{Grace: grace}, p)
		if err != nil {
			return report, err
		}
		report.Live, report.Condemned = r.LiveBytes, r.Waiting
		report.Kept = r.WaitingBytes + r.DeadBytesKept
		report.Freed += r.FreedBytes
		report.Packs += r.PacksRemoved
		if phase == 0 && r.Waiting == 0 {
			break
		}
	}
	if err := d.refs.Prune(ctx, keepHeads); err != nil {
		return report, fmt.Errorf("prune heads: %w", err)
	}
	return report, nil
}

// alone reports whether this is the only device of the drive. Others may have joined, and put heads, since the drive
// was opened: these are known afterwards. Heads that are there but cannot be read are an error, for they may name anything.
func (d *Drive) alone(ctx context.Context) (bool, error) {
	if err := d.refs.Poll(ctx); err != nil {
		return false, asDamage(err)
	}
	known := d.account.Members()
	m, err := known.Reload(ctx, d.o.Bucket)
	if err == nil {
		err = m.Follows(known.Tips())
	}
	active := 0
	if err == nil {
		for range m.Active() {
			active++
		}
	}
	return active == 1, asDamage(err)
}

// sweep is one cycle.
func (d *Drive) sweep(ctx context.Context, o gc.Options, p Progress) (gc.Report, error) {
	cycle, err := d.store.BeginGC(ctx)
	if err != nil {
		return gc.Report{}, err
	}
	defer cycle.Abort()
	// What a commit has stored before the cycle began is named by no head yet.
	base, more := d.tree.Roots()
	var done int64
	seen := nodes{}
	mark := func(ref chunk.Ref) error {
		return manifest.Walk(ctx, d.store, ref, seen.met, func(ref chunk.Ref) error {
			cycle.Mark(ref.ID)
			if done++; p != nil && done%1000 == 0 {
				p(done, 0)
			}
			return ctx.Err()
		})
	}
	for _, ref := range append(more, base) {
		if err := mark(ref); err != nil {
			return gc.Report{}, fmt.Errorf("mark: %w", err)
		}
	}
	for root, err := range d.roots(ctx) {
		if err == nil {
			err = mark(root.ref)
		}
		if err != nil {
			// What cannot be read may name anything: nothing is freed.
			return gc.Report{}, fmt.Errorf("mark %s: %w", root.name, err)
		}
	}
	return cycle.Sweep(ctx, o)
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
	e, err := d.entryAt(ctx, s.Root, names)
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
