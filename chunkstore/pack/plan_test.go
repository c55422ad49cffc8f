package pack

import "testing"

// Every plan is in one row, and its packs have allowed sizes, room for what is planned, and not much more.
func TestPlan_IsOneRow(t *testing.T) {
	p, last := PlanFor(0), int64(0)
	for n := 0; p.Bytes() < 8<<30; n++ {
		room := int64(p.Full)*Fill + min(p.Room(), Fill)
		if !AllowedSize(p.Tail) || p.Bytes() <= last {
			t.Fatalf("plan %v after %d bytes", p, last)
		}
		// All sums from behind the plan before on up to this one's room, and no others, have this plan.
		for _, sum := range []int64{room, room - 1} {
			if got := PlanFor(sum); got != p {
				t.Fatalf("plan for %d: got %v, want %v", sum, got, p)
			}
		}
		next := p.Next()
		if got := PlanFor(room + 1); got != next || next == p {
			t.Fatalf("plan for %d: got %v, want %v, which follows %v", room+1, got, next, p)
		}
		// What is added to the least sum: 1/64 for the full packs, a grain for the rest.
		if least := room + 1; least > 1<<20 {
			if over := float64(next.Bytes()-least) / float64(least); over > 0.0313+1.0/63+0.001 {
				t.Fatalf("plan %v for %d bytes adds %.1f %%", next, least, 100*over)
			}
		}
		if full := p.Full + 2; p.AtLeast(full) != PlanFor(int64(full)*Fill+1) || p.AtLeast(p.Full) != p || p.AtLeast(full).Full != full {
			t.Fatalf("plan with %d full packs: got %v", full, p.AtLeast(full))
		}
		last, p = p.Bytes(), next
	}
	// For much it is the full packs alone.
	if p := PlanFor(1 << 40); p.Tail != Size || float64(p.Bytes()) > 1.0162*(1<<40) {
		t.Errorf("plan for 1 TiB: %v", p)
	}
}

// A fixed list, so that no change of the plans goes unseen.
func TestPlan_IsPinned(t *testing.T) {
	for sum, want := range map[int64]Plan{
		0: {0, MinSize}, MinSize - 176: {0, MinSize}, 1_000_000: {0, 1_015_808}, Fill: {0, Size}, Fill + 1: {1, 512 << 10},
		48_000_000: {1, 15 << 20}, 100_000_000: {3, 2 << 20}, 2 * Fill: {1, Size}, 1 << 30: {32, Size},
	} {
		if got := PlanFor(sum); got != want {
			t.Errorf("plan for %d: got %v, want %v", sum, got, want)
		}
	}
}
