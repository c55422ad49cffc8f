package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// What a Store believes of its bucket, and what it does not (docs/adr/0011-proven-packs.md):
//
// The directory of a pack is sealed, but it is bound to the name of the pack by the hash of the whole
// pack only. So what was learned from directories or index blobs is hearsay: good enough to look there for a
// chunk, for each chunk that is read is checked by itself. Nothing is deleted for it:
//
//   - A pack is removed only if it is proven: this Store wrote it, or has read all of it, found the hash
//     to be the name, and took the directory from these bytes. See index.Pack.
//   - A chunk of it that is located elsewhere is given up only if that pack is proven, too, and the chunk was just read there.
//   - What a Store writes in place of packs is read back, and compared, before they go.
//   - Garbage collection removes chunks from proven packs only. That a chunk is in no known pack never says
//     that it was removed, unless its pack is proven.
//   - A pack that the bucket says is gone is only forgotten, with what was located in it. When it is back it is
//     learned like any other, all of its chunks with it.
//
// A Store whose index was deceived puts it right where it meets the lie: a read that does not find its chunk reads the pack
// whole, and then the directories of all that is hearsay, once again; Verify proves all that it reads.

// wholePack reads all bytes of a pack into buf, or into more memory if that is too small. size is how many
// to expect. A pack that is too large for any comes as ErrCorrupt, one that is not there as fs.ErrNotExist.
func (s *Store) wholePack(ctx context.Context, name pack.Name, size int64, buf []byte) ([]byte, error) {
	r, err := s.bucket.Get(ctx, blob.Name(name.BlobName()), 0, pack.Size+1)
	if err != nil {
		return nil, fmt.Errorf("read pack %s: %w", name, err)
	}
	defer func() { _ = r.Close() }()
	if size < 0 || size > pack.Size {
		size = pack.Size
	}
	if want := int(size) + bytes.MinRead; cap(buf) < want {
		buf = make([]byte, 0, want)
	}
	b := bytes.NewBuffer(buf[:0])
	switch n, err := b.ReadFrom(io.LimitReader(r, pack.Size+1)); {
	case err != nil:
		return nil, fmt.Errorf("read pack %s: %w", name, err)
	case n > pack.Size:
		return nil, fmt.Errorf("%w: pack %s: larger than any pack: %w", ErrCorrupt, name, seal.ErrTampered)
	}
	return b.Bytes(), nil
}

// provenPack reads all of a pack, as wholePack does, and checks that it is what its name says. All else is ErrCorrupt.
func (s *Store) provenPack(ctx context.Context, name pack.Name, size int64, buf []byte) (file []byte, entries []pack.Entry, err error) {
	read := func() error {
		if file, err = s.wholePack(ctx, name, size, buf); err == nil && blake3.Sum256(file) != name {
			err = fmt.Errorf("%w: pack %s: the hash is not the name: %w", ErrCorrupt, name, seal.ErrTampered)
		}
		return err
	}
	if err = s.again(ctx, name, read(), read); err != nil {
		return nil, nil, err
	}
	entries, err = s.readDirectory(int64(len(file)), bytes.NewReader(file))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: directory of pack %s: %w", ErrCorrupt, name, err)
	}
	return file, entries, nil
}

// prove makes known what a pack holds of which provenPack has read all. It needs the maintenance lock.
func (s *Store) prove(ctx context.Context, name pack.Name, file []byte, entries []pack.Entry) (changed bool, err error) {
	changed, err = s.x.Prove(ctx, name, int64(len(file)), entries, index.MarkOf(file))
	if err != nil {
		return false, spaceError(err)
	}
	if changed {
		s.log.Warn("what was known of a pack was not true, and is put right", "pack", name)
	}
	return changed, nil
}

// confirm reads a pack that was just put, and compares it with what it should be.
func (s *Store) confirm(ctx context.Context, name pack.Name, file []byte) error {
	r, err := s.bucket.Get(ctx, blob.Name(name.BlobName()), 0, int64(len(file))+1)
	if errors.Is(err, fs.ErrNotExist) { // who acknowledged it does not have it, or does not show it
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return fmt.Errorf("read new pack %s back: %w", name, err)
	}
	defer func() { _ = r.Close() }()
	c := &comparer{want: file}
	if _, err := io.Copy(c, io.LimitReader(r, int64(len(file))+1)); err != nil && !errors.Is(err, errDiffers) {
		return fmt.Errorf("read new pack %s back: %w", name, err)
	}
	if c.differs || len(c.want) > 0 {
		return fmt.Errorf("%w: new pack %s is not in the bucket as it was written: %w", ErrCorrupt, name, seal.ErrTampered)
	}
	return nil
}

var errDiffers = errors.New("bytes differ")

// comparer is written what should be want.
type comparer struct {
	want    []byte // what is still to come
	differs bool
}

func (c *comparer) Write(p []byte) (int, error) {
	if len(p) > len(c.want) || !bytes.Equal(p, c.want[:len(p)]) {
		c.differs = true
		return 0, errDiffers
	}
	c.want = c.want[len(p):]
	return len(p), nil
}

// unsoundPause is how long Compact and Sweep leave a pack alone that is not what its name says.
const unsoundPause = time.Hour

// leftAlone reports whether the pack was found unsound not long ago. It needs the maintenance lock.
func (s *Store) leftAlone(name pack.Name) bool {
	at, ok := s.unsound[name]
	return ok && time.Since(at) < unsoundPause
}

// victim reads a pack that may be removed, proves it, and returns what it holds. No entries and no error says
// that it stays: it is damaged, or something else is shown in its place, or the index had to be put
// right, so that whoever chose it knew what is not true. It needs the maintenance lock.
func (s *Store) victim(ctx context.Context, p index.Pack, buf []byte) (file []byte, entries []pack.Entry, err error) {
	if s.leftAlone(p.Name) {
		return buf, nil, nil
	}
	file, entries, err = s.provenPack(ctx, p.Name, p.Size, buf)
	if errors.Is(err, ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
		s.unsound[p.Name] = time.Now()
		s.log.Warn("a pack is damaged and stays as it is", "pack", p.Name, "err", err)
		return buf, nil, nil
	}
	if err != nil {
		return buf, nil, err
	}
	delete(s.unsound, p.Name)
	changed, err := s.prove(ctx, p.Name, file, entries)
	if err != nil || changed {
		return file, nil, err
	}
	return file, entries, nil
}

// doubt is called by a read that did not find its chunk: what src says is not there, or, if src is zero, the index
// does not have the chunk. It puts the index right, as far as it was hearsay, and reports whether it has
// the chunk elsewhere now. It does nothing for a while after it was of no use, in proportion to what that cost.
func (s *Store) doubt(ctx context.Context, id chunk.ID, src source) (bool, error) {
	if err := s.lockMaintenance(ctx); err != nil {
		return false, err
	}
	defer s.unlockMaintenance()
	elsewhere := func() (bool, error) { return s.elsewhere(ctx, id, src) }
	if ok, err := elsewhere(); ok || err != nil { // another reader was here before
		return ok, err
	}
	p, known := s.x.Pack(src.pack)
	if known && p.Sure() || time.Now().Before(s.trusting) {
		return false, nil
	}
	start := time.Now()
	if known {
		file, entries, err := s.provenPack(ctx, p.Name, p.Size, nil)
		if err == nil {
			_, err = s.prove(ctx, p.Name, file, entries)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	if ok, err := elsewhere(); ok || err != nil {
		return ok, err
	}
	if err := s.hearAgain(ctx); err != nil {
		return false, err
	}
	ok, err := elsewhere()
	if p, known := s.x.Pack(src.pack); !ok && err == nil && known && !p.Sure() { // what it should have is not there
		if _, err := s.relocate(ctx, p.Name); err != nil {
			return false, err
		}
		ok, err = elsewhere()
	}
	if !ok {
		s.trusting = time.Now().Add(max(s.pause, 16*time.Since(start)))
	}
	return ok, err
}

// elsewhere reports whether the index has a chunk elsewhere than src says.
func (s *Store) elsewhere(ctx context.Context, id chunk.ID, src source) (bool, error) {
	loc, ok, err := s.x.Lookup(ctx, id)
	return ok && (loc.Pack != src.pack || int64(loc.Off) != src.off || int64(loc.Len) != src.n), err
}

// hearAgain learns what is not known, and reads the directories of all packs that are not proven once more. It needs the
// maintenance lock.
func (s *Store) hearAgain(ctx context.Context) error {
	if err := s.refresh(ctx); err != nil {
		return err
	}
	sizes, err := s.listPacks(ctx, func(blob.Name) error { return nil })
	if err != nil {
		return err
	}
	// A chunk that leaves one pack, for it was never there, may be in one that was looked at before.
	const passes = 3
	for range passes {
		changed := make(chan struct{}, 1)
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(learners)
		for _, p := range s.x.Packs() {
			if p.Sure() {
				continue
			}
			size, ok := sizes[p.Name]
			if !ok {
				size = p.Size
			}
			g.Go(func() error {
				entries, mark, size, err := s.directory(gctx, p.Name, size)
				differs := false
				if err == nil {
					differs, err = s.x.Correct(gctx, p.Name, size, entries, mark)
				}
				if errors.Is(err, ErrCorrupt) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, index.ErrStranger) {
					return nil
				}
				if differs {
					s.log.Warn("what was known of a pack was not true, and is put right", "pack", p.Name)
					select {
					case changed <- struct{}{}:
					default:
					}
				}
				return spaceError(err)
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		if len(changed) == 0 {
			return nil
		}
	}
	return nil
}
