package pair

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/sync/merge"
)

// settle notes in one transaction what a step has done, perhaps with what others have.
func (p *Pair) settle(ctx context.Context, st *merge.Step, entry []byte, before merge.Item) error {
	th := st.Thing
	s, was := st.Side, *th
	alone := st.Op == merge.Move && th.Kind == merge.Dir // it goes through what the database has of all below it
	return p.notes.update(ctx, alone, func(tx kv.Tx) error {
		*th = was
		n := p.nextN
		err := p.note(ctx, tx, st, before)
		if err == nil && st.Op == merge.Shelve {
			err = p.shelve(tx, th)
		}
		if err == nil && st.Drop {
			err = p.drop(tx, th.N)
			th.N = 0
		}
		if err == nil && st.Settles {
			for s := range 2 {
				th.Now[s].Path = st.At[s]
			}
			b := &merge.Pair{N: th.N, Item: th.Now}
			if b.N == 0 {
				n++
				b.N = n
			}
			if err = p.drop(tx, th.N); err == nil {
				err = p.putPair(tx, b)
			}
			th.N = b.N
		}
		if err == nil && st.Conflict != nil {
			err = p.putConflict(tx, st.Conflict)
		}
		if err == nil && st.Op <= merge.Hash {
			err = p.remember(tx, st)
		}
		if err == nil && n != p.nextN {
			p.nextN = n // also if it is not stored: then a number is left out
			err = tx.Put(p.key('m', "n"), binary.BigEndian.AppendUint64(nil, n))
		}
		if err == nil && entry != nil {
			err = tx.Delete(entry)
		}
		if err != nil {
			return fmt.Errorf("note what was done on the %s side: %w", s, err)
		}
		return nil
	})
}

// note brings shadow and base to what the step has made.
func (p *Pair) note(ctx context.Context, tx kv.Tx, st *merge.Step, before merge.Item) error {
	th, s := st.Thing, st.Side
	put := func(s merge.Side, flags byte) error {
		return p.shadowPut(tx, s, &th.Now[s], flags)
	}
	switch st.Op {
	case merge.Move:
		if th.Kind == merge.Dir {
			if err := p.renameAll(ctx, tx, st); err != nil {
				return err
			}
		}
		if err := tx.Delete(p.shadowKey(s, st.From)); err != nil {
			return err
		}
		if err := p.rebase(ctx, tx, st, before); err != nil {
			return err
		}
		th.Has[s] = true
		return put(s, flagOwn)
	case merge.Mkdir, merge.Touch:
		th.Has[s] = true
		return put(s, flagOwn)
	case merge.Copy:
		th.Has[s] = true
		if err := put(s.Other(), 0); err != nil {
			return err
		}
		return put(s, flagOwn)
	case merge.Remove:
		th.Has[s] = false
		return tx.Delete(p.shadowKey(s, st.Path))
	case merge.Hash:
		return errors.Join(put(merge.Left, 0), put(merge.Right, 0))
	}
	return nil
}

// renameAll moves the shadow of all that is in a directory.
func (p *Pair) renameAll(ctx context.Context, tx kv.Tx, st *merge.Step) error {
	all, err := p.within(ctx, st.Side, st.From)
	if err != nil {
		return err
	}
	for _, it := range all {
		if it.Path == st.From {
			continue
		}
		if err := tx.Delete(p.shadowKey(st.Side, it.Path)); err != nil {
			return err
		}
		it.Path = st.Path + it.Path[len(st.From):]
		if err := p.shadowPut(tx, st.Side, &it, flagOwn); err != nil {
			return err
		}
	}
	return nil
}

// rebase moves in the base what a step has moved on a side; where that follows the other side, both agree on the place.
func (p *Pair) rebase(ctx context.Context, tx kv.Tx, st *merge.Step, before merge.Item) error {
	th, s, o := st.Thing, st.Side, st.Side.Other()
	if st.Carries && th.Has[merge.Left] {
		was := merge.Pair{Item: th.Now}
		was.Item[s].Path = st.From
		return p.rebaseAll(ctx, tx, st, &was)
	}
	if th.N == 0 || st.Drop {
		return nil
	}
	b, err := p.pair(tx, th.N)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	was := b
	if th.Kind == merge.Dir {
		if err := p.rebaseAll(ctx, tx, st, &was); err != nil {
			return err
		}
	}
	if b.Item[s].Version == before.Version && b.Item[s].Kind == before.Kind {
		b.Item[s].Version = th.Now[s].Version
	}
	b.Item[s].Path = th.Now[s].Path
	if st.Follows {
		b.Item[o].Path = th.Now[o].Path
	}
	if err := tx.Delete(p.baseKey(&was)); err != nil {
		return err
	}
	return p.putPair(tx, &b)
}

func (p *Pair) rebaseAll(ctx context.Context, tx kv.Tx, st *merge.Step, dir *merge.Pair) error {
	s, o := st.Side, st.Side.Other()
	from, to := p.below('b', merge.Left, dir.Item[merge.Left].Path)
	var all []merge.Pair
	for kvp, err := range p.o.KV.Scan(ctx, from, to) {
		if err != nil {
			return err
		}
		b, err := decodePair(kvp.Value)
		if err != nil {
			return err
		}
		all = append(all, b)
	}
	for i := range all {
		// What this transaction has changed itself a Scan does not show; settlements go one by one, so there is none.
		b := all[i]
		if rest, ok := strings.CutPrefix(b.Item[s].Path, dir.Item[s].Path+"/"); ok {
			b.Item[s].Path = st.Thing.Now[s].Path + "/" + rest
		}
		if rest, ok := strings.CutPrefix(b.Item[o].Path, dir.Item[o].Path+"/"); ok && st.Follows {
			// What did not move with it there has been deleted there, or was never there: it is looked for where it was.
			path := st.Thing.Now[o].Path + "/" + rest
			if _, err := tx.Get(p.shadowKey(o, path)); err == nil {
				b.Item[o].Path = path
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if b.Item[0].Path == all[i].Item[0].Path && b.Item[1].Path == all[i].Item[1].Path {
			continue
		}
		if err := tx.Delete(p.baseKey(&all[i])); err != nil {
			return err
		}
		if err := p.putPair(tx, &b); err != nil {
			return err
		}
	}
	return nil
}

// pair returns the pair n.
func (p *Pair) pair(tx kv.Tx, n uint64) (b merge.Pair, err error) {
	key, err := tx.Get(p.numberKey(n))
	if err != nil {
		return b, err
	}
	v, err := tx.Get(key)
	if err != nil {
		return b, err
	}
	return decodePair(v)
}

func (p *Pair) putPair(tx kv.Tx, b *merge.Pair) error {
	key := p.baseKey(b)
	return errors.Join(tx.Put(key, encodePair(b)), tx.Put(p.numberKey(b.N), key))
}

// drop forgets the pair n.
func (p *Pair) drop(tx kv.Tx, n uint64) error {
	if n == 0 {
		return nil
	}
	key, err := tx.Get(p.numberKey(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(tx.Delete(key), tx.Delete(p.numberKey(n)))
}

// conflict is how a conflict that comes up in this turn is kept.
func (p *Pair) conflict(c *merge.Conflict) Conflict {
	id := p.began.Format(stampForm) + "-" + c.Copy
	return Conflict{ID: id[:min(len(id), kv.MaxKey-len(p.key('x', "")))], Time: p.began, Path: c.Path, Copy: c.Copy, Side: c.Side}
}

func (p *Pair) putConflict(tx kv.Tx, mc *merge.Conflict) error {
	c := p.conflict(mc)
	v, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return tx.Put(p.key('x', c.ID), v)
}
