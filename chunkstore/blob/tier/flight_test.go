package tier_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
)

// away is a Bucket that cannot be reached at first: the first Get waits, and fails when it is let go.
type away struct {
	blob.Bucket
	n     atomic.Int32
	asked chan struct{}
	fail  chan struct{}
}

func (a *away) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if a.n.Add(1) == 1 {
		close(a.asked)
		<-a.fail
		return nil, blob.ErrTemporary
	}
	return a.Bucket.Get(ctx, name, off, n)
}

// Somebody asks when no remote can be reached, and goes on waiting. Who asks when they can be is not told what the other one is.
func TestGet_WhatFailedForAnotherOneIsNoAnswer(t *testing.T) {
	names, bodies := some(t, 1<<20)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		far := &away{Bucket: bucketOf(t, bodies), asked: make(chan struct{}), fail: make(chan struct{})}
		x := open(t, tier.Options{Dir: dir})
		x.SetRemotes(tier.Remote{Name: "far", Bucket: far})
		learn(t, x, "far", far.Bucket)
		var ends [2]chan error
		for i := range ends {
			ends[i] = make(chan error, 1)
			go func() {
				b, err := blob.ReadAll(t.Context(), x, names[0], 1<<20)
				if err == nil && string(b) != string(bodies[names[0]]) {
					t.Error("other bytes came")
				}
				ends[i] <- err
			}()
			<-far.asked
			synctest.Wait() // the second one waits for what the first one has asked for
		}
		close(far.fail)
		if err := <-ends[0]; err == nil {
			t.Error("what cannot be reached was read")
		}
		if err := <-ends[1]; err != nil {
			t.Errorf("the second one failed, and the remote was there: %v", err)
		}
	})
}
