package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// maxAway is of how many packs Verify finds out that they are not to be had now, before it gives up: each may take as long as a place is waited for.
const maxAway = 64

// verifiers is how many packs Verify has in memory at once, of 32 MiB each.
const verifiers = 2

// A Finding is one thing that Verify found wrong. At least one of Blob and Chunk is set.
type Finding struct {
	Blob  blob.Name // the blob that is damaged, missing or does not belong there
	Chunk chunk.ID  // the chunk that is damaged; zero if it is not about one
	Err   error     // what is wrong; wraps ErrCorrupt or ErrMissing. blob.ErrTemporary: the pack is not to be had now, and nothing is known of it
}

// String tells the finding in one line.
func (f Finding) String() string {
	if f.Chunk.IsZero() {
		return fmt.Sprintf("%s: %v", f.Blob, f.Err)
	}
	return fmt.Sprintf("%s: chunk %s: %v", f.Blob, f.Chunk, f.Err)
}

// Verify reads and checks all that is durable: that each pack has the hash that is its
// name, a directory, and chunks that open to what their dedup IDs say; that the
// index and the packs agree; that the index blobs open; and that nothing else lies
// among them. Where a sound pack and the index do not agree, the index is put right. It yields what is wrong, in no particular order, and ends at the first
// error that is none of the stored bytes' doing. A pack that no place gives now is a Finding of its own kind, and keeps nothing else from being
// checked; what is in other packs, too, is located there from then on. At the 65th such pack it gives up. progress, which may be nil, is told
// how many bytes of how many are read, by one goroutine at a time.
//
// The Store can be used meanwhile, but packs are not removed, and the loop over the
// findings must not call Refresh, Compact, Sweep or Verify.
func (s *Store) Verify(ctx context.Context, progress func(done, total int64)) iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		if err := s.verify(ctx, progress, yield); err != nil {
			yield(Finding{}, fmt.Errorf("verify store: %w", err))
		}
	}
}

// verify returns nil if the consumer has stopped.
func (s *Store) verify(ctx context.Context, progress func(int64, int64), yield func(Finding, error) bool) error {
	if err := s.checkOpen(); err != nil {
		return err
	}
	if err := s.lockMaintenance(ctx); err != nil {
		return err
	}
	defer s.unlockMaintenance()
	if progress == nil {
		progress = func(int64, int64) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan Finding)
	ended := make(chan error, 1)
	v := &verifying{s: s, ctx: ctx, progress: progress, found: found}
	go func() {
		defer close(found)
		ended <- v.run()
	}()
	stopped := false
	for f := range found {
		if !stopped && !yield(f, nil) {
			stopped = true
			cancel()
		}
	}
	if err := <-ended; !stopped {
		return err
	}
	return nil
}

// verifying is one Verify at work.
type verifying struct {
	s        *Store
	ctx      context.Context // of one Verify, no longer than its call
	progress func(done, total int64)
	found    chan<- Finding

	done, total atomic.Int64
	mu          sync.Mutex  // orders calls of progress
	away        []pack.Name // that are not to be had now; needs mu
	index       sync.Mutex  // lets one pack at a time be compared with the index, and proven
}

func (v *verifying) report(f Finding) error {
	select {
	case v.found <- f:
		return nil
	case <-v.ctx.Done():
		return v.ctx.Err()
	}
}

func (v *verifying) run() error {
	before := v.s.x.Packs()
	present, err := v.s.listPacks(v.ctx, func(name blob.Name) error {
		return v.report(Finding{Blob: name, Err: fmt.Errorf("%w: not the name of a pack", ErrCorrupt)})
	})
	if err != nil {
		return err
	}
	for _, size := range present {
		v.total.Add(size)
	}
	for _, p := range before {
		if _, ok := present[p.Name]; ok {
			continue
		}
		gone, err := v.s.isGone(v.ctx, p.Name)
		if err != nil {
			return err
		}
		if !gone {
			present[p.Name] = p.Size // the listing left it out
			v.total.Add(p.Size)
			continue
		}
		if p.Ghost { // this device has removed it
			if err := v.s.forget(v.ctx, []pack.Name{p.Name}); err != nil {
				return err
			}
			continue
		}
		err = fmt.Errorf("%w: the pack is gone, with %d chunks", ErrMissing, p.Live)
		if err := v.report(Finding{Blob: blob.Name(p.Name.BlobName()), Err: err}); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(v.ctx)
	g.SetLimit(verifiers)
	for name, size := range present {
		g.Go(func() error { return v.pack(gctx, name, size) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := v.lookElsewhere(); err != nil {
		return err
	}
	return v.indexBlobs()
}

// leave reports whether a pack that is not to be had now is left out.
func (v *verifying) leave(name pack.Name) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.away) == maxAway {
		return false
	}
	v.away = append(v.away, name)
	return true
}

// lookElsewhere locates the chunks of packs that were left out in others, as far as they are there. What this Store has put, or read as a whole, stays located where it is.
func (v *verifying) lookElsewhere() error {
	var hearsay []pack.Name
	for _, name := range v.away {
		if p, known := v.s.x.Pack(name); known && !p.Sure() {
			hearsay = append(hearsay, name)
		}
	}
	_, err := v.s.relocate(v.ctx, hearsay...)
	return err
}

var errUnsound = fmt.Errorf("%w: the hash is not the name", ErrCorrupt)

// pack checks one pack.
func (v *verifying) pack(ctx context.Context, name pack.Name, size int64) error {
	s, blobName := v.s, blob.Name(name.BlobName())
	bad := func(id chunk.ID, err error) error {
		return v.report(Finding{Blob: blobName, Chunk: id, Err: fmt.Errorf("%w: %w", ErrCorrupt, err)})
	}
	defer func() {
		v.mu.Lock()
		v.progress(v.done.Add(size), v.total.Load())
		v.mu.Unlock()
	}()
	var file []byte
	read := func() (err error) {
		if file, err = s.wholePack(ctx, name, size, nil); err == nil && blake3.Sum256(file) != name {
			err = errUnsound
		}
		return err
	}
	err := s.again(ctx, name, read(), read)
	sound := err == nil
	switch {
	case errors.Is(err, errUnsound):
		if err := bad(chunk.ID{}, errors.New("the hash is not the name")); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist):
		return nil // gone since it was listed; what was in the index is counted as missing
	case errors.Is(err, ErrCorrupt):
		return bad(chunk.ID{}, errors.New("larger than any pack"))
	case errors.Is(err, blob.ErrTemporary) && v.leave(name):
		return v.report(Finding{Blob: blobName, Err: err})
	case err != nil:
		return err
	}
	entries, err := s.readDirectory(int64(len(file)), bytes.NewReader(file))
	if err != nil {
		return bad(chunk.ID{}, fmt.Errorf("directory: %w", err))
	}
	keys := s.keys.Load()
	w := keys.workers.Get().(*worker)
	defer keys.workers.Put(w)
	r := s.readers.Get().(*reader)
	defer s.readers.Put(r)
	if w.err != nil {
		return w.err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		plain, err := s.openEntry(r.opener, w.buf[:0], e, file[e.Off:e.Off+e.Len])
		if err == nil {
			w.buf = plain
		} else {
			if err := bad(e.ID, err); err != nil {
				return err
			}
		}
	}
	return v.compare(ctx, name, file, entries, sound, bad)
}

// compare compares the index with the directory of a pack, of which all is read. If the pack is sound it is proven
// afterwards. What the index only knew by hearsay is put right and is no finding.
func (v *verifying) compare(ctx context.Context, name pack.Name, file []byte, entries []pack.Entry, sound bool, bad func(chunk.ID, error) error) error {
	s := v.s
	v.index.Lock()
	defer v.index.Unlock()
	prove := func() error {
		if !sound {
			return nil
		}
		delete(s.unsound, name)
		_, err := s.prove(ctx, name, file, entries)
		return err
	}
	p, known := s.x.Pack(name)
	if known && !p.Sure() {
		if err := prove(); err != nil {
			return err
		}
	}
	var located uint32
	for _, e := range entries {
		loc, ok, err := s.x.Lookup(ctx, e.ID)
		if err != nil {
			return err
		}
		if ok && loc.Pack == name && loc.Entry(e.ID) == e {
			located++
		} else if ok && loc.Pack == name {
			if err := bad(e.ID, errors.New("the index has it elsewhere in the pack")); err != nil {
				return err
			}
		}
	}
	if err := v.agree(name, located, bad); err != nil {
		return err
	}
	return prove()
}

// agree checks that the index has as many chunks in the pack as the pack's directory
// confirmed.
func (v *verifying) agree(name pack.Name, located uint32, bad func(chunk.ID, error) error) error {
	switch p, known := v.s.x.Pack(name); {
	case !known:
		return bad(chunk.ID{}, errors.New("the index does not know the pack"))
	case p.Live != located:
		return bad(chunk.ID{}, fmt.Errorf("the index has %d chunks there, the pack %d of these", p.Live, located))
	}
	return nil
}

// indexBlobs checks the index blobs and looks for what is none.
func (v *verifying) indexBlobs() error {
	var failed error
	err := v.s.checkIndexBlobs(v.ctx, func(name blob.Name, err error) {
		if failed == nil {
			failed = v.report(Finding{Blob: name, Err: fmt.Errorf("%w: %w", ErrCorrupt, err)})
		}
	})
	if err := errors.Join(failed, err); err != nil {
		return err
	}
	for info, err := range v.s.bucket.List(v.ctx, "index/") {
		if err != nil {
			return err
		}
		if !index.BlobOf(info.Name) || !index.BlobSize(info.Size) {
			err := fmt.Errorf("%w: not an index blob", ErrCorrupt)
			if err := v.report(Finding{Blob: info.Name, Err: err}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Stats is what a Store holds.
type Stats struct {
	Packs, PackBytes   int64 // durable packs, and their files' bytes
	Chunks, ChunkBytes int64 // chunks that can be read, and their sealed lengths
	PlainBytes         int64 // of these chunks
	DeadBytes          int64 // sealed bytes in packs that no chunk of the index lies in
	OpenChunks         int64 // of Chunks, those that are not durable yet
}

// Stats counts what the Store holds. It walks the whole index.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	if err := s.checkOpen(); err != nil {
		return Stats{}, err
	}
	var t Stats
	s.mu.Lock()
	seen := make(map[chunk.ID]bool, len(s.pending))
	for id, at := range s.pending {
		seen[id] = true
		t.Chunks++
		t.OpenChunks++
		t.ChunkBytes += int64(at.entry.Len)
		t.PlainBytes += int64(at.entry.Plain)
	}
	s.mu.Unlock()
	for it, err := range s.x.All(ctx) {
		if err != nil {
			return Stats{}, fmt.Errorf("count chunks: %w", err)
		}
		if !it.Orphan && !seen[it.ID] {
			t.Chunks++
			t.ChunkBytes += int64(it.Len)
			t.PlainBytes += int64(it.Plain)
		}
	}
	for _, p := range s.x.Packs() {
		t.Packs++
		t.PackBytes += p.Size
		t.DeadBytes += p.Body - p.LiveBytes
	}
	return t, nil
}
