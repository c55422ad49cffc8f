package peering

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// answers are those of a peer, as a push has them.
var answers = map[peer.Answer]replica.Answer{peer.Wanted: replica.Wanted, peer.Held: replica.Held, peer.Later: replica.Later}

// offering asks a device which packs it wants.
func offering(b *peer.Bucket) func(context.Context, []blob.Name, int, replica.Rank) ([]replica.Answer, error) {
	return func(ctx context.Context, packs []blob.Name, room int, rank replica.Rank) ([]replica.Answer, error) {
		said, err := b.Offer(ctx, packs, room, peer.Rank(rank))
		if err != nil {
			return nil, err
		}
		all := make([]replica.Answer, len(said))
		for i, a := range said {
			all[i] = answers[a]
		}
		return all, nil
	}
}

// awaitMost is how long a read of a pack waits for it to come to the shelf as a whole. Then it asks for what it needs by itself: where the network is slow, a person waits
// for a piece, and not for a pack.
const awaitMost = 1500 * time.Millisecond

// arriving is a device from which packs are read: but what comes to the shelf by itself is read there, so that it comes once.
type arriving struct {
	*peer.Bucket
	p *Peering
}

// Get implements [blob.Bucket].
func (a arriving) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if a.p.node.Await(ctx, name, awaitMost) {
		r, err := a.p.o.Shelf.Get(ctx, name, off, n)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
	}
	return a.Bucket.Get(ctx, name, off, n)
}
