package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// rounds is how often the packs of the near side are listed before it counts as unsettled.
const rounds = 16

// tries is how often a blob is put, or read, before it is given up for this run.
const tries = 3

// all brings what is missing. removed are names that go at the far side later, if this is a Push.
func (r *run) all(ctx context.Context, removed []blob.Name) error {
	news, err := r.look(ctx)
	if err != nil {
		return err
	}
	if err := r.putSmalls(ctx, news, r.o.Deep); err != nil {
		return err
	}
	if err := r.packs(ctx, news); err != nil {
		return err
	}
	if err := r.index(ctx, news); err != nil {
		return err
	}
	if err := r.small(ctx, news); err != nil {
		return err
	}
	if err := r.faulty(); err != nil {
		return err // no head: it may need what could not be brought
	}
	if err := r.heads(ctx, news, removed); err != nil {
		return err
	}
	return r.faulty()
}

// news is what both places list.
type news struct {
	heads, headsTo map[blob.Name][]head
	small, smallTo map[blob.Name]int64
	table, packs   *catalog.Table // of the near side: index blobs, packs
}

// look lists both places, the near one first, and there the heads.
func (r *run) look(ctx context.Context) (n news, err error) {
	if n.heads, err = r.o.listHeads(ctx, r.from, heads); err != nil {
		return n, err
	}
	if n.small, err = r.o.listSmall(ctx, r.from); err != nil {
		return n, err
	}
	if n.table, err = listTable(ctx, r.from, catalog.Index); err != nil {
		return n, err
	}
	if n.packs, err = listTable(ctx, r.from, catalog.Packs); err != nil {
		return n, err
	}
	// What is there is there, whenever it was listed, so one listing need not wait for another.
	var index, packs *catalog.Table
	err = r.o.together(ctx,
		func(ctx context.Context) (err error) { n.headsTo, err = r.o.listHeads(ctx, r.to, heads); return err },
		func(ctx context.Context) (err error) { n.smallTo, err = r.o.listSmall(ctx, r.to); return err },
		func(ctx context.Context) (err error) { index, err = listTable(ctx, r.to, catalog.Index); return err },
		func(ctx context.Context) (err error) { packs, err = listTable(ctx, r.to, catalog.Packs); return err },
	)
	if err != nil {
		return n, err
	}
	r.had, err = packs.With(index.All(""), nil)
	r.report.At = r.had
	return n, err
}

// newHeads reports whether the near side has a head that the far side lacks.
func (n *news) newHeads() bool {
	for folder, hs := range n.heads {
		for _, h := range hs {
			if _, ok := find(n.headsTo[folder], h.seq); !ok {
				return true
			}
		}
	}
	return false
}

// packs brings packs until the far side has all that the heads may need.
func (r *run) packs(ctx context.Context, n news) error {
	if r.o.Deep {
		if err := r.deepPacks(ctx, n); err != nil {
			return err
		}
	}
	heads, withheld, expected := n.newHeads(), map[blob.Name]int{}, map[blob.Name]bool{}
	for round := 0; ; round++ {
		var missing []blob.Info
		blobs, size := 0, int64(0)
		for info := range n.packs.All("") {
			if have, ok := r.report.At.Size(info.Name); ok && have == info.Size {
				continue
			}
			missing = append(missing, info)
			if !expected[info.Name] {
				expected[info.Name] = true
				blobs++
				size += info.Size
			}
		}
		r.progress.expect(blobs, size)
		put, vanished, lacking, err := r.putPacks(ctx, missing)
		if err != nil {
			return err
		}
		for _, name := range vanished {
			if withheld[name]++; withheld[name] < tries {
				continue
			}
			if r.o.Lacking != nil {
				lacking = append(lacking, name)
			} else if err := r.fault(name, ErrWithheld); err != nil {
				return err
			}
		}
		if err := r.spare(ctx, lacking); err != nil {
			return err
		}
		if r.report.At, err = r.report.At.With(slices.Values(put), nil); err != nil {
			return err
		}
		if r.hasFaults() || len(vanished) == 0 && !heads {
			return nil // with faults no head is put
		}
		again, err := listTable(ctx, r.from, catalog.Packs)
		if err == nil && len(r.spared) > 0 {
			again, err = again.With(slices.Values([]blob.Info{}), func(n blob.Name) bool { return r.spared[n] })
		}
		if err != nil {
			return err
		}
		gone := false
		for info := range n.packs.All("") {
			if _, ok := again.Size(info.Name); !ok && !r.spared[info.Name] {
				gone = true
				break
			}
		}
		lacks, _ := again.Missing(r.report.At)
		n.packs = again
		if !gone && lacks == 0 {
			return nil
		}
		if round == rounds {
			return ErrUnsettled
		}
	}
}

// spare asks what is to become of packs that the near side lists and does not give.
func (r *run) spare(ctx context.Context, lacking []blob.Name) error {
	if len(lacking) == 0 {
		return nil
	}
	err := r.o.Lacking(ctx, lacking)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, name := range lacking {
		if err == nil {
			r.spared[name] = true
			r.report.Spared = append(r.report.Spared, name)
			r.o.Log.Warn("a pack that is listed is not to be had, and is left out, for nothing needs it", "blob", string(name))
		} else if ferr := r.fault(name, err); ferr != nil {
			return ferr
		}
	}
	return nil
}

// deepPacks reads the packs that both places have and takes the damaged ones for missing.
func (r *run) deepPacks(ctx context.Context, n news) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.o.Parallel)
	bad := map[blob.Name]bool{}
	for info := range n.packs.All("") {
		if have, ok := r.report.At.Size(info.Name); !ok || have != info.Size || gctx.Err() != nil {
			continue
		}
		g.Go(func() error {
			err := checkPack(gctx, r.to, info.Name)
			if err == nil {
				return nil
			}
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			r.o.Log.Warn("a pack is damaged at the far side and is put again", "blob", string(info.Name), "err", err)
			r.mu.Lock()
			defer r.mu.Unlock()
			bad[info.Name] = true
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var err error
	r.report.At, err = r.report.At.With(slices.Values([]blob.Info{}), func(n blob.Name) bool { return bad[n] })
	return errors.Join(err, ctx.Err())
}

// putPacks puts packs and sees that they are there. It returns those that were put, those that the near side has no more, and, if Lacking is to be
// asked, those that it does not give.
func (r *run) putPacks(ctx context.Context, missing []blob.Info) (put []blob.Info, vanished, lacking []blob.Name, err error) {
	for try := 0; len(missing) > 0; try++ {
		out, err := r.sendAll(ctx, missing)
		done := out.done
		vanished, lacking = append(vanished, out.vanished...), append(lacking, out.lacking...)
		if err != nil {
			return put, vanished, lacking, err
		}
		lacks, err := r.confirm(ctx, done)
		if err != nil {
			return put, vanished, lacking, err
		}
		for _, info := range done {
			if lacks[info.Name] {
				continue
			}
			put = append(put, info)
			r.progress.add(1, 0)
			_, mended := r.had.Size(info.Name)
			r.count(func(rep *Report) {
				rep.Packs++
				rep.Bytes += info.Size
				if mended {
					rep.Mended++
				}
			})
		}
		missing = slices.DeleteFunc(done, func(i blob.Info) bool { return !lacks[i.Name] })
		if try == tries-1 {
			for _, info := range missing {
				if err := r.fault(info.Name, ErrNotStored); err != nil {
					return put, vanished, lacking, err
				}
			}
			break
		}
	}
	return put, vanished, lacking, nil
}

// manyFolders is from how many folders on the whole place is listed, instead of each of them.
const manyFolders = 16

// confirm returns which of the blobs, that were put a moment ago, the far side does not have. A listing that shows one with the right
// size is enough; of one that is not shown, or otherwise, its end is read.
func (r *run) confirm(ctx context.Context, done []blob.Info) (map[blob.Name]bool, error) {
	lacks, folders := map[blob.Name]bool{}, map[blob.Name]bool{}
	sizes := map[blob.Name]int64{}
	for _, info := range done {
		lacks[info.Name], sizes[info.Name] = true, info.Size
		folders[folderOf(info.Name)] = true
	}
	if len(folders) > manyFolders {
		clear(folders)
		for _, info := range done {
			folders[info.Name[:len(catalog.Packs)]] = true // packs/ and index/ are equally long
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		for info, err := range r.to.List(ctx, folder) {
			if err != nil {
				return nil, err
			}
			if size, ok := sizes[info.Name]; ok && size == info.Size {
				delete(lacks, info.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lacks)) {
		ok, err := endsAt(ctx, r.to, name, sizes[name])
		if err != nil {
			return nil, err
		}
		if ok {
			delete(lacks, name)
		}
	}
	return lacks, nil
}

// index brings generations of index blobs that are complete at the near side, the shards before the root.
func (r *run) index(ctx context.Context, n news) error {
	gens := map[[16]byte][]blob.Info{}  // the missing shards
	shards := map[[16]byte]int{}        // those that are listed, in order and without a gap
	roots := map[[16]byte][]blob.Info{} // of complete generations: the root, if it is missing
	for info := range n.table.All(catalog.Index) {
		gen, root, _ := catalog.Generation(info.Name)
		if no := shards[gen]; !root && strings.HasSuffix(string(info.Name), fmt.Sprintf("/%02x", no)) {
			shards[gen] = no + 1
		} else if root && bits.OnesCount(uint(no)) != 1 {
			continue // there are a power of two: some are removed already, or not put yet
		}
		have, ok := r.report.At.Size(info.Name)
		switch missing := !ok || have != info.Size; {
		case missing && root:
			roots[gen] = []blob.Info{info}
		case root:
			roots[gen] = nil
		case missing:
			gens[gen] = append(gens[gen], info)
		}
	}
	for _, gen := range slices.SortedFunc(maps.Keys(roots), func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) }) {
		root, missing := roots[gen], gens[gen]
		infos, size := append(slices.Clone(missing), root...), int64(0)
		for _, info := range infos {
			size += info.Size
		}
		if len(infos) == 0 {
			continue
		}
		r.progress.expect(len(infos), size)
		whole, err := r.putIndex(ctx, missing)
		if err == nil && whole {
			_, err = r.putIndex(ctx, root)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// putIndex puts index blobs and sees that they are there; whole is false if one is not. Nothing needs them.
func (r *run) putIndex(ctx context.Context, infos []blob.Info) (whole bool, err error) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.o.Parallel)
	var done []blob.Info
	for _, info := range infos {
		g.Go(func() error {
			err := r.putIndexBlob(gctx, info)
			if errors.Is(err, errVanished) || errors.Is(err, ErrDamaged) {
				r.o.Log.Warn("index blobs are left out", "blob", string(info.Name), "err", err)
				return nil
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if err == nil {
				done = append(done, info)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	lacks, err := r.confirm(ctx, done)
	if err != nil {
		return false, err
	}
	done = slices.DeleteFunc(done, func(i blob.Info) bool { return lacks[i.Name] })
	r.progress.add(len(done), 0)
	r.count(func(rep *Report) {
		rep.Index += len(done)
		for _, info := range done {
			rep.Bytes += info.Size
		}
	})
	r.report.At, err = r.report.At.With(slices.Values(done), nil)
	return len(done) == len(infos), err
}

// small brings what else there is now of key slots, drive records and members entries, until a listing shows all that the one before had and
// nothing that the far side lacks: a head may need any of them.
func (r *run) small(ctx context.Context, n news) error {
	for round := 0; n.newHeads() && !r.hasFaults(); round++ {
		again, err := r.o.listSmall(ctx, r.from)
		if err != nil {
			return err
		}
		settled := true
		for name := range n.small {
			_, ok := again[name]
			settled = settled && ok
		}
		for name := range again {
			_, ok := n.smallTo[name]
			settled = settled && ok
		}
		if settled {
			return nil
		}
		if n.small = again; round == rounds {
			return ErrUnsettled
		}
		if err := r.putSmalls(ctx, n, false); err != nil {
			return err
		}
	}
	return nil
}

// putSmalls puts those that are missing, and notes them as being at the far side.
func (r *run) putSmalls(ctx context.Context, n news, deep bool) error {
	for _, dir := range before {
		var missing []blob.Info
		size := int64(0)
		for _, name := range slices.Sorted(maps.Keys(n.small)) {
			if folderOf(name) != dir {
				continue
			}
			have, ok := n.smallTo[name]
			if ok && have == n.small[name] && !deep {
				continue
			}
			missing = append(missing, blob.Info{Name: name, Size: n.small[name]})
			size += n.small[name]
		}
		r.progress.expect(len(missing), size)
		for len(missing) > 0 {
			early, err := r.putSome(ctx, n, missing)
			if err != nil {
				return fmt.Errorf("%s: %w", dir, err)
			}
			if len(early) < len(missing) {
				missing = early
				continue
			}
			for _, info := range early {
				if err := r.fault(info.Name, ErrEarly); err != nil {
					return fmt.Errorf("%s: %w", dir, err)
				}
			}
			break
		}
	}
	return nil
}

// putSome puts small blobs, and notes them as being at the far side. It returns those for which it is too early.
func (r *run) putSome(ctx context.Context, n news, missing []blob.Info) (early []blob.Info, err error) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.o.Parallel)
	for _, info := range missing {
		g.Go(func() error {
			put, err := r.putSmall(gctx, info, maxSmall)
			var fault *Fault
			switch {
			case errors.Is(err, errVanished): // it was removed meanwhile
			case errors.Is(err, ErrEarly):
				r.count(func(*Report) { early = append(early, info) })
			case errors.As(err, &fault):
				return r.fault(fault.Name, fault.Err)
			case err != nil:
				return err
			default:
				r.count(func(rep *Report) {
					n.smallTo[info.Name] = info.Size
					if put {
						rep.Small++
						rep.Bytes += info.Size
					}
				})
			}
			return nil
		})
	}
	err = g.Wait() // before early is looked at
	return early, err
}
