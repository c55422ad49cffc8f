package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// liar is a bucket that lies about packs, until it is honest again. What is put and removed is so in truth.
type liar struct {
	blob.Bucket

	mu    sync.Mutex
	shown map[blob.Name][]byte // in place of what is there; also of what is not
	sizes map[blob.Name]int64  // in listings
	gone  map[blob.Name]bool   // said not to be there, also if shown; in listings they are
	short map[blob.Name]bool   // left out of listings
	told  int                  // lies
}

func newLiar(b blob.Bucket) *liar {
	l := &liar{Bucket: b}
	l.honest()
	return l
}

func (l *liar) honest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown, l.sizes, l.gone, l.short = map[blob.Name][]byte{}, map[blob.Name]int64{}, map[blob.Name]bool{}, map[blob.Name]bool{}
}

func (l *liar) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	l.mu.Lock()
	body, ok := l.shown[name]
	gone := l.gone[name]
	if ok || gone {
		l.told++
	}
	l.mu.Unlock()
	switch {
	case gone:
		return nil, fmt.Errorf("get %s: %w", name, fs.ErrNotExist)
	case !ok:
		return l.Bucket.Get(ctx, name, off, n)
	}
	body = body[min(off, int64(len(body))):]
	if n >= 0 {
		body = body[:min(n, int64(len(body)))]
	}
	return io.NopCloser(bytes.NewReader(body)), nil
}

func (l *liar) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		sizes := map[blob.Name]int64{}
		for info, err := range l.Bucket.List(ctx, prefix) {
			if err != nil {
				yield(blob.Info{}, err)
				return
			}
			sizes[info.Name] = info.Size
		}
		l.mu.Lock()
		for name, body := range l.shown {
			if strings.HasPrefix(string(name), string(prefix)) {
				sizes[name] = int64(len(body))
			}
		}
		for name, n := range l.sizes {
			if _, ok := sizes[name]; ok {
				sizes[name] = n
				l.told++
			}
		}
		maps.DeleteFunc(sizes, func(n blob.Name, _ int64) bool { return l.short[n] })
		l.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(sizes)) {
			if !yield(blob.Info{Name: name, Size: sizes[name]}, nil) {
				return
			}
		}
	}
}

// A town is a bucket with a past, and what must be in it.
type town struct {
	t    *testing.T
	rnd  *rand.Rand
	mem  *mem.Bucket
	liar *liar
	must map[chunk.Ref][]byte // reachable
	dead [][]byte             // was put once; some of it is in packs still
	past map[blob.Name][]byte // packs that were removed
	half *crashKV             // of the device, from when it knew half
	db   *crashKV             // of the device
	days int
	lazy bool // Stores that know nothing learn when they need it
}

// newTown has a device fill a bucket: packs of one size, some chunks of them dead, some in two packs, and some
// packs removed by it.
func newTown(t *testing.T, rnd *rand.Rand) *town {
	w := &town{t: t, rnd: rnd, mem: mem.New(), must: map[chunk.Ref][]byte{}, past: map[blob.Name][]byte{}, db: newCrashKV()}
	w.liar = newLiar(w.mem)
	s := openStore(t, w.mem, w.db)
	fill := func(s *Store, packs int) {
		for range packs {
			for range 1 + rnd.IntN(3) {
				plain := randomBytes(rnd, 3000)
				ref := put(t, s, plain)
				if rnd.IntN(3) == 0 {
					w.dead = append(w.dead, plain)
				} else {
					w.must[ref] = plain
				}
			}
			flush(t, s)
		}
	}
	fill(s, 3)
	// Packs of the past: all that is put here is dead, and then removed.
	for range 2 {
		plain := randomBytes(rnd, 3000)
		w.dead = append(w.dead, plain)
		put(t, s, plain)
		flush(t, s)
	}
	before := blobsOf(t, w.mem)
	w.collect(s)
	w.collect(s)
	after := blobsOf(t, w.mem)
	for name, body := range before {
		if _, ok := after[name]; !ok && strings.HasPrefix(string(name), pack.Prefix) {
			w.past[name] = body
		}
	}
	if len(w.past) == 0 {
		t.Fatal("no pack was removed")
	}
	if err := s.x.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.half = w.db.afterPowerCut()
	// Another device, which knows nothing of the first, puts some of the same.
	other := openStore(t, mem.New(), newCrashKV())
	for _, ref := range w.refs() {
		if rnd.IntN(3) == 0 && put(t, other, w.must[ref]) != ref {
			t.Fatal("the same bytes have two Refs")
		}
	}
	fill(other, 1)
	fill(s, 1+rnd.IntN(7))
	for name, body := range blobsOf(t, other.bucket) {
		putBlob(t, w.mem, name, body)
	}
	if rnd.IntN(2) == 0 {
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.close(s)
	return w
}

// refs returns what must be there, always in one order.
func (w *town) refs() []chunk.Ref {
	return slices.SortedFunc(maps.Keys(w.must), func(a, b chunk.Ref) int { return bytes.Compare(a.ID[:], b.ID[:]) })
}

func (w *town) close(s *Store) {
	w.t.Helper()
	if err := s.Close(w.t.Context()); err != nil && !sayable(err) {
		w.t.Fatalf("close: %v", err)
	}
}

func (w *town) open(db kv.DB) *Store {
	w.t.Helper()
	s := openWith(w.t, Options{Bucket: w.liar, KV: db, Lazy: w.lazy})
	s.pause = 0
	return s
}

// collect runs a cycle.
func (w *town) collect(s *Store) {
	w.t.Helper()
	w.days++
	if _, err := collect(w.t.Context(), s, w.must, day(w.days)); err != nil && !sayable(err) {
		w.t.Fatalf("gc: %v", err)
	}
}

// sayable reports whether an error is one of those that say what is wrong.
func sayable(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, index.ErrBlob)
}

func blobsOf(t testing.TB, b blob.Bucket) map[blob.Name][]byte {
	t.Helper()
	all := map[blob.Name][]byte{}
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		body, err := blob.ReadAll(t.Context(), b, info.Name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		all[info.Name] = body
	}
	return all
}

func putBlob(t testing.TB, b blob.Bucket, name blob.Name, body []byte) {
	t.Helper()
	if err := b.Put(t.Context(), name, bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
}

// lieTo makes the liar lie about some of the packs that are there.
func (w *town) lieTo(how string) {
	l, packs := w.liar, blobsOf(w.t, w.mem)
	maps.DeleteFunc(packs, func(n blob.Name, _ []byte) bool { return !strings.HasPrefix(string(n), pack.Prefix) })
	names := slices.Sorted(maps.Keys(packs))
	w.rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	some := names[:1+w.rnd.IntN(len(names))]
	past := slices.Sorted(maps.Keys(w.past))
	l.mu.Lock()
	defer l.mu.Unlock()
	switch how {
	case "two change places":
		l.shown[names[0]], l.shown[names[1]] = packs[names[1]], packs[names[0]]
	case "one for another":
		l.shown[names[0]] = packs[names[1]]
	case "all for others":
		for i, n := range names {
			l.shown[n] = packs[names[(i+1)%len(names)]]
		}
	case "one for all":
		for _, n := range names {
			l.shown[n] = packs[names[0]]
		}
	case "removed ones for others":
		for i, n := range some {
			l.shown[n] = w.past[past[i%len(past)]]
		}
	case "removed ones are there":
		for n, body := range w.past {
			l.shown[n] = body
		}
	case "removed ones change places and others are gone":
		for i, n := range past {
			l.shown[n] = w.past[past[(i+1)%len(past)]]
		}
		for _, n := range some {
			l.gone[n], l.short[n] = true, true
		}
	case "cut":
		for _, n := range some {
			l.shown[n] = packs[n][:w.rnd.IntN(len(packs[n]))]
		}
	case "a bit":
		for _, n := range some {
			body := bytes.Clone(packs[n])
			body[w.rnd.IntN(len(body))] ^= 1 << w.rnd.IntN(8)
			l.shown[n] = body
		}
	case "gone":
		for _, n := range some {
			l.gone[n], l.short[n] = true, w.rnd.IntN(2) == 0
		}
	case "not listed":
		for _, n := range some {
			l.short[n] = true
		}
	case "false sizes":
		for _, n := range some {
			l.sizes[n] = []int64{0, 1, pack.MinSize, 2 * pack.MinSize, pack.Size, 1 << 40}[w.rnd.IntN(6)]
		}
	default:
		w.t.Fatalf("no such lie: %s", how)
	}
}

var (
	liesOfPacks = []string{
		"two change places", "one for another", "all for others", "one for all", "removed ones for others", "removed ones are there",
		"removed ones change places and others are gone", "cut", "a bit", "gone", "not listed", "false sizes",
	}
	learnings = []string{"fresh", "lazy", "refresh", "index blobs", "index blobs, lazy", "its own"}
	firstActs = []string{"get", "put", "compact", "gc", "verify", "reopen", "index"}
)

// learn returns a Store that learns while the bucket lies.
func (w *town) learn(how, lie string) (*Store, *crashKV) {
	t := w.t
	db := newCrashKV()
	how, w.lazy = strings.CutSuffix(how, "lazy")
	switch strings.TrimSuffix(how, ", ") {
	case "fresh", "":
		w.lieTo(lie)
	case "refresh": // of a Store that knows half
		db = w.half
		half := w.open(db)
		w.lieTo(lie)
		if err := half.Refresh(t.Context()); err != nil && !sayable(err) {
			t.Fatalf("refresh: %v", err)
		}
		return half, db
	case "index blobs": // of a device that was deceived
		w.lieTo(lie)
		s := w.open(newCrashKV())
		if err := s.WriteIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.close(s)
		if w.rnd.IntN(2) == 0 {
			w.liar.honest()
		}
		if w.rnd.IntN(2) == 0 {
			db = w.half
		}
	case "its own": // database: all is known
		db = w.db
		s := w.open(db)
		w.lieTo(lie)
		return s, db
	}
	return w.open(db), db
}

// act does one thing, and returns the Store to go on with.
func (w *town) act(what string, s *Store, db *crashKV) *Store {
	t := w.t
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil && !sayable(err) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	switch what {
	case "get":
		for _, ref := range w.refs() {
			got, err := s.Get(t.Context(), nil, ref)
			if fail(err); err == nil && !bytes.Equal(got, w.must[ref]) {
				t.Fatal("other bytes are read")
			}
		}
	case "put": // what is there, and what was removed
		fresh := map[chunk.Ref][]byte{}
		for _, ref := range w.refs() {
			put(t, s, w.must[ref])
		}
		for _, plain := range w.dead {
			fresh[put(t, s, plain)] = plain
		}
		flush(t, s)
		maps.Copy(w.must, fresh)
		w.dead = nil
	case "compact":
		fail(s.Compact(t.Context()))
	case "gc":
		w.collect(s)
		w.collect(s)
	case "verify":
		for _, err := range s.Verify(t.Context(), nil) {
			fail(err)
		}
	case "index":
		fail(s.WriteIndex(t.Context()))
	case "reopen":
		w.close(s)
		s = w.open(db)
	}
	return s
}

// whole wants all that must be there, now that the bucket is honest: for reads at once, for Verify after it has put right what it found;
// and garbage collection must go its way and take nothing.
func (w *town) whole(s *Store, db *crashKV) {
	t := w.t
	t.Helper()
	if err := s.lockMaintenance(t.Context()); err != nil {
		t.Fatal(err)
	}
	clear(s.unsound) // an hour has passed
	s.trusting = time.Time{}
	s.unlockMaintenance()
	read := func(when string, s *Store) {
		t.Helper()
		s.pause, s.cache = 0, newSegmentCache(0)
		for ref, plain := range w.must {
			if got, err := s.Get(t.Context(), nil, ref); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%s: chunk %v is lost: %v", when, ref, err)
			}
		}
	}
	read("at once", s)
	findings(t, s)
	if err := s.Refresh(t.Context()); err != nil { // for what was shown and never was there
		t.Fatal(err)
	}
	wantSound(t, s)
	for range 4 {
		w.collect(s)
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	read("after garbage collections", s)
	wantSound(t, s)
	for _, p := range s.x.Packs() {
		if !p.Sure() {
			t.Errorf("pack %v is not proven: %+v", p.Name, p)
		}
	}
	read("after a power cut", openStore(t, w.mem.Clone(), db.afterPowerCut()))
	read("by a new device", openStore(t, w.mem.Clone(), newCrashKV()))
}
