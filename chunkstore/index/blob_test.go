package index

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// Another device was shown a pack that this one has removed, under the name of a pack that is there, and wrote that into the
// index blobs. Who believed them would take what was removed for stored.
func TestBlobs_RemovedPackUnderAnotherNameIsNotLearned(t *testing.T) {
	bucket := mem.New()
	mine := openIndex(t, memkv.New())
	must(t, mine.Add(t.Context(), name(7), pack.Size, nil, mark(name(7))))
	if buried, err := mine.Bury(t.Context(), time.Now(), name(7)); err != nil || len(buried) != 1 {
		t.Fatalf("bury: got %v, %v", buried, err)
	}
	other := openIndex(t, memkv.New())
	present := map[pack.Name]int64{name(0): pack.Size, name(1): pack.Size, name(2): pack.Size}
	must(t, other.Learn(t.Context(), name(0), pack.Size, []pack.Entry{entry(0, 8)}, mark(name(0))))
	must(t, other.Learn(t.Context(), name(1), pack.Size, []pack.Entry{entry(1, 8)}, mark(name(7))))
	// Shown twice, with two directories: nobody knows which was it.
	must(t, other.Learn(t.Context(), name(2), pack.Size, []pack.Entry{entry(2, 8)}, mark(name(7))))
	must(t, other.Learn(t.Context(), name(2), pack.Size, []pack.Entry{entry(2, 8)}, mark(name(2))))
	must(t, other.WriteBlobs(t.Context(), bucket, &testKey, rand.Reader))
	must(t, mine.Load(t.Context(), bucket, &testKey, present))
	for i := range 3 {
		_, ok, err := mine.Lookup(t.Context(), entry(uint32(i), 0).ID)
		must(t, err)
		if _, known := mine.Pack(name(i)); ok != known || ok != (i == 0) {
			t.Errorf("pack %d: got known %v, its chunk %v", i, known, ok)
		}
	}
}
