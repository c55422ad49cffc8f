package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// putSmall puts a small blob at the far side, unless it is there, and reads it back. put says whether it had to be
// put. The error wraps errVanished if the near side has it no more; it is a Fault if the two have different bytes,
// if Check refuses it, or if it is not stored.
func (r *run) putSmall(ctx context.Context, info blob.Info, limit int64) (put bool, err error) {
	body, err := r.readSmall(ctx, info, limit)
	if err != nil {
		return false, err
	}
	return r.putRead(ctx, info, body, limit)
}

// putRead is putSmall of a blob whose bytes were read.
func (r *run) putRead(ctx context.Context, info blob.Info, body []byte, limit int64) (put bool, err error) {
	defer func() {
		if err == nil {
			r.progress.add(1, info.Size)
		}
	}()
	if r.o.Check != nil {
		if err := r.o.Check(info.Name, body); err != nil {
			return false, &Fault{info.Name, err}
		}
	}
	for range tries {
		there, err := readWhole(ctx, r.to, info.Name, -1, limit)
		switch {
		case err == nil && bytes.Equal(there, body):
			return put, nil
		case err == nil, errors.Is(err, ErrDamaged):
			return put, &Fault{info.Name, ErrDiffers}
		case !errors.Is(err, fs.ErrNotExist):
			return put, err
		}
		if err := r.to.Put(ctx, info.Name, bytes.NewReader(body), int64(len(body))); err != nil {
			return put, err
		}
		put = true
	}
	there, err := readWhole(ctx, r.to, info.Name, -1, limit)
	switch {
	case err == nil && bytes.Equal(there, body):
		return true, nil
	case err == nil, errors.Is(err, ErrDamaged):
		return true, &Fault{info.Name, ErrDiffers}
	case errors.Is(err, fs.ErrNotExist):
		return true, &Fault{info.Name, ErrNotStored}
	}
	return true, err
}

// readSmall reads a small blob of the near side.
func (r *run) readSmall(ctx context.Context, info blob.Info, limit int64) (body []byte, err error) {
	for range tries {
		body, err = readWhole(ctx, r.from, info.Name, info.Size, limit)
		if err == nil || !errors.Is(err, ErrDamaged) {
			break
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", errVanished, err)
	case errors.Is(err, ErrDamaged):
		return nil, &Fault{info.Name, err}
	case err != nil:
		return nil, err
	}
	return body, nil
}

// headsAhead is how many heads of one device are read before their turn. Each is put after the one below it, but to read it nothing has to be
// waited for; a new device reads fifty and more.
const headsAhead = 8

// readAhead begins to read the heads at the near side. next returns them, in order; each may be asked for once. stop has to be
// called, and waits for what is under way.
func (r *run) readAhead(ctx context.Context, folder blob.Name, todo []head) (next func() ([]byte, error), stop func()) {
	type read struct {
		body []byte
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	reads := make([]chan read, len(todo))
	begin := func(i int) {
		if i >= len(todo) {
			return
		}
		reads[i] = make(chan read, 1)
		wg.Go(func() {
			body, err := r.readSmall(ctx, blob.Info{Name: headName(folder, todo[i].seq), Size: int64(todo[i].size)}, maxHead)
			reads[i] <- read{body, err}
		})
	}
	for i := range headsAhead {
		begin(i)
	}
	i := -1
	next = func() ([]byte, error) {
		i++
		got := <-reads[i]
		reads[i] = nil
		begin(i + headsAhead)
		return got.body, got.err
	}
	return next, func() { cancel(); wg.Wait() }
}

// heads brings the heads of all devices. removed are names that will be removed at the far side.
func (r *run) heads(ctx context.Context, n news, removed []blob.Name) error {
	gone := map[blob.Name]bool{}
	for _, name := range removed {
		if _, _, ok := parseHead(name); ok {
			gone[name] = true
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.o.Parallel)
	for _, folder := range slices.Sorted(maps.Keys(n.heads)) {
		g.Go(func() error {
			to := n.headsTo[folder]
			from, err := r.begin(gctx, folder, n.heads[folder], to)
			if err != nil {
				return err
			}
			err = r.device(gctx, folder, from, to, func(todo []head) ([]blob.Name, error) { return r.bridge(folder, todo, to, gone) })
			var fault *Fault
			if errors.As(err, &fault) {
				return r.fault(fault.Name, fault.Err)
			}
			return err
		})
	}
	return g.Wait()
}

// begin looks once more where the heads of a device begin, if the far side has none of it: what a listing has lost there would be
// taken for pruned from then on.
func (r *run) begin(ctx context.Context, folder blob.Name, from, to []head) ([]head, error) {
	if len(to) > 0 || from[0].seq <= 1 {
		return from, nil
	}
	again, err := r.o.listHeads(ctx, r.from, folder+"/")
	if err != nil {
		return nil, err
	}
	below, _ := slices.BinarySearchFunc(again[folder], from[0].seq, bySeq)
	return append(slices.Clone(again[folder][:below]), from...), nil // no newer ones: they may need packs that were not looked for
}

// device brings the heads of one device, in ascending order. across is asked about a gap; it returns what is to be
// removed afterwards.
func (r *run) device(ctx context.Context, folder blob.Name, from, to []head, across func(todo []head) ([]blob.Name, error)) error {
	todo := r.lacking(folder, from, to)
	if len(todo) == 0 {
		return nil
	}
	size := int64(0)
	for _, h := range todo {
		size += int64(h.size)
	}
	r.progress.expect(len(todo), size)
	if err := r.sameBefore(ctx, folder, todo[0].seq, from, to); err != nil {
		return err
	}
	bridged, err := across(todo)
	if err != nil {
		return err
	}
	next, stop := r.readAhead(ctx, folder, todo)
	defer stop()
	begun := false
	for i, h := range todo {
		name := headName(folder, h.seq)
		if i > 0 && todo[i-1].seq+1 != h.seq && todo[i-1].seq != r.last[folder] {
			// In between may be what the far side has; else it is not to be seen that something is missing.
			if _, ok := find(to, h.seq-1); !ok {
				return &Fault{headName(folder, todo[i-1].seq+1), fmt.Errorf("%w, at the near side", ErrGap)}
			}
		}
		put := false
		body, err := next()
		if err == nil {
			put, err = r.putRead(ctx, blob.Info{Name: name, Size: int64(h.size)}, body, maxHead)
		}
		if errors.Is(err, errVanished) {
			if len(to) == 0 && !begun {
				// Nothing below it is at the far side. If it was pruned meanwhile, it is not listed any more.
				again, err := r.o.listHeads(ctx, r.from, folder+"/")
				if err != nil {
					return err
				}
				if _, ok := find(again[folder], h.seq); !ok {
					continue
				}
				return &Fault{name, ErrWithheld}
			}
			return &Fault{name, fmt.Errorf("%w: it was removed meanwhile", ErrGap)}
		}
		if err != nil {
			return err
		}
		begun = true
		if put {
			r.count(func(rep *Report) { rep.Heads++; rep.Bytes += int64(h.size) })
		}
	}
	if len(bridged) > 0 {
		return r.to.Remove(ctx, bridged...)
	}
	return nil
}

// lacking returns the heads that the far side lacks, without those below the lowest that it has: these its device has pruned there.
func (r *run) lacking(folder blob.Name, from, to []head) []head {
	var todo []head
	for _, h := range from {
		have, ok := find(to, h.seq)
		switch {
		case ok && have.size == h.size && !r.o.Deep:
		case !ok && len(to) > 0 && h.seq < to[0].seq && h.seq != r.last[folder]:
		default: // also those that differ: putSmall compares
			todo = append(todo, h)
		}
	}
	if len(from) > 0 && len(to) > 0 && len(todo) == 0 && from[len(from)-1].seq < to[0].seq {
		r.o.Log.Info("the near side has only heads that are older than those of the far side", "folder", string(folder))
	}
	return todo
}

// sameBefore compares the highest head below seq that both places have. If it differs the device was cloned: nothing is put on top of it.
func (r *run) sameBefore(ctx context.Context, folder blob.Name, seq uint64, from, to []head) error {
	for i := len(to) - 1; i >= 0; i-- {
		h, ok := find(from, to[i].seq)
		if to[i].seq >= seq || !ok {
			continue
		}
		name := headName(folder, h.seq)
		here, err := readWhole(ctx, r.from, name, -1, maxHead)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		there, err := readWhole(ctx, r.to, name, -1, maxHead)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !bytes.Equal(here, there) {
			both := inBoth(from, to[:i+1])
			if err := r.differ(ctx, folder, both, r.to, r.from, there); err != nil {
				return &Fault{name, err}
			}
		}
		if errors.Is(err, ErrDamaged) || err == nil && !bytes.Equal(here, there) {
			return &Fault{name, ErrDiffers}
		}
		return err
	}
	return nil
}

// bridge looks for a gap between what the far side has and todo. It returns the heads that are to be removed at the far side
// after todo is put, because Bridge said so.
func (r *run) bridge(folder blob.Name, todo, to []head, gone map[blob.Name]bool) ([]blob.Name, error) {
	below, _ := slices.BinarySearchFunc(to, todo[0].seq, bySeq)
	if below == 0 || to[below-1].seq+1 == todo[0].seq {
		return nil, nil
	}
	gap := Gap{folder, to[below-1].seq, todo[0].seq}
	leaving := true
	var names []blob.Name
	for _, h := range to[:below] {
		name := headName(folder, h.seq)
		names = append(names, name)
		leaving = leaving && gone[name]
	}
	switch {
	case leaving: // their own device has removed them, and Push will
		return nil, nil
	case r.o.Bridge != nil && r.o.Bridge(gap):
		return names, nil
	}
	return nil, &Fault{headName(folder, gap.Last+1), fmt.Errorf("%w: the far side has them up to %d, the near side from %d on", ErrGap, gap.Last, gap.First)}
}
