package replica_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// lossy is a place that loses a part of a listing, as if that were all; after that the next three listings of the same folder are whole: one
// of all its blobs, and one for each of the two devices.
type lossy struct {
	blob.Bucket
	mu    sync.Mutex
	r     *rand.Rand
	since map[blob.Name]int // listings since the last loss
}

func (l *lossy) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		var all []blob.Info
		for info, err := range l.Bucket.List(ctx, prefix) {
			if err != nil {
				yield(info, err)
				return
			}
			all = append(all, info)
		}
		dir, _, _ := strings.Cut(string(prefix), "/")
		prefix = blob.Name(dir)
		l.mu.Lock()
		l.since[prefix]++
		if l.since[prefix] > 3 && l.r.IntN(3) == 0 && len(all) > 0 {
			l.since[prefix] = 0
			from := l.r.IntN(len(all))
			all = slices.Delete(all, from, min(len(all), from+1+l.r.IntN(len(all))))
		}
		l.mu.Unlock()
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// growing is the bucket of a drive that is written to while it is copied: what happens next happens before any call, and in the
// midst of listings. A pack is not removed before packs were listed twice since it was put: what moves faster than that is
// what no run without keys can see.
type growing struct {
	*mem.Bucket
	t      testing.TB
	s      *story
	mu     sync.Mutex
	r      *rand.Rand
	chance float64
	next   int
	lists  int
	since  map[blob.Name]int
}

func (g *growing) happen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.next < len(g.s.events) && g.r.Float64() < g.chance {
		e := g.s.events[g.next]
		if at, ok := g.since[e.name]; !e.put && ok && g.lists < at+2 {
			return
		}
		if e.put {
			g.since[e.name] = g.lists
		}
		apply(g.t, g.Bucket, e)
		g.next++
	}
}

func (g *growing) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	g.happen()
	return g.Bucket.Get(ctx, name, off, n)
}

func (g *growing) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for info, err := range g.Bucket.List(ctx, prefix) {
			if !yield(info, err) {
				return
			}
			g.happen()
		}
		if prefix == catalog.Packs {
			g.mu.Lock()
			g.lists++
			g.mu.Unlock()
		}
		g.happen() // also if there is nothing yet
	}
}

// runs is how many seeds a test tries: short, else, and with SHEAF_LONG.
func runs(short, long int) int {
	if os.Getenv("SHEAF_LONG") != "" {
		return long
	}
	return short
}

// typed reports whether an error is one that a run under faults may give.
func typed(err error) bool {
	for _, e := range []error{
		evil.ErrFault, testkit.ErrFault, replica.ErrDamaged, replica.ErrDiffers, replica.ErrNotStored, replica.ErrNotRemoved, replica.ErrWithheld, replica.ErrGap,
		replica.ErrUnsettled, blob.ErrSize, context.Canceled, io.ErrUnexpectedEOF, fs.ErrInvalid, // of story.opens
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// G9, G10: whatever goes wrong at either place, in whatever order, and wherever a run is cut off: the far side never has a head that refers to
// what is not there, nor a wrong byte; and a run without faults brings the rest.
func TestCopy_UnderFaults(t *testing.T) {
	s := drive(t)
	first := testkit.Seed(t)
	n := runs(1000, 100_000)
	if raceOn {
		n = 50
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	told, whole := 0, 0
	seeds := make(chan int64)
	for range 2 {
		wg.Go(func() {
			for seed := range seeds {
				a, b := underFaults(t, s, seed)
				mu.Lock()
				told, whole = told+a, whole+b
				mu.Unlock()
			}
		})
	}
	for i := range int64(n) {
		if t.Failed() {
			break
		}
		seeds <- first + i
	}
	close(seeds)
	wg.Wait()
	t.Logf("%d runs, %d lies, %d runs came through", n, told, whole)
	if told < n || whole == 0 || whole == n {
		t.Errorf("%d lies in %d runs, of which %d came through: this shows nothing", told, n, whole)
	}
}

func underFaults(t *testing.T, s *story, seed int64) (told, whole int) {
	r := testkit.Rand(seed)
	what := "seed " + itoa(seed)
	far := s.at(t, r.IntN(len(s.events))/(1+r.IntN(3)))
	for name := range contents(t, far) { // and what an earlier run had not brought: only heads, to keep the state sound
		if strings.HasPrefix(string(name), "heads/") {
			if err := far.Remove(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
	}
	w := &watched{Bucket: far, t: t, s: s, what: what}
	here := s.at(t, -1)
	from, to := evil.New(here, seed), evil.New(w, seed+1)
	p := []float64{0.02, 0.1, 0.3}[r.IntN(3)]
	from.Chance(p, evil.FlipBit, evil.Truncate, evil.Extend, evil.Swap, evil.HTML, evil.Withhold, evil.Fail, evil.Reorder, evil.Duplicate, evil.WrongSize)
	to.Chance(p, evil.Fail, evil.Forget, evil.Deny, evil.Partial, evil.Reorder, evil.Duplicate, evil.WrongSize, evil.Truncate, evil.HTML, evil.Withhold)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f := testkit.NewFaults(to)
	if r.IntN(2) == 0 {
		f.FailAfter(r.Int64N(60), nil)
	}
	o := replica.Options{Parallel: 1 + r.IntN(4), Check: s.opens}
	near := &lossy{Bucket: from, r: testkit.Rand(seed + 2), since: map[blob.Name]int{"heads": 9, "packs": 9, "members": 9, "keys": 9, "drive": 9, "index": 9}}
	_, err := replica.Copy(ctx, near, f, o)
	if err != nil && !typed(err) {
		t.Errorf("%s: %v", what, err)
	}
	if err == nil {
		whole++
	}
	s.check(t, what, far)
	if _, err := replica.Copy(ctx, here, w, replica.Options{}); err != nil {
		t.Errorf("%s, without faults: %v", what, err)
	}
	sameBut(t, what, here, far, false, true)
	s.check(t, what, far)
	return len(from.Deeds()) + len(to.Deeds()), whole
}

func itoa(n int64) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append(b, byte('0'+n%10))
	}
	slices.Reverse(b)
	return string(b)
}

// A drive that goes on to write, compact and remove while it is copied.
func TestCopy_WhileTheNearSideChanges(t *testing.T) {
	s := drive(t)
	first := testkit.Seed(t)
	n := runs(20, 20_000)
	if raceOn {
		n = 5
	}
	again := 0
	for seed := first; seed < first+int64(n) && !t.Failed(); seed++ {
		r := testkit.Rand(seed)
		what := "seed " + itoa(seed)
		from := &growing{Bucket: mem.New(), t: t, s: s, r: r, chance: 0.05 + r.Float64()*0.5, since: map[blob.Name]int{}}
		for range r.IntN(len(s.events)) {
			apply(t, from.Bucket, s.events[from.next])
			from.next++
		}
		to := &watched{Bucket: mem.New(), t: t, s: s, what: what}
		for k := 0; from.next < len(s.events) || k < 1; k++ {
			_, err := replica.Copy(t.Context(), from, to, replica.Options{Parallel: 1 + r.IntN(4)})
			if err != nil && !typed(err) {
				t.Fatalf("%s: %v", what, err)
			}
			if err != nil {
				again++
			}
			to.look()
			if k > 20 {
				from.chance = 1
			}
		}
		if _, err := replica.Copy(t.Context(), from, to, replica.Options{}); err != nil {
			t.Errorf("%s, in the end: %v", what, err)
		}
		same(t, what, from.Bucket, to.Bucket, false)
		s.check(t, what, to.Bucket)
		s.checkIndex(t, what, from.Bucket)
	}
	t.Logf("%d runs had to be repeated", again)
}

// Push under faults: what was removed goes, and nothing else ever does.
func TestPush_UnderFaults(t *testing.T) {
	s := drive(t)
	first := testkit.Seed(t)
	var removed []blob.Name
	for _, e := range s.events {
		if !e.put {
			removed = append(removed, e.name)
		}
	}
	n := runs(100, 20_000)
	if raceOn {
		n = 20
	}
	for seed := first; seed < first+int64(n) && !t.Failed(); seed++ {
		r := testkit.Rand(seed)
		what := "seed " + itoa(seed)
		own, far := s.at(t, -1), s.at(t, r.IntN(len(s.events)))
		w := &watched{Bucket: far, t: t, s: s, what: what}
		to := evil.New(w, seed)
		to.Chance(0.1, evil.Fail, evil.Forget, evil.Deny, evil.Partial, evil.Reorder, evil.Duplicate, evil.WrongSize)
		if _, err := replica.Push(t.Context(), own, to, replica.PushOptions{Removed: removed}); err != nil && !typed(err) {
			t.Fatalf("%s: %v", what, err)
		}
		s.check(t, what, far)
		rep, err := replica.Push(t.Context(), own, w, replica.PushOptions{Removed: removed})
		if err != nil || len(rep.Removed) != len(removed) {
			t.Fatalf("%s, without faults: %v", what, err)
		}
		same(t, what, own, far, true)
	}
}
