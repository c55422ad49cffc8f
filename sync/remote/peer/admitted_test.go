package peer

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// Of many calls at once each hears that the device is not admitted, also those that came upon a session which another one had begun, and that ended before there was an answer.
func TestBucket_AllCallsHearThatItIsNotAdmitted(t *testing.T) {
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			var open, shut roll
			far := newNode(t, &open, func(o *Options) { change(o); o.Bucket, o.Admit = mem.New(), shut.admit })
			addr := listen(t, far)
			for range 20 {
				near := newNode(t, &open, change)
				b := near.Bucket(far.Key(), at(addr))
				var all sync.WaitGroup
				for range 8 {
					all.Go(func() {
						for _, err := range b.List(context.WithoutCancel(t.Context()), "") {
							if !errors.Is(err, blob.ErrUnauthorized) {
								t.Errorf("a call hears %v", err)
							}
							return
						}
						t.Error("a call is answered")
					})
				}
				all.Wait()
			}
		})
	}
}
