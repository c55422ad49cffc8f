package index

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// shardsKept is how many shards a Loading keeps for the next look, the larger of which have some MiB.
const shardsKept = 4

// keptShards are the shards that were looked into last, the newest first.
type keptShards struct {
	mu     sync.Mutex
	shards []keptShard
}

type keptShard struct {
	no      int
	entries []shardEntry
}

func (k *keptShards) get(no int) ([]shardEntry, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.shards, func(s keptShard) bool { return s.no == no })
	if i < 0 {
		return nil, false
	}
	s := k.shards[i]
	k.shards = slices.Insert(slices.Delete(k.shards, i, i+1), 0, s)
	return s.entries, true
}

func (k *keptShards) add(no int, entries []shardEntry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shards = slices.Insert(k.shards, 0, keptShard{no, entries})
	k.shards = k.shards[:min(len(k.shards), shardsKept)]
}

// find looks for a chunk in its shard. As with all that is hearsay, what it returns is good enough to look there.
func (l *Loading) find(ctx context.Context, id chunk.ID) (Location, bool, error) {
	no := shardOf(id, l.root.bits)
	entries, ok := l.kept.get(no)
	if !ok {
		var err error
		if entries, err = readShard(ctx, l.bucket, &l.key, l.root, no); err != nil {
			return Location{}, false, err
		}
		l.kept.add(no, entries)
	}
	i, ok := slices.BinarySearchFunc(entries, id, func(e shardEntry, id chunk.ID) int { return bytes.Compare(e.entry.ID[:], id[:]) })
	if !ok || l.learned[entries[i].pack] == nil {
		return Location{}, false, nil
	}
	e := entries[i]
	return entryLocation(l.root.packs[e.pack].Name, e.entry), true, nil
}
