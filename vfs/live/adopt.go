package live

import (
	"context"
	"errors"
	"fmt"

	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// How a tree that is in use takes over what other devices did:
//
//  1. All is committed, and the committed state joined with theirs, while the tree is written on.
//  2. The gate is closed: nobody changes anything. If something was changed meanwhile, it begins anew; the last of
//     several tries does all of it behind the closed gate.
//  3. A new segment of the journal begins, so that no record was made on the old state, and the joined state is
//     published as the newest of this device.
//  4. What is in memory of the tree is made what the joined state says: under one lock, so that nobody sees a
//     half of it. Nodes stay who they are, wherever their entries went, for kernels and handles have them.
//
// A file that is open for writing is the work of whoever writes it. When others replaced its bytes or removed it, it counts
// as edited here, though nothing was written yet: then the join keeps both, and what is written later goes to this one's.
//
// A crash before the head is published leaves the committed state, and after it the joined one, each with a journal
// that lies on it.

// adoptTries is how often Adopt works beside the writers. Then they wait for it.
const adoptTries = 4

// Adopt takes over the work of others. join gets the last committed state and returns the one that it and theirs come to, or
// ok false if there is nothing new; it may be called several times. Adopt reports whether the tree changed. After an error the tree is as
// it was, unless the error is of Publish: then it is not known whether the head was put, as after a Commit.
func (f *FS) Adopt(ctx context.Context, join func(ctx context.Context, base manifest.Snapshot) (next manifest.Snapshot, ok bool, err error)) (bool, error) {
	if err := f.usable(); err != nil {
		return false, err
	}
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	// What the join stores is named by nothing until the head has moved.
	defer f.o.Store.Hold()()
	a := &adoption{f: f, join: join}
	for try := range adoptTries {
		done, err := a.try(ctx, false)
		if err != nil {
			return false, fmt.Errorf("adopt (try %d): %w", try+1, err)
		}
		if done {
			return a.changed, nil
		}
	}
	f.gate.Lock()
	defer f.gate.Unlock()
	for range adoptTries {
		done, err := a.try(ctx, true)
		if err != nil {
			return false, fmt.Errorf("adopt: %w", err)
		}
		if done {
			return a.changed, nil
		}
	}
	return false, errors.New("adopt: files that are open for writing do not come to rest")
}

// An adoption is one Adopt under way.
type adoption struct {
	f       *FS
	join    func(context.Context, manifest.Snapshot) (manifest.Snapshot, bool, error)
	changed bool
	seen    search
}

// try does all of it once. done is false if the tree was changed meanwhile, or files that are written had to be marked as edited.
func (a *adoption) try(ctx context.Context, gated bool) (done bool, err error) {
	f := a.f
	if err := f.commitLocked(ctx, nil); err != nil {
		return false, err
	}
	next, ok, err := a.join(ctx, f.base)
	if err != nil || !ok {
		return true, err
	}
	kept, err := keptOf(ctx, f.o.Store, next)
	if err != nil {
		return false, err
	}
	// Once beside the writers: it finds what they have open, and brings what is read again under the lock into memory.
	a.seen = search{found: map[manifest.NodeID]*target{}, gone: map[manifest.NodeID]bool{}}
	p := &plan{f: f, seen: a.seen}
	if err := p.make(ctx, f.base, next); err != nil {
		return false, err
	}
	if len(p.touch) > 0 {
		f.mu.RLock()
		f.editedHere(p.touch)
		f.mu.RUnlock()
		return false, nil
	}
	if !gated {
		f.gate.Lock()
		defer f.gate.Unlock()
	}
	if f.isDirty() {
		return false, nil
	}
	return a.finish(ctx, next, kept)
}

func keptOf(ctx context.Context, st Store, s manifest.Snapshot) ([]manifest.Kept, error) {
	var kept []manifest.Kept
	for k, err := range manifest.Kepts(ctx, st, s.History) {
		if err != nil {
			return nil, fmt.Errorf("load history: %w", translate(err))
		}
		kept = append(kept, k)
	}
	return kept, nil
}

func (f *FS) isDirty() bool {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	return len(f.dirty) > 0
}

// editedHere makes files count as edited. f.mu is held, for reading at least.
func (f *FS) editedHere(files []*node) {
	for _, n := range files {
		n.mu.Lock()
		n.dirty = true
		n.mu.Unlock()
		f.mark(n)
	}
}

// finish publishes next and shows it. The gate is closed and nothing is dirty.
func (a *adoption) finish(ctx context.Context, next manifest.Snapshot, kept []manifest.Kept) (done bool, err error) {
	f := a.f
	f.mu.Lock()
	cut, err := f.jr.Rotate()
	if err == nil {
		f.gen.Add(1) // where nodes lie is to be told anew
	}
	f.mu.Unlock()
	if err != nil {
		return false, translate(err)
	}
	next.Device, next.Time, next.Mark = f.o.Device, f.o.Now(), cut
	ref, err := manifest.PutSnapshot(ctx, f.o.Store, next)
	if err == nil {
		err = f.o.Store.Flush(ctx)
	}
	if err == nil && f.o.Adopting != nil {
		err = f.o.Adopting(ctx, ref)
	}
	if err != nil {
		return false, translate(err)
	}
	f.mu.Lock()
	p := &plan{f: f, seen: a.seen, locked: true}
	err = p.make(ctx, f.base, next)
	if err != nil || p.unknown || len(p.touch) > 0 {
		// Files were opened, or looked up, since the plan was made.
		f.editedHere(p.touch)
		f.mu.Unlock()
		return false, err
	}
	// From here on it is done or not; a caller that goes away must not leave it in between.
	if err := f.o.Publish(context.WithoutCancel(ctx), f.baseRef, ref, next); err != nil {
		// The head may be there in spite of the error, and then it is one that the tree knows nothing of.
		f.mu.Unlock()
		return false, translate(err)
	}
	p.apply(next)
	p.mark()
	f.base, f.baseRef, f.kept = next, ref, kept
	f.keptNow.Store(&kept)
	f.files.Store(int64(next.Files))
	f.bytes.Store(int64(next.Bytes))
	f.mu.Unlock()
	a.changed = true
	p.tell()
	if err := f.jr.Trim(cut); err != nil {
		f.o.Log.Warn("journal was not trimmed", "err", err)
	}
	return true, nil
}
