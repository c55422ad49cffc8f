package replica_test

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// wants is a far side that takes each pack from one of those who bring it.
type wants struct {
	blob.Bucket
	mu    sync.Mutex
	moved *sync.Cond
	from  map[blob.Name]int
	puts  map[blob.Name]int
	by    [2]int
}

func (w *wants) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	err := w.Bucket.Put(ctx, name, r, size)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.puts[name]++
	w.moved.Broadcast()
	return err
}

// offer answers who is 0 or 1.
func (w *wants) offer(who int, packs []blob.Name, room int) []replica.Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		all, some := make([]replica.Answer, len(packs)), false
		for i, name := range packs {
			from, known := w.from[name]
			switch {
			case w.puts[name] > 0:
				all[i], some = replica.Held, true
			case known && from != who, room == 0:
				all[i] = replica.Later
			default:
				all[i], some = replica.Wanted, true
				w.from[name] = who
				w.by[who]++
				room--
			}
		}
		if some {
			return all
		}
		w.moved.Wait()
	}
}

// Two that bring the same at the same time bring each pack once, and both end with all of it there.
func TestCopy_TwoThatOfferTheSameBringEachPackOnce(t *testing.T) {
	rnd := testkit.Rand(testkit.Seed(t))
	near, packs := mem.New(), 60
	for range packs {
		body := testkit.Random(rnd, 100_000)
		if err := near.Put(t.Context(), catalog.PackName(blake3.Sum256(body)), bytes.NewReader(body), int64(len(body))); err != nil {
			t.Fatal(err)
		}
	}
	far := &wants{Bucket: mem.New(), from: map[blob.Name]int{}, puts: map[blob.Name]int{}}
	far.moved = sync.NewCond(&far.mu)
	var all sync.WaitGroup
	for who := range 2 {
		all.Go(func() {
			r, err := replica.Copy(t.Context(), near, far, replica.Options{Offer: func(_ context.Context, packs []blob.Name, room int, _ replica.Rank) ([]replica.Answer, error) {
				if len(packs) > 64 || room < 1 {
					t.Errorf("%d packs are offered, of which %d may be wanted", len(packs), room)
				}
				return far.offer(who, packs, room), nil
			}})
			if err != nil || r.At.Len() != packs {
				t.Errorf("copy: %v, and %d of %d packs are there", err, r.At.Len(), packs)
			}
		})
	}
	all.Wait()
	same(t, "two brought it", near, far.Bucket, true)
	for name, n := range far.puts {
		if n != 1 {
			t.Errorf("%s was brought %d times", name, n)
		}
	}
	if far.by[0] == 0 || far.by[1] == 0 {
		t.Errorf("one of them brought all: %v", far.by)
	}
}

// What others could bring as well is offered after all else.
func TestCopy_OffersTheLowestRankFirst(t *testing.T) {
	rnd := testkit.Rand(testkit.Seed(t))
	near, far := mem.New(), mem.New()
	spare := map[blob.Name]bool{}
	for i := range 60 {
		body := testkit.Random(rnd, 100_000)
		name := catalog.PackName(blake3.Sum256(body))
		spare[name] = i%2 == 0
		if err := near.Put(t.Context(), name, bytes.NewReader(body), int64(len(body))); err != nil {
			t.Fatal(err)
		}
	}
	var ranks []replica.Rank
	_, err := replica.Copy(t.Context(), near, far, replica.Options{
		Rank: func(name blob.Name) replica.Rank {
			if spare[name] {
				return replica.Spare
			}
			return replica.Mine
		},
		Offer: func(_ context.Context, packs []blob.Name, room int, rank replica.Rank) ([]replica.Answer, error) {
			all := make([]replica.Answer, len(packs))
			for i, name := range packs {
				if spare[name] != (rank == replica.Spare) {
					t.Errorf("%s is offered with rank %d", name, rank)
				}
				if i >= room {
					all[i] = replica.Later
				} else {
					ranks = append(ranks, rank)
				}
			}
			return all, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, rank := range ranks {
		if want := replica.Rank(min(i/30, 1)); rank != want { //nolint:gosec // 0 or 1
			t.Fatalf("offer %d had rank %d, want %d", i, rank, want)
		}
	}
	same(t, "in order of rank", near, far, true)
}
