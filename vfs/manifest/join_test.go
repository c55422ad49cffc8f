package manifest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/vfs"
)

// runSchedule plays one random schedule and returns the first violation.
func runSchedule(n uint64, bug writerBug) (*world, error) {
	r := rand.New(rand.NewPCG(n, 0x5eaf))
	w := newWorld(r, 2+r.IntN(3), bug)
	for range 6 + r.IntN(18) {
		d := pick(r, w.devices)
		if r.IntN(10) < 6 {
			if err := d.load(); err != nil {
				return w, err
			}
			for range 1 + r.IntN(3) {
				d.act()
			}
			if err := d.commit(); err != nil {
				return w, err
			}
		} else if o := pick(r, w.devices); o != d {
			if err := d.join(o); err != nil {
				return w, err
			}
		}
	}
	if len(w.devices) > 2 {
		if err := w.associates(); err != nil {
			return w, err
		}
	}
	for range 2 { // full exchange
		for i := range w.devices {
			if err := w.devices[i].join(w.devices[(i+1)%len(w.devices)]); err != nil {
				return w, err
			}
		}
	}
	for range w.devices {
		for i := range w.devices {
			if err := w.devices[i].join(w.devices[(i+1)%len(w.devices)]); err != nil {
				return w, err
			}
		}
	}
	for _, d := range w.devices[1:] {
		if a, b := w.devices[0].s, d.s; !sameState(a, b) {
			return w, fmt.Errorf("%w: I2, devices end with %v and %v", errViolated, a.Root, b.Root)
		}
	}
	again, err := Join(context.Background(), w.st, w.devices[0].s, w.devices[1].s)
	if err != nil || !sameState(again, w.devices[0].s) {
		return w, fmt.Errorf("%w: I1 or I10, join is not idempotent: %w", errViolated, err)
	}
	return w, w.check()
}

func (w *world) associates() error {
	a, b, c := w.devices[0].s, w.devices[1].s, w.devices[2].s
	j := func(a, b Snapshot, err error) (Snapshot, error) {
		if err != nil {
			return a, err
		}
		return Join(context.Background(), w.st, a, b)
	}
	ab, err := j(a, b, nil)
	left, err := j(ab, c, err)
	if err != nil {
		return err
	}
	bc, err := j(b, c, nil)
	right, err := j(a, bc, err)
	if err != nil {
		return err
	}
	if !sameState(left, right) {
		return fmt.Errorf("%w: I1, join is not associative", errViolated)
	}
	return nil
}

// check looks at the state in which all devices ended: I3, I4 and I6.
func (w *world) check() error {
	shown := map[causal.Dot]bool{}
	kinds := map[NodeID]vfs.Kind{}
	dirs := map[NodeID]bool{}
	s := w.devices[0].s
	var files, bytes uint64
	for p, err := range WalkTree(context.Background(), w.st, s.Root) {
		if err != nil {
			return err
		}
		e := &p.Entry
		files++
		bytes += bytesOf(e)
		if k, ok := kinds[e.ID]; ok && k != e.Kind || dirs[e.ID] {
			return fmt.Errorf("%w: I6, item %x is shown twice or of two kinds", errViolated, e.ID)
		}
		kinds[e.ID], dirs[e.ID] = e.Kind, e.Kind == vfs.KindDir
		if e.Stored != nil && e.Kind == vfs.KindDir && e.Stored.Parent != e.From {
			w.cut++
		}
		if e.ID == RecoveredID {
			w.orphans++
		}
		if e.Conflict {
			w.clashes++
		}
		if e.Kind != vfs.KindFile {
			continue
		}
		if e.Node != w.written[e.Edit] {
			return fmt.Errorf("%w: %s has other bytes than its edit wrote", errViolated, p.Path)
		}
		shown[e.Edit] = true
		for _, r := range records(nil, e, RootID) {
			if r.Edit != e.Edit {
				continue
			}
			for _, k := range w.kills[e.Edit] {
				if k.seen.Covers(r.Dot) {
					return fmt.Errorf("%w: I4, %s is back although its %v was seen and replaced or deleted", errViolated, p.Path, r.Dot)
				}
			}
		}
	}
	for edit := range w.written {
		if !shown[edit] && len(w.kills[edit]) == 0 {
			return fmt.Errorf("%w: I3, the value %v is lost", errViolated, edit)
		}
	}
	if files != s.Files || bytes != s.Bytes {
		return fmt.Errorf("%w: state says %d entries and %d bytes, and has %d and %d", errViolated, s.Files, s.Bytes, files, bytes)
	}
	return nil
}

func schedules(t *testing.T, n uint64) uint64 {
	t.Helper()
	if s := os.Getenv("SHEAF_SCHEDULES"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("SHEAF_SCHEDULES: %v", err)
		}
		return v
	}
	return n
}

// G1: I1 to I6, I8, I10 and I11 of the model of many devices, and that Join is the flat join.
// Each schedule has its own seed, which is printed where it fails; SHEAF_SEED is
// the first.
func TestJoin_HoldsItsInvariantsOverRandomSchedules(t *testing.T) {
	n := schedules(t, 100_000)
	if testing.Short() {
		n = 2000
	}
	first := seed(t)
	var joins, orphans, cut, clashes int
	for i := first; i < first+n; i++ {
		// Without the rewrite of ancestors nothing may be lost either, but many more
		// entries lose their parents.
		bug := writerRight
		if i%4 == 0 {
			bug = writerNoAncestors
		}
		w, err := runSchedule(i, bug)
		if err != nil {
			t.Fatalf("SHEAF_SEED=%d: %v", i, err)
		}
		joins, orphans, cut, clashes = joins+w.joins, orphans+w.orphans, cut+w.cut, clashes+w.clashes
	}
	t.Logf("%d schedules, %d joins; at the end: %d trees with orphans, %d cut cycles, %d conflict entries", n, joins, orphans, cut, clashes)
	if orphans == 0 || cut == 0 || clashes == 0 {
		t.Error("the schedules do not reach orphans, cycles and conflicts")
	}
}

// G3: each of these seeded bugs is found by the schedules. The first seed of those given is the first
// that finds it, of those from 0 on; SHEAF_SEARCH set looks for it anew.
func TestJoin_SeededBugsAreFound(t *testing.T) {
	defer func() { seeded = bugNone }()
	search := os.Getenv("SHEAF_SEARCH") != ""
	for name, bug := range map[string]struct {
		join   seededBug
		writer writerBug
		seed   uint64
	}{
		"join trusts equal Refs over a Stored":       {bugTrustRefs, writerRight, 0},
		"join keeps what the other deleted":          {bugNoCoverCheck, writerRight, 0},
		"join ignores the order of moves":            {bugFirstPlace, writerRight, 0},
		"join ignores Past":                          {bugNoPast, writerRight, 0},
		"join forgets hidden records":                {bugDropHidden, writerRight, 0},
		"join stores the place shown":                {bugShownPlace, writerRight, 0},
		"join lets cycles stand":                     {bugNoCycles, writerRight, 0},
		"join does not mark the way back":            {bugNoHold, writerRight, 0},
		"join gives a name to the first":             {bugWrongWinner, writerRight, 0},
		"join does not look who has a name":          {bugNoLookup, writerRight, 0},
		"writer removes all siblings with an edit":   {bugNone, writerKillsAll, 0},
		"writer rewrites with the place shown":       {bugNone, writerShownPlace, 0},
		"writer uses a stamp twice":                  {bugNone, writerReusesStamps, 0},
		"writer forgets what an edit replaced":       {bugNone, writerForgetsPast, 0},
		"writer uses a dot twice":                    {bugNone, writerReusesDots, 0},
		"writer moves below an exile as it is shown": {bugNone, writerNoSettle, 0},
	} {
		t.Run(name, func(t *testing.T) {
			seeded = bug.join
			from, n := bug.seed, uint64(1)
			if search {
				from, n = 0, schedules(t, 100_000)
			}
			for i := from; i < from+n; i++ {
				_, err := runSchedule(i, bug.writer)
				if err != nil {
					t.Logf("seed %d: %v", i, err)
					return
				}
			}
			t.Errorf("%d schedules from seed %d on found nothing", n, from)
		})
	}
}
