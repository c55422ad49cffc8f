package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// FetchOptions are those of Fetch. Options.Deep compares what is in the mirror already with the far place, too.
type FetchOptions struct {
	Options
	// Own is this device's own bucket: what is in there is not fetched, nor heads of its own that it has pruned. A head
	// of its own that it does not have, and has not pruned, is fetched: it is evidence that this device was set back. Nil: nothing is own.
	Own blob.Bucket
	// Same are heads in Own that are the same at the place, as News had them: they are not compared again. Of each device that has heads in Own the newest that
	// both have is, for a name tells nothing of what lies under it: see Options.Differs.
	Same []blob.Name
	// Packs asks for a listing of packs and index blobs also if no head is new.
	Packs bool
	// Learn, if not nil, is given that listing before the first new head is put into the mirror: so whoever reads a head there
	// can find what it refers to, also after a crash in between. If it fails no head is put.
	Learn func(*catalog.Table) error
	// Newest is how many heads are fetched of a device of which the mirror has none; 0 means 256. Of others all that are
	// newer than those in the mirror are, or the chain that ties them together would have a gap.
	Newest int
	// Last has, by the folders of their heads, the last heads that count of devices that were revoked: such a head is fetched whatever else of the device the mirror has, and stays there. A
	// device that goes on prunes heads before those that count for nobody, and a place may show only these at first.
	Last map[blob.Name]uint64
	// Part says that from has only some of what there is at its place, as a shelf does that takes what nothing else there has. Where the heads of a device begin there
	// tells nothing of what that device has pruned: those of the mirror that lead up to them stay. If there is a gap in between, what is below it goes.
	Part bool
}

// News is what Fetch brought.
type News struct {
	Heads []blob.Name // that are new in the mirror, in order
	Small int         // other blobs that are
	Bytes int64       // of all these
	Gone  []blob.Name // old heads that were removed from the mirror
	Same  []blob.Name // heads in Own that are the same at the place
	// Unlisted are blobs in Own that the place does not list: the newest head of each device, and what else is small. After a Push of Own its listing is not whole then,
	// and may lack what others have put, too.
	Unlisted []blob.Name
	// Table has the packs and index blobs of the place; nil if they were not listed: no head is new, and nobody asked.
	Table *catalog.Table
}

// Fetch brings the small blobs that others have put at a place into mirror: key slots, drive records, members entries and then heads, in the
// order of Copy. It reads no pack. If a head is new it lists packs and index blobs.
//
// Nobody has verified what is in a mirror: the keys do that, above. What from does not list stays there, so a place
// that was set back is found out; but heads that are older than the oldest which from has of their device are removed once that one
// is there, as their device has pruned them: see FetchOptions.Part.
//
// Each blob that cannot be fetched, or differs from that in the mirror, is a Fault in the error; all others are fetched. A place that lists more than a drive has is
// given up with ErrTooMany. A forged head with a high number, of a place that lies, stays in the mirror until somebody with keys removes it:
// Options.Check prevents that.
func Fetch(ctx context.Context, from, mirror blob.Bucket, o FetchOptions) (News, error) {
	f := &fetching{run: newRun(from, mirror, o.Options), o: o}
	f.run.last = o.Last
	if f.o.Newest <= 0 {
		f.o.Newest = 256
	}
	err := f.fetch(ctx)
	f.news.Small, f.news.Bytes = f.report.Small, f.report.Bytes
	slices.Sort(f.news.Heads)
	slices.Sort(f.news.Gone)
	slices.Sort(f.news.Unlisted)
	if err != nil {
		err = fmt.Errorf("fetch blobs: %w", err)
	}
	return f.news, err
}

type fetching struct {
	*run
	o    FetchOptions
	news News
}

func (f *fetching) fetch(ctx context.Context) error {
	var n news
	var err error
	if n.heads, err = f.run.o.listHeads(ctx, f.from, heads); err != nil {
		return err
	}
	if n.small, err = f.run.o.listSmall(ctx, f.from); err != nil {
		return err
	}
	if n.headsTo, err = f.run.o.listHeads(ctx, f.to, heads); err != nil {
		return err
	}
	if n.smallTo, err = f.run.o.listSmall(ctx, f.to); err != nil {
		return err
	}
	mirrored := maps.Clone(n.headsTo)
	if f.o.Own != nil {
		if err := f.leaveOwn(ctx, &n); err != nil {
			return err
		}
	}
	for folder, hs := range n.heads {
		if len(n.headsTo[folder]) == 0 && len(hs) > f.o.Newest {
			n.heads[folder] = hs[len(hs)-f.o.Newest:]
			if h, ok := find(hs, f.o.Last[folder]); ok && h.seq < n.heads[folder][0].seq {
				n.heads[folder] = append([]head{h}, n.heads[folder]...)
			}
		}
	}
	if err := f.putSmalls(ctx, n, f.run.o.Deep); err != nil {
		return err
	}
	if err := f.small(ctx, n); err != nil {
		return err
	}
	if f.o.Packs || f.anyLacking(n) {
		if err := f.learn(ctx); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(f.run.o.Parallel)
	for _, folder := range slices.Sorted(maps.Keys(n.heads)) {
		g.Go(func() error { return f.device(gctx, folder, n.heads[folder], n.headsTo[folder], mirrored[folder]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return f.faulty()
}

// leaveOwn takes what is in the own bucket for fetched.
func (f *fetching) leaveOwn(ctx context.Context, n *news) error {
	own, err := f.run.o.listHeads(ctx, f.o.Own, heads)
	if err != nil {
		return err
	}
	for folder, hs := range own {
		theirs := n.heads[folder]
		if newest := hs[len(hs)-1]; len(theirs) == 0 || theirs[len(theirs)-1].seq < newest.seq {
			f.news.Unlisted = append(f.news.Unlisted, headName(folder, newest.seq))
		}
		if err := f.compareOwn(ctx, folder, theirs, hs); errors.Is(err, ErrForked) {
			delete(n.heads, folder)
			if err := f.fault(folder, err); err != nil {
				return err
			}
			continue
		} else if err != nil {
			return err
		}
		n.heads[folder] = slices.DeleteFunc(theirs, func(h head) bool {
			_, have := find(hs, h.seq)
			return have || h.seq < hs[0].seq
		})
		if len(n.heads[folder]) == 0 {
			delete(n.heads, folder)
			continue
		}
		all := append(slices.Clone(n.headsTo[folder]), hs...)
		slices.SortFunc(all, compareHeads)
		n.headsTo[folder] = slices.CompactFunc(all, func(a, b head) bool { return a.seq == b.seq })
	}
	small, err := f.run.o.listSmall(ctx, f.o.Own)
	for name, size := range small {
		theirs, listed := n.small[name]
		if !listed {
			f.news.Unlisted = append(f.news.Unlisted, name)
		} else if theirs == size {
			n.smallTo[name] = size
		}
	}
	return err
}

// compareOwn compares the newest head in the own bucket that the place has, too.
func (f *fetching) compareOwn(ctx context.Context, folder blob.Name, theirs, own []head) error {
	both := inBoth(theirs, own)
	if len(both) == 0 {
		return nil
	}
	newest := both[len(both)-1]
	name := headName(folder, newest.seq)
	if slices.Contains(f.o.Same, name) {
		f.news.Same = append(f.news.Same, name)
		return nil
	}
	same, there, err := sameHead(ctx, f.from, f.o.Own, name)
	switch {
	case err != nil:
		return err
	case same:
		f.news.Same = append(f.news.Same, name)
		return nil
	case there == nil: // one of them is gone or damaged. Push says that, when something is to come after it, and Verify
		return nil
	}
	return f.differ(ctx, folder, both, f.from, f.o.Own, there)
}

func (f *fetching) anyLacking(n news) bool {
	for folder, hs := range n.heads {
		if len(f.lacking(folder, hs, n.headsTo[folder])) > 0 {
			return true
		}
	}
	return false
}

// learn lists packs and index blobs. It comes after the heads were listed, and before they are put.
func (f *fetching) learn(ctx context.Context) error {
	var packs, index *catalog.Table
	err := f.run.o.together(ctx,
		func(ctx context.Context) (err error) { packs, err = listTable(ctx, f.from, catalog.Packs); return err },
		func(ctx context.Context) (err error) { index, err = listTable(ctx, f.from, catalog.Index); return err },
	)
	if err != nil {
		return err
	}
	if f.news.Table, err = packs.With(index.All(""), nil); err != nil {
		return err
	}
	if f.o.Learn != nil {
		return f.o.Learn(f.news.Table)
	}
	return nil
}

// device fetches the heads of one device and removes those that it has pruned. to has those of the own bucket, too.
func (f *fetching) device(ctx context.Context, folder blob.Name, from, to, mirrored []head) error {
	before := f.lacking(folder, from, to)
	err := f.run.device(ctx, folder, from, to, func([]head) ([]blob.Name, error) { return nil, nil }) // what is below a gap goes
	var fault *Fault
	whole := err == nil
	switch {
	case errors.As(err, &fault):
		if err := f.fault(fault.Name, fault.Err); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	have, err := f.run.o.listHeads(ctx, f.to, folder+"/")
	if err != nil {
		return err
	}
	f.mu.Lock()
	for _, h := range before {
		_, now := find(have[folder], h.seq)
		if _, had := find(mirrored, h.seq); now && !had {
			f.news.Heads = append(f.news.Heads, headName(folder, h.seq))
		}
	}
	f.mu.Unlock()
	if _, ok := find(have[folder], from[0].seq); !ok || !whole {
		return nil
	}
	if _, tied := find(have[folder], from[0].seq-1); tied && f.o.Part {
		return nil
	}
	var gone []blob.Name
	for _, h := range have[folder] {
		if h.seq < from[0].seq && h.seq != f.o.Last[folder] {
			gone = append(gone, headName(folder, h.seq))
		}
	}
	if len(gone) == 0 {
		return nil
	}
	// The oldest are pruned first. If the place still has the newest of these, its listing was not whole.
	switch there, err := f.gives(ctx, gone[len(gone)-1]); {
	case err != nil:
		return err
	case there:
		f.run.o.Log.Warn("heads that were not listed are there", "folder", string(folder))
		return nil
	}
	f.mu.Lock()
	f.news.Gone = append(f.news.Gone, gone...)
	f.mu.Unlock()
	return f.to.Remove(ctx, gone...)
}

// gives reports whether the near side has a blob, listed or not.
func (f *fetching) gives(ctx context.Context, name blob.Name) (bool, error) {
	body, err := f.from.Get(ctx, name, 0, grid)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, body.Close()
}
