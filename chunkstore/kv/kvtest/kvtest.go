// Package kvtest is the suite that every implementation of kv.DB must pass. It is
// the contract in executed form; it holds no implementation.
package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// Run holds a DB to its whole contract. open returns a new, empty DB each time; Run
// closes it.
func Run(t *testing.T, open func(t *testing.T) kv.DB) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, kv.DB)
	}{
		{"what was put is got", putGet},
		{"illegal sizes are ErrSize", sizes},
		{"slices belong to the caller", ownership},
		{"scan yields a range in order", scanRange},
		{"scan stops when the caller does", scanStops},
		{"scan sees one moment", scanSnapshot},
		{"an update sees its own writes", ownWrites},
		{"an update that fails writes nothing", failedUpdate},
		{"an update that panics writes nothing", panickedUpdate},
		{"an update runs once, alone", updatesInTurn},
		{"a transaction that is over is refused", txOver},
		{"a done context stops every method", cancelled},
		{"random updates agree with a map", model},
		{"readers see all of an update or none", atomicity},
		{"an update of 200,000 writes is one", bigUpdate},
		{"a big update that fails writes nothing", bigFailedUpdate},
		{"trim changes nothing", trim},
		{"a closed database is ErrClosed", closed},
		{"close waits for what is under way", closeWaits},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := open(t)
			defer func() {
				if err := db.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			c.test(t, db)
		})
	}
}

func put(t testing.TB, db kv.DB, pairs ...string) {
	t.Helper()
	err := db.Update(t.Context(), func(tx kv.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("update: %v", err)
	}
}

// want holds one key to a value; "-" means that it is not there.
func want(t testing.TB, get func(key []byte) ([]byte, error), key, value string) {
	t.Helper()
	got, err := get([]byte(key))
	if value == "-" {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("get %q: got %q and error %v, want fs.ErrNotExist", key, got, err)
		}
		return
	}
	if err != nil || string(got) != value {
		t.Errorf("get %q: got %.50q and error %v, want %.50q", key, got, err, value)
	}
}

func getter(t testing.TB, db kv.DB) func([]byte) ([]byte, error) {
	return func(key []byte) ([]byte, error) { return db.Get(t.Context(), key) }
}

// scan returns the pairs as key, value, key, value.
func scan(t testing.TB, db kv.DB, from, to []byte) []string {
	t.Helper()
	all := []string{}
	for p, err := range db.Scan(t.Context(), from, to) {
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		all = append(all, string(p.Key), string(p.Value))
	}
	return all
}

func wantScan(t testing.TB, db kv.DB, pairs ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, pairs...), scan(t, db, nil, nil)); diff != "" {
		t.Errorf("scan (-want +got):\n%s", diff)
	}
}

func putGet(t *testing.T, db kv.DB) {
	get := getter(t, db)
	wantScan(t, db)
	want(t, get, "k", "-")
	long := string(bytes.Repeat([]byte{0xff}, kv.MaxKey))
	big := string(bytes.Repeat([]byte("0123456789abcdef"), kv.MaxValue/16))
	put(t, db, "k", "v", "empty", "", "\x00", "zero", "\xff", "last", long, "long", "big", big)
	want(t, get, "k", "v")
	want(t, get, "empty", "")
	want(t, get, "\x00", "zero")
	want(t, get, "\xff", "last")
	want(t, get, long, "long")
	want(t, get, "big", big)
	want(t, get, "K", "-")
	want(t, get, "k\x00", "-")
	put(t, db, "k", "w", "big", "small")
	want(t, get, "k", "w")
	want(t, get, "big", "small")
	if err := db.Sync(t.Context()); err != nil {
		t.Errorf("sync: %v", err)
	}
	wantScan(t, db, "\x00", "zero", "big", "small", "empty", "", "k", "w", "\xff", "last", long, "long")
}

func sizes(t *testing.T, db kv.DB) {
	bad := [][]byte{nil, {}, make([]byte, kv.MaxKey+1)}
	for _, key := range bad {
		if _, err := db.Get(t.Context(), key); !errors.Is(err, kv.ErrSize) {
			t.Errorf("get a key of %d bytes: got error %v, want ErrSize", len(key), err)
		}
		err := db.Update(t.Context(), func(tx kv.Tx) error {
			if _, err := tx.Get(key); !errors.Is(err, kv.ErrSize) {
				t.Errorf("get a key of %d bytes in an update: got error %v, want ErrSize", len(key), err)
			}
			if err := tx.Delete(key); !errors.Is(err, kv.ErrSize) {
				t.Errorf("delete a key of %d bytes: got error %v, want ErrSize", len(key), err)
			}
			return tx.Put(key, nil)
		})
		if !errors.Is(err, kv.ErrSize) {
			t.Errorf("put a key of %d bytes: got error %v, want ErrSize", len(key), err)
		}
	}
	err := db.Update(t.Context(), func(tx kv.Tx) error { return tx.Put([]byte("k"), make([]byte, kv.MaxValue+1)) })
	if !errors.Is(err, kv.ErrSize) {
		t.Errorf("put a value that is too long: got error %v, want ErrSize", err)
	}
	wantScan(t, db)
}

func ownership(t *testing.T, db kv.DB) {
	key, value := []byte("key"), []byte("value")
	err := db.Update(t.Context(), func(tx kv.Tx) error {
		if err := tx.Put(key, value); err != nil {
			return err
		}
		copy(key, "KEY")
		copy(value, "VALUE")
		got, err := tx.Get([]byte("key"))
		if err != nil {
			return err
		}
		clear(got)
		want(t, tx.Get, "key", "value")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantScan(t, db, "key", "value")
	got, err := db.Get(t.Context(), []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got, "more"...)
	clear(got)
	var pairs []kv.Pair
	put(t, db, "other", "thing")
	for p, err := range db.Scan(t.Context(), nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, p)
	}
	if string(pairs[0].Key)+string(pairs[0].Value)+string(pairs[1].Key)+string(pairs[1].Value) != "keyvalueotherthing" {
		t.Errorf("pairs that were kept have changed: %q", pairs)
	}
	for _, p := range pairs {
		clear(p.Key)
		clear(p.Value)
	}
	wantScan(t, db, "key", "value", "other", "thing")
}

func scanRange(t *testing.T, db kv.DB) {
	put(t, db, "b", "2", "a", "1", "c", "3", "bb", "22", "b\x00", "20", "\x00", "0", "\xff\xff", "9")
	all := []string{"\x00", "a", "b", "b\x00", "bb", "c", "\xff\xff"}
	bounds := []string{"", "\x00", "\x00\x00", "a", "a\xff", "b", "b\x00", "b\x01", "bb", "c", "d", "\xff", "\xff\xff", "\xff\xff\x00"}
	for _, from := range bounds {
		for _, to := range append(bounds, "nil") {
			upper := []byte(to)
			if to == "nil" {
				upper = nil
			}
			expect := []string{}
			for _, k := range all {
				if k >= from && (upper == nil || k < to) {
					expect = append(expect, k)
				}
			}
			got := []string{}
			for p, err := range db.Scan(t.Context(), []byte(from), upper) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(p.Key))
			}
			if diff := cmp.Diff(expect, got); diff != "" {
				t.Errorf("scan from %q to %q (-want +got):\n%s", from, to, diff)
			}
		}
	}
}

func scanStops(t *testing.T, db kv.DB) {
	put(t, db, "a", "1", "b", "2", "c", "3", "d", "4")
	seq := db.Scan(t.Context(), nil, nil)
	for range 2 { // the sequence can be walked again
		n := 0
		for _, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 2 {
				break
			}
		}
	}
	// The caller may read and write inside the loop.
	for p, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		want(t, getter(t, db), string(p.Key), string(p.Value))
		put(t, db, string(p.Key)+"x", "new", string(p.Key), "changed")
	}
	if n := len(scan(t, db, nil, nil)) / 2; n != 8 {
		t.Errorf("got %d pairs, want 8", n)
	}
}

func scanSnapshot(t *testing.T, db kv.DB) {
	var pairs []string
	for i := range 1000 {
		pairs = append(pairs, fmt.Sprintf("k%04d", i), "old")
	}
	put(t, db, pairs...)
	n := 0
	for p, err := range db.Scan(t.Context(), nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if string(p.Key) != pairs[2*n] || string(p.Value) != "old" {
			t.Fatalf("pair %d: got %q=%q, want %q=%q", n, p.Key, p.Value, pairs[2*n], "old")
		}
		if n++; n%100 == 1 { // change all, take some away, put some in between
			err := db.Update(t.Context(), func(tx kv.Tx) error {
				for i := range 1000 {
					key := []byte(fmt.Sprintf("k%04d", i))
					var err error
					if i%3 == 0 {
						err = tx.Delete(key)
					} else {
						err = errors.Join(tx.Put(key, []byte("new")), tx.Put(append(key, 'x'), []byte("more")))
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if n != 1000 {
		t.Errorf("got %d pairs, want 1000", n)
	}
}

func cancelled(t *testing.T, db kv.DB) {
	put(t, db, "a", "1", "b", "2", "c", "3")
	ctx, cancel := context.WithCancel(t.Context())
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got error %v, want context.Canceled", what, err)
		}
	}
	var last error
	n := 0
	for p, err := range db.Scan(ctx, nil, nil) {
		cancel()
		n++
		last = err
		if err != nil && (p.Key != nil || p.Value != nil) {
			t.Errorf("an error comes with the pair %q", p)
		}
	}
	check("scan half-way", last)
	if n != 2 {
		t.Errorf("a scan whose context ended at the first pair went round %d times, want 2", n)
	}
	_, err := db.Get(ctx, []byte("a"))
	check("get", err)
	check("sync", db.Sync(ctx))
	check("update", db.Update(ctx, func(kv.Tx) error {
		t.Error("the update was run")
		return nil
	}))
	for _, err := range db.Scan(ctx, []byte("x"), nil) {
		last = err
	}
	check("scan", last)
	// An update whose context ends within it writes nothing.
	ctx, cancel = context.WithCancel(t.Context())
	check("update half-way", db.Update(ctx, func(tx kv.Tx) error {
		cancel()
		return tx.Put([]byte("a"), []byte("no"))
	}))
	// One that waits for its turn gives up.
	ctx, cancel = context.WithCancel(t.Context())
	err = db.Update(t.Context(), func(kv.Tx) error {
		done := make(chan error)
		go func() { done <- db.Update(ctx, func(kv.Tx) error { return nil }) }()
		cancel()
		check("update in the queue", <-done)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantScan(t, db, "a", "1", "b", "2", "c", "3")
}
