package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

func TestStory_HasWhatTheTestsNeed(t *testing.T) {
	s := drive(t)
	puts, removes := map[string]int{}, map[string]int{}
	folders := map[string]bool{}
	for _, e := range s.events {
		kind, _, _ := strings.Cut(string(e.name), "/")
		if kind == "heads" {
			folders[string(e.name[:38])] = true
		}
		if e.put {
			puts[kind]++
		} else {
			removes[kind]++
		}
	}
	if puts["packs"] < 15 || removes["packs"] == 0 || puts["heads"] < 15 || len(folders) != 2 || puts["keys"] == 0 || puts["members"] < 2 || removes["index"] == 0 {
		t.Errorf("%v were put, %v removed, by %d devices", puts, removes, len(folders))
	}
	for _, n := range []int{len(s.events), len(s.events) / 2} {
		s.check(t, "the drive itself", s.at(t, n))
	}
	// The control: a drive without any one of its blobs is found out, if it has heads.
	missed := 0
	for name := range s.last {
		b := s.at(t, -1)
		if err := b.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		f := &failing{TB: t}
		s.check(f, "control", b)
		s.checkIndex(f, "control", b)
		if f.errors == 0 && !strings.HasPrefix(string(name), "heads/") && !strings.HasSuffix(string(name), "/root") {
			t.Errorf("without %s nothing is found", name)
		}
		missed += f.errors
	}
	if missed == 0 {
		t.Error("the check finds nothing")
	}
}

// failing takes failures that a check must give.
type failing struct {
	testing.TB
	errors int
}

func (f *failing) Errorf(string, ...any) { f.errors++ }
func (f *failing) Helper()               {}

func TestCopy_BringsAllThatIsMissingOnce(t *testing.T) {
	s := drive(t)
	from := s.at(t, -1)
	to := &watched{Bucket: mem.New(), t: t, s: s, what: "copy"}
	var last replica.Progress
	rep, err := replica.Copy(t.Context(), from, to, replica.Options{Progress: func(p replica.Progress) {
		if p.Blobs < last.Blobs || p.Bytes < last.Bytes || p.Blobs > p.OfBlobs || p.Bytes > p.OfBytes {
			t.Errorf("progress went from %+v to %+v", last, p)
		}
		last = p
	}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "copy", from, to, true)
	s.check(t, "copy", to.Bucket)
	all := contents(t, from)
	bytes := int64(0)
	for _, body := range all {
		bytes += int64(len(body))
	}
	if n := rep.Packs + rep.Index + rep.Small + rep.Heads; n != len(all) || rep.Bytes != bytes || rep.Mended != 0 {
		t.Errorf("the report says %+v, want %d blobs of %d bytes", rep, len(all), bytes)
	}
	if want := (replica.Progress{Blobs: len(all), Bytes: bytes, OfBlobs: len(all), OfBytes: bytes}); last != want {
		t.Errorf("progress ends at %+v, want %+v", last, want)
	}
	var at []blob.Info
	for info := range to.List(t.Context(), "packs/") {
		at = append(at, blob.Info{Name: info.Name, Size: info.Size})
	}
	if diff := cmp.Diff(at, slices.Collect(rep.At.All("packs/"))); diff != "" {
		t.Errorf("what is at the far side (-want +got):\n%s", diff)
	}
	// Once more: the listings, and nothing else.
	a, b := testkit.NewFaults(from), testkit.NewFaults(to)
	if rep, err = replica.Copy(t.Context(), a, b, replica.Options{}); err != nil {
		t.Fatal(err)
	}
	if c := b.Counts(); a.Counts().Gets != 0 || c.Gets != 0 || c.Writes() != 0 || rep.Bytes != 0 {
		t.Errorf("a second copy did %+v and %+v, and reports %+v", a.Counts(), c, rep)
	}
}

// The cost is in proportion to the difference: one commit later.
func TestCopy_CostsTheDifference(t *testing.T) {
	s := drive(t)
	n := len(s.events)
	for s.events[n-1].put != true || !strings.HasPrefix(string(s.events[n-1].name), "heads/") {
		n--
	}
	now, k := s.at(t, n), n-1
	for !strings.HasPrefix(string(s.events[k-1].name), "heads/") {
		k--
	}
	to := s.at(t, k)
	a, b := testkit.NewFaults(now), testkit.NewFaults(to)
	if _, err := replica.Copy(t.Context(), a, b, replica.Options{}); err != nil {
		t.Fatal(err)
	}
	s.check(t, "copy", to)
	want := 0
	for _, e := range s.events[k:n] {
		if e.put && s.last[e.name] {
			want++
		}
	}
	if c := b.Counts(); c.Puts < 2 || c.Puts > int64(n-k) || a.Counts().Gets > 2*c.Puts+2 || c.Gets > 4*c.Puts {
		t.Errorf("%d new blobs took %+v and %+v", want, a.Counts(), c)
	}
}

// A run that is cut off at any call leaves no head that refers to what is not there, and the next one brings the rest.
func TestCopy_CutOffAtAnyCall(t *testing.T) {
	s := drive(t)
	from := s.at(t, -1)
	for n := int64(0); ; n++ {
		what := fmt.Sprintf("cut off after %d writes", n)
		to := &watched{Bucket: mem.New(), t: t, s: s, what: what}
		f := testkit.NewFaults(to)
		f.FailAfter(n, nil)
		_, err := replica.Copy(t.Context(), from, f, replica.Options{Parallel: 1 + int(n%4)})
		s.check(t, what, to.Bucket)
		s.checkIndex(t, what, to.Bucket)
		if err == nil {
			same(t, what, from, to, true)
			if n < 20 {
				t.Errorf("only %d writes", n)
			}
			return
		}
		if !errors.Is(err, testkit.ErrFault) {
			t.Fatalf("%s: %v", what, err)
		}
		if _, err := replica.Copy(t.Context(), from, to, replica.Options{}); err != nil {
			t.Fatalf("%s, and again: %v", what, err)
		}
		same(t, what, from, to, true)
		if t.Failed() {
			return
		}
	}
}

func faultsOf(err error) map[blob.Name]error {
	all := map[blob.Name]error{}
	var walk func(error)
	walk = func(err error) {
		var f *replica.Fault
		switch e := err.(type) { //nolint:errorlint // it walks the tree itself
		case nil:
		case *replica.Fault:
			f = e
			all[f.Name] = f.Err
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				walk(err)
			}
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		}
	}
	walk(err)
	return all
}

func anyOf(s *story, prefix string) blob.Name {
	for _, name := range slices.Sorted(maps.Keys(s.last)) {
		if strings.HasPrefix(string(name), prefix) {
			return name
		}
	}
	return ""
}

func replaceBlob(t testing.TB, b blob.Bucket, name blob.Name, change func([]byte) []byte) {
	t.Helper()
	p, err := blob.ReadAll(context.Background(), b, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	p = change(bytes.Clone(p))
	if err := b.Put(context.Background(), name, bytes.NewReader(p), int64(len(p))); err != nil {
		t.Fatal(err)
	}
}

func flip(p []byte) []byte { p[len(p)/2] ^= 4; return p }

func TestCopy_ADamagedPackIsNotBroughtAndNoHeadThatMayNeedIt(t *testing.T) {
	s := drive(t)
	bad := anyOf(s, "packs/")
	for what, change := range map[string]func([]byte) []byte{
		"a flipped bit": flip, "cut off": func(p []byte) []byte { return p[:len(p)-1] }, "empty": func(p []byte) []byte { return p[:0] },
		"the last byte": func(p []byte) []byte { p[len(p)-1] ^= 1; return p },
	} {
		from := s.at(t, -1)
		replaceBlob(t, from, bad, change)
		to := &watched{Bucket: mem.New(), t: t, s: s, what: what}
		_, err := replica.Copy(t.Context(), from, takesExactly{to}, replica.Options{})
		if f := faultsOf(err); len(f) != 1 || !errors.Is(f[bad], replica.ErrDamaged) {
			t.Errorf("%s: got error %v, want ErrDamaged of %s", what, err, bad)
		}
		got := contents(t, to)
		for name := range contents(t, from) {
			if _, ok := got[name]; ok == (name == bad || strings.HasPrefix(string(name), "heads/")) {
				t.Errorf("%s: %s is there: %v", what, name, ok)
			}
		}
	}
}

// takesExactly is a place whose Put never looks for the end of the body behind the bytes that were declared.
type takesExactly struct{ blob.Bucket }

func (e takesExactly) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	p := make([]byte, size)
	if _, err := io.ReadFull(r, p); err != nil {
		return err
	}
	return e.Bucket.Put(ctx, name, bytes.NewReader(p), size)
}

func TestCopy_MendsPacksAtTheFarSide(t *testing.T) {
	s := drive(t)
	from := s.at(t, -1)
	name := anyOf(s, "packs/")
	for _, c := range []struct {
		what   string
		deep   bool
		change func([]byte) []byte
	}{
		{"another length", false, func(p []byte) []byte { return p[:len(p)-5] }},
		{"a flipped bit", true, flip},
	} {
		to := s.at(t, -1)
		replaceBlob(t, to, name, c.change)
		rep, err := replica.Copy(t.Context(), from, to, replica.Options{Deep: c.deep})
		if err != nil || rep.Mended != 1 || rep.Packs != 1 {
			t.Errorf("%s: got %+v, %v", c.what, rep, err)
		}
		same(t, c.what, from, to, true)
	}
}

func TestCopy_NeverOverwritesASmallBlob(t *testing.T) {
	s := drive(t)
	from := s.at(t, -1)
	for _, prefix := range []string{"heads/", "members/", "keys/", "drive/"} {
		for what, change := range map[string]func([]byte) []byte{"a bit": flip, "its length": func(p []byte) []byte { return append(p, 0) }} {
			name := anyOf(s, prefix)
			to := s.at(t, -1)
			replaceBlob(t, to, name, change)
			before := contents(t, to)
			_, err := replica.Copy(t.Context(), from, to, replica.Options{Deep: what == "a bit"})
			if f := faultsOf(err); len(f) != 1 || !errors.Is(f[name], replica.ErrDiffers) {
				t.Errorf("%s of %s: got error %v, want ErrDiffers", what, name, err)
			}
			if !maps.EqualFunc(before, contents(t, to), bytes.Equal) {
				t.Errorf("%s of %s: something was changed", what, name)
			}
		}
	}
}

// Where the far side has another head below, no head is put on top of it, though nobody asked for Deep.
func TestCopy_StopsAtAFork(t *testing.T) {
	s := drive(t)
	from, to := s.at(t, -1), s.at(t, -1)
	folder := anyOf(s, "heads/")[:38]
	names := headsIn(t, to, folder)
	top, below := names[len(names)-1], names[len(names)-2]
	if err := to.Remove(t.Context(), top); err != nil {
		t.Fatal(err)
	}
	replaceBlob(t, to, below, flip)
	_, err := replica.Copy(t.Context(), from, to, replica.Options{})
	if f := faultsOf(err); len(f) != 1 || !errors.Is(f[below], replica.ErrDiffers) {
		t.Errorf("got error %v, want ErrDiffers of %s", err, below)
	}
	if _, ok := contents(t, to)[top]; ok {
		t.Error("a head was put on top of another one's")
	}
}

func headsIn(t testing.TB, b blob.Bucket, folder blob.Name) []blob.Name {
	t.Helper()
	var names []blob.Name
	for info, err := range b.List(context.Background(), folder) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

func TestCopy_LeavesAGapUnlessItIsToldTo(t *testing.T) {
	s := drive(t)
	folder := anyOf(s, "heads/")[:38]
	names := headsIn(t, s.at(t, -1), folder)
	make := func() (from, to *mem.Bucket) { // from has pruned all but the last two, to has only the first three
		from, to = s.at(t, -1), s.at(t, -1)
		if err := errors.Join(from.Remove(t.Context(), names[:len(names)-2]...), to.Remove(t.Context(), names[3:]...)); err != nil {
			t.Fatal(err)
		}
		return from, to
	}
	from, to := make()
	before := contents(t, to)
	_, err := replica.Copy(t.Context(), from, to, replica.Options{})
	if f := faultsOf(err); len(f) != 1 || !errors.Is(f[names[3]], replica.ErrGap) {
		t.Errorf("got error %v, want ErrGap at %s", err, names[3])
	}
	if !maps.EqualFunc(before, contents(t, to), bytes.Equal) {
		t.Error("something was changed")
	}
	asked := 0
	if _, err := replica.Copy(t.Context(), from, to, replica.Options{Bridge: func(g replica.Gap) bool {
		asked++
		if g.Folder != folder || g.Last != 3 || g.First != uint64(len(names)-1) {
			t.Errorf("asked about %+v", g)
		}
		return true
	}}); err != nil || asked != 1 {
		t.Errorf("asked %d times, and got error %v", asked, err)
	}
	same(t, "bridged", from, to, true)

	// Push knows from its own device that they were removed.
	from, to = make()
	rep, err := replica.Push(t.Context(), from, to, replica.PushOptions{Removed: names[:len(names)-2]})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "pushed", from, to, true)
	if diff := cmp.Diff(names[:len(names)-2], rep.Removed); diff != "" || rep.Heads != 2 {
		t.Errorf("report %+v (-want +got):\n%s", rep, diff)
	}
}

func TestPush_RemovesWhatItsDeviceHasRemoved(t *testing.T) {
	s := drive(t)
	k := len(s.events) / 2
	own, to := s.at(t, -1), s.at(t, k)
	var removed []blob.Name
	for _, e := range s.events {
		if !e.put {
			removed = append(removed, e.name)
		}
	}
	back := anyOf(s, "packs/") // in the list by mistake: it is there again
	foreign := blob.Name("packs/00/00" + strings.Repeat("ab", 31))
	if err := to.Put(t.Context(), foreign, strings.NewReader("others'"), 7); err != nil {
		t.Fatal(err)
	}
	rec := evil.NewRecorder(to)
	rep, err := replica.Push(t.Context(), own, rec, replica.PushOptions{Removed: append(removed, back)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]blob.Name{back}, rep.Kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if len(rep.Removed) != len(removed) {
		t.Errorf("removed %d of %d", len(rep.Removed), len(removed))
	}
	if _, ok := contents(t, to)[foreign]; !ok {
		t.Error("a pack of others is gone")
	}
	if err := to.Remove(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	same(t, "push", own, to, true)
	// Nothing was removed before the last put.
	put := false
	for _, c := range slices.Backward(rec.Calls()) {
		put = put || c.Op == "put"
		if c.Op == "remove" && put {
			t.Fatalf("%s was removed before all was put", c.Name)
		}
	}
	for _, name := range removed {
		if _, ok := rep.At.Size(name); ok {
			t.Errorf("the report has %s at the far side", name)
		}
	}
}

func TestPush_RemovesNothingIfSomethingIsMissing(t *testing.T) {
	s := drive(t)
	own, to := s.at(t, -1), s.at(t, len(s.events)/2)
	for name := range contents(t, own) {
		if _, ok := contents(t, to)[name]; !ok && strings.HasPrefix(string(name), "packs/") {
			replaceBlob(t, own, name, flip)
			break
		}
	}
	var removed []blob.Name
	for _, e := range s.events {
		if !e.put {
			removed = append(removed, e.name)
		}
	}
	f := testkit.NewFaults(to)
	if _, err := replica.Push(t.Context(), own, f, replica.PushOptions{Removed: removed}); !errors.Is(err, replica.ErrDamaged) || f.Counts().Removes > 0 {
		t.Errorf("got error %v and %d removes", err, f.Counts().Removes)
	}
}

// endless is a place that lists without end.
type endless struct {
	blob.Bucket
	name func(i int) blob.Name
}

func (e endless) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for i := 0; ; i++ {
			n := e.name(i)
			if !strings.HasPrefix(string(n), string(prefix)) {
				break
			}
			if ctx.Err() != nil || !yield(blob.Info{Name: n, Size: 4096}, ctx.Err()) {
				return
			}
		}
		for info, err := range e.Bucket.List(ctx, prefix) {
			if !yield(info, err) {
				return
			}
		}
	}
}

func TestCopy_APlaceThatListsWithoutEndIsGivenUp(t *testing.T) {
	s := drive(t)
	for what, name := range map[string]func(int) blob.Name{
		"heads":   func(i int) blob.Name { return blob.Name(fmt.Sprintf("heads/%032x/%016x", 7, i)) },
		"devices": func(i int) blob.Name { return blob.Name(fmt.Sprintf("heads/%032x/%016x", i, 1)) },
		"members": func(i int) blob.Name { return blob.Name(fmt.Sprintf("members/%032x", i)) },
		"packs":   func(i int) blob.Name { h := [32]byte{byte(i), byte(i >> 8), byte(i >> 16)}; return catalog.PackName(h) },
	} {
		if what == "packs" && testing.Short() {
			continue // four million
		}
		for _, far := range []bool{false, true} {
			from, to := blob.Bucket(s.at(t, -1)), blob.Bucket(mem.New())
			if far {
				to = endless{to, name}
			} else {
				from = endless{from, name}
			}
			_, err := replica.Copy(t.Context(), from, to, replica.Options{MaxHeads: 10_000, MaxSmall: 10_000})
			if !errors.Is(err, replica.ErrTooMany) && !errors.Is(err, catalog.ErrFull) {
				t.Errorf("%s, far: %v: got error %v", what, far, err)
			}
		}
	}
}

func TestCopy_AnEndlessBodyIsNotTaken(t *testing.T) {
	s := drive(t)
	for _, prefix := range []string{"packs/", "members/", "heads/", "index/"} {
		from, name := evil.New(s.at(t, -1), 1), anyOf(s, prefix)
		from.Set(evil.Endless, func(n blob.Name) bool { return n == name })
		to := &watched{Bucket: mem.New(), t: t, s: s, what: prefix}
		_, err := replica.Copy(t.Context(), from, to, replica.Options{})
		_, there := contents(t, to)[name]
		switch prefix {
		case "packs/": // the first bytes are right, and nobody asks for more
			if err != nil || !there {
				t.Errorf("%s: got error %v, there: %v", prefix, err, there)
			}
		case "index/": // it is left out
			if err != nil || there {
				t.Errorf("%s: got error %v, there: %v", prefix, err, there)
			}
		default:
			if !errors.Is(err, replica.ErrDamaged) || there {
				t.Errorf("%s: got error %v, there: %v", prefix, err, there)
			}
		}
		s.check(t, prefix, to.Bucket)
	}
}

// What is refused by somebody with keys is not put, nor what comes after it.
func TestCopy_Check(t *testing.T) {
	s := drive(t)
	from := s.at(t, -1)
	folder := anyOf(s, "heads/")[:38]
	names := headsIn(t, from, folder)
	bad := names[len(names)/2]
	replaceBlob(t, from, bad, flip)
	to := mem.New()
	_, err := replica.Copy(t.Context(), from, to, replica.Options{Check: s.opens})
	if f := faultsOf(err); len(f) != 1 || !errors.Is(f[bad], fs.ErrInvalid) {
		t.Errorf("got error %v, want one for %s", err, bad)
	}
	if diff := cmp.Diff(names[:len(names)/2], headsIn(t, to, folder)); diff != "" {
		t.Errorf("heads (-want +got):\n%s", diff)
	}
	s.check(t, "check", to)
}
