package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

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

// eachKeys calls f with the keys of each epoch, the newest first, until it says that they are not the wrong ones.
func (s *Store) eachKeys(f func(k *Keys) (wrong bool)) {
	if !f(&s.keys) {
		return
	}
	for i := range s.past {
		if !f(&s.past[i]) {
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
func (s *Store) loadIndex(ctx context.Context, unknown map[pack.Name]int64) (err error) {
	s.eachKeys(func(k *Keys) bool {
		err = s.x.Load(ctx, s.bucket, &k.Index, unknown)
		return err != nil && ctx.Err() == nil
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
