package index

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// many returns n entries whose IDs and CIDs begin with from, from+1 and so on.
func many(from, n int) []pack.Entry {
	all := make([]pack.Entry, n)
	for i := range all {
		e := entry(0, 8)
		e.ID, e.CID = chunk.ID{}, [32]byte{}
		binary.BigEndian.PutUint64(e.ID[:], uint64(from+i)<<20|1)
		binary.BigEndian.PutUint64(e.CID[:], uint64(from+i)<<20|2)
		all[i] = e
	}
	return all
}

// A drive whose files change for months has had many more chunks than it has: the filter is to take the memory of those that
// are there, or it grows for ever.
func TestFilter_ForgetsWhatWasRemoved(t *testing.T) {
	const chunks, rounds = 2000, 12
	x := openIndex(t, memkv.New())
	must(t, x.FillFilter(t.Context()))
	most := 0
	for i := range rounds {
		n := name(i + 1)
		es := many(i*chunks, chunks)
		must(t, x.Add(t.Context(), n, pack.Size, es, mark(n)))
		if i > 0 {
			var dead []Dead
			for _, e := range many((i-1)*chunks, chunks) {
				dead = append(dead, Dead{ID: e.ID, Pack: name(i)})
			}
			must(t, x.Remove(t.Context(), dead))
		}
		if x.FilterStale() {
			must(t, x.FillFilter(t.Context()))
			if x.FilterStale() {
				t.Fatal("a filter that was filled just now is stale")
			}
		}
		most = max(most, x.filter.set.Len())
		for _, e := range es {
			if _, _, ok, err := x.ByCID(t.Context(), e.CID); err != nil || !ok {
				t.Fatalf("round %d: a chunk that is there: got %v, %v", i, ok, err)
			}
		}
	}
	if limit := 3*chunks + filterFloor; most > limit {
		t.Errorf("%d chunks at a time: the filter had up to %d, want at most %d", 2*chunks, most, limit)
	}
}

// lateDB holds the next Update back between its function and its commit.
type lateDB struct {
	kv.DB
	ready, commit chan struct{}
}

func (d *lateDB) Update(ctx context.Context, fn func(kv.Tx) error) error {
	if d.ready == nil {
		return d.DB.Update(ctx, fn)
	}
	ready := d.ready
	d.ready = nil
	// What fn reads and writes is kept, so that no lock of the DB is held while it waits.
	kept := &keptTx{db: d.DB, ctx: ctx, puts: map[string][]byte{}}
	if err := fn(kept); err != nil {
		return err
	}
	close(ready)
	<-d.commit
	return d.DB.Update(ctx, func(tx kv.Tx) error {
		for k, v := range kept.puts {
			if err := tx.Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
}

type keptTx struct {
	kv.Tx
	db   kv.DB
	ctx  context.Context //nolint:containedctx // of the Update that it is for
	puts map[string][]byte
}

func (k *keptTx) Get(key []byte) ([]byte, error) {
	if v, ok := k.puts[string(key)]; ok {
		return v, nil
	}
	return k.db.Get(k.ctx, key)
}

func (k *keptTx) Put(key, value []byte) error {
	k.puts[string(key)] = append([]byte(nil), value...)
	return nil
}

// What an Update has told the filter, and has not committed, must be in a filter that is filled meanwhile: else its
// chunks are stored twice.
func TestFilter_IsFilledBesideAnUpdate(t *testing.T) {
	db := &lateDB{DB: memkv.New()}
	x := openIndex(t, db)
	must(t, x.FillFilter(t.Context()))
	db.ready, db.commit = make(chan struct{}), make(chan struct{})
	ready := db.ready
	es := many(0, 10)
	added, filled := make(chan error, 1), make(chan error, 1)
	go func() { added <- x.Add(t.Context(), name(1), pack.Size, es, mark(name(1))) }()
	<-ready
	go func() { filled <- x.FillFilter(t.Context()) }()
	select {
	case err := <-filled: // it scanned what is there without the Update
		filled <- err
	case <-time.After(50 * time.Millisecond): // it waits for the Update, as it should
	}
	close(db.commit)
	must(t, <-added)
	must(t, <-filled)
	for _, e := range es {
		if _, _, ok, err := x.ByCID(t.Context(), e.CID); err != nil || !ok {
			t.Errorf("a chunk of that update: got %v, %v", ok, err)
		}
	}
}
