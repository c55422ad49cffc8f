package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// A drive begins a new epoch when a device is revoked. All that is written from then on takes the keys of the new one,
// and what was written before stays as it is: so a pack is read with the keys of whichever epoch opens its directory. Its chunks
// may be of an earlier epoch still, for compaction copies them as they are. Equal bytes of two epochs are two chunks.

// A ring has the keys of all epochs. It does not change.
type ring struct {
	all     []Keys    // the newest first
	workers sync.Pool // of *worker, for the newest
}

func (s *Store) newRing(all []Keys) *ring {
	r := &ring{all: all}
	r.workers.New = func() any { return s.newWorker(&r.all[0]) }
	return r
}

// newest returns the keys to write with.
func (s *Store) newest() *Keys { return &s.keys.Load().all[0] }

// Rekey takes the keys of another newest epoch, and those of the ones before it, the newest first. All that is put after it
// returned is sealed with the new ones; a Put that began before may still take the old ones. It must not
// leave out keys that the Store has: what was written with them could not be read any more.
func (s *Store) Rekey(newest Keys, past []Keys) error {
	all := slices.Concat([]Keys{newest}, past)
	for {
		old := s.keys.Load()
		for _, k := range old.all {
			if !slices.Contains(all, k) {
				return fmt.Errorf("rekey store: keys of an epoch are missing: %w", seal.ErrArgument)
			}
		}
		if slices.Equal(all, old.all) {
			return nil
		}
		r := s.newRing(all)
		if w := s.newWorker(&newest); w.err != nil {
			return fmt.Errorf("rekey store: %w", w.err)
		}
		if s.keys.CompareAndSwap(old, r) {
			return nil
		}
	}
}

// eachKeys calls f with the keys of each epoch, the newest first, until it says that they are not the wrong ones.
func (s *Store) eachKeys(f func(k *Keys) (wrong bool)) {
	all := s.keys.Load().all
	for i := range all {
		if !f(&all[i]) {
			return
		}
	}
}

// readDirectory is pack.ReadDirectory with the keys of the right epoch.
func (s *Store) readDirectory(size int64, r io.ReaderAt) (entries []pack.Entry, err error) {
	s.eachKeys(func(k *Keys) bool {
		entries, err = pack.ReadDirectory(&k.PackDir, size, r)
		return errors.Is(err, pack.ErrTampered)
	})
	return entries, err
}

// openEntry opens a chunk by what the directory of its pack says of it, and checks that its bytes have the dedup ID that
// stands there. It returns the bytes, in dst if they fit.
func (s *Store) openEntry(o *seal.Opener, dst []byte, e pack.Entry, sealed []byte) (plain []byte, err error) {
	s.eachKeys(func(k *Keys) bool {
		ref := chunk.Ref{ID: e.ID, Key: k.Seal.KeyOf(e.SIV), Size: e.Plain, Kind: e.Kind}
		plain, err = o.Open(dst, ref, sealed)
		if err == nil && seal.CID(kdf.Keyed(&k.Seal.CID, []byte{byte(e.Kind)}, plain)) != e.CID {
			err = errDedupID
		}
		return err != nil
	})
	return plain, err
}

// loadIndex learns packs from index blobs of whichever epoch.
func (s *Store) loadIndex(ctx context.Context, unknown map[pack.Name]int64) error {
	l, err := s.beginIndex(ctx, unknown)
	if l == nil || err != nil {
		return err
	}
	return l.Finish(ctx)
}

// beginIndex reads the root of the index blobs: see index.Begin.
func (s *Store) beginIndex(ctx context.Context, unknown map[pack.Name]int64) (l *index.Loading, err error) {
	s.eachKeys(func(k *Keys) bool {
		l, err = s.x.Begin(ctx, s.bucket, &k.Index, unknown)
		return err != nil && ctx.Err() == nil
	})
	return l, err
}

// CheckIndex reports, with an error, that a blob which lies somewhere under the name of an index blob is none of this drive, or is damaged. It reads nothing.
func (s *Store) CheckIndex(name blob.Name, body []byte) (err error) {
	s.eachKeys(func(k *Keys) bool {
		err = index.CheckBlob(name, body, &k.Index)
		return err != nil
	})
	return err
}

// checkIndexBlobs is index.CheckBlobs with the keys of the epoch that opens the root, or else of the newest.
func (s *Store) checkIndexBlobs(ctx context.Context, bad func(blob.Name, error)) (err error) {
	var found map[blob.Name]error
	s.eachKeys(func(k *Keys) bool {
		now, opens := map[blob.Name]error{}, true
		err = index.CheckBlobs(ctx, s.bucket, &k.Index, func(name blob.Name, err error) {
			now[name] = err
			opens = opens && !strings.HasSuffix(string(name), "/root")
		})
		if found == nil || opens {
			found = now
		}
		return err == nil && !opens
	})
	for name, err := range found {
		bad(name, err)
	}
	return err
}

var errDedupID = fmt.Errorf("not what its dedup ID says: %w", seal.ErrTampered)
