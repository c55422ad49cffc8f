// Package index knows which pack holds which chunk, which chunk has which plain
// bytes, and which chunks are condemned. It is not the truth: all of it but the
// condemnations is learned again from the directories of the packs.
//
// # Keys
//
// The index owns every key of the kv.DB that begins with "x". All integers are
// big endian.
//
//	"xl" ID(32)        pack number(4) off(4) len(4) plain(4) kind(1) SIV(32) CID(32)
//	"xc" CID(16)       ID(32): the chunk with that CID; the full CID is in its "xl"
//	"xp" number(4)     name(32) size(8) body(8) count(4) live(4) live bytes(8) flags(1), then, if it is proven, mark(16)
//	"xd" ID(32)        cycle(8) unix seconds(8): condemned
//	"xr" name(32)      mark(16) unix seconds(8): the grave of a pack that this device has removed
//	"xk" mark(16)      name(32): the same, by the mark
//	"xm" name          what the index remembers of itself
//
// A pack has a number, which is never given twice, and counts only while it
// has an "xp". So a pack is forgotten in one small step: what still points to
// its number is treated as absent, and overwritten or swept away later.
//
// # What can be believed
//
// A bucket may show one pack under the name of another, or one that was removed long ago. The directory
// of a pack is sealed, but what binds it to the name is the hash of the whole pack alone. So a
// pack has one of three ranks:
//
//   - proven: this device wrote it, or read all of it and found the hash to be the name, and took the directory from
//     these very bytes. Each chunk of its directory is located in it, or in another pack, or was
//     removed by a garbage collection of this device: nothing else takes a chunk from it.
//   - hearsay: what it holds was learned from the tail of what the bucket showed under its name, or
//     from an index blob. It is good enough to look there for a chunk, for what is read has a hash itself.
//   - ghost: this device has removed it, and the bucket shows it nevertheless. What is in it can be read, but it may
//     vanish at any time: nobody may take bytes for stored because they are there.
//
// Between the last two is a pack that is doomed: another device, whose it is, is about to remove it. What is in it and is needed
// that device will have moved, but nothing new may be made to need it.
//
// A pack of a higher rank takes the chunks of its directory over from those of a lower one. Chunks
// are removed, and packs buried, only where they are proven: so whatever the bucket showed, nothing is deleted
// because of it. The decision is docs/adr/0011-proven-packs.md.
package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// A Location is where a chunk lies, and what makes up its Ref and its dedup ID.
type Location struct {
	Pack            pack.Name
	Off, Len, Plain uint32 // bytes; Off and Len in the pack file
	Kind            chunk.Kind
	SIV             seal.SIV
	CID             seal.CID
}

// A Pack is what the index knows of one pack.
type Pack struct {
	Name      pack.Name
	Size      int64  // of the file
	Body      int64  // the sum of the sealed lengths of all its chunks
	Count     uint32 // of its chunks
	Live      uint32 // of those that the index has here
	LiveBytes int64  // the sum of their sealed lengths
	// Doubles says that some of its chunks were, at some time, located in
	// another pack. Its directory is read again when any pack vanishes.
	Doubles bool
	// Proven says that the pack is what its name says and that the index has its true directory.
	Proven bool
	// Own says that this Store has put it.
	Own bool
	// Ghost says that this device has removed the pack, and yet was shown it later.
	Ghost bool
	// Doomed says that the device which has put the pack is about to remove it: see Doom.
	Doomed bool
	// Mark is that of the directory by which the pack is known. It is zero if that is not known, or was two in turn.
	Mark Mark
}

// A Mark is the end of a pack's file. It is the tag of its sealed footer, which has a hash of the directory: packs
// with one mark have one directory, and no two packs that were written have the same.
type Mark [16]byte

// MarkOf returns the mark of a pack, given the end of its file.
func MarkOf(tail []byte) (m Mark) {
	copy(m[:], tail[max(0, len(tail)-len(m)):])
	return m
}

// DeadShare returns the share of the body that the index does not have here, 0
// to 1. An empty pack is all dead.
func (p Pack) DeadShare() float64 {
	if p.Body == 0 {
		return 1
	}
	return 1 - float64(p.LiveBytes)/float64(p.Body)
}

// A Condemned is a chunk that a garbage collection found unreachable.
type Condemned struct {
	ID    chunk.ID
	Cycle uint64
	At    time.Time // to the second
}

type packRec struct {
	Pack
	known bool // false while the Update that makes it known is under way
}

// An Index is the index of one store in a kv.DB. It is safe for concurrent use. All
// of its changes are in the DB when their method returns, and durable after Sync.
type Index struct {
	db  kv.DB
	log *slog.Logger

	write sync.Mutex // held by every method that changes something, so that table and db go together

	mu        sync.RWMutex // guards what follows
	table     map[uint32]packRec
	byName    map[pack.Name]uint32
	condemned bool // there may be an "xd"

	next   uint32 // the next pack number to give; guarded by write
	filter filter

	loading atomic.Pointer[Loading] // nil: none is under way
}

// Open returns the Index that db holds, which may be empty. A nil log discards.
func Open(ctx context.Context, db kv.DB, log *slog.Logger) (*Index, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	x := &Index{db: db, log: log, table: map[uint32]packRec{}, byName: map[pack.Name]uint32{}, next: 1}
	for p, err := range db.Scan(ctx, []byte(prefixPack), after(prefixPack)) {
		if err != nil {
			return nil, fmt.Errorf("open index: %w", err)
		}
		num, rec, err := decodePack(p.Key, p.Value)
		if err != nil {
			return nil, fmt.Errorf("open index: %w", err)
		}
		x.table[num] = packRec{Pack: rec, known: true}
		x.byName[rec.Name] = num
		x.next = max(x.next, num+1)
	}
	next, err := x.meta(ctx, metaNext)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	x.next = max(x.next, uint32(next))
	for _, err := range db.Scan(ctx, []byte(prefixCondemned), after(prefixCondemned)) {
		if err != nil {
			return nil, fmt.Errorf("open index: %w", err)
		}
		x.condemned = true
		break
	}
	return x, nil
}

// Lookup returns where the chunk lies; false if the index does not know. While a Loading is under way it may have to read a shard, and
// the pack that it returns may be one that is not known yet. A shard that cannot be read tells nothing.
func (x *Index) Lookup(ctx context.Context, id chunk.ID) (Location, bool, error) {
	loc, ok, err := x.Known(ctx, id)
	l := x.loading.Load()
	if ok || err != nil || l == nil {
		return loc, ok, err
	}
	if loc, ok, err = l.find(ctx, id); err != nil {
		if ctx.Err() != nil {
			return Location{}, false, fmt.Errorf("look up chunk %s: %w", id, err)
		}
		x.log.Warn("a shard of the index blobs could not be read", "err", err)
		return Location{}, false, nil
	}
	if !ok {
		return x.Known(ctx, id) // it may have become known just now
	}
	return loc, true, nil
}

// Known is Lookup of what is known: it reads the DB only.
func (x *Index) Known(ctx context.Context, id chunk.ID) (Location, bool, error) {
	var last []byte
	for {
		v, err := x.db.Get(ctx, locationKey(id))
		if errors.Is(err, fs.ErrNotExist) {
			return Location{}, false, nil
		}
		if err != nil {
			return Location{}, false, fmt.Errorf("look up chunk %s: %w", id, err)
		}
		num, loc, err := decodeLocation(v)
		if err != nil {
			return Location{}, false, fmt.Errorf("look up chunk %s: %w", id, err)
		}
		if name, ok := x.nameOf(num); ok {
			loc.Pack = name
			return loc, true, nil
		}
		// Either the pack was forgotten, or the chunk moved on between the two reads,
		// in which case the next read tells otherwise.
		if last != nil && string(last) == string(v) {
			return Location{}, false, nil
		}
		last = v
	}
}

// ByCID returns the chunk that holds the plain bytes of that CID; false if the
// index knows none. For CIDs that it has never met it seldom asks the DB.
func (x *Index) ByCID(ctx context.Context, cid seal.CID) (chunk.ID, Location, bool, error) {
	if x.filter.excludes(cid) {
		return chunk.ID{}, Location{}, false, nil
	}
	v, err := x.db.Get(ctx, cidKey(cid))
	if errors.Is(err, fs.ErrNotExist) {
		return chunk.ID{}, Location{}, false, nil
	}
	if err != nil {
		return chunk.ID{}, Location{}, false, fmt.Errorf("look up plain bytes: %w", err)
	}
	if len(v) != len(chunk.ID{}) {
		return chunk.ID{}, Location{}, false, fmt.Errorf("look up plain bytes: %w", errRecord)
	}
	id := chunk.ID(v)
	loc, ok, err := x.Known(ctx, id)
	if err != nil || !ok || loc.CID != cid {
		return chunk.ID{}, Location{}, false, err
	}
	return id, loc, true, nil
}

// Pack returns what is known of one pack.
func (x *Index) Pack(name pack.Name) (Pack, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	rec, ok := x.table[x.byName[name]]
	return rec.Pack, ok && rec.known
}

// Packs returns all packs that are known, in the order they became so.
func (x *Index) Packs() []Pack {
	x.mu.RLock()
	defer x.mu.RUnlock()
	packs := make([]Pack, 0, len(x.table))
	for _, num := range slices.Sorted(maps.Keys(x.table)) {
		if rec := x.table[num]; rec.known {
			packs = append(packs, rec.Pack)
		}
	}
	return packs
}

// Len returns how many packs are known.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.byName)
}

// Chunks returns how many chunks all packs together have.
func (x *Index) Chunks() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := int64(0)
	for _, rec := range x.table {
		n += int64(rec.Live)
	}
	return n
}

// Whole reports whether SetWhole was called once: whether there was a time at which the index had all that it could.
func (x *Index) Whole(ctx context.Context) (bool, error) {
	n, err := x.meta(ctx, metaWhole)
	if err != nil {
		return false, fmt.Errorf("read whether the index is whole: %w", err)
	}
	return n != 0, nil
}

// SetWhole has Whole report true from then on.
func (x *Index) SetWhole(ctx context.Context) error {
	x.write.Lock()
	defer x.write.Unlock()
	n, err := x.meta(ctx, metaWhole)
	if err == nil && n == 0 {
		err = x.setMeta(ctx, metaWhole, 1)
	}
	if err != nil {
		return fmt.Errorf("note that the index is whole: %w", err)
	}
	return nil
}

// Trim gives back the memory of what was read last and can be read again. It may be called at any time.
func (x *Index) Trim() { x.db.Trim() }

// Sync returns when all changes that were made before are durable.
func (x *Index) Sync(ctx context.Context) error {
	if err := x.db.Sync(ctx); err != nil {
		return fmt.Errorf("sync index: %w", err)
	}
	return nil
}

func (x *Index) nameOf(num uint32) (pack.Name, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	rec, ok := x.table[num]
	return rec.Name, ok
}

// meta reads a number that the index remembers, 0 if there is none.
func (x *Index) meta(ctx context.Context, key string) (uint64, error) {
	v, err := x.db.Get(ctx, []byte(key))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%q: %w", key, errRecord)
	}
	return binary.BigEndian.Uint64(v), nil
}

func (x *Index) setMeta(ctx context.Context, key string, n uint64) error {
	return x.db.Update(ctx, func(tx kv.Tx) error {
		return tx.Put([]byte(key), binary.BigEndian.AppendUint64(nil, n))
	})
}
