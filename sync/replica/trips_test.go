package replica_test

import (
	"context"
	"io"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// remote is a place at which each call takes a while.
type remote struct {
	*mem.Bucket
	trip time.Duration
}

func (r remote) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		time.Sleep(r.trip)
		r.Bucket.List(ctx, prefix)(yield)
	}
}

func (r remote) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	time.Sleep(r.trip)
	return r.Bucket.Get(ctx, name, off, n)
}

func (r remote) Put(ctx context.Context, name blob.Name, body io.Reader, size int64) error {
	time.Sleep(r.trip)
	return r.Bucket.Put(ctx, name, body, size)
}

// TestTrips_AFarPlaceIsAskedForAllAtOnce: a turn in which nothing is new waits for the place four times, and one that brings a head eight times.
func TestTrips_AFarPlaceIsAskedForAllAtOnce(t *testing.T) {
	own, far, mirror := mem.New(), mem.New(), mem.New()
	const folder = "heads/00112233445566778899aabbccddeeff/"
	turn := func() (trips int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			const trip = time.Second
			began := time.Now()
			to := remote{far, trip}
			if _, err := replica.Copy(t.Context(), own, to, replica.Options{}); err != nil {
				t.Fatal(err)
			}
			if _, err := replica.Fetch(t.Context(), to, mirror, replica.FetchOptions{Own: own}); err != nil {
				t.Fatal(err)
			}
			trips = int(time.Since(began) / trip)
		})
		return trips
	}
	for _, name := range []blob.Name{"keys/a", "drive/00000001", "members/0000", folder + "0000000000000001"} {
		put(t, own, name, []byte("body of "+name))
	}
	turn()
	turn() // what is the same at both is known only when it was compared once
	if got := turn(); got > 4 {
		t.Errorf("nothing is new: the place was waited for %d times, want 4 at most", got)
	}
	put(t, own, folder+"0000000000000002", []byte("the next head"))
	if got := turn(); got > 8 {
		t.Errorf("a head: the place was waited for %d times, want 8 at most", got)
	}
}
