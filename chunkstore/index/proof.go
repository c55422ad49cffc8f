package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// ErrStranger says that the bucket showed the directory of another pack than that of the name.
var ErrStranger = errors.New("the directory of another pack is shown")

// The ranks of packs: what is known of those of a higher rank counts for more.
const (
	ghosts = iota
	doomed
	hearsay
	proven
)

func rank(p Pack) int {
	switch {
	case p.Ghost:
		return ghosts
	case p.Doomed:
		return doomed
	case p.Proven:
		return proven
	}
	return hearsay
}

// Sure reports whether the pack is proven, no ghost and not doomed: whoever finds a chunk located there need not keep a copy elsewhere.
func (p Pack) Sure() bool { return rank(p) == proven }

// Prove makes known what a pack holds, whose whole bytes have the hash that is its name: entries are from its
// directory and mark is its mark. What was known of the pack before is put right, and it
// takes over the chunks that are located in packs of a lower rank. It reports whether anything of that
// was other than the index had it.
//
// Chunks of a pack that was hearsay before and that the index has nowhere are located in it, for nobody but a garbage
// collection that removes them from a proven pack may take a chunk for removed.
func (x *Index) Prove(ctx context.Context, name pack.Name, size int64, entries []pack.Entry, mark Mark) (changed bool, err error) {
	changed, err = x.settle(ctx, name, size, entries, mark, true)
	if err != nil {
		return false, fmt.Errorf("prove pack %x: %w", name[:6], err)
	}
	return changed, nil
}

// Correct compares what is known of a pack with a directory that the bucket shows now, and puts that in its place
// if it differs. A pack that is proven and no ghost is left as it is. The pack stays, or becomes, hearsay.
// The error wraps ErrStranger if the directory is that of a pack that was removed.
func (x *Index) Correct(ctx context.Context, name pack.Name, size int64, entries []pack.Entry, mark Mark) (changed bool, err error) {
	changed, err = x.settle(ctx, name, size, entries, mark, false)
	if err != nil {
		return false, fmt.Errorf("correct pack %x: %w", name[:6], err)
	}
	return changed, nil
}

func (x *Index) settle(ctx context.Context, name pack.Name, size int64, entries []pack.Entry, mark Mark, proof bool) (changed bool, err error) {
	err = x.change(ctx, func(b *batch) error {
		changed = false
		claim := Pack{Name: name, Size: size, Count: uint32(len(entries)), Proven: proof, Mark: mark}
		if claim.Ghost, err = b.buried(name, mark); err != nil {
			return err
		}
		if claim.Doomed, err = b.doomed(name); err != nil {
			return err
		}
		for _, e := range entries {
			claim.Body += int64(e.Len)
		}
		old, known := x.byName[name]
		if known {
			claim.Own = x.table[old].Own
			if !proof && x.table[old].Sure() {
				return nil
			}
			if ok, err := b.agrees(old, claim, entries); err != nil {
				return err
			} else if ok {
				was := x.table[old].Pack
				if proof && !was.Proven {
					p := b.pack(old)
					p.Proven = true
					p.Doubles = p.Doubles || p.Live < p.Count
				}
				if was.Mark != mark {
					b.pack(old).Mark = mark
				}
				return nil
			}
		}
		changed = true
		return b.replace(old, known, claim, entries)
	})
	return changed && err == nil, err
}

// agrees reports whether the index has the same of a known pack as claim and entries say, so that nothing would change.
func (b *batch) agrees(num uint32, claim Pack, entries []pack.Entry) (bool, error) {
	had := b.x.table[num].Pack
	if had.Size != claim.Size || had.Count != claim.Count || had.Body != claim.Body {
		return false, nil
	}
	var here uint32
	for _, e := range entries {
		at, loc, was, err := b.where(e.ID)
		switch {
		case err != nil:
			return false, err
		case !was && had.Proven: // removed by a garbage collection
		case !was:
			return false, nil
		case at == num && loc.Entry(e.ID) != e:
			return false, nil
		case at == num:
			here++
		case !had.Proven && rank(claim) > rank(b.x.table[at].Pack):
			return false, nil
		}
	}
	return here == had.Live, nil
}

// replace gives the pack a new number, so that all that was located in it is so no more, and then takes what is its own.
func (b *batch) replace(old uint32, known bool, claim Pack, entries []pack.Entry) error {
	num, p, err := b.number(claim.Name, claim.Size, entries)
	if err != nil {
		return err
	}
	p.Own, p.Proven, p.Ghost, p.Doomed, p.Mark = claim.Own, claim.Proven, claim.Ghost, claim.Doomed, claim.Mark
	if known {
		b.gone = append(b.gone, old)
	}
	for _, e := range entries {
		at, was, err := b.location(e.ID)
		if err != nil {
			return err
		}
		if was && (!known || at != old) && rank(claim) <= rank(b.x.table[at].Pack) {
			p.Doubles = true
			continue
		}
		if err := b.place(num, e); err != nil {
			return err
		}
		if was { // a condemned chunk stays so: only where it lies is put right
			continue
		}
		if err := b.tx.Delete(condemnedKey(e.ID)); err != nil {
			return err
		}
	}
	return nil
}

// Doubt makes proven packs hearsay again.
func (x *Index) Doubt(ctx context.Context, names ...pack.Name) error {
	err := x.change(ctx, func(b *batch) error {
		for _, name := range names {
			if num, ok := x.byName[name]; ok && x.table[num].Proven {
				p := b.pack(num)
				p.Proven = false
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("doubt packs: %w", err)
	}
	return nil
}

// Bury forgets those of the packs that are proven and have nothing located in them, and returns these: they may be removed
// from the bucket once that is durable. It remembers that they were, for a bucket may go on to show them, under
// whatever name, and what is in them must not be taken for stored again.
func (x *Index) Bury(ctx context.Context, now time.Time, names ...pack.Name) (buried []pack.Name, err error) {
	err = x.change(ctx, func(b *batch) error {
		buried = buried[:0]
		for _, name := range names {
			num, ok := x.byName[name]
			if !ok || !x.table[num].Proven || x.table[num].Live > 0 {
				continue
			}
			mark := x.table[num].Mark
			if err := b.tx.Put(graveKey(name), encodeGrave(mark, now)); err != nil {
				return err
			}
			if err := b.tx.Put(markKey(mark), name[:]); err != nil {
				return err
			}
			buried = append(buried, name)
		}
		return b.drop(buried)
	})
	if err != nil {
		return nil, fmt.Errorf("bury packs: %w", err)
	}
	return buried, nil
}

// buried reports whether the pack of that name was removed. If another pack was that had the mark, that is ErrStranger.
func (b *batch) buried(name pack.Name, mark Mark) (bool, error) {
	v, err := b.tx.Get(markKey(mark))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err == nil && string(v) != string(name[:]) {
		return false, ErrStranger
	}
	_, err = b.tx.Get(graveKey(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Buried reports whether this device has removed the pack.
func (x *Index) Buried(ctx context.Context, name pack.Name) (bool, error) {
	_, err := x.db.Get(ctx, graveKey(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up removed pack: %w", err)
	}
	return true, nil
}

// mayLearn reports whether a pack may be known by what an index blob says of it: its directory had that mark, and the
// pack with that mark is none that this device has removed. Else whoever wrote the blob was shown a removed pack under
// another name, or does not know what it was shown: the directory must be read.
func (x *Index) mayLearn(ctx context.Context, name pack.Name, mark Mark) (bool, error) {
	if mark == (Mark{}) {
		return false, nil
	}
	for _, key := range [][]byte{graveKey(name), markKey(mark)} {
		switch _, err := x.db.Get(ctx, key); {
		case err == nil:
			return false, nil
		case !errors.Is(err, fs.ErrNotExist):
			return false, fmt.Errorf("look up removed pack: %w", err)
		}
	}
	return true, nil
}

// graveStep is how many graves are levelled in one Update.
const graveStep = 2048

// Level forgets the graves, and which packs were doomed, from before that time. Packs that are still known stay doomed.
func (x *Index) Level(ctx context.Context, before time.Time) error {
	if err := x.level(ctx, before); err != nil {
		return fmt.Errorf("level graves: %w", err)
	}
	return nil
}

func (x *Index) level(ctx context.Context, before time.Time) error {
	var keys [][]byte
	flush := func(least int) error {
		if len(keys) < least {
			return nil
		}
		err := x.change(ctx, func(b *batch) error {
			for _, k := range keys {
				if err := b.tx.Delete(k); err != nil {
					return err
				}
			}
			return nil
		})
		keys = keys[:0]
		return err
	}
	for p, err := range x.db.Scan(ctx, []byte(prefixGrave), after(prefixGrave)) {
		if err != nil {
			return err
		}
		_, mark, at, err := decodeGrave(p.Key, p.Value)
		if err != nil {
			return err
		}
		if !at.Before(before) {
			continue
		}
		keys = append(keys, p.Key, markKey(mark))
		if err := flush(graveStep); err != nil {
			return err
		}
	}
	for p, err := range x.db.Scan(ctx, []byte(prefixDoom), after(prefixDoom)) {
		if err != nil {
			return err
		}
		at, err := decodeDoom(p.Value)
		if err != nil {
			return err
		}
		if !at.Before(before) {
			continue
		}
		keys = append(keys, p.Key)
		if err := flush(graveStep); err != nil {
			return err
		}
	}
	return flush(1)
}
