package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// small returns the blobs of a bucket that are neither packs nor index blobs.
func small(t testing.TB, b blob.Bucket) map[blob.Name][]byte {
	t.Helper()
	all := contents(t, b)
	maps.DeleteFunc(all, func(n blob.Name, _ []byte) bool {
		return strings.HasPrefix(string(n), "packs/") || strings.HasPrefix(string(n), "index/")
	})
	return all
}

func TestFetch_BringsTheSmallBlobsAndTellsOfThePacks(t *testing.T) {
	s := drive(t)
	from, mirror := s.at(t, -1), mem.New()
	rec := evil.NewRecorder(from)
	learned := false
	o := replica.FetchOptions{Learn: func(table *catalog.Table) error {
		learned = true
		if len(headsIn(t, mirror, "heads/")) > 0 {
			t.Error("heads are in the mirror before it is known where their packs are")
		}
		for info := range from.List(t.Context(), "packs/") {
			if n, ok := table.Size(info.Name); !ok || n != info.Size {
				t.Errorf("%s is not in the table", info.Name)
			}
		}
		return nil
	}}
	news, err := replica.Fetch(t.Context(), rec, mirror, o)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(small(t, from), contents(t, mirror), bytes.Equal) || !learned {
		t.Errorf("learned: %v; the mirror has other blobs", learned)
	}
	if diff := cmp.Diff(headsIn(t, from, "heads/"), news.Heads); diff != "" {
		t.Errorf("new heads (-want +got):\n%s", diff)
	}
	for _, c := range rec.Calls() {
		if c.Op == "get" && strings.HasPrefix(string(c.Name), "packs/") {
			t.Errorf("%s was read", c.Name)
		}
	}
	// Nothing new: three listings of what is small, and nothing else.
	rec = evil.NewRecorder(from)
	if news, err = replica.Fetch(t.Context(), rec, mirror, o); err != nil || len(news.Heads) > 0 || news.Table != nil {
		t.Errorf("got %+v, %v", news, err)
	}
	if calls := rec.Calls(); len(calls) != 4 {
		t.Errorf("it took %d calls", len(calls))
	}
	o.Packs, o.Learn = true, nil
	if news, err = replica.Fetch(t.Context(), from, mirror, o); err != nil || news.Table.Len() == 0 {
		t.Errorf("got %+v, %v", news, err)
	}
}

func TestFetch_WithoutLearningNoHeadIsPut(t *testing.T) {
	s := drive(t)
	mirror := mem.New()
	broken := errors.New("broken")
	_, err := replica.Fetch(t.Context(), s.at(t, -1), mirror, replica.FetchOptions{Learn: func(*catalog.Table) error { return broken }})
	if !errors.Is(err, broken) || len(headsIn(t, mirror, "heads/")) > 0 {
		t.Errorf("got error %v and %d heads", err, len(headsIn(t, mirror, "heads/")))
	}
	news, err := replica.Fetch(t.Context(), s.at(t, -1), mirror, replica.FetchOptions{})
	if err != nil || len(news.Heads) == 0 || news.Table == nil {
		t.Errorf("the next one: got %+v, %v", news, err)
	}
}

func TestFetch_LeavesOutWhatIsOwn(t *testing.T) {
	s := drive(t)
	from, own, mirror := s.at(t, -1), mem.New(), mem.New()
	folder := anyOf(s, "heads/")[:38]
	names := headsIn(t, from, folder)
	copyTo := func(ns ...blob.Name) {
		for _, n := range ns {
			put(t, own, n, s.bodies[n])
		}
	}
	// Of the own heads the first are pruned, and the last is one that this device does not know.
	copyTo(names[2 : len(names)-1]...)
	member := anyOf(s, "members/")
	copyTo(member)
	news, err := replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{Own: own})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names[len(names)-1:], headsIn(t, mirror, folder)); diff != "" {
		t.Errorf("own heads in the mirror (-want +got):\n%s", diff)
	}
	if _, ok := contents(t, mirror)[member]; ok || news.Small == 0 {
		t.Errorf("%s is own: fetched %v, %d others were", member, ok, news.Small)
	}
}

func put(t testing.TB, b blob.Bucket, name blob.Name, body []byte) {
	t.Helper()
	if err := b.Put(context.Background(), name, bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
}

// unlisted leaves out of listings what it gives all the same.
type unlisted struct {
	blob.Bucket
	names []blob.Name
}

func (u unlisted) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for info, err := range u.Bucket.List(ctx, prefix) {
			if err == nil && slices.Contains(u.names, info.Name) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// The mirror follows what a device prunes, and never what a place hides.
func TestFetch_OldHeadsGoAsTheirDevicePrunesThem(t *testing.T) {
	s := drive(t)
	from, mirror := s.at(t, -1), mem.New()
	folder := anyOf(s, "heads/")[:38]
	names := headsIn(t, from, folder)
	if _, err := replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	all := contents(t, mirror)
	// A place that was set back: nothing goes.
	if err := from.Remove(t.Context(), append(slices.Clone(names[2:]), anyOf(s, "members/"), anyOf(s, "keys/"))...); err != nil {
		t.Fatal(err)
	}
	if news, err := replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{}); err != nil || len(news.Gone) > 0 {
		t.Errorf("set back: got %+v, %v", news, err)
	}
	// A place that shows nothing at all.
	if _, err := replica.Fetch(t.Context(), mem.New(), mirror, replica.FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(all, contents(t, mirror), bytes.Equal) {
		t.Fatal("something went from the mirror")
	}
	// A place whose listing lacks the oldest, and that has them.
	from = s.at(t, -1)
	if news, err := replica.Fetch(t.Context(), unlisted{from, names[:2]}, mirror, replica.FetchOptions{}); err != nil || len(news.Gone) > 0 {
		t.Errorf("not listed: got %+v, %v", news, err)
	}
	if !maps.EqualFunc(all, contents(t, mirror), bytes.Equal) {
		t.Fatal("what was not listed went from the mirror")
	}
	// The device prunes, while the mirror is behind: there is a gap until the old ones go.
	from = s.at(t, -1)
	if err := errors.Join(from.Remove(t.Context(), names[:5]...), mirror.Remove(t.Context(), names[3:]...)); err != nil {
		t.Fatal(err)
	}
	news, err := replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names[:3], news.Gone); diff != "" {
		t.Errorf("gone (-want +got):\n%s", diff)
	}
	if !maps.EqualFunc(small(t, from), contents(t, mirror), bytes.Equal) {
		t.Error("the mirror is another one")
	}
}

// What takes only what is nowhere else begins in the middle, and that is no pruning: a head that a revocation names would be lost by it. Where there is a gap the old ones go.
func TestFetch_OldHeadsStayIfOnlyAPartIsShown(t *testing.T) {
	s := drive(t)
	from, mirror := s.at(t, -1), mem.New()
	names := headsIn(t, from, anyOf(s, "heads/")[:38])
	if _, err := replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	all := contents(t, mirror)
	if err := errors.Join(from.Remove(t.Context(), names[:3]...), mirror.Remove(t.Context(), names[3:]...)); err != nil {
		t.Fatal(err)
	}
	news, err := replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{Part: true})
	if err != nil || len(news.Gone) > 0 {
		t.Errorf("got %+v, %v", news, err)
	}
	if !maps.EqualFunc(all, contents(t, mirror), bytes.Equal) {
		t.Error("the mirror is another one")
	}
	if err := errors.Join(from.Remove(t.Context(), names[3:5]...), mirror.Remove(t.Context(), names[3:]...)); err != nil {
		t.Fatal(err)
	}
	news, err = replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{Part: true})
	if diff := cmp.Diff(names[:3], news.Gone); err != nil || diff != "" {
		t.Errorf("across a gap, %v: gone (-want +got):\n%s", err, diff)
	}
}

func TestFetch_OfADeviceThatIsNewTheNewest(t *testing.T) {
	s := drive(t)
	folder := anyOf(s, "heads/")[:38]
	from, mirror := s.at(t, -1), mem.New()
	names := headsIn(t, from, folder)
	if _, err := replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{Newest: 3}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names[len(names)-3:], headsIn(t, mirror, folder)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// One that is known is followed without a gap, however many there are.
	mirror = mem.New()
	put(t, mirror, names[0], s.bodies[names[0]])
	if _, err := replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{Newest: 3}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names, headsIn(t, mirror, folder)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The last head that counts of a device that was revoked is fetched, and stays, whatever else of the device is known or shown.
func TestFetch_TheLastHeadThatCounts(t *testing.T) {
	s := drive(t)
	folder := anyOf(s, "heads/")[:38]
	whole := s.at(t, -1)
	names := headsIn(t, whole, folder)
	if len(names) < 5 {
		t.Fatalf("only %d heads", len(names))
	}
	var seq uint64
	if _, err := fmt.Sscanf(string(names[0][39:]), "%x", &seq); err != nil {
		t.Fatal(err)
	}
	last := map[blob.Name]uint64{folder: seq}
	later := s.at(t, -1)
	if err := later.Remove(t.Context(), names[:2]...); err != nil {
		t.Fatal(err)
	}
	fetch := func(from, mirror blob.Bucket, o replica.FetchOptions) {
		t.Helper()
		if _, err := replica.Fetch(t.Context(), from, mirror, o); err != nil {
			t.Fatal(err)
		}
	}
	want := func(mirror blob.Bucket, want ...blob.Name) {
		t.Helper()
		if diff := cmp.Diff(want, headsIn(t, mirror, folder)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	mirror := mem.New()
	fetch(later, mirror, replica.FetchOptions{}) // nobody knows yet that it was revoked
	fetch(whole, mirror, replica.FetchOptions{})
	want(mirror, names[2:]...)
	fetch(whole, mirror, replica.FetchOptions{Last: last})
	want(mirror, append(slices.Clone(names[:1]), names[2:]...)...)
	fetch(later, mirror, replica.FetchOptions{Last: last})
	want(mirror, append(slices.Clone(names[:1]), names[2:]...)...)
	mirror = mem.New()
	fetch(whole, mirror, replica.FetchOptions{Last: last, Newest: 3})
	want(mirror, append(slices.Clone(names[:1]), names[len(names)-3:]...)...)
}

// One bad blob of a place does not keep the others back, and an evil place cannot fill the mirror.
func TestFetch_FromAnEvilPlace(t *testing.T) {
	s := drive(t)
	for what, set := range map[string]func(*evil.Store){
		"a head that is another one": func(e *evil.Store) { e.Edit(anyOf(s, "heads/"), flip) },
		"an endless member":          func(e *evil.Store) { e.Set(evil.Endless, func(n blob.Name) bool { return n == anyOf(s, "members/") }) },
		"a key that is withheld":     func(e *evil.Store) { e.Edit(anyOf(s, "keys/"), func([]byte) []byte { return nil }) },
	} {
		from, mirror := evil.New(s.at(t, -1), 1), mem.New()
		set(from)
		_, err := replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{Options: replica.Options{Check: s.opens}})
		if n := len(faultsOf(err)); n != 1 {
			t.Errorf("%s: got error %v", what, err)
		}
		other := 0
		for name, body := range contents(t, mirror) {
			if s.opens(name, body) != nil {
				t.Errorf("%s: %s is in the mirror", what, name)
			}
			if strings.HasPrefix(string(name), "heads/") && name[:38] != anyOf(s, "heads/")[:38] {
				other++
			}
		}
		if other == 0 {
			t.Errorf("%s: no head of the other device was fetched", what)
		}
	}
	many := endless{s.at(t, -1), func(i int) blob.Name { return blob.Name(fmt.Sprintf("members/%032x", i)) }}
	mirror := mem.New()
	if _, err := replica.Fetch(t.Context(), many, mirror, replica.FetchOptions{Options: replica.Options{MaxSmall: 1000}}); !errors.Is(err, replica.ErrTooMany) {
		t.Errorf("got error %v, want ErrTooMany", err)
	}
	if n := len(contents(t, mirror)); n != 0 {
		t.Errorf("the mirror has %d blobs", n)
	}
}

func packsOf(s *story) []blob.Name {
	var names []blob.Name
	for name := range s.last {
		if strings.HasPrefix(string(name), "packs/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func TestVerify_FindsWhatIsDamaged(t *testing.T) {
	s := drive(t)
	names := packsOf(s)
	b := evil.New(s.at(t, -1), 1)
	verify := func(o replica.VerifyOptions) (found []blob.Name, good map[blob.Name]bool) {
		t.Helper()
		good = map[blob.Name]bool{}
		o.Done = func(n blob.Name) { good[n] = true }
		for f, err := range replica.Verify(t.Context(), b, o) {
			if err != nil {
				t.Fatal(err)
			}
			if !errors.Is(f, replica.ErrDamaged) && !errors.Is(f, replica.ErrWithheld) {
				t.Errorf("%s: %v", f.Name, f)
			}
			found = append(found, f.Name)
		}
		slices.Sort(found)
		return found, good
	}
	if found, good := verify(replica.VerifyOptions{}); len(found) > 0 || len(good) != len(names) {
		t.Errorf("found %v, %d of %d are good", found, len(good), len(names))
	}
	bad := []blob.Name{names[1], names[3], names[4]}
	b.Edit(bad[0], flip)
	b.Edit(bad[1], func(p []byte) []byte { return p[1:] })
	b.Edit(bad[2], func(p []byte) []byte { return append(p, make([]byte, 33<<20)...) })
	found, good := verify(replica.VerifyOptions{Options: replica.Options{Parallel: 3}})
	if diff := cmp.Diff(bad, found); diff != "" || len(good) != len(names)-3 {
		t.Errorf("%d are good, found (-want +got):\n%s", len(good), diff)
	}
	// A sample: as many as it says, others by another seed, all of them in the long run.
	seen := map[blob.Name]bool{}
	for seed := range uint64(60) {
		found, good := verify(replica.VerifyOptions{Sample: 2, Seed: seed})
		if len(found)+len(good) != 2 {
			t.Fatalf("%d were read", len(found)+len(good))
		}
		for _, n := range found {
			seen[n] = true
		}
		maps.Copy(seen, good)
	}
	if len(seen) != len(names) {
		t.Errorf("%d of %d were ever drawn", len(seen), len(names))
	}
	// Those that were not found good since.
	now := time.Now()
	found, good = verify(replica.VerifyOptions{Since: now, Verified: func(n blob.Name) time.Time {
		if n == names[1] || n == names[0] {
			return now
		}
		return now.Add(-1)
	}})
	if diff := cmp.Diff(bad[1:], found); diff != "" || len(good) != len(names)-4 {
		t.Errorf("%d are good, found (-want +got):\n%s", len(good), diff)
	}
	b.Set(evil.Fail, nil)
	n := 0
	for _, err := range replica.Verify(t.Context(), b, replica.VerifyOptions{}) {
		if n++; !errors.Is(err, evil.ErrFault) {
			t.Errorf("got error %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d errors", n)
	}
}

func TestHeal_TakesFromWhoeverHasItGood(t *testing.T) {
	s := drive(t)
	names := packsOf(s)
	to, a, b := s.at(t, -1), s.at(t, -1), s.at(t, -1)
	replaceBlob(t, to, names[0], flip)                                     // a has it
	replaceBlob(t, to, names[1], flip)                                     // a has it damaged, b good
	replaceBlob(t, a, names[1], flip)                                      //
	replaceBlob(t, to, names[2], func(p []byte) []byte { return p[:100] }) // nobody has it good
	replaceBlob(t, b, names[2], flip)
	if err := errors.Join(to.Remove(t.Context(), names[3]), a.Remove(t.Context(), names[2], names[3])); err != nil { // b has names[3]
		t.Fatal(err)
	}
	rep, err := replica.Heal(t.Context(), to, []blob.Bucket{a, b}, replica.HealOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Healed != 3 || rep.Good != len(names)-4 || !slices.Equal(rep.Lost, names[2:3]) || len(rep.Unknown) > 0 {
		t.Errorf("got %+v", rep)
	}
	for _, name := range names {
		p, err := blob.ReadAll(t.Context(), to, name, 1<<30)
		if err != nil || bytes.Equal(p, s.bodies[name]) == (name == names[2]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A place that fails may have what no other has.
	down := testkit.NewFaults(b)
	e := evil.New(down, 1)
	e.Set(evil.Fail, nil)
	replaceBlob(t, to, names[0], flip)
	rep, err = replica.Heal(t.Context(), to, []blob.Bucket{e, a}, replica.HealOptions{Names: names[:3]})
	if !errors.Is(err, evil.ErrFault) || rep.Healed != 1 || rep.Good != 1 || !slices.Equal(rep.Unknown, names[2:3]) || len(rep.Lost) > 0 {
		t.Errorf("got %+v, %v", rep, err)
	}
}

// What Check says is early is tried again when the others are there, whatever the order of the names; and where what it comes after does not come, it is
// left out, and all else is brought.
func TestFetch_BringsFirstWhatComesFirst(t *testing.T) {
	names := []blob.Name{"members/0c", "members/0b", "members/0a"} // each comes after the next
	for _, lacks := range []blob.Name{"", "members/0b"} {
		from, mirror := mem.New(), mem.New()
		for _, name := range append(names, "members/00") {
			if name == lacks {
				continue
			}
			if err := from.Put(t.Context(), name, strings.NewReader(string(name)), int64(len(name))); err != nil {
				t.Fatal(err)
			}
		}
		check := func(name blob.Name, _ []byte) error {
			i := slices.Index(names, name)
			if i < 0 || i+1 == len(names) {
				return nil
			}
			if _, err := blob.ReadAll(t.Context(), mirror, names[i+1], 100); err != nil {
				return fmt.Errorf("%w: %w", replica.ErrEarly, err)
			}
			return nil
		}
		_, err := replica.Fetch(t.Context(), from, mirror, replica.FetchOptions{Options: replica.Options{Check: check}})
		want := []blob.Name{"members/00", "members/0a", "members/0b", "members/0c"}
		if lacks != "" {
			want = want[:2]
		}
		if got := slices.Sorted(keysOf(contents(t, mirror))); !slices.Equal(got, want) {
			t.Errorf("without %q: got %q, want %q", lacks, got, want)
		}
		if (lacks != "") != errors.Is(err, replica.ErrEarly) || lacks == "" && err != nil {
			t.Errorf("without %q: error %v", lacks, err)
		}
	}
}

// What a place should have and does not list is missing; and a place that lacks a head of another one is behind.
func TestVerify_FindsWhatIsMissing(t *testing.T) {
	for _, sample := range []int{0, 1} {
		s := drive(t)
		b, names := s.at(t, -1), packsOf(s)
		if err := b.Remove(t.Context(), names[1]); err != nil {
			t.Fatal(err)
		}
		var found []blob.Name
		for f, err := range replica.Verify(t.Context(), b, replica.VerifyOptions{Expect: names, Sample: sample}) {
			if err != nil {
				t.Fatal(err)
			}
			if !errors.Is(f, replica.ErrMissing) {
				t.Errorf("of %s it says: %v", f.Name, f)
			}
			found = append(found, f.Name)
		}
		if !slices.Equal(found, names[1:2]) {
			t.Errorf("it found %v, want %v", found, names[1:2])
		}
	}
}

func TestBehind_IsWhoLacksTheNewestHeadOfADevice(t *testing.T) {
	const one, two = "heads/00000000000000000000000000000001/", "heads/00000000000000000000000000000002/"
	for what, c := range map[string]struct {
		other, place []blob.Name
		want         bool
	}{
		"nothing anywhere":    {nil, nil, false},
		"the same":            {[]blob.Name{one + "0000000000000001", two + "0000000000000003"}, []blob.Name{one + "0000000000000001", two + "0000000000000003"}, false},
		"old heads are gone":  {[]blob.Name{one + "0000000000000001", one + "0000000000000002"}, []blob.Name{one + "0000000000000002"}, false},
		"ahead":               {[]blob.Name{one + "0000000000000001"}, []blob.Name{one + "0000000000000002"}, false},
		"a newer head":        {[]blob.Name{one + "000000000000000a"}, []blob.Name{one + "0000000000000009"}, true},
		"a device is missing": {[]blob.Name{one + "0000000000000001", two + "0000000000000001"}, []blob.Name{one + "0000000000000001"}, true},
	} {
		other, place := mem.New(), mem.New()
		for b, names := range map[blob.Bucket][]blob.Name{other: c.other, place: c.place} {
			for _, n := range names {
				if err := b.Put(t.Context(), n, strings.NewReader("head"), 4); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got, err := replica.Behind(t.Context(), other, place); err != nil || got != c.want {
			t.Errorf("%s: behind is %v (%v), want %v", what, got, err, c.want)
		}
	}
}
