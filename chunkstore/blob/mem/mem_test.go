package mem_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

func TestBucket(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Bucket { return mem.New() })
}

func TestBucket_ZeroValueIsEmpty(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Bucket { return new(mem.Bucket) })
}

func TestClone_IsOfItsOwn(t *testing.T) {
	ctx := t.Context()
	a := mem.New()
	put(t, a, "x", "old")
	put(t, a, "gone", "y")
	b := a.Clone()
	put(t, a, "x", "new")
	put(t, b, "only-b", "z")
	if err := a.Remove(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		b    blob.Bucket
		want string
	}{{a, "x=new "}, {b, "gone=y only-b=z x=old "}} {
		if got := dump(ctx, t, c.b); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func put(t *testing.T, b blob.Bucket, name blob.Name, body string) {
	t.Helper()
	if err := b.Put(t.Context(), name, strings.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
}

func dump(ctx context.Context, t *testing.T, b blob.Bucket) string {
	t.Helper()
	var s strings.Builder
	for info, err := range b.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		p, err := blob.ReadAll(ctx, b, info.Name, 100)
		if err != nil {
			t.Fatal(err)
		}
		s.WriteString(string(info.Name) + "=" + string(p) + " ")
	}
	return s.String()
}
