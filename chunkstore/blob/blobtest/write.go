package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// tries are the two states in which a failing Put may meet the Bucket.
func tries(t *testing.T, b blob.Bucket, name blob.Name, try func(t *testing.T)) {
	t.Helper()
	try(t)
	absent(t, b, name)
	old := pattern(9, 777)
	put(t, b, name, old)
	try(t)
	wantBytes(t, "the blob that was there before", get(t, b, name), old)
	if diff := cmp.Diff([]blob.Name{name}, list(t, b, name)); diff != "" {
		t.Errorf("afterwards the bucket lists (-want +got):\n%s", diff)
	}
}

func wrongSize(t *testing.T, b blob.Bucket) {
	for _, c := range []struct {
		name       blob.Name
		have, size int64
	}{
		{"short", 999, 1000},
		{"long", 1001, 1000},
		{"none", 0, 1000},
		{"some", 1, 0},
		{"negative", 1, -1},
		{"far-too-short", 10, 1 << 40},
		{"far-too-long", 3 << 20, 10},
	} {
		tries(t, b, c.name, func(t *testing.T) {
			err := b.Put(t.Context(), c.name, bytes.NewReader(make([]byte, c.have)), c.size)
			if !errors.Is(err, blob.ErrSize) {
				t.Errorf("put %d bytes as %d: got error %v, want ErrSize", c.have, c.size, err)
			}
		})
	}
}

func failingBody(t *testing.T, b blob.Bucket) {
	broken := errors.New("broken")
	for _, n := range []int64{0, 1, 100_000, 200_000} {
		tries(t, b, blob.Name("x"+string(rune('a'+n%7))), func(t *testing.T) {
			body := io.MultiReader(bytes.NewReader(make([]byte, n)), iotest.ErrReader(broken))
			if err := b.Put(t.Context(), blob.Name("x"+string(rune('a'+n%7))), body, 200_000); !errors.Is(err, broken) {
				t.Errorf("put with a body that breaks after %d bytes: got error %v, want %v", n, err, broken)
			}
		})
	}
}

func replace(t *testing.T, b blob.Bucket) {
	for i, n := range []int{1000, 10, 0, 5000, 5000} {
		body := pattern(byte(i), n)
		put(t, b, "heads/x", body)
		wantBytes(t, "after a put", get(t, b, "heads/x"), body)
		wantBytes(t, "a range after a put", getRange(t, b, "heads/x", 3, 5), body[min(3, n):min(8, n)])
	}
	if diff := cmp.Diff([]blob.Name{"heads/x"}, list(t, b, "")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	// A put after a remove is a new blob.
	if err := b.Remove(t.Context(), "heads/x"); err != nil {
		t.Fatal(err)
	}
	put(t, b, "heads/x", []byte("again"))
	wantBytes(t, "after remove and put", get(t, b, "heads/x"), []byte("again"))
}

// openReader: a reader that is open when its blob goes away yields the rest of the
// old bytes, or an error. It never yields others, or ends early without a word.
func openReader(t *testing.T, b blob.Bucket) {
	old := pattern(1, 1<<20)
	for name, change := range map[blob.Name]func(name blob.Name) error{
		"replaced": func(n blob.Name) error {
			return b.Put(t.Context(), n, bytes.NewReader(pattern(2, 1<<20)), 1<<20)
		},
		"shorter": func(n blob.Name) error { return b.Put(t.Context(), n, bytes.NewReader(nil), 0) },
		"removed": func(n blob.Name) error { return b.Remove(t.Context(), n) },
	} {
		put(t, b, name, old)
		r, err := b.Get(t.Context(), name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1000)
		if _, err := io.ReadFull(r, first); err != nil {
			t.Fatal(err)
		}
		if err := change(name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rest, err := io.ReadAll(r)
		all := append(first, rest...)
		if err == nil && !bytes.Equal(all, old) || !bytes.HasPrefix(old, all) {
			t.Errorf("%s: got %d bytes that are not the old blob's %d", name, len(all), len(old))
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
	absent(t, b, "removed")
	wantBytes(t, "replaced", get(t, b, "replaced"), pattern(2, 1<<20))
}

func nameBelowName(t *testing.T, b blob.Bucket) {
	put(t, b, "a", []byte("a"))
	put(t, b, "d/e", []byte("e"))
	want := []blob.Name{"a", "d/e"}
	for _, name := range []blob.Name{"a/b", "d"} {
		err := b.Put(t.Context(), name, bytes.NewReader([]byte("x")), 1)
		switch {
		case err == nil:
			wantBytes(t, string(name), get(t, b, name), []byte("x"))
			if err := b.Remove(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		case !errors.Is(err, blob.ErrName):
			t.Errorf("put %s: got error %v, want nil or ErrName", name, err)
		}
		absent(t, b, name)
		if diff := cmp.Diff(want, list(t, b, "")); diff != "" {
			t.Errorf("after %s the bucket lists (-want +got):\n%s", name, diff)
		}
	}
	wantBytes(t, "a", get(t, b, "a"), []byte("a"))
	wantBytes(t, "d/e", get(t, b, "d/e"), []byte("e"))
	// What was a folder may be a blob once it is empty, or be refused still.
	if err := b.Remove(t.Context(), "d/e"); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "d", bytes.NewReader([]byte("d")), 1); err != nil && !errors.Is(err, blob.ErrName) {
		t.Errorf("put d: got error %v, want nil or ErrName", err)
	}
}

func remove(t *testing.T, b blob.Bucket) {
	for _, name := range []blob.Name{"a", "b", "c/d", "c/e", "f"} {
		put(t, b, name, []byte(name))
	}
	if err := b.Remove(t.Context()); err != nil {
		t.Errorf("remove nothing: %v", err)
	}
	for range 2 {
		if err := b.Remove(t.Context(), "a", "c/d", "gone", "no/such", "a"); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if diff := cmp.Diff([]blob.Name{"b", "c/e", "f"}, list(t, b, "")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	absent(t, b, "a")
	absent(t, b, "c/d")
	if err := b.Remove(t.Context(), "b", "c/e", "f"); err != nil {
		t.Fatal(err)
	}
	if got := list(t, b, ""); len(got) != 0 {
		t.Errorf("after all are removed: got %v", got)
	}
}

func cancelled(t *testing.T, b blob.Bucket) {
	put(t, b, "x", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got error %v, want context.Canceled", what, err)
		}
	}
	check("put", b.Put(ctx, "y", bytes.NewReader([]byte("y")), 1))
	check("put an empty blob", b.Put(ctx, "z", bytes.NewReader(nil), 0))
	_, err := readRange(ctx, b, "x", 0, -1)
	check("get", err)
	check("remove", b.Remove(ctx, "x"))
	for _, prefix := range []blob.Name{"", "x", "nothing"} {
		var last error
		for info, err := range b.List(ctx, prefix) {
			if err == nil {
				t.Errorf("list %q yields %v", string(prefix), info)
			}
			last = err
		}
		check("list", last)
	}
	absent(t, b, "y")
	absent(t, b, "z")
	wantBytes(t, "x", get(t, b, "x"), []byte("x"))
}

// cancelling is a body that ends its own context after some bytes.
type cancelling struct {
	after  int
	cancel context.CancelFunc
}

func (c *cancelling) Read(p []byte) (int, error) {
	if c.after <= 0 {
		c.cancel()
	}
	n := min(len(p), 1000)
	c.after -= n
	return n, nil
}

func cancelledPut(t *testing.T, b blob.Bucket) {
	tries(t, b, "x", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := b.Put(ctx, "x", &cancelling{100_000, cancel}, 1<<40)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want context.Canceled", err)
		}
	})
	// A listing that is under way ends with the context's error.
	put(t, b, "y", []byte("y"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range b.List(ctx, "") {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("list: got error %v, want context.Canceled", last)
	}
	if _, err := readRange(t.Context(), b, "no", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("afterwards: got error %v, want fs.ErrNotExist", err)
	}
}
