// Package chunkstore puts plain chunks in and gets plain chunks out: it seals them,
// packs them, puts the packs into a bucket and finds them again. It does not
// know what a chunk means, nor which chunks are still wanted.
//
// # How a chunk gets in
//
//  1. Its dedup ID is looked up; bytes that are there already are not stored again.
//  2. It is sealed, and appended to one of two open packs, drawn at random.
//  3. A full pack is put into the bucket, then into the index. Flush does that
//     with the packs that are not full, and makes the index durable. The sizes of the packs
//     between two flushes follow from the sum of what was put, see pack.Plan.
//
// So at each moment the bucket has every pack that the durable index names.
// The other way round it need not be so: Open and Refresh learn the packs that the
// index does not know.
//
// # Locks
//
// Store.mu guards the state in memory and is never held while a bucket or the
// database works. The maintenance lock is held by whatever removes packs or
// compares the index with the bucket: Refresh, Compact, Sweep and Verify run one
// after the other. Put, Get, ReadAt and Flush never wait for it, but for a read
// that misses a chunk, or finds other bytes where hearsay has it.
//
// # Lies
//
// A bucket may lie for a while: show one pack for another, old bytes, half a listing. Nothing that was
// stored is lost because of it, as long as the bucket still has it when it is honest again: see
// [Store.Compact] and index.Pack for what a Store believes, and docs/adr/0011-proven-packs.md for why.
package chunkstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// The errors of a Store.
var (
	// ErrCorrupt says that stored bytes are not what they should be. It comes
	// with seal.ErrTampered, the pack and the chunk.
	ErrCorrupt = errors.New("stored bytes are damaged")
	// ErrMissing says that no pack holds the chunk. It wraps fs.ErrNotExist.
	ErrMissing = fmt.Errorf("chunk is not in the store: %w", fs.ErrNotExist)
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("store is closed")
	// ErrNoSpace says that the bucket, or the database of the index, is full.
	ErrNoSpace = blob.ErrNoSpace
	// ErrCollecting says that a garbage collection is under way.
	ErrCollecting = errors.New("a garbage collection is under way")
)

// Keys are the keys of a Store, derived from the secret of the drive by kdf.
// They print as "[key]".
type Keys struct {
	Seal    seal.Secrets
	PackDir [32]byte // kdf.PackDir
	Index   [32]byte // kdf.Index
}

// Format prints "[key]" for every verb.
func (Keys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[key]")) }

// LogValue logs "[key]".
func (Keys) LogValue() slog.Value { return slog.StringValue("[key]") }

// MarshalText returns "[key]", so that no encoder leaks a key.
func (Keys) MarshalText() ([]byte, error) { return []byte("[key]"), nil }

// DefaultCacheBytes is what CacheBytes of 0 means.
const DefaultCacheBytes = 32 << 20

// Options say what a Store is made of. Bucket, KV and Keys are needed.
type Options struct {
	Bucket blob.Bucket
	KV     kv.DB // the index lies here, under keys that begin with "x"; Close leaves it open
	Keys   Keys
	// Past are the keys of earlier epochs of the drive, the newest first. What was written with them is read; nothing is
	// written with them.
	Past []Keys
	// Suite is the AEAD of new chunks; 0 for seal.AESGCM. All suites are read.
	Suite seal.Suite
	// Level says how hard new chunks are compressed. The zero Level is seal.Raw.
	Level seal.Level
	// CacheBytes bounds the plain bytes kept for ReadAt; 0 for DefaultCacheBytes,
	// negative for none. They are in memory only.
	CacheBytes int64
	// Entropy is where random bytes come from; nil for crypto/rand. It is read
	// by one goroutine at a time.
	Entropy io.Reader
	// Mine lists the packs that this Store may remove or write anew: those that this device has put. Nil: all, for the
	// Bucket is this device's alone.
	Mine func(ctx context.Context) (map[pack.Name]struct{}, error)
	// Renew is called, one call at a time, before a miss makes the Store list the Bucket: other devices move chunks to other
	// packs, and a Bucket that shows places from memory has to look there. With here it is called when a pack cannot be reached, and looks only at places on
	// this device, which nobody waits for. Its error is logged. Nil: the Bucket shows what is there.
	Renew func(ctx context.Context, here bool) error
	// Forget is called when the bytes of a blob turn out to be damaged, before they are read again: a Bucket that
	// has them from one of several places takes them from another one then. Nil: the Bucket has them from one place only.
	Forget func(ctx context.Context, name blob.Name) error
	// Lazy says that a Store which has never known all that the Bucket holds need not know it at once: Open reads the root of the index blobs only, a chunk
	// is looked for where Near has it or in the one index blob that tells of it, and all else is learned once nothing was looked for in
	// this way for a while, or when something needs it.
	Lazy bool
	rest time.Duration // learnAfter, but in tests
	// Log takes what the Store mends by itself; nil discards it.
	Log *slog.Logger
}

// missInterval is the least time between two Refreshes that a miss causes, and two corrections of the index.
const missInterval = time.Second

// A Store puts chunks in and gets them out again, in plain text. It is the only
// door to the packs: above it nobody sees ciphertext, below it nobody sees plain
// text. A Store is safe for concurrent use. No two Stores may write to one Bucket
// at a time, for each would remove packs under the other.
type Store struct {
	bucket    blob.Bucket
	x         *index.Index
	keys      atomic.Pointer[ring]
	log       *slog.Logger
	mine      func(context.Context) (map[pack.Name]struct{}, error) // nil: all are
	renew     func(ctx context.Context, here bool) error
	distrust  func(context.Context, blob.Name) error
	entropy   entropy
	newWorker func(*Keys) *worker
	readers   sync.Pool // of *reader
	cache     *segmentCache
	layouts   *layoutCache

	life   context.Context // of the Store's own goroutines; ends in Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // all of the Store's own goroutines
	maint  chan struct{}  // the maintenance lock: holds one token while it is free
	wake   chan struct{}  // tells the maintainer to look

	mu         sync.Mutex
	closed     bool
	fill       filling
	pending    map[chunk.ID]spot // chunks that the index does not have yet
	pendingCID map[seal.CID]chunk.ID
	sealing    map[seal.CID]chan struct{} // being stored now; closed when that has ended
	uploads    map[*openPack]*attempt
	leaving    map[pack.Name]struct{} // packs that may be in the bucket, but are not in the index yet
	failed     []*openPack            // packs whose upload failed, to be tried again
	failure    error                  // of the last failed upload, if nobody was told yet
	buffers    int                    // packs' memory that exists, of at most maxBuffers
	free       [][]byte               // of these, not in use
	changed    chan struct{}
	dirty      bool  // the index has changes of this Store that are not durable
	filling    bool  // the filter of known bytes is being filled, or is
	puts       int64 // until then
	fillAfter  int64 // as many puts
	flushing   bool
	nextFlush  *flushRun
	missed     time.Time     // when a miss last caused a Refresh
	pause      time.Duration // missInterval, but in tests

	cycle    *GC                    // the garbage collection under way
	holds    map[*hold]struct{}     // those not released yet
	dying    map[chunk.ID]struct{}  // chunks whose removal has begun
	shy      atomic.Bool            // see Shy
	removals uint64                 // how many batches of removals have ended
	revived  map[chunk.ID]struct{}  // condemned chunks that were put again; pardoned by the next Flush
	removed  map[pack.Name]struct{} // packs that this Store has removed: no listing brings them back

	hand    *atHand                 // its ids need mu
	partial atomic.Pointer[partial] // nil: all packs that there are have been looked at

	// These need the maintenance lock.
	unsound  map[pack.Name]time.Time // packs that were not what their names say, and when
	trusting time.Time               // until then no read doubts the index
}

// Open returns the Store over o.Bucket, and learns which packs it holds as far
// as o.KV does not know. o.KV may be empty.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Suite == 0 {
		o.Suite = seal.AESGCM
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Entropy == nil {
		o.Entropy = rand.Reader
	}
	if o.rest == 0 {
		o.rest = learnAfter
	}
	if _, err := seal.NewSealer(o.Keys.Seal, o.Suite, o.Level); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	x, err := index.Open(ctx, o.KV, o.Log)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{
		bucket: o.Bucket, x: x, log: o.Log, mine: o.Mine, renew: o.Renew, distrust: o.Forget,
		cache:   newSegmentCache(max(o.CacheBytes, 0)),
		layouts: newLayoutCache(),
		maint:   make(chan struct{}, 1), wake: make(chan struct{}, 1), changed: make(chan struct{}),
		pending: map[chunk.ID]spot{}, pendingCID: map[seal.CID]chunk.ID{},
		sealing: map[seal.CID]chan struct{}{}, uploads: map[*openPack]*attempt{}, leaving: map[pack.Name]struct{}{},
		holds: map[*hold]struct{}{}, dying: map[chunk.ID]struct{}{}, revived: map[chunk.ID]struct{}{}, removed: map[pack.Name]struct{}{},
		unsound: map[pack.Name]time.Time{}, pause: missInterval,
	}
	if s.hand, err = openAtHand(ctx, o.KV); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.entropy.r = o.Entropy
	s.newWorker = func(k *Keys) *worker { return newWorker(k.Seal, o.Suite, o.Level) }
	s.keys.Store(s.newRing(slices.Concat([]Keys{o.Keys}, o.Past)))
	s.readers.New = func() any { return &reader{opener: seal.NewOpener()} }
	s.life, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.maint <- struct{}{}
	if o.Lazy {
		err = s.beginPartial(ctx)
	}
	if p := s.partial.Load(); p != nil {
		s.wg.Go(func() { s.learnLater(p, o.rest) })
	} else if err == nil {
		err = s.learnAll(ctx, nil)
	}
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.wg.Go(s.maintain)
	return s, nil
}

// Close flushes, unless ctx is done already, and ends all that the Store does
// by itself. It returns the error of the flush; the Store is closed in any
// case, and what was not flushed is lost. The bucket and the database stay open.
func (s *Store) Close(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		err = s.Flush(ctx)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.broadcastLocked()
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	s.abandon()
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// abandon gives up the packs that were not stored, after Close, and all memory that nobody reads.
func (s *Store) abandon() {
	s.mu.Lock()
	for _, p := range append(s.fill.open[:], s.failed...) {
		if p != nil {
			s.unpinLocked(p)
		}
	}
	s.fill, s.failed = filling{}, nil
	s.mu.Unlock()
	s.releaseBuffers()
}

// checkOpen returns ErrClosed after Close.
func (s *Store) checkOpen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return nil
}

// broadcastLocked wakes all that wait for a change: a free buffer, a failed upload, Close.
func (s *Store) broadcastLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// lockMaintenance takes the maintenance lock. With it the index is never partial: who has the lock can go by what the index says is not there.
func (s *Store) lockMaintenance(ctx context.Context) error {
	if err := s.whole(ctx); err != nil {
		return err
	}
	select {
	case <-s.maint:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.life.Done():
		return ErrClosed
	}
}

// tryMaintenance is lockMaintenance where nobody has to be waited for, and the index is whole; else it reports false.
func (s *Store) tryMaintenance() bool {
	if s.partial.Load() != nil {
		return false
	}
	select {
	case <-s.maint:
		return true
	default:
		return false
	}
}

func (s *Store) unlockMaintenance() { s.maint <- struct{}{} }

// entropy lets many goroutines read random bytes one after the other.
type entropy struct {
	mu   sync.Mutex
	r    io.Reader
	bits [64]byte // for coin
	left int
}

// Read implements io.Reader.
func (e *entropy) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return io.ReadFull(e.r, p)
}

// coin returns 0 or 1.
func (e *entropy) coin() (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left == 0 {
		if _, err := io.ReadFull(e.r, e.bits[:]); err != nil {
			return 0, fmt.Errorf("draw random bytes: %w", err)
		}
		e.left = 8 * len(e.bits)
	}
	e.left--
	return int(e.bits[e.left/8]>>(e.left%8)) & 1, nil
}
