// Package blobtest is the suite that every implementation of blob.Bucket must
// pass. It is the contract in executed form; it holds no implementation.
package blobtest

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
)

// Run holds a Bucket to its whole contract. open returns a new, empty Bucket each
// time; it may register what cleans it up.
func Run(t *testing.T, open func(t *testing.T) blob.Bucket) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, blob.Bucket)
	}{
		{"what was put is got", roundTrip},
		{"ranges are cut off at the end", ranges},
		{"a missing blob is ErrNotExist", missing},
		{"an illegal name is ErrName", illegalNames},
		{"a body of another size is not stored", wrongSize},
		{"a body that fails is not stored", failingBody},
		{"put replaces the whole blob", replace},
		{"an open reader survives replacing and removing", openReader},
		{"a name below another name is refused or kept apart", nameBelowName},
		{"list is in byte order", listOrder},
		{"list yields every blob of a prefix", listPrefix},
		{"list stops when the caller does", listStops},
		{"list says size and time", listInfo},
		{"list goes on while blobs come and go", listWhileChanging},
		{"remove removes, twice as well as once", remove},
		{"a done context stops every method", cancelled},
		{"a context that ends stops a put half-way", cancelledPut},
		{"readers see all of a blob or none", atomicity},
		{"many writers and readers agree with a map", concurrent},
		{"ten thousand blobs", manyBlobs},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func put(t testing.TB, b blob.Bucket, name blob.Name, body []byte) {
	t.Helper()
	if err := b.Put(t.Context(), name, bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

func get(t testing.TB, b blob.Bucket, name blob.Name) []byte {
	t.Helper()
	return getRange(t, b, name, 0, -1)
}

func getRange(t testing.TB, b blob.Bucket, name blob.Name, off, n int64) []byte {
	t.Helper()
	p, err := readRange(t.Context(), b, name, off, n)
	if err != nil {
		t.Fatalf("get %s %d+%d: %v", name, off, n, err)
	}
	return p
}

func readRange(ctx context.Context, b blob.Bucket, name blob.Name, off, n int64) ([]byte, error) {
	r, err := b.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(r)
	return p, errors.Join(err, r.Close())
}

func list(t testing.TB, b blob.Bucket, prefix blob.Name) []blob.Name {
	t.Helper()
	names := []blob.Name{}
	for info, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list %q: %v", string(prefix), err)
		}
		names = append(names, info.Name)
	}
	return names
}

// absent fails the test unless nothing is stored under name.
func absent(t testing.TB, b blob.Bucket, name blob.Name) {
	t.Helper()
	if _, err := readRange(t.Context(), b, name, 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get %s: got error %v, want fs.ErrNotExist", name, err)
	}
	if slices.Contains(list(t, b, name), name) {
		t.Errorf("list yields %s, which is not there", name)
	}
}

func wantBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes %.40q, want %d bytes %.40q", what, len(got), got, len(want), want)
	}
}

func roundTrip(t *testing.T, b blob.Bucket) {
	if got := list(t, b, ""); len(got) != 0 {
		t.Errorf("a new bucket lists %v", got)
	}
	bodies := map[blob.Name][]byte{
		"empty": {}, "one": {7}, "packs/0f/0f12": pattern(1, 100_000), "a/b/c/d/e/f/g/h": pattern(2, 4096),
		blob.Name(strings.Repeat("n", blob.MaxName)): pattern(3, 10), "big": pattern(4, 5<<20+3),
	}
	for name, body := range bodies {
		put(t, b, name, body)
	}
	for name, body := range bodies {
		wantBytes(t, string(name), get(t, b, name), body)
	}
	if _, err := blob.ReadAll(t.Context(), b, "packs/0f/0f12", 99_999); err == nil {
		t.Error("ReadAll of a blob longer than its limit gave no error")
	}
	p, err := blob.ReadAll(t.Context(), b, "packs/0f/0f12", 100_000)
	if err != nil {
		t.Fatal(err)
	}
	wantBytes(t, "ReadAll", p, bodies["packs/0f/0f12"])
}

// pattern returns n bytes in which each run of some bytes tells its place and k.
func pattern(k byte, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i) ^ byte(i>>8)*31 ^ byte(i>>16)*17 ^ k*101
	}
	return p
}

func ranges(t *testing.T, b blob.Bucket) {
	const size = 1000
	body := pattern(5, size)
	put(t, b, "x", body)
	put(t, b, "none", nil)
	const far = int64(1) << 62
	for _, off := range []int64{0, 1, 499, 998, 999, 1000, 1001, far} {
		for _, n := range []int64{-1, -far, 0, 1, 2, 500, 999, 1000, 1001, far, 1<<63 - 1} {
			from := min(off, size)
			to := int64(size)
			if n >= 0 && n < to-from {
				to = from + n
			}
			wantBytes(t, "range", getRange(t, b, "x", off, n), body[from:to])
			wantBytes(t, "range of an empty blob", getRange(t, b, "none", off, n), nil)
		}
	}
	if r, err := b.Get(t.Context(), "x", -1, 1); err == nil {
		_ = r.Close()
		t.Error("a negative offset gave no error")
	}
	// A reader may be closed before its end, and read in pieces of any size.
	r, err := b.Get(t.Context(), "x", 100, 300)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 7)
	if _, err := io.ReadFull(r, p); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, "first piece", p, body[100:107])
	if err := r.Close(); err != nil {
		t.Errorf("close half-way: %v", err)
	}
}

func missing(t *testing.T, b blob.Bucket) {
	put(t, b, "here/x", []byte("x"))
	for _, name := range []blob.Name{"gone", "here", "here/y", "here/x/y", "no/such/folder"} {
		absent(t, b, name)
		for _, n := range []int64{-1, 0, 1} {
			if _, err := readRange(t.Context(), b, name, 0, n); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("get %d bytes of %s: got error %v, want fs.ErrNotExist", n, name, err)
			}
		}
		if err := b.Remove(t.Context(), name); err != nil {
			t.Errorf("remove %s, which is not there: %v", name, err)
		}
	}
	wantBytes(t, "here/x", get(t, b, "here/x"), []byte("x"))
}

func illegalNames(t *testing.T, b blob.Bucket) {
	put(t, b, "a", []byte("a"))
	for _, name := range []blob.Name{"", ".", "..", "../a", "/a", "a/", "a//a", "A", ".a", "a\x00", "a\\b", "con"} {
		if err := b.Put(t.Context(), name, strings.NewReader("x"), 1); !errors.Is(err, blob.ErrName) {
			t.Errorf("put %q: got error %v, want ErrName", string(name), err)
		}
		if _, err := readRange(t.Context(), b, name, 0, -1); !errors.Is(err, blob.ErrName) {
			t.Errorf("get %q: got error %v, want ErrName", string(name), err)
		}
		if err := b.Remove(t.Context(), "a", name); !errors.Is(err, blob.ErrName) {
			t.Errorf("remove %q: got error %v, want ErrName", string(name), err)
		}
	}
	if diff := cmp.Diff([]blob.Name{"a"}, list(t, b, "")); diff != "" {
		t.Errorf("afterwards the bucket lists (-want +got):\n%s", diff)
	}
}

func listInfo(t *testing.T, b blob.Bucket) {
	before := time.Now().Add(-time.Minute)
	put(t, b, "x", pattern(1, 12345))
	put(t, b, "empty", nil)
	want := map[blob.Name]int64{"x": 12345, "empty": 0}
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Size != want[info.Name] {
			t.Errorf("%s: got size %d, want %d", info.Name, info.Size, want[info.Name])
		}
		if !info.ModTime.IsZero() && (info.ModTime.Before(before) || info.ModTime.After(time.Now().Add(time.Minute))) {
			t.Errorf("%s: got time %v, want about now or zero", info.Name, info.ModTime)
		}
		delete(want, info.Name)
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
}
