package tier_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// cacheFiles returns the files of the cache and their bytes on disk.
func cacheFiles(t testing.TB, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "packs"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, p)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return paths
}

// Whatever is damaged in a file of the cache is found by the next process, and fetched anew: no wrong byte is read.
func TestCache_DamageIsFoundAndMended(t *testing.T) {
	names, bodies := some(t, 3<<20+100)
	name, body := names[0], bodies[names[0]]
	seed := testkit.Seed(t)
	r := testkit.Rand(seed)
	far := evil.NewRecorder(bucketOf(t, bodies))
	o := tier.Options{Local: mem.New(), Dir: t.TempDir()}
	for round := range 40 {
		x := open(t, o)
		x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
		learn(t, x, "far", far)
		want(t, x, name, 0, -1, body)
		before := len(gets(far))
		want(t, x, name, 100, 2<<20, body)
		if len(gets(far)) != before {
			t.Fatal("it is not cached")
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		files := cacheFiles(t, o.Dir)
		if len(files) != 1 {
			t.Fatalf("files %q", files)
		}
		p, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		switch round % 4 {
		case 0: // a bit
			p[r.IntN(len(p))] ^= 1 << r.IntN(8)
		case 1: // torn: zeros from somewhere
			clear(p[r.IntN(len(p)):])
		case 2: // cut off
			p = p[:r.IntN(len(p))]
		case 3: // in the header
			p[r.IntN(4096)] ^= 1 << r.IntN(8)
		}
		if err := os.WriteFile(files[0], p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(gets(far)); n < 20 {
		t.Errorf("only %d requests: the damage was not found", n)
	}
}

func TestCache_IsBounded(t *testing.T) {
	sizes := slices.Repeat([]int{8 << 20}, 14)
	names, bodies := some(t, sizes...)
	far := evil.NewRecorder(bucketOf(t, bodies))
	for _, dir := range []string{t.TempDir(), ""} {
		o := tier.Options{Local: mem.New(), Dir: dir, CacheBytes: 64 << 20}
		x := open(t, o)
		x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
		learn(t, x, "far", far)
		for _, name := range names {
			want(t, x, names[0], 0, 10, bodies[names[0]]) // is used all the time
			want(t, x, name, 0, -1, bodies[name])
			if n := x.Cached(); n > 64<<20 {
				t.Fatalf("the cache has %d bytes", n)
			}
		}
		before := len(gets(far))
		want(t, x, names[0], 0, -1, bodies[names[0]])
		want(t, x, names[13], 0, -1, bodies[names[13]])
		if len(gets(far)) != before {
			t.Error("what was used last is not in the cache")
		}
		want(t, x, names[1], 0, -1, bodies[names[1]])
		if len(gets(far)) == before {
			t.Error("what was not used for longest is in the cache")
		}
		if dir == "" {
			continue
		}
		if n := len(cacheFiles(t, dir)); n > 8 {
			t.Errorf("%d files", n)
		}
		used := x.Cached()
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		// The next process counts what is there, and one that may have less drops the rest.
		x = open(t, o)
		waitFor(t, func() bool { return x.Cached() == used })
		put(t, mem.New(), "x", nil)
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// waitFor waits for what another goroutine does in the background.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to be")
		}
	}
}

func TestPin_KeepsPacksHere(t *testing.T) {
	names, bodies := some(t, slices.Repeat([]int{8 << 20}, 14)...)
	far := evil.NewRecorder(bucketOf(t, bodies))
	o := tier.Options{Local: mem.New(), Dir: t.TempDir(), CacheBytes: 64 << 20}
	x := open(t, o)
	x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
	learn(t, x, "far", far)
	pinned := slices.Sorted(slices.Values(names[:3]))
	if err := x.Pin(t.Context(), pinned...); err != nil {
		t.Fatal(err)
	}
	for _, name := range names[3:] {
		want(t, x, name, 0, -1, bodies[name])
	}
	check := func() {
		t.Helper()
		var got []blob.Name
		for name, whole := range x.Pinned(t.Context()) {
			if got = append(got, name); !whole {
				t.Errorf("%s is not here as a whole", name)
			}
		}
		if diff := cmp.Diff(pinned, got); diff != "" {
			t.Errorf("pinned (-want +got):\n%s", diff)
		}
		x.SetRemotes()
		for _, name := range pinned {
			want(t, x, name, 0, -1, bodies[name])
		}
	}
	check()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, o)
	check()
	if err := x.Unpin(pinned[0]); err != nil {
		t.Fatal(err)
	}
	if err := x.Remove(t.Context(), pinned[1]); err != nil { // what is removed is pinned no more
		t.Fatal(err)
	}
	pinned = pinned[2:]
	check()
	if err := x.Pin(t.Context(), "heads/x"); !errors.Is(err, blob.ErrName) {
		t.Errorf("pin of a head: got error %v", err)
	}
}

// A remote that gives wrong bytes is found out by Pin, and by whoever calls Forget; then another one is asked.
func TestForget_AsksAnotherRemote(t *testing.T) {
	names, bodies := some(t, 3<<20)
	name, body := names[0], bodies[names[0]]
	good := bucketOf(t, bodies)
	flip := func(p []byte) []byte { p[len(p)/2] ^= 1; return p }
	for _, pin := range []bool{false, true} {
		bad := evil.New(good, 1)
		bad.Edit(name, flip)
		x := open(t, tier.Options{Dir: t.TempDir()})
		x.SetRemotes(tier.Remote{Name: "bad", Bucket: bad}, tier.Remote{Name: "good", Bucket: good})
		learn(t, x, "bad", good)
		learn(t, x, "good", good)
		if pin {
			if err := x.Pin(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		} else {
			p, err := read(t.Context(), x, name, 0, -1)
			if err != nil || !bytes.Equal(p, flip(bytes.Clone(body))) {
				t.Fatalf("got %d bytes and error %v: the test is no test", len(p), err)
			}
			if err := x.Forget(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		want(t, x, name, 0, -1, body)
		// Alone again it is asked again.
		x.SetRemotes(tier.Remote{Name: "bad", Bucket: bad})
		if err := x.Forget(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if p, err := read(t.Context(), x, name, 0, 10); err != nil || !bytes.Equal(p, body[:10]) {
			t.Errorf("alone: got %d bytes and error %v", len(p), err)
		}
		if err := x.Pin(t.Context(), name); !errors.Is(err, blob.ErrTemporary) {
			t.Errorf("pin of what is damaged everywhere: got error %v", err)
		}
	}
}

func removed(t testing.TB, x *tier.Tier, remote string) []blob.Name {
	t.Helper()
	names, err := x.Removed(context.Background(), remote)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// What is removed is gone here at once, and is to go at each remote that is known, once, whatever crashes.
func TestRemove_IsNotedForEachRemote(t *testing.T) {
	names, bodies := some(t, 40<<10, 41<<10, 42<<10)
	local, mirror := bucketOf(t, map[blob.Name][]byte{names[0]: bodies[names[0]]}), mem.New()
	put(t, mirror, "keys/old", []byte("k"))
	put(t, local, "keys/own", []byte("k"))
	a, b := bucketOf(t, bodies), bucketOf(t, bodies)
	o := tier.Options{Local: local, Mirror: mirror, Dir: t.TempDir()}
	x := open(t, o)
	if err := x.Remove(t.Context(), "keys/before-there-were-remotes"); err != nil {
		t.Fatal(err)
	}
	learn(t, x, "a", a)                                 // is known, and not connected now
	x.SetRemotes(tier.Remote{Name: "b", Bucket: b})     // is connected, and nothing is known of it
	gone := []blob.Name{names[0], names[1], "keys/old"} // in Local, at a remote, in the mirror
	if err := x.Remove(t.Context(), gone...); err != nil {
		t.Fatal(err)
	}
	slices.Sort(gone)
	check := func(what string, x *tier.Tier, a, b []blob.Name) {
		t.Helper()
		if diff := cmp.Diff(a, removed(t, x, "a"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: at a (-want +got):\n%s", what, diff)
		}
		if diff := cmp.Diff(b, removed(t, x, "b"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: at b (-want +got):\n%s", what, diff)
		}
	}
	hidden := func(x *tier.Tier) {
		t.Helper()
		for _, name := range gone {
			if _, err := read(t.Context(), x, name, 0, -1); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got error %v, want fs.ErrNotExist", name, err)
			}
			if slices.Contains(list(t, x, ""), name) {
				t.Errorf("%s is listed", name)
			}
		}
	}
	check("removed", x, gone, gone)
	hidden(x)
	// A crash: another process on the same folder, without Close.
	x = open(t, o)
	x.SetRemotes(tier.Remote{Name: "b", Bucket: b})
	check("after a crash", x, gone, gone)
	put(t, mirror, "keys/old", []byte("k")) // a Fetch brings it back from a remote that has it still
	hidden(x)
	if err := x.RemovedDone("a", gone[0], gone[1], "keys/none"); err != nil {
		t.Fatal(err)
	}
	check("a has done two", x, gone[2:], gone)
	hidden(x)
	// Put again: it is not to be removed any more.
	put(t, x, names[0], bodies[names[0]])
	x = open(t, o)
	left := slices.DeleteFunc(slices.Clone(gone), func(n blob.Name) bool { return n == names[0] })
	check("put again", x, slices.DeleteFunc(slices.Clone(gone[2:]), func(n blob.Name) bool { return n == names[0] }), left)
	want(t, x, names[0], 0, -1, bodies[names[0]])
	if err := errors.Join(x.RemovedDone("a", gone...), x.RemovedDone("b", gone...)); err != nil {
		t.Fatal(err)
	}
	x = open(t, o)
	check("done", x, nil, nil)
	if got := list(t, x, "keys/"); !slices.Equal(got, []blob.Name{"keys/old", "keys/own"}) {
		t.Errorf("in the end there is %v", got)
	}
}

// A crash between the note and the removal: what is in Local still is not to be removed anywhere.
func TestRemoved_LeavesOutWhatIsHere(t *testing.T) {
	local := mem.New()
	faults := testkit.NewFaults(local)
	put(t, local, "keys/x", []byte("x"))
	x := open(t, tier.Options{Local: faults, Dir: t.TempDir()})
	learn(t, x, "a", mem.New())
	faults.FailWrite(1, nil)
	if err := x.Remove(t.Context(), "keys/x"); !errors.Is(err, testkit.ErrFault) {
		t.Fatalf("got error %v", err)
	}
	if got := removed(t, x, "a"); len(got) != 0 {
		t.Errorf("to be removed: %v", got)
	}
	want(t, x, "keys/x", 0, -1, []byte("x"))
	if err := x.Remove(t.Context(), "keys/x"); err != nil {
		t.Fatal(err)
	}
	if got := removed(t, x, "a"); !slices.Equal(got, []blob.Name{"keys/x"}) {
		t.Errorf("to be removed: %v", got)
	}
}

// The note is cut off at each byte: what was acknowledged before is there, and the log goes on.
func TestRemoved_TornAtAnyByte(t *testing.T) {
	o := tier.Options{Local: mem.New(), Dir: t.TempDir()}
	x := open(t, o)
	learn(t, x, "a", mem.New())
	path := filepath.Join(o.Dir, "removed")
	ends := []int64{}
	for _, name := range []blob.Name{"keys/one", "keys/two", "keys/three"} {
		if err := x.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, fi.Size())
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := tier.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		wanted := 0
		for _, end := range ends {
			if int64(n) >= end {
				wanted++
			}
		}
		if got := removed(t, x, "a"); len(got) != wanted {
			t.Fatalf("after %d bytes: %v, want %d names", n, got, wanted)
		}
		if err := x.Remove(t.Context(), "keys/four"); err != nil {
			t.Fatal(err)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if x, err = tier.Open(o); err != nil {
			t.Fatal(err)
		}
		if got := removed(t, x, "a"); len(got) != wanted+1 {
			t.Fatalf("after %d bytes, and one more: %v", n, got)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRemoved_IsWrittenAnewWhenItIsLong(t *testing.T) {
	o := tier.Options{Local: mem.New(), Dir: t.TempDir()}
	x := open(t, o)
	learn(t, x, "a", mem.New())
	for i := range 30 {
		var names []blob.Name
		for k := range 100 {
			names = append(names, blob.Name("keys/"+strings.Repeat("x", 60)+string(rune('a'+i%26))+string(rune('a'+k%26))+string(rune('a'+k/26))))
		}
		if err := errors.Join(x.Remove(t.Context(), names...), x.RemovedDone("a", names...)); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(filepath.Join(o.Dir, "removed"))
	if err != nil || fi.Size() > 128<<10 {
		t.Errorf("the note has %d bytes, %v", fi.Size(), err)
	}
}

func TestEvict_OnlyWhatIsProven(t *testing.T) {
	names, bodies := some(t, 40<<10, 41<<10, 42<<10, 43<<10)
	slices.Sort(names)
	local := bucketOf(t, bodies)
	a := bucketOf(t, map[blob.Name][]byte{names[0]: bodies[names[0]], names[1]: bodies[names[1]], names[3]: bodies[names[3]]})
	b := bucketOf(t, map[blob.Name][]byte{names[0]: bodies[names[0]], names[1]: bodies[names[1]], names[3]: bodies[names[3]][1:]})
	x := open(t, tier.Options{Local: local, Dir: t.TempDir()})
	x.SetRemotes(tier.Remote{Name: "a", Bucket: a}, tier.Remote{Name: "b", Bucket: b})
	learn(t, x, "a", a)
	learn(t, x, "b", b)
	proof := func(ctx context.Context, r tier.Remote, name blob.Name, size int64) error {
		if p, err := read(ctx, r.Bucket, name, 0, -1); err != nil || !bytes.Equal(p, bodies[name]) || int64(len(p)) != size {
			return errors.Join(err, fs.ErrInvalid)
		}
		return nil
	}
	if err := a.Remove(t.Context(), names[1]); err != nil { // though the catalog has it
		t.Fatal(err)
	}
	freed, err := x.Evict(t.Context(), 2, proof, append(slices.Clone(names), "packs/none")...)
	if !errors.Is(err, tier.ErrNotProven) || freed != int64(len(bodies[names[0]])) {
		t.Errorf("freed %d, error %v", freed, err)
	}
	if diff := cmp.Diff(names[1:], list(t, local, "")); diff != "" {
		t.Errorf("local (-want +got):\n%s", diff)
	}
	for _, name := range names {
		want(t, x, name, 0, -1, bodies[name])
	}
	if got := removed(t, x, "a"); len(got) != 0 {
		t.Errorf("what was evicted is to be removed at a remote: %v", got)
	}
	for _, c := range []struct {
		copies int
		proof  tier.Proof
	}{{0, proof}, {1, nil}} {
		if _, err := x.Evict(t.Context(), c.copies, c.proof, names...); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%d copies: got error %v", c.copies, err)
		}
	}
	if err := x.Pin(t.Context(), names[1]); err != nil {
		t.Fatal(err)
	}
	if freed, err := x.Evict(t.Context(), 1, proof, names[1]); freed != 0 || !errors.Is(err, tier.ErrNotProven) {
		t.Errorf("pinned: freed %d, error %v", freed, err)
	}
}
