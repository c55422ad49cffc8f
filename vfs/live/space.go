package live

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// What is left free of the disks of the journal and of the Bucket: a sixteenth, within these bounds. It is for what makes
// a full drive usable again: to commit what was acknowledged, to remove files, to drop snapshots, and to
// write packs anew before the old ones can go. The local database alone changes nothing with less than 64 MiB.
const (
	keepShare = 16
	keepLeast = 128 << 20
	keepMost  = 256 << 20
)

// How long a look at the disks is believed, and for how many bytes.
const (
	spaceFor   = 500 * time.Millisecond
	spaceBytes = 64 << 20
)

// nameCost is about what a new name takes of a disk.
const nameCost = 4 << 10

// A space counts what may still be written before the disks are looked at again.
type space struct {
	left  atomic.Int64
	until atomic.Int64 // by uptime
	mu    sync.Mutex   // of who looks
}

// admit returns nil if there is room for n bytes more, and to commit them later. When there is not, because
// much is waiting for a commit, it waits for that: it gives back what the journal takes. Otherwise it
// returns vfs.ErrNoSpace. Nothing is reserved: of many who write at once each may go a little too far. What takes room
// away from the disk makes no use of it: it is never refused.
func (f *FS) admit(ctx context.Context, n int64) error {
	if f.o.Usage == nil && f.o.LocalUsage == nil {
		return nil
	}
	if uptime() < f.space.until.Load() && f.space.left.Add(-n) >= 0 {
		return nil
	}
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	spare := f.spare(ctx)
	// Twice, for the one that is under way may have begun before the last write.
	for try := 0; try < 2 && spare < n && f.dirtyBytes.Load() > 0; try++ {
		if err := f.awaitCommit(ctx); err != nil {
			return fmt.Errorf("%w: what was written before is not committed: %w", vfs.ErrNoSpace, err)
		}
		f.jr.Reclaim()
		spare = f.spare(ctx)
	}
	if spare < n {
		f.space.until.Store(0)
		return fmt.Errorf("%w: the rest of the disk is kept for removing files and for what waits to be committed", vfs.ErrNoSpace)
	}
	f.space.left.Store(min(spare/2, spaceBytes) - n)
	f.space.until.Store(uptime() + int64(spaceFor))
	return nil
}

// spare returns how many bytes can still be written. Where no disk tells, it is unknownRoom: what is not plugged in
// stops nobody from writing to the journal.
func (f *FS) spare(ctx context.Context) int64 {
	spare := int64(unknownRoom)
	// The Bucket gets all that waits, and what packs and their index add to it.
	dirty := f.dirtyBytes.Load()
	for _, disk := range []struct {
		usage func(context.Context) (vfs.Usage, error)
		due   int64
	}{{f.o.Usage, dirty + dirty/8}, {f.o.LocalUsage, 0}} {
		if disk.usage == nil {
			continue
		}
		u, err := disk.usage(ctx)
		if err != nil {
			continue
		}
		spare = min(spare, int64(min(u.BytesFree, unknownRoom))-int64(min(max(u.Bytes/keepShare, keepLeast), keepMost))-disk.due)
	}
	return max(spare, 0)
}

// awaitCommit asks for a commit and returns its error; that of the last one, if that failed: it is tried again
// in due time.
func (f *FS) awaitCommit(ctx context.Context) error {
	f.roomMu.Lock()
	room, last := f.room, f.lastErr
	f.roomMu.Unlock()
	if last != nil {
		return last
	}
	f.Nudge()
	select {
	case <-room:
	case <-ctx.Done():
		return ctx.Err()
	case <-f.done:
		return nil // it is being closed: usable tells
	}
	f.roomMu.Lock()
	defer f.roomMu.Unlock()
	return f.lastErr
}
