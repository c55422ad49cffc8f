package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// shardTarget is how many bytes a shard should have at most, while there may be more shards.
const shardTarget = 256 << 10

// loaders is how many shards are fetched at once.
const loaders = 4

// A Coverage says what index blobs tell of.
type Coverage struct {
	Covered   int   // packs that an index blob tells of
	Uncovered int   // packs that none does
	Own       int   // of these, that this Store has put
	OwnBytes  int64 // of their files
	Blobs     int64 // about how many bytes index blobs for all packs would have together
}

// Coverage returns what the index blobs that were written or loaded last tell of.
func (x *Index) Coverage(ctx context.Context) (c Coverage, err error) {
	limit, err := x.meta(ctx, metaCovered)
	if err != nil {
		return c, fmt.Errorf("read what index blobs cover: %w", err)
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	bytes, chunks := int64(0), 0
	for num, rec := range x.table {
		if !rec.known {
			continue
		}
		bytes, chunks = bytes+rec.Size, chunks+int(rec.Live)
		if uint64(num) < limit {
			c.Covered++
			continue
		}
		if c.Uncovered++; rec.Own {
			c.Own++
			c.OwnBytes += rec.Size
		}
	}
	g := gridFor(c.Covered+c.Uncovered, bytes, chunks)
	c.Blobs = g.root + g.shard<<g.bits
	return c, nil
}

// WriteBlobs writes all that the index knows now into a new generation of index
// blobs, and removes the older ones once it is durable. One shard at a time is in memory.
func (x *Index) WriteBlobs(ctx context.Context, b blob.Bucket, key *[32]byte, entropy io.Reader) error {
	old, newest, err := listBlobs(ctx, b)
	if err != nil {
		return fmt.Errorf("write index blobs: %w", err)
	}
	var r root
	binary.BigEndian.PutUint64(r.gen[:8], newest+1)
	if _, err := io.ReadFull(entropy, r.gen[8:]); err != nil {
		return fmt.Errorf("write index blobs: %w", err)
	}
	numbers, limit, chunks := x.snapshot(&r)
	total := int64(0)
	for _, p := range r.packs {
		total += p.Size
	}
	w := shardWriter{bucket: b, key: key, entropy: entropy, root: &r, grid: gridFor(len(r.packs), total, chunks)}
	r.bits = w.grid.bits
	for it, err := range x.All(ctx) {
		if err != nil {
			return fmt.Errorf("write index blobs: %w", err)
		}
		no, ok := numbers[it.num]
		if !ok {
			continue
		}
		if err := w.add(ctx, it, no); err != nil {
			return fmt.Errorf("write index blobs: %w", err)
		}
	}
	if err := w.finish(ctx); err != nil {
		return fmt.Errorf("write index blobs: %w", err)
	}
	x.write.Lock()
	err = x.setMeta(ctx, metaCovered, uint64(limit))
	x.write.Unlock()
	if err != nil {
		return fmt.Errorf("write index blobs: %w", err)
	}
	// A generation with a higher number is another writer's, complete or not.
	old = slices.DeleteFunc(old, func(n blob.Name) bool {
		g, _, _ := parseBlobName(n)
		return g.number() > newest
	})
	if err := b.Remove(ctx, old...); err != nil {
		return fmt.Errorf("remove old index blobs: %w", err)
	}
	return nil
}

// snapshot fills in the packs of r, and returns which number in r each pack
// number has, the first pack number that r does not cover, and how many chunks
// there are about.
func (x *Index) snapshot(r *root) (numbers map[uint32]uint32, limit uint32, chunks int) {
	x.write.Lock() // so that no Update is half done
	defer x.write.Unlock()
	numbers = make(map[uint32]uint32, len(x.table))
	for num := range x.next {
		if rec, ok := x.table[num]; ok {
			numbers[num] = uint32(len(r.packs))
			r.packs = append(r.packs, rec.Pack)
			chunks += int(rec.Live)
		}
	}
	return numbers, x.next, chunks
}

// shardWriter gets chunks in the order of their IDs and puts shard after shard, then the root.
type shardWriter struct {
	bucket  blob.Bucket
	key     *[32]byte
	entropy io.Reader
	root    *root
	grid    grid
	content []byte
}

func (w *shardWriter) add(ctx context.Context, it Item, no uint32) error {
	for len(w.root.shards) < shardOf(it.ID, w.root.bits) {
		if err := w.put(ctx); err != nil {
			return err
		}
	}
	w.content = appendShardEntry(w.content, it.ID, no, it.Location)
	return nil
}

// put writes the shard that is next.
func (w *shardWriter) put(ctx context.Context) error {
	no := len(w.root.shards)
	file, err := sealBlob(w.key, w.root.gen, roleShard, no, w.content, w.grid.shard, w.entropy)
	if err != nil {
		return err
	}
	w.root.shards = append(w.root.shards, shardInfo{
		count: uint32(len(w.content) / entrySize), size: int64(len(file)), hash: hashOf(file),
	})
	w.content = w.content[:0]
	return w.bucket.Put(ctx, w.root.gen.shardName(no), bytes.NewReader(file), int64(len(file)))
}

func (w *shardWriter) finish(ctx context.Context) error {
	for len(w.root.shards) < 1<<w.root.bits {
		if err := w.put(ctx); err != nil {
			return err
		}
	}
	file, err := sealBlob(w.key, w.root.gen, roleRoot, 0, appendRoot(nil, *w.root), w.grid.root, w.entropy)
	if err != nil {
		return err
	}
	return w.bucket.Put(ctx, w.root.gen.rootName(), bytes.NewReader(file), int64(len(file)))
}

// listBlobs returns the names of all index blobs, and the highest number of a
// generation that has a root.
func listBlobs(ctx context.Context, b blob.Bucket) (names []blob.Name, newest uint64, err error) {
	for info, err := range b.List(ctx, "index/") {
		if err != nil {
			return nil, 0, fmt.Errorf("list index blobs: %w", err)
		}
		g, shard, ok := parseBlobName(info.Name)
		if !ok {
			continue
		}
		names = append(names, info.Name)
		// The last number is not one that a writer gets to; who puts it there
		// wants the next to overflow.
		if shard < 0 && g.number() < 1<<63 {
			newest = max(newest, g.number())
		}
	}
	return names, newest, nil
}

// Load learns packs from the newest generation of index blobs that opens: those
// of them that are present, with their sizes, and not known yet. Packs with
// Doubles are left out, for a shard names only one place of a chunk, and that may
// be gone: their directories must be read. So are those that this device has removed, under their own names or, as
// their marks tell, under others. What it learns is
// hearsay: the blobs may be old, and their writer may have been shown one pack for another. All shards must be sound, or no pack
// becomes known and the error wraps ErrBlob. Where no generation was written yet there is nothing to learn.
func (x *Index) Load(ctx context.Context, b blob.Bucket, key *[32]byte, present map[pack.Name]int64) error {
	l, err := x.Begin(ctx, b, key, present)
	if l == nil || err != nil {
		return err
	}
	return l.Finish(ctx)
}

// Begin is the begin of a Load: it reads the root alone. Until the Loading that it returns has finished or was ended, Lookup reads the shard
// that a chunk is in if the index does not know where that is; no pack is known before all are. No Loading and no error says that no
// generation was written yet. One Loading at a time may be under way.
func (x *Index) Begin(ctx context.Context, b blob.Bucket, key *[32]byte, present map[pack.Name]int64) (*Loading, error) {
	r, some, err := newestRoot(ctx, b, key)
	if err != nil {
		return nil, fmt.Errorf("load index blobs: %w", err)
	}
	if !some {
		return nil, nil
	}
	l := &Loading{x: x, bucket: b, key: *key, root: r, learned: make([]*Pack, len(r.packs))}
	if err := l.reserve(ctx, present); err != nil {
		return nil, fmt.Errorf("load index blobs: %w", err)
	}
	x.loading.Store(l)
	return l, nil
}

// Finish reads all shards. The Loading has ended when it returns, also with an error.
func (l *Loading) Finish(ctx context.Context) error {
	defer l.End()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(loaders)
	for no := range l.root.shards {
		g.Go(func() error { return l.shard(gctx, no) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("load index blobs: %w", err)
	}
	if err := l.finish(ctx); err != nil {
		return fmt.Errorf("load index blobs: %w", err)
	}
	return nil
}

// End ends the Loading.
func (l *Loading) End() { l.x.loading.CompareAndSwap(l, nil) }

// newestRoot returns the root of the highest number that opens, and whether there is any.
func newestRoot(ctx context.Context, b blob.Bucket, key *[32]byte) (r root, some bool, err error) {
	names, _, err := listBlobs(ctx, b)
	if err != nil {
		return root{}, false, err
	}
	slices.Reverse(names) // so the highest numbers come first
	for _, name := range names {
		g, shard, _ := parseBlobName(name)
		if shard >= 0 {
			continue
		}
		some = true
		if r, err := readRoot(ctx, b, key, g); err == nil {
			return r, true, nil
		}
		if err := ctx.Err(); err != nil {
			return root{}, true, err
		}
	}
	if !some {
		return root{}, false, nil
	}
	return root{}, true, fmt.Errorf("%w: no generation opens", ErrBlob)
}

func readRoot(ctx context.Context, b blob.Bucket, key *[32]byte, g generation) (root, error) {
	file, err := readBlob(ctx, b, g.rootName())
	if err != nil {
		return root{}, err
	}
	content, err := openBlob(key, g, roleRoot, 0, file)
	if err != nil {
		return root{}, err
	}
	r, err := parseRoot(content)
	if err == nil && r.gen != g {
		err = ErrBlob
	}
	return r, err
}

// readBlob reads a whole blob. One that is not there is damage, too.
func readBlob(ctx context.Context, b blob.Bucket, name blob.Name) ([]byte, error) {
	file, err := blob.ReadAll(ctx, b, name, blobMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrBlob, err)
	}
	return file, err
}

func readShard(ctx context.Context, b blob.Bucket, key *[32]byte, r root, no int) ([]shardEntry, error) {
	file, err := readBlob(ctx, b, r.gen.shardName(no))
	if err != nil {
		return nil, err
	}
	if hashOf(file) != r.shards[no].hash {
		return nil, fmt.Errorf("%w: not the shard that the root names", ErrBlob)
	}
	content, err := openBlob(key, r.gen, roleShard, no, file)
	if err != nil {
		return nil, err
	}
	entries, err := parseShard(r, no, content)
	if err == nil && len(entries) != int(r.shards[no].count) {
		err = fmt.Errorf("%w: %d entries where %d were due", ErrBlob, len(entries), r.shards[no].count)
	}
	return entries, err
}

// A Loading brings one generation into the index. The packs it learns have numbers
// from the start, but get their records, and so become known, only at the end:
// what it leaves behind when it fails are orphans.
type Loading struct {
	x       *Index
	bucket  blob.Bucket
	key     [32]byte
	root    root
	first   uint32
	learned []*Pack // by number in the root; nil: known before, or not present. What they hold is guarded by x.write
	kept    keptShards
}

func (l *Loading) reserve(ctx context.Context, present map[pack.Name]int64) error {
	x := l.x
	x.write.Lock()
	defer x.write.Unlock()
	if uint64(x.next)+uint64(len(l.root.packs)) > 1<<32-2 {
		return fmt.Errorf("%w: too many packs", ErrBlob)
	}
	seen := map[pack.Name]bool{}
	for i, p := range l.root.packs {
		size, there := present[p.Name]
		_, known := x.byName[p.Name]
		if there && size == p.Size && !known && !p.Doubles && !seen[p.Name] {
			seen[p.Name] = true
			if usable, err := x.mayLearn(ctx, p.Name, p.Mark); err != nil {
				return err
			} else if !usable {
				continue
			}
			l.learned[i] = &Pack{Name: p.Name, Size: p.Size, Body: p.Body, Count: p.Count, Mark: p.Mark}
		}
	}
	l.first = x.next
	if err := x.setMeta(ctx, metaNext, uint64(x.next)+uint64(len(l.root.packs))); err != nil {
		return err
	}
	x.next += uint32(len(l.root.packs))
	return nil
}

// Rest returns those of the packs that are present of which l tells nothing: their directories have to be read.
func (l *Loading) Rest(present map[pack.Name]int64) map[pack.Name]int64 {
	rest := maps.Clone(present)
	for _, p := range l.learned {
		if p != nil {
			delete(rest, p.Name)
		}
	}
	return rest
}

func (l *Loading) shard(ctx context.Context, no int) error {
	entries, err := readShard(ctx, l.bucket, &l.key, l.root, no)
	if err != nil {
		return err
	}
	const step = 4096 // entries in one Update
	for part := range slices.Chunk(entries, step) {
		if err := l.store(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (l *Loading) store(ctx context.Context, entries []shardEntry) error {
	x := l.x
	x.write.Lock()
	defer x.write.Unlock()
	counted := make(map[uint32]Pack, 8)
	err := x.db.Update(ctx, func(tx kv.Tx) error {
		clear(counted)
		b := &batch{x: x, tx: tx}
		for _, e := range entries {
			p := l.learned[e.pack]
			if p == nil {
				continue
			}
			c := counted[e.pack]
			if _, was, err := b.location(e.entry.ID); err != nil {
				return err
			} else if was {
				c.Doubles = true
				counted[e.pack] = c
				continue
			}
			c.Live++
			c.LiveBytes += int64(e.entry.Len)
			counted[e.pack] = c
			x.filter.add(e.entry.CID)
			loc := entryLocation(p.Name, e.entry)
			if err := tx.Put(locationKey(e.entry.ID), encodeLocation(l.first+e.pack, loc)); err != nil {
				return err
			}
			if err := tx.Put(cidKey(e.entry.CID), append([]byte(nil), e.entry.ID[:]...)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for no, c := range counted {
		p := l.learned[no]
		p.Live += c.Live
		p.LiveBytes += c.LiveBytes
		p.Doubles = p.Doubles || c.Doubles
	}
	return nil
}

// finish makes the packs known, and says what is covered.
func (l *Loading) finish(ctx context.Context) error {
	x := l.x
	return x.change(ctx, func(b *batch) (err error) {
		for i, p := range l.learned {
			if p == nil {
				continue
			}
			if _, known := x.byName[p.Name]; known {
				continue // made known meanwhile, by another way
			}
			if p.Doomed, err = b.doomed(p.Name); err != nil {
				return err
			}
			b.packs[l.first+uint32(i)] = p
		}
		if l.first != 1 {
			return nil // packs with lower numbers may not be covered
		}
		return b.tx.Put([]byte(metaCovered), binary.BigEndian.AppendUint64(nil, uint64(l.first)+uint64(len(l.learned))))
	})
}

// CheckBlob reports, with an error that wraps ErrBlob, whether file is not the index blob of that name as it was written with that key.
func CheckBlob(name blob.Name, file []byte, key *[32]byte) error {
	g, shard, ok := parseBlobName(name)
	if !ok {
		return fmt.Errorf("%w: %q is no name of one", ErrBlob, string(name))
	}
	role := roleShard
	if shard < 0 {
		role, shard = roleRoot, 0
	}
	_, err := openBlob(key, g, role, shard, slices.Clone(file))
	return err
}

// CheckBlobs reads and checks every index blob, and yields what is wrong with
// each that is damaged, forged, or of no generation that opens.
func CheckBlobs(ctx context.Context, b blob.Bucket, key *[32]byte, bad func(blob.Name, error)) error {
	names, newest, err := listBlobs(ctx, b)
	if err != nil {
		return err
	}
	roots := map[generation]root{}
	for _, name := range names {
		g, shard, _ := parseBlobName(name)
		if shard >= 0 || g.number() != newest {
			continue
		}
		r, err := readRoot(ctx, b, key, g)
		if err != nil {
			bad(name, err)
			continue
		}
		roots[g] = r
		for no := range r.shards {
			if _, err := readShard(ctx, b, key, r, no); err != nil {
				bad(g.shardName(no), err)
			}
		}
	}
	return ctx.Err()
}

// BlobOf reports whether n is a name that an index blob may have.
func BlobOf(n blob.Name) bool { _, _, ok := parseBlobName(n); return ok }
