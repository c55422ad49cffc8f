package manifest

import (
	"slices"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
)

// G8: a clock that jumps, by ten years or to 1980, thins no history out; one that goes on does.
func TestRetainTime_TakesNoJumpForAge(t *testing.T) {
	const hour, day, year = time.Hour, 24 * time.Hour, 365 * 24 * time.Hour
	now := time.Date(2026, 6, 15, 12, 30, 0, 0, time.UTC)
	var kept []Kept
	commit := func(at time.Time) (dropped int) {
		kept = append(kept, Kept{Dot: causal.Dot{Device: 1, Counter: uint64(len(kept)+1) + uint64(at.UnixNano())}, Time: at})
		slices.SortFunc(kept, CompareKept)
		n := len(kept)
		kept = Retain(kept, RetainTime(kept, at), DefaultRule)
		return n - len(kept)
	}
	for i := range 200 {
		if n := commit(now.Add(time.Duration(i) * 5 * time.Minute)); n > 0 {
			t.Fatalf("%d dropped within a day", n)
		}
	}
	now = now.Add(17 * hour)
	for _, jump := range []time.Duration{10 * year, 10*year + 3*day, 20 * year, -10 * year, -46 * year, 8 * day, -day} {
		for i := range 5 {
			if n := commit(now.Add(jump).Add(time.Duration(i) * hour)); n > 0 {
				t.Errorf("a jump by %v: %d dropped", jump, n)
			}
		}
		if n := commit(now); n > 0 {
			t.Errorf("back after a jump by %v: %d dropped", jump, n)
		}
		now = now.Add(time.Minute)
	}
	// A clock that stays there is believed after a week.
	before := len(kept)
	for at := now; at.Before(now.Add(30 * day)); at = at.Add(6 * hour) {
		commit(at)
	}
	if len(kept) > before-100 {
		t.Errorf("%d kept after a month, of %d: nothing is thinned out", len(kept), before)
	}
	// And so is one that comes back after a long time without.
	for at := now.Add(300 * day); at.Before(now.Add(320 * day)); at = at.Add(6 * hour) {
		commit(at)
	}
	if got := RetainTime(kept, now.Add(320*day)); !got.Equal(now.Add(320 * day)) {
		t.Errorf("after three weeks the time is taken for %v", got)
	}
}
