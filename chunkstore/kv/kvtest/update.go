package kvtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

func ownWrites(t *testing.T, db kv.DB) {
	put(t, db, "a", "1", "b", "2")
	err := db.Update(t.Context(), func(tx kv.Tx) error {
		want(t, tx.Get, "a", "1")
		want(t, tx.Get, "c", "-")
		err := errors.Join(tx.Put([]byte("a"), []byte("one")), tx.Put([]byte("c"), []byte("three")), tx.Delete([]byte("b")), tx.Delete([]byte("gone")))
		want(t, tx.Get, "a", "one")
		want(t, tx.Get, "b", "-")
		want(t, tx.Get, "c", "three")
		want(t, getter(t, db), "a", "1") // nobody else sees them yet
		want(t, getter(t, db), "b", "2")
		err = errors.Join(err, tx.Delete([]byte("c")), tx.Put([]byte("b"), []byte("two")))
		want(t, tx.Get, "c", "-")
		want(t, tx.Get, "b", "two")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantScan(t, db, "a", "one", "b", "two")
}

func failedUpdate(t *testing.T, db kv.DB) {
	put(t, db, "a", "1", "b", "2")
	broken := errors.New("broken")
	err := db.Update(t.Context(), func(tx kv.Tx) error {
		return errors.Join(tx.Put([]byte("a"), []byte("no")), tx.Put([]byte("c"), []byte("no")), tx.Delete([]byte("b")), broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("got error %v, want %v", err, broken)
	}
	wantScan(t, db, "a", "1", "b", "2")
}

func panickedUpdate(t *testing.T, db kv.DB) {
	put(t, db, "a", "1")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = db.Update(t.Context(), func(tx kv.Tx) error {
			_ = tx.Put([]byte("a"), []byte("no"))
			panic("stop")
		})
	}()
	put(t, db, "b", "2") // and the next one gets its turn
	wantScan(t, db, "a", "1", "b", "2")
}

func updatesInTurn(t *testing.T, db kv.DB) {
	const workers, each = 8, 50
	var wg sync.WaitGroup
	var inside, runs atomic.Int64
	for range workers {
		wg.Go(func() {
			for range each {
				err := db.Update(t.Context(), func(tx kv.Tx) error {
					if inside.Add(1) != 1 {
						t.Error("two updates run at once")
					}
					defer inside.Add(-1)
					runs.Add(1)
					n := uint64(0)
					v, err := tx.Get([]byte("n"))
					if err == nil {
						n = binary.BigEndian.Uint64(v)
					} else if !errors.Is(err, fs.ErrNotExist) {
						return err
					}
					return tx.Put([]byte("n"), binary.BigEndian.AppendUint64(nil, n+1))
				})
				if err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	v, err := db.Get(t.Context(), []byte("n"))
	if err != nil || binary.BigEndian.Uint64(v) != workers*each || runs.Load() != workers*each {
		t.Errorf("got counter %x, error %v, and %d runs, want %d of both", v, err, runs.Load(), workers*each)
	}
}

func txOver(t *testing.T, db kv.DB) {
	var kept kv.Tx
	if err := db.Update(t.Context(), func(tx kv.Tx) error { kept = tx; return tx.Put([]byte("a"), []byte("1")) }); err != nil {
		t.Fatal(err)
	}
	if kept.Put([]byte("b"), nil) == nil || kept.Delete([]byte("a")) == nil {
		t.Error("a transaction that is over takes writes")
	}
	if _, err := kept.Get([]byte("a")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a transaction that is over gives the error %v for a get", err)
	}
	wantScan(t, db, "a", "1")
}

// model: random updates, of which some fail, against a map.
func model(t *testing.T, db kv.DB) {
	r := testkit.Rand(testkit.Seed(t))
	state := map[string]string{}
	key := func() []byte { return []byte(fmt.Sprintf("%0*d", 1+r.IntN(4), r.IntN(300))) }
	broken := errors.New("broken")
	for range 300 {
		next := maps.Clone(state)
		fail := r.IntN(4) == 0
		err := db.Update(t.Context(), func(tx kv.Tx) error {
			for range r.IntN(60) {
				k := key()
				switch r.IntN(5) {
				case 0, 1:
					v := append([]byte{'v'}, testkit.Random(r, r.IntN(100))...) // never "-"
					next[string(k)] = string(v)
					if err := tx.Put(k, v); err != nil {
						return err
					}
				case 2, 3:
					delete(next, string(k))
					if err := tx.Delete(k); err != nil {
						return err
					}
				case 4:
					v, ok := next[string(k)]
					if !ok {
						v = "-"
					}
					want(t, tx.Get, string(k), v)
				}
			}
			if fail {
				return broken
			}
			return nil
		})
		if fail != errors.Is(err, broken) || !fail && err != nil {
			t.Fatalf("update: %v", err)
		}
		if !fail {
			state = next
		}
		if r.IntN(10) == 0 {
			from, to := key(), key()
			expect := []string{}
			for _, k := range slices.Sorted(maps.Keys(state)) {
				if k >= string(from) && k < string(to) {
					expect = append(expect, k, state[k])
				}
			}
			if diff := cmp.Diff(expect, scan(t, db, from, to)); diff != "" {
				t.Fatalf("scan from %q to %q (-want +got):\n%s", from, to, diff)
			}
		}
	}
	for i := range 300 {
		k := fmt.Sprint(i)
		v, ok := state[k]
		if !ok {
			v = "-"
		}
		want(t, getter(t, db), k, v)
	}
}

// round writes the same value under n keys in one update.
func round(ctx context.Context, db kv.DB, n int, v uint64, end error) error {
	return db.Update(ctx, func(tx kv.Tx) error {
		value := bytes.Repeat(binary.BigEndian.AppendUint64(nil, v), 8)
		var key [32]byte
		for i := range n {
			binary.BigEndian.PutUint64(key[:], uint64(i)*0x9e3779b97f4a7c15) // in no order
			if err := tx.Put(key[:], value); err != nil {
				return err
			}
		}
		return end
	})
}

// wantRound reads all pairs and returns the one value that they have, or fails.
func wantRound(t testing.TB, db kv.DB, n int) uint64 {
	t.Helper()
	seen, first := 0, uint64(0)
	for p, err := range db.Scan(t.Context(), nil, nil) {
		if err != nil {
			t.Errorf("scan: %v", err)
			return 0
		}
		v := binary.BigEndian.Uint64(p.Value)
		if seen == 0 {
			first = v
		}
		if v != first {
			t.Errorf("pair %d is of update %d, others are of %d", seen, v, first)
			return 0
		}
		seen++
	}
	if seen != n {
		t.Errorf("got %d pairs, want %d", seen, n)
	}
	return first
}

func atomicity(t *testing.T, db kv.DB) { alternate(t, db, 2, 200, 60) }

func bigUpdate(t *testing.T, db kv.DB) {
	n := 200_000
	if testing.Short() || slow {
		n = 40_000
	}
	alternate(t, db, 1, n, 1)
	// A big update that only deletes.
	err := db.Update(t.Context(), func(tx kv.Tx) error {
		var key [32]byte
		for i := range n {
			binary.BigEndian.PutUint64(key[:], uint64(i)*0x9e3779b97f4a7c15)
			if err := tx.Delete(key[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantScan(t, db)
}

// alternate replaces n pairs some times while readers look on.
func alternate(t *testing.T, db kv.DB, readers, n int, rounds uint64) {
	if err := round(t.Context(), db, n, 1, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for last := uint64(0); ctx.Err() == nil; {
				v := wantRound(t, db, n)
				if v < last {
					t.Errorf("a scan saw update %d after %d", v, last)
					return
				}
				last = v
				// Single gets do not go back behind what the scan saw either.
				p, err := db.Get(t.Context(), make([]byte, 32))
				if err != nil || binary.BigEndian.Uint64(p) < last {
					t.Errorf("get: error %v, or a value from before update %d", err, last)
					return
				}
			}
		})
	}
	for v := uint64(2); v < rounds+2; v++ {
		if err := round(t.Context(), db, n, v, nil); err != nil {
			t.Errorf("update: %v", err)
			break
		}
		p, err := db.Get(t.Context(), make([]byte, 32))
		if err != nil || binary.BigEndian.Uint64(p) != v {
			t.Errorf("after update %d a get gives %x, error %v", v, p, err)
		}
	}
	cancel()
	wg.Wait()
	if v := wantRound(t, db, n); v != rounds+1 {
		t.Errorf("got update %d at the end, want %d", v, rounds+1)
	}
}

func bigFailedUpdate(t *testing.T, db kv.DB) {
	const n = 50_000
	if err := round(t.Context(), db, n, 1, nil); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := round(t.Context(), db, n+100, 2, broken); !errors.Is(err, broken) {
		t.Errorf("got error %v, want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := db.Update(ctx, func(tx kv.Tx) error {
		defer cancel()
		for i := range n {
			if err := tx.Put([]byte(fmt.Sprint("new", i)), make([]byte, 100)); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	if v := wantRound(t, db, n); v != 1 {
		t.Errorf("got update %d, want 1", v)
	}
	put(t, db, "after", "that")
	want(t, getter(t, db), "after", "that")
}

func closed(t *testing.T, db kv.DB) {
	put(t, db, "a", "1")
	for range 2 {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s: got error %v, want ErrClosed", what, err)
		}
	}
	_, err := db.Get(t.Context(), []byte("a"))
	check("get", err)
	check("sync", db.Sync(t.Context()))
	check("update", db.Update(t.Context(), func(kv.Tx) error { return nil }))
	n := 0
	for _, err := range db.Scan(t.Context(), nil, nil) {
		check("scan", err)
		n++
	}
	if n != 1 {
		t.Errorf("scan went round %d times, want once with the error", n)
	}
}

// closeWaits closes in the middle of a scan and of an update of other goroutines: the scan
// ends with ErrClosed or at its end, the update is whole or refused.
func closeWaits(t *testing.T, db kv.DB) {
	const n = 20_000
	if err := round(t.Context(), db, n, 1, nil); err != nil {
		t.Fatal(err)
	}
	scanning, updating := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		seen := 0
		for p, err := range db.Scan(t.Context(), nil, nil) {
			if seen++; seen == 1 {
				close(scanning)
			}
			switch {
			case errors.Is(err, kv.ErrClosed):
			case err != nil:
				t.Errorf("scan: %v", err)
			case binary.BigEndian.Uint64(p.Value) != 1:
				t.Errorf("scan saw update %x", p.Value)
			}
		}
	})
	wg.Go(func() {
		err := db.Update(t.Context(), func(tx kv.Tx) error {
			close(updating)
			for i := range 1000 {
				// As [round] writes them: the scan may begin when they are there.
				if err := tx.Put([]byte(fmt.Sprint("x", i)), binary.BigEndian.AppendUint64(nil, 1)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, kv.ErrClosed) {
			t.Errorf("update: %v", err)
		}
	})
	<-scanning
	<-updating
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	wg.Wait()
}

// trim trims within an update, within a scan and after the end: all reads what was stored.
func trim(t *testing.T, db kv.DB) {
	const n = 5_000
	key := func(i int) string { return fmt.Sprintf("%05d", i) }
	err := db.Update(t.Context(), func(tx kv.Tx) error {
		for i := range n {
			if err := tx.Put([]byte(key(i)), []byte(key(i))); err != nil {
				return err
			}
			if i == n/2 {
				db.Trim()
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for p, err := range db.Scan(t.Context(), nil, nil) {
		if err != nil || string(p.Key) != key(at) {
			t.Fatalf("pair %d is %q, error %v", at, p.Key, err)
		}
		if at%1_000 == 0 {
			db.Trim()
		}
		at++
	}
	if at != n {
		t.Errorf("%d pairs, want %d", at, n)
	}
	want(t, getter(t, db), key(7), key(7))
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	db.Trim()
}
