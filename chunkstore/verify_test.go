package chunkstore

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// spoil replaces the blob by what fn makes of it.
func spoil(t testing.TB, b blob.Bucket, name blob.Name, fn func([]byte) []byte) {
	t.Helper()
	body, err := blob.ReadAll(t.Context(), b, name, pack.Size)
	if err != nil {
		t.Fatal(err)
	}
	body = fn(body)
	if err := b.Put(t.Context(), name, bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
}

func TestVerify_NamesWhatIsWrong(t *testing.T) {
	flip := func(at func(n int) int) func([]byte) []byte {
		return func(b []byte) []byte { b[at(len(b))] ^= 0x10; return b }
	}
	for name, c := range map[string]struct {
		harm func(t *testing.T, b *mem.Bucket, packName blob.Name)
		err  error
		text string
	}{
		"a bit of a chunk": {func(t *testing.T, b *mem.Bucket, n blob.Name) {
			spoil(t, b, n, flip(func(int) int { return 500 }))
		}, ErrCorrupt, "tampered"},
		"a bit of the padding": {func(t *testing.T, b *mem.Bucket, n blob.Name) {
			spoil(t, b, n, flip(func(n int) int { return n / 2 }))
		}, ErrCorrupt, "hash"},
		"a bit of the footer": {func(t *testing.T, b *mem.Bucket, n blob.Name) {
			spoil(t, b, n, flip(func(n int) int { return n - 1 }))
		}, ErrCorrupt, "directory"},
		"a cut": {func(t *testing.T, b *mem.Bucket, n blob.Name) {
			spoil(t, b, n, func(b []byte) []byte { return b[:1000] })
		}, ErrCorrupt, "hash"},
		"a pack that grew beyond all bounds": {func(t *testing.T, b *mem.Bucket, n blob.Name) {
			spoil(t, b, n, func(b []byte) []byte { return make([]byte, pack.Size+1) })
		}, ErrCorrupt, "larger"},
		"a pack that is gone": {func(t *testing.T, b *mem.Bucket, n blob.Name) {
			if err := b.Remove(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}, ErrMissing, "2 chunks"},
		"a stranger among the packs": {func(t *testing.T, b *mem.Bucket, _ blob.Name) {
			if err := b.Put(t.Context(), "packs/zz/stranger", strings.NewReader("x"), 1); err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt, "not the name"},
		"a stranger among the index blobs": {func(t *testing.T, b *mem.Bucket, _ blob.Name) {
			if err := b.Put(t.Context(), "index/stranger", strings.NewReader("x"), 1); err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt, "not an index blob"},
		"a damaged index blob": {func(t *testing.T, b *mem.Bucket, _ blob.Name) {
			for info, err := range b.List(t.Context(), "index/") {
				if err != nil {
					t.Fatal(err)
				}
				spoil(t, b, info.Name, flip(func(n int) int { return n / 2 }))
			}
		}, ErrCorrupt, "index blob"},
		"a pack under another's name": {func(t *testing.T, b *mem.Bucket, n blob.Name) {
			all := packNames(t, b)
			body, err := blob.ReadAll(t.Context(), b, all[0].Name, pack.Size)
			if err != nil {
				t.Fatal(err)
			}
			spoil(t, b, all[1].Name, func([]byte) []byte { return body })
		}, ErrCorrupt, "hash"},
	} {
		t.Run(name, func(t *testing.T) {
			bucket := mem.New()
			s := openStore(t, bucket, newCrashKV())
			for i := range 2 {
				put(t, s, text(10*i, 2000))
				put(t, s, text(10*i+1, 400_000))
				flush(t, s)
			}
			if err := s.WriteIndex(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantSound(t, s)
			c.harm(t, bucket, packNames(t, bucket)[0].Name)
			found := findings(t, s)
			ok := false
			for _, f := range found {
				ok = ok || errors.Is(f.Err, c.err) && strings.Contains(f.String(), c.text)
			}
			if !ok {
				t.Fatalf("got %v, want one that wraps %v and says %q", found, c.err, c.text)
			}
		})
	}
}

func TestVerify_FindsAPackThatTheIndexLacks(t *testing.T) {
	bucket := mem.New()
	s := openStore(t, bucket, newCrashKV())
	other := openStore(t, bucket, newCrashKV())
	put(t, other, text(1, 100))
	flush(t, other)
	if f := findings(t, s); len(f) != 1 || !strings.Contains(f[0].String(), "does not know") {
		t.Fatalf("got %v", f)
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSound(t, s)
}

func TestVerify_TellsProgressAndStopsWhenTold(t *testing.T) {
	bucket := mem.New()
	s := openStore(t, bucket, newCrashKV())
	for i := range 5 {
		put(t, s, text(i, 100))
		flush(t, s)
	}
	var last, total int64
	for f, err := range s.Verify(t.Context(), func(d, n int64) { last, total = max(last, d), n }) {
		t.Errorf("got %v, %v", f, err)
	}
	if last != total || total < 5*pack.MinSize {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	for _, info := range packNames(t, bucket) {
		spoil(t, bucket, info.Name, func(b []byte) []byte { return b[:8] })
	}
	n := 0
	for range s.Verify(t.Context(), nil) {
		n++
		break
	}
	if n != 1 {
		t.Errorf("got %d findings", n)
	}
	if err := s.Refresh(t.Context()); err != nil { // the lock is free again
		t.Error(err)
	}
}

// X6: index blobs are a help and nothing more. Whatever is done to them, the packs suffice.
func TestStore_DamagedIndexBlobsAreNoLoss(t *testing.T) {
	bucket := mem.New()
	s := openStore(t, bucket, newCrashKV())
	plain := map[chunk.Ref][]byte{}
	for i := range learnFromIndex + 2 {
		p := text(i, 300)
		plain[put(t, s, p)] = p
		flush(t, s)
	}
	if err := s.WriteIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []blob.Name
	for info, err := range bucket.List(t.Context(), "index/") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	check := func(t *testing.T, b *mem.Bucket) {
		t.Helper()
		fresh := openStore(t, b, newCrashKV())
		for ref, p := range plain {
			wantChunk(t, fresh, ref, p)
		}
	}
	t.Run("sound, no directory is read", func(t *testing.T) {
		b := &hookBucket{Bucket: bucket.Clone(), get: func(n blob.Name, _, _ int64) {
			if strings.HasPrefix(string(n), pack.Prefix) {
				t.Errorf("%s is read", n)
			}
		}}
		openStore(t, b, newCrashKV())
	})
	for _, name := range names {
		t.Run("damaged "+string(name), func(t *testing.T) {
			b := bucket.Clone()
			spoil(t, b, name, func(p []byte) []byte { p[len(p)/3] ^= 1; return p })
			check(t, b)
		})
		t.Run("missing "+string(name), func(t *testing.T) {
			b := bucket.Clone()
			if err := b.Remove(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			check(t, b)
		})
	}
}

// K15 in small: whichever bit of a pack is flipped, the chunks come out right or not at all.
func TestStore_FlippedBitsAreNeverServed(t *testing.T) {
	rnd := testRand(t)
	bucket := mem.New()
	s := openStore(t, bucket, newCrashKV())
	plain := map[chunk.Ref][]byte{}
	for _, n := range []int{0, 700, seal.SegmentSize + 50} {
		p := randomBytes(rnd, n)
		plain[put(t, s, p)] = p
	}
	flush(t, s)
	name := packNames(t, bucket)[0].Name
	tampered := 0
	for range 400 {
		b := bucket.Clone()
		spoil(t, b, name, func(p []byte) []byte {
			bit := rnd.IntN(8 * (seal.SegmentSize + 2000))
			p[bit/8] ^= 1 << (bit % 8)
			return p
		})
		s.bucket, s.cache, s.layouts = b, newSegmentCache(0), newLayoutCache()
		for ref, want := range plain {
			got, err := s.Get(t.Context(), nil, ref)
			if err == nil && !bytes.Equal(got, want) {
				t.Fatalf("get %v: other bytes", ref)
			}
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("get %v: %v", ref, err)
			}
			if err != nil {
				tampered++
			}
			part := make([]byte, len(want))
			n, err := s.ReadAt(t.Context(), ref, part, 0)
			//nolint:errorlint // ReadAt promises io.EOF itself, as io.ReaderAt does
			if (err == nil || errors.Is(err, io.EOF)) && !bytes.Equal(part[:n], want) || err != nil && err != io.EOF && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("read %v: %v, or other bytes", ref, err)
			}
		}
	}
	if tampered < 300 {
		t.Errorf("only %d flips were noticed", tampered)
	}
}
