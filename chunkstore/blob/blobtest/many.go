package blobtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// awkward names are those for which a walk of folders and the byte order differ:
// '-' and '.' sort before '/', digits, letters and '_' after it.
var awkward = []blob.Name{
	"a-b", "a.b", "a/b", "a/b-", "a/b-c/d", "a/b.c", "a/b0", "a/bb/c", "a/bb-", "a0", "a_", "aa", "aa-/a", "b-/x", "b.x/y", "b/x", "b0/x", "b_/x", "z",
}

func listOrder(t *testing.T, b blob.Bucket) {
	r := testkit.Rand(testkit.Seed(t))
	names := slices.Clone(awkward)
	for range 500 { // three-element names, so that none is below another
		const letters = "-._09az"
		elem := func() string {
			s := []byte{"09az-_"[r.IntN(6)]}
			for range r.IntN(3) {
				s = append(s, letters[r.IntN(len(letters))])
			}
			return strings.TrimRight(string(s), ".")
		}
		names = append(names, blob.Name("r/"+elem()+"/"+elem()+"/"+elem()))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, i := range r.Perm(len(names)) {
		put(t, b, names[i], []byte(names[i]))
	}
	if diff := cmp.Diff(names, list(t, b, "")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	prefixes := []blob.Name{"a", "a-", "a/", "a/b", "a/b-", "a/bb/", "b", "r/", "r/0", "r/-", "r/a/", "r/a/z", "zz", "A", "/", ".", "a//", "\xff"}
	for range 100 {
		n := names[r.IntN(len(names))]
		prefixes = append(prefixes, n[:r.IntN(len(n)+1)])
	}
	for _, prefix := range prefixes {
		want := []blob.Name{}
		for _, n := range names {
			if strings.HasPrefix(string(n), string(prefix)) {
				want = append(want, n)
			}
		}
		if diff := cmp.Diff(want, list(t, b, prefix)); diff != "" {
			t.Errorf("list %q (-want +got):\n%s", string(prefix), diff)
		}
	}
}

func listPrefix(t *testing.T, b blob.Bucket) {
	for _, n := range []blob.Name{"packs/aa/1", "packs/aa/2", "packs/ab/3", "packs-old/4", "pack", "heads/x/1"} {
		put(t, b, n, nil)
	}
	for prefix, want := range map[blob.Name][]blob.Name{
		"packs/":        {"packs/aa/1", "packs/aa/2", "packs/ab/3"},
		"packs":         {"packs-old/4", "packs/aa/1", "packs/aa/2", "packs/ab/3"},
		"packs/a":       {"packs/aa/1", "packs/aa/2", "packs/ab/3"},
		"packs/aa":      {"packs/aa/1", "packs/aa/2"},
		"packs/aa/":     {"packs/aa/1", "packs/aa/2"},
		"packs/aa/1":    {"packs/aa/1"},
		"packs/aa/1/":   {},
		"packs/aa/10":   {},
		"packs/ac":      {},
		"heads/x/1":     {"heads/x/1"},
		"heads/y/":      {},
		"heads/x/1/2/3": {},
	} {
		if diff := cmp.Diff(want, list(t, b, prefix)); diff != "" {
			t.Errorf("list %q (-want +got):\n%s", string(prefix), diff)
		}
	}
}

func listStops(t *testing.T, b blob.Bucket) {
	for i := range 10 {
		put(t, b, blob.Name(fmt.Sprintf("x%d/y", i)), nil)
	}
	seq := b.List(t.Context(), "")
	for range 2 { // and the sequence can be walked again
		n := 0
		for _, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 3 {
				break
			}
		}
	}
	// The caller may use the Bucket inside the loop.
	for info, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Remove(t.Context(), info.Name); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(t, b, ""); len(got) != 0 {
		t.Errorf("after all that was listed is removed: got %v", got)
	}
}

// listWhileChanging: what is there all the time is yielded once, in order, whatever
// else comes and goes.
func listWhileChanging(t *testing.T, b blob.Bucket) {
	want := []blob.Name{}
	for i := range 200 {
		n := blob.Name(fmt.Sprintf("s/%02d/still%03d", i%7, i))
		put(t, b, n, nil)
		want = append(want, n)
	}
	slices.Sort(want)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				n := blob.Name(fmt.Sprintf("s/%02d/moving%d-%03d", i%9, w, i%50))
				if err := b.Put(t.Context(), n, strings.NewReader("x"), 1); err != nil {
					t.Errorf("put: %v", err)
					return
				}
				if err := b.Remove(t.Context(), n); err != nil {
					t.Errorf("remove: %v", err)
					return
				}
			}
		})
	}
	for range 10 {
		got := []blob.Name{}
		last := blob.Name("")
		for info, err := range b.List(t.Context(), "") {
			if err != nil {
				t.Errorf("list: %v", err)
				break
			}
			if info.Name <= last {
				t.Errorf("%s is yielded after %s", info.Name, last)
			}
			last = info.Name
			if strings.Contains(string(info.Name), "still") {
				got = append(got, info.Name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
			break
		}
	}
	cancel()
	wg.Wait()
}

// atomicity: while a blob is replaced over and over, by puts that succeed and puts that
// fail, every read gives one whole version, and no reader goes back in time.
func atomicity(t *testing.T, b blob.Bucket) {
	const rounds, size = 150, 64 << 10
	version := func(v uint64) []byte {
		return bytes.Repeat(binary.BigEndian.AppendUint64(nil, v), size/8)
	}
	put(t, b, "x", version(0))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			last := uint64(0)
			for ctx.Err() == nil {
				p, err := readRange(t.Context(), b, "x", 0, -1)
				if err != nil || len(p) != size {
					t.Errorf("got %d bytes and error %v", len(p), err)
					return
				}
				v := binary.BigEndian.Uint64(p)
				if !bytes.Equal(p, version(v)) || v < last || v >= 1<<32 {
					t.Errorf("got a mixture, an old or a failed version: %d after %d", v, last)
					return
				}
				last = v
			}
		})
	}
	for v := uint64(1); v <= rounds; v++ {
		put(t, b, "x", version(v))
		if err := b.Put(t.Context(), "x", bytes.NewReader(version(1<<32)), size+1); !errors.Is(err, blob.ErrSize) {
			t.Errorf("put of a short body: got error %v, want ErrSize", err)
		}
		if got := getRange(t, b, "x", size-8, 8); binary.BigEndian.Uint64(got) != v {
			t.Errorf("after put %d the end of the blob is of version %d", v, binary.BigEndian.Uint64(got))
		}
	}
	cancel()
	wg.Wait()
}

// concurrent: each worker owns some names and knows what they hold.
func concurrent(t *testing.T, b blob.Bucket) {
	seed := testkit.Seed(t)
	const workers, steps = 8, 150
	final := make([]map[blob.Name][]byte, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := testkit.Rand(seed + int64(w))
			have := map[blob.Name][]byte{}
			for range steps {
				name := blob.Name(fmt.Sprintf("c/%d/w%d-%d", r.IntN(3), w, r.IntN(10)))
				switch r.IntN(4) {
				case 0, 1:
					body := testkit.Random(r, r.IntN(5000))
					if err := b.Put(t.Context(), name, bytes.NewReader(body), int64(len(body))); err != nil {
						t.Errorf("put: %v", err)
						return
					}
					have[name] = body
				case 2:
					if err := b.Remove(t.Context(), name); err != nil {
						t.Errorf("remove: %v", err)
						return
					}
					delete(have, name)
				case 3:
					got, err := readRange(t.Context(), b, name, 0, -1)
					want, ok := have[name]
					if ok && (err != nil || !bytes.Equal(got, want)) || !ok && !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("get %s: got %d bytes and error %v, want %d bytes (there: %v)", name, len(got), err, len(want), ok)
						return
					}
				}
			}
			final[w] = have
		})
	}
	wg.Wait()
	want := map[blob.Name][]byte{}
	for _, have := range final {
		maps.Copy(want, have)
	}
	if diff := cmp.Diff(append([]blob.Name{}, slices.Sorted(maps.Keys(want))...), list(t, b, "")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	for name, body := range want {
		wantBytes(t, string(name), get(t, b, name), body)
	}
}

func manyBlobs(t *testing.T, b blob.Bucket) {
	if testing.Short() {
		t.Skip("ten thousand durable puts take their time")
	}
	const n = 10_000
	want := make([]blob.Name, n)
	var wg sync.WaitGroup
	next := make(chan int)
	for i := range want {
		want[i] = blob.Name(fmt.Sprintf("packs/%02x/%05d", i%64, i))
	}
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if err := b.Put(t.Context(), want[i], strings.NewReader(string(want[i])), int64(len(want[i]))); err != nil {
					t.Errorf("put: %v", err)
				}
			}
		})
	}
	for i := range want {
		next <- i
	}
	close(next)
	wg.Wait()
	for i := 0; i < n; i += 7 {
		wantBytes(t, "one of many", get(t, b, want[i]), []byte(want[i]))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, list(t, b, "")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if err := b.Remove(t.Context(), want...); err != nil {
		t.Fatal(err)
	}
	if got := list(t, b, ""); len(got) != 0 {
		t.Errorf("after all are removed: got %d", len(got))
	}
}
