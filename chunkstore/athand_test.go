package chunkstore

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// awayBucket has its packs at a place that may not be reached for a while.
type awayBucket struct {
	*mem.Bucket
	away atomic.Bool
	gets atomic.Int64
}

func (b *awayBucket) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if strings.HasPrefix(string(name), pack.Prefix) {
		b.gets.Add(1)
		if b.away.Load() {
			return nil, blob.ErrTemporary
		}
	}
	return b.Bucket.Get(ctx, name, off, n)
}

func never(pack.Name) bool { return false }

// What is kept at hand is read while its place is away, also by another process and of all sizes; what is not kept any more, is not.
func TestAtHand_IsReadWhileThePlaceIsAway(t *testing.T) {
	b, db := &awayBucket{Bucket: mem.New()}, newCrashKV()
	s := openStore(t, b, db)
	plain := map[chunk.Ref][]byte{}
	var ids []chunk.ID
	for i, n := range []int{0, 100, seal.SegmentSize, 3 * seal.SegmentSize} {
		p := randomBytes(testRand(t), n+i)
		ref := put(t, s, p)
		plain[ref], ids = p, append(ids, ref.ID)
	}
	other := put(t, s, text(1, 5000))
	flush(t, s)
	if err := s.KeepAtHand(t.Context(), never, ids...); err != nil {
		t.Fatal(err)
	}
	before := b.gets.Load()
	if err := s.KeepAtHand(t.Context(), never, ids...); err != nil {
		t.Fatal(err)
	}
	if n := b.gets.Load() - before; n > 0 {
		t.Errorf("to keep what is kept, packs were read %d times", n)
	}
	b.away.Store(true)
	s = openStore(t, b, db)
	for ref, p := range plain {
		wantChunk(t, s, ref, p)
	}
	if _, err := s.Get(t.Context(), nil, other); !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("what is not kept: got %v", err)
	}
	if err := s.KeepAtHand(t.Context(), never, ids[1]); err != nil { // needs nothing that is away
		t.Fatal(err)
	}
	s = openStore(t, b, db)
	for ref, p := range plain {
		switch _, err := s.Get(t.Context(), nil, ref); {
		case ref.ID == ids[1]:
			wantChunk(t, s, ref, p)
		case !errors.Is(err, blob.ErrTemporary):
			t.Errorf("what is not kept any more: got %v", err)
		}
	}
}

// What is near is not kept, and no more than has its bound.
func TestAtHand_IsBounded(t *testing.T) {
	b, db := mem.New(), newCrashKV()
	s := openStore(t, b, db)
	var ids []chunk.ID
	for i := range MaxAtHand + 9 {
		ids = append(ids, put(t, s, text(i, 100)).ID)
	}
	large := put(t, s, randomBytes(testRand(t), kv.MaxValue+1)).ID
	flush(t, s)
	count := func() (n int) {
		for _, err := range db.Scan(t.Context(), []byte(atHandPrefix), []byte("at-hand0")) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	if err := s.KeepAtHand(t.Context(), never, ids...); err != nil || count() != MaxAtHand {
		t.Errorf("of %d: %v, %d are kept", len(ids), err, count())
	}
	if err := s.KeepAtHand(t.Context(), never, large); err != nil || count() != 0 {
		t.Errorf("of a large one: %v, %d are kept", err, count())
	}
	if err := s.KeepAtHand(t.Context(), func(pack.Name) bool { return true }, ids...); err != nil || count() != 0 {
		t.Errorf("of those that are near: %v, %d are kept", err, count())
	}
}

// What is damaged in the database is read from the bucket.
func TestAtHand_IsNotBelieved(t *testing.T) {
	b, db := mem.New(), newCrashKV()
	s := openStore(t, b, db)
	plain := randomBytes(testRand(t), 2*seal.SegmentSize)
	ref := put(t, s, plain)
	flush(t, s)
	if err := s.KeepAtHand(t.Context(), never, ref.ID); err != nil {
		t.Fatal(err)
	}
	for _, damage := range []func([]byte) []byte{
		func(p []byte) []byte { p[len(p)-1] ^= 1; return p },
		func(p []byte) []byte { return p[:len(p)/2] },
		func([]byte) []byte { return nil },
	} {
		err := db.Update(t.Context(), func(tx kv.Tx) error {
			p, err := tx.Get(atHandKey(ref.ID))
			if err != nil {
				return err
			}
			return tx.Put(atHandKey(ref.ID), damage(p))
		})
		if err != nil {
			t.Fatal(err)
		}
		wantChunk(t, openStore(t, b, db), ref, plain)
	}
}
