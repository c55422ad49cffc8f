package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

const (
	// learners is how many directories of packs are read at once.
	learners = 4
	// learnFromIndex is how many unknown packs make it worth to ask the index blobs.
	learnFromIndex = 8
	// idle is how long the memory of packs is kept without use.
	idle = 2 * time.Second
)

// Refresh compares the index with the packs that are in the bucket: it learns
// those that it does not know, from index blobs or their own directories, and
// forgets those that are gone. A pack that cannot be read is left out and logged.
//
// What is learned is hearsay: see index.Pack. A bucket that says that a pack is gone, which is not, does no
// harm: the pack is forgotten, so nothing can remove it, and bytes that it has are stored anew; that its chunks are
// not known is no reason to remove anything. When it is shown again, all of its chunks are known again, and not
// condemned. Nor does a bucket that goes on to show a pack which this device has removed, under its
// name or another: it is a ghost, or left out, and nobody takes what is in it for stored. (Whether a pack was removed by
// another device, or by this one before it lost its database, a Store cannot know.)
func (s *Store) Refresh(ctx context.Context) error {
	if err := s.checkOpen(); err != nil {
		return err
	}
	if err := s.lockMaintenance(ctx); err != nil {
		return fmt.Errorf("refresh store: %w", err)
	}
	defer s.unlockMaintenance()
	return s.refresh(ctx)
}

// refresh needs the maintenance lock.
func (s *Store) refresh(ctx context.Context) error {
	before := s.x.Packs() // a pack that becomes known from here on is not taken for vanished
	present, err := s.listPacks(ctx, func(name blob.Name) error {
		s.log.Warn("a blob among the packs is none", "blob", name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("refresh store: %w", err)
	}
	known := make(map[pack.Name]bool, len(before))
	var gone []pack.Name
	for _, p := range before {
		known[p.Name] = true
		if _, ok := present[p.Name]; ok {
			continue
		}
		// A listing may be incomplete. Ask for the pack itself.
		away, err := s.isGone(ctx, p.Name)
		if err != nil {
			return fmt.Errorf("refresh store: %w", err)
		}
		if away {
			gone = append(gone, p.Name)
		}
	}
	unknown := map[pack.Name]int64{}
	for name, size := range present {
		if !known[name] {
			unknown[name] = size
		}
	}
	if err := s.learn(ctx, unknown); err != nil {
		return fmt.Errorf("refresh store: %w", err)
	}
	if len(gone) > 0 {
		if err := s.forget(ctx, gone); err != nil {
			return fmt.Errorf("refresh store: %w", err)
		}
	}
	return nil
}

// listPacks returns the sizes of all packs in the bucket, without those that
// this Store has removed, which a slow bucket may go on to show, and those that it is
// about to enter into the index itself: Compact could else take such a pack, known
// but with nothing located in it yet, for a dead one. stray is given the blobs that
// are none.
func (s *Store) listPacks(ctx context.Context, stray func(blob.Name) error) (map[pack.Name]int64, error) {
	present := map[pack.Name]int64{}
	for info, err := range s.bucket.List(ctx, pack.Prefix) {
		if err != nil {
			return nil, err
		}
		name, err := pack.ParseBlobName(string(info.Name))
		if err != nil {
			if err := stray(info.Name); err != nil {
				return nil, err
			}
			continue
		}
		s.mu.Lock()
		_, removed := s.removed[name]
		_, leaving := s.leaving[name]
		s.mu.Unlock()
		if !removed && !leaving {
			present[name] = info.Size
		}
	}
	return present, nil
}

func (s *Store) isGone(ctx context.Context, name pack.Name) (bool, error) {
	var first [1]byte
	err := s.readBlob(ctx, blob.Name(name.BlobName()), first[:], 0)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, blob.ErrTemporary) {
		return false, nil
	}
	return false, err
}

// learn makes the packs known: from index blobs if there are many, and the rest, also if
// those are damaged, from the packs themselves.
func (s *Store) learn(ctx context.Context, unknown map[pack.Name]int64) error {
	if len(unknown) >= learnFromIndex {
		if err := s.loadIndex(ctx, unknown); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.log.Warn("index blobs are of no use, packs are read instead", "err", err)
		}
	}
	return s.learnPacks(ctx, unknown)
}

// learnPacks makes the packs known from their directories. One that is gone, away or damaged is passed over.
func (s *Store) learnPacks(ctx context.Context, unknown map[pack.Name]int64) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(learners)
	for _, name := range slices.SortedFunc(maps.Keys(unknown), pack.Name.Compare) {
		size := unknown[name]
		if _, ok := s.x.Pack(name); ok {
			continue
		}
		g.Go(func() error {
			entries, mark, size, err := s.directory(gctx, name, size)
			if err == nil {
				err = s.x.Learn(gctx, name, size, entries, mark)
			}
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, blob.ErrTemporary) {
				return nil // gone again, or away for now: the next Refresh learns it
			}
			if errors.Is(err, ErrCorrupt) || errors.Is(err, index.ErrStranger) {
				s.log.Warn("a pack is damaged and left out", "pack", name, "err", err)
				return nil
			}
			return spaceError(err)
		})
	}
	return g.Wait()
}

// forget drops packs that are gone. What they held may also be in packs that
// were known to hold doubles, so those are read again first. One of these that cannot be read is proven no more:
// it may be the last to have a chunk that the index does not know from now on.
func (s *Store) forget(ctx context.Context, gone []pack.Name) error {
	away := make(map[pack.Name]bool, len(gone))
	for _, name := range gone {
		away[name] = true
		if s.mine == nil { // others may remove theirs
			s.log.Warn("a pack has vanished from the bucket", "pack", name)
		}
	}
	for _, p := range s.x.Packs() {
		if !p.Doubles || away[p.Name] {
			continue
		}
		entries, mark, size, err := s.directory(ctx, p.Name, p.Size)
		if err == nil {
			err = s.x.Learn(ctx, p.Name, size, entries, mark, gone...)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrCorrupt) || errors.Is(err, index.ErrStranger) || errors.Is(err, blob.ErrTemporary) {
			err = s.x.Doubt(ctx, p.Name)
		}
		if err != nil {
			return spaceError(err)
		}
	}
	return spaceError(s.x.Drop(ctx, gone...))
}

// directory reads the directory of what the bucket shows as that pack, and its mark. Damage comes as ErrCorrupt, a pack
// that is not there as fs.ErrNotExist. size is how long it seems to be; was is how long it was when it was read.
func (s *Store) directory(ctx context.Context, name pack.Name, size int64) (entries []pack.Entry, mark index.Mark, was int64, err error) {
	entries, mark, err = s.readTail(ctx, name, size)
	err = s.again(ctx, name, err, func() error {
		for info, err := range s.bucket.List(ctx, blob.Name(name.BlobName())) { // perhaps that was what was wrong
			if err != nil {
				return err
			}
			if info.Name == blob.Name(name.BlobName()) {
				size = info.Size
			}
		}
		entries, mark, err = s.readTail(ctx, name, size)
		return err
	})
	return entries, mark, size, err
}

func (s *Store) readTail(ctx context.Context, name pack.Name, size int64) ([]pack.Entry, index.Mark, error) {
	r := &blobReader{ctx: ctx, s: s, name: blob.Name(name.BlobName()), size: size}
	entries, err := s.readDirectory(size, r)
	if errors.Is(err, pack.ErrTampered) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, index.Mark{}, fmt.Errorf("%w: directory of pack %s: %w", ErrCorrupt, name, err)
	}
	if err != nil {
		return nil, index.Mark{}, fmt.Errorf("read directory of pack %s: %w", name, err)
	}
	return entries, r.mark, nil
}

// blobReader is an io.ReaderAt over one pack. It keeps the mark of what it has read.
type blobReader struct {
	ctx  context.Context // an io.ReaderAt has no other way to stop
	s    *Store
	name blob.Name
	size int64
	mark index.Mark
}

// ReadAt implements io.ReaderAt for ranges that lie within the blob.
func (r *blobReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.s.readBlob(r.ctx, r.name, p, off); err != nil {
		return 0, err
	}
	if off+int64(len(p)) == r.size && len(p) >= len(r.mark) {
		r.mark = index.MarkOf(p) // of the very footer that is checked now
	}
	return len(p), nil
}

// maintain looks after each Flush whether small packs should be merged or index
// blobs written, and gives memory back that nobody uses.
func (s *Store) maintain() {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-timer.C:
			s.releaseBuffers()
			continue
		case <-s.wake:
		}
		timer.Reset(idle)
		if s.partial.Load() != nil {
			continue // what there is to do can wait until all packs are known, and is no reason to learn them now
		}
		if err := s.Compact(s.life); err != nil && s.life.Err() == nil {
			s.log.Warn("small packs were not merged", "err", err)
		}
		if err := s.coverPacks(s.life); err != nil && s.life.Err() == nil {
			s.log.Warn("index blobs were not written", "err", err)
		}
	}
}

// releaseBuffers gives back the memory of packs that nobody uses.
func (s *Store) releaseBuffers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.free {
		returnMemory(b)
	}
	s.buffers -= len(s.free)
	s.free = nil
}

// The index blobs are written again when more packs than coverLeast, and than one in coverShare of those that are covered, are not: so the
// work stays in proportion. And they are when this Store has put learnFromIndex packs or more that are not covered, of coverFrom bytes and of coverBytes
// times what the blobs take: who reads something in one of them on a device that knows nothing would else have to read the directories of all.
const (
	coverLeast = 64
	coverShare = 8
	coverFrom  = 4 * pack.Size
	coverBytes = 50
)

func (s *Store) coverPacks(ctx context.Context) error {
	c, err := s.x.Coverage(ctx)
	if err != nil || !due(c) {
		return err
	}
	return s.WriteIndex(ctx)
}

func due(c index.Coverage) bool {
	return c.Uncovered > max(coverLeast, c.Covered/coverShare) || c.Own >= learnFromIndex && c.OwnBytes >= max(coverFrom, coverBytes*c.Blobs)
}

// WriteIndex writes the index blobs, by which a device that knows nothing yet learns
// many packs at once. The Store does it by itself when it is worth it.
func (s *Store) WriteIndex(ctx context.Context) error {
	if err := s.lockMaintenance(ctx); err != nil {
		return err
	}
	defer s.unlockMaintenance()
	return s.x.WriteBlobs(ctx, s.bucket, &s.newest().Index, &s.entropy)
}
