package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// VerifyOptions say which packs are read. Of Options only Parallel, Progress and Log matter.
type VerifyOptions struct {
	Options
	// Sample, if not 0, is how many packs are read at most, drawn at random by Seed from those that are left.
	Sample int
	Seed   uint64
	// Verified says when a pack was last found good; one found so at Since or later is left out. Nil: none is.
	Verified func(blob.Name) time.Time
	Since    time.Time
	// Expect are the packs that should be there; those that are not listed are found to be missing, whatever Sample says. Nil: nothing
	// is known of what should be there, and nothing is missing.
	Expect []blob.Name
	// Done, if not nil, is told of each pack that is good, by one goroutine at a time: what Verified is to remember.
	Done func(blob.Name)
}

// A Finding is one pack that is not as it should be: damaged (ErrDamaged), listed and not handed out (ErrWithheld), or not listed
// though it is expected (ErrMissing).
type Finding = Fault

// Verify reads packs and holds the BLAKE3 hash of each against its name. It yields what it finds wrong; an error means that the place itself fails, and
// is the last. Packs that are missing it sees only if it is told which there should be. It holds one listing and Parallel read buffers in memory.
func Verify(ctx context.Context, b blob.Bucket, o VerifyOptions) iter.Seq2[*Finding, error] {
	return func(yield func(*Finding, error) bool) {
		o.Options = o.filled()
		infos, missing, err := o.choose(ctx, b)
		p := progress{tell: o.Progress}
		for _, info := range infos {
			p.expect(1, info.Size)
		}
		for _, name := range missing {
			if !yield(&Finding{name, ErrMissing}, nil) {
				return
			}
		}
		for err == nil && len(infos) > 0 {
			n := min(len(infos), o.Parallel)
			var found []*Finding
			if found, err = o.read(ctx, b, infos[:n], &p); err != nil {
				break
			}
			infos = infos[n:]
			for _, f := range found {
				if !yield(f, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(nil, fmt.Errorf("verify packs: %w", err))
		}
	}
}

// Behind reports whether a place lacks the newest head that another one has of some device: then it has not been brought all that the other
// has, and what it lacks is not missing. A place that is not behind has all that these heads need, or has lost it.
func Behind(ctx context.Context, other, place blob.Bucket) (bool, error) {
	var o Options
	o = o.filled()
	want, err := o.listHeads(ctx, other, heads)
	if err != nil {
		return false, err
	}
	have, err := o.listHeads(ctx, place, heads)
	if err != nil {
		return false, err
	}
	for folder, hs := range want {
		newest := slices.MaxFunc(hs, compareHeads)
		if len(have[folder]) == 0 || slices.MaxFunc(have[folder], compareHeads).seq < newest.seq {
			return true, nil
		}
	}
	return false, nil
}

// choose returns the packs to read, and those that are missing.
func (o *VerifyOptions) choose(ctx context.Context, b blob.Bucket) (infos []blob.Info, missing []blob.Name, err error) {
	table, err := listTable(ctx, b, catalog.Packs)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range o.Expect {
		if _, ok := table.Size(name); !ok {
			missing = append(missing, name)
		}
	}
	r := rand.New(rand.NewPCG(o.Seed, 0x5a3d))
	seen := 0
	for info := range table.All(catalog.Packs) {
		if o.Verified != nil && !o.Verified(info.Name).Before(o.Since) {
			continue
		}
		seen++
		if o.Sample <= 0 || len(infos) < o.Sample {
			infos = append(infos, info)
		} else if i := r.IntN(seen); i < o.Sample { // each of those seen so far is in with the same chance
			infos[i] = info
		}
	}
	return infos, missing, nil
}

// read reads some packs at once.
func (o *VerifyOptions) read(ctx context.Context, b blob.Bucket, infos []blob.Info, p *progress) ([]*Finding, error) {
	found := make([]*Finding, len(infos))
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	for i, info := range infos {
		g.Go(func() error {
			err := checkPack(gctx, b, info.Name)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				found[i] = &Finding{info.Name, ErrWithheld}
			case errors.Is(err, ErrDamaged):
				found[i] = &Finding{info.Name, err}
			case err != nil:
				return err
			case o.Done != nil:
				mu.Lock()
				o.Done(info.Name)
				mu.Unlock()
			}
			p.add(1, info.Size)
			return nil
		})
	}
	err := g.Wait()
	return slices.DeleteFunc(found, func(f *Finding) bool { return f == nil }), err
}

// HealOptions say which packs are healed.
type HealOptions struct {
	Options
	// Names are the packs to look at. Nil: all that the place lists, which are read, and those that it lacks and another
	// place lists.
	Names []blob.Name
}

// A HealReport says what Heal did.
type HealReport struct {
	Good    int   // packs that were in order
	Damaged int   // that had other bytes than their names say
	Missing int   // that were not there, or were not handed out
	Healed  int   // of Damaged and Missing, that were put, and are in order now
	Bytes   int64 // of these
	Lost    []blob.Name
	// Unknown are packs that no place has which could be asked, while another place failed.
	Unknown []blob.Name
}

// Heal puts each of the packs that is damaged or missing at to from the first place in from that has it good. A pack is
// verified before it is put, and again after. What no place has is in the report as Lost. An error is one of to, or
// joins those of the places that failed. It holds up to four packs of 32 MiB in memory at once.
func Heal(ctx context.Context, to blob.Bucket, from []blob.Bucket, o HealOptions) (HealReport, error) {
	o.Options = o.filled()
	h := &healing{to: to, from: from, o: o, failed: make([]error, len(from))}
	err := h.all(ctx)
	slices.Sort(h.report.Lost)
	slices.Sort(h.report.Unknown)
	if err == nil {
		err = errors.Join(h.failed...)
	}
	if err != nil {
		err = fmt.Errorf("heal packs: %w", err)
	}
	return h.report, err
}

type healing struct {
	to   blob.Bucket
	from []blob.Bucket
	o    HealOptions

	mu     sync.Mutex
	report HealReport
	failed []error // of each place, the last
}

func (h *healing) all(ctx context.Context) error {
	names := h.o.Names
	if names == nil {
		var err error
		if names, err = h.listed(ctx); err != nil {
			return err
		}
	}
	p := progress{tell: h.o.Progress}
	p.expect(len(names), 0)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(min(h.o.Parallel, 4))
	for _, name := range names {
		g.Go(func() error {
			if err := h.one(gctx, name); err != nil {
				return err
			}
			p.add(1, 0)
			return nil
		})
	}
	return g.Wait()
}

// listed returns the packs of all places. One that fails is left out, and named in the error.
func (h *healing) listed(ctx context.Context) ([]blob.Name, error) {
	all, err := listTable(ctx, h.to, catalog.Packs)
	if err != nil {
		return nil, err
	}
	for i, b := range h.from {
		table, err := listTable(ctx, b, catalog.Packs)
		if err == nil {
			all, err = all.With(table.All(""), nil)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		h.failed[i] = err
	}
	var names []blob.Name
	for info := range all.All("") {
		names = append(names, info.Name)
	}
	return names, nil
}

func (h *healing) one(ctx context.Context, name blob.Name) error {
	err := checkPack(ctx, h.to, name)
	if err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.report.Good++
		return nil
	}
	if !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	h.mu.Lock()
	if errors.Is(err, ErrDamaged) {
		h.report.Damaged++
	} else {
		h.report.Missing++
	}
	h.mu.Unlock()
	unknown := false
	for i, b := range h.from {
		body, err := readPack(ctx, b, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			unknown = true
			h.mu.Lock()
			h.failed[i] = err
			h.mu.Unlock()
			continue
		}
		if err := h.to.Put(ctx, name, bytes.NewReader(body), int64(len(body))); err != nil {
			return err
		}
		if err := checkPack(ctx, h.to, name); err != nil {
			if errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
				err = &Fault{name, ErrNotStored}
			}
			return err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.report.Healed++
		h.report.Bytes += int64(len(body))
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if unknown {
		h.report.Unknown = append(h.report.Unknown, name)
	} else {
		h.report.Lost = append(h.report.Lost, name)
	}
	return nil
}

// readPack returns the bytes of a pack if they have the hash that its name says.
func readPack(ctx context.Context, b blob.Bucket, name blob.Name) ([]byte, error) {
	want, ok := catalog.PackHash(name)
	if !ok {
		return nil, fmt.Errorf("read pack %q: %w", string(name), blob.ErrName)
	}
	r, err := b.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(r, maxPack+1))
	_ = r.Close()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read pack %s: %w", name, err)
	case len(body) > maxPack || blake3.Sum256(body) != want:
		return nil, fmt.Errorf("%w: its %d bytes have another hash", ErrDamaged, len(body))
	}
	return body, nil
}
