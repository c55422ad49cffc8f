package peer

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

func put(t testing.TB, b blob.Bucket, name blob.Name, body []byte) {
	t.Helper()
	if err := b.Put(t.Context(), name, bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

func tryGet(t testing.TB, b blob.Bucket, name blob.Name, off, n int64) ([]byte, error) {
	t.Helper()
	r, err := b.Get(t.Context(), name, off, n)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(r)
	return p, errors.Join(err, r.Close())
}

func get(t testing.TB, b blob.Bucket, name blob.Name, off, n int64) []byte {
	t.Helper()
	p, err := tryGet(t, b, name, off, n)
	if err != nil {
		t.Fatalf("get %s %d+%d: %v", name, off, n, err)
	}
	return p
}

// newPack returns a pack of n bytes, which say nothing.
func newPack(rnd *rand.Rand, n int) (blob.Name, []byte) {
	body := testkit.Random(rnd, n)
	return catalog.PackName(blake3.Sum256(body)), body
}
