package provider_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

func init() { servers["weed"] = remotetest.SeaweedFS }

// TestBucket_InParts: what is put in parts, by the rules that S3 has for those, is one blob, and none if it is not whole.
func TestBucket_InParts(t *testing.T) {
	for _, name := range []string{"s3", "weed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, place := servers[name](t)
			place.Options["upload_cutoff"], place.Options["chunk_size"] = "5Mi", "5Mi"
			b := open(t, place, true)
			body := testkit.Random(testkit.Rand(testkit.Seed(t)), 40<<20) // more than is kept in memory
			for _, size := range []int{5<<20 + 1, 17 << 20, len(body)} {
				if err := put(t.Context(), b, "x", body[:size]); err != nil {
					t.Fatalf("put %d bytes: %v", size, err)
				}
				if got, err := get(t.Context(), b, "x", 0, -1); err != nil || !bytes.Equal(got, body[:size]) {
					t.Errorf("got %d bytes and error %v, want %d", len(got), err, size)
				}
				const off, n = 5<<20 - 10, 20 // over the end of a part
				if got, err := get(t.Context(), b, "x", off, n); err != nil || !bytes.Equal(got, body[off:min(off+n, size)]) {
					t.Errorf("got %d bytes from the middle and error %v", len(got), err)
				}
			}
			broken := io.MultiReader(bytes.NewReader(body[:35<<20]), iotest.ErrReader(io.ErrNoProgress))
			if err := b.Put(t.Context(), "y", broken, int64(len(body))); !errors.Is(err, io.ErrNoProgress) {
				t.Errorf("put of a body that fails: got error %v", err)
			}
			if all, err := listed(t.Context(), b); err != nil || len(all) != 1 || all["x"] != int64(len(body)) {
				t.Errorf("list: got %v and error %v", all, err)
			}
		})
	}
}
