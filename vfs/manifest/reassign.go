package manifest

import (
	"context"
	"fmt"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// A Reassignment says which writes of a device are another one's: all of From after its counter After become writes of To, in their
// order, and so do the stamps of these writes above the Lamport time.
type Reassignment struct {
	From    causal.Device
	After   uint64
	Lamport uint64
	To      causal.Device
}

// Reassign returns s with the writes that r names under another name. It is for a device that was set back and went on: its new writes have the dots
// of those that it has lost, so to whoever has seen these the new ones are seen, and to itself the lost ones. Under another name both are what they are: writes that
// do not know of each other. Nobody else may have seen the writes that get another name: so each directory above one has a record of From that is reassigned, too, and what lies
// below others is not read.
func Reassign(ctx context.Context, st Store, s Snapshot, r Reassignment) (Snapshot, error) {
	last := s.Context.Counter(r.From)
	if last <= r.After {
		return s, nil
	}
	a := &reassigner{ctx: ctx, st: st, r: r, base: s.Context.Counter(r.To)}
	var err error
	if s.Root, s.Below, _, err = a.dir(s.Root, s.Below); err != nil {
		return Snapshot{}, fmt.Errorf("reassign writes: %w", err)
	}
	if s.Top.Kind != 0 {
		a.entry(&s.Top)
	}
	if s.History, err = a.history(s.History); err != nil {
		return Snapshot{}, fmt.Errorf("reassign writes: %w", err)
	}
	seen := make(causal.Context, 0, len(s.Context)+1)
	for _, c := range s.Context {
		switch c.Device {
		case r.From:
			c.Counter = r.After
		case r.To:
			continue
		}
		if c.Counter > 0 {
			seen = append(seen, c)
		}
	}
	s.Context = seen.With(causal.Dot{Device: r.To, Counter: a.base + last - r.After})
	return s, nil
}

type reassigner struct {
	ctx  context.Context //nolint:containedctx // lives for one call of Reassign
	st   Store
	r    Reassignment
	base uint64 // the writes that To has already
}

func (a *reassigner) dot(d *causal.Dot) bool {
	if d.Device != a.r.From || d.Counter <= a.r.After {
		return false
	}
	*d = causal.Dot{Device: a.r.To, Counter: a.base + d.Counter - a.r.After}
	return true
}

func (a *reassigner) stamp(s *causal.Stamp) {
	if s.Device == a.r.From && s.Lamport > a.r.Lamport {
		s.Device = a.r.To
	}
}

// entry reassigns what e itself has. It reports whether something changed.
func (a *reassigner) entry(e *Entry) bool {
	changed := a.dot(&e.Dot)
	if changed {
		a.stamp(&e.Place)
		a.stamp(&e.Attr)
	}
	changed = a.dot(&e.Edit) || changed
	e.Past = slices.Clone(e.Past)
	for i := range e.Past {
		changed = a.dot(&e.Past[i]) || changed
	}
	e.Hidden = slices.Clone(e.Hidden)
	for i := range e.Hidden {
		changed = a.entry(&e.Hidden[i]) || changed
	}
	slices.SortFunc(e.Hidden, func(a, b Entry) int { return a.Dot.Compare(b.Dot) })
	return changed
}

// reassignBatch is how many entries of a directory are held at once.
const reassignBatch = 4096

// dir reassigns all that lies in a directory, at any depth.
func (a *reassigner) dir(ref chunk.Ref, below Below) (chunk.Ref, Below, bool, error) {
	if ref.IsZero() {
		return ref, below, false, nil
	}
	now := ref
	var edits []Edit
	apply := func() (err error) {
		if len(edits) > 0 {
			now, below, err = EditDir(a.ctx, a.st, now, edits)
			edits = edits[:0]
		}
		return err
	}
	for e, err := range Entries(a.ctx, a.st, ref, "") {
		if err != nil {
			return ref, below, false, err
		}
		changed := a.entry(&e)
		if e.Kind == vfs.KindDir && (changed || e.ID == RecoveredID || e.Below&BelowStored != 0) {
			node, flags, inside, err := a.dir(e.Node, e.Below)
			if err != nil {
				return ref, below, false, err
			}
			e.Node, e.Below = node, flags
			changed = changed || inside
		}
		if !changed {
			continue
		}
		if edits = append(edits, Edit{Name: e.Name, Entry: &e}); len(edits) == reassignBatch {
			if err := apply(); err != nil {
				return ref, below, false, err
			}
		}
	}
	err := apply()
	return now, below, now != ref, err
}

func (a *reassigner) history(ref chunk.Ref) (chunk.Ref, error) {
	var kept []Kept
	changed := false
	for k, err := range Kepts(a.ctx, a.st, ref) {
		if err != nil {
			return ref, err
		}
		changed = a.dot(&k.Dot) || changed
		kept = append(kept, k)
	}
	if !changed {
		return ref, nil
	}
	slices.SortFunc(kept, CompareKept)
	return BuildHistory(a.ctx, a.st, kept)
}
