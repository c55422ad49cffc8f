package causal

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// random returns a generator from SHEAF_SEED, or from the clock, and says which.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SHEAF_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("SHEAF_SEED: %v", err)
		}
	}
	t.Logf("SHEAF_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// A set is a context as a plain set of dots: the oracle.
type set map[Dot]bool

func (s set) with(d Dot) set {
	n := set{}
	for k := range s {
		n[k] = true
	}
	for i := uint64(1); i <= d.Counter; i++ {
		n[Dot{d.Device, i}] = true
	}
	return n
}

func (s set) join(o set) set {
	n := s.with(Dot{})
	for d := range o {
		n[d] = true
	}
	return n
}

func (s set) includes(o set) bool {
	for d := range o {
		if !s[d] {
			return false
		}
	}
	return true
}

const devices, counters = 5, 4

func randomContext(r *rand.Rand) (Context, set) {
	var c Context
	s := set{}
	for range r.IntN(8) {
		d := Dot{Device(1 + r.IntN(devices)), 1 + r.Uint64N(counters)}
		c, s = c.With(d), s.with(d)
	}
	return c, s
}

func agree(t *testing.T, c Context, s set) {
	t.Helper()
	if !c.Valid() {
		t.Fatalf("%v is not valid", c)
	}
	for dev := Device(1); dev <= devices+1; dev++ {
		for n := uint64(1); n <= counters+1; n++ {
			if d := (Dot{dev, n}); c.Covers(d) != s[d] {
				t.Fatalf("%v covers %s: %v, want %v", c, d, c.Covers(d), s[d])
			}
		}
	}
}

func TestContext_AgreesWithASetOfDots(t *testing.T) {
	r := random(t)
	for range 20_000 {
		a, sa := randomContext(r)
		b, sb := randomContext(r)
		beforeA, beforeB := slices.Clone(a), slices.Clone(b)
		agree(t, a, sa)
		agree(t, a.Join(b), sa.join(sb))
		d := Dot{Device(1 + r.IntN(devices)), 1 + r.Uint64N(counters)}
		agree(t, a.With(d), sa.with(d))
		if a.Includes(b) != sa.includes(sb) {
			t.Fatalf("%v includes %v: %v", a, b, a.Includes(b))
		}
		if a.Equal(b) != (sa.includes(sb) && sb.includes(sa)) {
			t.Fatalf("%v equals %v: %v", a, b, a.Equal(b))
		}
		if !slices.Equal(a, beforeA) || !slices.Equal(b, beforeB) {
			t.Fatal("a method changed its receiver or argument")
		}
	}
}

func TestContext_JoinIsASemilattice(t *testing.T) {
	r := random(t)
	for range 20_000 {
		a, _ := randomContext(r)
		b, _ := randomContext(r)
		c, _ := randomContext(r)
		ab := a.Join(b)
		switch {
		case !ab.Equal(b.Join(a)):
			t.Fatalf("join of %v and %v depends on the order", a, b)
		case !ab.Join(c).Equal(a.Join(b.Join(c))):
			t.Fatalf("join of %v, %v, %v depends on the grouping", a, b, c)
		case !a.Join(a).Equal(a):
			t.Fatalf("join of %v with itself is another", a)
		case !ab.Includes(a) || !ab.Includes(b):
			t.Fatalf("%v joined with %v forgets", a, b)
		case c.Includes(a) && c.Includes(b) && !c.Includes(ab):
			t.Fatalf("join of %v and %v is not the least", a, b)
		case a.Includes(b) != a.Join(b).Equal(a):
			t.Fatalf("%v, %v: inclusion and join disagree", a, b)
		}
	}
}

// What With and Join return may be kept while the arguments go on living.
func TestContext_ResultsShareNoMemoryThatGrows(t *testing.T) {
	r := random(t)
	for range 5_000 {
		a, _ := randomContext(r)
		b, _ := randomContext(r)
		j := a.Join(b)
		kept := slices.Clone(j)
		_ = append(a, Seen{devices + 1, 1})
		_ = append(b, Seen{devices + 2, 1})
		for i := range 3 {
			a = a.With(Dot{Device(1 + i), 100})
		}
		if !slices.Equal(j, kept) {
			t.Fatal("a join changed afterwards")
		}
	}
}

func TestContext_ZeroDotIsSeenByAll(t *testing.T) {
	if !Context(nil).Covers(Dot{}) || !(Context{{1, 1}}).Covers(Dot{}) {
		t.Error("a context has not seen the zero dot")
	}
	if got := (Context{{1, 1}}).With(Dot{}); len(got) != 1 {
		t.Errorf("With the zero dot: %v", got)
	}
	if !(Dot{}).IsZero() || (Dot{Device: 1}).IsZero() || (Dot{Counter: 1}).IsZero() {
		t.Error("IsZero")
	}
}

func TestContext_ValidRefuses(t *testing.T) {
	for _, bad := range []Context{{{0, 1}}, {{1, 0}}, {{2, 1}, {1, 1}}, {{1, 1}, {1, 2}}} {
		if bad.Valid() {
			t.Errorf("%v is valid", bad)
		}
	}
	if !Context(nil).Valid() || !(Context{{1, 1}, {2, 1}, {1 << 63, 1 << 63}}).Valid() {
		t.Error("a sound context is not valid")
	}
}

func TestCompare_IsATotalOrder(t *testing.T) {
	r := random(t)
	dot := func() Dot { return Dot{Device(r.IntN(4)), r.Uint64N(4)} }
	stamp := func() Stamp { return Stamp{r.Uint64N(4), Device(r.IntN(4))} }
	for range 20_000 {
		order(t, dot(), dot(), dot(), Dot.Compare)
		order(t, stamp(), stamp(), stamp(), Stamp.Compare)
	}
	if (Stamp{2, 1}).Compare(Stamp{1, 9}) != 1 {
		t.Error("stamps are not ordered by time first")
	}
	if (Dot{2, 1}).Compare(Dot{1, 9}) != 1 {
		t.Error("dots are not ordered by device first")
	}
}

func order[T comparable](t *testing.T, a, b, c T, compare func(a, b T) int) {
	t.Helper()
	if (compare(a, b) == 0) != (a == b) || compare(a, b) != -compare(b, a) {
		t.Fatalf("%v and %v: %d and %d", a, b, compare(a, b), compare(b, a))
	}
	if compare(a, b) <= 0 && compare(b, c) <= 0 && compare(a, c) > 0 {
		t.Fatalf("%v, %v, %v are not in order", a, b, c)
	}
}

func TestString_NamesDeviceAndCounter(t *testing.T) {
	if got := fmt.Sprint(Dot{0xab, 7}); got != "00000000000000ab@7" {
		t.Errorf("got %s", got)
	}
}
