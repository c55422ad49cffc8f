package tier_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

func open(t testing.TB, o tier.Options) *tier.Tier {
	t.Helper()
	if o.Local == nil {
		o.Local = mem.New()
	}
	x, err := tier.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func TestTier_IsABucket(t *testing.T) {
	for _, c := range []struct {
		name    string
		dir     bool
		mirror  bool
		remotes int
	}{
		{"alone", false, false, 0},
		{"with a folder and a mirror", true, true, 0},
		{"with remotes", true, true, 2},
		{"with remotes, in memory", false, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			blobtest.Run(t, func(t *testing.T) blob.Bucket {
				o := tier.Options{}
				if c.dir {
					o.Dir = filepath.Join(t.TempDir(), "tier")
				}
				if c.mirror {
					o.Mirror = mem.New()
				}
				x := open(t, o)
				var remotes []tier.Remote
				for i := range c.remotes {
					remotes = append(remotes, tier.Remote{Name: fmt.Sprint("r", i), Bucket: mem.New()})
				}
				x.SetRemotes(remotes...)
				return x
			})
		})
	}
}

// some makes packs of the given sizes.
func some(t testing.TB, sizes ...int) (names []blob.Name, bodies map[blob.Name][]byte) {
	r := testkit.Rand(testkit.Seed(t))
	bodies = map[blob.Name][]byte{}
	for _, n := range sizes {
		body := testkit.Random(r, n)
		name := catalog.PackName(blake3.Sum256(body))
		names = append(names, name)
		bodies[name] = body
	}
	return names, bodies
}

func bucketOf(t testing.TB, bodies map[blob.Name][]byte) *mem.Bucket {
	t.Helper()
	b := mem.New()
	for name, body := range bodies {
		put(t, b, name, body)
	}
	return b
}

func put(t testing.TB, b blob.Bucket, name blob.Name, body []byte) {
	t.Helper()
	if err := b.Put(context.Background(), name, bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
}

func learn(t testing.TB, x *tier.Tier, remote string, b blob.Bucket) {
	t.Helper()
	table, err := catalog.List(b.List(context.Background(), ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Learn(remote, table); err != nil {
		t.Fatal(err)
	}
}

func read(ctx context.Context, b blob.Bucket, name blob.Name, off, n int64) ([]byte, error) {
	r, err := b.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(r)
	return p, errors.Join(err, r.Close())
}

func want(t testing.TB, b blob.Bucket, name blob.Name, off, n int64, body []byte) {
	t.Helper()
	p, err := read(context.Background(), b, name, off, n)
	if err != nil {
		t.Fatalf("%s %d+%d: %v", name, off, n, err)
	}
	off = min(off, int64(len(body)))
	end := int64(len(body))
	if n >= 0 {
		end = off + min(end-off, n)
	}
	if !bytes.Equal(p, body[off:end]) {
		t.Fatalf("%s %d+%d: got %d other bytes", name, off, n, len(p))
	}
}

func gets(r *evil.Recorder) []evil.Call {
	return slices.DeleteFunc(r.Calls(), func(c evil.Call) bool { return c.Op != "get" })
}

// T-GRID: whatever ranges are read, those that leave lie on the grid; the bytes are right, from the remote, from the cache, and from that of
// an earlier process.
func TestGet_RangesOfRemotesLieOnTheGrid(t *testing.T) {
	names, bodies := some(t, 32<<20, 5<<20, 1<<20, 1<<20+1, 32<<10, 3<<20-1)
	far := evil.NewRecorder(bucketOf(t, bodies))
	index := blob.Name("index/00112233445566778899aabbccddeeff/root")
	put(t, far, index, bodies[names[1]])
	o := tier.Options{Local: mem.New(), Dir: t.TempDir()}
	r := testkit.Rand(testkit.Seed(t))
	for range 3 { // processes
		x := open(t, o)
		x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
		learn(t, x, "far", far)
		for range 150 {
			name := names[r.IntN(len(names))]
			size := int64(len(bodies[name]))
			off := r.Int64N(size + 10)
			want(t, x, name, off, []int64{-1, 0, 1, 128 << 10, 1 << 20, r.Int64N(size)}[r.IntN(6)], bodies[name])
			want(t, x, index, off, r.Int64N(1<<20), bodies[names[1]])
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
	far.Ranges(t, func(n blob.Name, off, size int64) bool {
		return off%tier.Grid == 0 && (size == -1 || size > 0 && size%tier.Grid == 0)
	})
	bytes := int64(0)
	for _, c := range gets(far) {
		if c.Name != index {
			bytes += c.N
		}
	}
	if bytes == 0 || bytes > 48<<20 {
		t.Errorf("%d bytes of packs were asked for", bytes)
	}
}

// Without a catalog the size of a pack is not known, and it is read all the same.
func TestGet_WithoutACatalog(t *testing.T) {
	names, bodies := some(t, 3<<20+5)
	far := evil.NewRecorder(bucketOf(t, bodies))
	x := open(t, tier.Options{})
	x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
	for _, c := range [][2]int64{{0, -1}, {5, 10}, {1<<20 - 1, 2}, {3 << 20, 100}, {4 << 20, 1}, {1 << 62, 1}, {7, 1<<63 - 1}} {
		want(t, x, names[0], c[0], c[1], bodies[names[0]])
	}
	far.Ranges(t, func(_ blob.Name, off, n int64) bool { return off%tier.Grid == 0 && (n == -1 || n%tier.Grid == 0) })
}

// A piece that many want is asked for once, and a pack that is read in order takes few requests.
func TestGet_AsksOnceAndAhead(t *testing.T) {
	names, bodies := some(t, 32<<20)
	far := evil.NewRecorder(bucketOf(t, bodies))
	x := open(t, tier.Options{Dir: t.TempDir()})
	x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
	learn(t, x, "far", far)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { want(t, x, names[0], 5<<20+77, 1000, bodies[names[0]]) })
	}
	wg.Wait()
	if n := len(gets(far)); n != 1 {
		t.Errorf("one piece took %d requests", n)
	}
	for off := int64(0); off < 32<<20; off += 128 << 10 { // as segments are read
		want(t, x, names[0], off, 128<<10, bodies[names[0]])
	}
	n, total := len(gets(far)), int64(0)
	for _, c := range gets(far) {
		total += min(c.N, 32<<20-c.Off)
	}
	if n > 14 || total != 32<<20 {
		t.Errorf("%d requests for %d bytes, want at most 14 for 32 MiB", n, total)
	}
	want(t, x, names[0], 0, -1, bodies[names[0]])
	if len(gets(far)) != n {
		t.Error("what is cached was asked for again")
	}
	// Here and there: one piece each.
	names, bodies = some(t, 32<<20)
	far = evil.NewRecorder(bucketOf(t, bodies))
	x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
	learn(t, x, "far", far)
	for _, no := range []int64{20, 3, 9, 30, 14} {
		want(t, x, names[0], no<<20, 100, bodies[names[0]])
	}
	for _, c := range gets(far) {
		if c.N != tier.Grid {
			t.Errorf("a read here and there asked for %d bytes", c.N)
		}
	}
}

// hanging is a place that does not answer until the context is done.
type hanging struct{ blob.Bucket }

func (h hanging) Get(ctx context.Context, _ blob.Name, _, _ int64) (io.ReadCloser, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestGet_GoesToTheNextRemote(t *testing.T) {
	const patience = 2 * time.Second // on a busy machine the good one takes a while, too
	names, bodies := some(t, 5<<20)
	body := bodies[names[0]]
	good := bucketOf(t, bodies)
	for what, lie := range map[string]evil.Lie{
		"fails": evil.Fail, "withholds": evil.Withhold, "sends less": evil.Truncate, "drips": evil.Slow,
	} {
		bad := evil.New(good, 5)
		bad.Set(lie, nil)
		x := open(t, tier.Options{Patience: patience})
		x.SetRemotes(tier.Remote{Name: "bad", Bucket: bad}, tier.Remote{Name: "good", Bucket: good})
		learn(t, x, "bad", good)
		learn(t, x, "good", good)
		want(t, x, names[0], 0, -1, body)
		if len(bad.Deeds()) == 0 {
			t.Errorf("a remote that %s was not asked", what)
		}
	}
	x := open(t, tier.Options{Patience: patience})
	x.SetRemotes(tier.Remote{Name: "dead", Bucket: hanging{}}, tier.Remote{Name: "good", Bucket: good})
	learn(t, x, "dead", good)
	learn(t, x, "good", good)
	start := time.Now()
	want(t, x, names[0], 0, -1, body)
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("a dead remote cost %v", d)
	}
}

func TestGet_TellsWhatIsNotThereFromWhatCannotBeReached(t *testing.T) {
	names, bodies := some(t, 2<<20)
	name := names[0]
	full, empty := bucketOf(t, bodies), mem.New()
	broken := evil.New(full, 1)
	broken.Set(evil.Fail, nil)
	type remotes = []tier.Remote
	for _, c := range []struct {
		what string
		set  remotes
		know map[string]blob.Bucket
		want error
	}{
		{"no remotes", nil, nil, fs.ErrNotExist},
		{"all say no", remotes{{Name: "a", Bucket: empty}, {Name: "b", Bucket: empty}}, nil, fs.ErrNotExist},
		{"all say no, though one had listed it", remotes{{Name: "a", Bucket: empty}, {Name: "b", Bucket: empty}}, map[string]blob.Bucket{"a": full}, fs.ErrNotExist},
		{"one fails", remotes{{Name: "a", Bucket: broken}, {Name: "b", Bucket: empty}}, nil, blob.ErrTemporary},
		{"one that has it fails", remotes{{Name: "a", Bucket: broken}, {Name: "b", Bucket: empty}}, map[string]blob.Bucket{"a": full}, blob.ErrTemporary},
		{"one that has it is not connected", remotes{{Name: "b", Bucket: empty}}, map[string]blob.Bucket{"a": full}, blob.ErrTemporary},
		{"one does not answer", remotes{{Name: "a", Bucket: hanging{}}, {Name: "b", Bucket: empty}}, nil, blob.ErrTemporary},
		{"one that has it does not answer", remotes{{Name: "a", Bucket: hanging{}}}, map[string]blob.Bucket{"a": full}, blob.ErrTemporary},
	} {
		x := open(t, tier.Options{Patience: 50 * time.Millisecond})
		x.SetRemotes(c.set...)
		for remote, b := range c.know {
			learn(t, x, remote, b)
		}
		for _, off := range []int64{0, 1 << 20} {
			_, err := read(t.Context(), x, name, off, 10)
			if !errors.Is(err, c.want) || errors.Is(err, fs.ErrNotExist) && errors.Is(err, blob.ErrTemporary) ||
				errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got error %v, want %v", c.what, err, c.want)
			}
		}
	}
}

// With all remotes gone what is here is served at once, and the rest fails within patience, and at once from then on.
func TestGet_Offline(t *testing.T) {
	names, bodies := some(t, 4<<20, 4<<20, 1<<20)
	good := bucketOf(t, map[blob.Name][]byte{names[0]: bodies[names[0]], names[1]: bodies[names[1]]})
	x := open(t, tier.Options{Dir: t.TempDir(), Patience: time.Second, Local: bucketOf(t, map[blob.Name][]byte{names[2]: bodies[names[2]]})})
	x.SetRemotes(tier.Remote{Name: "a", Bucket: good})
	learn(t, x, "a", good)
	want(t, x, names[0], 0, -1, bodies[names[0]])
	x.SetRemotes(tier.Remote{Name: "a", Bucket: hanging{good}}, tier.Remote{Name: "b", Bucket: hanging{good}})
	start := time.Now()
	want(t, x, names[0], 0, -1, bodies[names[0]])
	want(t, x, names[2], 0, -1, bodies[names[2]])
	n := 0
	for _, err := range x.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if d := time.Since(start); n != 3 || d > time.Second {
		t.Errorf("what is here took %v; %d blobs are listed", d, n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := read(ctx, x, names[1], 0, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want the context's", err)
	}
	if _, err := read(t.Context(), x, names[1], 0, 1); !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("got error %v, want ErrTemporary", err)
	}
	start = time.Now()
	for range 100 {
		if _, err := read(t.Context(), x, names[1], 1<<20, 1); !errors.Is(err, blob.ErrTemporary) {
			t.Errorf("got error %v, want ErrTemporary", err)
		}
	}
	if d := time.Since(start); d > 900*time.Millisecond {
		t.Errorf("asking again took %v", d)
	}
}

// Many readers, remotes that fail by chance and come and go, packs that are forgotten: what is read is right.
func TestGet_ManyReaders(t *testing.T) {
	gone := testkit.Goroutines(t)
	names, bodies := some(t, 9<<20, 3<<20, 40<<10, 2<<20+1, 33<<10)
	good := bucketOf(t, bodies)
	seed := testkit.Seed(t)
	flaky := evil.New(good, seed)
	flaky.Chance(0.3, evil.Fail, evil.Truncate, evil.Withhold)
	x := open(t, tier.Options{Dir: t.TempDir(), Mirror: mem.New()})
	learn(t, x, "flaky", good)
	learn(t, x, "good", good)
	x.SetRemotes(tier.Remote{Name: "flaky", Bucket: flaky}, tier.Remote{Name: "good", Bucket: good})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := testkit.Rand(seed + int64(w))
			for range 60 {
				name := names[r.IntN(len(names))]
				off := r.Int64N(int64(len(bodies[name])))
				switch r.IntN(12) {
				case 0:
					if err := x.Forget(t.Context(), name); err != nil {
						t.Error(err)
					}
				case 1:
					learn(t, x, "flaky", good)
				case 2:
					if err := x.Pin(t.Context(), name); err != nil && !errors.Is(err, blob.ErrTemporary) && !errors.Is(err, blob.ErrNoSpace) {
						t.Error(err)
					}
				case 3:
					if err := x.Unpin(name); err != nil {
						t.Error(err)
					}
				default:
					p, err := read(t.Context(), x, name, off, r.Int64N(2<<20))
					if err != nil || !bytes.HasPrefix(bodies[name][off:], p) {
						t.Errorf("%s at %d: got %d bytes and error %v", name, off, len(p), err)
					}
				}
			}
		})
	}
	wg.Wait()
	if len(flaky.Deeds()) == 0 {
		t.Error("no lie was told")
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t.Context(), x, names[0], 0, 1); err == nil {
		if err := x.Forget(t.Context(), names[0]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := read(t.Context(), x, names[0], 0, 1); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: got error %v", err)
	}
	gone.Check(t)
}

func list(t testing.TB, b blob.Bucket, prefix blob.Name) []blob.Name {
	t.Helper()
	var names []blob.Name
	for info, err := range b.List(context.Background(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

func TestList_IsAllThatThereIsOnce(t *testing.T) {
	names, bodies := some(t, 40<<10, 41<<10, 42<<10, 43<<10)
	local, mirror := mem.New(), mem.New()
	put(t, local, names[0], bodies[names[0]])
	put(t, local, "heads/a/1", nil)
	put(t, mirror, "heads/a/1", []byte("not this one"))
	put(t, mirror, "heads/b/1", nil)
	put(t, mirror, names[3], nil) // a mirror has no packs
	a := bucketOf(t, map[blob.Name][]byte{names[0]: {}, names[1]: bodies[names[1]]})
	put(t, a, "index/00112233445566778899aabbccddeeff/root", make([]byte, 4096))
	put(t, a, "heads/c/1", nil) // is only fetched
	b := bucketOf(t, map[blob.Name][]byte{names[1]: bodies[names[1]], names[2]: bodies[names[2]]})
	x := open(t, tier.Options{Local: local, Mirror: mirror})
	learn(t, x, "a", a)
	learn(t, x, "b", b)
	wanted := []blob.Name{"heads/a/1", "heads/b/1", "index/00112233445566778899aabbccddeeff/root", names[0], names[1], names[2]}
	slices.Sort(wanted)
	for _, prefix := range []blob.Name{"", "h", "heads/", "heads/b", "packs/", "p", names[1], "index", "x"} {
		var some []blob.Name
		for _, n := range wanted {
			if strings.HasPrefix(string(n), string(prefix)) {
				some = append(some, n)
			}
		}
		if diff := cmp.Diff(some, list(t, x, prefix)); diff != "" {
			t.Errorf("list %q (-want +got):\n%s", prefix, diff)
		}
	}
	for info := range x.List(t.Context(), names[0]) {
		if info.Size != 40<<10 {
			t.Errorf("the own pack is listed with size %d", info.Size)
		}
	}
	if x.Copies(names[1]) != 2 || x.Copies(names[2]) != 1 || x.Copies(names[3]) != 0 {
		t.Errorf("copies: %d, %d, %d", x.Copies(names[1]), x.Copies(names[2]), x.Copies(names[3]))
	}
	if n, size, err := x.Missing(t.Context(), "b"); n != 1 || size != 40<<10 || err != nil {
		t.Errorf("b lacks %d of %d bytes, %v", n, size, err)
	}
	if n, _, err := x.Missing(t.Context(), "nobody"); n != 1 || err != nil {
		t.Errorf("nobody lacks %d, %v", n, err)
	}
	want(t, x, "heads/a/1", 0, -1, nil)
}

func TestLearn_IsThereAgain(t *testing.T) {
	names, bodies := some(t, 40<<10, 41<<10)
	a := bucketOf(t, bodies)
	o := tier.Options{Local: mem.New(), Dir: t.TempDir()}
	x := open(t, o)
	if x.Knows("a") {
		t.Error("it knows what it was not told")
	}
	learn(t, x, "a", a)
	learn(t, x, "b", mem.New())
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, o)
	slices.Sort(names)
	if diff := cmp.Diff(names, list(t, x, "")); diff != "" || !x.Knows("a") || !x.Knows("b") {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := x.DropRemote("a"); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, o)
	if got := list(t, x, ""); len(got) != 0 || x.Knows("a") || !x.Knows("b") {
		t.Errorf("after the remote was dropped: %v", got)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	// A damaged file is as if nothing had been learned.
	path := filepath.Join(o.Dir, "catalog")
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p[len(p)-1] ^= 1
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	x = open(t, o)
	if x.Knows("b") {
		t.Error("it believes a damaged file")
	}
	learn(t, x, "b", a)
	if got := list(t, x, ""); len(got) != 2 {
		t.Errorf("got %v", got)
	}
	for _, name := range []string{"", strings.Repeat("x", 256)} {
		if err := x.Learn(name, nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("name of %d bytes: got error %v", len(name), err)
		}
	}
}
