package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/gc"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// Compact merges small packs into fewer when there are many, and removes packs
// in which nothing is used any more. Chunks are copied as they are, sealed. The
// Store does it by itself after a Flush. It is safe to crash at any point: old packs
// are removed only when the new ones are durable, read back, and durably indexed.
//
// No pack is removed because of what the bucket once showed under its name. It must be proven: either this Store wrote
// it and nothing was ever located elsewhere that it holds, or all of it is read, has the hash that is its
// name, and its directory comes from these very bytes. If the index had other chunks in it, that is put right
// and the pack stays for this time. One pack is in memory at a time, besides two new ones.
func (s *Store) Compact(ctx context.Context) error {
	if err := s.checkOpen(); err != nil {
		return err
	}
	if err := s.lockMaintenance(ctx); err != nil {
		return fmt.Errorf("compact store: %w", err)
	}
	defer s.unlockMaintenance()
	for _, choose := range []func([]index.Pack) []index.Pack{gc.Dead, gc.Merge} {
		packs, err := s.ours(ctx)
		if err == nil {
			_, err = s.rewrite(ctx, choose(packs))
		}
		if err != nil {
			return fmt.Errorf("compact store: %w", err)
		}
	}
	return nil
}

// ours returns the packs that this Store may remove or write anew.
func (s *Store) ours(ctx context.Context) ([]index.Pack, error) {
	packs := s.x.Packs()
	if s.mine == nil {
		return packs, nil
	}
	mine, err := s.mine(ctx)
	if err != nil {
		return nil, fmt.Errorf("list packs of this device: %w", err)
	}
	return slices.DeleteFunc(packs, func(p index.Pack) bool {
		_, ok := mine[p.Name]
		return !ok
	}), nil
}

// rewriting is the copying of live chunks out of victims into new packs. It needs the
// maintenance lock. The new packs have the sizes that a filling gives them, as those of a flush.
type rewriting struct {
	s    *Store
	fill filling
	held map[*openPack]struct{} // new packs in memory
	at   map[chunk.ID]origin    // of the chunks in these
	left map[pack.Name]int      // how many of these each victim has
	done []pack.Name            // victims of which everything is in packs that are written, or in held

	file    []byte // of the victim
	sealed  []byte
	written []int64 // sizes of new packs
	removed []pack.Name
}

// An origin is where a chunk is located, and which victims have it.
type origin struct {
	located pack.Name
	victims []pack.Name
}

// rewrite copies what is live in the victims into new packs and removes them.
// A victim that is damaged, or has a chunk that is, stays where it is. If a victim has a second
// copy of a chunk that is located elsewhere, that place is read and checked before the copy
// goes; should it be damaged, or in a pack that is not proven, the copy takes its place.
func (s *Store) rewrite(ctx context.Context, victims []index.Pack) (*rewriting, error) {
	r := &rewriting{s: s, held: map[*openPack]struct{}{}, at: map[chunk.ID]origin{}, left: map[pack.Name]int{}}
	err := r.run(ctx, victims)
	for p := range r.held { // after an error, or because all that was in it is in another
		s.unpin(p)
	}
	return r, err
}

func (r *rewriting) run(ctx context.Context, victims []index.Pack) error {
	for _, v := range victims {
		whole, err := r.copy(ctx, v)
		if err != nil {
			return err
		}
		if whole {
			r.done = append(r.done, v.Name)
		}
	}
	packs, err := r.fill.settle()
	if err != nil {
		return err
	}
	for _, p := range packs {
		r.held[p] = struct{}{}
	}
	for _, p := range packs {
		if err := r.emit(ctx, p); err != nil {
			return err
		}
	}
	return r.retire(ctx)
}

// copy copies what is live in one victim. It reports whether that was all.
func (r *rewriting) copy(ctx context.Context, v index.Pack) (whole bool, err error) {
	p, known := r.s.x.Pack(v.Name)
	if !known || v.Live == 0 && p.Live > 0 {
		return false, nil // is not what it was when it was chosen
	}
	if p.Sure() && p.Live == 0 && !p.Doubles {
		return true, nil // garbage collection has removed each of its chunks
	}
	var entries []pack.Entry
	r.file, entries, err = r.s.victim(ctx, p, r.file)
	if err != nil || entries == nil {
		return false, err
	}
	whole = true
	for _, e := range entries {
		sound, err := r.entry(ctx, p, e)
		if err != nil {
			return false, err
		}
		whole = whole && sound
	}
	return whole, nil
}

// entry copies one chunk of the victim p, whose bytes are in r.file, if it is needed. It reports false if it is damaged.
func (r *rewriting) entry(ctx context.Context, p index.Pack, e pack.Entry) (sound bool, err error) {
	loc, ok, err := r.s.x.Lookup(ctx, e.ID)
	if err != nil {
		return false, err
	}
	if !ok {
		return true, nil // was removed, for the pack is proven
	}
	if o, ok := r.at[e.ID]; ok { // has been copied, but may still be located here
		o.victims = append(o.victims, p.Name)
		r.at[e.ID] = o
		r.left[p.Name]++
		return true, nil
	}
	if other, ok := r.s.x.Pack(loc.Pack); loc.Pack != p.Name && ok && other.Sure() {
		sound, err := r.read(ctx, e.ID, loc)
		if err != nil {
			return false, err
		}
		if sound {
			return true, nil
		}
		r.s.log.Warn("a chunk is damaged and is replaced by its second copy", "pack", loc.Pack, "chunk", e.ID)
	}
	sealed := r.file[e.Off : e.Off+e.Len]
	if chunk.ID(blake3.Sum256(sealed)) != e.ID {
		r.s.log.Warn("a chunk is damaged, its pack stays as it is", "pack", p.Name, "chunk", e.ID)
		return false, nil
	}
	return true, r.add(ctx, origin{located: loc.Pack, victims: []pack.Name{p.Name}}, e, sealed)
}

// read reads the sealed chunk into r.sealed and reports whether it is the one that the
// ID names.
func (r *rewriting) read(ctx context.Context, id chunk.ID, loc index.Location) (sound bool, err error) {
	r.sealed = slices.Grow(r.sealed[:0], int(loc.Len))[:loc.Len]
	err = r.s.readBlob(ctx, blob.Name(loc.Pack.BlobName()), r.sealed, int64(loc.Off))
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return chunk.ID(blake3.Sum256(r.sealed)) == id, nil
}

// add appends a sealed chunk to a new pack.
func (r *rewriting) add(ctx context.Context, from origin, e pack.Entry, sealed []byte) error {
	slot, err := r.s.entropy.coin()
	if err != nil {
		return err
	}
	at, leaves := r.fill.place(slot, len(sealed))
	for leaves != nil {
		if err := r.emit(ctx, leaves); err != nil {
			return err
		}
		at, leaves = r.fill.place(slot, len(sealed))
	}
	p := r.fill.open[at]
	if p == nil {
		buf, err := r.s.waitForBuffer(ctx)
		if err != nil {
			return err
		}
		p = newOpenPack(buf)
		r.fill.open[at] = p
		r.held[p] = struct{}{}
	}
	if _, err := p.w.Add(e, sealed); err != nil {
		return err
	}
	r.fill.sum += pack.Cost(len(sealed))
	r.at[e.ID] = from
	for _, v := range from.victims {
		r.left[v]++
	}
	return nil
}

// emit makes a new pack durable, reads it back, moves its chunks there in the index, and
// removes the victims that are through.
func (r *rewriting) emit(ctx context.Context, p *openPack) error {
	s := r.s
	file, name, err := p.w.Finish(&s.newest().PackDir, p.size, &s.entropy)
	if err != nil {
		return err
	}
	if err := s.putPack(ctx, name, file); err != nil {
		return err
	}
	if err := s.confirm(ctx, name, file); err != nil {
		return err
	}
	moved := make([]index.Moved, 0, len(p.w.Entries()))
	for _, e := range p.w.Entries() {
		moved = append(moved, index.Moved{Entry: e, From: r.at[e.ID].located})
	}
	if err := s.x.Move(ctx, name, int64(len(file)), index.MarkOf(file), moved, nil); err != nil {
		return spaceError(err)
	}
	for _, e := range p.w.Entries() {
		for _, v := range r.at[e.ID].victims {
			r.left[v]--
		}
		delete(r.at, e.ID)
	}
	r.written = append(r.written, int64(len(file)))
	delete(r.held, p)
	s.unpin(p)
	return r.retire(ctx)
}

// retire removes the victims that are through: nothing that they have is in held alone.
func (r *rewriting) retire(ctx context.Context) error {
	var through, wait []pack.Name
	for _, name := range r.done {
		if r.left[name] == 0 {
			through = append(through, name)
		} else {
			wait = append(wait, name)
		}
	}
	r.done = wait
	if len(through) == 0 {
		return nil
	}
	gone, err := r.s.removePacks(ctx, through)
	r.removed = append(r.removed, gone...)
	return err
}

// waitForBuffer returns memory for one pack. If all of it is taken by packs that wait to be full, it flushes the Store: to wait
// for somebody to do that would be to wait for ever where nobody writes any more.
func (s *Store) waitForBuffer(ctx context.Context) ([]byte, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		buf, wait, failure := s.bufferLocked(), s.changed, len(s.failed) > 0
		stuck := len(s.uploads) == 0 && !s.flushing
		s.mu.Unlock()
		if buf != nil {
			return buf, nil
		}
		if failure {
			return nil, errors.New("no memory for a pack while packs wait for the bucket")
		}
		if stuck {
			if err := s.Flush(ctx); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// removePacks forgets packs that are proven and that nothing is located in, durably, and then removes
// them from the bucket. It returns those that are removed: others stay. It needs the maintenance lock.
//
// The order matters: an index that names a removed pack would take bytes for stored
// that are gone. A pack that stays though it is forgotten is only learned again, as a ghost: what is in it can be read, but
// nobody takes it for stored, and what is still needed of it is copied before it is removed once more.
func (s *Store) removePacks(ctx context.Context, names []pack.Name) (removed []pack.Name, err error) {
	s.mu.Lock()
	for _, name := range names {
		s.removed[name] = struct{}{}
	}
	s.mu.Unlock()
	buried, err := s.x.Bury(ctx, time.Now(), names...)
	if err != nil {
		return nil, spaceError(err)
	}
	s.mu.Lock()
	for _, name := range names {
		if !slices.Contains(buried, name) {
			delete(s.removed, name)
		}
	}
	s.mu.Unlock()
	if err := s.x.Sync(ctx); err != nil {
		return nil, spaceError(err)
	}
	blobs := make([]blob.Name, len(buried))
	for i, name := range buried {
		blobs[i] = blob.Name(name.BlobName())
	}
	if err := s.bucket.Remove(ctx, blobs...); err != nil {
		return nil, err
	}
	return buried, nil
}
