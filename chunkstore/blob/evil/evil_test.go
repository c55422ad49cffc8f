package evil_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

func TestStore_HonestIsABucket(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Bucket { return evil.New(mem.New(), 1) })
}

func TestRecorder_IsABucket(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Bucket { return evil.NewRecorder(mem.New()) })
}

func put(t *testing.T, b blob.Bucket, name blob.Name, body string) {
	t.Helper()
	if err := b.Put(t.Context(), name, strings.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, b blob.Bucket, name blob.Name, off, n int64) string {
	t.Helper()
	r, err := b.Get(t.Context(), name, off, n)
	if err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

func names(t *testing.T, b blob.Bucket, prefix blob.Name) []string {
	t.Helper()
	all := []string{}
	for info, err := range b.List(t.Context(), prefix) {
		if err != nil {
			return append(all, "error")
		}
		all = append(all, string(info.Name))
	}
	return all
}

// fresh returns a Store with three blobs, of which x was replaced once.
func fresh(t *testing.T, seed int64) *evil.Store {
	t.Helper()
	s := evil.New(mem.New(), seed)
	put(t, s, "p/x", strings.Repeat("old ", 50))
	put(t, s, "p/x", strings.Repeat("new ", 50))
	put(t, s, "p/y", strings.Repeat("other ", 50))
	put(t, s, "q", "q")
	return s
}

// only matches one name.
func only(name blob.Name) func(blob.Name) bool { return func(n blob.Name) bool { return n == name } }

func TestStore_LiesAboutBytes(t *testing.T) {
	truth := strings.Repeat("new ", 50)
	for lie, want := range map[evil.Lie]func(got string) bool{
		evil.FlipBit: func(got string) bool {
			diff := 0
			for i := range got {
				for b := got[i] ^ truth[i]; b != 0; b &= b - 1 {
					diff++
				}
			}
			return len(got) == len(truth) && diff == 1
		},
		evil.Truncate: func(got string) bool { return len(got) < len(truth) && strings.HasPrefix(truth, got) },
		evil.Extend:   func(got string) bool { return len(got) > len(truth) && strings.HasPrefix(got, truth) },
		evil.Swap:     func(got string) bool { return got == strings.Repeat("other ", 50) },
		evil.Replay:   func(got string) bool { return got == strings.Repeat("old ", 50) },
		evil.HTML:     func(got string) bool { return strings.Contains(got, "<html>") },
		evil.Slow:     func(got string) bool { return got == truth },
	} {
		s := fresh(t, 7)
		s.Set(lie, only("p/x"))
		got := get(t, s, "p/x", 0, -1)
		if !want(got) {
			t.Errorf("%v: got %.60q of %d bytes", lie, got, len(got))
		}
		if lie != evil.Extend && lie != evil.HTML && len(got) > 60 && get(t, s, "p/x", 40, 20) != got[40:60] {
			t.Errorf("%v: a range is not of the same bytes", lie)
		}
		if got := get(t, s, "p/y", 0, -1); got != strings.Repeat("other ", 50) {
			t.Errorf("%v: another blob is %q", lie, got)
		}
		if !slices.Contains(s.Deeds(), evil.Deed{Lie: lie, Name: "p/x"}) {
			t.Errorf("%v: got deeds %v", lie, s.Deeds())
		}
		s.Heal()
		if got := get(t, s, "p/x", 0, -1); got != truth {
			t.Errorf("%v: healed, got %q", lie, got)
		}
	}
}

func TestStore_EndlessAndSlowEndWithTheContext(t *testing.T) {
	for _, lie := range []evil.Lie{evil.Endless, evil.Slow} {
		s := fresh(t, 1)
		put(t, s, "p/x", strings.Repeat("x", 100_000))
		s.Set(lie, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		r, err := s.Get(ctx, "p/x", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v: got error %v, want context.DeadlineExceeded", lie, err)
		}
		cancel()
		s.Heal()
	}
	s := fresh(t, 1)
	s.Set(evil.Endless, nil)
	if _, err := blob.ReadAll(t.Context(), s, "p/x", 1<<20); err == nil {
		t.Error("ReadAll took an endless body")
	}
}

func TestStore_LiesAboutListings(t *testing.T) {
	s := fresh(t, 3)
	want := map[evil.Lie][]string{
		evil.Partial:   {"p/x"},
		evil.Stale:     {"p/x", "p/y", "q"},
		evil.Duplicate: {"p/x", "p/y", "q", "p/x", "p/y", "q"},
		evil.Withhold:  {"p/y", "q"},
		evil.Fail:      {"p/x", "error"},
	}
	for lie, want := range want {
		match := only("")
		if lie == evil.Withhold {
			match = only("p/x")
		}
		s.Set(lie, match)
		if lie == evil.Stale {
			put(t, s, "r", "r")
		}
		if diff := cmp.Diff(want, names(t, s, "")); diff != "" {
			t.Errorf("%v (-want +got):\n%s", lie, diff)
		}
		s.Heal()
		if err := s.Remove(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
	}
	s.Set(evil.Withhold, only("p/x"))
	if _, err := s.Get(t.Context(), "p/x", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get of a blob that is withheld: got error %v", err)
	}
	for i := range 40 {
		put(t, s, blob.Name("z/"+string(rune('a'+i%26))+string(rune('a'+i/26))), "")
	}
	s.Set(evil.Reorder, nil)
	if got := names(t, s, "z/"); len(got) != 40 || slices.IsSorted(got) {
		t.Errorf("reorder: got %v", got)
	}
}

func TestStore_LiesAboutCalls(t *testing.T) {
	for _, c := range []struct {
		lie    evil.Lie
		fails  bool
		stored bool
	}{{evil.Fail, true, false}, {evil.Forget, false, false}, {evil.Deny, true, true}} {
		s := fresh(t, 1)
		s.Set(c.lie, nil)
		err := s.Put(t.Context(), "new", strings.NewReader("x"), 1)
		err2 := s.Remove(t.Context(), "q")
		s.Heal()
		if errors.Is(err, evil.ErrFault) != c.fails || errors.Is(err2, evil.ErrFault) != c.fails {
			t.Errorf("%v: got errors %v and %v", c.lie, err, err2)
		}
		want := []string{"p/x", "p/y", "q"}
		if c.stored {
			want = []string{"new", "p/x", "p/y"}
		}
		if diff := cmp.Diff(want, names(t, s, "")); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.lie, diff)
		}
	}
}

func TestStore_OneSeedIsOneRun(t *testing.T) {
	seed := testkit.Seed(t)
	run := func(seed int64) (log []string) {
		s := fresh(t, seed)
		s.Chance(0.5, append(slices.Clone(evil.Listings), evil.FlipBit, evil.Truncate, evil.Swap, evil.Fail)...)
		for range 40 {
			p, err := blob.ReadAll(t.Context(), s, "p/x", 1<<20)
			if err != nil {
				p = []byte("error")
			}
			log = append(log, string(p), strings.Join(names(t, s, "p"), " "))
		}
		if len(s.Deeds()) == 0 {
			t.Error("no lie was told")
		}
		return log
	}
	a := run(seed)
	if diff := cmp.Diff(a, run(seed)); diff != "" {
		t.Errorf("the same seed (-first +second):\n%s", diff)
	}
	if cmp.Equal(a, run(seed+1)) {
		t.Error("another seed gives the same run")
	}
}

func TestStore_Edit(t *testing.T) {
	s := fresh(t, 1)
	s.Edit("q", func(p []byte) []byte { return append(p, "uit"...) })
	if got := get(t, s, "q", 1, 2); got != "ui" {
		t.Errorf("got %q", got)
	}
	s.Edit("q", nil)
	if got := get(t, s, "q", 0, -1); got != "q" {
		t.Errorf("got %q", got)
	}
}

// failing takes the failure that a check must give.
type failing struct {
	testing.TB
	errors int
}

func (f *failing) Errorf(string, ...any) { f.errors++ }
func (f *failing) Error(...any)          { f.errors++ }
func (f *failing) Helper()               {}

func TestRecorder_FindsWhatIsSent(t *testing.T) {
	canary := testkit.NewCanary(testkit.Rand(testkit.Seed(t)))
	check := func(what string, want int, do func(r *evil.Recorder), scan func(r *evil.Recorder, t testing.TB)) {
		t.Helper()
		r, f := evil.NewRecorder(mem.New()), &failing{TB: t}
		do(r)
		scan(r, f)
		if f.errors != want {
			t.Errorf("%s: got %d errors, want %d", what, f.errors, want)
		}
	}
	scan := func(r *evil.Recorder, t testing.TB) { r.Canaries(t, canary) }
	check("nothing sent", 1, func(*evil.Recorder) {}, scan)
	check("clean", 0, func(r *evil.Recorder) { put(t, r, "x", "x") }, scan)
	check("in a body", 1, func(r *evil.Recorder) { put(t, r, "x", "x"+canary.Text()) }, scan)
	check("in a name", 1, func(r *evil.Recorder) { put(t, r, blob.Name("x/"+canary.Text()), "x") }, scan)
	check("in the name of a get", 1, func(r *evil.Recorder) {
		put(t, r, "x", "x")
		_, _ = r.Get(t.Context(), blob.Name(canary.Text()), 0, 1)
	}, scan)
	check("in a body that was refused", 1, func(r *evil.Recorder) {
		if err := r.Put(t.Context(), "x", strings.NewReader(canary.Text()), 1000); err == nil {
			t.Error("a short body was taken")
		}
	}, scan)

	shapes := func(r *evil.Recorder, t testing.TB) {
		r.Shapes(t, func(_ blob.Name, size int64) bool { return size == 100 })
	}
	check("nothing sent", 1, func(*evil.Recorder) {}, shapes)
	check("allowed size", 0, func(r *evil.Recorder) { put(t, r, "x", strings.Repeat("x", 100)) }, shapes)
	check("another size", 1, func(r *evil.Recorder) { put(t, r, "x", strings.Repeat("x", 99)) }, shapes)

	ranges := func(r *evil.Recorder, t testing.TB) {
		r.Ranges(t, func(_ blob.Name, off, n int64) bool { return off%10 == 0 && n == 10 })
	}
	check("on the grid", 0, func(r *evil.Recorder) { _, _ = r.Get(t.Context(), "x", 20, 10) }, ranges)
	check("off the grid", 1, func(r *evil.Recorder) { _, _ = r.Get(t.Context(), "x", 21, 10) }, ranges)
}

func TestRecorder_KeepsAllCalls(t *testing.T) {
	r := evil.NewRecorder(mem.New())
	put(t, r, "x", "body")
	_ = get(t, r, "x", 1, 2)
	_ = names(t, r, "p")
	if err := r.Remove(t.Context(), "x", "y"); err != nil {
		t.Fatal(err)
	}
	want := []evil.Call{
		{Op: "put", Name: "x", Size: 4, Body: []byte("body")},
		{Op: "get", Name: "x", Off: 1, N: 2},
		{Op: "list", Name: "p"},
		{Op: "remove", Name: "x"},
		{Op: "remove", Name: "y"},
	}
	if diff := cmp.Diff(want, r.Calls()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !bytes.Equal(r.Calls()[0].Body, []byte("body")) {
		t.Error("the body is not kept")
	}
}
