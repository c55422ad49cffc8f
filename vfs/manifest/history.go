package manifest

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// The keys of a Kept.
const (
	keptDot = 1 + iota
	keptTime
	keptDevice
	keptRoot
	keptLabel
	keptPinned
	keptFiles
	keptBytes
)

// MaxLabel is the most bytes of the label of a kept snapshot.
const MaxLabel = 1024

// CompareKept orders kept snapshots by Time, then Dot, as the history has them.
func CompareKept(a, b Kept) int {
	if c := a.Time.Compare(b.Time); c != 0 {
		return c
	}
	return a.Dot.Compare(b.Dot)
}

func (k *Kept) check() error {
	switch {
	case k.Dot.Device == 0 || k.Dot.Counter == 0:
		return errRule("dot is missing")
	case !k.Root.IsZero() && k.Root.Kind != chunk.Dir:
		return errRule("root is of the wrong kind")
	case len(k.Label) > MaxLabel:
		return errRule("label is too long")
	}
	return nil
}

func appendKept(dst []byte, k *Kept) []byte {
	var f fields
	f.pair(keptDot, uint64(k.Dot.Device), k.Dot.Counter)
	f.time(keptTime, k.Time)
	f.uint(keptDevice, uint64(k.Device), uint64(k.Dot.Device))
	if !k.Root.IsZero() {
		f.key(keptRoot)
		f.b = appendRef(f.b, k.Root)
	}
	if k.Label != "" {
		f.key(keptLabel)
		f.b = cbor.AppendBytes(f.b, []byte(k.Label))
	}
	f.flag(keptPinned, k.Pinned)
	f.uint(keptFiles, k.Files, 0)
	f.uint(keptBytes, k.Bytes, 0)
	return f.appendTo(dst)
}

func (n *node) kept(r *entryReader) {
	var k Kept
	last, device := int64(-1), false
	for m := r.Map(); m > 0 && r.Err() == nil; m-- {
		switch key := r.Key(&last); key {
		case keptDot:
			k.Dot = r.dot()
		case keptTime:
			k.Time = r.time()
		case keptDevice:
			k.Device, device = causal.Device(r.Uint()), true
		case keptRoot:
			k.Root = readRef(r.Reader)
		case keptLabel:
			k.Label = string(r.BytesMax(MaxLabel))
			if k.Label == "" {
				r.Fail("default written out")
			}
		case keptPinned:
			k.Pinned = r.yes()
		case keptFiles:
			k.Files = r.nonzero(math.MaxUint64)
		case keptBytes:
			k.Bytes = r.nonzero(math.MaxUint64)
		default:
			r.Fail("unknown key %d", key)
		}
	}
	if r.Err() != nil {
		return
	}
	if !device {
		k.Device = k.Dot.Device
	} else if k.Device == k.Dot.Device {
		r.Fail("default written out")
	}
	if err := k.check(); err != nil {
		r.Fail("%v", err)
	}
	if i := len(n.kepts); i > 0 && CompareKept(n.kepts[i-1], k) >= 0 {
		r.Fail("kept snapshots out of order")
	}
	n.grow(r, child{count: 1})
	n.kepts = append(n.kepts, k)
}

// BuildHistory stores the list of kept snapshots, sorted by CompareKept, and returns its Ref,
// zero for none.
func BuildHistory(ctx context.Context, sink Sink, kept []Kept) (chunk.Ref, error) {
	c := newCutter(ctx, sink, chunk.History)
	for i := range kept {
		k := &kept[i]
		if err := k.check(); err != nil {
			return chunk.Ref{}, fmt.Errorf("%w: kept snapshot: %w", ErrMalformed, err)
		}
		if i > 0 && CompareKept(kept[i-1], *k) >= 0 {
			return chunk.Ref{}, fmt.Errorf("%w: kept snapshots out of order", ErrMalformed)
		}
		enc := appendKept(nil, k)
		if err := c.leaf(enc, xxhash.Sum64(enc), child{count: 1}); err != nil {
			return chunk.Ref{}, err
		}
	}
	top, _, err := c.finish()
	return top.ref, err
}

// Kepts yields the kept snapshots of a history in the order of CompareKept. It ends at the
// first error.
func Kepts(ctx context.Context, src Source, history chunk.Ref) iter.Seq2[Kept, error] {
	return func(yield func(Kept, error) bool) {
		if history.IsZero() {
			return
		}
		var visit func(n *node) bool
		visit = func(n *node) bool {
			for _, k := range n.kepts {
				if !yield(k, nil) {
					return false
				}
			}
			for i := range n.children {
				c := &n.children[i]
				sub, err := readNode(ctx, src, chunk.History, c.ref, n.level, c)
				if err != nil {
					yield(Kept{}, fmt.Errorf("list history: %w", err))
					return false
				}
				if !visit(sub) {
					return false
				}
			}
			return true
		}
		n, err := readNode(ctx, src, chunk.History, history, 0, nil)
		if err != nil {
			yield(Kept{}, fmt.Errorf("list history: %w", err))
			return
		}
		visit(n)
	}
}

// A Rule says which snapshots stay: all that are younger than All, the last of each hour up to an
// age of Hourly, the last of each day up to an age of Daily, and then the last of each month.
// Hours, days and months are those of UTC.
type Rule struct {
	All, Hourly, Daily time.Duration
}

// DefaultRule keeps all for a day, hourly for 7 days and daily for 60.
var DefaultRule = Rule{All: 24 * time.Hour, Hourly: 7 * 24 * time.Hour, Daily: 60 * 24 * time.Hour}

// A clock that jumps ahead makes all that is kept look old at once. So a gap without any snapshot is taken for a
// jump if it is longer than maxGap, until the clock has stayed on its far side for settled.
const (
	maxGap  = 7 * 24 * time.Hour
	settled = 7 * 24 * time.Hour
)

// RetainTime returns the time for Retain to go by when the clock says now: now, or, if the clock seems to have
// jumped ahead, the time of the last snapshot before that. kept is sorted by CompareKept. A long time
// without snapshots looks the same, and makes Retain wait for a week.
func RetainTime(kept []Kept, now time.Time) time.Time {
	after := now
	for i := len(kept) - 1; i >= 0; i-- {
		at := kept[i].Time
		if at.After(after) {
			continue // from a clock that was ahead
		}
		if now.Sub(after) >= settled {
			return now
		}
		if after.Sub(at) > maxGap {
			return RetainTime(kept[:i+1], at)
		}
		after = at
	}
	return now
}

// Retain returns those of kept, sorted by CompareKept, that the rule keeps at the time now, in
// their order, in a slice of its own. A pinned one always stays, and so do the newest and
// what is dated after now.
func Retain(kept []Kept, now time.Time, rule Rule) []Kept {
	type slot struct {
		tier byte
		n    int64
	}
	taken := make(map[slot]bool)
	var keep []Kept
	for i := len(kept) - 1; i >= 0; i-- { // the newest of a slot comes first
		k := &kept[i]
		age, t := now.Sub(k.Time), k.Time.UTC()
		var s slot
		switch {
		case age < rule.All || k.Pinned || i == len(kept)-1:
			keep = append(keep, *k)
			continue
		case age < rule.Hourly:
			s = slot{'h', floorDiv(t.Unix(), 3600)}
		case age < rule.Daily:
			s = slot{'d', floorDiv(t.Unix(), 24*3600)}
		default:
			s = slot{'m', int64(t.Year())*12 + int64(t.Month())}
		}
		if !taken[s] {
			taken[s] = true
			keep = append(keep, *k)
		}
	}
	slices.Reverse(keep)
	return keep
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
