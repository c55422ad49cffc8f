package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// Doom notes that another device, which has put the packs, is about to remove them. From now on nobody takes bytes for stored
// because they are in one of them, whether it is known yet or not, and other packs that have its chunks take them over. What
// is located there can be read as before. It is durable when Doom returns.
func (x *Index) Doom(ctx context.Context, now time.Time, names ...pack.Name) error {
	err := x.change(ctx, func(b *batch) error {
		for _, name := range names {
			if _, err := b.tx.Get(doomKey(name)); err == nil {
				continue // it keeps its first time
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := b.tx.Put(doomKey(name), binary.BigEndian.AppendUint64(nil, uint64(now.Unix()))); err != nil {
				return err
			}
			if num, ok := x.byName[name]; ok {
				b.pack(num).Doomed = true
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("doom packs: %w", err)
	}
	return x.Sync(ctx)
}

func decodeDoom(b []byte) (at time.Time, err error) {
	if len(b) != 8 {
		return at, errRecord
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b)), 0), nil
}

// doomed reports whether the pack of that name is doomed.
func (b *batch) doomed(name pack.Name) (bool, error) {
	_, err := b.tx.Get(doomKey(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
