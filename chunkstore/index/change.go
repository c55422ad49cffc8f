package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// Add makes a pack of this device known, with all its chunks: they are located
// there from now on, whatever was known of them before. It does nothing that it
// did already, so it may be repeated. The pack is proven.
func (x *Index) Add(ctx context.Context, name pack.Name, size int64, entries []pack.Entry, mark Mark) error {
	err := x.change(ctx, func(b *batch) error {
		num, p, err := b.open(name, size, entries)
		if err != nil {
			return err
		}
		p.Own, p.Proven, p.Ghost, p.Mark = true, true, false, mark
		return b.take(num, entries, func(uint32) bool { return true })
	})
	if err != nil {
		return fmt.Errorf("add pack %x to index: %w", name[:6], err)
	}
	return nil
}

// Learn makes a pack known by hearsay: the bucket showed the directory, with that mark. Chunks that are
// located in another known pack stay there, unless that is a ghost, or doomed, or one of gone, which
// the caller is about to Drop. A pack that is known already takes such chunks over, too. A pack that was
// removed becomes a ghost. The error wraps ErrStranger if the directory is that of another pack.
func (x *Index) Learn(ctx context.Context, name pack.Name, size int64, entries []pack.Entry, mark Mark, gone ...pack.Name) error {
	err := x.change(ctx, func(b *batch) error {
		ghost, err := b.buried(name, mark)
		if err != nil {
			return err
		}
		_, known := b.x.byName[name]
		num, p, err := b.open(name, size, entries)
		if err != nil {
			return err
		}
		if p.Proven && p.Mark != mark {
			return ErrStranger
		}
		switch {
		case !known:
			p.Mark = mark
		case p.Mark != mark:
			p.Mark = Mark{}
		}
		p.Ghost = ghost
		if p.Doomed, err = b.doomed(name); err != nil {
			return err
		}
		r := rank(*p)
		return b.take(num, entries, func(at uint32) bool {
			holder := b.x.table[at].Pack
			return rank(holder) < min(r, hearsay) || slices.Contains(gone, holder.Name)
		})
	})
	if err != nil {
		return fmt.Errorf("learn pack %x: %w", name[:6], err)
	}
	return nil
}

// take locates entries of pack num in it: those that are located in no other known
// pack, or in one of which wins says so.
func (b *batch) take(num uint32, entries []pack.Entry, wins func(uint32) bool) error {
	b.x.mu.RLock()
	pardon := b.x.condemned
	b.x.mu.RUnlock()
	for _, e := range entries {
		old, was, err := b.location(e.ID)
		if err != nil {
			return err
		}
		switch {
		case was && old == num:
			continue
		case was && !wins(old):
			b.pack(num).Doubles = true
			continue
		}
		if err := b.place(num, e); err != nil {
			return err
		}
		if pardon { // whoever stores a chunk anew wants it
			if err := b.tx.Delete(condemnedKey(e.ID)); err != nil {
				return err
			}
		}
	}
	return nil
}

// A Moved is a chunk of a new pack, and the pack that it was copied from.
type Moved struct {
	Entry pack.Entry // in the new pack
	From  pack.Name
}

// Move makes a new pack of this device known, locates in it the chunks that are still located
// where they were copied from, and forgets the packs of drop, all in one step. The pack is proven.
func (x *Index) Move(ctx context.Context, name pack.Name, size int64, mark Mark, moved []Moved, drop []pack.Name) error {
	err := x.change(ctx, func(b *batch) error {
		entries := make([]pack.Entry, len(moved))
		for i := range moved {
			entries[i] = moved[i].Entry
		}
		num, p, err := b.open(name, size, entries)
		if err != nil {
			return err
		}
		p.Own, p.Proven, p.Ghost, p.Mark = true, true, false, mark
		for _, m := range moved {
			old, was, err := b.location(m.Entry.ID)
			if err != nil {
				return err
			}
			if was && old == num {
				continue
			}
			if !was || b.x.table[old].Name != m.From {
				p.Doubles = true // gone meanwhile, or newer elsewhere
				continue
			}
			if err := b.place(num, m.Entry); err != nil {
				return err
			}
		}
		return b.drop(drop)
	})
	if err != nil {
		return fmt.Errorf("move chunks to pack %x: %w", name[:6], err)
	}
	return nil
}

// Drop forgets packs. The chunks that are located there are not known any more.
func (x *Index) Drop(ctx context.Context, names ...pack.Name) error {
	if err := x.change(ctx, func(b *batch) error { return b.drop(names) }); err != nil {
		return fmt.Errorf("drop packs from index: %w", err)
	}
	return nil
}

// A Dead is a chunk that is to be forgotten, if it is still located in that pack.
type Dead struct {
	ID   chunk.ID
	Pack pack.Name
}

// Remove forgets chunks, and that they were condemned, but for those in packs that are not proven: these stay as
// they are.
func (x *Index) Remove(ctx context.Context, dead []Dead) error {
	err := x.change(ctx, func(b *batch) error {
		for _, d := range dead {
			if err := b.remove(d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove chunks from index: %w", err)
	}
	return nil
}

// RemoveOrphans forgets those of the chunks that are located in no known pack.
func (x *Index) RemoveOrphans(ctx context.Context, ids []chunk.ID) error {
	err := x.change(ctx, func(b *batch) error {
		for _, id := range ids {
			_, was, err := b.location(id)
			if err != nil {
				return err
			}
			if !was {
				if err := b.erase(id); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove orphans from index: %w", err)
	}
	return nil
}

// Condemn records that a cycle of garbage collection found the chunks
// unreachable. Those that are condemned already stay so as they are.
func (x *Index) Condemn(ctx context.Context, cycle uint64, at time.Time, ids []chunk.ID) error {
	x.mu.Lock()
	x.condemned = true
	x.mu.Unlock()
	err := x.change(ctx, func(b *batch) error {
		for _, id := range ids {
			_, err := b.tx.Get(condemnedKey(id))
			if err == nil {
				continue
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := b.tx.Put(condemnedKey(id), encodeCondemned(cycle, at)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("condemn chunks: %w", err)
	}
	return nil
}

// Pardon takes condemnations back.
func (x *Index) Pardon(ctx context.Context, ids []chunk.ID) error {
	err := x.change(ctx, func(b *batch) error {
		for _, id := range ids {
			if err := b.tx.Delete(condemnedKey(id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("pardon chunks: %w", err)
	}
	return nil
}

// IsCondemned reports whether the chunk is condemned.
func (x *Index) IsCondemned(ctx context.Context, id chunk.ID) (bool, error) {
	x.mu.RLock()
	some := x.condemned
	x.mu.RUnlock()
	if !some {
		return false, nil
	}
	_, err := x.db.Get(ctx, condemnedKey(id))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up condemned chunk: %w", err)
	}
	return true, nil
}

// NextCycle returns the number of a new cycle of garbage collection, larger than
// all before.
func (x *Index) NextCycle(ctx context.Context) (uint64, error) {
	x.write.Lock()
	defer x.write.Unlock()
	n, err := x.meta(ctx, metaCycle)
	if err == nil {
		n++
		err = x.setMeta(ctx, metaCycle, n)
	}
	if err != nil {
		return 0, fmt.Errorf("begin cycle: %w", err)
	}
	return n, nil
}

// A batch is one Update under way: it keeps the table of packs beside the
// transaction, and makes it the index's own when the Update has succeeded.
type batch struct {
	x     *Index
	tx    kv.Tx
	packs map[uint32]*Pack // as they will be
	fresh map[uint32]bool  // of these, those that have just got their number
	gone  []uint32
}

// change runs fn in one Update. The caller must not hold x.mu.
func (x *Index) change(ctx context.Context, fn func(*batch) error) error {
	x.write.Lock()
	defer x.write.Unlock()
	b := &batch{x: x, packs: map[uint32]*Pack{}, fresh: map[uint32]bool{}}
	err := x.db.Update(ctx, func(tx kv.Tx) error {
		b.tx = tx
		if err := fn(b); err != nil {
			return err
		}
		return b.finish()
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		for num := range b.fresh {
			delete(x.table, num)
		}
		return err
	}
	for _, num := range b.gone {
		delete(x.byName, x.table[num].Name)
		delete(x.table, num)
	}
	for num, p := range b.packs {
		x.table[num] = packRec{Pack: *p, known: true}
		x.byName[p.Name] = num
	}
	return nil
}

// finish writes the packs that have changed.
func (b *batch) finish() error {
	for _, num := range b.gone {
		delete(b.packs, num)
		if err := b.tx.Delete(packKey(num)); err != nil {
			return err
		}
	}
	for _, num := range slices.Sorted(maps.Keys(b.packs)) {
		if err := b.tx.Put(packKey(num), encodePack(*b.packs[num])); err != nil {
			return err
		}
	}
	if len(b.fresh) == 0 {
		return nil
	}
	return b.tx.Put([]byte(metaNext), binary.BigEndian.AppendUint64(nil, uint64(b.x.next)))
}

// pack returns the pack for changes.
func (b *batch) pack(num uint32) *Pack {
	p, ok := b.packs[num]
	if !ok {
		c := b.x.table[num].Pack // only holders of x.write change the table
		p = &c
		b.packs[num] = p
	}
	return p
}

// open returns the pack of that name for changes, with a new number if it is
// not known. The number resolves for readers from now on, so that no chunk is
// out of their sight between the Update and what follows it.
func (b *batch) open(name pack.Name, size int64, entries []pack.Entry) (uint32, *Pack, error) {
	if num, ok := b.x.byName[name]; ok {
		return num, b.pack(num), nil
	}
	return b.number(name, size, entries)
}

// number gives the pack a new number, as open does. If it had one before, the caller gives that up.
func (b *batch) number(name pack.Name, size int64, entries []pack.Entry) (uint32, *Pack, error) {
	if b.x.next == 1<<32-1 {
		return 0, nil, errors.New("out of pack numbers: the index must be rebuilt")
	}
	num := b.x.next
	b.x.next++
	p := &Pack{Name: name, Size: size, Count: uint32(len(entries))}
	for _, e := range entries {
		p.Body += int64(e.Len)
	}
	b.packs[num], b.fresh[num] = p, true
	b.x.mu.Lock()
	b.x.table[num] = packRec{Pack: *p}
	b.x.mu.Unlock()
	return num, p, nil
}

// location returns the number of the known pack in which the chunk is located.
func (b *batch) location(id chunk.ID) (num uint32, ok bool, err error) {
	num, _, ok, err = b.where(id)
	return num, ok, err
}

// where returns besides where in the pack it is, but for the name.
func (b *batch) where(id chunk.ID) (num uint32, loc Location, ok bool, err error) {
	v, err := b.tx.Get(locationKey(id))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, Location{}, false, nil
	}
	if err != nil {
		return 0, Location{}, false, err
	}
	num, loc, err = decodeLocation(v)
	if err != nil {
		return 0, Location{}, false, err
	}
	_, ok = b.x.table[num]
	return num, loc, ok, nil
}

// place locates the chunk in pack num, and takes it from where it was.
func (b *batch) place(num uint32, e pack.Entry) error {
	old, was, err := b.location(e.ID)
	if err != nil {
		return err
	}
	if was {
		p := b.pack(old)
		if err := b.unlive(p, e.ID); err != nil {
			return err
		}
		p.Doubles = true
	}
	b.x.filter.add(e.CID)
	p := b.pack(num)
	p.Live++
	p.LiveBytes += int64(e.Len)
	if err := b.tx.Put(locationKey(e.ID), encodeLocation(num, entryLocation(p.Name, e))); err != nil {
		return err
	}
	key := cidKey(e.CID)
	v, err := b.tx.Get(key)
	if err == nil && len(v) == len(chunk.ID{}) && chunk.ID(v) != e.ID {
		// Two frames of the same plain bytes. The first one stays the answer, if it is there.
		if _, ok, err := b.location(chunk.ID(v)); err != nil || ok {
			return err
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return b.tx.Put(key, e.ID[:])
}

// unlive counts the chunk out of the pack p, in which it is located.
func (b *batch) unlive(p *Pack, id chunk.ID) error {
	v, err := b.tx.Get(locationKey(id))
	if err != nil {
		return err
	}
	_, loc, err := decodeLocation(v)
	if err != nil {
		return err
	}
	p.Live--
	p.LiveBytes -= int64(loc.Len)
	return nil
}

func (b *batch) remove(d Dead) error {
	num, was, err := b.location(d.ID)
	if err != nil {
		return err
	}
	if was && b.x.table[num].Name != d.Pack {
		return b.tx.Delete(condemnedKey(d.ID)) // stored anew meanwhile
	}
	if was && !b.x.table[num].Proven {
		return nil // that it is there is hearsay; so may be what else the pack holds
	}
	if was {
		if err := b.unlive(b.pack(num), d.ID); err != nil {
			return err
		}
	}
	return b.erase(d.ID)
}

// erase deletes all keys of the chunk.
func (b *batch) erase(id chunk.ID) error {
	v, err := b.tx.Get(locationKey(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		_, loc, err := decodeLocation(v)
		if err != nil {
			return err
		}
		v, err := b.tx.Get(cidKey(loc.CID))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && string(v) == string(id[:]) {
			if err := b.tx.Delete(cidKey(loc.CID)); err != nil {
				return err
			}
		}
		if err := b.tx.Delete(locationKey(id)); err != nil {
			return err
		}
	}
	return b.tx.Delete(condemnedKey(id))
}

func (b *batch) drop(names []pack.Name) error {
	for _, name := range names {
		if num, ok := b.x.byName[name]; ok {
			b.gone = append(b.gone, num)
		}
	}
	return nil
}
