package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A history is what a test knows of a database: the state after each Update that has returned, and after the one under way.
type history struct {
	acked    map[string]string
	underway map[string]string // nil if there is none
}

// update makes a random Update. During it, h.underway is what the state will be.
func update(ctx context.Context, d *DB, r *rand.Rand, h *atomic.Pointer[history]) error {
	was := h.Load().acked
	next := maps.Clone(was)
	type write struct {
		key, value string
		remove     bool
	}
	var writes []write
	n, size := 1+r.IntN(6), 1+r.IntN(3000)
	switch r.IntN(12) {
	case 0:
		n = 100 + r.IntN(200) // larger than a memtable
	case 1:
		size = 100_000
	}
	for range n {
		w := write{key: fmt.Sprintf("key%03d", r.IntN(150)), remove: r.IntN(5) == 0}
		if w.remove {
			delete(next, w.key)
		} else {
			w.value = string(testkit.Random(r, size))
			next[w.key] = w.value
		}
		writes = append(writes, w)
	}
	h.Store(&history{was, next})
	err := d.Update(ctx, func(tx kv.Tx) error {
		for _, w := range writes {
			var err error
			if w.remove {
				err = tx.Delete([]byte(w.key))
			} else {
				err = tx.Put([]byte(w.key), []byte(w.value))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		h.Store(&history{next, nil})
	}
	return err
}

// content reads all of a database, in two ways.
func content(ctx context.Context, d *DB) (map[string]string, error) {
	all := map[string]string{}
	for p, err := range d.Scan(ctx, nil, nil) {
		if err != nil {
			return nil, err
		}
		all[string(p.Key)] = string(p.Value)
	}
	for i := range 150 {
		key := fmt.Sprintf("key%03d", i)
		v, err := d.Get(ctx, []byte(key))
		want, ok := all[key]
		if ok != !errors.Is(err, fs.ErrNotExist) || ok && (err != nil || string(v) != want) {
			return nil, fmt.Errorf("get %s: %d bytes and error %w, a scan says %d bytes, %v", key, len(v), err, len(want), ok)
		}
	}
	return all, nil
}

// The power is cut at a random change of the disk, also while the database is being made, opened or closed, and again and again.
// What each block, each name and each removal comes to that was not synced is drawn. All that was acknowledged is there then,
// and of the Update under way all or nothing.
func TestDB_SurvivesPowerCuts(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 40
	}
	if os.Getenv("SHEAF_LONG") != "" {
		rounds = 3000
	}
	r := testkit.Rand(testkit.Seed(t))
	ctx := t.Context()
	count := map[string]int{}
	var h atomic.Pointer[history]
	var disk *testDisk
	for round := range rounds {
		if round%10 == 0 {
			disk = newTestDisk(t)
			h.Store(&history{acked: map[string]string{}})
		}
		var after *testDisk
		var then *history
		lost := map[string]int{} // counted in the background
		at, percent, seed := 1+r.IntN([]int{20, 60, 400}[r.IntN(3)]), []int{0, 20, 50, 80, 100}[r.IntN(5)], r.Uint64()
		aim := r.IntN(2) == 0 // at a moment when a name is not synced
		disk.before = func(n int) error {
			if aim && n >= at && after == nil && n > 1 && unsynced(disk.names[n-2]) {
				at = n
			}
			if n == at && (!aim || n > 1 && unsynced(disk.names[n-2])) {
				then = h.Load()
				after = disk.cut(t, rand.New(rand.NewPCG(seed, 1)), percent, lost)
			}
			return nil
		}
		// What happens after the cut does not count, but what it was that was cut.
		d, err := openTest(disk)
		if err != nil {
			t.Fatalf("round %d: open: %v", round, err)
		}
		gone := func() bool {
			disk.mu.Lock()
			defer disk.mu.Unlock()
			return after != nil
		}
		if gone() {
			count["cuts of open"]++
		}
		for i := 0; i < 150 && !gone(); i++ {
			if err := update(ctx, d, r, &h); err != nil {
				t.Fatalf("round %d: update: %v", round, err)
			}
			count["updates"]++
		}
		during := gone()
		if err := d.Close(); err != nil {
			t.Fatalf("round %d: close: %v", round, err)
		}
		for k, n := range lost {
			count[k] += n
		}
		if !during && gone() {
			count["cuts of close"]++
		}
		if after == nil { // closed in order
			after, then = disk.cutNow(t, r, count), h.Load()
			count["cuts after close"]++
		}
		if d, err = openTest(after); err != nil {
			t.Fatalf("round %d, cut at %d (%s), %d %%: open: %v", round, at, disk.tail(at), percent, err)
		}
		got, err := content(ctx, d)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		switch {
		case maps.Equal(got, then.acked):
			count["without the update under way"]++
		case then.underway != nil && maps.Equal(got, then.underway):
			count["with it"]++
		default:
			t.Fatalf("round %d, cut at %d (%s), %d %%: got %d pairs, want %d", round, at, disk.tail(at), percent, len(got), len(then.acked))
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		h.Store(&history{acked: got})
		disk = onMem(after.mem)
	}
	for _, k := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%6d %s", count[k], k)
	}
	for _, k := range []string{"cuts of open", "removals undone", "removals kept", "names lost: MANIFEST", "with it", "without the update under way"} {
		if count[k] == 0 {
			t.Errorf("%s: none, the test does not show what it is for", k)
		}
	}
}

// unsynced reports whether a change leaves a name behind that a power cut may take, or bring back.
func unsynced(change string) bool {
	return strings.HasPrefix(change, "create marker") || strings.HasPrefix(change, "remove marker") || strings.HasPrefix(change, "create MANIFEST")
}

// cutNow is cut for who does not hold mu.
func (d *testDisk) cutNow(t testing.TB, r *rand.Rand, count map[string]int) *testDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut(t, r, 50, count)
}

// tail returns the changes that came before change n, and it.
func (d *testDisk) tail(n int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprintf("%q", d.names[max(0, n-8):min(n, len(d.names))])
}

// Open reads what is in the log and a manifest, and no more where more is stored.
func TestOpen_ReadsTheSameWhateverIsStored(t *testing.T) {
	var read []int64
	for _, n := range []int{2_000, 40_000} {
		disk := newTestDisk(t)
		d, err := openTest(disk)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n / 1000 {
			if err := d.Update(t.Context(), func(tx kv.Tx) error {
				for j := range 1000 {
					if err := tx.Put([]byte(fmt.Sprintf("%032d", (i*1000+j)*7919%n)), make([]byte, 200)); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		disk.read = 0
		d, err = openOn(disk, Options{Dir: testDir, Key: testKey(1)}, func(o *pebble.Options) {
			small(o)
			o.DisableAutomaticCompactions = true // they go on in the background, and their reads are not Open's
		})
		if err != nil {
			t.Fatal(err)
		}
		disk.mu.Lock()
		read = append(read, disk.read)
		disk.mu.Unlock()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("bytes read: %d", read)
	if limit := int64(3 << 20); read[0] > limit || read[1] > limit {
		t.Errorf("read %d bytes, want no more than %d", read, limit)
	}
}
