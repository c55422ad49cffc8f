package pair

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// batch is how many items of a listing one transaction has.
const batch = 512

// fullEvery is after how long a side is listed in full, whatever its feed told.
const fullEvery = 7 * 24 * time.Hour

// look brings the shadow of a side up to date.
func (p *Pair) look(ctx context.Context, s merge.Side) error {
	t := p.o.Tree[s]
	if err := p.identify(ctx, s); err != nil {
		return err
	}
	cursor := remote.Cursor("")
	if t.Can().ChangeFeed {
		v, err := p.o.KV.Get(ctx, p.key('c', s.String()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if cursor = remote.Cursor(v); cursor != "" && p.o.Now().Sub(p.lastFull(ctx, s)) >= fullEvery {
			cursor = "" // feeds forget
		}
	}
	err := p.follow(ctx, s, cursor)
	if cursor != "" && errors.Is(err, remote.ErrCursor) {
		err = p.follow(ctx, s, "")
	}
	return err
}

// identify looks whether a side is the place that it was.
func (p *Pair) identify(ctx context.Context, s merge.Side) error {
	id, err := p.o.Tree[s].Identity(ctx)
	if err != nil {
		return fmt.Errorf("which place it is: %w", err)
	}
	key := p.key('i', s.String())
	known, err := p.o.KV.Get(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.o.KV.Update(ctx, func(tx kv.Tx) error { return tx.Put(key, []byte(id)) })
	case err != nil:
		return err
	case string(known) != id:
		return fmt.Errorf("%w: it was %q and is %q", ErrSwapped, known, id)
	}
	return nil
}

// follow takes over what a side tells since the cursor, and what it does not tell any more if that is "".
func (p *Pair) follow(ctx context.Context, s merge.Side, since remote.Cursor) error {
	changes, next := p.o.Tree[s].Changes(ctx, since)
	full := since == ""
	seed := maphash.MakeSeed()
	told := map[uint64]struct{}{}
	var came []merge.Item
	var gone []string
	flush := func() error {
		if len(came) == 0 {
			return nil
		}
		err := p.o.KV.Update(ctx, func(tx kv.Tx) error {
			for i := range came {
				if err := p.seen(ctx, tx, s, came[i]); err != nil {
					return err
				}
			}
			return nil
		})
		came = came[:0]
		return err
	}
	for c, err := range changes {
		if err != nil {
			return errors.Join(err, flush())
		}
		switch {
		case c.Path == "" || InHistory(c.Path):
			continue
		case c.Gone:
			if err := flush(); err != nil {
				return err
			}
			gone = append(gone, c.Path)
			continue
		}
		if full {
			told[maphash.String(seed, c.Path)] = struct{}{}
		}
		if came = append(came, seen(c.Item)); len(came) >= batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	cursor := next()
	if err := ctx.Err(); err != nil {
		return err
	}
	var missing []merge.Item
	if full {
		for it, err := range p.shadow(ctx, s, "") {
			if err != nil {
				return err
			}
			if _, ok := told[maphash.String(seed, it.Path)]; !ok {
				missing = append(missing, it)
			}
		}
	}
	gone = append(gone, p.orphans[s]...) // what was in them is gone, whether anybody tells or not
	p.orphans[s] = nil
	for _, dir := range gone {
		all, err := p.within(ctx, s, dir)
		if err != nil {
			return err
		}
		missing = append(missing, all...)
	}
	if err := p.lacks(ctx, s, missing); err != nil {
		return err
	}
	return p.o.KV.Update(ctx, func(tx kv.Tx) error {
		if full {
			at := binary.BigEndian.AppendUint64(nil, uint64(p.o.Now().Unix()))
			if err := tx.Put(p.key('m', "full "+s.String()), at); err != nil {
				return err
			}
		}
		return errors.Join(tx.Delete(p.longKey(s)), tx.Put(p.key('c', s.String()), []byte(cursor)))
	})
}

// lastFull is when a side was listed in full. Where that is not known, it was never.
func (p *Pair) lastFull(ctx context.Context, s merge.Side) time.Time {
	return p.stamp(ctx, "full "+s.String())
}

// stamp is a time that was noted under a name, the zero one if there is none.
func (p *Pair) stamp(ctx context.Context, name string) time.Time {
	v, err := p.o.KV.Get(ctx, p.key('m', name))
	if err != nil || len(v) != 8 {
		return time.Time{}
	}
	return time.Unix(int64(binary.BigEndian.Uint64(v)), 0)
}

// within returns what the shadow has at path and below it.
func (p *Pair) within(ctx context.Context, s merge.Side, path string) (all []merge.Item, err error) {
	v, err := p.o.KV.Get(ctx, p.shadowKey(s, path))
	if err == nil {
		var it merge.Item
		it, _, err = decodeItem(v)
		all = append(all, it)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	from, to := p.below(tables[s], s, path)
	for kvp, err := range p.o.KV.Scan(ctx, from, to) {
		if err != nil {
			return nil, err
		}
		it, _, err := decodeItem(kvp.Value)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(it.Path, path+"/") {
			all = append(all, it)
		}
	}
	return all, nil
}

// lacks asks the side for what it did not tell, one by one, and notes what is not there.
func (p *Pair) lacks(ctx context.Context, s merge.Side, missing []merge.Item) error {
	for _, it := range missing {
		if it.Kind == merge.Dir && !p.o.Rule.Can[s].EmptyDirs {
			if err := p.o.KV.Update(ctx, func(tx kv.Tx) error { return tx.Delete(p.shadowKey(s, it.Path)) }); err != nil {
				return err
			}
			continue
		}
		if err := p.ask(ctx, s, it.Path); err != nil {
			return err
		}
	}
	return nil
}

// ask has the side say what is at a path now.
func (p *Pair) ask(ctx context.Context, s merge.Side, path string) error {
	it, err := p.o.Tree[s].Stat(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.o.KV.Update(ctx, func(tx kv.Tx) error { return p.lost(tx, s, path) })
	case err != nil:
		return fmt.Errorf("look at %s: %w", path, err)
	}
	return p.o.KV.Update(ctx, func(tx kv.Tx) error {
		return p.seen(ctx, tx, s, seen(it))
	})
}

// replaces notes that what the shadow has under another form of the name of it is not there: where names fold, there is one of them only.
func (p *Pair) replaces(ctx context.Context, tx kv.Tx, s merge.Side, it merge.Item) error {
	n := &p.o.Rule.Names[s]
	if !n.Fold && !n.Normal {
		return nil
	}
	k := p.group(s, it.Path)
	for kvp, err := range p.o.KV.Scan(ctx, p.key(tables[s], k+"\x00\x00"), p.key(tables[s], k+"\x00\x01")) {
		if err != nil {
			return err
		}
		was, flags, err := decodeItem(kvp.Value)
		if err != nil || was.Path == it.Path || !n.One(was.Path, it.Path) {
			continue
		}
		if another(&was, flags, it) {
			if err := tx.Put(p.key('g', s.String()+was.Path), nil); err != nil {
				return err
			}
		}
		if err := tx.Delete(kvp.Key); err != nil {
			return err
		}
	}
	return nil
}

// seen notes what a side has.
func (p *Pair) seen(ctx context.Context, tx kv.Tx, s merge.Side, it merge.Item) error {
	if err := p.replaces(ctx, tx, s, it); err != nil {
		return err
	}
	key := p.shadowKey(s, it.Path)
	if len(key) > kv.MaxKey-16 {
		return p.tooLong(tx, s, it.Path)
	}
	if v, err := tx.Get(key); err == nil {
		was, flags, err := decodeItem(v)
		if err == nil {
			if was.Kind == it.Kind && was.Version == it.Version && it.Kind == merge.File {
				it.Sums = union(it.Sums, was.Sums)
			}
			if was == it && flags == 0 {
				return nil
			}
			if was.Kind == merge.Dir && it.Kind != merge.Dir {
				p.orphans[s] = append(p.orphans[s], it.Path)
			}
			if another(&was, flags, it) {
				if err := tx.Put(p.key('g', s.String()+it.Path), nil); err != nil {
					return err
				}
			}
		}
	}
	return p.shadowPut(tx, s, &it, 0)
}

// tooLong notes a path that there is no room for, and that is left alone. If it is new, what is missing now may have gone there: until this look has come to its end
// it is not taken for deleted.
func (p *Pair) tooLong(tx kv.Tx, s merge.Side, path string) error {
	p.o.Log.Warn("a path is too long, and is left alone", "side", s.String(), "path", path)
	sum := sha256.Sum256([]byte(path))
	key := p.key('t', s.String()+string(sum[:]))
	_, err := tx.Get(key)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(tx.Put(key, nil), tx.Put(p.longKey(s), nil))
	}
	return err
}

func (p *Pair) longKey(s merge.Side) []byte { return p.key('m', "long "+s.String()) }

// another reports whether what is there need not have come of what this package has put, for that was never seen.
func another(was *merge.Item, flags byte, it merge.Item) bool {
	eq, known := merge.Equal(was.Sums, it.Sums)
	return flags&flagOwn != 0 && was.Kind != merge.Dir &&
		(was.Kind != it.Kind || was.Version != it.Version && (!known || !eq) || was.Target != it.Target)
}

// lost notes that a side has nothing at a path. If it is this package that has put it there, and nobody has seen it since, or if it may be where there is no room
// for its path, it was not deleted: a ghost is left, and what the other side has of it is as new.
func (p *Pair) lost(tx kv.Tx, s merge.Side, path string) error {
	key := p.shadowKey(s, path)
	v, err := tx.Get(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = tx.Get(p.longKey(s))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	long := err == nil
	if _, flags, err := decodeItem(v); err == nil && flags&flagOwn != 0 || long {
		if err := tx.Put(p.key('g', s.String()+path), nil); err != nil {
			return err
		}
	}
	return tx.Delete(key)
}

// union returns the sums of both, which are of one content.
func union(a, b string) string {
	if a == "" || a == b {
		return b
	}
	if b == "" {
		return a
	}
	all := map[string]string{}
	for _, l := range [...]string{b, a} {
		for s := range strings.SplitSeq(l, " ") {
			alg, sum, _ := strings.Cut(s, ":")
			all[alg] = sum
		}
	}
	return merge.Sums(all)
}
